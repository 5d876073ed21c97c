package approvals

import "time"

// DeliveryAttempt is one try to post one event to a callback.
type DeliveryAttempt struct {
	// Seq is the event that is being delivered.
	Seq    int64 `json:"seq"`
	Number int   `json:"number"`
	// Status is the receiver's HTTP status, 0 when there was none.
	Status     int    `json:"status,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Error      string `json:"error,omitempty"`
	// NextAt is when it will be tried again; zero means never.
	NextAt time.Time `json:"next_at,omitzero"`
}

// Delivered records that the receiver took the event.
func (t Ticket) Delivered(worker string, a DeliveryAttempt, now time.Time) (Transition, error) {
	return t.delivery(worker, EventCallbackDelivered, a, now)
}

// DeliveryFailed records a failed attempt. With a.NextAt zero the delivery is exhausted;
// otherwise it is tried again then.
func (t Ticket) DeliveryFailed(worker string, a DeliveryAttempt, now time.Time) (Transition, error) {
	if a.NextAt.IsZero() {
		return t.delivery(worker, EventCallbackExhausted, a, now)
	}
	return t.delivery(worker, EventCallbackFailed, a, now)
}

func (t Ticket) delivery(worker string, typ EventType, a DeliveryAttempt, now time.Time) (Transition, error) {
	if t.Callback == nil || a.Seq < 1 || a.Seq > t.Version {
		return Transition{}, refuse(CodeConflict, "there is no such delivery")
	}
	a.Error = clean(a.Error)
	c := t.change(Actor{Kind: ActorWorker, Name: worker, Via: "job"}, now)
	c.record(typ, t.State, Data{Delivery: &a})
	if typ == EventCallbackFailed {
		c.then(Deliver{TicketID: t.ID, Seq: a.Seq, At: a.NextAt})
	} else if a.Seq == t.CallbackSeq {
		c.updateCard()
	}
	return c.done(), nil
}

// MaxAttempts is how many attempts of one delivery there are at most, those that somebody asked
// for included.
const MaxAttempts = 100

// RequestRedelivery records that somebody asked for the event seq to be posted once more, as
// attempt number, whatever came of those before. The message keeps its id.
func (t Ticket) RequestRedelivery(actor Actor, seq int64, number int, now time.Time) (Transition, error) {
	switch {
	case t.Callback == nil || seq < 1 || seq > t.Version:
		return Transition{}, refuse(CodeConflict, "there is no such delivery")
	case number > MaxAttempts:
		return Transition{}, refuse(CodeConflict, "there were %d attempts already", MaxAttempts)
	}
	c := t.change(actor, now)
	c.record(EventRedeliveryRequested, t.State, Data{Delivery: &DeliveryAttempt{Seq: seq, Number: number}})
	c.then(Deliver{TicketID: t.ID, Seq: seq})
	if seq == t.CallbackSeq {
		c.updateCard()
	}
	return c.done(), nil
}

func (t Ticket) applyDelivery(e Event) Ticket {
	if e.Data.Delivery.Seq != t.CallbackSeq || t.CallbackState == CallbackDelivered {
		return t // another event's, or a second try of what the receiver has already taken
	}
	switch e.Type { //nolint:exhaustive // only the three delivery events come here
	case EventCallbackDelivered:
		t.CallbackState = CallbackDelivered
	case EventCallbackExhausted:
		t.CallbackState = CallbackExhausted
	default:
		t.CallbackState = CallbackPending
	}
	return t
}

// Card is where a stage was shown to people.
type Card struct {
	Stage   int    `json:"stage"`
	Channel string `json:"channel"`
	TS      string `json:"ts"`
	// Version of the ticket that the card shows.
	Version int64 `json:"version,omitempty"`
}

// Notified records that a card was posted. One that shows an older version of the ticket
// than this is rendered again.
func (t Ticket) Notified(worker string, card Card, now time.Time) (Transition, error) {
	c := t.change(Actor{Kind: ActorWorker, Name: worker, Via: "job"}, now)
	c.record(EventNotified, t.State, Data{Card: &card})
	if card.Version != t.Version {
		c.updateCard() // the ticket moved on while the card was being posted
	}
	return c.done(), nil
}
