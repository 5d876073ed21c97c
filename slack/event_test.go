package slack_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"countersign/slack"
)

// happened is an event as Slack sends it.
func happened(inner string) string {
	return `{"token":"deprecated","team_id":"T0ACME","api_app_id":"A0CS","event":` + inner + `,"type":"event_callback","event_id":"Ev0ONE",
"event_time":1795446000,"authorizations":[{"enterprise_id":null,"team_id":"T0ACME","user_id":"U0BOT","is_bot":true,"is_enterprise_install":false}],
"is_ext_shared_channel":false}`
}

func TestParseEventReadsWhatEachKindIsAbout(t *testing.T) {
	t.Parallel()
	base := slack.Event{ID: "Ev0ONE", TeamID: "T0ACME", AppID: "A0CS", At: start}
	for inner, fill := range map[string]func(*slack.Event){
		`{"type":"app_home_opened","user":"U02BO","channel":"D01","tab":"home","event_ts":"1.2","view":{"id":"V1","type":"home"}}`: func(e *slack.Event) { e.Kind, e.User, e.Tab = slack.EventHomeOpened, "U02BO", "home" },
		`{"type":"user_change","user":{"id":"U02BO","team_id":"T0ACME","deleted":true,"profile":{"email":"bo@x"}},"cache_ts":1}`:   func(e *slack.Event) { e.Kind, e.User = slack.EventUserChange, "U02BO" },
		`{"type":"team_join","user":{"id":"U02NEW"}}`: func(e *slack.Event) { e.Kind, e.User = slack.EventTeamJoin, "U02NEW" },
		`{"type":"subteam_members_changed","subteam_id":"S0ONCALL","team_id":"T0ACME","added_users":["U1"],"removed_users":[]}`: func(e *slack.Event) {
			e.Kind, e.Group = slack.EventGroupMembers, "S0ONCALL"
		},
		`{"type":"subteam_updated","subteam":{"id":"S0ONCALL","handle":"oncall","users":["U1"]}}`: func(e *slack.Event) { e.Kind, e.Group = slack.EventGroupUpdated, "S0ONCALL" },
		`{"type":"channel_archive","channel":"C01","user":"U1"}`:                                  func(e *slack.Event) { e.Kind, e.Channel = slack.EventChannelArchive, "C01" },
		`{"type":"channel_shared","connected_team_id":"E1","channel":"C01"}`:                      func(e *slack.Event) { e.Kind, e.Channel = slack.EventChannelShared, "C01" },
		`{"type":"channel_id_changed","old_channel_id":"G01","new_channel_id":"C02"}`:             func(e *slack.Event) { e.Kind, e.Channel, e.NewChannel = slack.EventChannelIDChanged, "G01", "C02" },
		`{"type":"app_uninstalled"}`: func(e *slack.Event) { e.Kind = slack.EventAppUninstalled },
		`{"type":"tokens_revoked","tokens":{"oauth":["UXXX"],"bot":["U0BOT"]}}`:                                       func(e *slack.Event) { e.Kind = slack.EventTokensRevoked },
		`{"type":"from_the_future","user":{"odd":[1,2]},"channel":7}`:                                                 func(e *slack.Event) { e.Kind = "from_the_future" },
		`{"type":"message","user":"U1","channel":"C1","text":"\u003c!channel\u003e","blocks":[{"type":"new","x":1}]}`: func(e *slack.Event) { e.Kind = "message" },
	} {
		want := base
		fill(&want)
		got, err := slack.ParseEvent([]byte(happened(inner)))
		require.NoError(t, err, inner)
		require.Empty(t, cmp.Diff(want, got), inner)
	}
}

func TestParseEventReadsWhatIsNoCallback(t *testing.T) {
	t.Parallel()
	got, err := slack.ParseEvent([]byte(`{"token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}`))
	require.NoError(t, err)
	require.Equal(t, slack.Event{Kind: slack.EventURLVerification, Challenge: "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}, got)
	got, err = slack.ParseEvent([]byte(`{"token":"x","type":"app_rate_limited","team_id":"T0ACME","minute_rate_limited":1518467820,"api_app_id":"A0CS"}`))
	require.NoError(t, err)
	require.Equal(t, slack.Event{Kind: slack.EventRateLimited, TeamID: "T0ACME", AppID: "A0CS"}, got)
}

func TestParseEventRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	good := happened(`{"type":"app_home_opened","user":"U02BO","tab":"home"}`)
	swap := func(from, to string) string {
		require.Contains(t, good, from)
		return strings.Replace(good, from, to, 1)
	}
	for name, raw := range map[string]string{
		"nothing": "", "null": "null", "a list": "[]", "a text": `"event_callback"`, "data after it": good + "{}",
		"too long":          `{"x":"` + strings.Repeat("x", slack.MaxInteraction) + `"}`,
		"unknown type":      swap("event_callback", "callback"),
		"a key twice":       swap(`"type":"event_callback"`, `"type":"event_callback","Type":"url_verification"`),
		"no event id":       swap("Ev0ONE", ""),
		"an odd event id":   swap("Ev0ONE", "Ev 1"),
		"no app":            swap("A0CS", ""),
		"no team":           swap("T0ACME", ""),
		"an odd team":       swap("T0ACME", "T<>"),
		"no inner type":     swap("app_home_opened", ""),
		"no user":           swap(`"user":"U02BO"`, `"user":""`),
		"a user in a list":  swap(`"user":"U02BO"`, `"user":["U02BO"]`),
		"an odd user":       swap(`"user":"U02BO"`, `"user":"U1|x"`),
		"no challenge":      `{"type":"url_verification"}`,
		"a long challenge":  `{"type":"url_verification","challenge":"` + strings.Repeat("x", 2000) + `"}`,
		"a group without":   happened(`{"type":"subteam_updated","subteam":null}`),
		"members without":   happened(`{"type":"subteam_members_changed"}`),
		"an archive of":     happened(`{"type":"channel_archive","channel":7}`),
		"half a new id":     happened(`{"type":"channel_id_changed","old_channel_id":"C1"}`),
		"invalid UTF-8":     swap(`"tab":"home"`, "\"tab\":\"\xff\""),
		"nested too deep":   happened(fmt.Sprintf(`{"type":"x","deep":%s%s}`, strings.Repeat("[", 300), strings.Repeat("]", 300))),
		"time is no number": swap("1795446000", `"soon"`),
	} {
		got, err := slack.ParseEvent([]byte(raw))
		require.ErrorIs(t, err, slack.ErrMalformed, name)
		require.Zero(t, got, name)
	}
}

func FuzzEvent(f *testing.F) {
	for _, inner := range []string{
		`{"type":"app_home_opened","user":"U02BO","tab":"home"}`, `{"type":"user_change","user":{"id":"U02BO"}}`,
		`{"type":"subteam_updated","subteam":{"id":"S1"}}`, `{"type":"channel_id_changed","old_channel_id":"G1","new_channel_id":"C1"}`,
	} {
		f.Add([]byte(happened(inner)))
	}
	f.Add([]byte(`{"challenge":"x","type":"url_verification"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := slack.ParseEvent(raw)
		if err != nil {
			require.ErrorIs(t, err, slack.ErrMalformed)
			require.Zero(t, got)
			return
		}
		if got.Kind == slack.EventURLVerification && got.Challenge != "" {
			require.Equal(t, slack.Event{Kind: got.Kind, Challenge: got.Challenge}, got)
			return
		}
		require.NotEmpty(t, got.AppID)
		require.NotEmpty(t, got.TeamID+got.EnterpriseID)
		require.LessOrEqual(t, got.At.Sub(time.Unix(0, 0)), time.Duration(1<<63-1))
	})
}
