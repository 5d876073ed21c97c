package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/riverqueue/river"
)

// pauseKnown is for how long it is believed that calls may or may not be made.
const pauseKnown = 500 * time.Millisecond

// killSwitch remembers whether the queue of executions is paused.
type killSwitch struct {
	mu     sync.Mutex
	at     time.Time
	paused bool
}

// paused reports whether the kill switch is thrown: the queue "execute" is paused, in the
// database and so for all processes. River keeps jobs from being fetched then; what makes
// calls without fetching a job asks here first. Who cannot find out makes none.
func (r *Runner) paused(ctx context.Context) bool {
	k := &r.halted
	k.mu.Lock()
	defer k.mu.Unlock()
	now := r.c.Now()
	if !k.at.IsZero() && now.Sub(k.at) < pauseKnown {
		return k.paused
	}
	queue, err := r.river.QueueGet(ctx, kindExecute)
	switch {
	case errors.Is(err, river.ErrNotFound): // nobody has worked it yet
		return false
	case err != nil:
		return true
	}
	k.at, k.paused = now, queue.PausedAt != nil
	return k.paused
}
