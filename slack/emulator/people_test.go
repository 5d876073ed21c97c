package emulator_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// inGrid is a workspace of an organisation, with the app installed for all of it.
func inGrid(c *emulator.Config) {
	c.EnterpriseID, c.EnterpriseName, c.OrgInstall = "E0ACME", "Acme Group", true
	c.Workspace.Users = append(c.Workspace.Users,
		emulator.User{ID: "W0GRETA", Name: "greta", RealName: "Greta Grid", TeamID: "T0OTHER", EnterpriseUserID: "W0GRETA", Teams: []string{"T0OTHER", "T0EMULATOR"}},
		emulator.User{ID: "W0FAR", Name: "far", TeamID: "T0OTHER", EnterpriseUserID: "W0FAR", Teams: []string{"T0OTHER"}})
	c.Workspace.Channels[0].Members = append(c.Workspace.Channels[0].Members, "W0GRETA")
}

func TestRule10GridPeopleShowTheirOrganisation(t *testing.T) {
	t.Parallel()
	b := setup(t, inGrid)
	u := b.ok("users.info", "user", "W0GRETA")["user"]
	require.Equal(t, "T0OTHER", at(u, "team_id"))
	require.Equal(t, "E0ACME", at(u, "enterprise_user", "enterprise_id"))
	require.Equal(t, []any{"T0OTHER", "T0EMULATOR"}, at(u, "enterprise_user", "teams"))
	require.Nil(t, at(b.ok("users.info", "user", ana), "user", "enterprise_user"))
	me := b.ok("auth.test")
	require.Equal(t, "E0ACME", me["enterprise_id"])
	require.Equal(t, true, me["is_enterprise_install"])

	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	_, err := b.slack.Click(t.Context(), "W0GRETA", channel, ts, "cs.ask", true)
	require.NoError(t, err)
	p := b.app.last(t).payload
	require.Equal(t, "E0ACME", at(p, "enterprise", "id"))
	require.Equal(t, true, p["is_enterprise_install"])
	require.Equal(t, "T0OTHER", at(p, "user", "team_id"))
	_, err = b.slack.OpenHome(t.Context(), "W0GRETA")
	require.NoError(t, err)
	_, err = b.slack.OpenHome(t.Context(), "W0FAR")
	require.ErrorIs(t, err, emulator.ErrNotAllowed)
}

func TestRule10OrgTokensHaveToNameTheWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t, inGrid)
	for _, method := range []string{"usergroups.list", "users.list", "conversations.list"} {
		b.refused("missing_argument", method)
		b.refused("team_access_not_granted", method, "team_id", "T0OTHER")
		b.ok(method, "team_id", "T0EMULATOR")
	}
	b.refused("missing_argument", "usergroups.users.list", "usergroup", "S0SECURITY")
	require.Equal(t, "E0ACME", at(b.withScopes("team:read").ok("team.info"), "team", "enterprise_id"))
}

// withScopes adds scopes to the token.
func (b *bundle) withScopes(more ...string) *bundle {
	b.slack.SetScopes(append(append(emulator.DefaultScopes(), "channels:history", "users:read.email"), more...))
	return b
}

func TestRule10EveryKindOfPersonCanBeToldApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.PutUser(emulator.User{ID: "U9APP", Name: "helper", IsAppUser: true})
	b.slack.PutUser(emulator.User{ID: "U9INV", Name: "ines", IsInvited: true})
	for id, flag := range map[string]string{
		"U02GUEST": "is_restricted", "U02SKY": "is_ultra_restricted", "U02EXT": "is_stranger", "U02LEFT": "deleted",
		"U02CI": "is_bot", "U9APP": "is_app_user", "U9INV": "is_invited_user",
	} {
		require.Equal(t, true, at(b.ok("users.info", "user", id), "user", flag), id)
		require.Equal(t, false, at(b.ok("users.info", "user", ana), "user", flag), flag)
	}
	require.Equal(t, false, at(b.ok("users.info", "user", "U02MO"), "user", "is_email_confirmed"))
	require.Equal(t, true, at(b.ok("conversations.info", "channel", "C04PARTNER"), "channel", "is_ext_shared"))
	require.Equal(t, []any{"T0PARTNER"}, at(b.ok("conversations.info", "channel", "C04PARTNER"), "channel", "connected_team_ids"))
}

func TestRule4ConversationsAreListedByTypeScopeAndMembership(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.PutChannel(emulator.Channel{ID: "C9OLD", Name: "old", Archived: true})
	b.slack.PutChannel(emulator.Channel{ID: "C9HID", Name: "hidden", Private: true})
	ids := func(args ...string) []any { return pluck(b.ok("conversations.list", args...)["channels"], "id") }
	require.Equal(t, []any{channel, "C02GENERAL", "C04PARTNER", "C9OLD"}, ids())
	require.Equal(t, []any{"C03SECURITY"}, ids("types", "private_channel"), "private ones only as a member")
	require.NotContains(t, ids("types", "public_channel,private_channel", "exclude_archived", "true"), "C9OLD")
	one := b.ok("conversations.list", "limit", "3")
	require.Equal(t, []any{"C9OLD"}, ids("limit", "3", "cursor", at(one, "response_metadata", "next_cursor").(string)))
	b.refused("invalid_types", "conversations.list", "types", "rooms")
	require.Equal(t, "mpim:read", b.refused("missing_scope", "conversations.list", "types", "mpim")["needed"])
	require.Equal(t, []any{"U0BOT", bo, "U02CHEN"}, b.ok("conversations.members", "channel", "C03SECURITY")["members"])
}

func TestRule4TheBotCanJoinPublicChannelsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t).withScopes("channels:join")
	b.slack.PutChannel(emulator.Channel{ID: "C9OUT", Name: "out"})
	b.refused("not_in_channel", "chat.postMessage", "channel", "C9OUT", "text", "x")
	require.Equal(t, true, at(b.ok("conversations.join", "channel", "C9OUT"), "channel", "is_member"))
	b.ok("chat.postMessage", "channel", "C9OUT", "text", "x")
	require.Equal(t, "already_in_channel", b.ok("conversations.join", "channel", "C9OUT")["warning"])
	b.refused("method_not_supported_for_channel_type", "conversations.join", "channel", "C03SECURITY")
	b.slack.UpdateChannel("C9OUT", func(c *emulator.Channel) { c.Archived = true })
	b.refused("is_archived", "conversations.join", "channel", "C9OUT")
}

func TestRule4ReactionsAndInfosOfAppAndTeam(t *testing.T) {
	t.Parallel()
	b := setup(t).withScopes("reactions:write", "team:read")
	ts := b.post("text", "x")
	b.ok("reactions.add", "channel", channel, "timestamp", ts, "name", "eyes")
	require.Equal(t, map[string][]string{"eyes": {"U0BOT"}}, b.newest(channel).Reactions)
	require.Equal(t, "eyes", at(b.ok("conversations.history", "channel", channel), "messages", 0, "reactions", 0, "name"))
	b.refused("already_reacted", "reactions.add", "channel", channel, "timestamp", ts, "name", "eyes")
	b.refused("invalid_name", "reactions.add", "channel", channel, "timestamp", ts, "name", "no such")
	b.refused("message_not_found", "reactions.add", "channel", channel, "timestamp", "1.000001", "name", "eyes")
	b.refused("no_item_specified", "reactions.add", "channel", channel, "name", "eyes")
	require.Equal(t, "acme", at(b.ok("team.info"), "team", "domain"))
	require.Equal(t, "A0EMULATOR", at(b.ok("bots.info", "bot", "B0EMULATOR"), "bot", "app_id"))
	b.refused("bot_not_found", "bots.info", "bot", "B9")
	b.refused("team_not_found", "team.info", "team", "T9")
}

func TestRule4ASecondPostWithTheSameClientMsgIDIsADuplicate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("text", "x", "client_msg_id", "8f6d3c1e")
	b.refused("duplicate_message", "chat.postMessage", "channel", channel, "text", "x", "client_msg_id", "8f6d3c1e")
	b.post("text", "x", "client_msg_id", "other")
	b.ok("chat.postMessage", "channel", "C02GENERAL", "text", "x", "client_msg_id", "8f6d3c1e")
	require.Len(t, b.slack.Messages(channel), 2)
	b.ok("chat.delete", "channel", channel, "ts", first)
	b.refused("duplicate_message", "chat.postMessage", "channel", channel, "text", "x", "client_msg_id", "8f6d3c1e")
	deaf := setup(t, func(c *emulator.Config) { c.IgnoreClientMsgID = true })
	deaf.post("text", "x", "client_msg_id", "8f6d3c1e")
	deaf.post("text", "x", "client_msg_id", "8f6d3c1e")
}

func TestRule4ARefusedPostDoesNotUseUpItsClientMsgID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refused("invalid_thread_ts", "chat.postMessage", "channel", channel, "text", "x", "client_msg_id", "id", "thread_ts", "1700000000.000000")
	b.post("text", "x", "client_msg_id", "id")
}

func TestRule4TheEditWindowCloses(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.EditWindow = time.Hour })
	ts := b.post("text", "x")
	b.slack.Advance(time.Hour)
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "y")
	b.slack.Advance(time.Second)
	b.refused("edit_window_closed", "chat.update", "channel", channel, "ts", ts, "text", "z")
}

func TestRule9CommitThenLimitPostsThough429(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenLimit, RetryAfter: 3})
	status, after, word := b.status("chat.postMessage", "channel", channel, "text", "x")
	require.Equal(t, 429, status)
	require.Equal(t, "3", after)
	require.Equal(t, "ratelimited", word)
	require.Len(t, b.slack.Messages(channel), 1)
}
