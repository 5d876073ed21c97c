package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"countersign/approvals"
	"countersign/db"
)

// ticketStream is what one client sees of one ticket.
type ticketStream struct {
	o     operations
	x     *exchange
	ref   db.Ref
	sub   *db.Subscription
	after int64 // the last event that was sent
}

// streamTicket answers with the events of a ticket after one, as they happen, and ends
// behind the final one.
func (o operations) streamTicket(ctx context.Context, x *exchange, ref db.Ref, lastID string) (streamed, error) {
	after, err := parseLastID(lastID)
	if err != nil {
		return nil, err
	}
	return func(w http.ResponseWriter) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		leave, err := o.waiters.enter(x.who(), o.mayWait(x), cancel)
		if err != nil {
			return err
		}
		defer leave()
		if o.waiters.drained() {
			return o.hangUp(w)
		}
		t := &ticketStream{o: o, x: x, ref: ref, after: after, sub: o.store.Subscribe(db.Topic{Ticket: ref.ID})}
		defer t.sub.Close()
		return t.run(ctx, w)
	}, nil
}

// parseLastID reads a Last-Event-ID of ours: a sequence number.
func parseLastID(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, badHeader("Last-Event-ID", "must be the id of an event of this stream")
	}
	return n, nil
}

func (t *ticketStream) run(ctx context.Context, w http.ResponseWriter) error {
	first, stop := context.WithTimeout(ctx, streamRead)
	version, state, err := t.o.store.Version(first, t.ref)
	stop()
	if err != nil {
		return fmt.Errorf("read ticket %s: %w", t.ref.ID, err)
	}
	if state.Final() && t.after == version {
		w.Header().Set("Vary", "Accept")
		w.WriteHeader(http.StatusNoContent) // tells an EventSource not to come back
		return nil
	}
	out, err := t.o.openEvents(w)
	if err == nil && t.after > version {
		t.after, err = 0, out.reset("0", "the ticket has no event "+strconv.FormatInt(t.after, 10))
	}
	if err == nil {
		err = t.o.keepOn(ctx, t.x, t.sub, out, func() (bool, error) { return t.send(ctx, out, &version) },
			func(now *exchange) error { return t.visible(ctx, now) })
	}
	return t.o.streamOver(t.x, err)
}

// send writes the events that have happened, and reports whether the last is final.
func (t *ticketStream) send(ctx context.Context, out *events, version *int64) (done bool, err error) {
	if c, past := t.sub.Past(*version); c.Gone {
		return true, nil
	} else if past {
		*version = c.Version
	}
	for t.after < *version {
		events, err := t.read(ctx)
		if err != nil || len(events) == 0 {
			return true, err
		}
		if events[0].Seq > t.after+1 {
			if err := out.reset("", "what happened before was pruned"); err != nil {
				return true, err
			}
		}
		for _, e := range events {
			if err := out.event(strconv.FormatInt(e.Seq, 10), string(e.Type), renderEvent(e)); err != nil {
				return true, err
			}
			t.after, done = e.Seq, e.State.Final()
		}
		if err := out.flush(); err != nil {
			return true, err
		}
	}
	return done, nil
}

func (t *ticketStream) read(ctx context.Context) ([]approvals.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	// Whose it is was found out before; a caller's ticket stays theirs.
	return t.o.store.Events(ctx, db.Ref{ID: t.ref.ID}, t.after, streamPage)
}

// visible ends the stream of a person who may not see the ticket any more.
func (t *ticketStream) visible(ctx context.Context, now *exchange) error {
	if now.person.Name == "" || now.config == t.x.config {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	ticket, err := t.o.store.Ticket(ctx, db.Ref{ID: t.ref.ID})
	if err == nil && !now.sees(ticket) {
		err = errNoMore
	}
	return err
}
