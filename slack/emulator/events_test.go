package emulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// listening is a workspace that sends events to the app, on a clock that stands.
func listening(c *emulator.Config) {
	standing(c)
	c.EventsURL = c.InteractionsURL + "/events"
}

// settled waits until every event that is due was attempted.
func (b *bundle) settled() {
	b.t.Helper()
	require.NoError(b.t, b.slack.WaitEvents(soon(b.t)))
}

// sent returns what was delivered to the app, but for handshakes.
func (b *bundle) sent() []emulator.Delivery {
	var out []emulator.Delivery
	for _, d := range b.slack.Deliveries() {
		if d.Kind != "url_verification" {
			out = append(out, d)
		}
	}
	return out
}

func (b *bundle) kinds() []string {
	out := []string{}
	for _, d := range b.sent() {
		out = append(out, d.Kind)
	}
	return out
}

func TestRule7EventsAreSignedJSONAfterAHandshake(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	b.slack.UpdateUserGroup("S0SECURITY", func(g *emulator.UserGroup) { g.Members = []string{bo, ana} })
	b.settled()
	first := b.slack.Deliveries()[0]
	require.Equal(t, "url_verification", first.Kind)
	require.NotEmpty(t, first.Header.Get("X-Slack-Signature"))
	require.Equal(t, []string{"subteam_members_changed", "subteam_updated"}, b.kinds())
	d := b.sent()[0]
	require.Equal(t, "application/json", d.Header.Get("Content-Type"))
	require.Equal(t, b.slack.Sign([]byte(d.Body), stampOf(t, d.Header)).Get("X-Slack-Signature"), d.Header.Get("X-Slack-Signature"))
	require.Empty(t, d.Header.Get("X-Slack-Retry-Num"))
	p := decode(t, d.Body)
	require.Equal(t, "event_callback", p["type"])
	require.Equal(t, "A0EMULATOR", p["api_app_id"])
	require.Equal(t, "T0EMULATOR", p["team_id"])
	require.Regexp(t, "^Ev", p["event_id"])
	require.NotEqual(t, p["event_id"], decode(t, b.sent()[1].Body)["event_id"])
	require.Equal(t, []any{ana}, at(p, "event", "added_users"))
	require.Equal(t, []any{"U02CHEN"}, at(p, "event", "removed_users"))
	require.Equal(t, "1", at(p, "event", "added_users_count"))
	require.Equal(t, []any{bo, ana}, at(decode(t, b.sent()[1].Body), "event", "subteam", "users"))
}

func TestRule7EventsURLHasToEchoTheChallenge(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	b.app.noEcho = true
	require.ErrorContains(t, b.slack.VerifyEventsURL(soon(t)), "challenge")
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Deleted = true })
	b.settled()
	require.Empty(t, b.sent(), "an unverified URL gets no events")
	b.app.mu.Lock()
	b.app.noEcho = false
	b.app.mu.Unlock()
	require.NoError(t, b.slack.VerifyEventsURL(soon(t)))
	b.slack.Advance(time.Minute)
	b.settled()
	require.Equal(t, []string{"user_change"}, b.kinds(), "what was missed comes again")
}

func TestRule7EditsSendTheirEvents(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(s *emulator.Server){
		"user_change": func(s *emulator.Server) { s.UpdateUser(ana, func(u *emulator.User) { u.Deleted = true }) },
		"team_join":   func(s *emulator.Server) { s.PutUser(emulator.User{ID: "U9", Name: "nia"}) },
		"subteam_updated": func(s *emulator.Server) {
			s.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Disabled = true })
		},
		"channel_archive":    func(s *emulator.Server) { s.UpdateChannel(channel, func(c *emulator.Channel) { c.Archived = true }) },
		"channel_shared":     func(s *emulator.Server) { s.UpdateChannel(channel, func(c *emulator.Channel) { c.ExtShared = true }) },
		"channel_id_changed": func(s *emulator.Server) { s.RenameChannelID(channel, "C9MOVED") },
		"tokens_revoked":     func(s *emulator.Server) { s.RevokeTokens() },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			b := setup(t, listening)
			edit(b.slack)
			b.settled()
			require.Equal(t, []string{want}, b.kinds())
			require.Equal(t, want, at(decode(t, b.sent()[0].Body), "event", "type"))
		})
	}
}

func TestRule7UninstallingRevokesAndSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	b.slack.Uninstall()
	b.settled()
	require.ElementsMatch(t, []string{"tokens_revoked", "app_uninstalled"}, b.kinds())
	b.refused("account_inactive", "auth.test")
}

func TestRule7RenamedChannelKeepsItsMessagesUnderTheNewIDOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	ts := b.post("text", "x")
	require.True(t, b.slack.RenameChannelID(channel, "C9MOVED"))
	require.False(t, b.slack.RenameChannelID(channel, "C9AGAIN"))
	b.refused("channel_not_found", "chat.update", "channel", channel, "ts", ts, "text", "y")
	b.ok("chat.update", "channel", "C9MOVED", "ts", ts, "text", "y")
	require.Equal(t, "C9MOVED", b.newest("C9MOVED").Channel)
}

func TestRule7OnlySubscribedEventsWithTheirScopeAreSent(t *testing.T) {
	t.Parallel()
	b := setup(t, listening, func(c *emulator.Config) {
		c.Events, c.Scopes = []string{"user_change", "subteam_updated", "message.im"}, []string{"usergroups:read", "chat:write", "im:history"}
	})
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	b.slack.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = nil })
	dm := b.ok("chat.postMessage", "channel", ana, "text", "hi")["channel"].(string)
	_, err := b.slack.Reply(ana, dm, "", "answer")
	require.NoError(t, err)
	_, err = b.slack.Post(ana, channel, "not for the app", "")
	require.NoError(t, err)
	b.settled()
	require.Equal(t, []string{"subteam_updated", "message.im"}, b.kinds())
	require.Equal(t, "answer", at(decode(t, b.sent()[1].Body), "event", "text"))
	require.Equal(t, "im", at(decode(t, b.sent()[1].Body), "event", "channel_type"))
}

func TestRule7EventsAreRetriedAtOnceAfterAMinuteAndAfterFive(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(500) })
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	retries := func() []string {
		b.settled()
		nums := []string{}
		for _, d := range b.sent() {
			nums = append(nums, d.Header.Get("X-Slack-Retry-Num")+d.Header.Get("X-Slack-Retry-Reason"))
		}
		return nums
	}
	require.Equal(t, []string{"", "1http_error"}, retries())
	b.slack.Advance(59 * time.Second)
	require.Len(t, retries(), 2)
	b.slack.Advance(time.Second)
	require.Equal(t, []string{"", "1http_error", "2http_error"}, retries())
	b.slack.Advance(5 * time.Minute)
	require.Equal(t, []string{"", "1http_error", "2http_error", "3http_error"}, retries())
	b.slack.Advance(24 * time.Hour)
	require.Len(t, retries(), 4, "and then never again")
	require.Equal(t, b.sent()[0].Body, b.sent()[3].Body, "the same event, the same id")
}

func TestRule7RetriesEndWhenTheAppTakesTheEventOrDeclines(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	b.app.answers(func(w http.ResponseWriter, _ object) {
		w.Header().Set("X-Slack-No-Retry", "1")
		w.WriteHeader(500)
	})
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	b.settled()
	require.Len(t, b.sent(), 1, "it declined")
	n := 0
	b.app.answers(func(w http.ResponseWriter, _ object) {
		if n++; n == 1 {
			w.WriteHeader(503)
			return
		}
		w.WriteHeader(202)
	})
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "y" })
	b.settled()
	b.slack.Advance(time.Hour)
	b.settled()
	require.Len(t, b.sent(), 3, "any 2xx takes an event")
}

func TestRule7AnEventNobodyAnswersTimesOut(t *testing.T) {
	t.Parallel()
	b := setup(t, listening, impatient)
	require.Eventually(t, func() bool { return b.slack.VerifyEventsURL(soon(t)) == nil }, soonest, tick)
	b.app.hang(t)
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	b.settled()
	require.Len(t, b.sent(), 2)
	require.Equal(t, "http_timeout", b.sent()[1].Header.Get("X-Slack-Retry-Reason"))
}

func TestRule7EventsFollowTwoRedirectsAndNoMore(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	require.NoError(t, b.slack.VerifyEventsURL(soon(t)))
	hops := 0
	b.app.answers(func(w http.ResponseWriter, _ object) {
		if hops++; hops <= 2 {
			w.Header().Set("Location", "/moved")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	b.settled()
	require.Equal(t, 200, b.sent()[0].Status)
	b.app.answers(func(w http.ResponseWriter, _ object) {
		w.Header().Set("Location", "/moved")
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "y" })
	b.settled()
	require.Equal(t, "too_many_redirects", b.sent()[2].Header.Get("X-Slack-Retry-Reason"))
}

func TestRule7AnyEventCanBeSent(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	require.NoError(t, b.slack.Fire(soon(t), object{"type": "subteam_self_removed", "subteam_id": "S0SECURITY"}))
	require.Equal(t, "S0SECURITY", at(b.app.last(t).payload, "event", "subteam_id"))
	require.ErrorIs(t, b.slack.Fire(soon(t), object{}), emulator.ErrNotFound)
	b.slack.SetEventsURL("")
	require.ErrorIs(t, b.slack.Fire(soon(t), object{"type": "x"}), emulator.ErrNotFound)
}

func TestRule9InboundCanBeDuplicatedReorderedLostAndLate(t *testing.T) {
	t.Parallel()
	b := setup(t, listening)
	edit := func(title string) { b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = title }) }
	titles := func() []any {
		b.settled()
		out := []any{}
		for _, d := range b.sent() {
			out = append(out, at(decode(t, d.Body), "event", "user", "profile", "title"))
		}
		return out
	}
	b.slack.AddFault(emulator.Fault{Method: emulator.ForEvents, Kind: emulator.Duplicate})
	edit("twice")
	require.Equal(t, []any{"twice", "twice"}, titles())
	b.slack.AddFault(emulator.Fault{Method: emulator.ForEvents, Kind: emulator.OutOfOrder})
	edit("late")
	require.Len(t, titles(), 2)
	edit("early")
	require.Equal(t, []any{"twice", "twice", "early", "late"}, titles())
	b.slack.AddFault(emulator.Fault{Method: emulator.ForEvents, Kind: emulator.OutOfOrder})
	edit("held")
	b.settled()
	b.slack.ReleaseHangs()
	require.Equal(t, "held", titles()[4])
	b.slack.AddFault(emulator.Fault{Method: emulator.ForEvents, Kind: emulator.Drop})
	edit("lost")
	require.Equal(t, []any{"lost"}, titles()[5:], "an event comes again")
	b.slack.AddFault(emulator.Fault{Method: emulator.ForEvents, Kind: emulator.Slow, DelayMS: 1})
	edit("slow")
	require.Len(t, titles(), 7)
}

func TestRule9ClicksCanBeDuplicatedReorderedAndLost(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.slack.AddFault(emulator.Fault{Method: emulator.ForInteractions, Kind: emulator.Duplicate})
	require.Empty(t, b.click(ts, "cs.approve").Warning)
	sent := b.slack.Deliveries()
	require.Len(t, sent, 2)
	require.Equal(t, sent[0].Body, sent[1].Body)

	b.slack.AddFault(emulator.Fault{Method: emulator.ForInteractions, Kind: emulator.Drop})
	require.NotEmpty(t, b.click(ts, "cs.approve").Warning)
	require.Len(t, b.slack.Deliveries(), 2, "lost, and never sent again")

	b.slack.AddFault(emulator.Fault{Method: emulator.ForInteractions, Kind: emulator.OutOfOrder})
	held := make(chan error, 1)
	go func() {
		_, err := b.slack.Click(t.Context(), bo, channel, ts, "cs.ask", true)
		held <- err
	}()
	require.NoError(t, b.slack.Wait(soon(t), planTaken))
	require.Eventually(t, func() bool {
		b.click(ts, "cs.deny") // again, as the first may come before the other waits
		return len(held) == 1
	}, soonest, tick)
	require.NoError(t, <-held)
	got := b.slack.Deliveries()[2:]
	asked := slices.IndexFunc(got, func(d emulator.Delivery) bool { return pressedIn(t, d) == "cs.ask" })
	require.Positive(t, asked, "after at least one of the later clicks")
}

// pressedIn returns which button a delivery is about.
func pressedIn(t *testing.T, d emulator.Delivery) any {
	t.Helper()
	form, err := url.ParseQuery(d.Body)
	require.NoError(t, err)
	return at(decode(t, form.Get("payload")), "actions", 0, "action_id")
}

func stampOf(t *testing.T, h http.Header) time.Time {
	t.Helper()
	var unix int64
	require.NoError(t, json.Unmarshal([]byte(h.Get("X-Slack-Request-Timestamp")), &unix))
	return time.Unix(unix, 0)
}

func TestRule7SigningSecretCanBeRotated(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := wallClock()
	old := b.slack.Sign([]byte("x"), at).Get("X-Slack-Signature")
	b.slack.SetSigningSecret("new")
	require.NotEqual(t, old, b.slack.Sign([]byte("x"), at).Get("X-Slack-Signature"))
	require.Equal(t, emulator.New(emulator.Config{SigningSecret: "new"}).Sign([]byte("x"), at), b.slack.Sign([]byte("x"), at))
	b.slack.SetSigningSecret("")
	require.Equal(t, old, b.slack.Sign([]byte("x"), at).Get("X-Slack-Signature"))
}

func TestRule7SlashCommandsAreAFlatFormAndTheirAnswerIsShown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.CommandsURL = c.InteractionsURL + "/commands" })
	b.app.answers(func(w http.ResponseWriter, _ object) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"text":"You have *1* request"}`)
	})
	seen, err := b.slack.Slash(t.Context(), bo, channel, "/approvals", "mine")
	require.NoError(t, err)
	require.Empty(t, seen.Warning)
	require.Equal(t, "You have 1 request", seen.Message.Text)
	require.Equal(t, "You have 1 request", b.slack.Ephemerals(bo)[0].Text)
	require.Empty(t, b.slack.Messages(channel))
	got := b.app.last(t)
	require.Equal(t, "application/x-www-form-urlencoded", got.header.Get("Content-Type"))
	require.NotEmpty(t, got.header.Get("X-Slack-Signature"))
	for k, want := range map[string]any{
		"command": "/approvals", "text": "mine", "user_id": bo, "user_name": "bo", "team_id": "T0EMULATOR", "team_domain": "acme",
		"channel_id": channel, "channel_name": "billing-approvals", "api_app_id": "A0EMULATOR", "is_enterprise_install": "false",
	} {
		require.Equal(t, want, got.payload[k], k)
	}
	require.NotEmpty(t, got.payload["trigger_id"])
	status, _, _ := b.do("POST", pathOf(t, b, got.payload["response_url"]), "application/json", `{"text":"later"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "later", b.slack.Ephemerals(bo)[1].Text)
}

func pathOf(t *testing.T, b *bundle, responseURL any) string {
	t.Helper()
	s, _ := responseURL.(string)
	require.Greater(t, len(s), len(b.base))
	return s[len(b.base):]
}

func TestRule7SlashCommandsAnswerInTheChannelOrAsTextOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.CommandsURL = c.InteractionsURL })
	answer := func(kind, body string) emulator.Seen {
		b.app.answers(func(w http.ResponseWriter, _ object) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		})
		seen, err := b.slack.Slash(t.Context(), bo, channel, "/approvals", "")
		require.NoError(t, err)
		return seen
	}
	require.Nil(t, answer("text/plain", "").Message)
	require.Equal(t, "plain", answer("text/plain; charset=utf-8", "plain").Message.Text)
	answer("application/json", `{"response_type":"in_channel","text":"all see"}`)
	require.Equal(t, "all see", b.newest(channel).Text)
	require.NotEmpty(t, answer("application/json", `{"blocks":[{"type":"nonsense"}]}`).Warning)
	require.NotEmpty(t, answer("application/json", `{`).Warning)
}

func TestRule7AFailingCommandTellsThePerson(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.CommandsURL = c.InteractionsURL })
	warning := func() string {
		seen, err := b.slack.Slash(t.Context(), bo, channel, "/approvals", "")
		require.NoError(t, err)
		return seen.Warning
	}
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(503) })
	require.Equal(t, `/approvals failed with the error "http_service_error"`, warning())
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(401) })
	require.Equal(t, `/approvals failed with the error "http_client_error"`, warning())
	b.slack.SetCommandsURL("")
	require.Equal(t, `/approvals failed with the error "dispatch_failed"`, warning())
	require.Equal(t, "/approvals", b.slack.Warnings(bo)[0].Command)
}

func TestRule7ACommandNobodyAnswersTimesOut(t *testing.T) {
	t.Parallel()
	b := setup(t, impatient, func(c *emulator.Config) { c.CommandsURL = c.InteractionsURL })
	b.app.hang(t)
	seen, err := b.slack.Slash(t.Context(), bo, channel, "/approvals", "")
	require.NoError(t, err)
	require.Equal(t, `/approvals failed with the error "operation_timeout"`, seen.Warning)
}

func TestRule10CommandsDoNotCrossWorkspaces(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.CommandsURL, c.Commands = c.InteractionsURL, []string{"/approvals"} })
	for name, tc := range map[string]struct {
		user, channel, command string
		want                   error
	}{
		"external":  {"U02EXT", "C04PARTNER", "/approvals", emulator.ErrNotAllowed},
		"unknown":   {bo, channel, "/other", emulator.ErrNotFound},
		"no slash":  {bo, channel, "approvals", emulator.ErrNotFound},
		"elsewhere": {"U02GUEST", channel, "/approvals", emulator.ErrNotAllowed},
		"nowhere":   {bo, "C404", "/approvals", emulator.ErrNotFound},
	} {
		_, err := b.slack.Slash(t.Context(), tc.user, tc.channel, tc.command, "")
		require.ErrorIs(t, err, tc.want, name)
	}
	require.Zero(t, b.app.count())
	_, err := b.slack.Slash(t.Context(), bo, channel, "/approvals", "<!channel> & more")
	require.NoError(t, err)
	require.Equal(t, "&lt;!channel&gt; &amp; more", b.app.last(t).payload["text"])
}
