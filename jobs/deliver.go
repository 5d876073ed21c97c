package jobs

import (
	"context"
	"math/rand/v2"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/jobs/crashpoint"
)

// deliver posts one callback, once, and records what came of it: delivered, to be tried
// again by the schedule, or exhausted. A receiver may see an attempt twice when this
// process dies in between; the id stays the same.
func (r *Runner) deliver(ctx context.Context, args DeliverArgs) error {
	d, err := r.c.Store.Delivery(ctx, args.TicketID, args.Seq)
	if err != nil || d.State != approvals.CallbackPending {
		return err
	}
	t, err := r.c.Store.Ticket(ctx, db.Ref{ID: args.TicketID})
	if err != nil {
		return err
	}
	got := r.attempt(ctx, t.Caller, d)
	crashpoint.Hit("deliver.sent")
	return r.delivered(context.WithoutCancel(ctx), d, got)
}

func (r *Runner) attempt(ctx context.Context, caller string, d db.Delivery) egress.AttemptResult {
	c, ok := r.c.Policy().Caller(caller)
	if !ok || len(c.CallbackSecrets) == 0 {
		return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Aborted}, Err: "the caller has no callback secret any more"}
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
		r.log.InfoContext(ctx, "callback attempt failed", "ticket_id", d.TicketID, "message_id", d.MessageID,
			"attempt", attempt.Number, "status", got.Status, "class", got.ErrorClass, "error", got.Cause)
	}
	return got
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
