package db_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/db"
)

// past edits rows as if time had passed; the guards look away.
func past(t *testing.T, f fixture) func(sql string, args ...any) {
	t.Helper()
	conn := superuser(t, f.url)
	exec(t, conn, `SET session_replication_role = replica`)
	return func(sql string, args ...any) {
		t.Helper()
		exec(t, conn, sql, args...)
	}
}

// job stands for one of River's.
func job(t *testing.T, conn *pgx.Conn, kind, state, args string, attemptedBy ...string) int64 {
	t.Helper()
	var id int64
	require.NoError(t, conn.QueryRow(t.Context(), `INSERT INTO river_job (kind, state, args, max_attempts, attempt, attempted_by, finalized_at)
		VALUES ($1, $2::text::river_job_state, $3, 3, 1, $4, CASE WHEN $2::text IN ('completed', 'discarded') THEN now() END) RETURNING id`,
		kind, state, args, attemptedBy).Scan(&id))
	return id
}

func TestAClaimIsOrphanedWhenItsWorkerFallsSilent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	claimed := prepare(t, f.store, verb{after: []string{"Decide", "Claim"}})
	executing := prepare(t, f.store, verb{after: []string{"Decide", "Claim", "BeginExecution"}})
	prepare(t, f.store, verb{after: []string{"Decide"}})
	lived(t, f.store)
	both := []db.Claim{{TicketID: claimed, Epoch: 1}, {TicketID: executing, Epoch: 1}}
	orphans := func() []db.Claim {
		t.Helper()
		got, err := f.store.Orphans(ctx, time.Hour, 10)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, both, orphans(), "of a worker that never said anything, the longest waiting first")
	require.NoError(t, f.store.Heartbeat(ctx, "w1"))
	require.Empty(t, orphans(), "of a worker that is alive")
	past(t, f)(`UPDATE workers SET heartbeat_at = heartbeat_at - interval '61 minutes'`)
	require.Equal(t, both, orphans(), "of a worker that has fallen silent")
	one, err := f.store.Orphans(ctx, time.Hour, 1)
	require.NoError(t, err)
	require.Equal(t, both[:1], one)
	require.NoError(t, f.store.Heartbeat(ctx, "w1"))
	require.Empty(t, orphans(), "of a worker that is back")
	require.NoError(t, f.store.Retire(ctx, "w1"))
	require.Equal(t, both, orphans(), "of a worker that has left without finishing")

	mine, err := f.store.ClaimsOf(ctx, "w1")
	require.NoError(t, err)
	require.Equal(t, both, mine)
	others, err := f.store.ClaimsOf(ctx, "w2")
	require.NoError(t, err)
	require.Empty(t, others)
}

func TestOverdueListsTicketsWhoseTimerIsLate(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := past(t, f)
	pending, asked, approved := prepare(t, f.store, verb{}), prepare(t, f.store, verbs["Answer"]), prepare(t, f.store, verbs["Claim"])
	later := prepare(t, f.store, verb{})
	back(`UPDATE tickets SET wake_at = now() - interval '3 minutes' WHERE id = $1`, approved)
	back(`UPDATE tickets SET wake_at = now() - interval '2 minutes' WHERE id = $1`, asked)
	back(`UPDATE tickets SET wake_at = now() - interval '90 seconds' WHERE id = $1`, pending)
	back(`UPDATE tickets SET wake_at = now() - interval '30 seconds' WHERE id = $1`, later)
	got, err := f.store.Overdue(t.Context(), time.Minute, 10)
	require.NoError(t, err)
	require.Equal(t, []string{approved, asked, pending}, got, "the latest first")
	got, err = f.store.Overdue(t.Context(), time.Minute, 2)
	require.NoError(t, err)
	require.Equal(t, []string{approved, asked}, got)
}

func TestUnstartedListsWhatIsReadyAndHasNoJob(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := past(t, f)
	conn := superuser(t, f.url)
	ready, done, busy := prepare(t, f.store, verbs["Claim"]), prepare(t, f.store, verbs["Claim"]), prepare(t, f.store, verbs["Claim"])
	idempotent := eventful()
	idempotent.Idempotent = true
	res, err := f.store.Submit(t.Context(), request(t, idempotent))
	require.NoError(t, err)
	again := res.Ticket.ID
	for _, name := range []string{"Decide", "Claim", "BeginExecution", "Abandon"} {
		_, err := f.store.Advance(t.Context(), db.Ref{ID: again}, verbs[name].do)
		require.NoError(t, err, name)
	}
	prepare(t, f.store, verbs["BeginExecution"]) // claimed
	prepare(t, f.store, verb{})                  // pending
	back(`UPDATE tickets SET updated_at = updated_at - interval '2 minutes'`)
	job(t, conn, "execute", "completed", `{"ticket_id": "`+done+`"}`)
	job(t, conn, "notify", "available", `{"ticket_id": "`+done+`"}`)
	for _, state := range []string{"available", "scheduled", "retryable", "running"} {
		id := job(t, conn, "execute", state, `{"ticket_id": "`+busy+`"}`)
		got, err := f.store.Unstarted(t.Context(), time.Minute, 10)
		require.NoError(t, err)
		require.Equal(t, []string{ready, done, again}, got, state)
		exec(t, conn, `DELETE FROM river_job WHERE id = $1`, id)
	}
	prepare(t, f.store, verbs["Claim"]) // just now
	got, err := f.store.Unstarted(t.Context(), time.Minute, 10)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{ready, done, busy, again}, got)
	got, err = f.store.Unstarted(t.Context(), time.Minute, 2)
	require.NoError(t, err)
	require.Len(t, got, 2)
}

func TestJobsOfTheSilentAreRescued(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := superuser(t, f.url)
	require.NoError(t, f.store.Heartbeat(t.Context(), "alive"))
	require.NoError(t, f.store.Heartbeat(t.Context(), "silent"))
	exec(t, conn, `UPDATE workers SET heartbeat_at = now() - interval '2 minutes' WHERE id = 'silent'`)
	lost := []int64{
		job(t, conn, "execute", "running", `{}`, "alive", "silent"), job(t, conn, "execute", "running", `{}`, "never known"),
	}
	kept := []int64{
		job(t, conn, "execute", "running", `{}`, "silent", "alive"), job(t, conn, "execute", "completed", `{}`, "silent"),
		job(t, conn, "execute", "retryable", `{}`, "silent"), job(t, conn, "execute", "running", `{}`, "silent"),
	}
	exec(t, conn, `UPDATE river_job SET attempt = max_attempts WHERE id = $1`, kept[3])
	states := func(ids []int64) (out []string) {
		for _, id := range ids {
			var s string
			require.NoError(t, conn.QueryRow(t.Context(), `SELECT state || ' ' || attempt FROM river_job WHERE id = $1`, id).Scan(&s))
			out = append(out, s)
		}
		return out
	}
	before := states(kept)
	n, err := f.store.RescueJobs(t.Context(), time.Minute)
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	require.Equal(t, []string{"available 1", "available 1"}, states(lost), "the attempt stays counted")
	require.Equal(t, before, states(kept))
}

func TestExclusivelyRunsOnceAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	var inside, runs atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				err := f.store.Exclusively(ctx, "sweep", func(context.Context) error {
					defer inside.Add(-1)
					if inside.Add(1) != 1 {
						t.Error("two at once")
					}
					runs.Add(1)
					return nil
				})
				if err != nil {
					t.Errorf("exclusively: %v", err)
				}
			}
		})
	}
	wg.Wait()
	require.Positive(t, runs.Load())

	failed := errors.New("failed")
	require.ErrorIs(t, f.store.Exclusively(ctx, "sweep", func(ctx context.Context) error {
		err := f.store.Exclusively(ctx, "sweep", func(context.Context) error { return errors.New("ran in spite of the lock") })
		require.NoError(t, err)
		err = f.store.Exclusively(ctx, "another name", func(context.Context) error { return failed })
		require.ErrorIs(t, err, failed)
		cancel() // a shutdown in the middle
		return failed
	}), failed)
	ran := false
	require.NoError(t, f.store.Exclusively(t.Context(), "sweep", func(context.Context) error { ran = true; return nil }))
	require.True(t, ran, "the lock was given back")
}

func TestForgetDropsOnlyWhatIsOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	back := past(t, f)
	submit := func(age string, finished bool) db.SubmitRequest {
		t.Helper()
		req := request(t, eventful())
		_, err := f.store.Submit(ctx, req)
		require.NoError(t, err)
		if finished {
			_, err := f.store.Advance(ctx, db.Ref{ID: req.Submission.ID}, verbs["Cancel"].do)
			require.NoError(t, err)
		}
		back(`UPDATE idempotency_keys SET created_at = created_at - $2::interval WHERE ticket_id = $1`, req.Submission.ID, age)
		back(`UPDATE tickets SET finished_at = finished_at - $2::interval WHERE id = $1`, req.Submission.ID, age)
		return req
	}
	over, open, recent := submit("25 hours", true), submit("25 hours", false), submit("23 hours", true)
	long := submit("25 hours", true) // asked long ago, over only now
	back(`UPDATE tickets SET finished_at = now() WHERE id = $1`, long.Submission.ID)

	old, young := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, key := range []string{old, young} {
		taken, err := f.store.TakeInbound(ctx, inbound(key))
		require.NoError(t, err)
		require.True(t, taken)
	}
	back(`UPDATE slack_inbound SET at = at - interval '11 minutes' WHERE replay_key = $1`, old)

	prepare(t, f.store, verb{after: []string{"Decide", "Claim"}}) // w1 holds a claim
	for _, worker := range []string{"w1", "dead", "silent"} {
		require.NoError(t, f.store.Heartbeat(ctx, worker))
	}
	back(`UPDATE workers SET heartbeat_at = now() - interval '25 hours' WHERE id <> 'silent'`)
	back(`UPDATE workers SET heartbeat_at = now() - interval '23 hours' WHERE id = 'silent'`)

	for range 2 {
		require.NoError(t, f.store.Forget(ctx, 10*time.Minute, 24*time.Hour))
	}
	for req, replayed := range map[*db.SubmitRequest]bool{&over: false, &open: true, &recent: true, &long: true} {
		again := request(t, eventful())
		again.Key = req.Key
		res, err := f.store.Submit(ctx, again)
		require.NoError(t, err)
		require.Equal(t, replayed, res.Replayed)
	}
	taken, err := f.store.TakeInbound(ctx, inbound(old))
	require.NoError(t, err)
	require.True(t, taken, "forgotten; its signature is long out of date")
	taken, err = f.store.TakeInbound(ctx, inbound(young))
	require.NoError(t, err)
	require.False(t, taken)
	rows, err := superuser(t, f.url).Query(ctx, `SELECT id FROM workers ORDER BY id`)
	require.NoError(t, err)
	workers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"silent", "w1"}, workers)
	requireChain(t, f.store, over.Submission.ID)
}

func inbound(key string) db.Inbound {
	return db.Inbound{Key: key, Kind: "interaction", Transport: "http", Body: []byte("payload={}")}
}

func TestAReplayFromSlackIsTakenOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	key := strings.Repeat("c", 64)
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ok, err := f.store.TakeInbound(t.Context(), inbound(key))
			if err != nil {
				t.Errorf("take inbound: %v", err)
			}
			if ok {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, taken.Load())
	_, err := f.store.TakeInbound(t.Context(), inbound("short"))
	require.Error(t, err, "no digest")
}
