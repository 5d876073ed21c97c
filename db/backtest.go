package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/approvals"
)

// RecordedCall is a call as it was submitted, with what became of it.
type RecordedCall struct {
	TicketID   string
	CreatedAt  time.Time
	Caller     string
	OnBehalfOf string
	Call       approvals.Call
	// Plan is what the policy of that day demanded, as frozen at submit.
	Plan approvals.Plan
	// State is that of the ticket now.
	State approvals.State
	// Decisions are in the order in which they were made. Of each only the person, the
	// verdict, the stage, the comment and the time are read.
	Decisions []approvals.Decision
}

const (
	// recordedPage is how many calls one statement reads.
	recordedPage = 200
	// recordedSlack is how far the clock that made a ticket's id and that of the database may
	// be apart. Ids begin with their time, so they bound what has to be looked at.
	recordedSlack = 24 * time.Hour
)

const recordedCalls = `SELECT t.id, t.created_at, t.caller, t.state, c.on_behalf_of, c.upstream, c.method, c.path, c.query,
		c.headers, c.body, c.plan,
		coalesce((SELECT json_agg(json_build_object('person', d.person, 'verdict', d.verdict, 'stage', d.stage,
			'comment', d.comment, 'at', d.at) ORDER BY d.seq) FROM decisions d WHERE d.ticket_id = t.id), '[]')
	FROM tickets t JOIN calls c ON c.ticket_id = t.id
	WHERE t.id < $1 AND t.id >= $2 AND t.created_at >= $3 AND t.created_at < $4
	ORDER BY t.id DESC LIMIT $5`

// RecordedCalls hands every call submitted from since on and before until to each, the
// latest first, as of one moment: it reads in one read-only transaction. One call at a
// time is held in memory. It stops at the first error of each, and returns it wrapped. Each
// must not wait for anything: the transaction stays open meanwhile.
func RecordedCalls(ctx context.Context, pool *pgxpool.Pool, since, until time.Time, each func(RecordedCall) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		below, from := firstTicketID(until.Add(recordedSlack)), firstTicketID(since.Add(-recordedSlack))
		for {
			n, last, err := recordedPageOf(ctx, tx, []any{below, from, since, until, recordedPage}, each)
			if err != nil || n < recordedPage {
				return err
			}
			below = last
		}
	})
	switch {
	case notMigrated(err):
		return errors.New("the database has no schema of Countersign: run countersign migrate")
	case err != nil:
		return classify(fmt.Errorf("read recorded calls: %w", err))
	}
	return nil
}

func recordedPageOf(ctx context.Context, tx pgx.Tx, args []any, each func(RecordedCall) error) (n int, last string, err error) {
	rows, err := tx.Query(ctx, recordedCalls, args...)
	if err != nil {
		return 0, "", err
	}
	defer rows.Close()
	for rows.Next() {
		var r RecordedCall // a new one each time: each may keep it
		err := rows.Scan(&r.TicketID, &r.CreatedAt, &r.Caller, &r.State, &r.OnBehalfOf, &r.Call.Upstream, &r.Call.Method,
			&r.Call.Path, &r.Call.Query, &r.Call.Headers, &r.Call.Body, &r.Plan, &r.Decisions)
		if err != nil {
			return n, last, err
		}
		r.CreatedAt = r.CreatedAt.UTC()
		if len(r.Call.Headers) == 0 {
			r.Call.Headers = nil
		}
		if len(r.Call.Body) == 0 {
			r.Call.Body = nil
		}
		n, last = n+1, r.TicketID
		if err := each(r); err != nil {
			return n, last, err
		}
	}
	return n, last, rows.Err()
}

// firstTicketID is the least id that can be made at a moment.
func firstTicketID(at time.Time) string {
	var id uuid.UUID
	ms := make([]byte, 8)
	binary.BigEndian.PutUint64(ms, uint64(min(max(at.UnixMilli(), 0), 1<<48-1)))
	copy(id[:6], ms[2:])
	return approvals.TicketID(id)
}
