package emulator_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

// drive posts to the driver and returns status and answer.
func (b *bundle) drive(path, body string) (int, object) {
	b.t.Helper()
	status, _, answer := b.do("POST", "/_emulator/"+path, "application/json", body)
	return status, decode(b.t, answer)
}

func (b *bundle) state() object {
	b.t.Helper()
	status, _, answer := b.do("GET", "/_emulator/state", "", "")
	require.Equal(b.t, http.StatusOK, status)
	return decode(b.t, answer)
}

func TestAnotherProcessCanDriveAWholeDecision(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	b.app.answers(func(_ http.ResponseWriter, p object) {
		b.call("views.open", "trigger_id", p["trigger_id"].(string), "view", fixture(t, "deny_modal"))
	})
	status, seen := b.drive("click", `{"user":"`+bo+`","channel":"`+channel+`","ts":"`+ts+`","action_id":"cs.deny","confirm":true}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, seen["sent"])
	require.Empty(t, seen["warning"])
	require.Contains(t, seen, "ack_ms")
	id := at(seen, "opened_view", "id").(string)
	require.Equal(t, id, at(b.state(), "views", 0, "id"))

	_, seen = b.drive("views/"+id+"/submit", `{"user":"`+bo+`","values":{"reason":{"v":"no"}}}`)
	require.Equal(t, "Please use at least 5 characters.", at(seen, "errors", "reason"))
	b.app.answers(nil)
	_, seen = b.drive("views/"+id+"/submit", `{"user":"`+bo+`","values":{"reason":{"v":"not today"}}}`)
	require.Equal(t, true, seen["closed"])
	require.Empty(t, b.state()["views"])
	require.Contains(t, at(b.state(), "channels", 0, "messages", 0, "text"), "Approval needed: billing-admin")
	require.Equal(t, "cs.approve", at(b.state(), "channels", 0, "messages", 0, "buttons", 0, "action_id"))
}

func TestDriverRefusesWhatAPersonCannotDo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	status, out := b.drive("click", `{"user":"U02GUEST","channel":"`+channel+`","ts":"`+ts+`","action_id":"cs.deny"}`)
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, out["error"], "not allowed")
	status, _ = b.drive("views/V404/close", `{"user":"`+bo+`"}`)
	require.Equal(t, http.StatusNotFound, status)
	status, _ = b.drive("click", `{"usr":"x"}`)
	require.Equal(t, http.StatusBadRequest, status, "a misspelt field is a mistake, not a default")
	status, _ = b.drive("messages", `{"user":"U02GUEST","channel":"`+channel+`","text":"hi"}`)
	require.Equal(t, http.StatusForbidden, status)
}

func TestDriverChangesTheWorkspace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for path, body := range map[string]string{
		"users":            `{"id":"U9NEW","name":"nia","real_name":"Nia"}`,
		"channels":         `{"id":"C9NEW","name":"new","members":["U0BOT","U9NEW"]}`,
		"usergroups":       `{"id":"S9NEW","handle":"new","members":["U9NEW"]}`,
		"interactions_url": `{"url":"` + b.app.URL + `/elsewhere"}`,
		"release":          `{}`,
	} {
		status, out := b.drive(path, body)
		require.Equal(t, http.StatusOK, status, "%s: %v", path, out)
	}
	_, out := b.drive("messages", `{"user":"U9NEW","channel":"C9NEW","text":"hi @bo <b>"}`)
	require.Equal(t, "hi @bo <b>", b.newest("C9NEW").Text)
	require.Equal(t, out["ts"], b.newest("C9NEW").TS)
	require.Equal(t, "hi <@U02BO> &lt;b&gt;", at(b.ok("conversations.history", "channel", "C9NEW"), "messages", 0, "text"))

	b.drive("faults", `{"method":"auth.test","kind":"ok_false"}`)
	require.Nil(t, b.call("auth.test")["error"])
	b.drive("faults", `{"method":"auth.test","kind":"ok_false","times":5}`)
	status, _, _ := b.do("DELETE", "/_emulator/faults", "", "")
	require.Equal(t, http.StatusOK, status)
	b.ok("auth.test")
	b.drive("auth", `{"error":"account_inactive"}`)
	b.refused("account_inactive", "auth.test")
	b.drive("auth", `{}`)
	b.drive("outage", `{"down":true}`)
	require.Equal(t, true, b.state()["outage"])
	b.drive("outage", `{"down":false}`)
	b.ok("auth.test")
}

func TestDriverSendsRawRequestsAndListsDeliveries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.app.answers(func(w http.ResponseWriter, _ object) { w.WriteHeader(401) })
	_, out := b.drive("raw", `{"body":"payload=%7B%7D","sign":true,"header":{"X-Slack-Signature":"v0=00"}}`)
	require.EqualValues(t, 401, out["status"])
	require.Equal(t, "v0=00", b.app.last(t).header.Get("X-Slack-Signature"))
	_, _, answer := b.do("GET", "/_emulator/deliveries", "", "")
	require.Equal(t, "payload=%7B%7D", at(decode(t, answer), "deliveries", 0, "body"))
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	_, payload := b.drive("payload", `{"user":"`+bo+`","channel":"`+channel+`","ts":"`+ts+`","action_id":"cs.deny"}`)
	require.Equal(t, "block_actions", payload["type"])
}

func TestWaitAnswersAtTheNextChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	seq := b.slack.Snapshot().Seq
	got := make(chan string, 1)
	go func() {
		resp, err := http.Get(fmt.Sprintf("%s/_emulator/wait?since=%d", b.base, seq)) //nolint:noctx // ends with the server
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = resp.Body.Close() }()
		raw, _ := io.ReadAll(resp.Body)
		got <- string(raw)
	}()
	b.post("text", "x")
	require.Equal(t, fmt.Sprintf(`{"seq":%d}`, seq+1), <-got)

	_, _, answer := b.do("GET", "/_emulator/wait?timeout_ms=0&since="+strconv.FormatUint(seq+99, 10), "", "")
	require.Equal(t, fmt.Sprintf(`{"seq":%d}`, seq+1), answer, "too long a wait ends with what there is")
}

func TestGoWaitWakesOnChangeAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	woken := make(chan error, 1)
	go func() {
		woken <- b.slack.Wait(t.Context(), func(s emulator.Snapshot) bool {
			return len(s.Channels[0].Messages) == 1 && s.Channels[0].Messages[0].Text == "x"
		})
	}()
	b.post("text", "x")
	require.NoError(t, <-woken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.slack.Wait(ctx, func(emulator.Snapshot) bool { return false }), context.Canceled)
	b.slack.Close()
	require.Error(t, b.slack.Wait(t.Context(), func(emulator.Snapshot) bool { return false }))
}

func TestOnlyLoopbackHostsAreServed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for host, want := range map[string]int{
		"localhost:80": 200, "127.0.0.1": 200, "[::1]:9": 200, "evil.example": 403, "127.0.0.1.evil.example": 403, "10.0.0.1:80": 403,
	} {
		for _, path := range []string{"/", "/_emulator/state", "/api/auth.test"} {
			status, _, _ := b.do("GET", path, "", "", "Host", host)
			require.Equal(t, want, status, "%s %s", host, path)
		}
	}
}

func TestOtherSitesCannotDriveTheEmulator(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, h := range map[string][2]string{
		"origin": {"Origin", "https://evil.example"}, "fetch metadata": {"Sec-Fetch-Site", "cross-site"},
	} {
		status, _, _ := b.do("POST", "/_emulator/outage", "text/plain", `{"down":true}`, h[0], h[1])
		require.Equal(t, http.StatusForbidden, status, name)
	}
	require.False(t, b.slack.Snapshot().Outage)
	status, _, _ := b.do("POST", "/_emulator/outage", "application/json", `{"down":true}`, "Origin", b.base)
	require.Equal(t, http.StatusOK, status, "its own page can")
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, body := b.do("POST", "/api/chat.postMessage", "application/json", `{"text":"`+strings.Repeat("x", 1<<20)+`"}`, "Authorization", "Bearer "+token)
	require.Equal(t, false, decode(t, body)["ok"])
	_, _, body = b.do("POST", "/api/chat.postMessage", "application/x-www-form-urlencoded", "token="+token+"&text="+strings.Repeat("x", 1<<20))
	require.Equal(t, "invalid_form_data", decode(t, body)["error"])
}

func TestStartServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	s := emulator.New(emulator.Config{})
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "nonsense"} {
		_, err := s.Start(t.Context(), addr)
		require.Error(t, err, addr)
	}
	ctx, stop := context.WithCancel(t.Context())
	base, err := s.Start(ctx, "127.0.0.1:0")
	require.NoError(t, err)
	require.Equal(t, base+"/api/", s.APIURL())
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	require.NoError(t, get())
	stop()
	require.Eventually(t, func() bool { return get() != nil }, soonest, tick)
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	secret := emulator.Secret("hunter2")
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", slog.Any("config", emulator.Config{BotToken: secret}), slog.Any("secret", secret))
	fmt.Fprintf(&out, "%v %+v %#v %s %q", secret, emulator.Config{SigningSecret: secret}, secret, secret, secret)
	require.NotContains(t, out.String(), "hunter2")
	require.Contains(t, out.String(), "***")
}
