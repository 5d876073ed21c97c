package jobs

import (
	"context"
	"time"

	"countersign/approvals"
)

func (r *Runner) remind(ctx context.Context, args RemindArgs) error {
	_, err := r.advance(ctx, args.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Remind(args.Stage, args.Number, now)
	})
	return err
}

func (r *Runner) escalate(ctx context.Context, args EscalateArgs) error {
	_, err := r.advance(ctx, args.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Escalate(args.Stage, args.Tier, r.c.Policy().Directory(), now)
	})
	return err
}

func (r *Runner) expire(ctx context.Context, args ExpireArgs) error {
	_, err := r.advance(ctx, args.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Expire(now)
	})
	return err
}

func (r *Runner) release(ctx context.Context, args ReleaseArgs) error {
	_, err := r.advance(ctx, args.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Release(now)
	})
	return err
}
