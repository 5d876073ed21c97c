package db

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/audit"
	"countersign/migrations"
)

// Ticket reads a ticket whole. CodeNotFound when there is none for ref.
func (s *Store) Ticket(ctx context.Context, ref Ref) (approvals.Ticket, error) {
	t, err := s.tickets.get(ctx, ref.ID)
	if err == nil && ref.Caller != "" && t.Caller != ref.Caller {
		return approvals.Ticket{}, notFound()
	}
	return t, err
}

// Version reads what is needed to say that nothing has changed. CodeNotFound as for Ticket.
func (s *Store) Version(ctx context.Context, ref Ref) (int64, approvals.State, error) {
	c, err := s.versions.get(ctx, ref.ID)
	if err == nil && ref.Caller != "" && c.Caller != ref.Caller {
		return 0, "", notFound()
	}
	return c.Version, c.State, err
}

// Cursor is a place in a list: after this ticket. The zero Cursor is the start.
type Cursor struct {
	CreatedAt time.Time
	ID        string
}

// Filter selects tickets for a list, newest first: by the time of their creation those of
// one caller, and by their ids, which begin with it, those of all. Empty fields select
// everything.
type Filter struct {
	Caller        string
	States        []approvals.State
	CreatedAfter  time.Time
	CreatedBefore time.Time
	Limit         int
	After         Cursor
}

// Tickets lists tickets without the headers and bodies of their calls and without
// their decisions.
func (s *Store) Tickets(ctx context.Context, f Filter) ([]approvals.Ticket, error) {
	if f.Caller == "" {
		return s.ticketsOfAll(ctx, f)
	}
	rows, err := s.pool.Query(ctx, `SELECT`+ticketColumns+fromTickets+`
		WHERE t.caller = $1 AND ($2::text[] IS NULL OR t.state = ANY($2))
		AND ($3::timestamptz IS NULL OR t.created_at > $3) AND ($4::timestamptz IS NULL OR t.created_at < $4)
		AND ($5::timestamptz IS NULL OR (t.created_at, t.id) < ($5, $6))
		ORDER BY t.created_at DESC, t.id DESC LIMIT $7`,
		f.Caller, f.States, null(f.CreatedAfter), null(f.CreatedBefore), null(f.After.CreatedAt), f.After.ID, f.Limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list tickets: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanSummary)
	return out, classify(err)
}

// ticketsOfAll reads along the primary key: an index of its own would be paid for by every
// submit.
func (s *Store) ticketsOfAll(ctx context.Context, f Filter) ([]approvals.Ticket, error) {
	rows, err := s.pool.Query(ctx, `SELECT`+ticketColumns+fromTickets+`
		WHERE ($1::text[] IS NULL OR t.state = ANY($1))
		AND ($2::timestamptz IS NULL OR t.created_at > $2) AND ($3::timestamptz IS NULL OR t.created_at < $3)
		AND t.id < coalesce(nullif($4, ''), '~') -- behind every id
		ORDER BY t.id DESC LIMIT $5`,
		f.States, null(f.CreatedAfter), null(f.CreatedBefore), f.After.ID, f.Limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list tickets: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanSummary)
	return out, classify(err)
}

// scanSummary scans ticketColumns.
func scanSummary(r pgx.CollectableRow) (approvals.Ticket, error) {
	var x row
	err := r.Scan(x.targets()...)
	return x.ticket(), err
}

// Events reads at most limit events of a ticket after seq, in order. CodeNotFound when
// there is no ticket for ref.
func (s *Store) Events(ctx context.Context, ref Ref, after int64, limit int) ([]approvals.Event, error) {
	entries, err := s.entries(ctx, ref, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]approvals.Event, 0, len(entries))
	for _, e := range entries {
		if err := json.Unmarshal(e.Data, &e.Event.Data); err != nil {
			return nil, fmt.Errorf("read the data of event %s/%d: %w", e.Event.TicketID, e.Event.Seq, err)
		}
		out = append(out, e.Event)
	}
	return out, nil
}

// Entries reads the whole trail of a ticket with the bytes that prove it, as it is: what
// does not fit together is for [audit.VerifyChain] to say. CodeNotFound as for Events.
func (s *Store) Entries(ctx context.Context, ref Ref) ([]audit.Entry, error) {
	return s.entries(ctx, ref, 0, 1<<30)
}

func (s *Store) entries(ctx context.Context, ref Ref, after int64, limit int) ([]audit.Entry, error) {
	if ref.Caller != "" {
		if _, _, err := s.Version(ctx, ref); err != nil {
			return nil, err
		}
	}
	rows, err := s.pool.Query(ctx, `SELECT ticket_id, seq, type, at, actor_kind, actor_name, actor_via, actor_ref, state,
		data, canon, prev_hash, hash FROM audit_events WHERE ticket_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
		ref.ID, after, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("read events: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanEntry)
	if err == nil && len(out) == 0 {
		_, _, err = s.Version(ctx, ref) // no more events, or no such ticket?
	}
	return out, classify(err)
}

// scanEntry takes what it finds: somebody may have edited it, and that is to be found
// out, not to fail here.
func scanEntry(r pgx.CollectableRow) (audit.Entry, error) {
	var x audit.Entry
	var prev, hash []byte
	e := &x.Event
	err := r.Scan(&e.TicketID, &e.Seq, &e.Type, &e.At, &e.Actor.Kind, &e.Actor.Name, &e.Actor.Via, &e.Actor.Ref,
		&e.State, &x.Data, &x.Canon, &prev, &hash)
	if err != nil {
		return x, err
	}
	e.At = e.At.UTC()
	copy(x.Prev[:], prev)
	copy(x.Hash[:], hash)
	if json.Unmarshal(x.Data, &e.Data) != nil {
		e.Data = approvals.Data{}
	}
	return x, nil
}

// Result reads upstream's latest answer. CodeNotFound when there is none.
func (s *Store) Result(ctx context.Context, ref Ref) (approvals.Result, error) {
	var r approvals.Result
	var sealed []byte
	var seq int64
	err := s.pool.QueryRow(ctx, `SELECT r.status, r.headers, r.body, r.sealed, r.seq, r.size, r.digest, r.truncated, r.duration_ms, r.executed_at
		FROM results r JOIN tickets t ON t.id = r.ticket_id
		WHERE t.id = $1 AND ($2 = '' OR t.caller = $2) ORDER BY r.seq DESC LIMIT 1`, ref.ID, ref.Caller).
		Scan(&r.Status, &r.Headers, &r.Body, &sealed, &seq, &r.Size, &r.Digest, &r.Truncated, &r.DurationMS, &r.ExecutedAt)
	r.ExecutedAt = r.ExecutedAt.UTC()
	if err == nil && sealed != nil {
		err = s.openResult(sealed, ref.ID, seq, &r)
	}
	return r, classify(err)
}

// Keyed reads the ticket that a key of a caller stands for, if it came with the very same
// request. CodeNotFound when there is none.
func (s *Store) Keyed(ctx context.Context, caller string, key IdempotencyKey) (approvals.Ticket, error) {
	t, _, err := scanFull(s.pool.QueryRow(ctx, `SELECT`+fullColumns+fromTickets+`
		JOIN idempotency_keys k ON k.ticket_id = t.id
		WHERE k.caller = $1 AND k.route = $2 AND k.key = $3 AND k.fingerprint = $4 AND t.caller = $1`,
		caller, key.Route, key.Key, key.Fingerprint[:]))
	return t, classify(err)
}

// Ready reports whether the database answers and has the schema of this build.
func (s *Store) Ready(ctx context.Context) error {
	var version int
	var dirty bool
	err := s.pool.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty)
	switch {
	case notMigrated(err):
		return errors.New("the database has no schema of Countersign: run countersign migrate")
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case dirty || version < migrations.Latest:
		return fmt.Errorf("the database is at schema %d (dirty: %t), this build needs %d: run countersign migrate",
			version, dirty, migrations.Latest)
	}
	return nil
}

// Secret returns 32 random bytes, made once under a name and shared by every process on
// this database. For values that give no authority.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	var value []byte
	err := s.pool.QueryRow(ctx, `WITH made AS (
			INSERT INTO instance_secrets (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING value)
		SELECT value FROM made UNION ALL SELECT value FROM instance_secrets WHERE name = $1 LIMIT 1`, name, fresh).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) { // another process made it at this very moment
		err = s.pool.QueryRow(ctx, `SELECT value FROM instance_secrets WHERE name = $1`, name).Scan(&value)
	}
	return value, classify(err)
}
