package db_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// ever bounds a window that holds every call of a test.
var ever = [2]time.Time{time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)}

func TestRecordedCallsAreAsSubmittedWithWhatBecameOfThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	first := f.submit(t, plan(stage(2)))
	_, err := f.decide(t, first.ID, "ana", approvals.Approve)
	require.NoError(t, err)
	_, err = f.decide(t, first.ID, "bo", approvals.Approve)
	require.NoError(t, err)
	second := f.submit(t, plan(stage(1)))
	var got []db.RecordedCall
	err = db.RecordedCalls(t.Context(), dbtest.PoolOf(t, f.url), ever[0], ever[1], func(r db.RecordedCall) error {
		got = append(got, r)
		return nil
	})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, []string{second.ID, first.ID}, []string{got[0].TicketID, got[1].TicketID}, "the latest comes first")
	require.Equal(t, first.Call, got[1].Call)
	require.Equal(t, first.Plan, got[1].Plan)
	require.Equal(t, first.CreatedAt, got[1].CreatedAt)
	require.Equal(t, first.Caller, got[1].Caller)
	require.Equal(t, approvals.Approved, got[1].State)
	require.Equal(t, approvals.Pending, got[0].State)
	require.Empty(t, got[0].Decisions)
	require.Len(t, got[1].Decisions, 2)
	require.Equal(t, "ana", got[1].Decisions[0].Person)
	require.Equal(t, approvals.Approve, got[1].Decisions[1].Verdict)
}

func TestRecordedCallsOfAWindowOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var made []approvals.Ticket
	for range 3 {
		made = append(made, f.submit(t, plan(stage(1))))
	}
	for name, c := range map[string]struct {
		since, until time.Time
		want         int
	}{
		"all":              {ever[0], ever[1], 3},
		"from the second":  {made[1].CreatedAt, ever[1], 2},
		"before the third": {ever[0], made[2].CreatedAt, 2},
		"the second":       {made[1].CreatedAt, made[2].CreatedAt, 1},
		"none":             {ever[0], made[0].CreatedAt, 0},
		"turned round":     {ever[1], ever[0], 0},
		"before 1970":      {time.Time{}, ever[1], 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			err := db.RecordedCalls(t.Context(), dbtest.PoolOf(t, f.url), c.since, c.until, func(db.RecordedCall) error { n++; return nil })
			require.NoError(t, err)
			require.Equal(t, c.want, n)
		})
	}
}

func TestRecordedCallsAreReadPageByPageEachOnceAsOfOneMoment(t *testing.T) {
	t.Parallel()
	const calls = 450 // more than two pages
	f := setup(t)
	want := make(map[string]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			res, err := f.store.Submit(t.Context(), request(t, plan(stage(1))))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				want[res.Ticket.ID] = true
			}
		})
	}
	all.Wait()
	require.Len(t, want, calls)
	got, last := make(map[string]bool), ""
	err := db.RecordedCalls(t.Context(), dbtest.PoolOf(t, f.url), ever[0], ever[1], func(r db.RecordedCall) error {
		if len(got) == 0 {
			f.submit(t, plan(stage(1))) // comes too late to be seen
		}
		require.False(t, got[r.TicketID], "a call is read once")
		require.True(t, last == "" || r.TicketID < last, "in order")
		got[r.TicketID], last = true, r.TicketID
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestRecordedCallsNeedNothingButToReadAndStopWhenTold(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submit(t, plan(stage(1)))
	f.submit(t, plan(stage(1)))
	pool := dbtest.PoolOf(t, f.url)
	var role string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT current_user`).Scan(&role))
	require.Equal(t, db.AppRole, role, "it reads as the service does")
	enough, n := errors.New("enough"), 0
	err := db.RecordedCalls(t.Context(), pool, ever[0], ever[1], func(db.RecordedCall) error { n++; return enough })
	require.ErrorIs(t, err, enough)
	require.Equal(t, 1, n)
	require.NoError(t, pool.Ping(t.Context()), "the connection is given back")
}

func TestRecordedCallsOfADatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := db.RecordedCalls(ctx, pool, ever[0], ever[1], func(db.RecordedCall) error { return nil })
	require.ErrorIs(t, err, context.Canceled)
}
