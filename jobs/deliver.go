package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/jobs/crashpoint"
	"countersign/policy"
)

const (
	// deliverFor is how long the database is waited for to record an attempt.
	deliverFor = 20 * time.Second
	// early is how much too soon a job may come because of clocks that differ; one that is
	// earlier is a second one, and the one for the next attempt will come by itself.
	early = 5 * time.Second
	// manyEvents is more than the events between a callback and its next attempt.
	manyEvents = 1000
)

// deliver posts one callback, once, and records what came of it: delivered, to be tried
// again by the schedule, or exhausted. A receiver may see an attempt twice when this
// process dies in between; the id stays the same.
func (r *Runner) deliver(ctx context.Context, args DeliverArgs) error {
	d, err := r.c.Store.Delivery(ctx, args.TicketID, args.Seq)
	if err != nil || d.State != approvals.CallbackPending {
		return err
	}
	due, err := r.dueAt(ctx, d)
	if err != nil {
		return err
	}
	if left := due.Sub(r.c.Now()); left > early {
		return nil
	} else if left > 0 {
		return river.JobSnooze(left)
	}
	t, err := r.c.Store.Ticket(ctx, db.Ref{ID: args.TicketID})
	if err != nil {
		return err
	}
	got := r.attempt(ctx, t.Caller, d)
	crashpoint.Hit("deliver.sent")
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverFor)
	defer cancel()
	return r.delivered(detached, d, got)
}

// dueAt is when the next attempt is due, by the event of the last one; zero for the first.
// A job that comes twice, as after the death of its worker, must not begin a second series
// of attempts beside the first.
func (r *Runner) dueAt(ctx context.Context, d db.Delivery) (time.Time, error) {
	if d.Attempts == 0 {
		return time.Time{}, nil
	}
	events, err := r.c.Store.Events(ctx, db.Ref{ID: d.TicketID}, d.Seq, manyEvents)
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range slices.Backward(events) {
		if a := e.Data.Delivery; a != nil && a.Seq == d.Seq && a.Number == d.Attempts {
			return a.NextAt, nil
		}
	}
	return time.Time{}, nil
}

func (r *Runner) attempt(ctx context.Context, caller string, d db.Delivery) egress.AttemptResult {
	config := r.c.Policy()
	c, ok := config.Caller(caller)
	if !ok || len(c.CallbackSecrets) == 0 {
		return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Aborted}, Err: "the caller has no callback secret any more"}
	}
	if !originAllowed(config, c, d.URL) {
		return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Aborted}, Err: "the caller may not send callbacks there any more"}
	}
	attempt := egress.Attempt{URL: d.URL, ID: d.MessageID, Body: d.Payload, Number: d.Attempts + 1, Trigger: egress.Auto}
	for _, s := range c.CallbackSecrets {
		secret, err := egress.ParseSecret(s.Reveal())
		if err != nil {
			return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Aborted}, Err: "the caller's callback secret is not usable"}
		}
		attempt.Secrets = append(attempt.Secrets, secret)
	}
	got := r.c.Deliverer.Do(ctx, attempt)
	if got.Cause != nil {
		r.log.InfoContext(ctx, "callback attempt failed", slog.String("ticket_id", d.TicketID),
			slog.String("message_id", d.MessageID), slog.Int("attempt", attempt.Number), slog.Int("status", got.Status),
			slog.String("class", got.ErrorClass), slog.Any("error", got.Cause))
	}
	return got
}

// originAllowed holds an address to the rules and the caller's origins as they are now:
// one that was struck off is told nothing more.
func originAllowed(config *policy.Config, c policy.Caller, address string) bool {
	e := config.Egress.Callbacks
	u, err := egress.CheckURL(address, egress.Policy{
		AllowLoopback: e.AllowLoopback, AllowHTTP: e.AllowHTTP, AllowPrefixes: e.AllowPrefixes, AllowPorts: e.AllowPorts,
	})
	return err == nil && slices.Contains(c.Origins, egress.Origin(u))
}

func (r *Runner) delivered(ctx context.Context, d db.Delivery, got egress.AttemptResult) error {
	a := approvals.DeliveryAttempt{
		Seq: d.Seq, Number: d.Attempts + 1, Status: got.Status, DurationMS: got.Duration.Milliseconds(), Error: got.Err,
	}
	_, err := r.advance(ctx, d.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if got.Class == egress.Delivered {
			return t.Delivered(r.id, a, now)
		}
		if wait, again := egress.NextAttempt(r.c.Schedule, a.Number, got.Verdict, rand.Float64); again {
			a.NextAt = now.Add(wait).Truncate(time.Microsecond)
		}
		return t.DeliveryFailed(r.id, a, now)
	})
	return err
}
