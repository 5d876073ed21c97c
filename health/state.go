package health

import (
	"math"
	"time"
)

// Rate is how many requests somebody takes in a time. The zero Rate is no bound.
type Rate struct {
	N   int
	Per time.Duration
}

// Limited reports whether there is a bound.
func (r Rate) Limited() bool { return r.N > 0 && r.Per > 0 }

// burst is how many may go at once: what is due in a second, and one at least.
func (r Rate) burst() float64 {
	return math.Max(1, float64(r.N)*float64(time.Second)/float64(r.Per))
}

// every is the time in which one token comes.
func (r Rate) every() time.Duration { return r.Per / time.Duration(r.N) }

// Limits are what somebody is held to. The zero Limits hold nobody to anything.
type Limits struct {
	Rate    Rate
	Breaker Breaker
}

// State is what is known of somebody. It is at most about a kilobyte of JSON; the fields are for
// that only.
type State struct {
	// Slots count what came of requests, the latest last, at most as many as a window has.
	Slots []Slot `json:"slots,omitempty"`
	// Row is how many requests failed in a row, RowSince when the first of them did.
	Row      int       `json:"row,omitempty"`
	RowSince time.Time `json:"row_since,omitzero"`
	// OpenUntil is when the breaker lets a trial through; zero: it is closed.
	OpenUntil time.Time `json:"open_until,omitzero"`
	// TrialUntil is how long the trial under way keeps all others out; zero: there is none.
	TrialUntil time.Time `json:"trial_until,omitzero"`
	// Trips is how often the breaker opened since it was last closed.
	Trips int `json:"trips,omitempty"`
	// Used is when the tokens that were taken will all have come back; zero: none is missing.
	Used time.Time `json:"used,omitzero"`
}

// Slot counts the requests that ended in one part of the window.
type Slot struct {
	At     time.Time `json:"at"`
	Failed int       `json:"failed,omitempty"`
	Total  int       `json:"total"`
}

// Admit says whether somebody may be called now. With a wait of zero they may, and the State
// has the call in it: it owes a Done, or a Forgo if it says nothing about them. Otherwise
// the State is the old one, and there is no use in asking again before wait has passed; after
// it the answer may be another wait.
func (s State) Admit(now time.Time, l Limits) (_ State, wait time.Duration) {
	if wait = max(s.shut(now, l.Breaker), s.lacking(now, l.Rate)); wait > 0 {
		return s, wait
	}
	if l.Breaker.on() && !s.OpenUntil.IsZero() {
		s.TrialUntil = now.Add(l.Breaker.trial())
	}
	if l.Rate.Limited() {
		s.Used = later(s.Used, now).Add(l.Rate.every())
	}
	return s, 0
}

// Forgo takes an admitted call back out of the State: it was not made, or what became of it
// was not their doing. The token is not given back.
func (s State) Forgo() State {
	s.TrialUntil = time.Time{}
	return s
}

// lacking is how long it takes until there is a token.
func (s State) lacking(now time.Time, r Rate) time.Duration {
	if !r.Limited() || s.Used.IsZero() {
		return 0
	}
	room := time.Duration((r.burst() - 1) * float64(r.every()))
	return max(0, min(s.Used.Sub(now)-room, r.Per)) // never longer than all the tokens take: the rate may be another now
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
