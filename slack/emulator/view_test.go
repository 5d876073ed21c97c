package emulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// openModal presses a button of a card and lets the app open a view in answer.
func (b *bundle) openModal(view string) emulator.View {
	b.t.Helper()
	b.app.answers(func(_ http.ResponseWriter, p object) {
		b.call("views.open", "trigger_id", p["trigger_id"].(string), "view", view)
	})
	seen := b.click(b.post("text", "t", "blocks", fixture(b.t, "pending")), "cs.deny")
	require.NotNil(b.t, seen.OpenedView, "the app opened nothing")
	b.app.answers(nil)
	return *seen.OpenedView
}

// trigger returns a fresh trigger_id.
func (b *bundle) trigger() string {
	b.t.Helper()
	b.click(b.post("text", "t", "blocks", fixture(b.t, "pending")), "cs.ask")
	return b.app.last(b.t).payload["trigger_id"].(string)
}

// replyJSON answers every interaction with a JSON body.
func (b *bundle) replyJSON(body string) {
	b.app.answers(func(w http.ResponseWriter, _ object) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, body)
	})
}

func (b *bundle) submit(id string, values map[string]map[string]string) emulator.Seen {
	b.t.Helper()
	seen, err := b.slack.SubmitView(b.t.Context(), bo, id, values)
	require.NoError(b.t, err)
	return seen
}

func reason(text string) map[string]map[string]string {
	return map[string]map[string]string{"reason": {"v": text}}
}

func TestDenyModalIsShownAndSubmittedAsSlackDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "deny_modal"))
	require.Equal(t, "Deny request", v.Title)
	require.Equal(t, "Deny", v.Submit)
	require.Equal(t, "Cancel", v.Close)
	require.Equal(t, "DELETE https://billing.internal/v1/customers/42?hard=true\nReason (sent to the requester and kept in the audit log)", v.Text)
	require.True(t, v.Top)

	seen := b.submit(v.ID, reason("Not on a Friday"))
	require.True(t, seen.Sent)
	require.True(t, seen.Closed, "an empty answer closes the modal")
	require.Empty(t, seen.Warning)
	require.Empty(t, b.slack.OpenViews(bo))

	p := b.app.last(t).payload
	require.Equal(t, "view_submission", p["type"])
	require.Equal(t, bo, at(p, "user", "id"))
	require.Equal(t, []any{}, p["response_urls"])
	require.Equal(t, object{"type": "plain_text_input", "value": "Not on a Friday"}, at(p, "view", "state", "values", "reason", "v"))
	require.Equal(t, "cs.deny", at(p, "view", "callback_id"))
	require.JSONEq(t, `{"h":"h_5f0c9c3e7f6e4b8aa1d2c07b94e61f38"}`, at(p, "view", "private_metadata").(string))
	require.Equal(t, v.ID, at(p, "view", "id"))
	require.Equal(t, v.ID, at(p, "view", "root_view_id"))
	require.Nil(t, at(p, "view", "previous_view_id"))
	require.NotEmpty(t, at(p, "view", "hash"))
	require.NotContains(t, p, "response_url")
}

func TestTriggersAreGoodOnceForThreeSeconds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	modal := fixture(t, "deny_modal")
	b.refused("invalid_trigger_id", "views.open", "trigger_id", "12345.98765.abcd2358fdea", "view", modal)
	used := b.trigger()
	b.ok("views.open", "trigger_id", used, "view", modal)
	b.refused("exchanged_trigger_id", "views.open", "trigger_id", used, "view", modal)
	late := b.trigger()
	b.clock.Advance(3*time.Second + time.Millisecond)
	b.refused("expired_trigger_id", "views.open", "trigger_id", late, "view", modal)
	intime := b.trigger()
	b.clock.Advance(3 * time.Second)
	b.refused("invalid_arguments", "views.open", "trigger_id", intime, "view", `{"type":"modal"}`)
	b.ok("views.open", "trigger_id", intime, "view", modal)
}

func TestClientChecksInputsBeforeItSubmits(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "deny_modal"))
	sent := b.app.count()
	require.Equal(t, "Please complete this required field.", b.submit(v.ID, nil).Errors["reason"])
	require.Equal(t, "Please use at least 5 characters.", b.submit(v.ID, reason("no")).Errors["reason"])
	require.Equal(t, "Please use at most 1000 characters.", b.submit(v.ID, reason(strings.Repeat("é", 1001))).Errors["reason"])
	require.Equal(t, sent, b.app.count(), "nothing was sent")
	require.True(t, b.submit(v.ID, reason("ééééé")).Sent, "characters count, not bytes")
}

func TestOptionalInputsAndBoxesAreReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "ask_modal"))
	b.replyJSON(`{"response_action":"errors","errors":{"question":"Be clearer"}}`)
	b.submit(v.ID, map[string]map[string]string{"question": {"v": "Which customer?"}, "opts": {"v": "pause"}})
	require.Equal(t, "pause", at(b.app.last(t).payload, "view", "state", "values", "opts", "v", "selected_options", 0, "value"))
	b.submit(v.ID, map[string]map[string]string{"opts": {"v": ""}})
	values := at(b.app.last(t).payload, "view", "state", "values")
	require.Equal(t, []any{}, at(values, "opts", "v", "selected_options"))
	require.Equal(t, "Which customer?", at(values, "question", "v", "value"), "what was typed before is still there")
}

func TestErrorsAnswerShowsUnderTheInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "deny_modal"))
	b.replyJSON(`{"response_action":"errors","errors":{"reason":"Too vague"}}`)
	seen := b.submit(v.ID, reason("because"))
	require.Equal(t, map[string]string{"reason": "Too vague"}, seen.Errors)
	require.Empty(t, seen.Warning)
	require.False(t, seen.Closed)
	require.Equal(t, "Too vague", b.slack.OpenViews(bo)[0].Errors["reason"])
	require.Equal(t, "because", b.slack.OpenViews(bo)[0].Parts[1].Elements[0].Value)
}

func TestBadAnswersToASubmissionLookLikeTroubleConnecting(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ kind, body, detail string }{
		"not JSON":          {"application/json", `ok`, "not the JSON"},
		"text type":         {"text/plain", `{"response_action":"clear"}`, "content type"},
		"no action":         {"application/json", `{}`, "response_action"},
		"unknown action":    {"application/json", `{"response_action":"close"}`, "response_action"},
		"no errors":         {"application/json", `{"response_action":"errors","errors":{}}`, "names none"},
		"not an input":      {"application/json", `{"response_action":"errors","errors":{"req":"x"}}`, "no input block"},
		"action_id for key": {"application/json", `{"response_action":"errors","errors":{"v":"x"}}`, "no input block"},
		"empty error":       {"application/json", `{"response_action":"errors","errors":{"reason":""}}`, "empty error"},
		"bad view":          {"application/json", `{"response_action":"update","view":{"type":"modal"}}`, "missing required field: title"},
		"no view":           {"application/json", `{"response_action":"push"}`, "must provide an object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			v := b.openModal(fixture(t, "deny_modal"))
			b.app.answers(func(w http.ResponseWriter, _ object) {
				w.Header().Set("Content-Type", tc.kind)
				_, _ = io.WriteString(w, tc.body)
			})
			seen := b.submit(v.ID, reason("because"))
			require.Equal(t, "We had some trouble connecting. Try again?", seen.Warning)
			require.False(t, seen.Closed)
			require.Contains(t, b.slack.Warnings(bo)[0].Detail, tc.detail)
			require.Equal(t, v.ID, b.slack.Warnings(bo)[0].ViewID)
		})
	}
}

func TestASlowAnswerKeepsTheModalOpenWithAWarning(t *testing.T) {
	t.Parallel()
	b := setup(t, impatient)
	v := b.openModal(fixture(t, "deny_modal"))
	b.app.hang(t)
	seen := b.submit(v.ID, reason("because"))
	require.NotEmpty(t, seen.Warning)
	require.False(t, seen.Closed)
	require.Len(t, b.slack.OpenViews(bo), 1)
}

const note = `{"type":"modal","title":{"type":"plain_text","text":"Note"},"submit":{"type":"plain_text","text":"OK"},"blocks":[{"type":"section","text":{"type":"mrkdwn","text":"It is *decided*."}}]}`

func TestUpdatePushAndClearMoveTheStack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "deny_modal"))
	b.replyJSON(`{"response_action":"update","view":` + note + `}`)
	seen := b.submit(v.ID, reason("because"))
	require.Equal(t, v.ID, seen.OpenedView.ID, "an update keeps the id")
	require.Equal(t, "It is decided.", seen.OpenedView.Text)
	require.NotEqual(t, v.Hash, seen.OpenedView.Hash)

	b.replyJSON(`{"response_action":"push","view":` + note + `}`)
	second := b.submit(v.ID, nil).OpenedView
	third := b.submit(second.ID, nil).OpenedView
	require.Len(t, b.slack.OpenViews(bo), 3)
	_, err := b.slack.SubmitView(t.Context(), bo, second.ID, nil)
	require.ErrorIs(t, err, emulator.ErrNotAllowed, "another modal is in front of it")
	require.NotEmpty(t, b.submit(third.ID, nil).Warning, "a fourth does not fit")

	b.replyJSON(`{"response_action":"clear"}`)
	require.True(t, b.submit(third.ID, nil).Closed)
	require.Empty(t, b.slack.OpenViews(bo))
}

func TestPushNeedsATriggerFromAModalAndRoom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refused("not_found", "views.push", "trigger_id", b.trigger(), "view", note)
	button := strings.Replace(note, `"blocks":[`, `"blocks":[{"type":"actions","elements":[{"type":"button","action_id":"more","text":{"type":"plain_text","text":"More"}}]},`, 1)
	v := b.openModal(button)
	push := func(id string) object {
		var out object
		b.app.answers(func(_ http.ResponseWriter, p object) {
			out = b.call("views.push", "trigger_id", p["trigger_id"].(string), "view", button)
		})
		_, err := b.slack.Do(t.Context(), emulator.Action{User: bo, ViewID: id, ActionID: "more"})
		require.NoError(t, err)
		return out
	}
	second := push(v.ID)
	require.Equal(t, "view", at(b.app.last(t).payload, "container", "type"))
	require.NotContains(t, b.app.last(t).payload, "response_url")
	require.Equal(t, v.ID, at(second, "view", "previous_view_id"))
	third := push(at(second, "view", "id").(string))
	require.Equal(t, v.ID, at(third, "view", "root_view_id"))
	require.Equal(t, "push_limit_reached", push(at(third, "view", "id").(string))["error"])
}

func TestViewsUpdateHonoursTheHash(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(strings.Replace(fixture(t, "deny_modal"), `"type":"modal"`, `"type":"modal","external_id":"ext-1"`, 1))
	b.refused("hash_conflict", "views.update", "view_id", v.ID, "hash", "1.old", "view", note)
	b.ok("views.update", "view_id", v.ID, "hash", v.Hash, "view", strings.Replace(note, `"type":"modal"`, `"type":"modal","external_id":"ext-1"`, 1))
	require.Equal(t, "Note", b.slack.OpenViews(bo)[0].Title)
	b.refused("hash_conflict", "views.update", "external_id", "ext-1", "hash", v.Hash, "view", note)
	b.ok("views.update", "external_id", "ext-1", "view", note)
	b.refused("not_found", "views.update", "view_id", "V404", "view", note)
}

func TestViewsTakeJSONBodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body, err := json.Marshal(object{"trigger_id": b.trigger(), "view": json.RawMessage(fixture(t, "ask_modal"))})
	require.NoError(t, err)
	_, _, answer := b.do("POST", "/api/views.open", "application/json", string(body), "Authorization", "Bearer "+token)
	out := decode(t, answer)
	require.Equal(t, true, out["ok"], answer)
	require.Equal(t, "missing_charset", out["warning"])
	require.Equal(t, "T0EMULATOR", at(out, "view", "team_id"))
}

func TestClosingTellsTheAppOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	v := b.openModal(fixture(t, "deny_modal"))
	sent := b.app.count()
	seen, err := b.slack.CloseView(t.Context(), bo, v.ID)
	require.NoError(t, err)
	require.False(t, seen.Sent)
	require.Equal(t, sent, b.app.count())

	v = b.openModal(strings.Replace(fixture(t, "deny_modal"), `"notify_on_close":false`, `"notify_on_close":true,"clear_on_close":true`, 1))
	seen, err = b.slack.CloseView(t.Context(), bo, v.ID)
	require.NoError(t, err)
	require.True(t, seen.Sent)
	p := b.app.last(t).payload
	require.Equal(t, "view_closed", p["type"])
	require.Equal(t, true, p["is_cleared"])
	require.NotContains(t, p, "trigger_id")
	require.Empty(t, b.slack.OpenViews(bo))
}

func TestOptionalTextMayStayEmptyAndHasLimitsOtherwise(t *testing.T) {
	t.Parallel()
	b := setup(t)
	optional := strings.Replace(fixture(t, "deny_modal"), `"block_id":"reason",`, `"block_id":"reason","optional":true,`, 1)
	v := b.openModal(optional)
	require.True(t, v.Parts[len(v.Parts)-1].Optional, "and is shown as that")
	require.Equal(t, "Please use at least 5 characters.", b.submit(v.ID, reason("no")).Errors["reason"])
	require.Equal(t, "Please use at most 1000 characters.", b.submit(v.ID, reason(strings.Repeat("x", 1001))).Errors["reason"])
	b.app.answers(nil)
	require.True(t, b.submit(v.ID, reason("")).Closed)
	require.Nil(t, at(b.app.last(t).payload, "view", "state", "values", "reason", "v", "value"))
}
