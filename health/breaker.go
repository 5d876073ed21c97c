package health

import "time"

// Breaker says when a circuit breaker opens and for how long. There are two ways, and both may
// be used: so many failures in a row, and a share of failures among enough requests. The zero
// Breaker never opens.
type Breaker struct {
	// Failures in a row that open it; 0: a row does not.
	Failures int
	// Within is the time that is looked at: failures in a row count from the first only if that
	// is no longer ago, and shares are taken of what ended in it. 0 means 5 min.
	Within time.Duration
	// Percent of failures that opens it when there were at least Requests; 0: a share does not.
	Percent, Requests int
	// For is how long it stays open until one call is let through as a trial; 0 means 30 s.
	For time.Duration
	// Trial is how long that call keeps all others out if nothing is heard of it; 0 means For,
	// and a minute at least.
	Trial time.Duration
}

// Endpoints is the breaker of callback endpoints: 7 of at least 10 in five minutes, for 30 s.
func Endpoints() Breaker {
	return Breaker{Within: 5 * time.Minute, Percent: 70, Requests: 10, For: 30 * time.Second}
}

// slots is how many parts a window has.
const slots = 10

func (b Breaker) on() bool { return b.Failures > 0 || b.Percent > 0 }

func (b Breaker) within() time.Duration { return or(b.Within, 5*time.Minute) }

func (b Breaker) open() time.Duration { return or(b.For, 30*time.Second) }

func (b Breaker) trial() time.Duration { return or(b.Trial, max(b.open(), time.Minute)) }

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// shut is how long the breaker keeps everybody out; zero: it does not.
func (s State) shut(now time.Time, b Breaker) time.Duration {
	if !b.on() || s.OpenUntil.IsZero() {
		return 0
	}
	return max(0, later(s.OpenUntil, s.TrialUntil).Sub(now))
}

// Open reports whether the breaker is open: it is not yet time for a trial.
func (s State) Open(now time.Time) bool { return now.Before(s.OpenUntil) }

// Trying reports whether the breaker has been open and it is not known yet that all is well.
func (s State) Trying(now time.Time) bool { return !s.OpenUntil.IsZero() && !s.Open(now) }

// Done notes what came of an admitted call. What was begun before the breaker opened and ends
// while it is open says nothing new. A trial that succeeds closes it and everything is forgotten;
// one that fails opens it again, which counts as another trip in a row.
func (s State) Done(ok bool, now time.Time, l Limits) State {
	b := l.Breaker
	if !b.on() {
		return State{Used: s.Used}
	}
	switch {
	case s.Open(now):
		return s
	case s.Trying(now) && ok:
		return State{Used: s.Used}
	case s.Trying(now):
		return s.trip(now, b)
	}
	s = s.count(ok, now, b)
	if s.tooMany(now, b) {
		return s.trip(now, b)
	}
	return s
}

// trip opens the breaker and begins to count anew.
func (s State) trip(now time.Time, b Breaker) State {
	return State{OpenUntil: now.Add(b.open()), Trips: s.Trips + 1, Used: s.Used}
}

// count adds a result to the row and to the slot of its time. The old slice is left as it is:
// a State is a value.
func (s State) count(ok bool, now time.Time, b Breaker) State {
	switch {
	case ok:
		s.Row, s.RowSince = 0, time.Time{}
	case s.Row == 0 || now.Sub(s.RowSince) > b.within():
		s.Row, s.RowSince = 1, now
	default:
		s.Row++
	}
	if b.Percent > 0 {
		s.Slots = s.recent(ok, now, b.within())
	}
	return s
}

// recent are the slots that are still in the window, with a result added to the last.
func (s State) recent(ok bool, now time.Time, window time.Duration) []Slot {
	length := max(window/slots, 1)
	kept := make([]Slot, 0, slots)
	for _, x := range s.Slots {
		if now.Sub(x.At) < window && len(s.Slots) <= 2*slots {
			kept = append(kept, x)
		}
	}
	if n := len(kept); n == 0 || now.Sub(kept[n-1].At) >= length {
		kept = append(kept, Slot{At: now})
	}
	if len(kept) > slots {
		kept = kept[len(kept)-slots:]
	}
	last := &kept[len(kept)-1]
	last.Total++
	if !ok {
		last.Failed++
	}
	return kept
}

func (s State) tooMany(now time.Time, b Breaker) bool {
	if b.Failures > 0 && s.Row >= b.Failures {
		return true
	}
	failed, total := 0, 0
	for _, x := range s.Slots {
		if now.Sub(x.At) < b.within() {
			failed, total = failed+x.Failed, total+x.Total
		}
	}
	return b.Percent > 0 && total > 0 && total >= b.Requests && failed*100 >= b.Percent*total
}
