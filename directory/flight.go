package directory

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// flightFor bounds one question to Slack. It is asked for all who wait for it, so that none
// of them can break it off for the others.
const flightFor = 10 * time.Second

// flights makes those who want to know the same share one question.
type flights struct {
	mu   sync.Mutex
	open map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

// join waits for a question under way, or asks it. What it asks must put its answer where
// everybody finds it.
func (f *flights) join(ctx context.Context, name string, ask func(context.Context) error) error {
	f.mu.Lock()
	one, ok := f.open[name]
	if !ok {
		if f.open == nil {
			f.open = map[string]*flight{}
		}
		one = &flight{done: make(chan struct{})}
		f.open[name] = one
		go f.fly(context.WithoutCancel(ctx), name, one, ask)
	}
	f.mu.Unlock()
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return fmt.Errorf("wait for slack: %w", ctx.Err())
	}
}

func (f *flights) fly(ctx context.Context, name string, one *flight, ask func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, flightFor)
	defer cancel()
	one.err = ask(ctx)
	f.mu.Lock()
	if f.open[name] == one {
		delete(f.open, name)
	}
	f.mu.Unlock()
	close(one.done)
}

// leave makes the next who wants to know ask anew: what is under way may have been answered
// before something changed.
func (f *flights) leave(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, name)
}
