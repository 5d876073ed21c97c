package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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

const frontConfiguration = `
callers:
  - name: payroll
    key_sha256: KEY_HASH
    owners: [ana]
    upstreams: [billing, plain, caching]
    callbacks: {verification: waived, origins: ["https://hooks.example.com"], secret: env:CALLBACK_SECRET}
people:
  - {name: ana, email: ana@example.com}
  - {name: bo, email: bo@example.com}
  - {name: zoe, email: zoë@example.com}
upstreams:
  - name: billing
    base_url: "UPSTREAM/v1"
    timeout: 20s
    max_response: 64KiB
    credentials: {header: X-Api-Key, value: env:UPSTREAM_TOKEN}
    response_headers: [content-type, etag, location, retry-after, x-request-id, content-disposition]
  - {name: plain, base_url: "UPSTREAM", timeout: 200ms, request_headers: [], response_headers: []}
  - {name: caching, base_url: "UPSTREAM", response_headers: [cache-control, last-modified]}
rules:
  - {name: keyed, match: {upstream: billing, path: /keyed}, action: allow, idempotency_key: required}
  - {name: secret, match: {upstream: billing, path: /secret}, action: allow, sensitive: true}
  - {name: closed, match: {upstream: billing, path: /closed}, action: deny, reason: not today}
  - {name: reads, match: {methods: [GET, HEAD, OPTIONS]}, action: allow}
  - {name: open, match: {upstream: billing, path: "/open/{rest...}"}, action: allow}
  - name: change
    match: {}
    stages: [{name: peer, need: [{from: [bo], approvals: 1}], notify: {channel: "#c"}}]
`

// upstreamToken is what the upstream knows Countersign by.
const upstreamToken = "sk_upstream_0123456789"

// arrived is a request as the upstream read it.
type arrived struct {
	method, target string
	header         http.Header
	body           string
}

// frontWorld is a server with an upstream behind it.
type frontWorld struct {
	*bundle
	upstream string
	got      chan arrived
	answers  chan http.HandlerFunc // the next answers; without one: 200 and {"ok":true}
}

// setupFront serves the front. With workers, calls are made for real: directly, unless a
// change takes that away.
func setupFront(t *testing.T, workers bool, change ...func(*api.Config)) *frontWorld {
	t.Helper()
	w := &frontWorld{got: make(chan arrived, 1000), answers: make(chan http.HandlerFunc, 1000)}
	upstream := httptest.NewServer(http.HandlerFunc(w.answer))
	t.Cleanup(upstream.Close)
	w.upstream = upstream.URL
	pool := dbtest.Pool(t)
	outbox, err := jobs.NewOutbox()
	require.NoError(t, err, "make the outbox")
	store := dbtest.Store(t, pool, outbox)
	config, key := frontConfig(t, w.upstream)
	if workers {
		runner := startRunner(t, jobs.Config{Pool: pool, Store: store, Outbox: outbox, Policy: func() *policy.Config { return config }})
		change = append([]func(*api.Config){func(c *api.Config) {
			c.Direct = func(ctx context.Context, id string, sink api.AnswerSink) error { return runner.Direct(ctx, id, sink) }
		}}, change...)
	}
	w.bundle = setupOn(t, store, append([]func(*api.Config){func(c *api.Config) { c.Now = wallClock }}, change...)...)
	w.pool, w.config, w.key = pool, config, key
	return w
}

func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // real connections have deadlines by the real clock
}

func frontConfig(t *testing.T, upstream string) (c *policy.Config, key string) {
	t.Helper()
	key, hash, err := policy.NewKey()
	require.NoError(t, err, "make a key")
	text := strings.NewReplacer("KEY_HASH", hash, "UPSTREAM/", upstream+"/", `"UPSTREAM"`, `"`+upstream+`"`).Replace(frontConfiguration)
	c, err = policy.Parse("front.yaml", []byte(text), func(name string) string {
		if name == "UPSTREAM_TOKEN" {
			return upstreamToken
		}
		return "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	})
	require.NoError(t, err, "load the configuration")
	return c, key
}

func startRunner(t *testing.T, c jobs.Config) *jobs.Runner {
	t.Helper()
	var err error
	c.Executor, err = egress.NewExecutor(egress.ExecutorConfig{Version: "test", Now: wallClock})
	require.NoError(t, err, "make the executor")
	c.Deliverer, err = egress.NewDeliverer(egress.DelivererConfig{Version: "test", Now: wallClock})
	require.NoError(t, err, "make the deliverer")
	t.Cleanup(c.Deliverer.Close)
	c.UnstartedGrace = time.Second // or a ticket that is nobody's waits for 15
	c.Now, c.Logger = wallClock, slog.New(slog.DiscardHandler)
	runner, err := jobs.New(c)
	require.NoError(t, err, "make the runner")
	require.NoError(t, runner.Start(t.Context()), "start the runner")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		require.NoError(t, runner.Stop(ctx), "stop the runner")
	})
	return runner
}

// answer is the upstream.
func (w *frontWorld) answer(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // not received in full
	}
	w.got <- arrived{method: r.Method, target: r.RequestURI, header: r.Header.Clone(), body: string(body)}
	select {
	case next := <-w.answers:
		next(rw, r)
	default:
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"ok":true}`)
	}
}

// requireNoCall asserts that nothing has reached the upstream.
func (w *frontWorld) requireNoCall(t *testing.T) {
	t.Helper()
	require.Empty(t, w.got, "calls of the upstream")
}

func (w *frontWorld) arrival(t *testing.T) arrived {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-w.got:
		return a
	case <-timer.C:
		require.FailNow(t, "nothing reached the upstream")
		return arrived{}
	}
}

// send makes a request whose answer may be anything, and is not held against openapi.yaml.
func (w *frontWorld) send(t *testing.T, method, path, body string, pairs ...string) reply {
	t.Helper()
	res := w.stream(t, method, path, body, pairs...)
	defer res.Body.Close() //nolint:errcheck // read to the end below
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err, "read the answer to %s %s", method, path)
	return reply{status: res.StatusCode, header: res.Header, raw: raw}
}

// stream is send without reading the body.
func (w *frontWorld) stream(t *testing.T, method, path, body string, pairs ...string) *http.Response {
	t.Helper()
	req := w.request(t, call{method: method, path: path, header: headers(pairs...)})
	if body != "" {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader([]byte(body))), int64(len(body))
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	res, err := transport.RoundTrip(req)
	require.NoError(t, err, "%s %s", method, path)
	return res
}

// ticketOf is the ticket that an answer of the front names.
func ticketOf(t *testing.T, h http.Header) string {
	t.Helper()
	id := h.Get("Countersign-Ticket")
	require.True(t, approvals.ValidTicketID(id), "Countersign-Ticket is %q", id)
	return id
}

// requireOurs asserts that an answer is one of ours about a ticket, and returns its id.
func requireOurs(t *testing.T, r reply, state approvals.State) string {
	t.Helper()
	require.Equal(t, string(state), r.header.Get("Countersign-State"), "state in %v %s", r.header, r.raw)
	return ticketOf(t, r.header)
}

// requireTheirs asserts that an answer is the upstream's, and returns the ticket's id.
func requireTheirs(t *testing.T, r reply) string {
	t.Helper()
	require.NotContains(t, r.header, "Countersign-State", "%d %s", r.status, r.raw)
	return ticketOf(t, r.header)
}

// until waits for a state of a ticket.
func (w *frontWorld) until(t *testing.T, id string, state approvals.State) {
	t.Helper()
	eventually(t, "ticket "+id+" is "+string(state), func() bool {
		_, now, err := w.store.Version(t.Context(), db.Ref{ID: id})
		return err == nil && now == state
	})
}

// signal is a thing that happens once.
type signal struct {
	once sync.Once
	c    chan struct{}
}

func newSignal() *signal { return &signal{c: make(chan struct{})} }

func (s *signal) fire() { s.once.Do(func() { close(s.c) }) }

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	raw, err := io.ReadAll(r)
	require.NoError(t, err, "read an answer")
	return raw
}
