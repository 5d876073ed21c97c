package db_test

import (
	"context"
	"slices"
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

// patience is longer than anything here may take: what has not come by then does not come.
const patience = 40 * time.Second

// counter counts the statements of a pool.
type counter struct{ statements atomic.Int64 }

func (c *counter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.statements.Add(1)
	return ctx
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// counted is a second process on the same database, whose statements are counted.
func (f fixture) counted(t *testing.T) (*db.Store, *counter) {
	t.Helper()
	config, err := pgxpool.ParseConfig(f.url)
	require.NoError(t, err, "parse the database's URL")
	c := &counter{}
	config.ConnConfig.Tracer = c
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err, "connect")
	t.Cleanup(pool.Close)
	return dbtest.Store(t, pool, &dbtest.Outbox{}), c
}

// submitMany opens tickets, many at a time.
func (f fixture) submitMany(t *testing.T, n int) []string {
	t.Helper()
	ids, errs := make([]string, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		req := request(t, plan(stage(2)))
		ids[i] = req.Submission.ID
		wg.Go(func() { _, errs[i] = f.store.Submit(t.Context(), req) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err, "submit")
	}
	return ids
}

func signalled(t *testing.T, sub *db.Subscription, what string) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-sub.C:
	case <-timer.C:
		require.FailNow(t, "nobody was woken", what)
	}
}

func TestAThousandWaitersCostNoQueriesOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.submitMany(t, 1000)
	other, asked := f.counted(t)
	go other.Listen(t.Context())
	subs := make([]*db.Subscription, len(ids))
	for i, id := range ids {
		subs[i] = other.Subscribe(db.Topic{Ticket: id})
		_, past := subs[i].Past(1)
		require.False(t, past, "nothing is known yet")
	}
	for _, id := range ids[:50] {
		_, err := f.decide(t, id, "ana", approvals.Approve)
		require.NoError(t, err, "decide")
	}
	for i, sub := range subs[:50] {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		c, err := sub.Next(ctx, 1)
		cancel()
		require.NoError(t, err, "wait for ticket %d", i)
		require.Equal(t, db.Change{ID: ids[i], Version: 2, State: approvals.Pending, Caller: "payroll-bot"}, c, "the change")
	}
	require.Less(t, asked.statements.Load(), int64(150), "statements for a thousand waiters")
	for i, sub := range subs[50:] {
		require.Empty(t, sub.C, "waiter %d was woken although its ticket is as it was", i+50)
	}
}

func TestNobodyIsWokenForAVersionTheyKnow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(2))).ID
	sub := f.store.Subscribe(db.Topic{Ticket: id})
	defer sub.Close()
	_, past := sub.Past(2)
	require.False(t, past)
	_, err := f.decide(t, id, "ana", approvals.Approve)
	require.NoError(t, err)
	require.Empty(t, sub.C, "woken for version 2, which it knows")
	_, err = f.store.Advance(t.Context(), db.Ref{ID: id}, func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return approvals.Transition{}, nil
	})
	require.NoError(t, err)
	require.Empty(t, sub.C, "woken for a change that was none")
	_, err = f.decide(t, id, "bo", approvals.Approve)
	require.NoError(t, err)
	c, past := sub.Past(2)
	require.True(t, past)
	require.Equal(t, approvals.Approved, c.State, "the newest state, known without asking")
}

func TestNothingIsLostWhileTheListeningConnectionIsCut(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.submitMany(t, 20)
	other, _ := f.counted(t)
	go other.Listen(t.Context())
	root := superuser(t, f.url)
	cut := func() (n int) {
		require.NoError(t, root.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'LISTEN %'`).Scan(&n))
		return n
	}
	for i, id := range ids {
		sub := other.Subscribe(db.Topic{Ticket: id})
		_, past := sub.Past(1)
		require.False(t, past)
		if i%5 == 0 {
			dbtest.Eventually(t, "the connection to be there, and to be cut", func() bool { return cut() > 0 })
		}
		_, err := f.decide(t, id, "ana", approvals.Approve)
		require.NoError(t, err, "decide")
		signalled(t, sub, id)
		sub.Close()
	}
}

func TestWaitersLearnThatATicketIsGone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	sub := f.store.Subscribe(db.Topic{Ticket: id})
	defer sub.Close()
	root := superuser(t, f.url)
	for _, q := range []string{`SET session_replication_role = replica`, `DELETE FROM tickets`} {
		_, err := root.Exec(t.Context(), q)
		require.NoError(t, err, q)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := sub.Next(ctx, 1)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err), "%v", err)
}

func TestACallersSubscriptionHearsOfItsTicketsOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other, _ := f.counted(t)
	go other.Listen(t.Context())
	own, all, foreign := other.Subscribe(db.Topic{Caller: "payroll-bot"}), other.Subscribe(db.Topic{}), other.Subscribe(db.Topic{Caller: "crm-bot"})
	for _, sub := range []*db.Subscription{own, all, foreign} { // what comes behind it is found, announced or not
		signalled(t, sub, "the first horizon")
		sub.Take()
	}
	id := f.submit(t, plan(stage(1))).ID
	for name, sub := range map[string]*db.Subscription{"the caller's": own, "everybody's": all} {
		require.Eventually(t, func() bool { return slices.Contains(sub.Take().IDs, id) }, patience, 5*time.Millisecond, name)
	}
	require.Empty(t, foreign.Take().IDs, "another caller's")
}

func TestWhatNobodyAnnouncedIsFoundBehindTheHorizon(t *testing.T) {
	t.Parallel()
	f := setup(t)
	deaf, _ := f.counted(t) // it does not listen
	sub := deaf.Subscribe(db.Topic{Caller: "payroll-bot"})
	defer sub.Close()
	signalled(t, sub, "the first horizon")
	first := sub.Take()
	require.True(t, first.Lost, "of what was before, nothing is known")
	require.Positive(t, first.Horizon, "the horizon")
	id := f.submit(t, plan(stage(1))).ID
	var news db.News
	require.Eventually(t, func() bool { news = sub.Take(); return len(news.IDs) > 0 }, patience, 20*time.Millisecond, "news")
	require.Equal(t, []string{id}, news.IDs, "found without having been told")
	require.False(t, news.Lost)
	require.GreaterOrEqual(t, news.Horizon, first.Horizon, "the horizon moves on")
}

func TestASubscriberThatDoesNotTakeLosesIdsAndIsToldSo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sub := f.store.Subscribe(db.Topic{Caller: "payroll-bot"})
	defer sub.Close()
	signalled(t, sub, "the first horizon")
	require.True(t, sub.Take().Lost)
	f.submitMany(t, 600)
	f.submitMany(t, 600)
	news := sub.Take()
	require.True(t, news.Lost, "it is told")
	require.Len(t, news.IDs, 1024, "what is kept is bounded")
	require.False(t, sub.Take().Lost, "once")
}
