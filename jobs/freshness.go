package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"countersign/approvals"
	"countersign/db"
)

const (
	// freshFor bounds the question whether approvals still stand.
	freshFor = 15 * time.Second
	// The pauses between two such questions about one ticket.
	firstStandBy = 2 * time.Second
	lastStandBy  = 30 * time.Second
	// maxWaiting bounds the tickets that are remembered to wait. More wait as well, but begin
	// with short pauses again.
	maxWaiting = 10_000
)

// look is one try to find out how things are now, and as an error that it did not succeed.
type look struct {
	idle  bool // nothing has to be found out
	done  bool
	votes int // how many decisions, stages and reopenings the ticket had then
	why   error
}

// Error says why nobody knows.
func (l *look) Error() string {
	return "cannot look whether the approvals still stand: " + l.Unwrap().Error()
}

// Unwrap returns the reason.
func (l *look) Unwrap() error {
	if l.why == nil {
		return errMovedOn
	}
	return l.why
}

var errMovedOn = errors.New("the ticket has moved on meanwhile")

// covers reports whether what was found out is all that the ticket rests on.
func (l *look) covers(t approvals.Ticket) bool { return l.idle || l.done && l.votes == votes(t) }

// votes changes whenever a ticket comes to rest on other decisions.
func votes(t approvals.Ticket) int {
	return len(t.Decisions) + len(t.Plan.Stages) + t.Plan.Round + t.Plan.Reopened
}

// freshen asks whether the approval of a ticket can be judged as things are now. That it
// cannot does not mean that the approval does not stand.
func (r *Runner) freshen(ctx context.Context, id string) *look {
	if r.c.Fresh == nil {
		return &look{idle: true}
	}
	ctx, cancel := context.WithTimeout(ctx, freshFor)
	defer cancel()
	t, err := r.c.Store.Ticket(ctx, db.Ref{ID: id})
	if err != nil || !claimable(t) {
		return &look{why: err} // the claim meets the same, or else what is here is news to us
	}
	if err := r.c.Fresh(ctx, t); err != nil {
		return &look{why: err}
	}
	return &look{done: true, votes: votes(t)}
}

func claimable(t approvals.Ticket) bool {
	return t.Worker == "" && (t.State == approvals.Approved || t.State == approvals.Executing)
}

// due reports whether a claim would lead to a call, if the approvals stood. Otherwise it
// ends the ticket or leaves it alone, for which nobody has to be asked.
func due(t approvals.Ticket, now time.Time) bool {
	return claimable(t) && !now.Before(t.NotBefore) && now.Before(t.ExecuteBy)
}

// standsBy puts the job off. The first time it says so.
func (r *Runner) standsBy(ctx context.Context, id string, why error) error {
	pause, first := r.waiting.pause(id, r.c.Now())
	if first {
		r.log.WarnContext(ctx, "an approved call waits, because nobody can say whether its approvals still stand",
			slog.String("ticket_id", id), slog.Any("error", why))
	}
	return river.JobSnooze(pause)
}

// waiting is since when tickets stand by, in this process.
type waiting struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// pause is as long as the ticket has waited so far, and so doubles from time to time.
func (w *waiting) pause(id string, now time.Time) (_ time.Duration, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	since, ok := w.since[id]
	if !ok {
		if w.since == nil || len(w.since) >= maxWaiting {
			w.since = make(map[string]time.Time)
		}
		w.since[id] = now
		return firstStandBy, true
	}
	return min(max(now.Sub(since), firstStandBy), lastStandBy), false
}

func (w *waiting) over(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.since, id)
}
