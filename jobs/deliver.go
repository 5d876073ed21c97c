package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/riverqueue/river"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/health"
	"countersign/jobs/crashpoint"
	"countersign/policy"
)

const (
	// deliverFor is how long the database is waited for to record an attempt.
	deliverFor = 20 * time.Second
	// recordAgain is the pause between two tries to record one.
	recordAgain = 300 * time.Millisecond
	// deliverMargin is how much longer a claim lasts than its attempt and the record of it.
	deliverMargin = 10 * time.Second
	// deliverOn is how long a job goes on with what else waits at the same endpoint.
	deliverOn = 30 * time.Second
	// deliverSoon is how long a job waits for a token of its endpoint.
	deliverSoon = time.Second
	// early is how much too soon a job may come because of clocks that differ; one that is
	// earlier is a second one, and the one for the next attempt will come by itself.
	early = 5 * time.Second
	// oursLeast and oursMost bound how long a delivery waits that could not be sent because of
	// ourselves.
	oursLeast = 30 * time.Second
	oursMost  = 5 * time.Minute
	// tripsToDisable is how often in a row a breaker opens until its endpoint is disabled.
	tripsToDisable = 10
)

// deliver posts a callback, once, if its endpoint takes it now, and then what else waits
// there. What may not be sent now waits in its row, and costs nothing: whoever finishes a
// delivery at that endpoint, or else the sweeper, takes it up.
func (r *Runner) deliver(ctx context.Context, args DeliverArgs) error {
	until := r.c.Now().Add(deliverOn)
	c, err := r.claimDelivery(ctx, db.Wanted{TicketID: args.TicketID, Seq: args.Seq})
	if err != nil {
		return err
	}
	if c.Admission == db.TooEarly && c.Wait <= early {
		return river.JobSnooze(c.Wait)
	}
	for c.Admission == db.Admitted || c.Admission == db.Unreadable {
		waiting, err := r.post(ctx, c)
		if err != nil || !waiting || !r.c.Now().Before(until) || ctx.Err() != nil || r.directs.refuses() {
			return unlessRefused(err)
		}
		if c, err = r.next(ctx, c.EndpointID); err != nil {
			return err
		}
	}
	if c.Admission == db.Unlisted {
		if left := r.c.UnlistedGrace - c.Age; left > 0 {
			return river.JobSnooze(left)
		}
		return unlessRefused(r.giveUp(ctx, c.Delivery, "the caller may not send callbacks there any more"))
	}
	return nil
}

// next claims what has waited longest at an endpoint. One that takes so many in a time is
// waited for, if that is a matter of moments: a place is held meanwhile by nobody else.
func (r *Runner) next(ctx context.Context, endpointID string) (db.DeliveryClaim, error) {
	c, err := r.claimDelivery(ctx, db.Wanted{EndpointID: endpointID})
	if err == nil && c.Admission == db.Resting && c.Wait <= deliverSoon && !c.Endpoint.Health.Open(r.c.Now()) {
		wait(ctx, c.Wait)
		c, err = r.claimDelivery(ctx, db.Wanted{EndpointID: endpointID})
	}
	return c, err
}

func (r *Runner) claimDelivery(ctx context.Context, w db.Wanted) (db.DeliveryClaim, error) {
	return r.c.Store.ClaimDelivery(ctx, w, r.id, termsOf(r.c.Policy()))
}

// termsOf is what a configuration says of the endpoint of a delivery.
func termsOf(config *policy.Config) func(db.Delivery) db.Terms {
	return func(d db.Delivery) db.Terms {
		_, e, ok := endpointOf(config, d.Caller, d.URL)
		return db.Terms{
			Listed: ok, Waived: e.Waived, Concurrency: e.Concurrency, Limits: limitsOf(e), Lease: e.Timeout + deliverFor + deliverMargin,
		}
	}
}

func limitsOf(e policy.Endpoint) health.Limits {
	return health.Limits{Rate: health.Rate{N: e.Rate.N, Per: e.Rate.Per}, Breaker: health.Endpoints()}
}

// endpointOf holds an address to the rules and the caller's origins as they are now: one that
// was struck off is told nothing more.
func endpointOf(config *policy.Config, caller, address string) (policy.Caller, policy.Endpoint, bool) {
	c, ok := config.Caller(caller)
	if !ok {
		return c, policy.Endpoint{}, false
	}
	e := config.Egress.Callbacks
	u, err := egress.CheckURL(address, egress.Policy{
		AllowLoopback: e.AllowLoopback, AllowHTTP: e.AllowHTTP, AllowPrefixes: e.AllowPrefixes, AllowPorts: e.AllowPorts,
	})
	if err != nil {
		return c, policy.Endpoint{}, false
	}
	endpoint, ok := c.Endpoint(egress.Origin(u))
	return c, endpoint, ok
}

// post makes the attempt of a claim and records what came of it: delivered, to be tried again
// by the schedule, or exhausted. A receiver may see an attempt twice when this process dies in
// between; the id stays the same. waiting says that more is due there.
func (r *Runner) post(ctx context.Context, c db.DeliveryClaim) (waiting bool, err error) {
	if c.Admission == db.Unreadable {
		r.log.ErrorContext(ctx, "a callback cannot be decrypted and is put off; is a key missing?", slog.String("ticket_id", c.TicketID), slog.String("message_id", c.MessageID))
		return true, nil
	}
	crashpoint.Hit("deliver.claimed")
	config := r.c.Policy()
	caller, e, ok := endpointOf(config, c.Caller, c.URL)
	if !ok { // since it was claimed
		return false, r.c.Store.ReleaseDelivery(ctx, c.Delivery, 0)
	}
	got := r.attempt(ctx, config, caller, e, c.Delivery)
	crashpoint.Hit("deliver.sent")
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliverFor)
	defer cancel()
	switch {
	case ctx.Err() != nil && got.Class != egress.Delivered: // cut off by us: nobody knows what it would have come to
		return false, r.c.Store.ReleaseDelivery(detached, c.Delivery, 0)
	case got.Ours:
		r.log.WarnContext(ctx, "callback could not be sent from our side", slog.String("ticket_id", c.TicketID),
			slog.String("endpoint_id", c.EndpointID), slog.String("class", got.ErrorClass), slog.Any("error", got.Cause))
		return false, r.c.Store.ReleaseDelivery(detached, c.Delivery, r.oursWait(c.Delivery))
	}
	return r.delivered(detached, c, e, got)
}

// oursWait is how long a delivery waits that could not be sent because of ourselves: a tenth of
// its age. It is never given up for that, however long it takes: the fault is none of the
// receiver's.
func (r *Runner) oursWait(d db.Delivery) time.Duration {
	return min(max(r.c.Now().Sub(d.CreatedAt)/10, oursLeast), oursMost)
}

// attempt makes an attempt. What keeps us from it is no doing of the receiver.
func (r *Runner) attempt(ctx context.Context, config *policy.Config, caller policy.Caller, e policy.Endpoint, d db.Delivery) egress.AttemptResult {
	a, err := r.prepare(ctx, config, caller, e)
	var unusable *unusableError
	if errors.As(err, &unusable) {
		return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Blocked}, Err: unusable.Error(), ErrorClass: egress.ErrorInvalid}
	}
	if err != nil {
		return egress.AttemptResult{Verdict: egress.Verdict{Class: egress.Failed, Retry: true}, Ours: true, Cause: err}
	}
	a.URL, a.ID, a.Body, a.Number, a.Trigger = d.URL, d.MessageID, d.Payload, d.Attempts+1, egress.Trigger(d.Trigger)
	got := r.c.Deliverer.Do(ctx, a)
	if got.Cause != nil {
		r.log.InfoContext(ctx, "callback attempt failed", slog.String("ticket_id", d.TicketID),
			slog.String("message_id", d.MessageID), slog.Int("attempt", a.Number), slog.Int("status", got.Status),
			slog.String("class", got.ErrorClass), slog.Any("error", got.Cause))
	}
	return got
}

// delivered records an attempt.
func (r *Runner) delivered(ctx context.Context, c db.DeliveryClaim, e policy.Endpoint, got egress.AttemptResult) (waiting bool, err error) {
	var recorded db.Recorded
	err = untilRecorded(ctx, func() error {
		recorded, err = r.record(ctx, c, e, got)
		return err
	})
	if err != nil {
		return false, err
	}
	r.saySo(ctx, c, recorded, got)
	return recorded.Waiting, nil
}

// untilRecorded tries again while the database cannot be reached: what a receiver said is not
// to be asked a second time. A commit of which nothing was heard is found to be done.
func untilRecorded(ctx context.Context, record func() error) error {
	for {
		err := record()
		if err == nil || unlessRefused(err) == nil || ctx.Err() != nil {
			return err
		}
		wait(ctx, recordAgain)
	}
}

func (r *Runner) record(ctx context.Context, c db.DeliveryClaim, e policy.Endpoint, got egress.AttemptResult) (db.Recorded, error) {
	return r.c.Store.RecordAttempt(ctx, recordOf(c, e, got), func(t approvals.Ticket, d db.Delivery, now time.Time) (approvals.Transition, error) {
		a := attemptOf(c.Delivery, got)
		if got.Class == egress.Delivered {
			return t.Delivered(r.id, a, now)
		}
		if a.NextAt = r.nextAt(e, d, a.Number, got, now); a.NextAt.IsZero() && got.Retry {
			a.Error += lastAttempt
		}
		return t.DeliveryFailed(r.id, a, now)
	})
}

// lastAttempt says why another attempt, which would do, is not made.
const lastAttempt = ", and this was the last attempt"

func attemptOf(d db.Delivery, got egress.AttemptResult) approvals.DeliveryAttempt {
	return approvals.DeliveryAttempt{
		Seq: d.Seq, Number: d.Attempts + 1, Status: got.Status, DurationMS: got.Duration.Milliseconds(), Error: got.Err,
	}
}

// nextAt is when a delivery that failed is tried again; zero: it is not. Who asked for one
// more meanwhile gets it at once.
func (r *Runner) nextAt(e policy.Endpoint, present db.Delivery, number int, got egress.AttemptResult, now time.Time) time.Time {
	if present.Trigger == db.Manual {
		return now
	}
	schedule := r.c.Schedule
	if e.Schedule != nil {
		schedule = e.Schedule
	}
	if wait, again := egress.NextAttempt(schedule, number, got.Verdict, rand.Float64); again {
		return now.Add(wait).Truncate(time.Microsecond)
	}
	return time.Time{}
}

// recordOf is what is kept of an attempt besides its event.
func recordOf(c db.DeliveryClaim, e policy.Endpoint, got egress.AttemptResult) db.AttemptRecord {
	rec := db.AttemptRecord{
		Delivery: c.Delivery, OK: got.Class == egress.Delivered, Uncharged: got.Class == egress.Blocked,
		Class: got.ErrorClass, Address: got.Address,
		DNS: got.Timing.DNS, Connect: got.Timing.Connect, TLS: got.Timing.TLS, FirstByte: got.Timing.FirstByte,
		Hold: got.RetryAfter, Limits: limitsOf(e), DisableAfter: e.DisableAfter, DisableTrips: tripsToDisable,
	}
	if c.Endpoint.Verification == db.Verified {
		rec.Snippet = got.ResponseSnippet
	}
	if got.DisableEndpoint {
		rec.Disable = "the receiver asked for it"
		if got.Status == statusGone {
			rec.Disable = "the receiver answered 410 Gone"
		}
	}
	return rec
}

const statusGone = 410

// giveUp ends a delivery that may not be sent any more, without an attempt.
func (r *Runner) giveUp(ctx context.Context, d db.Delivery, why string) error {
	_, err := r.advance(ctx, d.TicketID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.DeliveryFailed(r.id, approvals.DeliveryAttempt{Seq: d.Seq, Number: d.Attempts + 1, Error: why}, now)
	})
	if err == nil {
		r.dead(ctx, d, slog.String("reason", why))
	}
	return err
}

// dead tells the log of a dead letter. People are told of it by who looks for that.
func (r *Runner) dead(ctx context.Context, d db.Delivery, more ...any) {
	r.log.WarnContext(ctx, "callback was given up", append([]any{
		slog.String("ticket_id", d.TicketID), slog.String("message_id", d.MessageID), slog.String("endpoint_id", d.EndpointID),
		slog.String("caller", d.Caller), slog.Int("attempts", d.Attempts+1),
	}, more...)...)
}

// saySo tells the log, and people, what an attempt meant for its endpoint.
func (r *Runner) saySo(ctx context.Context, c db.DeliveryClaim, recorded db.Recorded, got egress.AttemptResult) {
	attrs := []any{slog.String("endpoint_id", c.EndpointID), slog.String("caller", c.Caller), slog.String("class", got.ErrorClass)}
	if recorded.Exhausted {
		r.dead(ctx, c.Delivery, slog.String("class", got.ErrorClass), slog.String("reason", got.Err))
	}
	switch {
	case recorded.Disabled:
		r.log.WarnContext(ctx, "callback endpoint was disabled", append(attrs, slog.String("reason", recorded.Endpoint.DisabledWhy))...)
	case recorded.Tripped:
		r.log.WarnContext(ctx, "callback endpoint is left alone for a while", append(attrs, slog.Int("trips", recorded.Endpoint.Health.Trips))...)
		r.alert(ctx, c.EndpointID)
	case recorded.Closed:
		r.log.InfoContext(ctx, "callback endpoint is well again", attrs...)
	}
}
