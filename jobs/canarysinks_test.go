package jobs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/jobs"
	"countersign/policy"
)

const canaryConfiguration = `
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR, channel: "#approvals"}
egress: {callbacks: {allow_loopback: true, allow_http: true}}
callers:
  - {name: payroll-bot, key_sha256: KEY_HASH, owners: [dora], upstreams: [billing, proxied, failing],
     callbacks: {verification: waived, origins: ["RECEIVER"], secret: "env:CALLBACK"}}
people: [{name: ana, slack: U0ANA}, {name: dora, slack: U0DORA}]
upstreams:
  - name: billing
    base_url: "UPSTREAM"
    timeout: 5s
    response_headers: [content-type, etag, location, retry-after, x-request-id, link]
    credentials:
      - {header: X-Env, value: "env:TOKEN"}
      - {header: Authorization, prefix: "Bearer ", value: "file:FILE"}
      - {header: X-Printed, prefix: "v1 ", value: "exec:/bin/cat PRINTED"}
  - {name: proxied, base_url: "UPSTREAM", timeout: 5s, proxy: "PROXY", proxy_authorization: "env:PROXY_AUTHORIZATION"}
  - {name: failing, base_url: "UPSTREAM", credentials: {header: X-Printed, value: "exec:/bin/cat PRINTED /nowhere/at/all"}}
rules:
  - {name: all, match: {methods: [GET]}, action: allow}
  - {name: ask, match: {}, stages: [{name: ana, need: [{from: [ana], approvals: 1}]}]}
`

// hostile is an upstream that says whatever it was told, in every spelling it can think of.
func hostile(rw http.ResponseWriter, r *http.Request) {
	told := strings.Join([]string{r.Header.Get("X-Env"), r.Header.Get("Authorization"), r.Header.Get("X-Printed")}, " and ")
	for _, name := range []string{"Etag", "Location", "X-Request-Id", "Link"} {
		rw.Header().Set(name, "https://evil.example.com/?"+told)
	}
	switch r.URL.Path {
	case "/redirect":
		rw.WriteHeader(http.StatusTemporaryRedirect)
	case "/error":
		rw.WriteHeader(http.StatusInternalServerError)
	case "/malformed", "/cut":
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // a test's
		if r.URL.Path == "/cut" {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"+told)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 "+told+"\r\n"+told+"\r\n\r\n")
		return
	}
	for _, name := range []string{"X-Env", "Authorization", "X-Printed"} {
		value := r.Header.Get(name)
		_, secret, found := strings.Cut(value, " ")
		if !found {
			secret = value
		}
		for spelling, needles := range spellings(secret) {
			if spelling == "backwards" || spelling == "URL twice" {
				continue // whoever wants to can always hide it
			}
			_, _ = io.WriteString(rw, strings.Join(needles[:1], " ")+" ")
		}
		_, _ = io.WriteString(rw, value)           //nolint:gosec // that is what it is for
		_ = http.NewResponseController(rw).Flush() // and across pieces
	}
}

// canaryWorld is the whole service on a database of its own, with a secret in every place that
// can hold one.
type canaryWorld struct {
	*world
	birds   canaries
	key     string
	book    *logbook
	api     string
	answers []byte // everything that the API said
	space   workspace
}

func setupCanaries(t *testing.T) *canaryWorld {
	t.Helper()
	key, hash, err := policy.NewKey()
	require.NoError(t, err)
	bird := func(name string) string { return "cAn/" + name + `<+&"=` + strings.Repeat("7q", 6) }
	c := &canaryWorld{world: setup(t), key: key, book: &logbook{}, space: newWorkspace(t)}
	c.birds = canaries{
		"credential of the environment": bird("env"), "credential of a file": bird("file"), "credential of a program": bird("exec"),
		"password of the proxy": "cAnproxy" + strings.Repeat("8w", 8), "callback secret": strings.TrimPrefix(callbackSecret, "whsec_"),
		"API key": key, "Slack's token": "xoxb-cAnary-" + strings.Repeat("9e", 8), "Slack's signing secret": "cAnsigning" + strings.Repeat("6t", 8),
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+c.birds["password of the proxy"]))
	talkative := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if conn, _, err := http.NewResponseController(rw).Hijack(); err == nil {
			defer conn.Close() //nolint:errcheck // a test's
			_, _ = io.WriteString(conn, "HTTP/1.1 407 "+r.Header.Get("Proxy-Authorization")+"\r\nX: "+r.Header.Get("Proxy-Authorization")+"\r\n\r\n")
		}
	}))
	t.Cleanup(talkative.Close)
	c.upstream.answers(hostile)
	text := strings.NewReplacer(
		"KEY_HASH", hash, "UPSTREAM", c.upstream.url(), "RECEIVER", c.receiver.url(), "PROXY_AUTHORIZATION", "PROXY_AUTHORIZATION", "PROXY", talkative.URL,
		"FILE", keep(t, c.birds["credential of a file"]), "PRINTED", keep(t, c.birds["credential of a program"]),
	).Replace(canaryConfiguration)
	config, err := policy.Parse("canary.yaml", []byte(text), func(name string) string {
		return map[string]string{
			"BOT": c.birds["Slack's token"], "SIGNING": c.birds["Slack's signing secret"], "CALLBACK": callbackSecret,
			"TOKEN": c.birds["credential of the environment"], "PROXY_AUTHORIZATION": basic,
		}[name]
	})
	require.NoError(t, err)
	c.config.Store(config)
	c.serve(t)
	return c
}

// serve starts workers and the API, which say all they have to say to one log.
func (c *canaryWorld) serve(t *testing.T) {
	t.Helper()
	store, err := db.New(db.Config{Pool: c.pool, Outbox: c.outbox, Box: dbtest.Box(t), Logger: c.book.logger()})
	require.NoError(t, err)
	t.Cleanup(store.Close)
	c.store = store
	var panicked atomic.Bool
	runner := c.started(c.withSlack(c.space.client()), func(config *jobs.Config) {
		config.Logger = c.book.logger()
		config.Fresh = func(_ context.Context, t approvals.Ticket) error {
			if t.Call.Path == "/panic" && panicked.CompareAndSwap(false, true) {
				panic(fmt.Sprintf("panic %+v %#v", *c.config.Load(), *c.config.Load()))
			}
			return nil
		}
	})
	server, err := api.New(api.Config{
		Store: store, Policy: c.config.Load, Now: wallClock, Version: "test", Logger: c.book.logger(),
		CheckCall:        func(string, string, []approvals.Header) error { return nil },
		CheckCallbackURL: func(raw string) (string, error) { return strings.TrimSuffix(raw, "/hook"), nil },
		Direct:           func(ctx context.Context, id string, sink api.AnswerSink) error { return runner.Direct(ctx, id, sink) },
	})
	require.NoError(t, err)
	listener := httptest.NewServer(server.Handler())
	t.Cleanup(listener.Close)
	c.api = listener.URL
}

// asks makes a request of the caller and keeps the answer, head and all.
func (c *canaryWorld) asks(method, path, body string, headers ...string) (status int, answer string) {
	c.tb.Helper()
	req, err := http.NewRequestWithContext(c.tb.Context(), method, c.api+path, strings.NewReader(body))
	require.NoError(c.tb, err)
	req.Header.Set("Authorization", "Bearer "+c.key)
	for pair := range slices.Chunk(headers, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}
	resp, err := client.Do(req)
	require.NoError(c.tb, err)
	defer resp.Body.Close() //nolint:errcheck // read to its end
	got, _ := io.ReadAll(resp.Body)
	c.answers = fmt.Append(c.answers, resp.Header, string(got), "\n")
	return resp.StatusCode, string(got)
}

// submits hands in a call with a callback and waits until it is final and told.
func (c *canaryWorld) submits(upstream, method, path string) approvals.Ticket {
	c.tb.Helper()
	body, err := json.Marshal(map[string]any{
		"upstream": upstream, "method": method, "path": path, "justification": "for the test",
		"callback": map[string]any{"url": c.receiver.url() + "/hook"},
	})
	require.NoError(c.tb, err)
	status, answer := c.asks(http.MethodPost, "/v1/tickets", string(body), "Content-Type", "application/json", "Idempotency-Key", upstream+method+path)
	require.Equal(c.tb, http.StatusAccepted, status, answer)
	var made struct{ ID string }
	require.NoError(c.tb, json.Unmarshal([]byte(answer), &made))
	if method != http.MethodGet {
		c.decide(made.ID, "ana", approvals.Approve)
	}
	x := c.await(made.ID, "final and told", func(x approvals.Ticket) bool {
		return x.State.Final() && x.CallbackState == approvals.CallbackDelivered
	})
	for _, view := range []string{"", "/result", "/result?raw=true", "/events"} {
		c.asks(http.MethodGet, "/v1/tickets/"+x.ID+view, "")
	}
	return x
}

func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	c := setupCanaries(t)
	states := make(map[string]approvals.State)
	for _, path := range []string{"/echo", "/redirect", "/error", "/malformed", "/cut", "/panic"} {
		states[path] = c.submits("billing", http.MethodGet, path).State
	}
	states["asked"] = c.submits("billing", http.MethodDelete, "/echo").State
	states["proxied"] = c.submits("proxied", http.MethodGet, "/echo").State
	states["failing"] = c.submits("failing", http.MethodGet, "/echo").State
	require.Equal(t, map[string]approvals.State{
		"/echo": approvals.Succeeded, "/redirect": approvals.Failed, "/error": approvals.Failed, "/malformed": approvals.OutcomeUnknown,
		"/cut": approvals.Succeeded, "/panic": approvals.Succeeded, "asked": approvals.Succeeded, "proxied": approvals.Failed, "failing": approvals.Failed,
	}, states)
	for _, path := range []string{"/proxy/billing/echo", "/proxy/billing/redirect", "/proxy/billing/malformed", "/proxy/proxied/x", "/proxy/failing/x", "/v1/tickets"} {
		c.asks(http.MethodGet, path, "")
	}
	c.asks(http.MethodGet, "/v1/tickets", "", "Authorization", "Bearer "+c.key+"x")
	c.asks(http.MethodPost, "/v1/tickets", `{"upstream": "`+c.key, "Content-Type", "application/json", "Idempotency-Key", "k")
	c.settled()

	// The upstream did get them, so there was something to be found.
	shown := c.upstream.requests()[0].header
	require.Equal(t, c.birds["credential of the environment"], shown.Get("X-Env"))
	require.Equal(t, "Bearer "+c.birds["credential of a file"], shown.Get("Authorization"))
	require.Equal(t, "v1 "+c.birds["credential of a program"], shown.Get("X-Printed"))
	require.Contains(t, string(c.answers), "[redacted]")
	require.NotZero(t, c.number(`SELECT count(*) FROM river_job WHERE errors::text LIKE '%panic%'`), "a job panicked, and River wrote down why")

	for place, content := range c.sinks() {
		require.NotEmpty(t, content, place)
		require.Empty(t, c.birds.found(content), "in %s", place)
	}
}

// sinks is all that the service has written or said.
func (c *canaryWorld) sinks() map[string][]byte {
	c.tb.Helper()
	out := map[string][]byte{"the log": []byte(c.book.text()), "answers of the API": c.answers}
	for table, content := range dump(c.tb, c.url) {
		out["table "+table] = content
	}
	for _, r := range c.receiver.requests() {
		out["callbacks"] = fmt.Append(out["callbacks"], r.header, r.body)
	}
	slack, err := json.Marshal(c.space.Snapshot())
	require.NoError(c.tb, err)
	out["Slack"] = slack
	config := c.config.Load()
	printed, err := json.Marshal(config)
	require.NoError(c.tb, err)
	out["the configuration, printed"] = fmt.Appendf(printed, "%v %+v %#v %+v", *config, *config, *config, config.Upstreams)
	book := &logbook{}
	book.logger().Info("crash", slog.Any("config", config), slog.Any("upstreams", config.Upstreams), slog.Any("secret", egress.NewSecret(c.key)))
	slog.New(slog.NewTextHandler(book, nil)).Info("crash", slog.Any("config", config), slog.Any("callers", config.Callers), slog.Duration("after", time.Second))
	out["a crash dump"] = []byte(book.text())
	return out
}
