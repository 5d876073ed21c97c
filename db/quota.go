package db

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

const (
	// recountEvery is how long a caller with room is relied upon to have it, and retryFull how
	// long one without is refused without being counted again.
	recountEvery = 20 * retryFull
	retryFull    = 500 * time.Millisecond
	// share is the part of what a caller has left that a process may use up without counting
	// again. Up to as many processes can do so at the same time.
	share = 16
)

// quotas keeps count of callers' unfinished tickets, or rather keeps from counting them: as
// long as a caller is far from its quota, its submits cost no statement more. Each process
// counts when it has used up its share of what was left, and at least every recountEvery.
//
// When nothing is left to share, each transaction counts, one at a time for each caller
// across all processes, so that the quota is exact there. It can be overshot only by shares
// from before the caller came near it that are still being used: by a sixteenth of the quota
// for each process at most. A quota of less than 16 is exact.
type quotas struct {
	mu      sync.Mutex
	callers map[string]*headroom
}

// headroom is what is known of one caller since the last count.
type headroom struct {
	quota int
	free  int  // it may open so many more without being counted
	full  bool // it may open none
}

func newQuotas() *quotas { return &quotas{callers: make(map[string]*headroom)} }

// forget has callers counted again, and keeps what is remembered to those who submit.
func (q *quotas) forget(ctx context.Context) {
	ticker := time.NewTicker(retryFull)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
			q.drop(n%int(recountEvery/retryFull) == 0)
		case <-ctx.Done():
			return
		}
	}
}

// drop forgets all callers, or those without room.
func (q *quotas) drop(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.callers, func(_ string, h *headroom) bool { return all || h.full })
}

// near returns those members of a batch whose callers may be close to their quota. The
// others have been let through.
func (q *quotas) near(batch []*submitting) (near []*submitting) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range byCaller(batch) {
		h, known := q.callers[g.caller]
		if known && h.quota == g.quota && h.free >= len(g.members) {
			h.free -= len(g.members)
			continue
		}
		near = append(near, g.members...)
	}
	return near
}

// full reports whether a caller was found to have no room a moment ago.
func (q *quotas) full(g group) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	h, known := q.callers[g.caller]
	return known && h.full && h.quota == g.quota
}

// counted notes what a count has found, and how many are to be opened now.
func (q *quotas) counted(g group, open, opening int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := g.quota - open - opening
	// What is being opened may yet fail, so that only what was there makes it full.
	q.callers[g.caller] = &headroom{quota: g.quota, free: max(0, left/share), full: open >= g.quota}
}

// group is the members of a batch that one caller's quota is for.
type group struct {
	caller  string
	quota   int // the least, should a new configuration have come in between
	members []*submitting
}

// byCaller groups those of a sorted batch that count against a quota, in their order.
func byCaller(batch []*submitting) (groups []group) {
	for _, p := range batch {
		if p.req.Quota == 0 || p.req.Submission.Supersedes != "" || p.req.Plan.Action == approvals.ActionDeny {
			continue
		}
		if n := len(groups); n == 0 || groups[n-1].caller != p.req.Submission.Caller {
			groups = append(groups, group{caller: p.req.Submission.Caller, quota: p.req.Quota})
		}
		last := &groups[len(groups)-1]
		last.quota, last.members = min(last.quota, p.req.Quota), append(last.members, p)
	}
	return groups
}

// admit returns those of a sorted batch that may be opened, or whose keys were used before.
// The others have their error, and no key was used up.
func (s *Store) admit(ctx context.Context, tx pgx.Tx, batch []*submitting) ([]*submitting, error) {
	near := s.quotas.near(batch)
	if len(near) == 0 {
		return batch, nil
	}
	seen, err := s.count(ctx, tx, near)
	if err != nil {
		return nil, fmt.Errorf("count unfinished tickets: %w", err)
	}
	for _, g := range byCaller(near) {
		s.allot(g, seen)
	}
	admitted := make([]*submitting, 0, len(batch))
	for _, p := range batch {
		if p.err == nil {
			admitted = append(admitted, p)
		}
	}
	return admitted, nil
}

// allot gives what room one caller has to its members in their order.
func (s *Store) allot(g group, seen census) {
	open, counted := seen.open[g.caller]
	opening := 0
	for _, p := range g.members {
		switch {
		case seen.used[p.req.Submission.ID]: // a replay opens nothing
		case counted && open+opening < g.quota:
			opening++
		default:
			p.err = &QuotaError{Open: g.quota}
		}
	}
	if counted {
		s.quotas.counted(g, open, opening)
	}
}

// census is what the database knows of some members of a batch and their callers.
type census struct {
	open map[string]int  // unfinished tickets by caller, no more than the quota
	used map[string]bool // by ticket id: the key was used before
}

// count looks, in one round trip, which keys were used before, and how many unfinished
// tickets the callers have. It does not count those again who were found full a moment ago;
// of the others it holds a lock until the end of the transaction, so that no two count the
// same room. Locks are taken in the order of the batch, and before any key.
func (s *Store) count(ctx context.Context, tx pgx.Tx, near []*submitting) (census, error) {
	out := census{open: make(map[string]int), used: make(map[string]bool)}
	var callers []string
	var quotas []int
	for _, g := range byCaller(near) {
		if !s.quotas.full(g) {
			callers, quotas = append(callers, g.caller), append(quotas, g.quota)
		}
	}
	b := &pgx.Batch{}
	if len(callers) > 0 {
		// Before the count, and not with it: a statement sees nothing that was committed
		// while it waited.
		b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('quota ' || c, 0)) FROM unnest($1::text[]) AS u(c)`, callers)
		b.Queue(`SELECT u.caller, (SELECT count(*) FROM (
				SELECT FROM tickets t WHERE t.caller = u.caller AND t.finished_at IS NULL LIMIT u.quota) AS unfinished)
			FROM unnest($1::text[], $2::bigint[]) AS u(caller, quota)`, callers, quotas).Query(func(rows pgx.Rows) error {
			var caller string
			var n int
			_, err := pgx.ForEachRow(rows, []any{&caller, &n}, func() error { out.open[caller] = n; return nil })
			return err
		})
	}
	queueUsed(b, near, out.used)
	return out, tx.SendBatch(ctx, b).Close()
}

func queueUsed(b *pgx.Batch, near []*submitting, used map[string]bool) {
	c := &columns{}
	column(c, near, func(p *submitting) string { return p.req.Submission.Caller })
	column(c, near, func(p *submitting) string { return p.req.Key.Route })
	column(c, near, func(p *submitting) string { return p.req.Key.Key })
	column(c, near, func(p *submitting) string { return p.req.Submission.ID })
	b.Queue(`SELECT u.id FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS u(caller, route, key, id)
		JOIN idempotency_keys k ON (k.caller, k.route, k.key) = (u.caller, u.route, u.key)`, c.args...).Query(func(rows pgx.Rows) error {
		var id string
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { used[id] = true; return nil })
		return err
	})
}
