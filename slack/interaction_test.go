package slack_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"countersign/slack"
)

const clickJSON = `{"type":"block_actions","user":{"id":"U02BO","username":"bo","name":"bo","team_id":"T0ACME"},"api_app_id":"A0CS","token":"deprecated",
"container":{"type":"message","message_ts":"1795447197.000001","thread_ts":"1795447100.000001","channel_id":"C01BILLING","is_ephemeral":false},
"trigger_id":"13345224609.738474920.8088930838d88f008e0","team":{"id":"T0ACME","domain":"acme"},"enterprise":null,"is_enterprise_install":false,
"channel":{"id":"C01BILLING","name":"billing-approvals"},"message":{"type":"message","text":"x","blocks":[{"type":"from_the_future","block_id":7}]},
"state":{"values":{}},"response_url":"https://hooks.slack.com/actions/T0ACME/1/abc",
"actions":[{"action_id":"cs.approve","block_id":"act","text":{"type":"plain_text","text":"Approve"},"value":"` + handle + `","type":"button","action_ts":"1795447200.1"}]}`

const submissionJSON = `{"type":"view_submission","team":{"id":"T0ACME"},"user":{"id":"U02BO","team_id":"T0ACME"},"api_app_id":"A0CS","trigger_id":"1.2.3",
"view":{"id":"V01","type":"modal","callback_id":"cs.deny","hash":"156.abc","private_metadata":"{\"h\":\"` + handle + `\"}",
"state":{"values":{"reason":{"v":{"type":"plain_text_input","value":"Not before <the> audit"}},"opts":{"v":{"type":"checkboxes","selected_options":[]},"n":{"value":null}}}}},
"response_urls":[]}`

const pageJSON = `{"type":"block_actions","user":{"id":"U02BO","team_id":"T0ACME"},"api_app_id":"A0CS","team":{"id":"T0ACME"},"is_enterprise_install":true,
"enterprise":{"id":"E0ORG"},"container":{"type":"view","view_id":"V01"},"trigger_id":"1.2.3",
"view":{"id":"V01","type":"modal","callback_id":"cs.view","hash":"156.abc","private_metadata":"{\"h\":\"` + reviewHandle + `\"}","state":{"values":{}}},
"actions":[{"action_id":"cs.next","block_id":"act","value":"` + reviewHandle + `","type":"button"}]}`

const homeJSON = `{"type":"block_actions","user":{"id":"U02BO","team_id":"T0ACME"},"api_app_id":"A0CS","team":{"id":"T0ACME"},
"container":{"type":"view","view_id":"V02"},"trigger_id":"1.2.3","view":{"id":"V02","type":"home","callback_id":"cs.home","hash":"156.abc","private_metadata":""},
"actions":[{"action_id":"cs.view","block_id":"w:0","value":"` + handle + `","type":"button"}]}`

func formOf(payload string) []byte { return []byte(url.Values{"payload": {payload}}.Encode()) }

func parse(t *testing.T, payload string) slack.Interaction {
	t.Helper()
	got, err := slack.ParseInteraction(formOf(payload))
	require.NoError(t, err)
	return got
}

func TestParseInteractionReadsAClick(t *testing.T) {
	t.Parallel()
	want := slack.Interaction{
		Type: slack.BlockActions, TeamID: "T0ACME", AppID: "A0CS", User: slack.User{ID: "U02BO", TeamID: "T0ACME"},
		Surface: slack.SurfaceMessage, Channel: "C01BILLING", MessageTS: "1795447197.000001", ThreadTS: "1795447100.000001",
		ActionID: slack.ActionApprove, Handle: handle, TriggerID: "13345224609.738474920.8088930838d88f008e0",
		ResponseURL: "https://hooks.slack.com/actions/T0ACME/1/abc",
	}
	require.Empty(t, cmp.Diff(want, parse(t, clickJSON)))
}

func TestParseInteractionReadsADenyModal(t *testing.T) {
	t.Parallel()
	got := parse(t, submissionJSON)
	require.Equal(t, "Not before <the> audit", got.Typed())
	require.Equal(t, handle, got.Handle)
	require.Equal(t, slack.CallbackDeny, got.View.CallbackID)
	require.Equal(t, "V01", got.View.ID)
	require.Empty(t, got.View.State["opts"])
	closed := parse(t, strings.Replace(submissionJSON, "view_submission", "view_closed", 1))
	require.Equal(t, slack.ViewClosed, closed.Type)
}

func TestParseInteractionReadsAButtonOfAModal(t *testing.T) {
	t.Parallel()
	want := slack.Interaction{
		Type: slack.BlockActions, TeamID: "T0ACME", EnterpriseID: "E0ORG", EnterpriseInstall: true, AppID: "A0CS", User: slack.User{ID: "U02BO", TeamID: "T0ACME"},
		Surface: slack.SurfaceModal, ActionID: slack.ActionNext, Handle: reviewHandle, TriggerID: "1.2.3",
		View: slack.ModalState{ID: "V01", CallbackID: slack.CallbackView, Hash: "156.abc", State: map[string]map[string]string{}},
	}
	require.Empty(t, cmp.Diff(want, parse(t, pageJSON)))
	bare, err := slack.ParseInteractionJSON([]byte(pageJSON))
	require.NoError(t, err)
	require.Equal(t, want, bare)
}

func TestParseInteractionReadsAButtonOfAHomeTab(t *testing.T) {
	t.Parallel()
	got := parse(t, homeJSON)
	require.Equal(t, []string{string(slack.SurfaceHome), slack.ActionView, handle, "V02", "", ""},
		[]string{string(got.Surface), got.ActionID, got.Handle, got.View.ID, got.Channel, got.MessageTS})
}

func TestParseInteractionRefusesViewsThatContradictThemselves(t *testing.T) {
	t.Parallel()
	otherReview := "v_ffffffffffffffffffffffffffffffff"
	for name, edit := range map[string][2]string{
		"two handles":         {`"value":"` + reviewHandle, `"value":"` + otherReview},
		"a card's handle":     {`"value":"` + reviewHandle, `"value":"` + handle},
		"no pointer":          {`"private_metadata":"{\"h\":\"` + reviewHandle + `\"}"`, `"private_metadata":""`},
		"two views":           {`"view_id":"V01"`, `"view_id":"V02"`},
		"no view":             {`"view":{`, `"vista":{`},
		"an unknown kind":     {`"type":"modal"`, `"type":"workflow_step"`},
		"a review, shortened": {`"value":"` + reviewHandle, `"value":"` + reviewHandle[:33]},
	} {
		require.Contains(t, pageJSON, edit[0], name)
		_, err := slack.ParseInteraction(formOf(strings.Replace(pageJSON, edit[0], edit[1], 1)))
		require.ErrorIs(t, err, slack.ErrMalformed, name)
	}
}

func TestASubmissionOfAReviewCarriesItsHandle(t *testing.T) {
	t.Parallel()
	got := parse(t, strings.NewReplacer(handle, reviewHandle, "cs.deny", slack.CallbackApprove, `"reason"`, `"comment"`).Replace(submissionJSON))
	require.Equal(t, []string{reviewHandle, "Not before <the> audit"}, []string{got.Handle, got.Typed()})
	require.True(t, slack.ValidReview(got.Handle))
	require.False(t, slack.ValidHandle(got.Handle))
	require.Equal(t, slack.SurfaceModal, got.Surface)
}

func TestParseInteractionReadsAGridOrganisation(t *testing.T) {
	t.Parallel()
	payload := strings.NewReplacer(`"team":{"id":"T0ACME","domain":"acme"}`, `"team":null`, `"enterprise":null`, `"enterprise":{"id":"E0ORG","name":"Org"}`).Replace(clickJSON)
	got := parse(t, payload)
	require.Equal(t, "E0ORG", got.EnterpriseID)
	require.Empty(t, got.TeamID)
}

func TestParseInteractionRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	swap := func(from, to string) []byte {
		require.Contains(t, clickJSON, from)
		return formOf(strings.Replace(clickJSON, from, to, 1))
	}
	modal := func(metadata string) []byte {
		quoted, err := json.Marshal(metadata)
		require.NoError(t, err)
		return formOf(strings.Replace(submissionJSON, `"{\"h\":\"`+handle+`\"}"`, string(quoted), 1))
	}
	for name, raw := range map[string][]byte{
		"nothing":                  nil,
		"no payload":               []byte("x=1"),
		"payload twice":            append(append(formOf(clickJSON), '&'), formOf(clickJSON)...),
		"an empty second payload":  append(formOf(clickJSON), "&payload="...),
		"payload behind semicolon": append([]byte("a=1;"), formOf(clickJSON)...),
		"bad escape":               []byte("payload=%zz"),
		"JSON as the body":         []byte(clickJSON),
		"too long":                 append(formOf(clickJSON), make([]byte, slack.MaxInteraction)...),
		"data after the JSON":      formOf(clickJSON + "{}"),
		"not an object":            formOf(`"block_actions"`),
		"null":                     formOf("null"),
		"invalid UTF-8":            swap(`"username":"bo"`, "\"username\":\"\xff\""),
		"a key twice":              swap(`"type":"block_actions",`, `"type":"view_closed","type":"block_actions",`),
		"a key twice in two cases": swap(`"user":{"id":"U02BO"`, `"user":{"ID":"U02EVE","id":"U02BO"`),
		"a key twice for Unicode":  swap(`"actions":[`, `"action\u017f":[],"actions":[`),
		"unknown type":             swap("block_actions", "shortcut"),
		"no user":                  swap(`"user":{"id":"U02BO"`, `"user":{"id":""`),
		"a user that is no id":     swap(`"user":{"id":"U02BO"`, `"user":{"id":"U02BO> <!channel"`),
		"a user that is a number":  swap(`"user":{"id":"U02BO"`, `"user":{"id":12`),
		"no app":                   swap(`"api_app_id":"A0CS"`, `"api_app_id":""`),
		"no team":                  swap(`"team":{"id":"T0ACME","domain":"acme"}`, `"team":null`),
		"two channels":             swap(`"channel_id":"C01BILLING"`, `"channel_id":"C0OTHER"`),
		"no action":                swap(`"actions":[{`, `"actions":[],"x":[{`),
		"two actions":              swap(`"actions":[{`, `"actions":[{"action_id":"cs.deny","value":"`+handle+`"},{`),
		"no handle":                swap(handle, ""),
		"a handle too long":        swap(handle, handle+"0"),
		"a handle in upper case":   swap(handle, strings.ToUpper(handle)),
		"a handle and a newline":   swap(handle, handle+`\n`),
		"a ticket for a handle":    swap(handle, ticketID),
		"no view":                  formOf(strings.Replace(submissionJSON, `"view":{`, `"vista":{`, 1)),
		"no pointer":               modal(""),
		"a bare handle":            modal(handle),
		"pointer and more":         modal(`{"h":"` + handle + `","user":"U02EVE"}`),
		"pointer twice":            modal(`{"h":"` + handle + `","h":"` + handle + `"}`),
		"pointer and data":         modal(`{"h":"` + handle + `"}]`),
		"pointer to a ticket":      modal(`{"h":"` + ticketID + `"}`),
		"deep nesting":             swap(`"values":{}`, `"values":{},"deep":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := slack.ParseInteraction(raw)
			require.ErrorIs(t, err, slack.ErrMalformed)
			require.Zero(t, got)
		})
	}
}

func TestParseInteractionIgnoresOtherParameters(t *testing.T) {
	t.Parallel()
	got, err := slack.ParseInteraction(append([]byte("Payload=x&token=y&"), formOf(clickJSON)...))
	require.NoError(t, err)
	require.Equal(t, handle, got.Handle)
}

// FuzzForm is about the form round the payload.
func FuzzForm(f *testing.F) {
	f.Add(formOf(clickJSON))
	f.Add(formOf(submissionJSON))
	f.Add([]byte("payload=%7B%7D"))
	f.Add([]byte("payload={\"type\":\"view_closed\"}&payload="))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := slack.ParseInteraction(raw)
		if err != nil {
			require.ErrorIs(t, err, slack.ErrMalformed)
			require.Zero(t, got)
			return
		}
		require.True(t, slack.ValidHandle(got.Handle) || slack.ValidReview(got.Handle))
		require.NotEmpty(t, got.User.ID)
		require.NotEmpty(t, got.AppID)
		require.NotEmpty(t, got.TeamID+got.EnterpriseID)
		again, err := slack.ParseInteraction(raw)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

// FuzzInteraction gets past the form at once.
func FuzzInteraction(f *testing.F) {
	for _, seed := range []string{clickJSON, submissionJSON, pageJSON, homeJSON} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got, err := slack.ParseInteraction(formOf(payload))
		bare, again := slack.ParseInteractionJSON([]byte(payload))
		require.Equal(t, got, bare, "the same by either transport")
		if err == nil {
			require.NoError(t, again)
			require.True(t, slack.ValidHandle(got.Handle) || slack.ValidReview(got.Handle))
			require.Contains(t, []slack.Surface{slack.SurfaceMessage, slack.SurfaceModal, slack.SurfaceHome}, got.Surface)
			return
		}
		require.ErrorIs(t, err, slack.ErrMalformed)
		require.ErrorIs(t, again, slack.ErrMalformed)
	})
}
