package jobs_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress/egresstest"
	"countersign/jobs"
)

// attempts reads what was recorded of the attempts for a ticket's last event.
func (w *world) attempts(id string) []approvals.DeliveryAttempt {
	w.tb.Helper()
	var out []approvals.DeliveryAttempt
	for _, e := range w.requireWhole(id) {
		if e.Data.Delivery != nil && e.Type != approvals.EventRedeliveryRequested {
			out = append(out, *e.Data.Delivery)
		}
	}
	stored := w.number(`SELECT count(*) FROM delivery_attempts WHERE ticket_id = $1`, id)
	require.Len(w.tb, out, stored, "attempts in the trail and in their table")
	return out
}

// requireSameMessage asserts that all requests are tries of one message: the same id, the
// same bytes, a signature that holds and a number that counts up.
func requireSameMessage(tb testing.TB, requests []received) {
	tb.Helper()
	for _, r := range requests {
		requireSigned(tb, r)
		require.Equal(tb, requests[0].header.Get("Webhook-Id"), r.header.Get("Webhook-Id"))
		require.Equal(tb, requests[0].body, r.body)
		require.Equal(tb, requests[0].header.Get("Content-Digest"), r.header.Get("Content-Digest"))
	}
}

func TestReceiverThatIsDownIsTriedAgainUntilItIsUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.statuses(500, 503, 200)
	w.run(func(c *jobs.Config) {
		c.Schedule = []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
	})
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)

	requests := w.receiver.requests()
	require.Len(t, requests, 3)
	requireSameMessage(t, requests)
	d, err := w.store.Delivery(t.Context(), id, w.ticket(id).CallbackSeq)
	require.NoError(t, err)
	require.Equal(t, string(d.Payload), requests[0].body, "what is stored is what was sent")
	require.Equal(t, d.MessageID, requests[0].header.Get("Webhook-Id"))
	require.Equal(t, 3, d.Attempts)

	attempts := w.attempts(id)
	for i, status := range []int{500, 503, 200} {
		require.Equal(t, i+1, attempts[i].Number)
		require.Equal(t, status, attempts[i].Status)
		require.Equal(t, []string{"1", "2", "3"}[i], requests[i].header.Get("Countersign-Attempt"))
	}
	w.requireSchedule(id, 100*time.Millisecond, 200*time.Millisecond)
	require.Len(t, w.upstream.requests(), 1)
}

// requireSchedule asserts the waits after the failed attempts, a fifth more or less.
func (w *world) requireSchedule(id string, waits ...time.Duration) {
	w.tb.Helper()
	var got []time.Duration
	for _, e := range w.requireWhole(id) {
		if e.Type == approvals.EventCallbackFailed {
			got = append(got, e.Data.Delivery.NextAt.Sub(e.At))
		}
	}
	require.Len(w.tb, got, len(waits))
	for i, want := range waits {
		require.InDelta(w.tb, float64(want), float64(got[i]), float64(want)*0.21, "wait %d", i+1)
	}
}

func TestReceiverThatStaysDownIsGivenUpAndTheOutcomeStands(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusInternalServerError)
	w.run() // four attempts
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	w.settled()
	requests := w.receiver.requests()
	require.Len(t, requests, 4)
	requireSameMessage(t, requests)
	events := w.requireWhole(id)
	require.Equal(t, 3, count(events, approvals.EventCallbackFailed))
	require.Equal(t, 1, count(events, approvals.EventCallbackExhausted))
	require.True(t, w.attempts(id)[3].NextAt.IsZero())
}

func TestReceiverThatIsGoneIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"410": func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) },
		"asks to abort": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Webhook-Delivery", "abort-message")
			rw.WriteHeader(http.StatusBadRequest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.receiver.answers(answer)
			w.run()
			id := w.submit(call{method: http.MethodGet}).ID
			w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
			w.settled()
			require.Len(t, w.receiver.requests(), 1)
			w.requireWhole(id)
		})
	}
}

func TestReceiverThatCannotBeReachedIsTriedBySchedule(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.receiver = "http://" + egresstest.Refusing(t) })
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	attempts := w.attempts(id)
	require.Len(t, attempts, 4)
	for i, a := range attempts {
		require.Zero(t, a.Status)
		want := "no connection could be made"
		if i == 3 {
			want += ", and this was the last attempt"
		}
		require.Equal(t, want, a.Error, "a fixed sentence without addresses")
	}
}

func TestRedirectOfAReceiverIsNotFollowed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.answers(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, w.upstream.url()+"/stolen", http.StatusTemporaryRedirect)
	})
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
	for _, r := range w.upstream.requests() {
		require.NotEqual(t, "/stolen", r.path)
	}
}

func TestDuplicatesOfADeliveryThatIsDoneSendNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	x := w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	for range 10 {
		w.enqueue(approvals.Deliver{TicketID: id, Seq: x.CallbackSeq})
	}
	w.enqueue(approvals.Deliver{TicketID: id, Seq: 1}, approvals.Deliver{TicketID: id, Seq: 999})
	w.settled()
	require.Len(t, w.receiver.requests(), 1)
	require.Equal(t, x.Version, w.ticket(id).Version, "nothing was recorded either")
}

func TestAnAttemptInFlightIsMadeByNobodyElse(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.receiver.hangs()
	w.run()
	w.run(sweeping) // another process
	id := w.submit(call{method: http.MethodGet}).ID
	receive(t, "the first try", w.receiver.got)
	seq := w.ticket(id).CallbackSeq
	w.enqueue(approvals.Deliver{TicketID: id, Seq: seq}, approvals.Deliver{TicketID: id, Seq: seq})
	eventually(t, "the other jobs have come and gone", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE kind = 'deliver' AND state IN ('available', 'running')`) == 1
	})
	release()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	require.Len(t, w.receiver.requests(), 1)
	require.Len(t, w.attempts(id), 1)
}

func TestSecondJobDoesNotHurryTheSchedule(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.status(http.StatusInternalServerError)
	w.run(func(c *jobs.Config) { c.Schedule = []time.Duration{0, time.Hour, time.Hour, time.Hour} })
	id := w.submit(call{method: http.MethodGet}).ID
	x := w.await(id, "tried once", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventCallbackFailed) == 1 })
	for range 10 { // as after the death of a worker, or by hand
		w.enqueue(approvals.Deliver{TicketID: id, Seq: x.CallbackSeq})
	}
	w.settled()
	require.Len(t, w.receiver.requests(), 1)
	require.Equal(t, 1, w.number(`SELECT count(*) FROM river_job WHERE kind = 'deliver' AND state = 'scheduled'`),
		"one series of attempts, not two")
	w.requireWhole(id)
}

func (w *world) events(id string) []approvals.Event {
	w.tb.Helper()
	out, err := w.store.Events(w.tb.Context(), db.Ref{ID: id}, 0, 1000)
	require.NoError(w.tb, err)
	return out
}
