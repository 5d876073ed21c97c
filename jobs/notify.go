package jobs

import (
	"context"
)

// Notifier tells people about tickets. Both calls write down what is owed and return; doing
// either twice is doing it once.
type Notifier interface {
	// Notify tells people about the event seq of a ticket, as far as it still matters.
	Notify(ctx context.Context, ticketID string, seq int64) error
	// Changed brings what is shown of a ticket up to date.
	Changed(ctx context.Context, ticketID string) error
}

// notify tells people about one event.
func (r *Runner) notify(ctx context.Context, args NotifyArgs) error {
	if r.c.Notifier == nil {
		return nil
	}
	return r.c.Notifier.Notify(ctx, args.TicketID, args.Seq)
}

// updateCard brings what is shown of a ticket up to date.
func (r *Runner) updateCard(ctx context.Context, args UpdateCardArgs) error {
	if r.c.Notifier == nil {
		return nil
	}
	return r.c.Notifier.Changed(ctx, args.TicketID)
}
