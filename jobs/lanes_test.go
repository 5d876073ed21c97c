package jobs_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/jobs"
)

// bounded gives the upstream of a shape further fields.
func bounded(fields string) func(*shape) {
	return func(s *shape) { s.swap = append(s.swap, ", idempotent: ", ", "+fields+", idempotent: ") }
}

// beside has the shape know another upstream, which everybody may call.
func beside(name, url string) func(*shape) {
	return func(s *shape) {
		s.swap = append(
			s.swap, "upstreams: [billing]", "upstreams: [billing, "+name+"]",
			"\nrules:", "\n  - {name: "+name+", base_url: \""+url+"\"}\nrules:\n  - {name: all-of-"+name+", match: {upstream: "+name+"}, action: allow}")
	}
}

// withCaller has the shape know another caller.
func withCaller(name string) func(*shape) {
	return func(s *shape) {
		s.swap = append(s.swap, "\npeople:", "\n  - {name: "+name+", key_sha256: "+strings.Repeat("cd", 32)+", owners: [dora], upstreams: [billing]}\npeople:")
	}
}

// crowd answers when told, and counts how many are there at a time.
type crowd struct {
	mu        sync.Mutex
	now, most int
	order     []string // tickets, as they came
	gates     map[string]chan struct{}
	open      bool
}

// gather makes a server keep everybody until let.
func gather(s *server) *crowd {
	c := &crowd{gates: make(map[string]chan struct{})}
	s.answers(func(rw http.ResponseWriter, r *http.Request) {
		gate := c.enter(r.Header.Get("Idempotency-Key"))
		select {
		case <-gate:
			c.leave()
			_, _ = io.WriteString(rw, "done")
		case <-r.Context().Done():
			c.leave()
		case <-s.closing:
			c.leave()
		}
	})
	return c
}

func (c *crowd) enter(id string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
	c.order = append(c.order, id)
	gate := make(chan struct{})
	if c.open {
		close(gate)
	}
	c.gates[id] = gate
	return gate
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
}

// let lets one go, or with "" everybody from now on.
func (c *crowd) let(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = c.open || id == ""
	for key, gate := range c.gates {
		if key == id || id == "" {
			delete(c.gates, key)
			close(gate)
		}
	}
}

func (c *crowd) seen() (most int, order []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most, append([]string(nil), c.order...)
}

// arrived waits until so many have come to the server in all.
func (c *crowd) arrived(tb testing.TB, n int) []string {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d calls have come", n), func() bool { _, order := c.seen(); return len(order) >= n })
	_, order := c.seen()
	return order
}

func (w *world) waiting(lane string) int {
	w.tb.Helper()
	return w.number(`SELECT count(*) FROM lane_waiting WHERE lane = $1`, lane)
}

func TestManySlowCallsOfOneCallerKeepNobodyFromAnotherUpstream(t *testing.T) {
	t.Parallel()
	fast := serve(t)
	w := setup(t, bounded("concurrency: 4"), beside("fast", fast.url()), func(s *shape) { s.timeout = 50 * time.Second })
	slow := gather(w.upstream)
	few := func(c *jobs.Config) { c.Executions = 8 } // less than the slow calls by far
	w.run(few)
	w.second(few)
	var slowly, quickly []string
	for range 20 {
		slowly = append(slowly, w.submit(call{method: http.MethodGet, quiet: true}).ID)
	}
	slow.arrived(t, 4)
	for range 20 {
		quickly = append(quickly, w.submit(call{method: http.MethodGet, to: "fast", quiet: true}).ID)
	}
	for _, id := range quickly {
		w.awaitState(id, approvals.Succeeded)
	}
	eventually(t, "all others wait for the slow one", func() bool { return w.waiting("upstream/billing") == 16 })
	for _, id := range slowly {
		x := w.ticket(id)
		require.Contains(t, []approvals.State{approvals.Approved, approvals.Executing}, x.State)
		if x.State == approvals.Approved {
			require.Equal(t, []approvals.EventType{approvals.EventCreated, approvals.EventApproved}, w.trail(id), "waiting is no event")
		}
	}
	slow.let("")
	for _, id := range slowly {
		w.awaitState(id, approvals.Succeeded)
		require.Equal(t, 1, w.upstream.callsOf(id))
	}
	most, _ := slow.seen()
	require.Equal(t, 4, most, "at a time, over both processes")
}

func TestFinishedCallIsFollowedByTheNextInLineOfWhoeverHasLeast(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("concurrency: 2"), withCaller("other-bot"))
	slow := gather(w.upstream)
	w.run(slowly) // not by the sweeper
	var greedy, modest []string
	for range 5 {
		greedy = append(greedy, w.submit(call{method: http.MethodGet, quiet: true}).ID)
	}
	first := slow.arrived(t, 2)
	for range 2 {
		modest = append(modest, w.submit(call{method: http.MethodGet, quiet: true, caller: "other-bot"}).ID)
	}
	eventually(t, "five wait", func() bool { return w.waiting("upstream/billing") == 5 })
	slow.let(first[0])
	require.Equal(t, modest[0], slow.arrived(t, 3)[2], "who has no call under way goes first")
	slow.let(first[1])
	third := slow.arrived(t, 4)[3]
	slow.let("")
	for _, id := range append(greedy, modest...) {
		w.awaitState(id, approvals.Succeeded)
		require.Equal(t, 1, w.upstream.callsOf(id))
	}
	require.NotContains(t, first, third)
	require.Contains(t, append(greedy, modest[1]), third)
	most, _ := slow.seen()
	require.Equal(t, 2, most)
}

func TestCallerHasNoMoreCallsUnderWayThanItMay(t *testing.T) {
	t.Parallel()
	fast := serve(t)
	w := setup(t, beside("fast", fast.url()), func(s *shape) {
		s.swap = append(s.swap, "owners: [dora]", "limits: {executing: 2}, owners: [dora]")
	})
	slow := gather(w.upstream)
	w.run(slowly)
	for range 2 {
		w.submit(call{method: http.MethodGet, quiet: true})
	}
	slow.arrived(t, 2)
	id := w.submit(call{method: http.MethodGet, to: "fast", quiet: true}).ID
	eventually(t, "it waits for the caller's own calls", func() bool { return w.waiting("caller/payroll-bot") == 1 })
	require.Zero(t, fast.callsOf(id))
	slow.let("")
	w.awaitState(id, approvals.Succeeded)
	require.Equal(t, 1, fast.callsOf(id))
}

func TestDirectCallWithoutRoomStandsInLine(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("concurrency: 1"))
	slow := gather(w.upstream)
	r := w.started(slowly)
	first := w.submit(outright).ID
	made := make(chan error, 1)
	go func() { made <- r.Direct(t.Context(), first, newSink()) }()
	slow.arrived(t, 1)
	second := w.submit(outright).ID
	var full *db.NoRoomError
	err := r.Direct(t.Context(), second, newSink())
	require.ErrorIs(t, err, jobs.ErrNotDirect)
	require.ErrorAs(t, err, &full)
	require.Equal(t, approvals.Approved, w.ticket(second).State)
	slow.let("")
	require.NoError(t, receive(t, "the first call", made))
	w.awaitState(second, approvals.Succeeded)
}

func TestRateSpreadsCallsOverTime(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("rate: 5/s"))
	w.run(slowly) // not by the sweeper
	began := wallClock()
	var ids []string
	for range 15 {
		ids = append(ids, w.submit(call{method: http.MethodGet, quiet: true}).ID)
	}
	for _, id := range ids {
		w.awaitState(id, approvals.Succeeded)
	}
	require.GreaterOrEqual(t, wallClock().Sub(began), 1900*time.Millisecond, "five at once, and ten more at five a second")
}

func TestBreakerHoldsCallsBackAndLetsThemGoWhenTheUpstreamIsBack(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("breaker: {failures: 3, within: 1m, for: 1s}"))
	told := &logbook{}
	w.upstream.statuses(503, 503, 503, 503, 200) // the fourth is the first trial
	w.run(func(c *jobs.Config) { c.Logger = told.logger() })
	for range 3 {
		w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Failed)
	}
	var ids []string
	for range 5 {
		ids = append(ids, w.submit(call{method: http.MethodGet, quiet: true}).ID)
	}
	failed := 0
	for _, id := range ids {
		x := w.await(id, "final", func(x approvals.Ticket) bool { return x.State.Final() })
		if x.State == approvals.Failed {
			failed++
		}
		require.Equal(t, 1, w.upstream.callsOf(id))
		w.requireWhole(id)
	}
	require.Equal(t, 1, failed, "the first trial and no other")
	require.Equal(t, 1, strings.Count(told.text(), "calls wait for room"), "said once a minute")
}

func TestCallThatWaitsForABreakerExpiresInItsTime(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("breaker: {failures: 1, within: 1m, for: 1h}"))
	w.upstream.status(http.StatusBadGateway)
	w.run()
	w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Failed)
	id := w.submit(call{method: http.MethodGet, quiet: true, plan: func(p *approvals.Plan) { p.ExecuteWithin = 2 * time.Second }}).ID
	w.awaitState(id, approvals.Expired)
	require.Zero(t, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventApproved, approvals.EventExpired)
}

func TestCallInDoubtThatWaitsForABreakerStaysInDoubtWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("breaker: {failures: 1, within: 1m, for: 1h}"), func(s *shape) { s.idempotent, s.timeout = true, 200*time.Millisecond })
	w.upstream.hangs()
	w.run()
	id := w.submit(call{method: http.MethodGet, quiet: true, plan: func(p *approvals.Plan) { p.ExecuteWithin = 5 * time.Second }}).ID
	w.awaitState(id, approvals.OutcomeUnknown)
	require.Equal(t, 1, w.upstream.callsOf(id), "the breaker let it try no more")
	w.requireEvents(id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventClaimReleased, approvals.EventOutcomeUnknown)
}

func TestDeathOfAWorkerFreesItsPlace(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("concurrency: 1"))
	dead := w.claimedByTheDead(true)
	id := w.submit(call{method: http.MethodGet, quiet: true}).ID
	w.run(sweeping, shortLease)
	w.awaitState(dead, approvals.OutcomeUnknown)
	w.awaitState(id, approvals.Succeeded)
}

// statements counts what a pool is asked.
type statements struct {
	mu  sync.Mutex
	all []string
}

// TraceQueryStart fulfils pgx.QueryTracer.
func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.note(data.SQL)
	return ctx
}

// TraceQueryEnd fulfils pgx.QueryTracer.
func (*statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TraceBatchStart fulfils pgx.BatchTracer.
func (*statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery fulfils pgx.BatchTracer.
func (s *statements) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	s.note(data.SQL)
}

// TraceBatchEnd fulfils pgx.BatchTracer.
func (*statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (s *statements) note(sql string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, sql)
}

// with counts the statements that contain one of the words.
func (s *statements) with(words ...string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sql := range s.all {
		for _, word := range words {
			if strings.Contains(sql, word) {
				n++
				break
			}
		}
	}
	return n
}

func (s *statements) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

// counted is a pool that counts.
func (w *world) counted() (*pgxpool.Pool, *statements) {
	w.tb.Helper()
	asked := &statements{}
	config := w.pool.Config()
	config.ConnConfig.Tracer = asked
	pool, err := pgxpool.NewWithConfig(w.tb.Context(), config)
	require.NoError(w.tb, err)
	w.tb.Cleanup(pool.Close)
	return pool, asked
}

func TestWaitingForALaneIsNotBusy(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("concurrency: 1"))
	slow := gather(w.upstream)
	pool, asked := w.counted()
	w.run(sweeping, func(c *jobs.Config) { c.Pool, c.Store = pool, dbtest.Store(t, pool, w.outbox) })
	var ids []string
	for range 30 {
		ids = append(ids, w.submit(call{method: http.MethodGet, quiet: true}).ID)
	}
	eventually(t, "all but one wait", func() bool { return w.waiting("upstream/billing") == 29 })
	w.idleBut(1)
	asked.forget()
	eventually(t, "twenty sweeps", func() bool { return asked.with("FROM lane_waiting GROUP BY lane") >= 20 })
	require.Zero(t, asked.with("FROM tickets WHERE id = $1 AND ($2 = ''", "WITH RECURSIVE callers", "INSERT INTO river_job"),
		"nobody is woken, claimed or looked at for nothing")
	slow.let("")
	for _, id := range ids {
		w.awaitState(id, approvals.Succeeded)
	}
}

// idleBut waits until no more than so many jobs run and none is about to.
func (w *world) idleBut(n int) {
	w.tb.Helper()
	eventually(w.tb, "the other jobs are done", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE state IN ('available', 'running', 'retryable')`) <= n
	})
}

// logbook keeps what is logged.
type logbook struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *logbook) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *logbook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func TestStatementsOfACall(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]string{
		"without limits": "", "concurrency": "concurrency: 4, ", "all limits": "concurrency: 4, rate: 100/s, breaker: {failures: 3, within: 1m, for: 1m}, ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.swap = append(s.swap, ", idempotent: ", ", "+fields+"idempotent: ") })
			pool, asked := w.counted()
			r := w.started(slowly, func(c *jobs.Config) {
				c.Pool, c.Store = pool, dbtest.Store(t, pool, w.outbox)
				c.AlarmEvery, c.Lease = time.Hour, time.Hour
			})
			outright := call{method: http.MethodGet, direct: true, quiet: true}
			require.NoError(t, r.Direct(t.Context(), w.submit(outright).ID, newSink())) // opens the lane
			id := w.submit(outright).ID
			asked.forget()
			require.NoError(t, r.Direct(t.Context(), id, newSink()))
			ours := asked.with(" tickets", " upstream_lanes", " lane_waiting", " audit_events", " results", "clock_timestamp")
			lanes := asked.with("upstream_lanes", "lane_waiting", "t.claimed_by IS NOT NULL")
			t.Logf("%s: %d statements, %d of them about lanes", name, ours, lanes)
			if fields == "" {
				require.Zero(t, lanes, "who has no limits does not pay for those of others")
			} else {
				require.NotZero(t, lanes)
			}
		})
	}
}
