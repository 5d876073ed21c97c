package notify

import (
	"time"

	"countersign/db"
	"countersign/slack"
)

// What the tests of limits and breaker see of them.

// Limiter is a limiter.
type Limiter struct{ l *limiter }

// NewLimiter makes one.
func NewLimiter(l Limits) Limiter { return Limiter{newLimiter(l)} }

// Take is its take.
func (l Limiter) Take(now time.Time, method, room string) time.Duration {
	return l.l.take(now, method, room)
}

// GiveBack is its giveBack.
func (l Limiter) GiveBack(method, room string) { l.l.giveBack(method, room) }

// Gate is its gate.
func (l Limiter) Gate(now time.Time, method string, wait time.Duration) { l.l.gate(now, method, wait) }

// SlowDown is its slowDown.
func (l Limiter) SlowDown(now time.Time) { l.l.slowDown(now) }

// Breaker is a breaker.
type Breaker struct{ b *breaker }

// NewBreaker makes one.
func NewBreaker(first, longest time.Duration) Breaker { return Breaker{newBreaker(first, longest)} }

// Succeeded is its succeeded.
func (b Breaker) Succeeded() { b.b.succeeded() }

// Failed is its failed.
func (b Breaker) Failed(now time.Time, e *slack.Error) bool { return b.b.failed(now, e) }

// Trip is its trip.
func (b Breaker) Trip(now time.Time, reason string) bool { return b.b.trip(now, reason) }

// Wait is its wait.
func (b Breaker) Wait(now time.Time) (time.Duration, bool) { return b.b.wait(now) }

// Probed is its probed.
func (b Breaker) Probed(now time.Time, err error) bool { return b.b.probed(now, err) }

// Is is its state.
func (b Breaker) Is() db.SenderStatus { return b.b.is() }
