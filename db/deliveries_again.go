package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// Redeliver has a delivery sent once more at once, whatever became of it, and returns it as it
// is then. The message keeps its id; the attempt takes the place of the one that the schedule
// has next. Somebody who asks while an attempt is being made gets another one after it, unless
// the receiver takes that; asking twice before anything was sent is asking once.
//
// Errors: CodeNotFound; ErrEndpointDisabled; CodeConflict after [approvals.MaxAttempts].
func (s *Store) Redeliver(ctx context.Context, messageID string, actor approvals.Actor) (Delivery, error) {
	d, err := s.DeliveryByID(ctx, messageID)
	if err != nil {
		return d, err
	}
	var present Delivery
	var e Endpoint
	read := func(ctx context.Context, tx pgx.Tx) (err error) {
		e, present, err = lockBoth(ctx, tx, d)
		return err
	}
	_, err = s.advanceAfter(ctx, Ref{ID: d.TicketID}, read, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		switch {
		case e.Disabled():
			return approvals.Transition{}, ErrEndpointDisabled
		case present.State == approvals.CallbackPending && present.Trigger == Manual:
			return approvals.Transition{}, nil
		}
		return t.RequestRedelivery(actor, d.Seq, present.Attempts+1, now)
	}, func(context.Context, pgx.Tx, approvals.Transition, error) error { return nil })
	if err != nil {
		return d, err
	}
	return s.DeliveryByID(ctx, messageID)
}

const (
	// recoverBatch is how many are looked up at once, recoverMost how many one call has sent.
	recoverBatch = 200
	recoverMost  = 10_000
)

// Recover is [Store.Redeliver] for the deliveries of an endpoint that were made since a time and
// before another and are in one of these states; none means exhausted. It returns how many it
// had sent, at most 10,000, and keeps that as an event of the endpoint. With an error it is how
// many it had sent until then.
//
// Errors: CodeNotFound; ErrEndpointDisabled.
func (s *Store) Recover(ctx context.Context, endpointID string, since, until time.Time, states []approvals.CallbackState, actor approvals.Actor) (count int, err error) {
	if _, err := s.EndpointByID(ctx, endpointID); err != nil {
		return 0, err
	}
	if len(states) == 0 {
		states = []approvals.CallbackState{approvals.CallbackExhausted}
	}
	f := DeliveryFilter{EndpointID: endpointID, Since: since, Until: until, Limit: recoverBatch}
	for count < recoverMost && err == nil {
		var page []Delivery
		if page, err = s.Deliveries(ctx, f); err != nil || len(page) == 0 {
			break
		}
		f.After = page[len(page)-1].MessageID
		page = slices.DeleteFunc(page, func(d Delivery) bool { return !slices.Contains(states, d.State) })
		for _, d := range page {
			if _, err = s.Redeliver(ctx, d.MessageID, actor); approvals.ErrorCode(err) == approvals.CodeConflict {
				err = nil
				continue // it has been tried as often as it may be
			}
			if err != nil {
				break
			}
			count++
		}
	}
	said := s.NoteServiceEvent(context.WithoutCancel(ctx), EndpointStream(endpointID), EndpointRedelivered, actor, map[string]any{
		"count": count, "since": since, "until": until, "states": states, "complete": err == nil && count < recoverMost,
	})
	if err != nil {
		err = fmt.Errorf("recover deliveries of %s: %w", endpointID, err)
	}
	return count, errors.Join(err, said)
}
