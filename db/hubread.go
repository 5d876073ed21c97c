package db

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// hubBatch is how many tickets are read at once for those who wait for them.
	hubBatch = 1000
	// hubTimeout bounds one such read.
	hubTimeout = 10 * time.Second
	// maxMissed bounds how many tickets one look behind the horizon may find changed; when
	// there are more, those who follow many are told to look for themselves.
	maxMissed = 5000
)

// feed reads what was said to have changed elsewhere and wakes those who wait for it, until
// ctx ends. While nobody waits it asks the database nothing.
func (s *Store) feed(ctx context.Context) {
	h := s.watch.hub
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.kick:
		}
		if err := s.readAll(ctx, h.takeStale(), false); err != nil {
			s.readLater(ctx, err)
		}
	}
}

// patrol reads everything that is waited for: once in a while, should a notification have
// been lost, and whenever there is doubt. It is apart from feed, so that nobody who is to be
// woken waits for it.
func (s *Store) patrol(ctx context.Context) {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	h := s.watch.hub
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.doubts:
		}
		ids, broad, horizon := h.waitedFor()
		err := s.readAll(ctx, ids, true)
		if err == nil && broad {
			err = s.lookBehind(ctx, horizon)
		}
		if err != nil {
			s.readLater(ctx, err)
		}
	}
}

// readLater is after a read that failed: what was to be read is found by looking at
// everything.
func (s *Store) readLater(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.log.WarnContext(ctx, "cannot read what has changed; it will be tried again", slog.Any("error", err))
	pause(ctx, time.Second)
	s.watch.hub.doubt()
}

// readAll reads tickets in batches.
func (s *Store) readAll(ctx context.Context, ids []string, sweep bool) error {
	for batch := range slices.Chunk(ids, hubBatch) {
		if err := s.readBatch(ctx, batch, sweep); err != nil {
			return err
		}
	}
	return nil
}

// takeStale empties the list of what is to be read.
func (h *hub) takeStale() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := slices.Collect(maps.Keys(h.stale))
	clear(h.stale)
	return ids
}

// waitedFor is every ticket that somebody waits for, and whether anybody follows many, from
// which horizon on.
func (h *hub) waitedFor() (ids []string, broad bool, horizon int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.tickets)), h.broad > 0, h.horizon
}

// readBatch reads the versions of tickets and passes them on. A sweep finds out besides
// which tickets are there no more.
func (s *Store) readBatch(ctx context.Context, ids []string, sweep bool) error {
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT id, version, state, caller FROM tickets WHERE id = ANY($1)`, ids)
	if err != nil {
		return fmt.Errorf("read changed tickets: %w", err)
	}
	found := 0
	var c Change
	_, err = pgx.ForEachRow(rows, []any{&c.ID, &c.Version, &c.State, &c.Caller}, func() error {
		found++
		if sweep {
			s.watch.hub.confirm(c)
		} else {
			s.watch.hub.learn(c)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read changed tickets: %w", err)
	}
	if found < len(ids) {
		return s.reportGone(ctx, ids)
	}
	return nil
}

// confirm is learn for a ticket that nobody said had changed: only those who wait for it
// hear of it, and those who follow many are told by what is behind their horizon.
func (h *hub) confirm(c Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inform(c)
}

// reportGone tells those who wait for tickets that are there no more.
func (s *Store) reportGone(ctx context.Context, ids []string) error {
	rows, err := s.pool.Query(ctx, `SELECT id FROM unnest($1::text[]) AS u(id) WHERE NOT EXISTS (SELECT FROM tickets t WHERE t.id = u.id)`, ids)
	if err != nil {
		return fmt.Errorf("look for missing tickets: %w", err)
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for missing tickets: %w", err)
	}
	for _, id := range missing {
		s.watch.hub.confirm(Change{ID: id, Gone: true})
	}
	return nil
}

// lookBehind finds every event that was written by a transaction at or after the horizon,
// whoever did or did not announce it, and moves the horizon on: all below the new one is
// visible in this very snapshot, since every transaction below it has ended.
func (s *Store) lookBehind(ctx context.Context, horizon int64) error {
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	if horizon == 0 {
		err := s.pool.QueryRow(ctx, `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`).Scan(&horizon)
		if err != nil {
			return fmt.Errorf("read the horizon: %w", err)
		}
		s.watch.hub.advance(nil, horizon, true)
		return nil
	}
	rows, err := s.pool.Query(ctx, `SELECT h.x, coalesce(e.ticket_id, ''), coalesce(t.caller, '')
		FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS x) h
		LEFT JOIN (SELECT DISTINCT ticket_id FROM audit_events WHERE tx >= $1
			AND tx < pg_snapshot_xmax(pg_current_snapshot())::text::bigint LIMIT $2) e ON true -- those above are restored ones
		LEFT JOIN tickets t ON t.id = e.ticket_id`, horizon, maxMissed+1)
	if err != nil {
		return fmt.Errorf("look behind the horizon: %w", err)
	}
	var changed []Change
	var c Change
	_, err = pgx.ForEachRow(rows, []any{&horizon, &c.ID, &c.Caller}, func() error {
		if c.ID != "" {
			changed = append(changed, c)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look behind the horizon: %w", err)
	}
	s.watch.hub.advance(changed, horizon, len(changed) > maxMissed)
	return nil
}

// advance moves the horizon of those who follow many tickets, after what is behind it was
// put among their news. Lost says that it was not, or not all of it.
func (h *hub) advance(changed []Change, horizon int64, lost bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broad == 0 {
		return
	}
	for _, c := range changed {
		h.tell(c.ID, c.Caller)
	}
	h.horizon = max(h.horizon, horizon)
	for _, subs := range h.callers {
		for sub := range subs {
			sub.reach(h.horizon, lost)
		}
	}
	for sub := range h.all {
		sub.reach(h.horizon, lost)
	}
}

func (sub *Subscription) reach(horizon int64, lost bool) {
	sub.mark = horizon
	if lost {
		sub.lost = true
		sub.signal()
	}
}
