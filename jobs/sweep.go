package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/db"
)

const (
	// sweepBatch bounds one pass over one kind of leftover.
	sweepBatch = 200
	// overdueGrace is how late a timer may be before the sweeper fires it: River's
	// scheduler is some seconds late by design.
	overdueGrace = 8 * time.Second
	// unstartedGrace and undeliveredGrace are longer than a job needs to be fetched.
	unstartedGrace   = 15 * time.Second
	undeliveredGrace = 45 * time.Second
	replayKept       = 24 * time.Hour
	keysKept         = 24 * time.Hour
	forgetEvery      = 10 * time.Minute
)

// sweepForever finds what a dead process or a lost job left behind. It does not depend
// on River: where River's memory ends, the ticket's own row still says what is owed. One
// process sweeps at a time.
func (r *Runner) sweepForever(ctx context.Context) {
	every(ctx, r.c.SweepEvery, func() {
		err := r.c.Store.Exclusively(ctx, "sweep", r.sweep)
		if err == nil {
			err = r.sweepOwn(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "sweep failed", "error", err)
		}
	})
}

// forgetForever drops what is kept only for a while.
func (r *Runner) forgetForever(ctx context.Context) {
	every(ctx, forgetEvery, func() {
		if err := r.c.Store.Forget(ctx, replayKept, keysKept); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot drop what is old", "error", err)
		}
	})
}

func (r *Runner) sweep(ctx context.Context) error {
	var errs []error
	errs = append(errs, r.sweepOrphans(ctx), r.sweepOverdue(ctx))
	n, err := r.c.Store.RescueJobs(ctx, r.c.Lease)
	if n > 0 {
		r.log.InfoContext(ctx, "rescued jobs of dead workers", "jobs", n)
	}
	errs = append(errs, err, r.sweepLost(ctx))
	return errors.Join(errs...)
}

// sweepOrphans takes claims from workers that have fallen silent.
func (r *Runner) sweepOrphans(ctx context.Context) error {
	claims, err := r.c.Store.Orphans(ctx, r.c.Lease, sweepBatch)
	return errors.Join(err, r.abandon(ctx, claims))
}

// sweepOwn takes claims of this process that no job of it is working on any more.
func (r *Runner) sweepOwn(ctx context.Context) error {
	claims, err := r.c.Store.ClaimsOf(ctx, r.id)
	left := claims[:0]
	for _, c := range claims {
		if _, working := r.inFlight.Load(c.TicketID); !working {
			left = append(left, c)
		}
	}
	return errors.Join(err, r.abandon(ctx, left))
}

func (r *Runner) abandon(ctx context.Context, claims []db.Claim) error {
	var errs []error
	for _, c := range claims {
		t, err := r.advance(ctx, c.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Abandon(c.Epoch, now)
		})
		if err == nil {
			r.log.WarnContext(ctx, "took a claim from a worker that is gone", "ticket_id", c.TicketID, "state", string(t.State))
		}
		errs = append(errs, unlessRefused(err))
	}
	return errors.Join(errs...)
}

func (r *Runner) sweepOverdue(ctx context.Context) error {
	ids, err := r.c.Store.Overdue(ctx, overdueGrace, sweepBatch)
	errs := []error{err}
	dir := r.c.Policy().Directory()
	for _, id := range ids {
		_, err := r.advance(ctx, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Wake(dir, now)
		})
		errs = append(errs, unlessRefused(err))
	}
	return errors.Join(errs...)
}

// sweepLost makes the jobs again that should be there and are not.
func (r *Runner) sweepLost(ctx context.Context) error {
	ids, err := r.c.Store.Unstarted(ctx, unstartedGrace, sweepBatch)
	if err != nil {
		return err
	}
	var effects []approvals.Effect
	for _, id := range ids {
		effects = append(effects, approvals.Execute{TicketID: id})
	}
	owed, err := r.c.Store.Undelivered(ctx, undeliveredGrace, sweepBatch)
	if err != nil {
		return err
	}
	for _, d := range owed {
		effects = append(effects, approvals.Deliver{TicketID: d.TicketID, Seq: d.Seq})
	}
	if len(effects) == 0 {
		return nil
	}
	r.log.WarnContext(ctx, "making lost jobs again", "jobs", len(effects))
	return pgx.BeginFunc(ctx, r.c.Pool, func(tx pgx.Tx) error { return r.c.Outbox.Enqueue(ctx, tx, effects) })
}

// unlessRefused drops the domain's refusals: the ticket moved on by itself.
func unlessRefused(err error) error {
	var refusal *approvals.Error
	if errors.As(err, &refusal) {
		return nil
	}
	return err
}
