package jobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/jobs"
	"countersign/notify"
	"countersign/policy"
	"countersign/slack"
)

const (
	callbackSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz" //nolint:gosec // made up
	callerName     = "payroll-bot"
	// patience is longer than River's scheduler takes to notice a job that is due.
	patience = 40 * time.Second
)

// shape is a configuration in the few words in which those of the tests differ.
type shape struct {
	upstream, receiver string // base URLs
	timeout            time.Duration
	idempotent         bool
	caller             string   // "" for payroll-bot
	members            string   // of group security; "" for ana, bo, chen
	name               string   // of the upstream; "" for billing
	credential         string   // "" for env:BILLING_TOKEN
	otherOrigin        bool     // callbacks go elsewhere now
	headers            string   // the upstream's request_headers; "" for the default
	need               string   // of the rule that asks; "" for one of group security
	more, stage        string   // a further field of that rule, and of its stage
	slack              string   // further fields of Slack
	ana, bo            string   // further fields of people
	denied             bool     // nothing goes through any more
	asked              bool     // nothing is allowed outright any more
	swap               []string // in pairs: what else stands in the file in place of what
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (s shape) yaml() string {
	origin := s.receiver
	if s.otherOrigin {
		origin = "http://localhost:1"
	}
	headers := ""
	if s.headers != "" {
		headers = ", request_headers: [" + s.headers + "]"
	}
	more := ""
	if s.more != "" {
		more = "\n    " + s.more
	}
	name := or(s.name, "billing")
	return strings.NewReplacer(s.swap...).Replace(fmt.Sprintf(`
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR, channel: "#approvals"%[17]s}
egress: {callbacks: {allow_loopback: true, allow_http: true}}
callers:
  - {name: %[1]s, key_sha256: %[2]s, owners: [dora], upstreams: [%[3]s], callbacks: {verification: waived, origins: ["%[4]s"], secret: "env:CALLBACK"}}
people:
  - {name: ana, slack: U0ANA%[12]s}
  - {name: bo, slack: U0BO%[13]s}
  - {name: chen, slack: U0CHEN}
  - {name: dora, slack: U0DORA}
  - {name: fay, slack: U0FAY}
  - {name: gil, slack: U0GIL}
  - {name: hal, slack: U0HAL}
groups: [{name: security, members: [%[5]s]}]
upstreams:
  - {name: %[3]s, base_url: "%[6]s", timeout: %[7]dms, idempotent: %[8]t, credentials: {header: Authorization, value: "%[9]s"}%[10]s}
rules:%[11]s
  - {name: read-only, match: {upstream: %[3]s, methods: [GET]}, action: allow}
  - {name: no-patch, match: {upstream: %[3]s, methods: [PATCH]}, action: deny, reason: never}
  - name: ask
    match: {upstream: %[3]s}%[14]s
    stages: [{name: security, need: [%[15]s]%[16]s}]
`, or(s.caller, callerName), strings.Repeat("ab", 32), name, origin, or(s.members, "ana, bo, chen"), s.upstream,
		max(s.timeout, 100*time.Millisecond).Milliseconds(), s.idempotent, or(s.credential, "env:BILLING_TOKEN"), headers, s.first(name),
		s.ana, s.bo, more, or(s.need, "{from: [security], approvals: 1}"), s.stage, s.slack))
}

// first is the rule before all others.
func (s shape) first(upstream string) string {
	switch {
	case s.denied:
		return "\n  - {name: closed, match: {upstream: " + upstream + ", methods: [DELETE]}, action: deny, reason: closed}"
	case s.asked:
		return "\n  - {name: asked, match: {upstream: " + upstream + ", methods: [GET], path: \"/customers/{id}\"}, " +
			"stages: [{name: security, need: [{from: [security], approvals: 1}]}]}"
	}
	return ""
}

func (s shape) config(tb testing.TB) *policy.Config {
	tb.Helper()
	c, err := policy.Parse("test.yaml", []byte(s.yaml()), getenv)
	require.NoError(tb, err, "load the test's configuration")
	return c
}

func getenv(name string) string {
	return map[string]string{
		"BOT": "xoxb-emulator", "SIGNING": "emulator-signing-secret", "CALLBACK": callbackSecret,
		"CALLBACK_OLD": "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk", "CALLBACK_NEXT": "whsec_bmV4dG5leHRuZXh0bmV4dG5leHRuZXh0",
		"BILLING_TOKEN": "Bearer first", "OTHER_TOKEN": "Bearer second",
	}[name]
}

// world is one test's database, servers and configuration.
type world struct {
	tb       testing.TB
	url      string
	pool     *pgxpool.Pool
	outbox   *jobs.Outbox
	store    *db.Store
	upstream *server
	receiver *server
	shape    shape
	config   atomic.Pointer[policy.Config]
}

// setup makes a world whose upstream and receiver answer 200.
func setup(tb testing.TB, change ...func(*shape)) *world {
	tb.Helper()
	w := &world{tb: tb, url: dbtest.Database(tb), upstream: serve(tb), receiver: serve(tb)}
	w.pool = dbtest.PoolOf(tb, w.url)
	var err error
	w.outbox, err = jobs.NewOutbox()
	require.NoError(tb, err)
	w.store = dbtest.Store(tb, w.pool, w.outbox)
	w.shape = shape{upstream: w.upstream.url(), receiver: w.receiver.url(), timeout: 20 * time.Second}
	w.reload(change...)
	return w
}

// reload puts another configuration in force.
func (w *world) reload(change ...func(*shape)) {
	w.tb.Helper()
	for _, f := range change {
		f(&w.shape)
	}
	w.config.Store(w.shape.config(w.tb))
}

// wallClock is what the service hands to the runner.
func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // signatures are verified against the real clock
}

func quiet() *slog.Logger {
	if os.Getenv("JOBS_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// runnerConfig is what a runner of this world works with.
func (w *world) runnerConfig() jobs.Config {
	w.tb.Helper()
	executor, err := egress.NewExecutor(egress.ExecutorConfig{Version: "test", Now: wallClock})
	require.NoError(w.tb, err)
	deliverer, err := egress.NewDeliverer(egress.DelivererConfig{
		Policy: egress.Policy{AllowLoopback: true, AllowHTTP: true}, Version: "test", Timeout: 2 * time.Second, Now: wallClock,
	})
	require.NoError(w.tb, err)
	w.tb.Cleanup(deliverer.Close)
	return jobs.Config{
		Pool: w.pool, Store: w.store, Outbox: w.outbox, Policy: w.config.Load, Executor: executor, Deliverer: deliverer,
		Now: wallClock, Logger: quiet(),
		Schedule:      []time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
		UnlistedGrace: time.Millisecond,
	}
}

// run starts a runner and stops it at the end of the test.
func (w *world) run(change ...func(*jobs.Config)) {
	w.tb.Helper()
	r := w.runner(change...)
	require.NoError(w.tb, r.Start(w.tb.Context()), "start the runner")
	w.tb.Cleanup(func() { w.halt(r) })
}

func (w *world) runner(change ...func(*jobs.Config)) *jobs.Runner {
	w.tb.Helper()
	c := w.runnerConfig()
	for _, f := range change {
		f(&c)
	}
	r, err := jobs.New(c)
	require.NoError(w.tb, err)
	return r
}

// halt stops a runner in good order.
func (w *world) halt(r *jobs.Runner) {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.tb.Context()), 20*time.Second)
	defer cancel()
	require.NoError(w.tb, r.Stop(ctx), "stop the runner")
}

// call is a request to be submitted; plan changes what the rules say of it.
type call struct {
	method string
	body   string
	quiet  bool // no callback
	events []approvals.EventType
	header approvals.Header
	plan   func(*approvals.Plan)
	after  time.Duration // not before that much later; 0: at once
	behalf string        // whom it is made for
	direct bool          // without a job of its own
	caller string        // "" for payroll-bot
	to     string        // the upstream; "" for that of the shape
	tell   string        // where callbacks go; "" for the receiver of the shape
}

func (w *world) request(c call) db.SubmitRequest {
	w.tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(w.tb, err)
	config := w.config.Load()
	caller, ok := config.Caller(or(c.caller, callerName))
	require.True(w.tb, ok)
	s := approvals.Submission{
		ID: approvals.TicketID(id), Caller: caller.Name, OnBehalfOf: c.behalf, Justification: "for the test",
		Call: approvals.Call{Upstream: or(c.to, or(w.shape.name, "billing")), Method: or(c.method, "DELETE"), Path: "/customers/42", Body: []byte(c.body)},
	}
	if c.header.Name != "" {
		s.Call.Headers = []approvals.Header{c.header}
	}
	if !c.quiet {
		s.Callback = &approvals.Callback{URL: or(c.tell, w.shape.receiver) + "/hook", Events: c.events}
		if u, err := url.Parse(s.Callback.URL); err == nil {
			e, _ := caller.Endpoint(egress.Origin(u))
			s.Callback.Payload = e.Payload
		}
	}
	now := time.Now() //nolint:forbidigo // compared with the database's clock, on this machine
	if c.after > 0 {
		s.NotBefore = now.Add(c.after)
	}
	plan := config.Plan(caller, c.behalf, s.Call, now)
	if c.plan != nil {
		c.plan(&plan)
	}
	return db.SubmitRequest{
		Submission: s, Plan: plan, Directory: config.Directory().At(now),
		Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: s.ID}, Direct: c.direct,
	}
}

func (w *world) submit(c call) approvals.Ticket {
	w.tb.Helper()
	res, err := w.store.Submit(w.tb.Context(), w.request(c))
	require.NoError(w.tb, err, "submit")
	return res.Ticket
}

func (w *world) decide(id, person string, verdict approvals.Verdict) approvals.Ticket {
	w.tb.Helper()
	dir := w.config.Load().Directory()
	actor := approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}
	comment := ""
	if verdict != approvals.Approve {
		comment = "because of the test" // rules ask for one
	}
	return w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		d := approvals.Decision{Person: person, Verdict: verdict, Comment: comment, Stage: t.Stage, Digest: t.Digest}
		return t.Decide(actor, d, dir, now)
	})
}

func (w *world) advance(id string, verb db.Decide) approvals.Ticket {
	w.tb.Helper()
	t, err := w.store.Advance(w.tb.Context(), db.Ref{ID: id}, verb)
	require.NoError(w.tb, err, "advance %s", id)
	return t
}

// approved submits a call and has ana approve it.
func (w *world) approved(c call) approvals.Ticket {
	w.tb.Helper()
	return w.decide(w.submit(c).ID, "ana", approvals.Approve)
}

func (w *world) ticket(id string) approvals.Ticket {
	w.tb.Helper()
	t, err := w.store.Ticket(w.tb.Context(), db.Ref{ID: id})
	require.NoError(w.tb, err, "read %s", id)
	return t
}

// await waits until a ticket is as wanted, and returns it.
func (w *world) await(id, what string, want func(approvals.Ticket) bool) approvals.Ticket {
	w.tb.Helper()
	ctx, cancel := context.WithTimeout(w.tb.Context(), patience)
	defer cancel()
	for {
		t := w.ticket(id)
		if want(t) {
			return t
		}
		quick, stop := context.WithTimeout(ctx, 250*time.Millisecond) // other processes change it, too
		err := w.store.Wait(quick, id, t.Version)
		stop()
		if ctx.Err() != nil {
			w.tb.Fatalf("waiting until %s is %s: it is %s, callback %s, problem %v, events %v (last: %v)",
				id, what, t.State, t.CallbackState, t.Problem, w.trail(id), err)
		}
	}
}

func (w *world) awaitState(id string, s approvals.State) {
	w.tb.Helper()
	w.await(id, string(s), func(t approvals.Ticket) bool { return t.State == s })
}

// awaitTold waits until a ticket is in a state and its callback is settled.
func (w *world) awaitTold(id string, s approvals.State, c approvals.CallbackState) approvals.Ticket {
	w.tb.Helper()
	return w.await(id, string(s)+" and "+string(c), func(t approvals.Ticket) bool {
		return t.State == s && t.CallbackState == c
	})
}

func (w *world) trail(id string) []approvals.EventType {
	w.tb.Helper()
	entries, err := w.store.Entries(w.tb.Context(), db.Ref{ID: id})
	require.NoError(w.tb, err)
	out := make([]approvals.EventType, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Event.Type)
	}
	return out
}

// requireWhole asserts that a ticket's chain verifies and that its events fold to its row,
// and returns the events.
func (w *world) requireWhole(id string) []approvals.Event {
	w.tb.Helper()
	var entries []audit.Entry
	var t approvals.Ticket
	eventually(w.tb, "the row and the trail are read at one moment", func() bool { // a card may be noted in between
		var err error
		entries, err = w.store.Entries(w.tb.Context(), db.Ref{ID: id})
		require.NoError(w.tb, err, "read the trail of %s", id)
		t = w.ticket(id)
		return t.Version == int64(len(entries))
	})
	require.NoError(w.tb, audit.VerifyChain(id, entries), "verify the trail of %s", id)
	events := make([]approvals.Event, 0, len(entries))
	for _, e := range entries {
		events = append(events, e.Event)
	}
	t.Call.Headers, t.Call.Body = nil, nil
	// What the row cannot tell apart is an empty list and none.
	require.Empty(w.tb, cmp.Diff(t, approvals.Replay(events), cmpopts.EquateEmpty()), "the stored ticket %s against the fold of its events", id)
	return events
}

// requireEvents asserts a whole trail of exactly these events.
func (w *world) requireEvents(id string, types ...approvals.EventType) {
	w.tb.Helper()
	w.requireWhole(id)
	require.Equal(w.tb, types, w.trail(id), "events of %s", id)
}

// count counts events of a type.
func count(events []approvals.Event, typ approvals.EventType) (n int) {
	for _, e := range events {
		if e.Type == typ {
			n++
		}
	}
	return n
}

// enqueue inserts jobs by hand.
func (w *world) enqueue(effects ...approvals.Effect) {
	w.tb.Helper()
	err := pgx.BeginFunc(w.tb.Context(), w.pool, func(tx pgx.Tx) error {
		return w.outbox.Enqueue(w.tb.Context(), tx, effects)
	})
	require.NoError(w.tb, err, "enqueue")
}

// sql runs a statement as the service's role; it has what it needs for river_job.
func (w *world) sql(statement string, args ...any) int64 {
	w.tb.Helper()
	tag, err := w.pool.Exec(w.tb.Context(), statement, args...)
	require.NoError(w.tb, err, statement)
	return tag.RowsAffected()
}

func (w *world) number(query string, args ...any) (n int) {
	w.tb.Helper()
	require.NoError(w.tb, w.pool.QueryRow(w.tb.Context(), query, args...).Scan(&n), query)
	return n
}

// eventually waits for what no channel tells.
func eventually(tb testing.TB, what string, check func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("still waiting: %s", what)
		}
	}
}

// receive waits for a signal.
func receive[T any](tb testing.TB, what string, ch <-chan T) (got T) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case got = <-ch:
	case <-deadline.C:
		tb.Fatalf("still waiting: %s", what)
	}
	return got
}

// withSlack has a runner tell people in Slack: through a planner and a sender of its own,
// which ends with the test.
func (w *world) withSlack(client *slack.Client, change ...func(*notify.PlannerConfig)) func(*jobs.Config) {
	return func(c *jobs.Config) {
		w.tb.Helper()
		notifier, run, err := inSlack(client, c.Store, w.config.Load, change...)
		require.NoError(w.tb, err)
		c.Notifier = notifier
		ctx, cancel := context.WithCancel(context.WithoutCancel(w.tb.Context()))
		var running sync.WaitGroup
		running.Go(func() { assert.NoError(w.tb, run(ctx)) })
		w.tb.Cleanup(func() {
			cancel()
			running.Wait()
		})
	}
}

// inSlack makes what tells people in Slack.
func inSlack(client *slack.Client, store *db.Store, config func() *policy.Config, change ...func(*notify.PlannerConfig)) (_ jobs.Notifier, run func(context.Context) error, err error) {
	var sender *notify.Sender
	c := notify.PlannerConfig{
		Store: store, Policy: config, FingerprintKey: []byte("of the tests"), PublicURL: "https://countersign.example.com",
		Wake: func() { sender.Wake() }, Now: wallClock, Logger: quiet(),
	}
	for _, f := range change {
		f(&c)
	}
	planner, err := notify.NewPlanner(c)
	if err != nil {
		return nil, nil, err
	}
	sender, err = notify.NewSender(notify.SenderConfig{
		Store: store, Client: client, Content: planner, Limits: notify.Limits{Off: true}, Now: wallClock, Logger: quiet(),
		Lease: 3 * time.Second, Settle: time.Second, Pause: 300 * time.Millisecond,
	})
	return planner, sender.Run, err
}

// logging has a planner write somewhere.
func logging(h slog.Handler) func(*notify.PlannerConfig) {
	return func(c *notify.PlannerConfig) { c.Logger = slog.New(h) }
}

// sweeping makes a runner find at once what is left behind.
func sweeping(c *jobs.Config) {
	c.SweepEvery = 100 * time.Millisecond
	c.OverdueGrace, c.UnstartedGrace, c.UndeliveredGrace = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
}
