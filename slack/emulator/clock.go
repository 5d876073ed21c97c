package emulator

import (
	"sync"
	"time"
)

// Clock is the workspace's time: message timestamps, the lives of triggers, response_urls and
// tokens, rate limits and event retries all follow it. It can be moved by hand, so that a
// test sees the last retry of an event without waiting six minutes. Signatures carry real
// time whatever it says, because receivers check them against theirs. It is safe for
// concurrent use.
type Clock struct {
	mu    sync.Mutex
	base  func() time.Time
	runs  bool
	ahead time.Duration
	moved chan struct{} // closed and replaced by every Advance
}

// NewClock returns a clock that stands at start and moves by [Clock.Advance] alone.
func NewClock(start time.Time) *Clock {
	return &Clock{base: func() time.Time { return start }, moved: make(chan struct{})}
}

// RunningClock returns a clock that follows base (nil: real time) and can be moved ahead of it.
func RunningClock(base func() time.Time) *Clock {
	if base == nil {
		base = wallClock
	}
	return &Clock{base: base, runs: true, moved: make(chan struct{})}
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base().Add(c.ahead)
}

// Advance moves the clock ahead, or back when d is below zero, and lets what became due happen.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
	close(c.moved)
	c.moved = make(chan struct{})
}

// left returns how long it is until t, and what is closed when the clock is moved.
func (c *Clock) left(t time.Time) (time.Duration, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.Sub(c.base().Add(c.ahead)), c.moved
}

// until waits for the clock to reach t. It answers false when stop is closed first.
func (c *Clock) until(t time.Time, stop <-chan struct{}) bool {
	for {
		left, moved := c.left(t)
		if left <= 0 {
			return true
		}
		if !c.wait(left, moved, stop) {
			return false
		}
	}
}

// wait returns when it is worth looking at the clock again, false once stop is closed.
func (c *Clock) wait(left time.Duration, moved, stop <-chan struct{}) bool {
	var rings <-chan time.Time // never, for a clock that stands
	if c.runs {
		t := time.NewTimer(left)
		defer t.Stop()
		rings = t.C
	}
	select {
	case <-moved:
	case <-rings:
	case <-stop:
		return false
	}
	return true
}

// now is the workspace's time.
func (s *Server) now() time.Time { return s.clock.Now() }

// Now returns the workspace's time.
func (s *Server) Now() time.Time { return s.now() }

// Advance moves the workspace's clock ahead; see [Clock.Advance].
func (s *Server) Advance(d time.Duration) {
	s.clock.Advance(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch()
}
