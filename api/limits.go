package api

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/policy"
)

// class is a kind of requests that are counted together.
type class string

const (
	// reads is everything but submits.
	reads class = ""
	// submits is what opens tickets, through either door.
	submits class = "submit"
	// ofPeople is all that one person asks.
	ofPeople class = "person"
)

// name is that of the policy in the RateLimit fields.
func (c class) name() string {
	if c == reads {
		return "read"
	}
	return string(c)
}

// personRate bounds the requests of one person. Nobody clicks as fast, and a program of
// theirs that polls has room.
var personRate = policy.Rate{N: 1200, Per: time.Minute}

// minBuckets is how many buckets are kept at least before those that are full again are
// dropped.
const minBuckets = 4096

// limiter counts the requests of callers and people in this process; with several processes
// each grants the whole limit. A limit is a bucket of N requests that fills up evenly within
// Per (GCRA: all that is kept of a bucket is when it will be full).
type limiter struct {
	mu   sync.Mutex
	full map[bucket]time.Time
	drop int // how many there are when those that are full again are dropped next
}

type bucket struct {
	class class
	who   string
}

func newLimiter() *limiter { return &limiter{full: make(map[bucket]time.Time), drop: minBuckets} }

// grant is what became of a request that was counted.
type grant struct {
	ok   bool
	left int
	// more is when there is more to have: the next request when nothing is left, and
	// otherwise all of them.
	more time.Duration
}

// take counts one request. A refused one does not count.
func (l *limiter) take(b bucket, limit policy.Rate, now time.Time) grant {
	each := max(limit.Per/time.Duration(limit.N), 1)
	whole := each * time.Duration(limit.N)
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.full[b]
	if full.Before(now) {
		full = now
	}
	if limitNow := now.Add(whole); full.After(limitNow) {
		full = limitNow // the clock went back, or the limit became smaller
	}
	next := full.Add(each)
	if next.Sub(now) > whole {
		return grant{more: next.Sub(now) - whole}
	}
	l.keep(b, next, now)
	left := int((whole - next.Sub(now)) / each)
	if left == 0 {
		return grant{ok: true, more: next.Sub(now) + each - whole}
	}
	return grant{ok: true, left: left, more: next.Sub(now)}
}

// keep remembers a bucket. Those that are full again are as if they had never been, so that
// no more are kept than callers and people there are, twice.
func (l *limiter) keep(b bucket, full, now time.Time) {
	l.full[b] = full
	if len(l.full) < l.drop {
		return
	}
	for other, at := range l.full {
		if !at.After(now) {
			delete(l.full, other)
		}
	}
	l.drop = max(minBuckets, 2*len(l.full))
}

// limited counts a request against the limit of whoever asks, and refuses one too many
// before anything is read of it. Nothing is said, and nothing counted, where there is no
// limit.
func (s *Server) limited(of class) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			b, limit := exchangeOf(c.Request().Context()).allowance(of)
			if limit.IsZero() {
				return next(c)
			}
			g := s.limiter.take(b, limit, s.now())
			announce(c, b.class, limit, g)
			if !g.ok {
				return tooMany(b.class, limit, g)
			}
			return next(c)
		}
	}
}

// allowance is what a request counts against.
func (x *exchange) allowance(of class) (bucket, policy.Rate) {
	switch {
	case x.person.Name != "":
		return bucket{ofPeople, x.person.Name}, personRate
	case of == submits:
		return bucket{of, x.caller.Name}, x.caller.Limits.Submit
	}
	return bucket{of, x.caller.Name}, x.caller.Limits.Read
}

// announce sets the RateLimit fields (draft-ietf-httpapi-ratelimit-headers of September
// 2025).
func announce(c echo.Context, of class, limit policy.Rate, g grant) {
	h := c.Response().Header()
	h["RateLimit-Policy"] = []string{fmt.Sprintf(`%q;q=%d;w=%s`, of.name(), limit.N, seconds(limit.Per))}
	h["RateLimit"] = []string{fmt.Sprintf(`%q;r=%d;t=%s`, of.name(), g.left, seconds(g.more))}
}

func tooMany(of class, limit policy.Rate, g grant) error {
	f := fail(codeQuotaExceeded, "more than %d requests in %s seconds; nothing was done, and no key was used up",
		limit.N, seconds(limit.Per)).retryAfter(g.more)
	f.violated = []string{of.name()}
	return f
}

// openRetry is when it is worth while to submit again for a caller with too many open tickets.
const openRetry = 10 * time.Second

// tooManyOpen says that a caller has as many open tickets as it may have.
func tooManyOpen(limit int) *failure {
	n := strconv.Itoa(limit)
	f := fail(codeQuotaExceeded, "this caller has %d tickets that have not ended, and may have no more; cancel some, or wait", limit)
	f.violated = []string{"open-tickets"}
	return f.retryAfter(openRetry).
		with("RateLimit-Policy", `"open-tickets";q=`+n).with("RateLimit", `"open-tickets";r=0`)
}
