package emulator_test

import (
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

type object = map[string]any

// clock is a workspace clock that tests move by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wallClock is real time, which signatures carry.
func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // signatures are compared with real time
}

// received is one interaction as the app got it.
type received struct {
	header  http.Header
	body    string
	payload object
}

// app is the other side: it keeps what it is sent and answers as the test says.
type app struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer func(w http.ResponseWriter, payload object)
	noEcho bool // url_verification gets no challenge back
}

func newApp(t *testing.T) *app {
	t.Helper()
	a := &app{}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(raw))
	var payload object
	switch {
	case form.Has("payload"):
		_ = json.Unmarshal([]byte(form.Get("payload")), &payload)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		_ = json.Unmarshal(raw, &payload)
	default:
		payload = object{}
		for k, v := range form {
			payload[k] = v[0]
		}
	}
	if payload["type"] == "url_verification" {
		a.verify(w, payload)
		return
	}
	a.mu.Lock()
	a.got = append(a.got, received{header: r.Header, body: string(raw), payload: payload})
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		answer(w, payload)
	}
}

// verify answers the handshake, unless the test wants it answered otherwise.
func (a *app) verify(w http.ResponseWriter, payload object) {
	a.mu.Lock()
	wrong := a.noEcho
	a.mu.Unlock()
	if !wrong {
		_, _ = io.WriteString(w, payload["challenge"].(string))
	}
}

func (a *app) answers(f func(w http.ResponseWriter, payload object)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = f
}

func (a *app) last(t *testing.T) received {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(t, a.got, "the app was sent nothing")
	return a.got[len(a.got)-1]
}

func (a *app) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.got)
}

// bundle is a workspace with its app and a clock.
type bundle struct {
	t     *testing.T
	slack *emulator.Server
	app   *app
	clock *clock
	base  string
}

const (
	channel = "C01BILLING"
	ana     = "U02ANA"
	bo      = "U02BO"
	token   = "xoxb-test"
)

func setup(t *testing.T, edits ...func(*emulator.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, app: newApp(t), clock: &clock{now: time.Unix(1_795_447_000, 0)}}
	cfg := emulator.Config{
		BotToken: token, Workspace: emulator.Demo(), InteractionsURL: b.app.URL, Now: b.clock.Now,
		AckTimeout: time.Minute, // no test may depend on how fast the machine is
		Scopes:     append(emulator.DefaultScopes(), "channels:history", "groups:history", "im:history", "users:read.email", "im:read"),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	b.slack = emulator.New(cfg)
	srv := httptest.NewServer(b.slack)
	t.Cleanup(srv.Close)
	t.Cleanup(b.slack.Close)
	b.base = srv.URL
	b.slack.SetBaseURL(srv.URL)
	return b
}

// do sends a request and returns status, headers and body.
func (b *bundle) do(method, target, contentType, body string, header ...string) (int, http.Header, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+target, strings.NewReader(body))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", contentType)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(b.t, err)
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return resp.StatusCode, resp.Header, string(raw)
}

// call calls a Web API method with a form, as Slack's clients do for most methods.
func (b *bundle) call(method string, args ...string) object {
	b.t.Helper()
	form := url.Values{"token": {token}}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	status, _, body := b.do(http.MethodPost, "/api/"+method, "application/x-www-form-urlencoded", form.Encode())
	require.Equal(b.t, http.StatusOK, status, "Slack answers errors with 200 too")
	return decode(b.t, body)
}

// ok is call for what must succeed.
func (b *bundle) ok(method string, args ...string) object {
	b.t.Helper()
	out := b.call(method, args...)
	require.Equal(b.t, true, out["ok"], "%s: %v", method, out)
	return out
}

// refused is call for what must fail with an error word.
func (b *bundle) refused(want, method string, args ...string) object {
	b.t.Helper()
	out := b.call(method, args...)
	require.Equal(b.t, false, out["ok"], "%s should fail", method)
	require.Equal(b.t, want, out["error"], "%s: %v", method, out)
	return out
}

// post posts a message and returns its ts.
func (b *bundle) post(args ...string) string {
	b.t.Helper()
	return b.ok("chat.postMessage", append([]string{"channel", channel}, args...)...)["ts"].(string)
}

// click lets Bo press a button of the channel.
func (b *bundle) click(ts, action string) emulator.Seen {
	b.t.Helper()
	seen, err := b.slack.Click(b.t.Context(), bo, channel, ts, action, true)
	require.NoError(b.t, err)
	return seen
}

func decode(t *testing.T, body string) object {
	t.Helper()
	var out object
	require.NoError(t, json.Unmarshal([]byte(body), &out), "body: %s", body)
	return out
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	raw, err := fs.ReadFile(os.DirFS("testdata"), name+".json")
	require.NoError(t, err)
	return string(raw)
}

// find returns the newest message of the channel as people see it.
func (b *bundle) newest(ch string) emulator.Message {
	b.t.Helper()
	ms := b.slack.Messages(ch)
	require.NotEmpty(b.t, ms)
	return ms[len(ms)-1]
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func at(v any, path ...any) any {
	for _, p := range path {
		switch key := p.(type) {
		case string:
			o, _ := v.(object)
			v = o[key]
		case int:
			list, _ := v.([]any)
			if key >= len(list) {
				return nil
			}
			v = list[key]
		}
	}
	return v
}
