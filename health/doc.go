// Package health remembers how somebody we call is doing and says whether to call them now: a
// circuit breaker that opens on failures, and a token bucket for those who take only so much.
//
// It is pure: what it remembers is a [State], a value of a few hundred bytes that is kept as
// JSON beside what it is about, and the time is an argument. The zero State is of somebody of
// whom nothing is known, who is called.
package health
