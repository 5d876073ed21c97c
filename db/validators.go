package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Seen is as much of a ticket on a list as says whether the list has changed.
type Seen struct {
	Cursor
	Version int64
}

// Validators lists what Tickets would, without reading the tickets.
func (s *Store) Validators(ctx context.Context, f Filter) ([]Seen, error) {
	query, args := `SELECT t.created_at, t.id, t.version FROM tickets t
		WHERE ($1::text[] IS NULL OR t.state = ANY($1))
		AND ($2::timestamptz IS NULL OR t.created_at > $2) AND ($3::timestamptz IS NULL OR t.created_at < $3)`,
		[]any{f.States, null(f.CreatedAfter), null(f.CreatedBefore)}
	if f.Caller == "" {
		query += ` AND t.id < coalesce(nullif($4, ''), '~') ORDER BY t.id DESC LIMIT $5`
		args = append(args, f.After.ID, f.Limit)
	} else {
		query += ` AND t.caller = $4 AND ($5::timestamptz IS NULL OR (t.created_at, t.id) < ($5, $6))
		ORDER BY t.created_at DESC, t.id DESC LIMIT $7`
		args = append(args, f.Caller, null(f.After.CreatedAt), f.After.ID, f.Limit)
	}
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, classify(fmt.Errorf("list versions: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Seen, error) {
		var x Seen
		err := r.Scan(&x.CreatedAt, &x.ID, &x.Version)
		x.CreatedAt = x.CreatedAt.UTC()
		return x, err
	})
	return out, classify(err)
}
