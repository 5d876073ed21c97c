package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/db"
	"countersign/health"
	"countersign/policy"
)

const (
	// handOnFor is how long a job makes the calls of others that waited for its place.
	// Together with the longest call it stays below executeTimeout.
	handOnFor = 15 * time.Second
	// handOnTries bounds how many tickets in line are found not to be ready after all.
	handOnTries = 8
	// leastPause is between two looks at the lines that are owed to a rate or a breaker.
	leastPause = 20 * time.Millisecond
	// tellEvery is how often the log says of one lane that calls wait for it.
	tellEvery = time.Minute
)

// lanesOf are the lanes that the call of a ticket has to pass. Most have none.
func lanesOf(config *policy.Config, t approvals.Ticket) (out []db.Lane) {
	if u, ok := config.Upstream(t.Call.Upstream); ok && (u.Concurrency > 0 || u.Rate.N > 0 || u.Breaker.Failures > 0) {
		out = append(out, upstreamLane(u))
	}
	if c, ok := config.Caller(t.Caller); ok && c.Limits.Executing > 0 {
		out = append(out, db.Lane{Caller: c.Name, Slots: c.Limits.Executing})
	}
	return out
}

func upstreamLane(u policy.Upstream) db.Lane {
	return db.Lane{Upstream: u.Name, Slots: u.Concurrency, Limits: health.Limits{
		Rate:    health.Rate{N: u.Rate.N, Per: u.Rate.Per},
		Breaker: health.Breaker{Failures: u.Breaker.Failures, Within: u.Breaker.Within, For: u.Breaker.For},
	}}
}

// laneNamed is the lane of that name, which bounds nothing if the configuration does not know
// of it any more.
func laneNamed(config *policy.Config, name string) db.Lane {
	for _, u := range config.Upstreams {
		if lane := upstreamLane(u); lane.Name() == name {
			return lane
		}
	}
	for _, c := range config.Callers {
		if lane := (db.Lane{Caller: c.Name, Slots: c.Limits.Executing}); lane.Name() == name {
			return lane
		}
	}
	return db.Lane{}
}

// handOn gives the places that became free to those who wait for them: one call after the
// other is made here, as long as there is time, and others get jobs. What it cannot do the
// sweeper does.
func (r *Runner) handOn(ctx context.Context, freed []db.Lane, until time.Time) {
	for try := 0; len(freed) > 0 && try < handOnTries; try++ {
		next, err := r.nextInLine(ctx, freed)
		if err != nil {
			r.log.WarnContext(ctx, "cannot say who goes next", slog.Any("error", err))
		}
		if len(next) == 0 {
			return
		}
		if !r.c.Now().Before(until) || r.directs.refuses() || r.paused(ctx) {
			r.wake(ctx, next)
			return
		}
		r.wake(ctx, next[1:])
		got, err := r.executeHeld(ctx, next[0], nil)
		if len(got) > 0 {
			freed, try = got, -1
		}
		if !r.settled(ctx, next[0], freed, err) {
			return
		}
	}
}

// settled sees to a ticket that was handed a place and whose call was not made. It reports
// whether the place may still be free.
func (r *Runner) settled(ctx context.Context, id string, freed []db.Lane, err error) bool {
	var full *db.NoRoomError
	var refusal *approvals.Error
	switch {
	case err == nil, errors.Is(err, errNotBegun), errors.As(err, &refusal), errors.Is(err, errHeld):
		return true
	case errors.As(err, &full):
		return !slices.ContainsFunc(freed, func(l db.Lane) bool { return l.Name() == full.Lane })
	}
	r.wake(ctx, []string{id})
	return true
}

// nextInLine takes one ticket out of the line of each lane.
func (r *Runner) nextInLine(ctx context.Context, lanes []db.Lane) (out []string, err error) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), beginFor)
	defer cancel()
	for _, l := range lanes {
		ids, err := r.c.Store.TakeWaiting(bounded, l.Name(), 1)
		if err != nil {
			return out, err
		}
		out = append(out, ids...)
	}
	return out, nil
}

// wake makes jobs for tickets that have none. Should that fail, the sweeper finds them.
func (r *Runner) wake(ctx context.Context, ids []string) {
	if len(ids) == 0 {
		return
	}
	effects := make([]approvals.Effect, 0, len(ids))
	for _, id := range ids {
		effects = append(effects, approvals.Execute{TicketID: id})
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), beginFor)
	defer cancel()
	err := pgx.BeginFunc(bounded, r.c.Pool, func(tx pgx.Tx) error { return r.c.Outbox.Enqueue(bounded, tx, effects) })
	if err != nil {
		r.log.WarnContext(ctx, "calls that could be made have no jobs yet", slog.Int("calls", len(ids)), slog.Any("error", err))
	}
}

// noRoom says in the log that calls wait, and looks again when a rate or a breaker admits them.
func (r *Runner) noRoom(ctx context.Context, full *db.NoRoomError) {
	now := r.c.Now()
	if full.Wait > 0 {
		r.lines.at(now.Add(full.Wait))
	}
	if r.lines.tell(full.Lane, now) {
		r.log.WarnContext(ctx, "calls wait for room", slog.String("lane", full.Lane), slog.Bool("breaker_open", full.Open),
			slog.Int64("wait_ms", full.Wait.Milliseconds()))
	}
}

// sweepLines wakes as many as there is room for in the lanes: after the death of a worker,
// with a new token, or when a breaker lets a call through on trial.
// Those whose time is over are woken to be ended.
func (r *Runner) sweepLines(ctx context.Context) error {
	over, failed := r.c.Store.TakeOverdue(ctx, sweepBatch)
	r.wake(ctx, over)
	lines, now, err := r.c.Store.Lines(ctx)
	errs, config := []error{failed, err}, r.c.Policy()
	for _, line := range lines {
		n, wait := line.Room(laneNamed(config, line.Lane), now, sweepBatch)
		if wait > 0 {
			r.lines.at(r.c.Now().Add(wait))
		}
		if n == 0 {
			continue
		}
		ids, err := r.c.Store.TakeWaiting(ctx, line.Lane, n)
		errs = append(errs, err)
		r.wake(ctx, ids)
	}
	return errors.Join(errs...)
}

// watchLines looks at the lines whenever a rate or a breaker admits somebody who was turned
// away here. A sweep would be up to a second late.
func (r *Runner) watchLines(ctx context.Context) {
	for {
		if !r.lines.wait(ctx, r.c.Now) {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, sweepTimeout)
		err := r.sweepLines(bounded)
		cancel()
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot look who waits for room", slog.Any("error", err))
		}
	}
}

// lines remembers when to look at them next, and of which the log has spoken.
type lines struct {
	mu   sync.Mutex
	due  time.Time // zero: not by itself
	poke chan struct{}
	told map[string]time.Time
}

func newLines() *lines { return &lines{poke: make(chan struct{}, 1), told: make(map[string]time.Time)} }

// at has the lines looked at then, or before.
func (l *lines) at(due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.due.IsZero() && !due.Before(l.due) {
		return
	}
	l.due = due
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// wait returns when it is time to look; false: ctx ended.
func (l *lines) wait(ctx context.Context, now func() time.Time) bool {
	for {
		timer := time.NewTimer(l.left(now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-l.poke:
			timer.Stop()
		case <-timer.C:
			if l.take(now()) {
				return true
			}
		}
	}
}

func (l *lines) left(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due.IsZero() {
		return time.Hour
	}
	return max(l.due.Sub(now), leastPause)
}

func (l *lines) take(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.due.IsZero() || now.Before(l.due) {
		return false
	}
	l.due = time.Time{}
	return true
}

// tell reports whether it is time for the log to say something of a lane.
func (l *lines) tell(lane string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.told[lane]; ok && now.Sub(last) < tellEvery {
		return false
	}
	l.told[lane] = now
	return true
}
