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

// typed is a slash command as Slack sends it.
func typed() url.Values {
	return url.Values{
		"token": {"deprecated"}, "team_id": {"T0ACME"}, "team_domain": {"acme"}, "channel_id": {"D01BO"}, "channel_name": {"directmessage"},
		"user_id": {"U02BO"}, "user_name": {"bo"}, "command": {"/approvals"}, "text": {"show " + ticketID}, "api_app_id": {"A0CS"},
		"is_enterprise_install": {"false"}, "response_url": {"https://hooks.slack.com/commands/T0ACME/1/abc"}, "trigger_id": {"1.2.3"},
	}
}

var wantCommand = slack.Command{
	Name: "/approvals", Text: "show " + ticketID, User: slack.User{ID: "U02BO"}, TeamID: "T0ACME", AppID: "A0CS", Channel: "D01BO",
	TriggerID: "1.2.3", ResponseURL: "https://hooks.slack.com/commands/T0ACME/1/abc",
}

func TestParseCommandReadsWhoTypedWhatWhere(t *testing.T) {
	t.Parallel()
	got, err := slack.ParseCommand([]byte(typed().Encode()))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(wantCommand, got))
	grid := typed()
	grid.Set("enterprise_id", "E0ORG")
	grid.Set("is_enterprise_install", "true")
	grid.Del("team_id")
	grid.Del("text")
	got, err = slack.ParseCommand([]byte(grid.Encode()))
	require.NoError(t, err)
	require.Equal(t, []string{"E0ORG", "", ""}, []string{got.EnterpriseID, got.TeamID, got.Text})
	require.True(t, got.EnterpriseInstall)
}

func TestParseCommandJSONReadsTheSameFromAnEnvelope(t *testing.T) {
	t.Parallel()
	flat := map[string]any{}
	for k, v := range typed() {
		flat[k] = v[0]
	}
	raw, err := json.Marshal(flat)
	require.NoError(t, err)
	got, err := slack.ParseCommandJSON(raw)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(wantCommand, got))
	flat["is_enterprise_install"] = false
	flat["enterprise_id"] = nil
	raw, err = json.Marshal(flat)
	require.NoError(t, err)
	got, err = slack.ParseCommandJSON(raw)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(wantCommand, got))
	for name, raw := range map[string]string{
		"nothing": "", "a list": "[]", "null": "null", "a number": `{"text":1}`, "an object": `{"text":{}}`, "twice": `{"text":"a","TEXT":"b"}`,
		"no user": `{"command":"/approvals","team_id":"T1","api_app_id":"A1"}`, "too long": `"` + strings.Repeat("x", slack.MaxInteraction) + `"`,
	} {
		got, err := slack.ParseCommandJSON([]byte(raw))
		require.ErrorIs(t, err, slack.ErrMalformed, name)
		require.Zero(t, got, name)
	}
}

func TestParseCommandRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	with := func(edit func(url.Values)) []byte {
		form := typed()
		edit(form)
		return []byte(form.Encode())
	}
	set := func(k, v string) []byte { return with(func(f url.Values) { f.Set(k, v) }) }
	for name, raw := range map[string][]byte{
		"nothing":            nil,
		"bad escape":         []byte("command=%zz"),
		"semicolon":          append([]byte("a=1;"), typed().Encode()...),
		"too long":           append([]byte(typed().Encode()), make([]byte, slack.MaxInteraction)...),
		"no command":         set("command", ""),
		"no slash":           set("command", "approvals"),
		"a long command":     set("command", "/"+strings.Repeat("a", 40)),
		"a long text":        set("text", strings.Repeat("x", slack.MaxCommandText+1)),
		"invalid UTF-8":      set("text", "\xff"),
		"no user":            set("user_id", ""),
		"an impossible user": set("user_id", "U1> <!channel"),
		"no app":             set("api_app_id", ""),
		"no team":            set("team_id", ""),
		"an impossible team": set("team_id", "T 1"),
		"odd channel":        set("channel_id", "../x"),
		"odd org":            set("enterprise_id", "E<>"),
		"odd flag":           set("is_enterprise_install", "maybe"),
	} {
		got, err := slack.ParseCommand(raw)
		require.ErrorIs(t, err, slack.ErrMalformed, name)
		require.Zero(t, got, name)
	}
	for _, field := range []string{"user_id", "team_id", "command", "text", "api_app_id", "channel_id", "response_url", "trigger_id", "enterprise_id", "is_enterprise_install"} {
		_, err := slack.ParseCommand(with(func(f url.Values) { f[field] = []string{f.Get(field), ""} }))
		require.ErrorIs(t, err, slack.ErrMalformed, field)
	}
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte(typed().Encode()))
	f.Add([]byte("command=%2Fapprovals&user_id=U1&team_id=T1&api_app_id=A1&text=%20help%20"))
	f.Add([]byte("command=/x&command=/y&user_id=U1&team_id=T1&api_app_id=A1"))
	f.Add([]byte(`{"command":"/approvals","user_id":"U1","team_id":"T1","api_app_id":"A1","is_enterprise_install":true}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, parse := range []func([]byte) (slack.Command, error){slack.ParseCommand, slack.ParseCommandJSON} {
			got, err := parse(raw)
			if err != nil {
				require.ErrorIs(t, err, slack.ErrMalformed)
				require.Zero(t, got)
				continue
			}
			require.NotEmpty(t, got.User.ID)
			require.NotEmpty(t, got.AppID)
			require.NotEmpty(t, got.TeamID+got.EnterpriseID)
			require.Equal(t, byte('/'), got.Name[0])
			require.LessOrEqual(t, len(got.Text), slack.MaxCommandText)
		}
	})
}
