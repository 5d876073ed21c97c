package db_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func allowed() approvals.Plan {
	p := plan()
	p.Action, p.Stages = approvals.ActionAllow, nil
	return p
}

func TestADirectSubmitLeavesTheCallToWhoeverSubmits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	executes := func(direct bool, p approvals.Plan) (executes bool, trail []approvals.EventType) {
		req := request(t, p)
		req.Direct = direct
		res, err := f.store.Submit(t.Context(), req)
		require.NoError(t, err)
		for _, e := range f.outbox.Take() {
			_, ok := e.(approvals.Execute)
			executes = executes || ok
		}
		events, err := f.store.Events(t.Context(), db.Ref{ID: res.Ticket.ID}, 0, 10)
		require.NoError(t, err)
		for _, e := range events {
			trail = append(trail, e.Type)
		}
		requireChain(t, f.store, res.Ticket.ID)
		return executes, trail
	}
	queued, wanted := executes(false, allowed())
	require.True(t, queued, "somebody is asked to make the call")
	queued, trail := executes(true, allowed())
	require.False(t, queued, "nobody else is asked to make it")
	require.Equal(t, wanted, trail, "events")
	overdue, err := f.store.Unstarted(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, overdue, 2, "the sweeper finds both")
}

// limited is a request of a caller with a quota.
func limited(t *testing.T, caller string, quota int) db.SubmitRequest {
	t.Helper()
	req := request(t, plan(stage(1)))
	req.Submission.Caller, req.Submission.Callback, req.Quota = caller, nil, quota
	return req
}

func requireOverQuota(t *testing.T, err error, quota int) {
	t.Helper()
	var over *db.QuotaError
	require.ErrorAs(t, err, &over)
	require.Equal(t, quota, over.Open)
}

func TestACallerHasNoMoreUnfinishedTicketsThanItsQuota(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var open []db.SubmitResult
	var first db.SubmitRequest
	for i := range 3 {
		req := limited(t, "payroll-bot", 3)
		if i == 0 {
			first = req
		}
		res, err := f.store.Submit(t.Context(), req)
		require.NoError(t, err)
		open = append(open, res)
	}
	refused := limited(t, "payroll-bot", 3)
	for range 3 {
		_, err := f.store.Submit(t.Context(), refused)
		requireOverQuota(t, err, 3)
	}

	again := first
	again.Submission.ID = refused.Submission.ID
	res, err := f.store.Submit(t.Context(), again)
	require.NoError(t, err, "what was opened before is found all the same")
	require.True(t, res.Replayed)
	require.Equal(t, open[0].Ticket.ID, res.Ticket.ID)
	again.Key.Fingerprint[0]++
	_, err = f.store.Submit(t.Context(), again)
	require.ErrorIs(t, err, db.ErrKeyReused)

	_, err = f.store.Submit(t.Context(), limited(t, "another", 3))
	require.NoError(t, err, "others have a quota of their own")
	deny := limited(t, "payroll-bot", 3)
	deny.Plan.Action, deny.Plan.Stages = approvals.ActionDeny, nil
	_, err = f.store.Submit(t.Context(), deny)
	require.NoError(t, err, "what is denied at once is never open")
	replacing := limited(t, "payroll-bot", 3)
	replacing.Submission.Supersedes = open[1].Ticket.ID
	res, err = f.store.Submit(t.Context(), replacing)
	require.NoError(t, err, "what takes another's place is not one more")
	_, err = f.store.Submit(t.Context(), refused)
	requireOverQuota(t, err, 3)

	f.advance(t, res.Ticket.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(person("dora"), "", now)
	})
	require.Eventually(t, func() bool {
		res, err = f.store.Submit(t.Context(), refused)
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "there is room again")
	require.False(t, res.Replayed, "the refused key was not used up")
	_, err = f.store.Submit(t.Context(), limited(t, "payroll-bot", 3))
	requireOverQuota(t, err, 3)
	_, err = f.store.Submit(t.Context(), limited(t, "payroll-bot", 5))
	require.NoError(t, err, "a quota that was raised counts at once")
}

// together submits from two processes at once and tells how many were opened and refused.
func together(t *testing.T, stores []*db.Store, requests []db.SubmitRequest) (opened, refused int64) {
	t.Helper()
	var ok, over atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, req := range requests {
		wg.Go(func() {
			<-start
			_, err := stores[i%len(stores)].Submit(t.Context(), req)
			var quota *db.QuotaError
			switch {
			case err == nil:
				ok.Add(1)
			case errors.As(err, &quota):
				over.Add(1)
			default:
				t.Errorf("submit: %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	return ok.Load(), over.Load()
}

func TestASmallQuotaIsExactAcrossProcesses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})
	requests := make([]db.SubmitRequest, 0, 150)
	for range 150 {
		requests = append(requests, limited(t, "payroll-bot", 9))
	}
	opened, refused := together(t, []*db.Store{f.store, other}, requests)
	require.Equal(t, []int64{9, 141}, []int64{opened, refused})
}

func TestALargeQuotaIsOvershotByASixteenthForEachProcessAtMost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})
	requests := make([]db.SubmitRequest, 0, 300)
	for range 300 {
		requests = append(requests, limited(t, "payroll-bot", 160))
	}
	opened, refused := together(t, []*db.Store{f.store, other}, requests)
	require.EqualValues(t, 300, opened+refused)
	require.GreaterOrEqual(t, opened, int64(160))
	require.LessOrEqual(t, opened, int64(160+2*10))
}

func TestACallerOverItsQuotaHarmsNobodyWhoSharesItsTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.store.Submit(t.Context(), limited(t, "greedy", 1))
	require.NoError(t, err)
	var requests []db.SubmitRequest
	for i := range 90 {
		requests = append(requests, limited(t, []string{"greedy", "modest", "modest"}[i%3], []int{1, 1000, 0}[i%3]))
	}
	opened, refused := together(t, []*db.Store{f.store}, requests)
	require.Equal(t, []int64{60, 30}, []int64{opened, refused})
}

// statements counts what is sent to the database: counts of tickets, and with them all that
// is sent because of quotas.
type statements struct{ all, quota, counts atomic.Int64 }

func (s *statements) saw(sql string) {
	s.all.Add(1)
	counts := strings.Contains(sql, "AS unfinished")
	if counts {
		s.counts.Add(1)
	}
	if counts || strings.Contains(sql, "'quota '") || strings.Contains(sql, "JOIN idempotency_keys") {
		s.quota.Add(1)
	}
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	s.saw(d.SQL)
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (s *statements) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	s.saw(d.SQL)
}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// traced is a store whose statements are counted.
func traced(t *testing.T, url string) (*db.Store, *statements) {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	seen := &statements{}
	config.ConnConfig.Tracer = seen
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return dbtest.Store(t, pool, &dbtest.Outbox{}), seen
}

func TestASubmitFarFromItsQuotaCostsNoStatementMore(t *testing.T) {
	t.Parallel()
	const submits = 200
	store, seen := traced(t, dbtest.Database(t))
	cost := func(quota int) (extra, counts int64) {
		all, extra, counts := seen.all.Load(), seen.quota.Load(), seen.counts.Load()
		for range submits {
			_, err := store.Submit(t.Context(), limited(t, "payroll-bot", quota))
			require.NoError(t, err)
		}
		all, extra, counts = seen.all.Load()-all, seen.quota.Load()-extra, seen.counts.Load()-counts
		t.Logf("%d submits under a quota of %d: %d statements, %d of them for it, %d counts", submits, quota, all, extra, counts)
		return extra, counts
	}
	extra, _ := cost(0)
	require.Zero(t, extra, "statements without a quota")
	extra, counts := cost(10_000)
	require.Equal(t, 3*counts, extra, "statements far from it, beside those of the counts")
	require.GreaterOrEqual(t, counts, int64(1), "it is counted at first")
	require.Less(t, counts, int64(submits/4), "and then now and again")
	_, counts = cost(3 * submits)
	require.Greater(t, counts, int64(10), "near it, it is counted")

	before := seen.counts.Load()
	for range 50 {
		_, err := store.Submit(t.Context(), limited(t, "payroll-bot", 3*submits))
		requireOverQuota(t, err, 3*submits)
	}
	t.Logf("50 refusals: %d counts", seen.counts.Load()-before)
	require.Less(t, seen.counts.Load()-before, int64(50), "what was found full a moment ago is not counted again")
}
