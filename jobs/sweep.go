package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/db"
)

const (
	// sweepBatch bounds one pass over one kind of leftover.
	sweepBatch = 200
	// sweepTimeout bounds one sweep, forgetTimeout one deletion of what is old.
	sweepTimeout  = time.Minute
	forgetTimeout = 5 * time.Minute
	replayKept    = 26 * time.Hour // Slack may send an event again for a day, and an hour later
	keysKept      = 24 * time.Hour
	forgetEvery   = 10 * time.Minute
)

// sweepForever finds what a dead process or a lost job left behind. It does not depend
// on River: where River's memory ends, the ticket's own row still says what is owed.
func (r *Runner) sweepForever(ctx context.Context) {
	turn := turns{last: r.c.Now()}
	every(ctx, r.c.SweepEvery, func() {
		bounded, cancel := context.WithTimeout(ctx, sweepTimeout)
		defer cancel()
		err := errors.Join(r.sweepInTurn(bounded, &turn), r.sweepOwn(bounded))
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "sweep failed", slog.Any("error", err))
		}
	})
}

// turns remembers when this process last had its turn to sweep.
type turns struct {
	last    time.Time
	ignored bool
}

// sweepInTurn sweeps while no other process does. That saves work and no more: a process
// that was stopped in the middle of its turn keeps it as long as its connection lasts, and
// is not waited for longer than a lease.
func (r *Runner) sweepInTurn(ctx context.Context, t *turns) error {
	mine := false
	err := r.c.Store.Exclusively(ctx, "sweep", func(ctx context.Context) error {
		mine = true
		return r.sweep(ctx)
	})
	switch now := r.c.Now(); {
	case mine:
		t.last, t.ignored = now, false
	case err == nil && now.Sub(t.last) > r.c.Lease:
		if !t.ignored {
			r.log.WarnContext(ctx, "another process has been sweeping for longer than a lease, sweeping beside it")
		}
		t.ignored = true
		err = r.sweep(ctx)
	}
	return err
}

// forgetForever drops what is kept only for a while.
func (r *Runner) forgetForever(ctx context.Context) {
	every(ctx, forgetEvery, func() {
		bounded, cancel := context.WithTimeout(ctx, forgetTimeout)
		defer cancel()
		if err := errors.Join(r.c.Store.Forget(bounded, replayKept, keysKept), r.c.Store.ForgetWaiting(bounded)); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot drop what is old", slog.Any("error", err))
		}
	})
}

func (r *Runner) sweep(ctx context.Context) error {
	errs := []error{r.sweepOverdue(ctx), r.sweepLost(ctx), r.sweepLines(ctx), r.sweepDeliveries(ctx)}
	if r.pulse.steady(r.c.Now(), r.c.Lease) {
		errs = append(errs, r.sweepOrphans(ctx), r.rescueJobs(ctx), r.freeDeliveries(ctx))
	}
	return errors.Join(errs...)
}

// sweepOrphans takes claims from workers that have fallen silent.
func (r *Runner) sweepOrphans(ctx context.Context) error {
	claims, err := r.c.Store.Orphans(ctx, r.c.Lease, sweepBatch)
	if !r.pulse.steady(r.c.Now(), r.c.Lease) {
		return err // the database kept us waiting, and everybody else with us
	}
	return errors.Join(err, r.abandon(ctx, r.idle(claims)))
}

// rescueJobs gives the jobs of workers that have fallen silent to others.
func (r *Runner) rescueJobs(ctx context.Context) error {
	n, err := r.c.Store.RescueJobs(ctx, r.c.Lease)
	if n > 0 {
		r.log.InfoContext(ctx, "rescued jobs of dead workers", slog.Int64("jobs", n))
	}
	return err
}

// sweepOwn takes claims of this process that no job of it is working on any more.
func (r *Runner) sweepOwn(ctx context.Context) error {
	claims, err := r.c.Store.ClaimsOf(ctx, r.id)
	return errors.Join(err, r.abandon(ctx, r.idle(claims)))
}

// idle drops the claims this process is working on.
func (r *Runner) idle(claims []db.Claim) []db.Claim {
	left := claims[:0]
	for _, c := range claims {
		if !r.busy.holds(c.TicketID) {
			left = append(left, c)
		}
	}
	return left
}

func (r *Runner) abandon(ctx context.Context, claims []db.Claim) error {
	var errs []error
	for _, c := range claims {
		t, err := r.advance(ctx, c.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Abandon(c.Epoch, now)
		})
		if err == nil {
			r.log.WarnContext(ctx, "took a claim from a worker that is gone",
				slog.String("ticket_id", c.TicketID), slog.String("state", string(t.State)))
		}
		errs = append(errs, unlessRefused(err))
	}
	return errors.Join(errs...)
}

func (r *Runner) sweepOverdue(ctx context.Context) error {
	ids, err := r.c.Store.Overdue(ctx, r.c.OverdueGrace, sweepBatch)
	errs := []error{err}
	for _, id := range ids {
		_, err := r.advance(ctx, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Wake(r.c.Policy().Directory(), now)
		})
		errs = append(errs, unlessRefused(err))
	}
	return errors.Join(errs...)
}

// sweepLost makes the jobs again that should be there and are not.
func (r *Runner) sweepLost(ctx context.Context) error {
	ids, err := r.c.Store.Unstarted(ctx, r.c.UnstartedGrace, sweepBatch)
	if err != nil {
		return err
	}
	var effects []approvals.Effect
	for _, id := range ids {
		effects = append(effects, approvals.Execute{TicketID: id})
	}
	if len(effects) == 0 {
		return nil
	}
	r.log.WarnContext(ctx, "making lost jobs again", slog.Int("jobs", len(effects)))
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
