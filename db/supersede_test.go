package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// instead is a request that takes a ticket's place.
func instead(t *testing.T, id string) db.SubmitRequest {
	t.Helper()
	req := request(t, eventful())
	req.Submission.Supersedes = id
	return req
}

func TestASupersedingSubmitClosesTheOldTicketAndLinksBoth(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, after := range [][]string{nil, {"Ask"}, {"Decide"}, {"Decide", "Claim"}} {
		old := prepare(t, f.store, verb{after: after})
		before, err := f.store.Ticket(t.Context(), db.Ref{ID: old})
		require.NoError(t, err)
		f.outbox.Take()
		req := instead(t, old)
		ctx, cancel := context.WithCancel(t.Context())
		changes := f.store.Changes(ctx)
		res, err := f.store.Submit(t.Context(), req)
		require.NoError(t, err, "%v", after)
		require.ElementsMatch(t, []string{old, res.Ticket.ID}, []string{<-changes, <-changes}, "whoever waits for either is woken")
		cancel()
		require.Equal(t, old, res.Ticket.Supersedes)
		require.ElementsMatch(t, []approvals.Effect{
			approvals.Notify{TicketID: res.Ticket.ID, Seq: 1},
			approvals.RemindAt{TicketID: res.Ticket.ID, Number: 1, At: res.Ticket.WakeAt},
			approvals.UpdateCard{TicketID: old},
			approvals.Deliver{TicketID: old, Seq: before.Version + 1},
		}, f.outbox.Take())

		got := f.whole(t, res.Ticket.ID, approvals.EventCreated)
		require.Equal(t, res.Ticket, got)
		closed, err := f.store.Ticket(t.Context(), db.Ref{ID: old})
		require.NoError(t, err)
		require.Equal(t, approvals.Cancelled, closed.State)
		require.Equal(t, got.ID, closed.SupersededBy)
		require.Equal(t, got.CreatedAt, closed.FinishedAt, "one transaction, one now")
		entries, err := f.store.Entries(t.Context(), db.Ref{ID: old})
		require.NoError(t, err)
		last := entries[len(entries)-1].Event
		require.Equal(t, approvals.EventCancelled, last.Type)
		require.Equal(t, approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, last.Actor)
		requireChain(t, f.store, old)
		_, err = f.store.Delivery(t.Context(), old, last.Seq)
		require.NoError(t, err, "the old ticket's end is owed to its caller")

		again := instead(t, old)
		again.Key = req.Key
		replay, err := f.store.Submit(t.Context(), again)
		require.NoError(t, err, "the same key, after the old ticket has closed")
		require.True(t, replay.Replayed)
		require.Equal(t, got, replay.Ticket)
		again.Key.Fingerprint[0]++
		_, err = f.store.Submit(t.Context(), again)
		require.ErrorIs(t, err, db.ErrKeyReused)
	}
}

func TestATicketThatCannotBeSupersededLeavesNothingOfTheNewOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := superuser(t, f.url)
	lifeOf := func(name string, more ...string) string {
		return prepare(t, f.store, verb{after: append(verbs[name].after, more...)})
	}
	for doing, c := range map[string]struct {
		old, caller string
		want        approvals.Code
	}{
		"no such ticket":     {old: "tkt_00000000000000000000000000", want: approvals.CodeNotFound},
		"another's ticket":   {old: prepare(t, f.store, verb{}), caller: "somebody-else", want: approvals.CodeNotFound},
		"no id":              {old: "tkt_", want: approvals.CodeInvalid},
		"a call being made":  {old: lifeOf("FinishExecution"), want: approvals.CodeConflict},
		"a call made":        {old: lifeOf("FinishExecution", "FinishExecution"), want: approvals.CodeAlreadyFinal},
		"a call in doubt":    {old: lifeOf("Resolve"), want: approvals.CodeAlreadyFinal},
		"a cancelled ticket": {old: lifeOf("DeliveryFailed"), want: approvals.CodeAlreadyFinal},
	} {
		before := contents(t, conn)
		req := instead(t, c.old)
		if c.caller != "" {
			req.Submission.Caller = c.caller
		}
		f.outbox.Take()
		_, err := f.store.Submit(t.Context(), req)
		require.Equal(t, c.want, approvals.ErrorCode(err), "%s: %v", doing, err)
		require.ErrorContains(t, err, "supersede", doing)
		require.NotErrorIs(t, err, db.ErrUnavailable)
		require.Equal(t, before, contents(t, conn), doing)
		require.Empty(t, f.outbox.Take(), doing)
		req.Submission.Supersedes = ""
		res, err := f.store.Submit(t.Context(), req)
		require.NoError(t, err, "%s: its key is free", doing)
		require.False(t, res.Replayed, doing)
	}
}

// TestOneOfThoseWhoSupersedeATicketWins races two processes, and an approver.
func TestOneOfThoseWhoSupersedeATicketWins(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})
	for round := range 25 {
		old := prepare(t, f.store, verb{})
		var won atomic.Value
		var wins, tickets atomic.Int32
		var wg sync.WaitGroup
		for n := range 6 {
			req := instead(t, old)
			wg.Go(func() {
				res, err := []*db.Store{f.store, other}[n%2].Submit(t.Context(), req)
				switch {
				case err == nil:
					wins.Add(1)
					won.Store(res.Ticket.ID)
				case approvals.ErrorCode(err) != approvals.CodeAlreadyFinal:
					t.Errorf("round %d: %v", round, err)
				}
				if _, err := f.store.Ticket(t.Context(), db.Ref{ID: req.Submission.ID}); err == nil {
					tickets.Add(1)
				}
			})
		}
		wg.Go(func() { _, _ = f.decide(t, old, "ana", approvals.Approve) }) // before or after, no matter
		wg.Wait()
		require.EqualValues(t, 1, wins.Load(), "round %d", round)
		require.EqualValues(t, 1, tickets.Load(), "tickets of round %d", round)
		closed, err := f.store.Ticket(t.Context(), db.Ref{ID: old})
		require.NoError(t, err)
		require.Equal(t, won.Load(), closed.SupersededBy)
		requireChain(t, f.store, old)
		requireChain(t, f.store, closed.SupersededBy)
	}
}

// TestNobodyWaitsInACircle has submits that supersede, group commits with the same keys
// and votes meet on few tickets, and asks Postgres whether any two waited for each other.
func TestNobodyWaitsInACircle(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	pools := []*pgxpool.Pool{dbtest.PoolOf(t, url), dbtest.PoolOf(t, url)}
	stores := []*db.Store{dbtest.Store(t, pools[0], &dbtest.Outbox{}), dbtest.Store(t, pools[1], &dbtest.Outbox{})}
	for round := range 10 {
		olds := []string{prepare(t, stores[0], verb{}), prepare(t, stores[1], verb{})}
		var wg sync.WaitGroup
		for n := range 24 {
			req := request(t, eventful())
			req.Key.Key = fmt.Sprint("round ", round, " key ", n%5)
			if n%3 == 0 {
				req.Submission.Supersedes = olds[n%2]
			}
			wg.Go(func() {
				_, err := stores[n%2].Submit(t.Context(), req)
				if err != nil && !errors.Is(err, db.ErrKeyInProgress) && approvals.ErrorCode(err) != approvals.CodeAlreadyFinal {
					t.Errorf("submit: %v", err)
				}
			})
			wg.Go(func() {
				_, err := stores[n%2].Advance(t.Context(), db.Ref{ID: olds[n%2]}, verbs["Notified"].do)
				if err != nil {
					t.Errorf("advance: %v", err)
				}
			})
		}
		wg.Wait()
		for _, old := range olds {
			requireChain(t, stores[0], old)
		}
	}
	for i := range stores { // sessions tell what they counted when they end
		stores[i].Close()
		pools[i].Close()
	}
	conn := superuser(t, url)
	var sessions, deadlocks int
	dbtest.Eventually(t, "all sessions to end", func() bool {
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()`).Scan(&sessions)
		return err == nil && sessions == 1
	})
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()`).Scan(&deadlocks))
	require.Zero(t, deadlocks)
}

func TestASupersedingSubmitIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := sabotage(t, f.url)
	old := prepare(t, f.store, verb{})
	before := contents(t, s.conn)
	req := instead(t, old)
	req.Submission.Callback.Events = []approvals.EventType{approvals.EventCreated}
	fails := func(want string) {
		t.Helper()
		_, err := f.store.Submit(t.Context(), req)
		s.disarm(t)
		f.outbox.Fail = nil
		require.ErrorContains(t, err, want)
		require.Equal(t, before, contents(t, s.conn))
	}
	for _, table := range []string{"idempotency_keys", "tickets", "calls", "audit_events", "deliveries"} {
		for _, moment := range []string{"statement", "commit"} {
			s.arm(t, table, moment, "raise")
			fails("injected into " + table)
		}
	}
	s.arm(t, "tickets", "update", "raise") // the new ticket is in, the old one not yet closed
	fails("injected into tickets")
	f.outbox.Fail = errors.New("outbox down")
	fails("outbox down")
	s.arm(t, "audit_events", "commit", "terminate")
	_, err := f.store.Submit(t.Context(), req)
	s.disarm(t)
	require.ErrorIs(t, err, db.ErrUnavailable)
	require.Equal(t, before, contents(t, s.conn))
	s.arm(t, "tickets", "commit", "twice")
	res, err := f.store.Submit(t.Context(), req)
	require.NoError(t, err, "a serialization failure is tried again")
	require.False(t, res.Replayed, "the failures did not use up the key")
	requireChain(t, f.store, res.Ticket.ID)
	requireChain(t, f.store, old)
}

// TestTwoTicketsAreLinkedFromBothEndsOrNotAtAll goes past the store.
func TestTwoTicketsAreLinkedFromBothEndsOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	old := prepare(t, f.store, verb{})
	res, err := f.store.Submit(t.Context(), instead(t, old))
	require.NoError(t, err)
	stranger := prepare(t, f.store, verb{})
	// A call is inserted once and never changed, so a new ticket is what it takes.
	conn := superuser(t, f.url)
	forged := func(supersedes string) error {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer tx.Rollback(t.Context()) //nolint:errcheck // as intended
		for _, sql := range []string{
			`CREATE TEMPORARY TABLE was ON COMMIT DROP AS SELECT * FROM calls WHERE ticket_id = '` + stranger + `'`,
			`SET LOCAL session_replication_role = replica`,
			`DELETE FROM calls WHERE ticket_id = '` + stranger + `'`,
			`SET LOCAL session_replication_role = origin`,
			`UPDATE was SET supersedes = '` + supersedes + `'`,
			`INSERT INTO calls SELECT * FROM was`,
		} {
			_, err := tx.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
		_, err = tx.Exec(t.Context(), `SET CONSTRAINTS ALL IMMEDIATE`)
		return err
	}
	require.ErrorContains(t, forged(old), "does not supersede", "a second successor")
	require.ErrorContains(t, forged(res.Ticket.ID), "does not supersede", "one that was not closed")
	require.ErrorContains(t, forged("tkt_00000000000000000000000000"), "does not supersede", "one that is not")
}

// TestSubmitsThatSupersedeWaitApartAndBounded holds the lock they wait for.
func TestSubmitsThatSupersedeWaitApartAndBounded(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	store, err := db.New(db.Config{Pool: dbtest.PoolOf(t, url), Outbox: &dbtest.Outbox{}, Box: dbtest.Box(t), Committers: 1, Queue: 2})
	require.NoError(t, err)
	t.Cleanup(store.Close)
	old := prepare(t, store, verb{})
	conn := superuser(t, url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM tickets WHERE id = $1 FOR UPDATE`, old)
	require.NoError(t, err)
	answers := make(chan error, 2)
	for range 2 {
		req := instead(t, old)
		go func() {
			_, err := store.Submit(t.Context(), req)
			answers <- err
		}()
	}
	look := superuser(t, url)
	dbtest.Eventually(t, "both to wait", func() bool {
		var waiting int
		err := look.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting == 2
	})
	_, err = store.Submit(t.Context(), instead(t, old))
	require.ErrorIs(t, err, db.ErrOverloaded)
	_, err = store.Submit(t.Context(), request(t, eventful()))
	require.NoError(t, err, "nobody else waits")

	closed := make(chan struct{})
	go func() {
		store.Close()
		close(closed)
	}()
	dbtest.Eventually(t, "the door to be shut", func() bool {
		_, err := store.Submit(t.Context(), instead(t, old))
		return errors.Is(err, db.ErrUnavailable)
	})
	select {
	case <-closed:
		t.Fatal("closed with submits under way")
	default:
	}
	require.NoError(t, tx.Rollback(t.Context()))
	first, second := <-answers, <-answers
	require.True(t, (first == nil) != (second == nil), "%v, %v", first, second)
	<-closed
}
