package emulator_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

func TestRule11AnotherProcessCanDoWhatSlackDoes(t *testing.T) {
	t.Parallel()
	b := setup(t, standing)
	ok := func(path, body string) object {
		t.Helper()
		status, out := b.drive(path, body)
		require.Equal(t, http.StatusOK, status, "%s: %v", path, out)
		return out
	}
	ok("commands_url", `{"url":"`+b.app.URL+`"}`)
	ok("events_url", `{"url":"`+b.app.URL+`"}`)
	ok("events/verify", `{}`)
	require.Equal(t, b.app.URL, b.state()["events_url"])

	b.app.answers(func(_ http.ResponseWriter, p object) {
		if at(p, "event", "type") == "app_home_opened" {
			b.call("views.publish", "user_id", bo, "view", homeView)
		}
	})
	require.Equal(t, "home", at(ok("home", `{"user":"`+bo+`"}`), "opened_view", "type"))
	status, _, home := b.do("GET", "/_emulator/home/"+bo, "", "")
	require.Equal(t, http.StatusOK, status)
	id := decode(t, home)["id"].(string)
	require.Equal(t, id, at(b.state(), "homes", 0, "id"))
	require.Equal(t, "cs.view", at(b.state(), "homes", 0, "buttons", 0, "action_id"))
	require.Equal(t, true, ok("click", `{"user":"`+bo+`","view_id":"`+id+`","action_id":"cs.view"}`)["sent"])
	status, _, _ = b.do("GET", "/_emulator/home/"+ana, "", "")
	require.Equal(t, http.StatusNotFound, status)

	b.app.answers(func(w http.ResponseWriter, _ object) { _, _ = io.WriteString(w, "hello") })
	require.Equal(t, "hello", at(ok("commands", `{"user":"`+bo+`","channel":"`+channel+`","command":"/approvals","text":""}`), "message", "text"))

	ok("usergroups/S0ONCALL/members", `{"members":["`+ana+`"]}`)
	ok("events", `{"type":"app_rate_limited"}`)
	ok("events/wait", `{}`)
	require.Equal(t, []string{"app_home_opened", "block_actions", "slash_commands", "subteam_members_changed", "subteam_updated", "app_rate_limited"}, b.kinds())

	before := b.state()["now_ms"].(float64)
	require.EqualValues(t, before+60_000, ok("clock", `{"advance_ms":60000}`)["now_ms"])
	ok("limits", `{"on":true,"methods":{"auth.test":1}}`)
	b.ok("auth.test")
	status, _, _ = b.status("auth.test")
	require.Equal(t, http.StatusTooManyRequests, status)
	ok("limits", `{}`)
	ok("tokens", `{"token":"xoxb-two","scopes":["users:read"]}`)
	out, _ := b.callAs("xoxb-two", "users.info", "user", bo)
	require.Equal(t, true, out["ok"])
	ok("scopes", `{"scopes":[]}`)
	b.refused("missing_scope", "users.info", "user", bo)
	ok("signing_secret", `{"secret":"other"}`)
	ok("channels/"+channel+"/rename", `{"to":"C9"}`)
	status, _ = b.drive("channels/"+channel+"/rename", `{"to":"C9"}`)
	require.Equal(t, http.StatusNotFound, status)
	status, _ = b.drive("usergroups/S404/members", `{}`)
	require.Equal(t, http.StatusNotFound, status)

	ok("revoke", `{}`)
	b.refused("token_revoked", "auth.test")
	ok("uninstall", `{}`)
	b.refused("account_inactive", "auth.test")
	ok("socket", `{"on":true}`)
	require.Equal(t, true, b.state()["socket_mode"])
	ok("socket/cut", `{}`)
	ok("socket/disconnect", `{"reason":"link_disabled"}`)
	require.Equal(t, false, b.state()["socket_mode"])
	status, _ = b.drive("socket/send", `{}`)
	require.Equal(t, http.StatusBadGateway, status)
}

func TestRule12StandaloneSaysWhereItIsAndKeepsConfiguredSecrets(t *testing.T) {
	t.Parallel()
	var out lockedBuffer
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- emulator.RunStandalone(ctx, "127.0.0.1:0", &out, emulator.Config{BotToken: "xoxb-mine", EventsURL: "http://127.0.0.1:1/events"})
	}()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "_emulator") }, soonest, tick)
	require.NotContains(t, out.String(), "xoxb-mine")
	require.Contains(t, out.String(), "emulator-signing-secret", "what is built in is no secret")
	require.Contains(t, out.String(), "http://127.0.0.1:1/events")
	stop()
	require.NoError(t, <-done)
	require.Error(t, emulator.RunStandalone(t.Context(), "0.0.0.0:0", io.Discard, emulator.Config{}))
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func TestRule12ClockMovesByHandAndStandsOtherwise(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_795_447_000, 0)
	c := emulator.NewClock(start)
	require.Equal(t, start, c.Now())
	c.Advance(time.Hour)
	require.Equal(t, start.Add(time.Hour), c.Now())
	running := emulator.RunningClock(nil)
	before := running.Now()
	running.Advance(time.Hour)
	require.GreaterOrEqual(t, running.Now().Sub(before), time.Hour)
}

func TestRule12TheSameStoryHasTheSameIDs(t *testing.T) {
	t.Parallel()
	story := func() []any {
		b := setup(t, listening)
		ts := b.post("text", "t", "blocks", `[{"type":"section","text":{"type":"plain_text","text":"x"}}]`)
		b.ok("views.publish", "user_id", bo, "view", homeView)
		home, _ := b.slack.PublishedHome(bo)
		b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
		b.settled()
		return []any{ts, b.newest(channel).Parts[0].BlockID, home.ID, home.Hash, decode(t, b.sent()[0].Body)["event_id"]}
	}
	require.Equal(t, story(), story())
}
