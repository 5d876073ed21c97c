package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// maxBulk bounds the deliveries that are listed by id.
const maxBulk = 200

// RedeliverDelivery has a delivery sent once more.
func (o operations) RedeliverDelivery(ctx context.Context, r RedeliverDeliveryRequestObject) (RedeliverDeliveryResponseObject, error) {
	x := exchangeOf(ctx)
	d, err := o.again(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	shown := o.showDelivery(x, d)
	a := due(shown)
	a.header.Set("Location", shown.Links.Self)
	return a, nil
}

// again has one delivery sent once more for whoever asks.
func (o operations) again(ctx context.Context, x *exchange, id string) (db.Delivery, error) {
	d, err := o.delivery(ctx, x, id)
	if err != nil {
		return d, err
	}
	if err := x.mayTend(d.Caller); err != nil {
		return d, err
	}
	if d, err = o.store.Redeliver(ctx, d.MessageID, x.actor()); err != nil {
		return d, fmt.Errorf("redeliver %s: %w", id, err)
	}
	return d, nil
}

// span says which deliveries are meant.
type span struct {
	since, until time.Time
	states       []approvals.CallbackState
}

func (o operations) spanOf(since, until string, states []DeliveryState) (span, error) {
	s := span{states: []approvals.CallbackState{approvals.CallbackExhausted}}
	var err error
	if s.since, err = bodyTime("#/since", since); err != nil {
		return s, err
	}
	if s.until, err = bodyTime("#/until", until); err != nil {
		return s, err
	}
	if s.until.IsZero() {
		s.until = o.now()
	}
	if !s.until.After(s.since) {
		return s, failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/until", Detail: "must be later than since"}})
	}
	for i, state := range states {
		if !slices.Contains(deliveryStates(), state) {
			return s, failItems(codeValidationFailed, []ProblemItem{{Pointer: fmt.Sprintf("#/states/%d", i), Detail: "there is no state " + quote(string(state))}})
		}
	}
	if len(states) > 0 {
		s.states = states
	}
	return s, nil
}

// RecoverCallbackEndpoint has what an endpoint missed sent once more.
func (o operations) RecoverCallbackEndpoint(ctx context.Context, r RecoverCallbackEndpointRequestObject) (RecoverCallbackEndpointResponseObject, error) {
	x := exchangeOf(ctx)
	s, err := o.spanOf(r.Body.Since, r.Body.Until, r.Body.States)
	if err != nil {
		return nil, err
	}
	count, complete, err := o.recoverEndpoint(ctx, x, r.ID, s)
	if err != nil {
		return nil, err
	}
	return due(Recovered{Count: count, Complete: complete}), nil
}

const (
	// recoverMost is as many as the store has sent at a time.
	recoverMost = 10_000
	// recoverRest is what is left of a request's time for its answer.
	recoverRest = 3 * time.Second
)

// recoverEndpoint redelivers as many as there is time for. What is due is due, whatever ends
// the request.
func (o operations) recoverEndpoint(ctx context.Context, x *exchange, id string, s span) (count int, complete bool, err error) {
	e, err := o.tended(ctx, x, id)
	switch {
	case err != nil:
		return 0, false, err
	case e.Disabled():
		return 0, false, db.ErrEndpointDisabled
	}
	short, cancel := shortened(ctx, recoverRest)
	defer cancel()
	count, err = o.store.Recover(short, e.ID, s.since, s.until, s.states, x.actor())
	late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	if err != nil && (!late || count == 0) {
		return 0, false, fmt.Errorf("recover endpoint %s: %w", e.ID, err)
	}
	return count, !late && count < recoverMost, nil
}

// shortened leaves a part of the time that there is for something else.
func shortened(ctx context.Context, rest time.Duration) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, end.Add(-rest))
}

// RedeliverDeliveries has several deliveries sent once more.
func (o operations) RedeliverDeliveries(ctx context.Context, r RedeliverDeliveriesRequestObject) (RedeliverDeliveriesResponseObject, error) {
	x, body := exchangeOf(ctx), *r.Body
	if err := checkBulk(body); err != nil {
		return nil, err
	}
	if len(body.Ids) > 0 {
		return o.redeliverAll(ctx, x, body.Ids)
	}
	s, err := o.spanOf(body.Since, body.Until, body.States)
	if err != nil {
		return nil, err
	}
	if body.Ticket != "" {
		return o.redeliverTicket(ctx, x, body.Ticket, s)
	}
	count, complete, err := o.recoverEndpoint(ctx, x, body.Endpoint, s)
	if err != nil {
		return nil, err
	}
	return due(Redelivered{Count: count, Complete: complete, Problems: []RedeliveryProblem{}}), nil
}

// checkBulk says what is wrong with the choice of deliveries as such.
func checkBulk(body BulkRequest) error {
	filtered := body.Since != "" || body.Until != "" || len(body.States) > 0
	ways := 0
	for _, given := range []bool{len(body.Ids) > 0, body.Endpoint != "", body.Ticket != ""} {
		if given {
			ways++
		}
	}
	var pointer, why string
	switch {
	case ways != 1:
		pointer, why = "#", "one of ids, endpoint and ticket is needed"
	case len(body.Ids) > maxBulk:
		pointer, why = "#/ids", fmt.Sprintf("has %d items, at most %d are allowed", len(body.Ids), maxBulk)
	case len(body.Ids) > 0 && filtered:
		pointer, why = "#/ids", "stands in place of since, until and states"
	case body.Endpoint != "" && body.Since == "":
		pointer, why = "#/since", "is needed with endpoint"
	default:
		return nil
	}
	return failItems(codeValidationFailed, []ProblemItem{{Pointer: pointer, Detail: why}})
}

// redeliverAll sends those that can be sent, and says why others cannot.
func (o operations) redeliverAll(ctx context.Context, x *exchange, ids []string) (answer, error) {
	out := Redelivered{Complete: true, Problems: []RedeliveryProblem{}}
	for _, id := range ids {
		_, err := o.again(ctx, x, id)
		if err == nil {
			out.Count++
			continue
		}
		f := failureOf(err)
		if problemKinds[f.code].status >= 500 {
			return answer{}, err
		}
		out.Problems = append(out.Problems, RedeliveryProblem{ID: cut(id, maxEcho), Code: f.code, Detail: f.detail})
	}
	return due(out), nil
}

// redeliverTicket sends what one ticket's callbacks missed. They are few.
func (o operations) redeliverTicket(ctx context.Context, x *exchange, ticket string, s span) (answer, error) {
	if !approvals.ValidTicketID(ticket) {
		return answer{}, noTicket()
	}
	found, err := o.store.Deliveries(ctx, db.DeliveryFilter{TicketID: ticket, Since: s.since, Until: s.until, Limit: maxBulk})
	if err != nil {
		return answer{}, fmt.Errorf("list deliveries of %s: %w", ticket, err)
	}
	var ids []string
	for _, d := range found {
		if x.tends(d.Caller) && slices.Contains(s.states, d.State) {
			ids = append(ids, d.MessageID)
		}
	}
	return o.redeliverAll(ctx, x, ids)
}
