package jobs_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// payload is the part of a callback that the tests look at.
type payload struct {
	Type string `json:"type"`
	Data struct {
		TicketID string             `json:"ticket_id"`
		State    approvals.State    `json:"state"`
		Sequence int64              `json:"sequence"`
		Error    *approvals.Problem `json:"error"`
		Result   *struct {
			Status int             `json:"status"`
			Body   json.RawMessage `json:"body"`
		} `json:"result"`
	} `json:"data"`
}

// callbacks returns what the receiver was told of a ticket; every one must be signed.
func (w *world) callbacks(id string) []payload {
	w.tb.Helper()
	var out []payload
	for _, r := range w.receiver.requests() {
		requireSigned(w.tb, r)
		var p payload
		require.NoError(w.tb, json.Unmarshal([]byte(r.body), &p))
		if p.Data.TicketID == id {
			out = append(out, p)
		}
	}
	return out
}

func TestAllowedCallIsMadeAndItsResultDelivered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireEvents(id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)

	calls := w.upstream.requests()
	require.Len(t, calls, 1)
	require.Equal(t, "GET", calls[0].method)
	require.Equal(t, "/customers/42", calls[0].path)
	require.Equal(t, "Bearer first", calls[0].header.Get("Authorization"))
	require.Equal(t, id, calls[0].header.Get("Idempotency-Key"))

	told := w.callbacks(id)
	require.Len(t, told, 1)
	require.Equal(t, string(approvals.EventSucceeded), told[0].Type)
	require.Equal(t, 200, told[0].Data.Result.Status)
	require.JSONEq(t, `{"ok":true}`, string(told[0].Data.Result.Body))
	result, err := w.store.Result(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.JSONEq(t, `{"ok":true}`, string(result.Body))
}

func TestApprovedCallIsMadeWithTheBytesThatWereApproved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.approved(call{
		body: `{"reason":"gdpr"}`, header: approvals.Header{Name: "Content-Type", Value: "application/json"},
		events: []approvals.EventType{approvals.EventApproved},
	}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	calls := w.upstream.requests()
	require.Len(t, calls, 1)
	require.Equal(t, `{"reason":"gdpr"}`, calls[0].body)
	require.Equal(t, "application/json", calls[0].header.Get("Content-Type"))
	eventually(t, "both callbacks arrive", func() bool { return len(w.callbacks(id)) == 2 })
	w.requireWhole(id)
}

func TestCallersOwnIdempotencyKeyIsSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.approved(call{header: approvals.Header{Name: "Idempotency-Key", Value: "caller-chose-this"}}).ID
	w.awaitState(id, approvals.Succeeded)
	require.Equal(t, []string{"caller-chose-this"}, w.upstream.requests()[0].header.Values("Idempotency-Key"))
}

func TestDeniedCallIsNeverMadeAndTheCallerIsTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, method, code string
		events             []approvals.EventType
	}{
		{"by a person", "DELETE", "denied", []approvals.EventType{
			approvals.EventCreated, approvals.EventDecided, approvals.EventDenied, approvals.EventCallbackDelivered,
		}},
		{"by a rule", "PATCH", "denied_by_policy", []approvals.EventType{
			approvals.EventCreated, approvals.EventDenied, approvals.EventCallbackDelivered,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.run()
			id := w.submit(call{method: test.method}).ID
			if test.method == "DELETE" {
				w.decide(id, "bo", approvals.Deny)
			}
			w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
			w.requireEvents(id, test.events...)
			require.Equal(t, test.code, w.callbacks(id)[0].Data.Error.Code)
			require.Empty(t, w.upstream.requests())
		})
	}
}

func TestTicketExpiresAtItsDeadline(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.submit(call{plan: func(p *approvals.Plan) { p.ExpiresIn = 300 * time.Millisecond }}).ID
	w.awaitTold(id, approvals.Expired, approvals.CallbackDelivered)
	w.requireEvents(id, approvals.EventCreated, approvals.EventExpired, approvals.EventCallbackDelivered)
	require.Equal(t, "expired", w.callbacks(id)[0].Data.Error.Code)
}

func TestRemindersAndEscalationsFireInTheirOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.submit(call{plan: func(p *approvals.Plan) {
		p.Stages[0].RemindEvery = 400 * time.Millisecond
		p.Stages[0].Escalate = []approvals.Tier{{After: 600 * time.Millisecond, To: []string{"chen"}, Mode: approvals.ModeAdd}}
	}}).ID
	w.await(id, "reminded twice and escalated", func(x approvals.Ticket) bool { return x.Reminders >= 2 && x.Tiers[0] == 1 })
	w.decide(id, "bo", approvals.Deny)
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	for _, e := range w.requireWhole(id) {
		switch e.Type { //nolint:exhaustive // the others are not timers
		case approvals.EventReminded:
			require.False(t, e.At.Before(w.ticket(id).CreatedAt.Add(time.Duration(e.Data.Number)*400*time.Millisecond)), "early: %v", e)
		case approvals.EventEscalated:
			require.False(t, e.At.Before(w.ticket(id).CreatedAt.Add(600*time.Millisecond)), "early: %v", e)
		}
	}
}

func TestATimerThatComesEarlyComesBackAndOneThatComesTwiceDoesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.submit(call{plan: func(p *approvals.Plan) { p.ExpiresIn = 2 * time.Second }}).ID
	w.sql(`DELETE FROM river_job`)
	w.enqueue(approvals.ExpireAt{TicketID: id}, approvals.ExpireAt{TicketID: id}, approvals.RemindAt{TicketID: id, Number: 1})
	w.run()
	eventually(t, "the early jobs are put off", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE kind = 'expire' AND (metadata->>'snoozes')::int > 0`) == 2
	})
	require.Equal(t, approvals.Pending, w.ticket(id).State)
	w.awaitState(id, approvals.Expired)
	eventually(t, "the others end, too", func() bool { // there is one more when the alarm rang first
		return w.number(`SELECT count(*) FROM river_job WHERE kind IN ('expire', 'remind') AND state <> 'completed'`) == 0
	})
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventExpired))
}

func TestApprovalThatIsNotUsedInTimeExpires(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.submit(call{plan: func(p *approvals.Plan) { p.ExecuteWithin = 200 * time.Millisecond }}).ID
	approved := w.decide(id, "ana", approvals.Approve)
	eventually(t, "the time to execute is over", func() bool {
		return w.number(`SELECT count(*) FROM tickets WHERE id = $1 AND execute_by < clock_timestamp()`, approved.ID) == 1
	})
	w.run() // only now is there somebody to execute it
	x := w.awaitTold(id, approvals.Expired, approvals.CallbackDelivered)
	require.Equal(t, "approval_stale", x.Problem.Code)
	require.Empty(t, w.upstream.requests())
	w.requireWhole(id)
}
