package jobs_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
)

func TestStopLetsTheCallUnderWayFinish(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.halt(r)
	}()
	// It takes nothing new while it waits for what is under way.
	eventually(t, "no queue is worked any more", func() bool {
		probe := w.number(`SELECT count(*) FROM river_job WHERE kind = 'expire' AND state = 'available'`)
		w.enqueue(approvals.ExpireAt{TicketID: missing})
		return probe > 20
	})
	require.Equal(t, approvals.Executing, w.ticket(id).State)
	release()
	receive(t, "the end of Stop", stopped)
	require.Equal(t, approvals.Succeeded, w.ticket(id).State)
	require.Zero(t, w.number(`SELECT count(*) FROM workers`), "a worker that has stopped is forgotten")

	w.run() // the callback is for the next process
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func TestStopThatMayNotWaitRecordsTheDoubtAndNobodySendsAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.upstream.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Stop(ctx), context.DeadlineExceeded, "an end that is not in good order is said")
	x := w.ticket(id)
	require.Equal(t, approvals.OutcomeUnknown, x.State)
	require.Equal(t, "no_answer", x.Problem.Code)

	w.upstream.status(http.StatusOK)
	w.run(sweeping, shortLease)
	w.enqueue(approvals.Execute{TicketID: id})
	w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	w.settled()
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventOutcomeUnknown, approvals.EventCallbackDelivered)
}

func TestStopThatMayNotWaitLeavesTheCallbackToTheNextProcess(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.submit(call{method: http.MethodPatch}).ID
	receive(t, "the callback", w.receiver.got)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Stop(ctx), context.DeadlineExceeded)
	require.Equal(t, approvals.CallbackPending, w.ticket(id).CallbackState)

	w.receiver.status(http.StatusOK)
	w.run()
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	requireSameMessage(t, w.receiver.requests())
	require.Len(t, w.receiver.requests(), 2)
	require.Len(t, w.attempts(id), 1, "what we cut off ourselves is not charged to the receiver")
}

func TestStopDuringAnIdempotentCallLetsTheNextProcessMakeItAgain(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.idempotent = true })
	w.upstream.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Stop(ctx), context.DeadlineExceeded)
	w.upstream.status(http.StatusOK)
	w.run()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 2, w.upstream.callsOf(id), "both with the ticket's id as their key")
	w.requireWhole(id)
}

func TestRunnerGoesOnWhenTheContextOfItsStartEnds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.runner()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, r.Start(ctx))
	cancel()
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.halt(r)
	w.halt(r) // a second time is no error
}

func TestStartFailsWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var c jobs.Config
	r := w.runner(func(x *jobs.Config) { c = *x })
	c.Pool.Close()
	require.Error(t, r.Start(t.Context()))
	w.halt(r)
}
