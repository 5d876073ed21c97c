package slack_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack"
	"countersign/slack/emulator"
)

// company is a workspace with people, channels and groups of every kind, and a client.
func company(t *testing.T, c emulator.Config) (*emulator.Server, *slack.Client) {
	t.Helper()
	c.Workspace = emulator.Workspace{
		Users: []emulator.User{
			{ID: "U0ANA", Name: "ana", RealName: "Ana", Email: "ana@example.com"},
			{ID: "U0GUEST", Name: "g", IsRestricted: true},
			{ID: "U0SINGLE", Name: "s", IsUltraRestricted: true},
			{ID: "U0GONE", Name: "gone", Deleted: true},
			{ID: "U0ROBOT", Name: "r", IsBot: true},
			{ID: "U0OTHER", Name: "o", IsStranger: true, TeamID: "T0OTHER"},
			{ID: "U0NEW", Name: "n", IsInvited: true, EmailUnconfirmed: true},
			{ID: "U0USER", Name: "appuser", IsAppUser: true},
		},
		Channels: []emulator.Channel{
			{ID: "C0OPEN", Name: "open", Members: []string{"U0BOT", "U0ANA"}},
			{ID: "C0OLD", Name: "old", Archived: true, Members: []string{"U0BOT"}},
			{ID: "C0OUT", Name: "out", ExtShared: true, Members: []string{"U0BOT"}},
			{ID: "G0PRIV", Name: "priv", Private: true, Members: []string{"U0ANA"}},
		},
		UserGroups: []emulator.UserGroup{
			{ID: "S0ONCALL", Handle: "oncall", Name: "On call", Members: []string{"U0GONE", "U0ANA"}},
			{ID: "S0OLD", Handle: "old", Name: "Old", Disabled: true, Members: []string{"U0ANA"}},
		},
	}
	c.Scopes = append(emulator.DefaultScopes(), append(slack.HistoryScopes(), "users:read.email")...)
	emu := emulator.New(c)
	srv := httptest.NewServer(emu)
	t.Cleanup(srv.Close)
	t.Cleanup(emu.Close)
	emu.SetBaseURL(srv.URL)
	client, err := slack.New(slack.Config{Token: emulatorToken, APIURL: srv.URL + "/api/", HTTP: srv.Client()})
	require.NoError(t, err)
	return emu, client
}

func TestUserInfoSaysWhoMayNotAct(t *testing.T) {
	t.Parallel()
	_, client := company(t, emulator.Config{})
	for id, want := range map[string]slack.UserFacts{
		"U0ANA":    {TeamID: "T0EMULATOR", Name: "Ana", Email: "ana@example.com", EmailConfirmed: true},
		"U0GUEST":  {TeamID: "T0EMULATOR", Name: "g", EmailConfirmed: true, Guest: true},
		"U0SINGLE": {TeamID: "T0EMULATOR", Name: "s", EmailConfirmed: true, Guest: true},
		"U0GONE":   {TeamID: "T0EMULATOR", Name: "gone", EmailConfirmed: true, Deleted: true},
		"U0ROBOT":  {TeamID: "T0EMULATOR", Name: "r", Bot: true},
		"U0OTHER":  {TeamID: "T0OTHER", Name: "o", EmailConfirmed: true, Stranger: true},
		"U0NEW":    {TeamID: "T0EMULATOR", Name: "n", Invited: true},
		"U0USER":   {TeamID: "T0EMULATOR", Name: "appuser", EmailConfirmed: true}, // somebody who authorised an app is no bot
	} {
		got, err := client.UserInfo(t.Context(), id)
		require.NoError(t, err, id)
		want.ID = id
		require.Equal(t, want, got, id)
	}
	_, err := client.UserInfo(t.Context(), "U0NOBODY")
	requireCode(t, err, slack.Permanent, "user_not_found")
	got, err := client.UserByEmail(t.Context(), "ANA@example.com")
	require.NoError(t, err)
	require.Equal(t, "U0ANA", got.ID)
	_, err = client.UserByEmail(t.Context(), "nobody@example.com")
	requireCode(t, err, slack.Permanent, "users_not_found")
}

func requireCode(t *testing.T, err error, class slack.Class, code string) {
	t.Helper()
	var e *slack.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, class, e.Class)
	require.Equal(t, code, e.Code)
}

func TestUserInfoKnowsTheOrganisationOfAGrid(t *testing.T) {
	t.Parallel()
	client := answering(t, saying(200, `{"ok":true,"user":{"id":"U1","team_id":"T1","is_bot":false,"profile":{"team":"T2"},
		"enterprise_user":{"id":"W1","enterprise_id":"E1","teams":["T1","T2"]}}}`))
	for _, id := range []string{"U1", "W1"} { // who is known by both
		got, err := client.UserInfo(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, slack.UserFacts{ID: id, TeamID: "T2", EnterpriseID: "E1", Teams: []string{"T1", "T2"}}, got)
	}
}

func TestUserGroupsAreListedWithTheirMembersDisabledOnesToo(t *testing.T) {
	t.Parallel()
	_, client := company(t, emulator.Config{})
	got, err := client.UserGroups(t.Context())
	require.NoError(t, err)
	require.Equal(t, []slack.GroupFacts{
		{ID: "S0ONCALL", TeamID: "T0EMULATOR", Handle: "oncall", Name: "On call", Members: []string{"U0ANA", "U0GONE"}},
		{ID: "S0OLD", TeamID: "T0EMULATOR", Handle: "old", Name: "Old", Members: []string{"U0ANA"}, Disabled: true},
	}, got)
}

func TestTokenOfAnOrganisationNamesTheWorkspace(t *testing.T) {
	t.Parallel()
	_, client := company(t, emulator.Config{EnterpriseID: "E0GRID", OrgInstall: true})
	self, err := client.Self(t.Context())
	require.NoError(t, err)
	require.True(t, self.EnterpriseInstall)
	require.Equal(t, "E0GRID", self.EnterpriseID)
	_, err = client.UserGroups(t.Context())
	require.Error(t, err)
	got, err := client.UserGroups(t.Context(), "T0EMULATOR")
	require.NoError(t, err)
	require.Len(t, got, 2)
}

func TestConversationsSayWhereACardCanGo(t *testing.T) {
	t.Parallel()
	_, client := company(t, emulator.Config{})
	for id, want := range map[string]slack.ConversationFacts{
		"C0OPEN": {ID: "C0OPEN", Name: "open", Member: true},
		"C0OLD":  {ID: "C0OLD", Name: "old", Member: true, Archived: true},
		"C0OUT":  {ID: "C0OUT", Name: "out", Member: true, ExternallyShared: true},
	} {
		got, err := client.Conversation(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, ok, err := client.ConversationNamed(t.Context(), want.Name)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	_, err := client.Conversation(t.Context(), "G0PRIV")
	requireCode(t, err, slack.Permanent, "channel_not_found")
	_, ok, err := client.ConversationNamed(t.Context(), "priv")
	require.NoError(t, err)
	require.False(t, ok, "the bot is not in it")
	all, err := client.Conversations(t.Context())
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(f slack.ConversationFacts) bool { return f.ID == "C0OPEN" }))
}

func TestAListIsReadPageByPageAndNotForEver(t *testing.T) {
	t.Parallel()
	var pages atomic.Int64
	last := int64(3)
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		n := pages.Add(1)
		if want := strconv.FormatInt(n-1, 10); n > 1 && r.FormValue("cursor") != want {
			t.Errorf("page %d was asked for with cursor %q", n, r.FormValue("cursor"))
		}
		next := strconv.FormatInt(n, 10)
		if n == last {
			next = ""
		}
		_, _ = fmt.Fprintf(w, `{"ok":true,"channels":[{"id":"C%d","name":"c%d"}],"response_metadata":{"next_cursor":%q}}`, n, n, next)
	})
	all, err := client.Conversations(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	pages.Store(0)
	_, ok, err := client.ConversationNamed(t.Context(), "c2")
	require.NoError(t, err)
	require.True(t, ok)
	require.EqualValues(t, 2, pages.Load(), "no page is read in vain")
	last = -1
	pages.Store(0)
	_, err = client.Conversations(t.Context())
	requireCode(t, err, slack.Retryable, "too_many_pages")
	require.EqualValues(t, 50, pages.Load())
}

func TestOpenDirectAndPermalink(t *testing.T) {
	t.Parallel()
	emu, client := company(t, emulator.Config{})
	dm, err := client.OpenDirect(t.Context(), "U0ANA")
	require.NoError(t, err)
	require.Equal(t, emu.DM("U0ANA"), dm)
	ref, err := client.Post(t.Context(), dm, slack.Card(pendingView(t, nil)), slack.PostOptions{})
	require.NoError(t, err)
	link, err := client.Permalink(t.Context(), ref)
	require.NoError(t, err)
	require.Contains(t, link, dm)
	for user, code := range map[string]string{"U0GONE": "user_disabled", "U0ROBOT": "cannot_dm_bot", "U0NOBODY": "user_not_found"} {
		_, err := client.OpenDirect(t.Context(), user)
		requireCode(t, err, slack.Permanent, code)
	}
	_, err = client.Permalink(t.Context(), slack.Ref{Channel: dm, TS: "1.1"})
	requireCode(t, err, slack.Permanent, "message_not_found")
}

// mark is the metadata that posts carry.
func mark(id string) slack.PostOptions {
	return slack.PostOptions{Metadata: &slack.Metadata{EventType: "countersign_post", Payload: map[string]string{"outbox_id": id}}}
}

func TestFindByMetadataFindsWhatWasPosted(t *testing.T) {
	t.Parallel()
	emu, client := company(t, emulator.Config{})
	m := slack.Card(pendingView(t, nil))
	start := emu.Now().Add(-time.Minute)
	first, err := client.Post(t.Context(), "C0OPEN", m, mark("one"))
	require.NoError(t, err)
	reply := mark("two")
	reply.ThreadTS = first.TS
	second, err := client.Post(t.Context(), "C0OPEN", m, reply)
	require.NoError(t, err)

	find := func(thread, typ, value string, oldest time.Time) (slack.Ref, bool) {
		ref, ok, err := client.FindByMetadata(t.Context(), "C0OPEN", thread, oldest, typ, "outbox_id", value)
		require.NoError(t, err)
		return ref, ok
	}
	got, ok := find("", "countersign_post", "one", start)
	require.True(t, ok)
	require.Equal(t, first, got)
	got, ok = find(first.TS, "countersign_post", "two", start)
	require.True(t, ok)
	require.Equal(t, second, got)
	_, ok = find("", "countersign_post", "two", start)
	require.False(t, ok, "it is in the thread")
	_, ok = find("", "something_else", "one", start)
	require.False(t, ok)
	_, ok = find("", "countersign_post", "one", emu.Now().Add(time.Hour))
	require.False(t, ok, "it was posted before")
}

func TestFindByMetadataIsNotTakenInByAnImitation(t *testing.T) {
	t.Parallel()
	marked := func(user, bot string) string {
		raw, err := json.Marshal(map[string]any{
			"ok": true, "user_id": "U0BOT", "team_id": "T1", "bot_id": "B0BOT", "messages": []any{map[string]any{
				"ts": "5.5", "user": user, "bot_id": bot,
				"metadata": map[string]any{"event_type": "countersign_post", "event_payload": map[string]any{"outbox_id": "one"}},
			}},
		})
		require.NoError(t, err)
		return string(raw)
	}
	for _, who := range []struct {
		user, bot string
		want      bool
	}{{"U0BOT", "B0BOT", true}, {"", "B0BOT", true}, {"U0EVE", "", false}, {"U0OTHER", "B0OTHER", false}, {"", "", false}} {
		client := answering(t, saying(200, marked(who.user, who.bot)))
		_, ok, err := client.FindByMetadata(t.Context(), "C1", "", time.Unix(1, 0), "countersign_post", "outbox_id", "one")
		require.NoError(t, err)
		require.Equal(t, who.want, ok, "%+v", who)
	}
}

func TestFindByMetadataDoesNotSayNoBeforeItHasSeenAll(t *testing.T) {
	t.Parallel()
	var pages atomic.Int64
	client := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		pages.Add(1)
		_, _ = io.WriteString(w, `{"ok":true,"user_id":"U1","team_id":"T1","messages":[{"ts":"1.1"}],"response_metadata":{"next_cursor":"more"}}`)
	})
	_, _, err := client.FindByMetadata(t.Context(), "C1", "", time.Unix(1, 0), "x", "outbox_id", "one")
	requireCode(t, err, slack.Retryable, "too_many_pages")
	require.EqualValues(t, 11, pages.Load(), "who we are, and ten pages")
}

func TestRespondMessageShowsAWholeMessage(t *testing.T) {
	t.Parallel()
	bodies := make(chan map[string]any, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		if r.Header.Get("Authorization") != "" {
			t.Error("a token was sent")
		}
		bodies <- body
		_, _ = io.WriteString(w, "ok")
	}))
	t.Cleanup(srv.Close)
	client, err := slack.New(slack.Config{Token: canary, APIURL: srv.URL, HTTP: srv.Client()})
	require.NoError(t, err)
	m := slack.Card(pendingView(t, nil))
	require.NoError(t, client.RespondMessage(t.Context(), srv.URL+"/actions/1", m, true))
	got := <-bodies
	require.Equal(t, "ephemeral", got["response_type"])
	require.Equal(t, false, got["replace_original"])
	require.Equal(t, m.Text, got["text"])
	require.Len(t, got["blocks"], len(m.Blocks))
	require.NoError(t, client.RespondMessage(t.Context(), srv.URL+"/actions/1", m, false))
	require.Equal(t, "in_channel", (<-bodies)["response_type"])
	requireCode(t, client.RespondMessage(t.Context(), srv.URL+"/actions/1", slack.Message{}, true), slack.Permanent, "refused_here")
	requireCode(t, client.RespondMessage(t.Context(), "https://evil.example/", m, true), slack.Permanent, "refused_here")
}

func TestRotateRefusesTheOldSecretAtOnce(t *testing.T) {
	t.Parallel()
	v := verifier(t, start, "old")
	by := func(secret string) error { return v.Verify(captured(secret)) }
	require.NoError(t, by("old"))
	require.NoError(t, v.Rotate([]slack.Secret{"new", "old"}))
	require.NoError(t, by("old"))
	require.NoError(t, by("new"))
	require.Error(t, v.Rotate(nil))
	require.Error(t, v.Rotate([]slack.Secret{"a", "b", "c"}))
	require.Error(t, v.Rotate([]slack.Secret{""}))
	require.NoError(t, by("new"), "what was refused has changed nothing")
	require.NoError(t, v.Rotate([]slack.Secret{"new"}))
	require.ErrorIs(t, by("old"), slack.ErrUnauthentic)
	require.NoError(t, by("new"))
}
