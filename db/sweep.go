package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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

// Overdue lists tickets whose timer should have fired longer than grace ago.
func (s *Store) Overdue(ctx context.Context, grace time.Duration, limit int) ([]string, error) {
	return s.ids(ctx, `SELECT id FROM tickets WHERE wake_at < clock_timestamp() - $1::interval ORDER BY wake_at LIMIT $2`, grace, limit)
}

// Unstarted lists tickets that have been ready to execute, and unclaimed, for longer
// than grace: their job was lost.
func (s *Store) Unstarted(ctx context.Context, grace time.Duration, limit int) ([]string, error) {
	return s.ids(ctx, `SELECT id FROM tickets WHERE state IN ('approved', 'executing') AND claimed_by IS NULL
		AND updated_at < clock_timestamp() - $1::interval ORDER BY updated_at LIMIT $2`, grace, limit)
}

// Undelivered lists deliveries that were due longer than grace ago.
func (s *Store) Undelivered(ctx context.Context, grace time.Duration, limit int) ([]Delivery, error) {
	rows, err := s.pool.Query(ctx, `SELECT ticket_id, seq, message_id, event_type, url, payload, state, attempts FROM deliveries
		WHERE state = 'pending' AND next_attempt_at < clock_timestamp() - $1::interval ORDER BY next_attempt_at LIMIT $2`, grace, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list undelivered: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Delivery])
	return out, classify(err)
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
