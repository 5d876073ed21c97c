package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/policy"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

const publicURL = "https://countersign.example.com"

const configuration = `
server: {listen: "127.0.0.1:8080", public_url: "https://countersign.example.com"}
callers:
  - name: payroll
    keys:
      - {name: main, sha256: KEY_payroll}
      - {name: submits, sha256: KEY_submitkey, scopes: [submit]}
      - {name: reads, sha256: KEY_readkey, scopes: [read]}
      - {name: cancels, sha256: KEY_cancelkey, scopes: [cancel]}
      - {name: answers, sha256: KEY_answerkey, scopes: [answer]}
      - {name: callbacks, sha256: KEY_callbackskey, scopes: [callbacks]}
      - {name: expired, sha256: KEY_expiredkey, expires: 2020-01-01T00:00:00Z}
      - {name: elsewhere, sha256: KEY_elsewherekey, networks: [10.1.0.0/16]}
      - {name: narrow, sha256: KEY_narrowkey, upstreams: [crm], methods: [GET]}
    login: [{issuer: "https://login.example.com", subject: "repo:acme/payroll", claims: {ref: refs/heads/main}}]
    owners: [ana, olaf]
    upstreams: [billing, crm]
    callbacks: {verification: waived, origins: ["https://hooks.example.com"], secret: env:CALLBACK_SECRET}
  - name: other
    key_sha256: KEY_other
    owners: [ana]
    upstreams: [billing]
    callbacks: {verification: waived, origins: ["https://other.example.com"], secret: env:CALLBACK_SECRET}
logins:
  - {issuer: "https://login.example.com", audience: countersign, email: true}
operators: [dora, ana]
auditors: [vera]
people:
  - {name: ana, slack: U02ANA, email: ana@example.com, key_sha256: KEY_ana}
  - {name: bo, slack: U02BO, email: bo@example.com, key_sha256: KEY_bo}
  - {name: chen, slack: U02CHEN, key_sha256: KEY_chen, login: {issuer: "https://login.example.com", subject: chen-1}}
  - {name: dora, slack: U02DORA, key_sha256: KEY_dora}
  - {name: eva, slack: U02EVA, key_sha256: KEY_eva}
  - {name: olaf, slack: U02OLAF, email: olaf@example.com, key_sha256: KEY_olaf}
  - {name: sam, email: sam@example.com, key_sha256: KEY_sam}
  - {name: vera, email: vera@example.com, key_sha256: KEY_vera}
groups:
  - {name: security, members: [ana, bo, chen]}
upstreams:
  - {name: billing, base_url: "https://billing.internal/v1"}
  - {name: crm, base_url: "https://crm.internal", methods: [GET, POST], request_headers: [accept]}
  - {name: vault, base_url: "https://vault.internal"}
rules:
  - {name: even-hours, match: {upstream: billing, methods: [GET], path: /hourly, when: "now.getHours() % 2 == 0"}, action: deny}
  - {name: read-only, match: {upstream: billing, methods: [GET]}, action: allow}
  - {name: no-options, match: {upstream: billing, methods: [OPTIONS]}, action: deny, reason: nobody needs this}
  - name: two-people
    match: {upstream: billing, methods: [PUT]}
    stages: [{name: both, need: [{from: [security], approvals: 2}], notify: {channel: "#c"}}]
  - name: urgent
    match: {upstream: billing, methods: [PATCH]}
    redact: [query.token]
    stages: [{name: peer, need: [{from: [security], approvals: 1}], comment: both, notify: {channel: "#c"}}]
    break_glass: {from: [eva, olaf], announce: "#loud"}
  - name: others-only
    match: {upstream: billing, methods: [HEAD], callers: [other]}
    action: deny
    reason: not for you
  - name: two-stages
    match: {upstream: billing, methods: [HEAD]}
    stages:
      - {name: first, need: [{from: [security], approvals: 1}], notify: {channel: "#c"}}
      - {name: second, need: [{from: [eva], approvals: 1}], notify: {channel: "#c"}}
  - name: change
    match: {upstream: billing}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: "#c"}}]
  - name: crm
    match: {upstream: crm}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: "#c"}}]
`

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// logBuffer is a buffer that requests may log into at the same time.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// bundle is a server on a database of its own, and what a test needs around it.
type bundle struct {
	server *api.Server
	url    string
	pool   *pgxpool.Pool
	store  *db.Store
	config *policy.Config
	clock  *clock
	logs   *logBuffer
	key    string            // of the caller payroll
	other  string            // of the caller other
	people map[string]string // personal keys, by name
}

func setup(t *testing.T, change ...func(*api.Config)) *bundle {
	t.Helper()
	pool := dbtest.Pool(t)
	b := setupOn(t, dbtest.Store(t, pool, &dbtest.Outbox{}), change...)
	b.pool = pool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT now()`).Scan(&b.clock.at), "set the clock by the database's")
	return b
}

// setupOn serves a store of the test's choice.
func setupOn(t *testing.T, store api.Store, change ...func(*api.Config)) *bundle {
	t.Helper()
	b := &bundle{clock: &clock{at: time.Unix(1_800_000_000, 0)}, logs: &logBuffer{}}
	b.store, _ = store.(*db.Store)
	b.config, b.people = testConfig(t)
	b.key, b.other = b.people["payroll"], b.people["other"]
	c := api.Config{
		Store: store, Policy: func() *policy.Config { return b.config }, PublicURL: publicURL,
		CheckCall: checkCall, CheckCallbackURL: checkCallbackURL, Now: b.clock.now, Version: "test",
		Logger: slog.New(slog.NewJSONHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	b.server, err = api.New(c)
	require.NoError(t, err, "build the server")
	listener := httptest.NewServer(b.server.Handler())
	t.Cleanup(listener.Close)
	b.url = listener.URL
	return b
}

// testConfig loads the configuration with fresh keys for everybody in it.
func testConfig(t *testing.T) (c *policy.Config, keys map[string]string) {
	t.Helper()
	keys = make(map[string]string)
	text := configuration
	for _, name := range regexp.MustCompile(`KEY_[a-z]+`).FindAllString(configuration, -1) {
		who := strings.TrimPrefix(name, "KEY_")
		generate := policy.NewPersonKey
		if who == "payroll" || who == "other" || strings.HasSuffix(who, "key") {
			generate = policy.NewKey
		}
		key, hash, err := generate()
		require.NoError(t, err, "make a key")
		keys[who], text = key, strings.Replace(text, name, hash, 1)
	}
	return parseConfig(t, text), keys
}

func parseConfig(t *testing.T, text string) *policy.Config {
	t.Helper()
	getenv := func(string) string { return "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=" }
	c, err := policy.Parse("test.yaml", []byte(text), getenv)
	require.NoError(t, err, "load the configuration")
	return c
}

// checkCall is wired as the service does it.
func checkCall(path, rawQuery string, headers []approvals.Header) error {
	if err := egress.CheckPath(path); err != nil {
		return err
	}
	if err := egress.CheckQuery(rawQuery); err != nil {
		return err
	}
	fields, names := make([]egress.Header, 0, len(headers)), make([]string, 0, len(headers))
	for _, h := range headers {
		fields, names = append(fields, egress.Header(h)), append(names, h.Name)
	}
	return egress.CheckHeaders(fields, names...)
}

func checkCallbackURL(raw string) (string, error) {
	u, err := egress.CheckURL(raw, egress.Policy{})
	if err != nil {
		return "", err
	}
	return egress.Origin(u), nil
}

// call is a request to be made; the zero key means the caller payroll, "-" none.
type call struct {
	method, path, body, key string
	header                  http.Header
}

// reply is an answer that has been checked against openapi.yaml.
type reply struct {
	status int
	header http.Header
	raw    []byte
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var out map[string]any
	require.NoError(t, json.Unmarshal(r.raw, &out), "decode %s", r.raw)
	return out
}

func (r reply) field(t *testing.T, path ...string) any {
	t.Helper()
	var at any = r.json(t)
	for _, name := range path {
		m, ok := at.(map[string]any)
		require.True(t, ok, "%v of %s is in no object", path, r.raw)
		at = m[name]
	}
	return at
}

func (r reply) id(t *testing.T) string {
	t.Helper()
	id, _ := r.field(t, "id").(string)
	require.True(t, approvals.ValidTicketID(id), "a ticket id in %s", r.raw)
	return id
}

func headers(pairs ...string) http.Header {
	h := make(http.Header)
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// do makes a request and checks the answer against openapi.yaml.
func (b *bundle) do(t *testing.T, c call) reply {
	t.Helper()
	req := b.request(t, c)
	res, err := http.DefaultTransport.RoundTrip(req) // RoundTrip: nothing is followed, nothing is added
	require.NoError(t, err, "%s %s", c.method, c.path)
	defer res.Body.Close() //nolint:errcheck // read to the end below
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err, "read the answer to %s %s", c.method, c.path)
	requireContract(t, req, c, res, raw)
	return reply{status: res.StatusCode, header: res.Header, raw: raw}
}

func (b *bundle) request(t *testing.T, c call) *http.Request {
	t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(t.Context(), c.method, b.url+c.path, body)
	require.NoError(t, err, "make a request")
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	switch c.key {
	case "":
		req.Header.Set("Authorization", "Bearer "+b.key)
	case "-":
	default:
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return req
}

const deletion = `{"upstream":"billing","method":"DELETE","path":"/customers/42","justification":"case 991"}`

var keys struct {
	sync.Mutex
	n int
}

func freshKey() string {
	keys.Lock()
	defer keys.Unlock()
	keys.n++
	return fmt.Sprintf("key-%d", keys.n)
}

// submit opens a ticket under a fresh Idempotency-Key.
func (b *bundle) submit(t *testing.T, body string) reply {
	t.Helper()
	r := b.do(t, call{method: "POST", path: "/v1/tickets", body: body, header: headers("Idempotency-Key", freshKey())})
	require.Equal(t, http.StatusAccepted, r.status, "submit %s: %s", body, r.raw)
	return r
}

func (b *bundle) get(t *testing.T, path string, pairs ...string) reply {
	t.Helper()
	return b.do(t, call{method: "GET", path: path, header: headers(pairs...)})
}

// approve lets a person approve the current stage, as a click in Slack would.
func (b *bundle) approve(t *testing.T, id, person string) {
	t.Helper()
	b.decide(t, id, person, approvals.Approve)
}

func (b *bundle) decide(t *testing.T, id, person string, v approvals.Verdict) {
	t.Helper()
	_, err := b.store.Advance(t.Context(), db.Ref{ID: id}, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		actor := approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack", Ref: "T1/U-secret"}
		return tk.Decide(actor, approvals.Decision{
			Person: person, Verdict: v, Stage: tk.Stage, Digest: tk.Digest, Comment: "looks right",
		}, b.config.Directory(), now)
	})
	require.NoError(t, err, "%s of %s by %s", v, id, person)
}

// begin takes an approved ticket to executing.
func (b *bundle) begin(t *testing.T, id string) {
	t.Helper()
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.Claim("worker-7", b.config.Directory(), tk.Plan, now)
	})
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.BeginExecution(tk.Epoch, "worker-7", tk.Digest, b.config.Directory(), tk.Plan, now)
	})
}

// finish ends an executing ticket with an answer.
func (b *bundle) finish(t *testing.T, id string, status int, body string) {
	t.Helper()
	var why *approvals.Problem
	if status >= http.StatusMultipleChoices {
		why = &approvals.Problem{Code: "upstream_status", Detail: "the upstream answered " + http.StatusText(status)}
	}
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{
			Kind: approvals.Answered, Success: why == nil, Problem: why, Result: &approvals.Result{
				ResultSummary: approvals.ResultSummary{
					Status: status, Size: int64(len(body)), Digest: strings.Repeat("ab", 32), DurationMS: 12, ExecutedAt: now,
				},
				Headers: []approvals.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte(body),
			},
		}, now)
	})
}

func (b *bundle) advance(t *testing.T, id string, decide db.Decide) {
	t.Helper()
	_, err := b.store.Advance(t.Context(), db.Ref{ID: id}, decide)
	require.NoError(t, err, "advance %s", id)
}

func (b *bundle) tickets(t *testing.T) int {
	t.Helper()
	var n int
	// Asked in cleanups too, when the test's context has ended.
	err := b.pool.QueryRow(context.WithoutCancel(t.Context()), `SELECT count(*) FROM tickets`).Scan(&n)
	require.NoError(t, err, "count the tickets")
	return n
}

// requireProblem asserts that an answer is a problem of a code, with its status and type.
func requireProblem(t *testing.T, r reply, status int, code string) {
	t.Helper()
	require.Equal(t, "application/problem+json", r.header.Get("Content-Type"), "media type of %s", r.raw)
	require.Equal(t, status, r.status, "status of %s", r.raw)
	require.Equal(t, code, r.field(t, "code"), "code of %s", r.raw)
	require.InEpsilon(t, float64(status), r.field(t, "status"), 0.1, "status in %s", r.raw)
	require.Equal(t, r.header.Get("X-Request-Id"), r.field(t, "request_id"), "request id of %s", r.raw)
}

// broken is a store that no test asks anything of, but whether a key was there before.
type broken struct{ api.Store }

// failing is a store that answers every submit with one error.
type failing struct {
	api.Store
	err error
}

func (f failing) Submit(context.Context, db.SubmitRequest) (db.SubmitResult, error) {
	return db.SubmitResult{}, f.err
}

func (f failing) Keyed(context.Context, string, db.IdempotencyKey) (approvals.Ticket, error) {
	return approvals.Ticket{}, f.err
}

func (broken) Keyed(context.Context, string, db.IdempotencyKey) (approvals.Ticket, error) {
	return approvals.Ticket{}, &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such ticket"}
}

// inBackground makes a request that is not answered yet.
func (b *bundle) inBackground(t *testing.T, c call) <-chan reply {
	t.Helper()
	out := make(chan reply, 1)
	go func() {
		defer close(out)
		out <- b.do(t, c)
	}()
	return out
}

func receive(t *testing.T, from <-chan reply) reply {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-from:
		return r
	case <-timer.C:
		require.FailNow(t, "no answer in time")
		return reply{}
	}
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	require.Eventually(t, check, patience, 2*time.Millisecond, what)
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
