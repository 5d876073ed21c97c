package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// ErrTaken means that a request of Slack was dealt with already. Nothing was written.
var ErrTaken = errors.New("this request of Slack was dealt with already")

// Inbound is a request of Slack that was taken: authentic, and not carried out yet.
type Inbound struct {
	// Key makes it that request: 64 characters.
	Key string
	// Kind is "interaction", "command" or "event"; Transport "http" or "socket".
	Kind, Transport string
	// Body is as it came, at most 1 MiB.
	Body []byte
	// Attempts counts how often it was leased to be finished, At is when it was taken. Both
	// are set by reads only.
	Attempts int
	At       time.Time
}

// TakeInbound writes a request down before it is carried out. False means that it was taken
// before: a replay, to be ignored.
func (s *Store) TakeInbound(ctx context.Context, in Inbound) (fresh bool, err error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO slack_inbound (replay_key, kind, transport, body, state) VALUES ($1, $2, $3, $4, 'received')
		ON CONFLICT DO NOTHING`, in.Key, in.Kind, in.Transport, bytesOf(in.Body))
	if err != nil {
		return false, classify(fmt.Errorf("take a request of Slack: %w", err))
	}
	return tag.RowsAffected() == 1, nil
}

// inboundLease is how long a request that somebody finishes is nobody else's, and so how
// long it rests before it is tried again.
const inboundLease = 15 * time.Second

// DueInbound takes requests that nobody has finished although they came longer than olderThan
// ago, the oldest first, and leases them for 15 s.
func (s *Store) DueInbound(ctx context.Context, olderThan time.Duration, limit int) ([]Inbound, error) {
	rows, err := s.pool.Query(ctx, `UPDATE slack_inbound SET lease_until = clock_timestamp() + $3::interval, attempts = attempts + 1
		WHERE replay_key IN (SELECT replay_key FROM slack_inbound
			WHERE state = 'received' AND at <= clock_timestamp() - $1::interval AND (lease_until IS NULL OR lease_until < clock_timestamp())
			ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)
		RETURNING replay_key, kind, transport, body, attempts, at`, olderThan, limit, inboundLease)
	if err != nil {
		return nil, classify(fmt.Errorf("list unfinished requests of Slack: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Inbound])
	slices.SortFunc(out, func(a, b Inbound) int { return a.At.Compare(b.At) }) // RETURNING keeps no order
	return out, classify(err)
}

// FinishInbound notes what came of a request, in a word, and forgets its body. Of one that
// is done already, it changes nothing.
func (s *Store) FinishInbound(ctx context.Context, key, outcome string) error {
	_, err := s.pool.Exec(ctx, finishInbound, key, outcome)
	return classify(err)
}

const finishInbound = `UPDATE slack_inbound SET state = 'done', body = NULL, lease_until = NULL, done_at = clock_timestamp(), outcome = $2
	WHERE replay_key = $1 AND state = 'received'`

// AdvanceInbound is [Store.Advance] on behalf of a request of Slack, which is done in the same
// transaction: neither happens without the other, however often it is tried and by whom.
// ErrTaken, and no change, when the request was done before. A decide that allows something
// and returns an empty Transition finishes the request too.
func (s *Store) AdvanceInbound(ctx context.Context, key string, ref Ref, decide Decide) (approvals.Ticket, error) {
	return s.advance(ctx, ref, decide, func(ctx context.Context, tx pgx.Tx, tr approvals.Transition, refusal error) error {
		tag, err := tx.Exec(ctx, finishInbound, key, outcomeOf(tr, refusal))
		if err != nil {
			return fmt.Errorf("finish the request of Slack: %w", err)
		}
		if tag.RowsAffected() != 1 {
			return ErrTaken
		}
		return nil
	})
}

// outcomeOf is a word for what came of a request that was put to a ticket.
func outcomeOf(tr approvals.Transition, refusal error) string {
	switch {
	case refusal != nil:
		return "refused"
	case tr.Empty():
		return "allowed"
	}
	return "counted"
}

// CardAt returns the handle of the card whose message, or second message, is at a place; ""
// where there is none of ours.
func (s *Store) CardAt(ctx context.Context, channel, ts string) (handle string, err error) {
	err = s.pool.QueryRow(ctx, `SELECT handle FROM cards WHERE posted_to = $1 AND ts = $2 AND ts <> ''
		UNION ALL SELECT handle FROM card_copies WHERE channel = $1 AND ts = $2 LIMIT 1`, channel, ts).Scan(&handle)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return handle, classify(err)
}
