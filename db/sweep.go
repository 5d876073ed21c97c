package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// Heartbeat says that a worker process is alive. A worker that has not said so for
// longer than the sweeper's lease loses its claims.
func (s *Store) Heartbeat(ctx context.Context, worker string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO workers (id) VALUES ($1)
		ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp()`, worker)
	return classify(err)
}

// Retire forgets a worker that has stopped in good order.
func (s *Store) Retire(ctx context.Context, worker string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM workers WHERE id = $1`, worker)
	return classify(err)
}

// Claim is a ticket held by a worker.
type Claim struct {
	TicketID string
	Epoch    int64
}

// Orphans lists claims whose worker has been silent for longer than lease.
func (s *Store) Orphans(ctx context.Context, lease time.Duration, limit int) ([]Claim, error) {
	rows, err := s.pool.Query(ctx, `SELECT t.id, t.epoch FROM tickets t LEFT JOIN workers w ON w.id = t.claimed_by
		WHERE t.state IN ('approved', 'executing') AND t.claimed_by IS NOT NULL
		AND (w.id IS NULL OR w.heartbeat_at < clock_timestamp() - $1::interval)
		ORDER BY t.updated_at LIMIT $2`, lease, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list orphans: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Claim])
	return out, classify(err)
}

// ClaimsOf lists the claims a worker holds.
func (s *Store) ClaimsOf(ctx context.Context, worker string) ([]Claim, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, epoch FROM tickets
		WHERE state IN ('approved', 'executing') AND claimed_by = $1 ORDER BY updated_at`, worker)
	if err != nil {
		return nil, classify(fmt.Errorf("list claims: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Claim])
	return out, classify(err)
}

// RescueJobs puts jobs back that were running on workers that have been silent for
// longer than lease, and returns how many. River would do so minutes later. Their
// attempts stay counted, so that a job that kills its process does not come for ever.
func (s *Store) RescueJobs(ctx context.Context, lease time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE river_job j SET state = 'available', scheduled_at = clock_timestamp()
		WHERE j.state = 'running' AND j.attempt < j.max_attempts AND NOT EXISTS (
			SELECT 1 FROM workers w WHERE w.id = j.attempted_by[array_upper(j.attempted_by, 1)]
			AND w.heartbeat_at >= clock_timestamp() - $1::interval)`, lease)
	return tag.RowsAffected(), classify(err)
}

// Exclusively runs f unless another process is running it under the same name on this
// database; then it returns nil at once.
func (s *Store) Exclusively(ctx context.Context, name string, f func(context.Context) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return classify(fmt.Errorf("acquire connection: %w", err))
	}
	defer conn.Release()
	var mine bool
	key := "countersign/" + name
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 0))`, key).Scan(&mine); err != nil || !mine {
		return classify(err)
	}
	// Unlocked even when ctx has ended; should that fail, the connection goes and the
	// lock with it. Bounded, because a network that swallows everything would otherwise
	// keep this process from ever taking another turn.
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), unlockTimeout)
		defer cancel()
		if _, err := conn.Exec(last, `SELECT pg_advisory_unlock(hashtextextended($1, 0))`, key); err != nil {
			_ = conn.Conn().Close(last)
		}
	}()
	return f(ctx)
}

// unlockTimeout bounds giving back a lock.
const unlockTimeout = 2 * time.Second

// Due lists tickets whose timer has come, the longest waiting first, with what is needed
// to say which timer it is: no headers, bodies or decisions.
func (s *Store) Due(ctx context.Context, limit int) ([]approvals.Ticket, error) {
	rows, err := s.pool.Query(ctx, `SELECT`+ticketColumns+fromTickets+`
		WHERE t.wake_at <= statement_timestamp() ORDER BY t.wake_at LIMIT $1`, limit) // which an index can be searched by
	if err != nil {
		return nil, classify(fmt.Errorf("list due tickets: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanSummary)
	return out, classify(err)
}

// Open lists tickets that approvers may still decide, whole, in the order of their ids and
// beginning after the one given; "" is the start. They hold the bodies of their calls, so
// limit bounds the memory: a megabyte each by default.
func (s *Store) Open(ctx context.Context, after string, limit int) ([]approvals.Ticket, error) {
	// Whoever is open has a timer, and there is an index of timers. Chosen before their
	// calls are read, which are wide.
	rows, err := s.pool.Query(ctx, `SELECT`+fullColumns+` FROM (
			SELECT * FROM tickets WHERE wake_at IS NOT NULL AND state IN ('pending', 'needs_info') AND id > $1 ORDER BY id LIMIT $2) t
		JOIN calls c ON c.ticket_id = t.id ORDER BY t.id`, after, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list open tickets: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (approvals.Ticket, error) {
		t, _, err := scanFull(r)
		return t, err
	})
	return out, classify(err)
}

// Overdue lists tickets whose timer should have fired longer than grace ago.
func (s *Store) Overdue(ctx context.Context, grace time.Duration, limit int) ([]string, error) {
	return s.ids(ctx, `SELECT id FROM tickets WHERE wake_at < statement_timestamp() - $1::interval ORDER BY wake_at LIMIT $2`, grace, limit)
}

// Unstarted lists tickets that have been ready to execute, and unclaimed, for longer
// than grace without a job that would start them. Those that wait for their hour are not
// ready: it is a timer, and Overdue tells of one that is late. Nor are those that stand in
// line in front of a lane.
func (s *Store) Unstarted(ctx context.Context, grace time.Duration, limit int) ([]string, error) {
	return s.ids(ctx, `SELECT id FROM tickets t JOIN calls c ON c.ticket_id = t.id
		WHERE state IN ('approved', 'executing') AND claimed_by IS NULL
		AND updated_at < clock_timestamp() - $1::interval
		AND NOT (state = 'approved' AND released_at IS NULL AND not_before IS NOT NULL AND not_before > approved_at)
		AND NOT EXISTS (
			SELECT 1 FROM river_job j WHERE j.kind = 'execute' AND j.args->>'ticket_id' = t.id
			AND j.state IN ('available', 'scheduled', 'retryable', 'running'))
		AND NOT EXISTS (SELECT FROM lane_waiting w WHERE w.ticket_id = t.id)
		ORDER BY updated_at LIMIT $2`, grace, limit)
}

func (s *Store) ids(ctx context.Context, sql string, args ...any) ([]string, error) {
	rows, err := s.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, classify(fmt.Errorf("list tickets to sweep: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return out, classify(err)
}

// Forget drops what is kept only for a while: replay keys and idempotency keys of
// tickets that ended long enough ago, and workers long dead.
func (s *Store) Forget(ctx context.Context, replay, key time.Duration) error {
	b := &pgx.Batch{}
	b.Queue(`DELETE FROM slack_inbound WHERE at < clock_timestamp() - $1::interval`, replay)
	b.Queue(`DELETE FROM idempotency_keys k USING tickets t WHERE t.id = k.ticket_id
		AND k.created_at < clock_timestamp() - $1::interval AND t.finished_at < clock_timestamp() - $1::interval`, key)
	b.Queue(`DELETE FROM workers w WHERE heartbeat_at < clock_timestamp() - interval '1 day'
		AND NOT EXISTS (SELECT 1 FROM tickets t WHERE t.claimed_by = w.id AND t.state IN ('approved', 'executing'))`)
	return classify(s.pool.SendBatch(ctx, b).Close())
}
