package db_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// gate is an outbox that holds each transaction open, its rows written, until it is let go.
type gate struct {
	dbtest.Outbox
	reached chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{reached: make(chan struct{}, 1), open: make(chan struct{})} }

func (g *gate) Enqueue(ctx context.Context, tx pgx.Tx, effects []approvals.Effect) error {
	g.reached <- struct{}{}
	select {
	case <-g.open:
	case <-ctx.Done():
		return ctx.Err()
	}
	return g.Outbox.Enqueue(ctx, tx, effects)
}

type happened struct {
	id  string
	seq int64
}

func steps(events []db.Written) []happened {
	var out []happened
	for _, e := range events {
		out = append(out, happened{e.TicketID, e.Seq})
	}
	return out
}

// readAll reads from a place until nothing more is complete.
func readAll(t *testing.T, s *db.Store, caller string, from db.Mark, page int) ([]happened, db.Mark) {
	t.Helper()
	var out []happened
	for range 1000 {
		found, next, more, err := s.EventsAfter(t.Context(), caller, from, page)
		require.NoError(t, err, "read events")
		out, from = append(out, steps(found)...), next
		if !more {
			return out, from
		}
	}
	require.FailNow(t, "it never ends")
	return nil, from
}

func TestEventsOfTransactionsThatCommitOutOfOrderAreAllReadOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	slow, quick := f.submit(t, plan(stage(2))).ID, f.submit(t, plan(stage(2))).ID
	var here db.Mark
	dbtest.Eventually(t, "what there is to be complete", func() bool {
		var got []happened
		got, here = readAll(t, f.store, "payroll-bot", db.Mark{}, 10)
		return len(got) == 2
	})
	g := newGate()
	held := fixture{store: dbtest.Store(t, dbtest.PoolOf(t, f.url), g), url: f.url}
	done := make(chan error, 1)
	go func() {
		_, err := held.decide(t, slow, "ana", approvals.Approve)
		done <- err
	}()
	<-g.reached // written by a transaction that has begun earlier, and not committed
	_, err := f.decide(t, quick, "ana", approvals.Approve)
	require.NoError(t, err, "decide")
	got, place := readAll(t, f.store, "payroll-bot", here, 10)
	require.NotContains(t, got, happened{quick, 2}, "it may still be preceded by another")
	eager, err := f.store.EventsOf(t.Context(), "payroll-bot", []string{slow, quick}, here.Tx, 100)
	require.NoError(t, err)
	require.Contains(t, steps(eager), happened{quick, 2}, "who asks for the ticket sees it")
	require.NotContains(t, steps(eager), happened{slow, 2}, "nobody sees what is not committed")

	close(g.open)
	require.NoError(t, <-done, "the slow one")
	dbtest.Eventually(t, "both", func() bool {
		more, next := readAll(t, f.store, "payroll-bot", place, 1)
		got, place = append(got, more...), next
		return len(got) >= 2
	})
	require.ElementsMatch(t, []happened{{slow, 2}, {quick, 2}}, got, "each once, and none was passed by")
}

func TestEventsAreReadPageByPageAcrossLargeTransactions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.submitMany(t, 90) // few transactions of many tickets
	var got []happened
	dbtest.Eventually(t, "all to be complete", func() bool {
		got, _ = readAll(t, f.store, "payroll-bot", db.Mark{}, 7)
		return len(got) == len(ids)
	})
	var read []string
	for _, s := range got {
		read = append(read, s.id)
	}
	slices.Sort(read)
	slices.Sort(ids)
	require.Equal(t, ids, read, "each once")
	none, _ := readAll(t, f.store, "crm-bot", db.Mark{}, 7)
	require.Empty(t, none, "another caller's")
	all, _ := readAll(t, f.store, "", db.Mark{}, 7)
	require.Equal(t, got, all, "everybody's")
}

func TestAPlaceThatIsNotInThisHistoryIsRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	here, err := f.store.Here(t.Context())
	require.NoError(t, err)
	require.Equal(t, db.Mark{}, here, "where nothing has happened, the beginning")
	id := f.submit(t, plan(stage(1))).ID
	dbtest.Eventually(t, "the event to be complete", func() bool {
		here, err = f.store.Here(t.Context())
		return err == nil && here.Tx > 0
	})
	require.NoError(t, f.store.Follows(t.Context(), here))
	_, _, _, err = f.store.EventsAfter(t.Context(), "", db.Mark{Tx: 1 << 60}, 10)
	require.ErrorIs(t, err, db.ErrNoHistory, "a place of the future")
	require.ErrorIs(t, f.store.Follows(t.Context(), db.Mark{Tx: 3}), db.ErrNoHistory, "a place before all that is left")
	got, _ := readAll(t, f.store, "", db.Mark{}, 10)
	require.Equal(t, []happened{{id, 1}}, got, "from the beginning")
}

func TestValidatorsListWhatTicketsLists(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submitMany(t, 9)
	for _, filter := range []db.Filter{
		{Limit: 4},
		{Caller: "payroll-bot", Limit: 4},
		{Caller: "crm-bot", Limit: 4},
		{Caller: "payroll-bot", States: []approvals.State{approvals.Denied}, Limit: 4},
		{Caller: "payroll-bot", CreatedAfter: time.Unix(1, 0), CreatedBefore: f.now(t), Limit: 100},
	} {
		for page := range 3 {
			tickets, err := f.store.Tickets(t.Context(), filter)
			require.NoError(t, err)
			seen, err := f.store.Validators(t.Context(), filter)
			require.NoError(t, err)
			want := []db.Seen{}
			for _, x := range tickets {
				want = append(want, db.Seen{Cursor: db.Cursor{CreatedAt: x.CreatedAt, ID: x.ID}, Version: x.Version})
			}
			require.Equal(t, want, slices.Clip(seen), "page %d of %+v", page, filter)
			if len(seen) == 0 {
				break
			}
			filter.After = seen[len(seen)-1].Cursor
		}
	}
}

func TestWaitingEndsWithTheStore(t *testing.T) {
	t.Parallel()
	f := setup(t)
	sub := f.store.Subscribe(db.Topic{Ticket: f.submit(t, plan(stage(1))).ID})
	f.store.Close()
	_, err := sub.Next(t.Context(), 1)
	require.True(t, errors.Is(err, db.ErrUnavailable), "%v", err)
	_, open := <-f.store.Closed()
	require.False(t, open)
}
