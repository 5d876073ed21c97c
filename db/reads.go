package db

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

const (
	// readers is how many shared reads of a kind run at once.
	readers = 2
	// maxReadTogether and maxTicketsTogether are how many reads share one query. Tickets may
	// have large bodies.
	maxReadTogether, maxTicketsTogether = 64, 16
	// readTimeout bounds a shared read.
	readTimeout = 10 * time.Second
)

// together answers reads by id that arrive at the same time from one query: a reader takes
// whoever is waiting and never waits for more, so that a lone read is made at once. What is
// read was committed before the query began, and that begins after the read was asked for.
type together[V any] struct {
	asks   chan ask[V]
	most   int
	closed <-chan struct{}
	// one reads a single one, many several at once; ids that are not found are left out.
	one  func(ctx context.Context, id string) (V, error)
	many func(ctx context.Context, ids []string) (map[string]V, error)
	// alike says that one value may be given to several.
	alike bool
}

type ask[V any] struct {
	id  string
	got chan read[V]
}

type read[V any] struct {
	value V
	err   error
	// alone says that the asker is to read for itself.
	alone bool
}

// get reads one. Errors: those of one.
func (t *together[V]) get(ctx context.Context, id string) (V, error) {
	a := ask[V]{id: id, got: make(chan read[V], 1)}
	select {
	case t.asks <- a:
	default: // so many are waiting that one more hardly matters
		return t.one(ctx, id)
	}
	select {
	case r := <-a.got:
		if r.alone {
			return t.one(ctx, id)
		}
		return r.value, r.err
	case <-t.closed:
		return t.one(ctx, id)
	case <-ctx.Done():
		var none V
		return none, fmt.Errorf("read ticket %s: %w", id, ctx.Err())
	}
}

// startReaders begins to read for others, until ctx ends.
func (s *Store) startReaders(ctx context.Context) {
	s.versions = &together[Change]{
		asks: make(chan ask[Change], 1024), most: maxReadTogether, closed: s.watch.closed,
		one: s.readVersion, many: s.readVersions, alike: true,
	}
	s.tickets = &together[approvals.Ticket]{
		asks: make(chan ask[approvals.Ticket], 1024), most: maxTicketsTogether, closed: s.watch.closed,
		one: s.readTicket, many: s.readTickets, // a ticket has maps and lists, which are not shared
	}
	for range readers {
		s.running.Go(func() { s.versions.serve(ctx, s.log) })
		s.running.Go(func() { s.tickets.serve(ctx, s.log) })
	}
}

// serve is one reader.
func (t *together[V]) serve(ctx context.Context, log *slog.Logger) {
	for {
		select {
		case a := <-t.asks:
			t.answer(ctx, log, t.gather(a))
		case <-ctx.Done():
			return
		}
	}
}

func (t *together[V]) gather(first ask[V]) []ask[V] {
	out := []ask[V]{first}
	for len(out) < t.most {
		select {
		case a := <-t.asks:
			out = append(out, a)
		default:
			return out
		}
	}
	return out
}

// answer reads for several. When that fails each is told to try alone: one row that cannot
// be read harms nobody else.
func (t *together[V]) answer(ctx context.Context, log *slog.Logger, asks []ask[V]) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if len(asks) == 1 {
		value, err := t.one(ctx, asks[0].id)
		asks[0].got <- read[V]{value: value, err: err}
		return
	}
	ids := make([]string, 0, len(asks))
	for _, a := range asks {
		ids = append(ids, a.id)
	}
	found, err := t.many(ctx, ids)
	if err != nil && !unavailable(err) {
		log.WarnContext(ctx, "shared read failed, members are tried singly", slog.Int("members", len(asks)), slog.Any("error", err))
	}
	given := make(map[string]bool, len(asks))
	for _, a := range asks {
		value, known := found[a.id]
		switch {
		case unavailable(err):
			a.got <- read[V]{err: classify(err)}
		case err != nil, given[a.id] && !t.alike:
			a.got <- read[V]{alone: true}
		case !known:
			a.got <- read[V]{err: notFound()}
		default:
			a.got <- read[V]{value: value}
		}
		given[a.id] = true
	}
}

func (s *Store) readVersion(ctx context.Context, id string) (Change, error) {
	c := Change{ID: id}
	err := s.pool.QueryRow(ctx, `SELECT version, state, caller FROM tickets WHERE id = $1`, id).Scan(&c.Version, &c.State, &c.Caller)
	return c, classify(err)
}

func (s *Store) readVersions(ctx context.Context, ids []string) (map[string]Change, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, version, state, caller FROM tickets WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]Change, len(ids))
	var c Change
	_, err = pgx.ForEachRow(rows, []any{&c.ID, &c.Version, &c.State, &c.Caller}, func() error {
		out[c.ID] = c
		return nil
	})
	return out, err
}

func (s *Store) readTicket(ctx context.Context, id string) (approvals.Ticket, error) {
	t, _, err := scanFull(s.pool.QueryRow(ctx, `SELECT`+fullColumns+fromTickets+`WHERE t.id = $1`, id))
	return t, classify(err)
}

func (s *Store) readTickets(ctx context.Context, ids []string) (map[string]approvals.Ticket, error) {
	rows, err := s.pool.Query(ctx, `SELECT`+fullColumns+fromTickets+`WHERE t.id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	out := make(map[string]approvals.Ticket, len(ids))
	tickets, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (approvals.Ticket, error) {
		t, _, err := scanFull(r)
		return t, err
	})
	for _, t := range tickets {
		out[t.ID] = t
	}
	return out, err
}
