package jobs_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/jobs"
)

// lost deletes every job of a kind, as if River had forgotten it.
func (w *world) lost(kind string) {
	w.tb.Helper()
	require.NotZero(w.tb, w.sql(`DELETE FROM river_job WHERE kind = $1`, kind), "there was no job to lose")
}

func TestTicketGoesOnWhenItsJobIsLost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind  string
		call  call
		until func(approvals.Ticket) bool
	}{
		{
			"expire",
			call{plan: func(p *approvals.Plan) { p.ExpiresIn = 500 * time.Millisecond }},
			func(x approvals.Ticket) bool { return x.State == approvals.Expired },
		},
		{
			"remind",
			call{plan: func(p *approvals.Plan) { p.Stages[0].RemindEvery = 300 * time.Millisecond }},
			func(x approvals.Ticket) bool { return x.Reminders >= 1 },
		},
		{
			"escalate",
			call{plan: func(p *approvals.Plan) {
				p.Stages[0].Escalate = []approvals.Tier{{After: 300 * time.Millisecond, To: []string{"chen"}, Mode: approvals.ModeAdd}}
			}},
			func(x approvals.Ticket) bool { return x.Tiers[0] == 1 },
		},
		{"execute", call{method: http.MethodGet}, func(x approvals.Ticket) bool { return x.State == approvals.Succeeded }},
		{"deliver", call{method: http.MethodPatch}, func(x approvals.Ticket) bool { return x.CallbackState == approvals.CallbackDelivered }},
	} {
		t.Run(test.kind, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.submit(test.call).ID
			if test.kind == "execute" || test.kind == "deliver" {
				w.lost(test.kind)
			}
			// A timer has no job before it is due: its loss is that nobody rings.
			w.run(sweeping, func(c *jobs.Config) { c.AlarmEvery = time.Hour })
			w.await(id, "where it should be without its job", test.until)
			w.requireWhole(id)
			require.LessOrEqual(t, w.upstream.callsOf(id), 1)
		})
	}
}

func TestNextAttemptOfADeliveryIsMadeWhenItsJobIsLost(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.receiver.statuses(500, 200)
	w.run(sweeping, func(c *jobs.Config) { c.Schedule = []time.Duration{0, 3 * time.Second} })
	id := w.submit(call{method: http.MethodPatch}).ID
	w.await(id, "tried once", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventCallbackFailed) == 1 })
	w.sql(`DELETE FROM river_job WHERE kind = 'deliver' AND state = 'scheduled'`)
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	requireSameMessage(t, w.receiver.requests())
	require.Len(t, w.attempts(id), 2)
}

const deadWorker = "worker_dead"

// claimedByTheDead makes a ticket whose worker claimed it, beat once and fell silent; sent
// says whether it had passed the one-way door.
func (w *world) claimedByTheDead(sent bool) string {
	w.tb.Helper()
	require.NoError(w.tb, w.store.Heartbeat(w.tb.Context(), deadWorker))
	config := w.config.Load()
	dir := config.Directory()
	x := w.approved(call{})
	w.sql(`UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = $1
		WHERE kind = 'execute' AND args @> jsonb_build_object('ticket_id', $2::text)`, []string{deadWorker}, x.ID)
	x = w.advance(x.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Claim(deadWorker, dir, config.Today(x), now)
	})
	if sent {
		up, _ := config.Upstream("billing")
		w.advance(x.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return x.BeginExecution(x.Epoch, deadWorker, x.Binding(up.Digest).Digest(), dir, config.Today(x), now)
		})
	}
	return x.ID
}

func shortLease(c *jobs.Config) { c.Lease = 1500 * time.Millisecond }

func TestUnsentClaimOfADeadWorkerIsExecutedByAnother(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.claimedByTheDead(false)
	w.run(sweeping, shortLease)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		approvals.EventCallbackDelivered)
}

func TestSentClaimOfADeadWorkerLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.claimedByTheDead(true)
	w.run(sweeping, shortLease)
	x := w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	require.Equal(t, "worker_lost", x.Problem.Code)
	w.settled()
	require.Zero(t, w.upstream.callsOf(id), "what may have been sent is never sent again")
	require.Equal(t, "worker_lost", w.callbacks(id)[0].Data.Error.Code)
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventOutcomeUnknown, approvals.EventCallbackDelivered)
}

func TestSentClaimOfADeadWorkerIsMadeAgainWhereThatIsHarmless(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.idempotent = true })
	id := w.claimedByTheDead(true)
	w.run(sweeping, shortLease)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id), "with the ticket's id as its key")
	require.Equal(t, int64(2), w.ticket(id).Epoch)
	w.requireWhole(id)
}

func TestClaimOfALivingWorkerIsNotTaken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	w.run(shortLease, sweeping)
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)
	w.second(shortLease, sweeping)
	eventually(t, "three leases pass", func() bool {
		return w.number(`SELECT count(*) FROM tickets WHERE id = $1 AND execution_started_at < clock_timestamp() - interval '4500 ms'`, id) == 1
	})
	require.Equal(t, approvals.Executing, w.ticket(id).State)
	release()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	require.Zero(t, count(w.requireWhole(id), approvals.EventClaimReleased))
}

func TestAfterAStallOfTheDatabaseNobodyIsTakenForDead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	w.run(shortLease, sweeping)
	w.second(shortLease, sweeping)
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)

	conn := superuser(t, w.url)
	for range 3 {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `LOCK TABLE workers IN ACCESS EXCLUSIVE MODE`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `SELECT pg_sleep(2.5)`) // more than a lease in which nobody is heard
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
		eventually(t, "everybody is heard again", func() bool {
			return w.number(`SELECT count(*) FROM workers WHERE heartbeat_at > clock_timestamp() - interval '1 s'`) == 2
		})
	}
	require.Equal(t, approvals.Executing, w.ticket(id).State)
	release()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

// superuser connects past the service's role.
func superuser(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close(context.WithoutCancel(tb.Context())) })
	return conn
}

func TestRunningJobsOfDeadWorkersAreGivenToOthers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	space := newWorkspace(t)
	asked := w.submit(call{}).ID
	allowed := w.submit(call{method: http.MethodGet}).ID
	denied := w.submit(call{method: http.MethodPatch}).ID
	taken := w.sql(`UPDATE river_job SET state = 'running', attempt = 1, attempted_at = now(), attempted_by = $1
		WHERE kind IN ('notify', 'execute', 'deliver')`, []string{"worker_before", deadWorker})
	require.Equal(t, int64(3), taken)
	// The graces are long: only the rescue can do it.
	w.run(shortLease, w.withSlack(space.client()), func(c *jobs.Config) { c.SweepEvery = 100 * time.Millisecond })
	space.awaitTitles("Approval needed")
	w.awaitTold(allowed, approvals.Succeeded, approvals.CallbackDelivered)
	w.awaitTold(denied, approvals.Denied, approvals.CallbackDelivered)
	for _, id := range []string{asked, allowed, denied} {
		w.requireWhole(id)
	}
}

func TestTwoSweepersAtOnceDoEverythingOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	short := func(p *approvals.Plan) { p.ExpiresIn = 200 * time.Millisecond }
	var expiring, allowed, denied, unsent, sent []string
	for range 10 {
		expiring = append(expiring, w.submit(call{plan: short}).ID)
		allowed = append(allowed, w.submit(call{method: http.MethodGet}).ID)
		denied = append(denied, w.submit(call{method: http.MethodPatch}).ID)
		unsent = append(unsent, w.claimedByTheDead(false))
		sent = append(sent, w.claimedByTheDead(true))
	}
	w.sql(`DELETE FROM river_job`)
	w.run(sweeping, shortLease)
	w.second(sweeping, shortLease)
	w.second(sweeping, shortLease)
	for _, group := range []struct {
		ids   []string
		state approvals.State
		event approvals.EventType
		calls int
	}{
		{expiring, approvals.Expired, approvals.EventExpired, 0},
		{allowed, approvals.Succeeded, approvals.EventExecuting, 1},
		{denied, approvals.Denied, approvals.EventDenied, 0},
		{unsent, approvals.Succeeded, approvals.EventClaimReleased, 1},
		{sent, approvals.OutcomeUnknown, approvals.EventOutcomeUnknown, 0},
	} {
		for _, id := range group.ids {
			w.awaitTold(id, group.state, approvals.CallbackDelivered)
			require.Equal(t, 1, count(w.requireWhole(id), group.event))
			require.Equal(t, group.calls, w.upstream.callsOf(id))
		}
	}
}

func TestClaimThisProcessHasLetGoIsFoundByItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(func(c *jobs.Config) { c.SweepEvery = 100 * time.Millisecond }) // its lease is long, and no other process would take it
	var worker string
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT id FROM workers`).Scan(&worker))

	// Approved and claimed in its name without a job, as after a commit whose reply was lost.
	jobless := dbtest.Store(t, w.pool, &dbtest.Outbox{})
	req := w.request(call{method: http.MethodGet})
	res, err := jobless.Submit(t.Context(), req)
	require.NoError(t, err)
	id := res.Ticket.ID
	_, err = jobless.Advance(t.Context(), db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Claim(worker, req.Directory, x.Plan, now)
	})
	require.NoError(t, err)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventClaimReleased))
}

func TestProcessThatIsStuckInItsSweepHoldsUpNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stuck := superuser(t, w.url)
	_, err := stuck.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('countersign/sweep', 0))`)
	require.NoError(t, err)
	id := w.submit(call{plan: func(p *approvals.Plan) { p.ExpiresIn = 200 * time.Millisecond }}).ID
	orphan := w.claimedByTheDead(true)
	w.sql(`DELETE FROM river_job`)
	w.run(sweeping, shortLease)
	w.awaitTold(id, approvals.Expired, approvals.CallbackDelivered)
	w.awaitTold(orphan, approvals.OutcomeUnknown, approvals.CallbackDelivered)
}
