package db

import (
	"context"
	"fmt"
	"time"
)

// Notified counts the messages by which people are asked to decide in one stage.
type Notified struct {
	// Sent are in Slack, Owed on their way or in doubt, Dead will never be there.
	Sent, Owed, Dead int
	// OwedSince is when the oldest of Owed was written down; zero for none.
	OwedSince time.Time
	// Reason is why the latest of Dead is, in Slack's word or ours; "" for none.
	Reason string
	// Held says that nothing is sent to Slack at present.
	Held bool
	// Now is the database's time.
	Now time.Time
}

// Notified says how far the messages are by which people are asked to decide in a stage of a
// ticket.
func (s *Store) Notified(ctx context.Context, ticketID string, stage int) (Notified, error) {
	var n Notified
	var since *time.Time
	err := s.pool.QueryRow(ctx, `SELECT
			count(*) FILTER (WHERE o.state = 'sent'),
			count(*) FILTER (WHERE o.state IN ('queued', 'sending', 'unknown')),
			count(*) FILTER (WHERE o.state = 'dead'),
			min(o.created_at) FILTER (WHERE o.state IN ('queued', 'sending', 'unknown')),
			coalesce((array_agg(o.reason ORDER BY o.done_at DESC) FILTER (WHERE o.state = 'dead'))[1], ''),
			coalesce((SELECT value -> 'open' = 'true' FROM slack_state WHERE name = $3), false), clock_timestamp()
		FROM slack_outbox o JOIN cards c ON c.handle = o.handle
		WHERE o.ticket_id = $1 AND o.kind = 'card' AND c.stage = $2`, ticketID, stage, senderTask).
		Scan(&n.Sent, &n.Owed, &n.Dead, &since, &n.Reason, &n.Held, &n.Now)
	if err != nil {
		return Notified{}, classify(fmt.Errorf("count the messages about %s: %w", ticketID, err))
	}
	if since != nil {
		n.OwedSince = since.UTC()
	}
	return n, nil
}
