package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
)

func noDelivery() *failure { return fail(codeNotFound, "there is no such delivery") }

// deliveryStates are the states of a callback in which there is a delivery.
func deliveryStates() []approvals.CallbackState {
	return []approvals.CallbackState{approvals.CallbackPending, approvals.CallbackDelivered, approvals.CallbackExhausted}
}

// ListDeliveries lists deliveries that whoever asks may see, newest first.
func (o operations) ListDeliveries(ctx context.Context, r ListDeliveriesRequestObject) (ListDeliveriesResponseObject, error) {
	x, p := exchangeOf(ctx), r.Params
	f := db.DeliveryFilter{EndpointID: p.Endpoint, TicketID: p.Ticket}
	caller, none := x.about(p.Caller)
	f.Caller = caller
	if none || p.Endpoint != "" && !endpointID.MatchString(p.Endpoint) || p.Ticket != "" && !approvals.ValidTicketID(p.Ticket) {
		return private(DeliveryList{Items: []Delivery{}}), nil
	}
	return o.deliveries(ctx, x, f, deliveryParams{p.State, p.Since, p.Until, p.PageSize, p.PageToken})
}

// ListCallbackEndpointDeliveries lists the deliveries of an endpoint, newest first.
func (o operations) ListCallbackEndpointDeliveries(ctx context.Context, r ListCallbackEndpointDeliveriesRequestObject) (ListCallbackEndpointDeliveriesResponseObject, error) {
	x, p := exchangeOf(ctx), r.Params
	e, err := o.endpoint(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	return o.deliveries(ctx, x, db.DeliveryFilter{Caller: e.Caller, EndpointID: e.ID}, deliveryParams{p.State, p.Since, p.Until, p.PageSize, p.PageToken})
}

// deliveryParams are what both lists of deliveries take.
type deliveryParams struct{ state, since, until, size, token string }

func (o operations) deliveries(ctx context.Context, x *exchange, f db.DeliveryFilter, p deliveryParams) (answer, error) {
	if f.State = approvals.CallbackState(p.state); p.state != "" && !slices.Contains(deliveryStates(), f.State) {
		return answer{}, badParameter("state", "there is no state %s", quote(p.state))
	}
	var err error
	if f.Since, err = parseTime("since", p.since); err != nil {
		return answer{}, err
	}
	if f.Until, err = parseTime("until", p.until); err != nil {
		return answer{}, err
	}
	s, err := o.sieveOf(ctx, x, p.size, p.token, fmt.Sprintf("deliveries %q %q %q %q %d %d",
		f.Caller, f.EndpointID, f.TicketID, f.State, stamp(f.Since), stamp(f.Until)))
	if err != nil {
		return answer{}, err
	}
	found, next, err := sift(s, func(after string, limit int) ([]db.Delivery, error) {
		f.After, f.Limit = after, limit
		return o.store.Deliveries(ctx, f)
	}, func(d db.Delivery) (id, caller string) { return d.MessageID, d.Caller })
	if err != nil {
		return answer{}, fmt.Errorf("list deliveries: %w", err)
	}
	out := DeliveryList{Items: make([]Delivery, 0, len(found))}
	for _, d := range found {
		out.Items = append(out.Items, o.showDelivery(x, d))
	}
	out.NextPageToken, err = o.sealPlace(ctx, s, next)
	return private(out), err
}

// delivery finds a delivery for whoever asks.
func (o operations) delivery(ctx context.Context, x *exchange, id string) (db.Delivery, error) {
	if !messageID.MatchString(id) {
		return db.Delivery{}, noDelivery()
	}
	d, err := o.store.DeliveryByID(ctx, id)
	switch {
	case approvals.ErrorCode(err) == approvals.CodeNotFound:
		return d, noDelivery()
	case err != nil:
		return d, fmt.Errorf("read delivery %s: %w", id, err)
	case !x.tends(d.Caller):
		return db.Delivery{}, noDelivery()
	}
	return d, nil
}

// GetDelivery shows a delivery and its attempts.
func (o operations) GetDelivery(ctx context.Context, r GetDeliveryRequestObject) (GetDeliveryResponseObject, error) {
	x := exchangeOf(ctx)
	d, err := o.delivery(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	attempts, err := o.store.Attempts(ctx, d.MessageID)
	if err != nil {
		return nil, fmt.Errorf("read attempts of %s: %w", d.MessageID, err)
	}
	body := struct {
		Delivery
		AttemptLog []LoggedAttempt `json:"attempt_log"`
	}{Delivery: o.showDelivery(x, d), AttemptLog: make([]LoggedAttempt, 0, len(attempts))}
	for _, a := range attempts {
		body.AttemptLog = append(body.AttemptLog, showAttempt(a, x.oversees()))
	}
	return private(body), nil
}

// showDelivery renders a delivery without what it carries.
func (o operations) showDelivery(x *exchange, d db.Delivery) Delivery {
	self := o.publicURL + "/v1/deliveries/" + d.MessageID
	return Delivery{
		ID: d.MessageID, TicketID: d.TicketID, Sequence: d.Seq, Type: d.EventType, Caller: d.Caller, EndpointID: d.EndpointID,
		URL: x.shownURL(d.URL), State: d.State, Attempts: d.Attempts, Trigger: string(d.Trigger), NextAttemptAt: Timestamp{d.NextAttemptAt},
		Sending: d.ClaimedUntil.After(o.now()), CreatedAt: Timestamp{d.CreatedAt},
		Links: DeliveryLinks{
			Self: self, Redeliver: self + "/redeliver", Ticket: approvals.Links(d.TicketID, o.publicURL)["self"],
			Endpoint: o.publicURL + "/v1/callback-endpoints/" + d.EndpointID,
		},
	}
}

// showAttempt renders an attempt. Where it went to is for those who look after the service.
func showAttempt(a db.Attempt, address bool) LoggedAttempt {
	out := LoggedAttempt{
		Number: a.Number, At: Timestamp{a.At}, Trigger: string(a.Trigger), Status: a.Status, Error: a.Error, Class: a.Class,
		DurationMs: a.Duration.Milliseconds(), NextAt: Timestamp{a.NextAt}, Response: strings.ToValidUTF8(string(a.Snippet), "\ufffd"),
		Timing: AttemptTiming{
			DNSMs: a.DNS.Milliseconds(), ConnectMs: a.Connect.Milliseconds(), TLSMs: a.TLS.Milliseconds(), FirstByteMs: a.FirstByte.Milliseconds(),
		},
	}
	if address {
		out.Address = a.Address
	}
	return out
}

// bodyTime reads a time of a request body, zero for none.
func bodyTime(pointer, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1970 {
		return time.Time{}, failItems(codeValidationFailed, []ProblemItem{{Pointer: pointer, Detail: "must be a time such as 2026-03-02T09:00:00Z"}})
	}
	return t.UTC(), nil
}
