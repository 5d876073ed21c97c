package emulator_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

func TestTokenIsTakenFromTheFormOrTheHeaderOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const form = "application/x-www-form-urlencoded"
	for name, tc := range map[string]struct{ method, target, kind, body, header, want string }{
		"form":             {"POST", "/api/auth.test", form, "token=" + token, "", ""},
		"header, form":     {"POST", "/api/auth.test", form, "", "Bearer " + token, ""},
		"header, JSON":     {"POST", "/api/auth.test", "application/json; charset=utf-8", "{}", "Bearer " + token, ""},
		"header, GET":      {"GET", "/api/auth.test", "", "", "Bearer " + token, ""},
		"header, no type":  {"POST", "/api/auth.test", "", "", "Bearer " + token, ""},
		"none":             {"POST", "/api/auth.test", form, "", "", "not_authed"},
		"in the URL":       {"GET", "/api/auth.test?token=" + token, "", "", "", "not_authed"},
		"in JSON":          {"POST", "/api/auth.test", "application/json", `{"token":"` + token + `"}`, "", "not_authed"},
		"wrong":            {"POST", "/api/auth.test", form, "token=xoxb-other", "", "invalid_auth"},
		"app-level":        {"POST", "/api/auth.test", form, "token=xapp-1", "", "not_allowed_token_type"},
		"broken JSON":      {"POST", "/api/auth.test", "application/json", `{`, "Bearer " + token, "invalid_json"},
		"JSON, no object":  {"POST", "/api/auth.test", "application/json", `[]`, "Bearer " + token, "json_not_object"},
		"unknown type":     {"POST", "/api/auth.test", "text/plain", `x`, "Bearer " + token, "invalid_post_type"},
		"unknown method":   {"POST", "/api/chat.shout", form, "token=" + token, "", "unknown_method"},
		"unknown, no auth": {"POST", "/api/chat.shout", form, "", "", "unknown_method"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := *b
			b.t = t
			status, _, body := b.do(tc.method, tc.target, tc.kind, tc.body, "Authorization", tc.header)
			require.Equal(t, http.StatusOK, status)
			out := decode(t, body)
			if tc.want == "" {
				require.Equal(t, true, out["ok"], body)
				require.Equal(t, "T0EMULATOR", out["team_id"])
				require.Equal(t, "U0BOT", out["user_id"])
				require.Equal(t, "B0EMULATOR", out["bot_id"])
				return
			}
			require.Equal(t, tc.want, out["error"], body)
		})
	}
}

func TestAnswersCarryScopesAndTheWorkspacesDate(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.Scopes = []string{"chat:write", "im:write"} })
	_, h, _ := b.do("POST", "/api/auth.test", "application/json", `{}`, "Authorization", "Bearer "+token)
	require.Equal(t, "chat:write,im:write", h.Get("X-OAuth-Scopes"))
	date, err := http.ParseTime(h.Get("Date"))
	require.NoError(t, err)
	require.WithinDuration(t, b.clock.Now(), date, time.Second)
}

func TestJSONWithoutCharsetIsWarnedAbout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, body := b.do("POST", "/api/auth.test", "application/json", `{}`, "Authorization", "Bearer "+token)
	require.Equal(t, "missing_charset", decode(t, body)["warning"])
	_, _, body = b.do("POST", "/api/auth.test", "application/json; charset=utf-8", `{}`, "Authorization", "Bearer "+token)
	require.Nil(t, decode(t, body)["warning"])
}

func TestMissingScopeNamesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.Scopes = nil })
	for method, tc := range map[string]struct {
		args []string
		want string
	}{
		"users.lookupByEmail":   {[]string{"email", "ana@example.com"}, "users:read.email"},
		"conversations.history": {[]string{"channel", channel}, "channels:history"},
		"conversations.replies": {[]string{"channel", "C03SECURITY", "ts", "1"}, "groups:history"},
		"conversations.open":    {[]string{"users", "U02ANA,U02BO"}, "mpim:write"},
	} {
		out := b.refused("missing_scope", method, tc.args...)
		require.Equal(t, tc.want, out["needed"], method)
		require.Equal(t, strings.Join(emulator.DefaultScopes(), ","), out["provided"])
	}
	require.Nil(t, at(b.ok("users.info", "user", ana), "user", "profile", "email"), "the address has its own scope")
}

func TestRevokedTokenFailsEverywhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.SetAuthError("token_revoked")
	b.refused("token_revoked", "auth.test")
	b.slack.SetAuthError("")
	b.ok("auth.test")
}

func TestTimestampsAreUniqueAndMonotonicPerChannel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.post("text", "a"), b.post("text", "b")
	require.Regexp(t, `^\d{10}\.\d{6}$`, first)
	require.Greater(t, second, first, "though the clock stands still")
	b.clock.Advance(-time.Hour)
	require.Greater(t, b.post("text", "c"), second, "though the clock went back")
}

func TestPostingToAPersonOpensTheirDM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	out := b.ok("chat.postMessage", "channel", ana, "text", "hi")
	dm := out["channel"].(string)
	require.True(t, strings.HasPrefix(dm, "D"), dm)
	require.Equal(t, dm, b.slack.DM(ana))
	require.Equal(t, dm, at(b.ok("conversations.open", "users", ana), "channel", "id"))
	ts := out["ts"].(string)
	b.refused("channel_not_found", "chat.update", "channel", ana, "ts", ts, "text", "new")
	b.ok("chat.update", "channel", dm, "ts", ts, "text", "new")
	require.Equal(t, "new", b.newest(dm).Text)
	require.Equal(t, "dm", b.slack.Notifications(ana)[0].Reason)
}

func TestMessagesThatCannotBePostedSayWhy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slack.PutChannel(emulator.Channel{ID: "C9OLD", Name: "old", Members: []string{"U0BOT"}, Archived: true})
	b.slack.PutChannel(emulator.Channel{ID: "C9OUT", Name: "out"})
	b.slack.PutChannel(emulator.Channel{ID: "C9HID", Name: "hidden", Private: true})
	for want, args := range map[string][]string{
		"channel_not_found": {"channel", "C404", "text", "x"},
		"is_archived":       {"channel", "C9OLD", "text", "x"},
		"not_in_channel":    {"channel", "C9OUT", "text", "x"},
		"no_text":           {"channel", channel, "text", " "},
		"invalid_thread_ts": {"channel", channel, "text", "x", "thread_ts", "1700000000.000000"},
	} {
		b.refused(want, "chat.postMessage", args...)
	}
	b.refused("channel_not_found", "chat.postMessage", "channel", "C9HID", "text", "x")
	b.refused("channel_not_found", "chat.postMessage", "channel", "U02LEFT", "text", "x")
	b.refused("channel_not_found", "chat.postMessage", "channel", "U0BOT", "text", "x")
	require.Equal(t, channel, b.ok("chat.postMessage", "channel", "#billing-approvals", "text", "x")["channel"])
}

func TestPostTakesJSONAsWellAsForms(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, body := b.do("POST", "/api/chat.postMessage", "application/json; charset=utf-8",
		`{"channel":"`+channel+`","text":"t","blocks":`+fixture(t, "final")+`,"metadata":{"event_type":"e","event_payload":{"id":1}}}`,
		"Authorization", "Bearer "+token)
	require.Equal(t, true, decode(t, body)["ok"], body)
	require.Contains(t, b.newest(channel).Text, "Executed: billing-admin")
}

func TestLongTextIsCutWhenPostedAndRefusedWhenUpdated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", strings.Repeat("é", 40_001))
	require.Len(t, []rune(b.newest(channel).Text), 40_000)
	b.refused("msg_too_long", "chat.update", "channel", channel, "ts", ts, "text", strings.Repeat("é", 4001))
	b.ok("chat.update", "channel", channel, "ts", ts, "text", strings.Repeat("é", 4000))
}

func TestUpdateReplacesContentAndKeepsMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", `[{"type":"header","text":{"type":"plain_text","text":"Old"}}]`,
		"metadata", `{"event_type":"e","event_payload":{"id":"o1"}}`, "client_msg_id", "8f6d3c1e")
	out := b.ok("chat.update", "channel", channel, "ts", ts, "text", "only text")
	m := b.newest(channel)
	require.Equal(t, "only text", m.Text, "text without blocks removes the blocks")
	require.Nil(t, at(out, "message", "blocks"))
	require.Equal(t, "o1", at(m.Metadata, "event_payload", "id"), "metadata stays when omitted")
	require.Equal(t, "8f6d3c1e", m.ClientMsgID)
	require.Equal(t, 1, m.Revision)
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "x", "metadata", `{}`)
	require.Nil(t, b.newest(channel).Metadata, "an empty object removes it")
}

func TestUpdateThatDropsRichTextIsABlockMismatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.refused("block_mismatch", "chat.update", "channel", channel, "ts", ts, "text", "t", "blocks", `[{"type":"divider"}]`)
	b.ok("chat.update", "channel", channel, "ts", ts, "text", "t", "blocks", fixture(t, "final"))
}

func TestUpdateAndDeleteOfWhatIsNotTheAppsAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs, err := b.slack.Post(ana, channel, "mine", "")
	require.NoError(t, err)
	b.refused("cant_update_message", "chat.update", "channel", channel, "ts", theirs, "text", "x")
	b.refused("cant_delete_message", "chat.delete", "channel", channel, "ts", theirs)
	b.refused("message_not_found", "chat.update", "channel", channel, "ts", "1.000001", "text", "x")
	ts := b.post("text", "x")
	b.ok("chat.delete", "channel", channel, "ts", ts)
	b.refused("message_not_found", "chat.delete", "channel", channel, "ts", ts)
	later := b.post("text", "y")
	require.True(t, b.slack.UpdateChannel(channel, func(c *emulator.Channel) { c.Archived = true }))
	b.refused("is_inactive", "chat.update", "channel", channel, "ts", later, "text", "z")
}

func TestEphemeralsAreSeenByOnePersonAndNeverInHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.ok("chat.postEphemeral", "channel", channel, "user", ana, "text", "psst")["message_ts"].(string)
	require.Len(t, b.slack.Ephemerals(ana), 1)
	require.Equal(t, "psst", b.slack.Ephemerals(ana)[0].Text)
	require.Empty(t, b.slack.Ephemerals(bo))
	require.Empty(t, b.slack.Messages(channel))
	require.Empty(t, b.ok("conversations.history", "channel", channel)["messages"])
	b.refused("message_not_found", "chat.update", "channel", channel, "ts", ts, "text", "x")
	b.refused("user_not_in_channel", "chat.postEphemeral", "channel", channel, "user", "U02GUEST", "text", "x")
}

func TestHistoryIsNewestFirstAndFindsMessagesByMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.post("text", "one", "metadata", `{"event_type":"e","event_payload":{"outbox_id":"o1"}}`)
	b.clock.Advance(time.Minute)
	second := b.post("text", "two")
	reply := b.post("text", "in thread", "thread_ts", first)
	shown := b.post("text", "shown too", "thread_ts", first, "reply_broadcast", "true")

	got := b.ok("conversations.history", "channel", channel, "include_all_metadata", "true")
	require.Equal(t, []any{shown, second, first}, pluck(got["messages"], "ts"))
	require.Equal(t, "o1", at(got, "messages", 2, "metadata", "event_payload", "outbox_id"))
	require.EqualValues(t, 2, at(got, "messages", 2, "reply_count"))
	require.Equal(t, "thread_broadcast", at(got, "messages", 0, "subtype"))
	require.Nil(t, at(b.ok("conversations.history", "channel", channel), "messages", 2, "metadata"), "only on request")

	require.Equal(t, []any{first, reply, shown}, pluck(b.ok("conversations.replies", "channel", channel, "ts", first)["messages"], "ts"))
	b.refused("thread_not_found", "conversations.replies", "channel", channel, "ts", "1700000000.000001")
}

func TestHistoryHonoursRangeAndPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := []string{b.post("text", "1"), b.post("text", "2"), b.post("text", "3")}
	list := func(args ...string) []any {
		return pluck(b.ok("conversations.history", append([]string{"channel", channel}, args...)...)["messages"], "ts")
	}
	require.Equal(t, []any{ts[2]}, list("oldest", ts[1]))
	require.Equal(t, []any{ts[2], ts[1]}, list("oldest", ts[1], "inclusive", "true"))
	require.Equal(t, []any{ts[0]}, list("latest", ts[1]))
	require.Len(t, list("oldest", "1795447000"), 2, "bounds may lack the fraction")
	one := b.ok("conversations.history", "channel", channel, "limit", "2")
	require.Equal(t, true, one["has_more"])
	next := at(one, "response_metadata", "next_cursor").(string)
	require.Equal(t, []any{ts[0]}, list("limit", "2", "cursor", next))
	b.refused("invalid_cursor", "conversations.history", "channel", channel, "cursor", "???")
}

func TestPermalinkNamesChannelAndThread(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "x")
	reply := b.post("text", "y", "thread_ts", ts)
	link := func(ts string) string {
		_, _, body := b.do("GET", "/api/chat.getPermalink?channel="+channel+"&message_ts="+ts, "", "", "Authorization", "Bearer "+token)
		s, _ := decode(t, body)["permalink"].(string)
		return s
	}
	require.Equal(t, "https://acme.slack.com/archives/"+channel+"/p"+strings.Replace(ts, ".", "", 1), link(ts))
	require.Contains(t, link(reply), "?thread_ts="+ts+"&cid="+channel)
	b.refused("message_not_found", "chat.getPermalink", "channel", channel, "message_ts", "1.000001")
}

func TestConversationInfoTellsWhatTheDoctorAsks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	info := func(id string) object { return b.ok("conversations.info", "channel", id)["channel"].(object) }
	require.Equal(t, true, info(channel)["is_member"])
	require.Equal(t, true, info("C04PARTNER")["is_ext_shared"])
	require.Equal(t, true, info("C03SECURITY")["is_private"])
	dm := b.ok("conversations.open", "users", ana, "return_im", "true")["channel"].(object)
	require.Equal(t, ana, dm["user"])
	require.Equal(t, true, info(dm["id"].(string))["is_im"])
	b.slack.UpdateChannel("C03SECURITY", func(c *emulator.Channel) { c.Members = []string{bo} })
	b.refused("channel_not_found", "conversations.info", "channel", "C03SECURITY")
}

func TestConversationsOpenRefusesWhomItCannotReach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.refused("user_not_found", "conversations.open", "users", "U404")
	b.refused("cannot_dm_bot", "conversations.open", "users", "U0BOT")
	b.refused("user_disabled", "conversations.open", "users", "U02LEFT")
	b.refused("users_list_not_supplied", "conversations.open")
	require.Nil(t, b.ok("conversations.open", "users", ana)["already_open"])
	require.Equal(t, true, b.ok("conversations.open", "users", ana)["already_open"])
}

func TestPeopleShowTheFlagsAnApproverIsJudgedBy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	u := func(id string) object { return b.ok("users.info", "user", id)["user"].(object) }
	require.Equal(t, true, u("U02GUEST")["is_restricted"])
	require.Equal(t, true, u("U02EXT")["is_stranger"])
	require.Equal(t, "T0PARTNER", u("U02EXT")["team_id"])
	require.Equal(t, true, u("U02LEFT")["deleted"])
	require.Equal(t, true, u("U0BOT")["is_bot"])
	require.Equal(t, true, u(ana)["is_email_confirmed"])
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.EmailUnconfirmed, u.IsUltraRestricted = true, true })
	require.Equal(t, false, u(ana)["is_email_confirmed"])
	require.Equal(t, true, u(ana)["is_ultra_restricted"])
	require.Equal(t, ana, at(b.ok("users.lookupByEmail", "email", "ANA@example.com"), "user", "id"))
	b.refused("users_not_found", "users.lookupByEmail", "email", "nobody@example.com")
	b.refused("user_not_found", "users.info", "user", "U404")

	one := b.ok("users.list", "limit", "6")
	two := b.ok("users.list", "limit", "6", "cursor", at(one, "response_metadata", "next_cursor").(string))
	require.Len(t, append(pluck(one["members"], "id"), pluck(two["members"], "id")...), 1+len(emulator.Demo().Users))
}

func TestUserGroupsFollowEditsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Nil(t, at(b.ok("usergroups.list"), "usergroups", 0, "users"))
	require.Equal(t, []any{bo, "U02CHEN"}, at(b.ok("usergroups.list", "include_users", "true"), "usergroups", 0, "users"))
	b.slack.UpdateUserGroup("S0SECURITY", func(g *emulator.UserGroup) { g.Members = []string{bo} })
	require.Equal(t, []any{bo}, b.ok("usergroups.users.list", "usergroup", "S0SECURITY")["users"])
	b.slack.UpdateUserGroup("S0SECURITY", func(g *emulator.UserGroup) { g.Disabled, g.Members = true, nil })
	b.refused("no_such_subteam", "usergroups.users.list", "usergroup", "S0SECURITY")
	require.Len(t, b.ok("usergroups.list")["usergroups"], 1)
	require.Equal(t, []any{}, at(b.ok("usergroups.list", "include_users", "1", "include_disabled", "1"), "usergroups", 0, "users"))
}

func TestFormsWithSeveralPartsAreRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	form := url.Values{"token": {token}, "channel": {channel}, "text": {"a&b <c>"}}
	_, _, body := b.do("POST", "/api/chat.postMessage", "application/x-www-form-urlencoded; charset=utf-8", form.Encode())
	require.Equal(t, true, decode(t, body)["ok"])
	require.Contains(t, body, `"text":"a&b <c>"`, "JSON is not HTML-escaped")
}

func pluck(v any, name string) []any {
	list, _ := v.([]any)
	out := []any{}
	for _, it := range list {
		out = append(out, at(it, name))
	}
	return out
}
