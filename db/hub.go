package db

import (
	"context"
	"fmt"
	"sync"

	"countersign/approvals"
)

// Change says that a ticket has reached a version.
type Change struct {
	ID      string
	Version int64
	State   approvals.State
	Caller  string
	// Gone says that there is no such ticket any more, and nothing else.
	Gone bool
}

func changeOf(t approvals.Ticket) Change {
	return Change{ID: t.ID, Version: t.Version, State: t.State, Caller: t.Caller}
}

// Topic is what somebody waits for: one ticket, all tickets of a caller, or, when both are
// empty, all tickets there are.
type Topic struct{ Ticket, Caller string }

// maxUnread bounds the ids that are kept for a subscriber that does not take them.
const maxUnread = 1024

// Subscription is woken when what it is about has changed. Subscribe first and read after:
// then nothing can slip through in between. Only its owner may use it; Close it when done.
type Subscription struct {
	// C has room for one signal, so that a slow owner is woken once for many changes.
	C     chan struct{}
	topic Topic
	hub   *hub

	// What follows is guarded by the hub.
	known  int64  // the version its owner has seen
	latest Change // of its ticket
	ids    map[string]struct{}
	lost   bool
	mark   int64
}

// News is what has changed on a topic of many tickets since the owner last asked.
type News struct {
	// IDs of tickets that may have changed, in no order.
	IDs []string
	// Lost says that IDs is not all of them: they were too many to be kept, or nothing is
	// known of a while. The owner looks for itself then.
	Lost bool
	// Horizon is a transaction id: every event of the topic below it belongs to a ticket
	// that has been among the IDs, of this News or an earlier one. Zero: not known yet.
	Horizon int64
}

// Subscribe begins to wait for a topic. It asks the database nothing.
func (s *Store) Subscribe(t Topic) *Subscription { return s.watch.hub.subscribe(t) }

// Closed is closed when the store is: nobody is woken any more then.
func (s *Store) Closed() <-chan struct{} { return s.watch.closed }

// Close ends the subscription.
func (sub *Subscription) Close() { sub.hub.unsubscribe(sub) }

// Past returns the newest change of the ticket it is about, if that is past version or the
// ticket is gone. When it is not, the next signal is that it may be.
func (sub *Subscription) Past(version int64) (Change, bool) {
	h := sub.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.known = version
	return sub.latest, sub.latest.Gone || sub.latest.Version > version
}

// Next waits for the newest change of the ticket it is about and returns it as soon as that
// is past version.
//
// Errors: that of ctx; one with CodeNotFound when the ticket is gone; ErrUnavailable when
// the store is closed.
func (sub *Subscription) Next(ctx context.Context, version int64) (Change, error) {
	for {
		switch c, past := sub.Past(version); {
		case c.Gone:
			return Change{}, notFound()
		case past:
			return c, nil
		}
		select {
		case <-sub.C:
		case <-sub.hub.closed:
			return Change{}, fmt.Errorf("%w: the store is closed", ErrUnavailable)
		case <-ctx.Done():
			return Change{}, fmt.Errorf("wait for ticket: %w", ctx.Err())
		}
	}
}

// Take returns what has changed on a topic of many tickets, and forgets it.
func (sub *Subscription) Take() News {
	h := sub.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	news := News{Lost: sub.lost, Horizon: sub.mark, IDs: make([]string, 0, len(sub.ids))}
	for id := range sub.ids {
		news.IDs = append(news.IDs, id)
	}
	clear(sub.ids)
	sub.lost = false
	return news
}

// hub knows who in this process waits for what, and wakes them. It reads what others have
// changed for all of them together.
type hub struct {
	closed chan struct{}

	mu      sync.Mutex
	tickets map[string][]*Subscription
	callers map[string]map[*Subscription]struct{}
	all     map[*Subscription]struct{}
	broad   int // subscriptions to more than one ticket
	stale   map[string]struct{}
	horizon int64
	kick    chan struct{} // there is something stale
	doubts  chan struct{} // everything that is waited for is to be read again
}

func newHub(closed chan struct{}) *hub {
	return &hub{
		closed: closed, tickets: make(map[string][]*Subscription), callers: make(map[string]map[*Subscription]struct{}),
		all: make(map[*Subscription]struct{}), stale: make(map[string]struct{}), kick: make(chan struct{}, 1), doubts: make(chan struct{}, 1),
	}
}

func (h *hub) subscribe(t Topic) *Subscription {
	sub := &Subscription{C: make(chan struct{}, 1), topic: t, hub: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.Ticket != "" {
		h.tickets[t.Ticket] = append(h.tickets[t.Ticket], sub)
		return sub
	}
	sub.ids, sub.mark = make(map[string]struct{}), h.horizon
	h.broad++
	h.doubt() // what was committed just before is in nobody's news
	if t.Caller == "" {
		h.all[sub] = struct{}{}
		return sub
	}
	if h.callers[t.Caller] == nil {
		h.callers[t.Caller] = make(map[*Subscription]struct{})
	}
	h.callers[t.Caller][sub] = struct{}{}
	return sub
}

func (h *hub) unsubscribe(sub *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := sub.topic
	switch {
	case t.Ticket != "":
		h.leaveTicket(sub)
		return
	case t.Caller == "":
		delete(h.all, sub)
	default:
		delete(h.callers[t.Caller], sub)
		if len(h.callers[t.Caller]) == 0 {
			delete(h.callers, t.Caller)
		}
	}
	if h.broad--; h.broad == 0 {
		h.horizon = 0 // nobody keeps it up to date from here on
	}
}

func (h *hub) leaveTicket(sub *Subscription) {
	subs := h.tickets[sub.topic.Ticket]
	for i, other := range subs {
		if other == sub {
			last := len(subs) - 1
			subs[i], subs[last] = subs[last], nil
			subs = subs[:last]
			break
		}
	}
	if len(subs) == 0 {
		delete(h.tickets, sub.topic.Ticket)
		return
	}
	h.tickets[sub.topic.Ticket] = subs
}

// learn wakes those whom a change concerns: of a ticket, those who know less.
func (h *hub) learn(c Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inform(c)
	h.tell(c.ID, c.Caller)
}

func (h *hub) inform(c Change) {
	for _, sub := range h.tickets[c.ID] {
		if c.Gone || c.Version > sub.latest.Version {
			sub.latest = c
		}
		if c.Gone || c.Version > sub.known {
			sub.signal()
		}
	}
}

// tell adds a ticket to the news of those who follow many.
func (h *hub) tell(id, caller string) {
	for sub := range h.callers[caller] {
		sub.add(id)
	}
	for sub := range h.all {
		sub.add(id)
	}
}

func (sub *Subscription) add(id string) {
	if len(sub.ids) < maxUnread {
		sub.ids[id] = struct{}{}
	} else {
		sub.lost = true
	}
	sub.signal()
}

func (sub *Subscription) signal() { nudge(sub.C) }

// maxStale bounds the ids that wait to be read; more than that are found by a sweep.
const maxStale = 20_000

// heard notes that a ticket may have changed elsewhere. Nobody is woken before it was read.
func (h *hub) heard(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.tickets[id]) == 0 && h.broad == 0 {
		return
	}
	if len(h.stale) >= maxStale {
		h.doubt()
		return
	}
	h.stale[id] = struct{}{}
	nudge(h.kick)
}

// doubt has everything that is waited for read again.
func (h *hub) doubt() { nudge(h.doubts) }

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
