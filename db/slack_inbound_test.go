package db_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// clickOf is a request of Slack, by a digit.
func clickOf(digit string) db.Inbound {
	return db.Inbound{Key: strings.Repeat(digit, 64), Kind: "interaction", Transport: "http", Body: []byte("payload=" + digit)}
}

func (f fixture) take(t *testing.T, in db.Inbound) {
	t.Helper()
	fresh, err := f.store.TakeInbound(t.Context(), in)
	require.NoError(t, err)
	require.True(t, fresh)
}

func (f fixture) unfinished(t *testing.T) (keys []string) {
	t.Helper()
	due, err := f.store.DueInbound(t.Context(), 0, 10)
	require.NoError(t, err)
	for _, in := range due {
		keys = append(keys, in.Key[:1])
	}
	return keys
}

// outcome is what came of a request, and whether its body is still kept.
func (f fixture) outcome(t *testing.T, in db.Inbound) (outcome string, kept bool) {
	t.Helper()
	require.NoError(t, superuser(t, f.url).QueryRow(t.Context(), `SELECT state || ' ' || outcome, body IS NOT NULL FROM slack_inbound WHERE replay_key = $1`,
		in.Key).Scan(&outcome, &kept))
	return outcome, kept
}

func TestARequestOfSlackIsTakenOnceHoweverManyTakeIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var wg sync.WaitGroup
	taken := make(chan bool, 16)
	for range cap(taken) {
		wg.Go(func() {
			fresh, err := f.store.TakeInbound(t.Context(), clickOf("a"))
			taken <- fresh && err == nil
		})
	}
	wg.Wait()
	close(taken)
	n := 0
	for fresh := range taken {
		if fresh {
			n++
		}
	}
	require.Equal(t, 1, n)
	require.NoError(t, f.store.FinishInbound(t.Context(), clickOf("a").Key, "told"))
	fresh, err := f.store.TakeInbound(t.Context(), clickOf("a"))
	require.NoError(t, err)
	require.False(t, fresh, "nor when it is done")
	state, kept := f.outcome(t, clickOf("a"))
	require.Equal(t, "done told", state)
	require.False(t, kept, "its body holds an address to answer to")
}

func TestUnfinishedRequestsAreLeasedOldestFirst(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, digit := range []string{"c", "a", "b"} {
		f.take(t, clickOf(digit))
	}
	due, err := f.store.DueInbound(t.Context(), time.Hour, 10)
	require.NoError(t, err)
	require.Empty(t, due, "whoever took them is at it")
	due, err = f.store.DueInbound(t.Context(), 0, 2)
	require.NoError(t, err)
	require.Len(t, due, 2)
	want := clickOf("c")
	want.Attempts, want.At = 1, due[0].At
	require.Equal(t, want, due[0])
	require.Equal(t, "a", due[1].Key[:1])
	require.Equal(t, []string{"b"}, f.unfinished(t), "the others are somebody's")
	require.Empty(t, f.unfinished(t))
	exec(t, superuser(t, f.url), `UPDATE slack_inbound SET lease_until = lease_until - interval '15 seconds'`)
	require.NoError(t, f.store.FinishInbound(t.Context(), clickOf("a").Key, "told"))
	require.Equal(t, []string{"c", "b"}, f.unfinished(t), "whoever had them has died")
}

func TestADecisionAndTheNoteThatItsRequestIsDoneAreOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	decided := errors.New("not decided")
	cancel := func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: x.Caller, Via: "api"}, "", now)
	}
	f.take(t, clickOf("a"))
	_, err := f.store.AdvanceInbound(t.Context(), clickOf("a").Key, db.Ref{ID: id}, cancel)
	require.NoError(t, err)
	state, _ := f.outcome(t, clickOf("a"))
	require.Equal(t, "done counted", state)
	_, err = f.store.AdvanceInbound(t.Context(), clickOf("a").Key, db.Ref{ID: id}, cancel)
	require.ErrorIs(t, err, db.ErrTaken)
	_, err = f.store.AdvanceInbound(t.Context(), clickOf("b").Key, db.Ref{ID: id}, cancel)
	require.ErrorIs(t, err, db.ErrTaken, "one that was never taken")
	events, err := f.store.Events(t.Context(), db.Ref{ID: id}, 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 2, "created and cancelled")

	for digit, want := range map[string]string{"c": "done refused", "d": "done allowed"} {
		f.take(t, clickOf(digit))
		_, err = f.store.AdvanceInbound(t.Context(), clickOf(digit).Key, db.Ref{ID: id}, func(approvals.Ticket, time.Time) (approvals.Transition, error) {
			if digit == "c" {
				return approvals.Transition{}, decided
			}
			return approvals.Transition{}, nil
		})
		require.Equal(t, digit == "c", errors.Is(err, decided))
		state, _ := f.outcome(t, clickOf(digit))
		require.Equal(t, want, state)
	}
}

// A transaction that cannot be committed leaves the request as unfinished as the ticket.
func TestARequestWhoseDecisionFailsStaysUnfinished(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	f.take(t, clickOf("a"))
	exec(t, superuser(t, f.url), `CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
		CREATE TRIGGER refuse_all BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_all()`)
	_, err := f.store.AdvanceInbound(t.Context(), clickOf("a").Key, db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: x.Caller, Via: "api"}, "", now)
	})
	require.Error(t, err)
	require.Equal(t, []string{"a"}, f.unfinished(t))
	_, err = f.store.AdvanceInbound(t.Context(), clickOf("a").Key, db.Ref{ID: "tkt_00000000000000000000000000"}, nil)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	state, kept := f.outcome(t, clickOf("a"))
	require.Equal(t, []any{"received ", true}, []any{state, kept})
}

func TestACardIsFoundByThePlaceOfItsMessageOrACopy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	card, err := f.store.PrepareCard(t.Context(), db.NewCard{TicketID: f.submit(t, plan(stage(1))).ID, Channel: "C1", Digest: strings.Repeat("a", 64)})
	require.NoError(t, err)
	at := func(channel, ts string) string {
		handle, err := f.store.CardAt(t.Context(), channel, ts)
		require.NoError(t, err)
		return handle
	}
	require.Empty(t, at("", ""), "not posted yet")
	require.NoError(t, f.store.CardPosted(t.Context(), card.Handle, "C1", "1.1", 1))
	require.NoError(t, f.store.AdoptCopy(t.Context(), card.Handle, "C1", "1.2"))
	require.Equal(t, []string{card.Handle, card.Handle, "", ""}, []string{at("C1", "1.1"), at("C1", "1.2"), at("C2", "1.1"), at("C1", "1.3")})
}
