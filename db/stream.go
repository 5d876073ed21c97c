package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// ErrNoHistory means that a place is not in the history of this database: what followed it
// was pruned, or it is a place of another database.
var ErrNoHistory = errors.New("the events after that place are not there")

// Mark is a place in the events of all tickets, in the order of the transactions that wrote
// them: behind this one. With a Tx alone it is before everything of that transaction. The
// zero Mark is the beginning.
//
// Transactions end in another order than they begin in, so an event may appear before a
// place at which somebody has already been. Whoever goes on from a Mark of Here or
// EventsAfter misses none, because all transactions before such a place have ended.
type Mark struct {
	Tx       int64
	TicketID string
	Seq      int64
}

// Written is an event and the transaction that wrote it.
type Written struct {
	approvals.Event
	Tx int64
}

// Here is the place of now. Events written before it are not read from it; a few that were
// may be.
func (s *Store) Here(ctx context.Context) (Mark, error) {
	var m Mark
	// The beginning where nothing complete is before it: so that nobody takes the history
	// before it for pruned.
	err := s.pool.QueryRow(ctx, `SELECT CASE WHEN EXISTS (SELECT FROM audit_events WHERE tx IS NULL OR tx < h.x) THEN h.x ELSE 0 END
		FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS x) h`).Scan(&m.Tx)
	return m, classify(err)
}

// Follows reports whether a place is one that EventsAfter can go on from. Errors: as there.
func (s *Store) Follows(ctx context.Context, m Mark) error {
	_, err := s.span(ctx, &m)
	return err
}

// togetherAtMost is more than the events of all transactions that are under way at a time:
// so many of the first by their hour have the first by its transaction among them.
const togetherAtMost = 10_000

const (
	// firstSpan and lastSpan are how many transactions are looked through at a time: the
	// index on them finds a region, and what is in it has to be sorted.
	firstSpan, lastSpan = 1 << 16, 1 << 20
	// maxSpans bounds one reading.
	maxSpans = 8
)

// EventsAfter reads at most limit events after a place, of one caller's tickets or, when
// that is empty, of all, in the order of their transactions. Of one ticket they come, but
// for rare exceptions, in their order. Those of transactions that may still be joined by
// others are not read yet. It returns the place behind what it has looked through, and
// whether there is more to look through, which may be so even when it found nothing.
//
// Errors: ErrNoHistory; ErrUnavailable.
func (s *Store) EventsAfter(ctx context.Context, caller string, after Mark, limit int) ([]Written, Mark, bool, error) {
	end, err := s.span(ctx, &after)
	if err != nil {
		return nil, after, false, err
	}
	var out []Written
	size := int64(firstSpan)
	for range maxSpans {
		if after.Tx >= end {
			return out, after, false, nil
		}
		to := min(after.Tx+size, end)
		found, err := s.eventsBetween(ctx, caller, after, to, limit-len(out))
		if err != nil {
			return nil, after, false, err
		}
		out = append(out, found...)
		if len(out) == limit {
			last := out[limit-1]
			return out, Mark{Tx: last.Tx, TicketID: last.TicketID, Seq: last.Seq}, true, nil
		}
		after, size = Mark{Tx: to}, min(2*size, lastSpan)
	}
	return out, after, after.Tx < end, nil
}

// span finds out where the complete events end, which is at the beginning where there are
// none at all, and moves the beginning to the first.
func (s *Store) span(ctx context.Context, after *Mark) (end int64, err error) {
	var ahead int64
	var oldest *int64
	var written bool
	err = s.pool.QueryRow(ctx, `SELECT pg_snapshot_xmin(x)::text::bigint, pg_snapshot_xmax(x)::text::bigint,
		EXISTS (SELECT FROM audit_events),
		(SELECT min(tx) FROM (SELECT tx FROM audit_events ORDER BY at LIMIT $1) first
			WHERE tx < pg_snapshot_xmax(x)::text::bigint) -- those above were restored from a dump, and have no place here
		FROM pg_current_snapshot() AS x`, togetherAtMost).Scan(&end, &ahead, &written, &oldest)
	switch {
	case err != nil:
		return 0, classify(fmt.Errorf("read the horizon: %w", err))
	case after.Tx == 0 && !written:
		return 0, nil
	case after.Tx > ahead, after.Tx > 0 && oldest != nil && *oldest > after.Tx:
		return 0, ErrNoHistory
	case after.Tx == 0 && oldest != nil:
		after.Tx = *oldest
	}
	return end, nil
}

const writtenColumns = `e.tx, e.ticket_id, e.seq, e.type, e.at, e.actor_kind, e.actor_name, e.actor_via, e.actor_ref, e.state, e.data`

func (s *Store) eventsBetween(ctx context.Context, caller string, after Mark, to int64, limit int) ([]Written, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+writtenColumns+` FROM audit_events e JOIN tickets t ON t.id = e.ticket_id
		WHERE e.tx >= $1 AND e.tx < $2 AND (e.tx, e.ticket_id, e.seq) > ($1, $3, $4) AND ($5 = '' OR t.caller = $5)
		ORDER BY e.tx, e.ticket_id, e.seq LIMIT $6`, after.Tx, to, after.TicketID, after.Seq, caller, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("read events: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanWritten)
	return out, classify(err)
}

// EventsOf reads at most limit events of some tickets, of those of one caller when one is
// given, that were written by transactions from tx on: in the order of each ticket, tickets
// after each other.
func (s *Store) EventsOf(ctx context.Context, caller string, ids []string, tx int64, limit int) ([]Written, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+writtenColumns+` FROM audit_events e JOIN tickets t ON t.id = e.ticket_id
		WHERE e.ticket_id = ANY($1) AND e.tx >= $2 AND ($3 = '' OR t.caller = $3)
		AND e.tx < pg_snapshot_xmax(pg_current_snapshot())::text::bigint -- those above are restored ones
		ORDER BY e.ticket_id, e.seq LIMIT $4`, ids, tx, caller, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("read events: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanWritten)
	return out, classify(err)
}

func scanWritten(r pgx.CollectableRow) (Written, error) {
	var x Written
	e := &x.Event
	err := r.Scan(&x.Tx, &e.TicketID, &e.Seq, &e.Type, &e.At, &e.Actor.Kind, &e.Actor.Name, &e.Actor.Via, &e.Actor.Ref, &e.State, &e.Data)
	e.At = e.At.UTC()
	return x, err
}
