package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/jobs"
)

// repost asks for the cards of open tickets again: the emulator forgets its messages when
// it stops, and a ticket without a card could not be decided.
func repost(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("look for open tickets: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // going away
	outbox, err := jobs.NewOutbox()
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, table := range []string{"slack_outbox", "card_copies", "slack_reviews", "cards", "slack_homes"} { // in the order of their references
			if _, err := tx.Exec(ctx, "DELETE FROM "+table); err != nil {
				return fmt.Errorf("forget what the emulator has forgotten: %w", err)
			}
		}
		rows, err := tx.Query(ctx, `SELECT t.id, max(e.seq) FROM tickets t JOIN audit_events e ON e.ticket_id = t.id
			WHERE t.state IN ('pending', 'needs_info') AND e.type IN ('ticket.created', 'ticket.stage_completed', 'ticket.reopened', 'ticket.tightened')
			GROUP BY t.id`)
		if err != nil {
			return fmt.Errorf("look for open tickets: %w", err)
		}
		effects, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (approvals.Effect, error) {
			var n approvals.Notify
			err := r.Scan(&n.TicketID, &n.Seq)
			return n, err
		})
		if err != nil {
			return fmt.Errorf("look for open tickets: %w", err)
		}
		return outbox.Enqueue(ctx, tx, effects)
	})
}
