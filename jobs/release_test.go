package jobs_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
)

// TestScheduledCallGoesOutAtItsHour is about a ticket that is approved long before, and one
// that nobody needs to approve.
func TestScheduledCallGoesOutAtItsHour(t *testing.T) {
	t.Parallel()
	for name, method := range map[string]string{"approved": "DELETE", "allowed": http.MethodGet} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.run(sweeping) // a sweeper in a hurry does not send it early either
			x := w.submit(call{method: method, after: 2 * time.Second})
			if method == "DELETE" {
				x = w.decide(x.ID, "ana", approvals.Approve)
			}
			require.Equal(t, approvals.Approved, x.State)
			require.True(t, x.WakeAt.Equal(x.NotBefore), "the alarm rings at %s, not at %s", x.NotBefore, x.WakeAt)
			done := w.awaitTold(x.ID, approvals.Succeeded, approvals.CallbackDelivered)
			require.Less(t, done.ExecutionStartedAt.Sub(x.NotBefore), 1500*time.Millisecond, "how late it went out")
			require.False(t, done.ExecutionStartedAt.Before(x.NotBefore), "it went out early: %s before %s", done.ExecutionStartedAt, x.NotBefore)
			events := w.requireWhole(x.ID)
			require.Equal(t, 1, count(events, approvals.EventReleased))
			require.Equal(t, 1, count(events, approvals.EventClaimed))
			require.Equal(t, 1, w.upstream.callsOf(x.ID))
		})
	}
}

func TestScheduledCallThatIsApprovedAfterItsHourGoesOutAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	x := w.submit(call{after: 100 * time.Millisecond})
	eventually(t, "its hour is over", func() bool {
		return w.number(`SELECT count(*) WHERE clock_timestamp() > $1::timestamptz`, x.NotBefore) == 1
	})
	w.decide(x.ID, "ana", approvals.Approve)
	w.awaitTold(x.ID, approvals.Succeeded, approvals.CallbackDelivered)
	require.Zero(t, count(w.requireWhole(x.ID), approvals.EventReleased), "it was never held back")
}

func TestScheduledCallCanBeCancelledUntilItsHour(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(sweeping)
	x := w.approved(call{after: 700 * time.Millisecond})
	w.cancel(x.ID)
	w.awaitTold(x.ID, approvals.Cancelled, approvals.CallbackDelivered)
	w.enqueue(approvals.ReleaseAt{TicketID: x.ID}, approvals.Execute{TicketID: x.ID}) // late jobs do nothing
	eventually(t, "its hour is over", func() bool {
		return w.number(`SELECT count(*) WHERE clock_timestamp() > $1::timestamptz + interval '500 ms'`, x.NotBefore) == 1
	})
	w.settled()
	require.Empty(t, w.upstream.requests())
	w.requireEvents(x.ID, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved,
		approvals.EventCancelled, approvals.EventCallbackDelivered)
}

func TestScheduledCallThatNobodyMakesInTimeExpires(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := w.submit(call{after: 300 * time.Millisecond, plan: func(p *approvals.Plan) { p.ExecuteWithin = 200 * time.Millisecond }})
	x = w.decide(x.ID, "ana", approvals.Approve)
	require.Equal(t, x.NotBefore.Add(200*time.Millisecond), x.ExecuteBy, "counted from its hour")
	eventually(t, "the time to execute is over", func() bool {
		return w.number(`SELECT count(*) FROM tickets WHERE id = $1 AND execute_by < clock_timestamp()`, x.ID) == 1
	})
	w.run()
	x = w.awaitTold(x.ID, approvals.Expired, approvals.CallbackDelivered)
	require.Equal(t, "approval_stale", x.Problem.Code)
	require.Empty(t, w.upstream.requests())
	w.requireWhole(x.ID)
}

// TestScheduledCallOutlivesEveryProcess has nobody around and no job left when the hour comes.
func TestScheduledCallOutlivesEveryProcess(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first := w.runner()
	require.NoError(t, first.Start(t.Context()))
	x := w.approved(call{after: time.Second})
	w.halt(first)
	w.sql(`DELETE FROM river_job`)
	eventually(t, "its hour has come", func() bool {
		return w.number(`SELECT count(*) WHERE clock_timestamp() > $1::timestamptz`, x.NotBefore) == 1
	})
	require.Equal(t, approvals.Approved, w.ticket(x.ID).State)
	w.run(func(c *jobs.Config) { c.OverdueGrace, c.UnstartedGrace = time.Hour, time.Hour }) // the alarm finds it, not the sweeper
	w.awaitTold(x.ID, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(x.ID))
	require.Equal(t, 1, count(w.requireWhole(x.ID), approvals.EventReleased))
}

func TestScheduledCallIsHeldToThePolicyOfItsHour(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.approved(call{after: time.Second}).ID
	w.reload(quorumOfTwo)
	w.awaitTightened(id)
	require.Empty(t, w.upstream.requests())
	w.decide(id, "bo", approvals.Approve)
	w.decide(id, "chen", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireWhole(id)
}
