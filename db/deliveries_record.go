package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/health"
)

// AttemptRecord is an attempt that was made under a claim, with what its event does not say.
type AttemptRecord struct {
	// Delivery as it was claimed.
	Delivery Delivery
	// OK: the receiver took it.
	OK bool
	// Uncharged: it says nothing about the endpoint, as nothing was sent there.
	Uncharged bool
	// Class, Address, the phases and the Snippet are kept for those who look for the fault.
	Class, Address               string
	DNS, Connect, TLS, FirstByte time.Duration
	Snippet                      []byte
	// Hold is how long the endpoint asked to be left alone; zero: it did not.
	Hold time.Duration
	// Disable is why the endpoint is to be disabled; empty: it is not.
	Disable string
	// Limits it was claimed under.
	Limits health.Limits
	// DisableAfter is how long all attempts must have failed until the endpoint is disabled,
	// DisableTrips how often in a row its breaker must have opened. Zero: never.
	DisableAfter time.Duration
	DisableTrips int
}

// Recorded is what an attempt meant for its endpoint.
type Recorded struct {
	// Endpoint as it is afterwards.
	Endpoint Endpoint
	// Tripped: its breaker opened with this attempt. Closed: it closed. Disabled: the endpoint
	// was disabled because of it. Exhausted: the delivery was given up.
	Tripped, Closed, Disabled, Exhausted bool
	// Waiting: there are deliveries that are due there and that nobody is sending.
	Waiting bool
}

// RecordAttempt is Advance for the end of an attempt: the event, the delivery's row, which is
// free again, the attempt's row, and how the endpoint is doing are one transaction. decide is
// given the delivery as it is now; its Trigger is Manual when somebody has asked for another
// attempt meanwhile.
//
// What was done under a claim that has become somebody else's is refused with CodeConflict and
// leaves nothing, unless the receiver took it.
func (s *Store) RecordAttempt(ctx context.Context, rec AttemptRecord, decide func(approvals.Ticket, Delivery, time.Time) (approvals.Transition, error)) (Recorded, error) {
	var out Recorded
	var present Delivery
	read := func(ctx context.Context, tx pgx.Tx) (err error) {
		out = Recorded{}
		out.Endpoint, present, err = lockBoth(ctx, tx, rec.Delivery)
		return err
	}
	verb := func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if why := rec.overtaken(present); why != nil {
			return approvals.Transition{}, why
		}
		return decide(t, present, now)
	}
	_, err := s.advanceAfter(ctx, Ref{ID: rec.Delivery.TicketID}, read, verb, func(ctx context.Context, tx pgx.Tx, tr approvals.Transition, _ error) error {
		if tr.Empty() {
			return nil
		}
		if err := s.writeAttempt(ctx, tx, rec, tr); err != nil {
			return err
		}
		out.Exhausted = tr.Events[0].Type == approvals.EventCallbackExhausted
		return rec.settle(ctx, tx, &out, tr.Events[0])
	})
	return out, err
}

// lockBoth locks the endpoint and reads it and the delivery. Whoever asks for an attempt locks
// the ticket, so the row cannot change in what matters here.
func lockBoth(ctx context.Context, tx pgx.Tx, d Delivery) (e Endpoint, present Delivery, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+endpointColumns+` FROM callback_endpoints e WHERE e.id = $1 FOR NO KEY UPDATE`, d.EndpointID)
	b.Queue(`SELECT `+deliveryColumns+fromDeliveries+`WHERE d.ticket_id = $1 AND d.seq = $2`, d.TicketID, d.Seq)
	res := tx.SendBatch(ctx, b)
	defer res.Close() //nolint:errcheck // what matters was read
	rows, err := res.Query()
	if err == nil {
		e, err = pgx.CollectExactlyOneRow(rows, scanEndpoint)
	}
	if err != nil {
		return e, d, fmt.Errorf("lock endpoint %s: %w", d.EndpointID, err)
	}
	if present, err = scanDeliveryAnd(res.QueryRow()); err != nil {
		return e, d, fmt.Errorf("read the delivery: %w", err)
	}
	return e, present, nil
}

func (rec AttemptRecord) overtaken(present Delivery) error {
	d := rec.Delivery
	if present.State != approvals.CallbackPending || present.Attempts != d.Attempts || (!rec.OK && present.ClaimedBy != d.ClaimedBy) {
		return &approvals.Error{Code: approvals.CodeConflict, Message: "the attempt has become somebody else's"}
	}
	return nil
}

// writeAttempt keeps what the event of an attempt does not say.
func (s *Store) writeAttempt(ctx context.Context, tx pgx.Tx, rec AttemptRecord, tr approvals.Transition) error {
	d, a := rec.Delivery, tr.Events[0].Data.Delivery
	var snippet []byte
	if len(rec.Snippet) > 0 {
		var err error
		if snippet, err = s.seal(rec.Snippet, d.TicketID, snippetField(a.Number), d.Seq); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO delivery_attempts (ticket_id, seq, number, at, status, error, duration_ms, next_at, trigger, class, address,
			dns_ms, connect_ms, tls_ms, first_byte_ms, snippet)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		d.TicketID, d.Seq, a.Number, tr.Events[0].At, a.Status, a.Error, a.DurationMS, null(a.NextAt), d.Trigger, rec.Class, rec.Address,
		rec.DNS.Milliseconds(), rec.Connect.Milliseconds(), rec.TLS.Milliseconds(), rec.FirstByte.Milliseconds(), snippet)
	if err != nil {
		return fmt.Errorf("write attempt %d: %w", a.Number, err)
	}
	return nil
}

// settle writes down how the endpoint is doing, and finds out who waits there.
func (rec AttemptRecord) settle(ctx context.Context, tx pgx.Tx, out *Recorded, e approvals.Event) error {
	before := out.Endpoint
	after := rec.judged(before, e.At)
	out.Tripped = after.Health.Trips > before.Health.Trips
	out.Closed = before.Health.Trips > 0 && after.Health.Trips == 0
	err := tx.QueryRow(ctx, `UPDATE callback_endpoints e SET health = $2, held_until = $3, failing_since = $4, failures = $5, succeeded_at = $6, failed_at = $7
		WHERE id = $1 RETURNING EXISTS (SELECT FROM deliveries d WHERE d.endpoint_id = e.id AND d.state = 'pending'
			AND d.next_attempt_at <= statement_timestamp() AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp()))`,
		after.ID, after.Health, null(after.HeldUntil), null(after.FailingSince), after.Failures, null(after.SucceededAt), null(after.FailedAt)).Scan(&out.Waiting)
	if err != nil {
		return fmt.Errorf("write how the endpoint is doing: %w", err)
	}
	out.Endpoint = after
	if out.Tripped && after.Health.Trips == 1 || out.Closed {
		if err := rec.noteBreaker(ctx, tx, out, e); err != nil {
			return err
		}
	}
	if why := rec.tooBad(after, e.At); why != "" && !before.Disabled() {
		out.Disabled, out.Endpoint.DisabledAt, out.Endpoint.DisabledWhy, out.Endpoint.DisabledBy = true, e.At, why, e.Actor.Name
		return disable(ctx, tx, after.ID, e.Actor, why)
	}
	return nil
}

// judged is how an endpoint is doing after an attempt.
func (rec AttemptRecord) judged(e Endpoint, now time.Time) Endpoint {
	if rec.Uncharged {
		e.Health = e.Health.Forgo()
		return e
	}
	e.Health = e.Health.Done(rec.OK, now, rec.Limits)
	if rec.Hold > 0 && now.Add(rec.Hold).After(e.HeldUntil) {
		e.HeldUntil = now.Add(rec.Hold)
	}
	if rec.OK {
		e.Failures, e.FailingSince, e.SucceededAt = 0, time.Time{}, now
		return e
	}
	if e.Failures == 0 {
		e.FailingSince = now
	}
	e.Failures, e.FailedAt = e.Failures+1, now
	return e
}

// fewestFailures is how many there must have been before one is taken to be gone for good.
const fewestFailures = 3

// tooBad is why an endpoint is to be disabled, "" if it is not.
func (rec AttemptRecord) tooBad(e Endpoint, now time.Time) string {
	switch {
	case rec.Disable != "":
		return rec.Disable
	case rec.DisableAfter > 0 && e.Failures >= fewestFailures && now.Sub(e.FailingSince) >= rec.DisableAfter:
		return fmt.Sprintf("every attempt has failed since %s", e.FailingSince.Format(time.RFC3339))
	case rec.DisableTrips > 0 && e.Health.Trips >= rec.DisableTrips:
		return fmt.Sprintf("it was left alone %d times in a row and failed each time after that", e.Health.Trips)
	}
	return ""
}

// noteBreaker keeps that an endpoint is left alone for the first time in a row, or is well
// again: what happens in between says no more.
func (rec AttemptRecord) noteBreaker(ctx context.Context, tx pgx.Tx, out *Recorded, e approvals.Event) error {
	typ := EndpointTripped
	if out.Closed {
		typ = EndpointRecovered
	}
	return noteService(ctx, tx, EndpointStream(out.Endpoint.ID), typ, e.Actor, map[string]any{"message_id": rec.Delivery.MessageID})
}
