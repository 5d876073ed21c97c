package approvals

import "time"

// Interval is a span of time, From included, To not.
type Interval struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// span is how much of the time from a to b lies within hours; all of it when there are
// none.
func span(hours []Interval, a, b time.Time) time.Duration {
	if !a.Before(b) {
		return 0 // the clock may have been set back
	}
	if len(hours) == 0 {
		return b.Sub(a)
	}
	var sum time.Duration
	for _, h := range hours {
		from, to := later(h.From, a), earlier(h.To, b)
		if from.Before(to) {
			sum += to.Sub(from)
			a = to // what the next interval repeats is not counted again
		}
	}
	return sum
}

// reached is when so much time within hours has passed since a moment. False when the
// hours end before that.
func reached(hours []Interval, since time.Time, after time.Duration) (time.Time, bool) {
	if len(hours) == 0 {
		return since.Add(after), true
	}
	for _, h := range hours {
		from := later(h.From, since)
		if room := h.To.Sub(from); room >= after && room > 0 {
			return from.Add(after), true
		} else if room > 0 {
			after -= room
			since = h.To
		}
	}
	return time.Time{}, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
