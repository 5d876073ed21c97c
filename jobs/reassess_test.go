package jobs_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
)

// lost takes away so many of those who were asked that two cannot approve any more. The
// rule itself is in order: there are others, who were not asked.
func lost(s *shape) { s.members = "bo, fay, gil" }

// stalled reports whether nobody can complete a ticket.
func stalled(x approvals.Ticket) bool { return x.Stalled != nil }

// slowly keeps the sweeper from noticing anything by itself.
func slowly(c *jobs.Config) { c.SweepEvery = time.Hour }

// runs starts a runner that the test can speak to.
func (w *world) runs(change ...func(*jobs.Config)) *jobs.Runner {
	w.tb.Helper()
	r := w.runner(change...)
	require.NoError(w.tb, r.Start(w.tb.Context()), "start the runner")
	w.tb.Cleanup(func() { w.halt(r) })
	return r
}

func TestQuorumThatPeopleLeaveOutOfReachEscalatesAtOnceAndThenTheCallerIsTold(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo, func(s *shape) { s.stage = ", escalate: [{after: 20h, to: [hal], mode: add}]" })
	r := w.runs(slowly)
	id := w.submit(call{}).ID
	w.reload(lost)
	r.PolicyChanged()
	x := w.await(id, "escalated", func(x approvals.Ticket) bool { return x.Tiers[0] == 1 })
	require.Nil(t, x.Stalled, "bo and hal can complete it")
	require.Equal(t, []string{"bo", "hal"}, x.WaitingFor(w.config.Load().Directory()))
	require.Contains(t, last(t, w.requireWhole(id), approvals.EventEscalated).Data.Reason, "out of reach")

	w.reload(func(s *shape) { s.members = "fay, gil" })
	r.PolicyChanged()
	x = w.await(id, "stalled", stalled)
	require.Equal(t, "of 2 needed approvals only 1 can be given by the people who may still decide", x.Stalled.Reason)
	eventually(t, "the caller is told", func() bool { return len(w.callbacks(id)) == 1 })
	require.Equal(t, string(approvals.EventStalled), w.callbacks(id)[0].Type)
	require.Equal(t, approvals.Pending, w.callbacks(id)[0].Data.State)

	w.reload(func(s *shape) { s.members = "bo, fay" })
	r.PolicyChanged()
	w.await(id, "no longer stalled", func(x approvals.Ticket) bool { return !stalled(x) })
	w.decide(id, "bo", approvals.Approve)
	w.decide(id, "hal", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}

func TestOpenTicketsAreLookedAtAtTheStart(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo)
	id := w.submit(call{}).ID
	asking := w.submit(call{}).ID
	dir := w.config.Load().Directory()
	w.advance(asking, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		q := approvals.Question{Person: "bo", Text: "which customer?"}
		return x.Ask(approvals.Actor{Kind: approvals.ActorPerson, Name: "bo", Via: "slack"}, q, dir, now)
	})
	w.reload(lost) // while nobody was running
	w.runs(slowly)
	w.await(id, "stalled", stalled)
	w.await(asking, "stalled", stalled)
	w.requireWhole(id)
	w.requireWhole(asking)
}

func TestChangedPolicyIsNoticedByTheSweepToo(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo)
	w.runs(sweeping)
	id := w.submit(call{}).ID
	w.reload(lost)
	w.await(id, "stalled", stalled)
}

func TestTicketsThatNeedNothingAreNotWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var ids []string
	for range 20 {
		ids = append(ids, w.submit(call{quiet: true}).ID)
	}
	r := w.runs(slowly)
	stalling := w.submit(call{plan: func(p *approvals.Plan) { p.Stages[0].Need[0].Approvals = 2 }})
	w.reload(lost)
	r.PolicyChanged()
	w.await(stalling.ID, "stalled, the last of them", stalled)
	for _, id := range ids {
		require.Equal(t, int64(1), w.ticket(id).Version, "%v", w.trail(id))
	}
}

// TestEveryPageIsLookedAt has more open tickets than are read at once, and two processes at
// them.
func TestEveryPageIsLookedAtAndByTwoProcessesOnce(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo)
	var ids []string
	for range 230 {
		ids = append(ids, w.submit(call{quiet: true}).ID)
	}
	w.reload(lost)
	w.run(sweeping)
	w.second(sweeping)
	for _, id := range ids {
		w.await(id, "stalled", stalled)
	}
	for _, id := range slices.Concat(ids[:3], ids[227:]) {
		require.Equal(t, 1, count(w.requireWhole(id), approvals.EventStalled))
	}
}

func TestOnlyOneProcessAtATimeLooksAtOpenTickets(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo)
	other := superuser(t, w.url)
	_, err := other.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('countersign/reassess', 0))`)
	require.NoError(t, err)
	id := w.submit(call{}).ID
	w.reload(lost)
	w.runs(sweeping)
	expiring := w.submit(call{plan: func(p *approvals.Plan) { p.Stages[0].Need[0].Approvals, p.ExpiresIn = 1, time.Second }}).ID
	w.awaitState(expiring, approvals.Expired) // it has had the time
	require.Nil(t, w.ticket(id).Stalled)
	_, err = other.Exec(t.Context(), `SELECT pg_advisory_unlock_all()`)
	require.NoError(t, err)
	w.await(id, "stalled", stalled)
}

// TestEndOfAnAbsenceIsAMomentToLookAgain is about ana, whose delegate is away himself and
// has chen act. When he is back, chen does not act for ana any more, and bo was not asked.
func TestEndOfAnAbsenceIsAMomentToLookAgain(t *testing.T) {
	t.Parallel()
	back := time.Now().Add(3 * time.Second).UTC() //nolint:forbidigo // compared with the database's clock, on this machine
	w := setup(t, func(s *shape) {
		s.need = "{from: [ana], approvals: 1}"
		s.ana = `, away: {until: "` + back.AddDate(0, 0, 20).Format(time.RFC3339) + `", delegate: bo}`
		s.bo = `, away: {until: "` + back.Format(time.RFC3339) + `", delegate: chen}`
	})
	x := w.submit(call{})
	require.Equal(t, []string{"chen"}, x.WaitingFor(w.config.Load().Directory().At(x.CreatedAt)))
	w.runs(func(c *jobs.Config) { c.SweepEvery = 100 * time.Millisecond })
	x = w.await(x.ID, "stalled", stalled)
	require.False(t, x.Stalled.Since.Before(back.Truncate(time.Second)), "not before bo is back")
	w.requireWhole(x.ID)
}

func TestWhatCannotBeWrittenDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := setup(t, quorumOfTwo)
	first, second := w.submit(call{quiet: true}).ID, w.submit(call{quiet: true}).ID
	conn := superuser(t, w.url)
	_, err := conn.Exec(t.Context(), `ALTER TABLE tickets ADD CONSTRAINT broken CHECK (id <> '`+first+`' OR stalled IS NULL)`)
	require.NoError(t, err)
	w.reload(lost)
	w.runs(slowly)
	w.await(second, "stalled", stalled)
	require.Nil(t, w.ticket(first).Stalled)
}
