package api

import (
	"context"
	"fmt"
	"time"

	"countersign/approvals"
)

// ListTicketEvents lists, or streams, what happens to a ticket, oldest first.
func (o operations) ListTicketEvents(ctx context.Context, r ListTicketEventsRequestObject) (ListTicketEventsResponseObject, error) {
	x := exchangeOf(ctx)
	first, stop := context.WithTimeout(ctx, streamRead) // a stream has no deadline of its own
	ref, err := o.find(first, x, r.ID)
	stop()
	if err != nil {
		return nil, err
	}
	if x.stream {
		if r.Params.After != "" || r.Params.PageSize != "" {
			return nil, badParameter("after", "after and page_size are for JSON; a stream goes on from Last-Event-ID")
		}
		return o.streamTicket(ctx, x, ref, r.Params.LastEventID)
	}
	after, err := parseCount("after", r.Params.After)
	if err != nil {
		return nil, err
	}
	page, err := parsePage(r.Params.PageSize)
	if err != nil {
		return nil, err
	}
	events, err := o.store.Events(ctx, ref, after, page+1)
	if err != nil {
		return nil, fmt.Errorf("read the events of ticket %s: %w", ref.ID, err)
	}
	out := EventList{Items: make([]Event, 0, min(page, len(events))), NextAfter: after, HasMore: len(events) > page}
	for _, e := range events[:min(page, len(events))] {
		out.Items = append(out.Items, renderEvent(e))
		out.NextAfter = e.Seq
	}
	a := private(out)
	a.header.Set("Vary", "Accept")
	return a, nil
}

// renderEvent shows a caller what is theirs to know. What stays inside: which worker did
// it, where in Slack it was shown, and the Slack identities of people.
func renderEvent(e approvals.Event) Event {
	actor := Actor{Kind: e.Actor.Kind, Via: e.Actor.Via}
	switch e.Actor.Kind { //nolint:exhaustive // the others have no name of their own, or none to be shown
	case approvals.ActorCaller, approvals.ActorPerson, approvals.ActorPolicy:
		actor.Name = e.Actor.Name
	}
	return Event{
		TicketID: e.TicketID, Sequence: e.Seq, Type: e.Type, At: Timestamp{e.At}, State: e.State, Done: e.State.Final(),
		Actor: actor, Data: renderData(e.Data),
	}
}

func renderData(d approvals.Data) EventData {
	out := EventData{
		Question: question(d.Question), Number: d.Number, ExecuteBy: moment(d.ExecuteBy), Digest: d.Digest,
		Result: summaryOf(d.Result), Error: ticketError(d.Problem), Delivery: deliveryOf(d.Delivery), Reason: d.Reason,
		Asked: d.Asked, SupersededBy: d.SupersededBy,
	}
	if d.Decision != nil {
		shown := decision(*d.Decision)
		out.Decision = &shown
	}
	if d.Tally != nil {
		out.Progress = &Progress{
			Needed: d.Tally.Needed, Have: d.Tally.Have,
			Denials: d.Tally.Denials, DenialsNeeded: d.Tally.DenialsNeeded,
		}
	}
	if d.Stage != nil {
		out.Stage = *d.Stage + 1
	}
	if d.Amendment != nil {
		out.Round = d.Amendment.Round
	}
	if d.Refusal != nil {
		out.Refusal = &Refusal{Tried: d.Refusal.Tried, Code: string(d.Refusal.Code), Message: d.Refusal.Message}
	}
	return out
}

func summaryOf(r *approvals.ResultSummary) *ResultSummary {
	if r == nil {
		return nil
	}
	return &ResultSummary{
		Status: r.Status, Size: r.Size, Digest: r.Digest, Truncated: r.Truncated,
		DurationMs: r.DurationMS, ExecutedAt: Timestamp{r.ExecutedAt},
	}
}

func deliveryOf(a *approvals.DeliveryAttempt) *DeliveryAttempt {
	if a == nil {
		return nil
	}
	out := &DeliveryAttempt{
		Sequence: a.Seq, Number: a.Number, Status: a.Status, DurationMs: a.DurationMS, Error: a.Error,
	}
	if !a.NextAt.IsZero() {
		out.NextAt = moment(&a.NextAt)
	}
	return out
}

func moment(t *time.Time) *Timestamp {
	if t == nil {
		return nil
	}
	return &Timestamp{*t}
}
