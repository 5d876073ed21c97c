package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// OpenCardsIn lists cards that are in a conversation, by its id, and show the current stage
// of a ticket that is open, those of the newest tickets first. Open tickets are found by the
// index of timers: there are never many.
func (s *Store) OpenCardsIn(ctx context.Context, conversation string, limit int) ([]Card, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+cardColumns+` FROM cards
		WHERE (ticket_id, stage) IN (SELECT id, stage FROM tickets WHERE wake_at IS NOT NULL AND state IN ('pending', 'needs_info'))
		AND kind = 'card' AND posted_to = $1 ORDER BY ticket_id DESC LIMIT $2`, conversation, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list open cards in a conversation: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanCard)
	return out, classify(err)
}

// MoveConversation notes that a conversation has another id: cards that are there, and
// messages that are still to go there.
func (s *Store) MoveConversation(ctx context.Context, before, after string) error {
	b := &pgx.Batch{}
	b.Queue(`UPDATE cards SET posted_to = $2 WHERE posted_to = $1`, before, after)
	b.Queue(`UPDATE slack_outbox SET destination = $2 WHERE destination = $1 AND state IN ('queued', 'unknown')`, before, after)
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return classify(fmt.Errorf("move a conversation: %w", err))
	}
	return nil
}
