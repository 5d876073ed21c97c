package notify

import (
	"sync"
	"time"

	"countersign/db"
	"countersign/slack"
)

// failuresInARow open the breaker, over all methods.
const failuresInARow = 5

// breaker stops all calls when Slack, or what Slack thinks of this app, is in such a state
// that more of them would only fail. Whether that is over is tried with auth.test. All of its
// clock is what it is told.
type breaker struct {
	first, longest time.Duration // pauses before a probe

	mu       sync.Mutex
	failures int
	pause    time.Duration
	status   db.SenderStatus
}

func newBreaker(first, longest time.Duration) *breaker {
	return &breaker{first: first, longest: longest, pause: first}
}

// succeeded closes the question whether Slack answers.
func (b *breaker) succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.status.Open {
		b.failures, b.pause = 0, b.first
	}
}

// failed counts a call that failed and reports whether that opened the breaker. The one after
// a probe counts like the fifth: it opens it again, for twice as long.
func (b *breaker) failed(now time.Time, e *slack.Error) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status.Open {
		return false // a call that was under way
	}
	if b.failures++; b.failures < failuresInARow {
		return false
	}
	b.status = db.SenderStatus{Open: true, Reason: e.Method + ": " + e.Code, Since: now, ProbeAt: now.Add(b.pause)}
	b.pause = min(2*b.pause, b.longest)
	return true
}

// trip opens the breaker until an operator has done something, which is tried now and then,
// and reports whether that was news.
func (b *breaker) trip(now time.Time, reason string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news = !b.status.Open || b.status.Reason != reason
	if !b.status.Open {
		b.status.Since = now
	}
	b.status.Open, b.status.Reason, b.status.ProbeAt = true, reason, now.Add(b.longest)
	return news
}

// wait is how long until the next probe; open is false when nothing keeps anybody from calls.
func (b *breaker) wait(now time.Time) (wait time.Duration, open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.status.ProbeAt.Sub(now)), b.status.Open
}

// probed says how a probe went.
func (b *breaker) probed(now time.Time, err error) (closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.status.ProbeAt = now.Add(b.pause)
		b.pause = min(2*b.pause, b.longest)
		return false
	}
	b.status, b.failures = db.SenderStatus{}, failuresInARow-1
	return true
}

func (b *breaker) is() db.SenderStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}
