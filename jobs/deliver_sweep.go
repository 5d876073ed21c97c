package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// wakeGrace is how long a delivery may be due while its endpoint has room before the sweeper
// makes a job for it: its own job, or whoever finishes another there, is as a rule sooner.
const wakeGrace = 2 * time.Second

// sweepDeliveries makes jobs for deliveries that are due at endpoints with room: their job was
// lost, or came when there was none, and nobody finished one there since. So it does for those
// that may not be sent any more, which are given up. A job that is still waiting is not made
// twice.
func (r *Runner) sweepDeliveries(ctx context.Context) error {
	waiting, err := r.c.Store.WaitingDeliveries(ctx, min(wakeGrace, r.c.UndeliveredGrace), sweepBatch, termsOf(r.c.Policy()))
	if err != nil || len(waiting) == 0 {
		return err
	}
	effects := make([]approvals.Effect, 0, len(waiting))
	for _, d := range waiting {
		effects = append(effects, approvals.Deliver{TicketID: d.TicketID, Seq: d.Seq})
	}
	return pgx.BeginFunc(ctx, r.c.Pool, func(tx pgx.Tx) error { return r.c.Outbox.ring(ctx, tx, effects) })
}

// freeDeliveries takes claims on deliveries from workers that have fallen silent.
func (r *Runner) freeDeliveries(ctx context.Context) error {
	n, err := r.c.Store.FreeDeliveries(ctx, r.c.Lease)
	if n > 0 {
		r.log.WarnContext(ctx, "took deliveries from a worker that is gone", slog.Int64("deliveries", n))
	}
	return err
}
