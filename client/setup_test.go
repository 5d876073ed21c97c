package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/client"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/policy"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

const configuration = `
server: {listen: "127.0.0.1:8080", public_url: "https://countersign.example.com"}
callers:
  - {name: payroll, key_sha256: KEY_payroll, owners: [ana], upstreams: [billing]}
operators: [dora]
people:
  - {name: ana, slack: U02ANA, key_sha256: KEY_ana}
  - {name: bo, slack: U02BO, key_sha256: KEY_bo}
  - {name: dora, slack: U02DORA, key_sha256: KEY_dora}
groups:
  - {name: security, members: [bo]}
upstreams:
  - {name: billing, base_url: "https://billing.internal/v1"}
rules:
  - {name: read-only, match: {upstream: billing, methods: [GET]}, action: allow}
  - {name: no-puts, match: {upstream: billing, methods: [PUT]}, action: deny, reason: nobody puts}
  - name: change
    match: {upstream: billing}
    stages: [{name: peer, need: [{from: [security], approvals: 1}], notify: {channel: "#c"}}]
`

// world is the real API on a database of its own. The upstream is played by the test.
type world struct {
	url    string
	store  *db.Store
	config *policy.Config
	keys   map[string]client.Secret // of the caller payroll, and of people
}

func setup(tb testing.TB) *world {
	tb.Helper()
	w := &world{keys: make(map[string]client.Secret)}
	text := configuration
	for _, who := range []string{"payroll", "ana", "bo", "dora"} {
		generate := policy.NewPersonKey
		if who == "payroll" {
			generate = policy.NewKey
		}
		key, hash, err := generate()
		require.NoError(tb, err, "make a key")
		w.keys[who], text = client.Secret(key), strings.ReplaceAll(text, "KEY_"+who, hash)
	}
	var err error
	w.config, err = policy.Parse("test.yaml", []byte(text), func(string) string { return "" })
	require.NoError(tb, err, "load the configuration")
	w.store = dbtest.Store(tb, dbtest.Pool(tb), &dbtest.Outbox{})
	server, err := api.New(api.Config{
		Store: w.store, Policy: func() *policy.Config { return w.config }, PublicURL: "https://countersign.example.com",
		CheckCall: checkCall, CheckCallbackURL: func(string) (string, error) { return "", nil },
		Now: time.Now, Logger: slog.New(slog.DiscardHandler), //nolint:forbidigo // long polls are real
	})
	require.NoError(tb, err, "build the server")
	listener := httptest.NewServer(server.Handler())
	tb.Cleanup(listener.Close)
	w.url = listener.URL
	return w
}

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

// as makes a client for the caller payroll or a person.
func (w *world) as(tb testing.TB, who string, change ...func(*client.Config)) *client.Client {
	tb.Helper()
	return clientAt(tb, w.url, append([]func(*client.Config){func(c *client.Config) { c.Key = w.keys[who] }}, change...)...)
}

func clientAt(tb testing.TB, url string, change ...func(*client.Config)) *client.Client {
	tb.Helper()
	config := client.Config{BaseURL: url, Key: "csk_test"}
	for _, f := range change {
		f(&config)
	}
	c, err := client.New(config)
	require.NoError(tb, err, "make a client")
	return c
}

func (w *world) advance(tb testing.TB, id string, decide db.Decide) {
	tb.Helper()
	_, err := w.store.Advance(context.WithoutCancel(tb.Context()), db.Ref{ID: id}, decide)
	require.NoError(tb, err, "advance %s", id)
}

// begin takes an approved ticket to executing.
func (w *world) begin(tb testing.TB, id string) {
	tb.Helper()
	w.advance(tb, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Claim("worker-7", w.config.Directory(), t.Plan, now)
	})
	w.advance(tb, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.BeginExecution(t.Epoch, "worker-7", t.Digest, w.config.Directory(), t.Plan, now)
	})
}

// reply is what the upstream of a test says.
type reply struct {
	status    int
	mediaType string
	body      string
	stored    string // what is kept of it, when that is not the body
	truncated bool
}

// finish ends an executing ticket with an answer.
func (w *world) finish(tb testing.TB, id string, r reply) {
	tb.Helper()
	sum := sha256.Sum256([]byte(r.body))
	kept := r.stored
	if kept == "" {
		kept = r.body
	}
	w.advance(tb, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		var why *approvals.Problem
		if r.status >= http.StatusMultipleChoices {
			why = &approvals.Problem{Code: "upstream_status", Detail: "the upstream answered " + http.StatusText(r.status)}
		}
		return t.FinishExecution(t.Epoch, "worker-7", approvals.Outcome{
			Kind: approvals.Answered, Success: why == nil, Problem: why, Result: &approvals.Result{
				ResultSummary: approvals.ResultSummary{
					Status: r.status, Size: int64(len(r.body)), Digest: hex.EncodeToString(sum[:]), Truncated: r.truncated,
					DurationMS: 12, ExecutedAt: now,
				},
				Headers: []approvals.Header{{Name: "Content-Type", Value: r.mediaType}}, Body: []byte(kept),
			},
		}, now)
	})
}

// made begins and finishes a call.
func (w *world) made(tb testing.TB, id string, r reply) {
	tb.Helper()
	w.begin(tb, id)
	w.finish(tb, id, r)
}

// approve lets bo approve a ticket, as a person does with a client of theirs.
func (w *world) approve(tb testing.TB, id string) {
	tb.Helper()
	bo := w.as(tb, "bo")
	t, err := bo.Ticket(tb.Context(), id)
	require.NoError(tb, err)
	t, err = bo.Decide(tb.Context(), id, client.Approve, t.Digest, 0, "looks right")
	require.NoError(tb, err)
	require.Equal(tb, client.Approved, t.State)
}

var deletion = client.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42", Justification: "case 991"}

func submit(tb testing.TB, c *client.Client, call client.Call) client.Ticket {
	tb.Helper()
	t, err := c.Submit(tb.Context(), call)
	require.NoError(tb, err, "submit %s", call.Path)
	return t
}

// inBackground does something and hands over what came of it.
func inBackground[T any](do func() (T, error)) <-chan outcome[T] {
	out := make(chan outcome[T], 1)
	go func() {
		v, err := do()
		out <- outcome[T]{v, err}
	}()
	return out
}

type outcome[T any] struct {
	value T
	err   error
}

func receive[T any](tb testing.TB, from <-chan T, what string) T {
	tb.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case v := <-from:
		return v
	case <-late.C:
		require.FailNow(tb, "it does not come", what)
		panic("unreachable")
	}
}
