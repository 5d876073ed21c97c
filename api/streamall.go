package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// ListEvents lists, or streams, what happens to all tickets of a caller, or, for auditors
// and operators, to all there are.
func (o operations) ListEvents(ctx context.Context, r ListEventsRequestObject) (ListEventsResponseObject, error) {
	x := exchangeOf(ctx)
	caller, err := x.audience()
	if err != nil {
		return nil, err
	}
	if x.stream {
		if r.Params.After != "" || r.Params.PageSize != "" {
			return nil, badParameter("after", "after and page_size are for JSON; a stream goes on from Last-Event-ID")
		}
		return o.streamAll(ctx, x, caller, r.Params.LastEventID), nil
	}
	size, err := parsePage(r.Params.PageSize)
	if err != nil {
		return nil, err
	}
	return o.listEvents(ctx, caller, r.Params.After, size)
}

// audience is whose tickets somebody follows: "" is everybody's.
func (x *exchange) audience() (caller string, err error) {
	if x.person.Name == "" {
		return x.owner()
	}
	if !x.oversees() {
		return "", fail(codeNotOperator, "only callers, auditors and operators follow the events of many tickets; follow one ticket at a time")
	}
	return "", nil
}

// listEvents reads one page. Without a place there is nothing on it but the place of now.
func (o operations) listEvents(ctx context.Context, caller, after string, size int) (ListEventsResponseObject, error) {
	out := EventPage{Items: []Event{}}
	var mark db.Mark
	err := o.places.load(ctx)
	switch {
	case err != nil:
	case after == "":
		mark, err = o.store.Here(ctx)
	default:
		if mark, err = o.places.open(after); err == nil {
			var found []db.Written
			found, mark, out.HasMore, err = o.store.EventsAfter(ctx, caller, mark, size)
			for _, e := range found {
				out.Items = append(out.Items, renderEvent(e.Event))
			}
		}
	}
	if errors.Is(err, db.ErrNoHistory) {
		f := fail(codeBadPageToken, "what happened after that place is not there; go on without it, and read the tickets anew")
		f.errors = []ProblemItem{{Parameter: "after", Detail: "not a place in the history that is there"}}
		return nil, f
	}
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	out.NextAfter = o.places.seal(mark)
	a := private(out)
	a.header.Set("Vary", "Accept")
	return a, nil
}

// places makes the ids of events of all tickets: opaque, and of one database. They give no
// authority: what may be seen is decided anew each time.
type places struct {
	secret func(ctx context.Context) ([]byte, error)

	mu  sync.Mutex
	key []byte
}

const (
	placeVersion = 1
	placeKey     = 8 // bytes that tell databases apart
	placeHead    = 1 + placeKey + 8 + 8
)

func (p *places) load(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.key != nil {
		return nil
	}
	key, err := p.secret(ctx)
	if err != nil {
		return fmt.Errorf("find out which database it is: %w", err)
	}
	p.key = key[:placeKey]
	return nil
}

// seal makes the id of a place. load comes first.
func (p *places) seal(m db.Mark) string {
	raw := append([]byte{placeVersion}, p.key...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(m.Tx))  //nolint:gosec // never negative
	raw = binary.BigEndian.AppendUint64(raw, uint64(m.Seq)) //nolint:gosec // never negative
	return base64.RawURLEncoding.EncodeToString(append(raw, m.TicketID...))
}

// open reads an id. db.ErrNoHistory: it is none of this database.
func (p *places) open(id string) (db.Mark, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(raw) < placeHead || len(raw) > 128 || raw[0] != placeVersion || !slices.Equal(raw[1:1+placeKey], p.key) {
		return db.Mark{}, db.ErrNoHistory
	}
	m := db.Mark{
		Tx:       int64(binary.BigEndian.Uint64(raw[1+placeKey:])), //nolint:gosec // checked below
		Seq:      int64(binary.BigEndian.Uint64(raw[9+placeKey:])), //nolint:gosec // checked below
		TicketID: string(raw[placeHead:]),
	}
	if m.Tx < 0 || m.Seq < 0 || m.TicketID != "" && !approvals.ValidTicketID(m.TicketID) {
		return db.Mark{}, db.ErrNoHistory
	}
	return m, nil
}

// allStream is what one client sees of all tickets of an audience. What is below horizon
// was sent; of what is not, sent says how far, so that nothing is sent twice while the
// stream lasts.
type allStream struct {
	o       operations
	sub     *db.Subscription
	caller  string
	horizon int64
	sent    map[string]sentOf
	// past says that something is known to lie before the horizon, first is the lowest
	// transaction of what was sent, 0 for none.
	past  bool
	first int64
}

// place is the id of what begins with a transaction. A horizon can be held back, by whatever
// is under way in the cluster, to before the very first event: that is the beginning, lest it
// is taken for a place whose history was pruned.
func (s *allStream) place(tx int64) string {
	s.past = s.past || s.first > 0 && s.first < tx
	if !s.past {
		return s.o.places.seal(db.Mark{})
	}
	return s.o.places.seal(db.Mark{Tx: tx})
}

// passed notes that an event of a transaction was sent.
func (s *allStream) passed(tx int64) {
	if s.first == 0 || tx < s.first {
		s.first = tx
	}
}

// sentOf is how much of a ticket was sent: up to an event, written by transactions up to one.
type sentOf struct{ seq, tx int64 }

// maxSent bounds what a stream remembers. Beyond it events may be sent twice.
const maxSent = 4096

// streamPause keeps a stream of a busy audience from reading for every single event.
const streamPause = 25 * time.Millisecond

// streamAll answers with the events of an audience as they happen.
func (o operations) streamAll(ctx context.Context, x *exchange, caller, lastID string) streamed {
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
		s := &allStream{o: o, caller: caller, sub: o.store.Subscribe(db.Topic{Caller: caller}), sent: make(map[string]sentOf)}
		defer s.sub.Close()
		return s.run(ctx, x, w, lastID)
	}
}

func (s *allStream) run(ctx context.Context, x *exchange, w http.ResponseWriter, lastID string) error {
	mark, lost, err := s.begin(ctx, lastID)
	if err != nil {
		return fmt.Errorf("find the place to go on from: %w", err)
	}
	out, err := s.o.openEvents(w)
	if err == nil && lost {
		err = out.reset("", "what happened after that place is not there; read the tickets anew")
	}
	if err == nil {
		s.past = mark.Tx > 0
		out.place(s.o.places.seal(mark))
		err = s.catchUp(ctx, out, mark)
	}
	if err == nil {
		err = s.o.keepOn(ctx, x, s.sub, out, func() (bool, error) { return false, s.send(ctx, out) }, func(now *exchange) error {
			caller, err := now.audience()
			if err != nil || caller != s.caller {
				return errNoMore
			}
			return nil
		})
	}
	return s.o.streamOver(x, err)
}

// begin is the place to go on from: that of the client, if it is one, or that of now. lost
// says that the client's was of no use.
func (s *allStream) begin(ctx context.Context, lastID string) (mark db.Mark, lost bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	if err := s.o.places.load(ctx); err != nil {
		return db.Mark{}, false, err
	}
	if lastID != "" {
		if mark, err = s.o.places.open(lastID); err == nil {
			err = s.o.store.Follows(ctx, mark)
		}
		if err == nil || !errors.Is(err, db.ErrNoHistory) {
			return mark, false, err
		}
		lost = true
	}
	mark, err = s.o.store.Here(ctx)
	return mark, lost, err
}

// catchUp sends what happened since a place and is complete, page by page.
func (s *allStream) catchUp(ctx context.Context, out *events, mark db.Mark) error {
	for more := true; more; {
		found, next, goesOn, err := s.after(ctx, mark)
		if err != nil {
			return err
		}
		for _, e := range found {
			if e.Seq <= s.sent[e.TicketID].seq {
				continue
			}
			s.passed(e.Tx)
			id := s.o.places.seal(db.Mark{Tx: e.Tx, TicketID: e.TicketID, Seq: e.Seq})
			if err := out.event(id, string(e.Type), renderEvent(e.Event)); err != nil {
				return err
			}
		}
		mark, more = next, goesOn
		out.place(s.o.places.seal(mark))
		if err := out.flush(); err != nil {
			return err
		}
	}
	s.reach(mark.Tx)
	return nil
}

func (s *allStream) after(ctx context.Context, mark db.Mark) ([]db.Written, db.Mark, bool, error) {
	select {
	case s.o.catching <- struct{}{}:
		defer func() { <-s.o.catching }()
	case <-ctx.Done():
		return nil, mark, false, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	return s.o.store.EventsAfter(ctx, s.caller, mark, streamPage)
}

// send sends what the news are about, complete or not, and then moves the horizon.
func (s *allStream) send(ctx context.Context, out *events) error {
	news := s.sub.Take()
	if news.Lost {
		return s.catchUp(ctx, out, db.Mark{Tx: s.horizon})
	}
	for ids := range slices.Chunk(news.IDs, streamPage) {
		if err := s.sendOf(ctx, out, ids); err != nil {
			return err
		}
	}
	if news.Horizon > s.horizon {
		s.reach(news.Horizon)
		out.place(s.place(s.horizon))
	}
	if len(news.IDs) > 0 {
		if err := out.flush(); err != nil {
			return err
		}
		pause(ctx, streamPause)
	}
	return nil
}

// maxOf bounds how many events of a few tickets are read at once. More than these are read
// in the order of their transactions.
const maxOf = 20 * streamPage

func (s *allStream) sendOf(ctx context.Context, out *events, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, streamRead)
	defer cancel()
	found, err := s.o.store.EventsOf(ctx, s.caller, ids, s.horizon, maxOf)
	if err != nil {
		return err
	}
	if len(found) == maxOf {
		return s.catchUp(ctx, out, db.Mark{Tx: s.horizon})
	}
	id := s.place(s.horizon)
	for _, e := range found {
		s.passed(e.Tx)
		before := s.sent[e.TicketID]
		if e.Seq <= before.seq {
			continue
		}
		if len(s.sent) < maxSent || before.seq > 0 {
			s.sent[e.TicketID] = sentOf{seq: e.Seq, tx: max(e.Tx, before.tx)}
		}
		if err := out.event(id, string(e.Type), renderEvent(e.Event)); err != nil {
			return err
		}
	}
	return nil
}

// reach moves the horizon, and forgets what was sent of tickets that are below it whole.
func (s *allStream) reach(horizon int64) {
	s.horizon = max(s.horizon, horizon)
	for id, sent := range s.sent {
		if sent.tx < s.horizon {
			delete(s.sent, id)
		}
	}
}
