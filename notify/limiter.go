package notify

import (
	"sync"
	"time"
)

// Limits says how fast Slack is called. The zero value is what Slack allows, less a fifth.
type Limits struct {
	// Scale multiplies every rate. Zero means 1.
	Scale float64
	// Off lifts every limit but those that Slack's answers ask for.
	Off bool
}

// rate is what is allowed: so many a second on the average, and burst of them at once.
type rate struct{ perSecond, burst float64 }

// perMinute takes four fifths of what Slack allows in a minute, and the last fifth as what may
// go at once: together never more than Slack allows in any minute.
func perMinute(allowed float64) rate { return rate{allowed * 0.8 / 60, allowed * 0.2} }

// Slack's rate tiers, per method and workspace. Of chat.postMessage it says "several hundred"
// a minute in a workspace, and one a second in a channel.
var (
	methodRates = map[string]rate{
		methodPost:    perMinute(300),
		methodUpdate:  perMinute(50),
		methodHistory: perMinute(50),
		methodHome:    perMinute(100),
	}
	roomRate = rate{1, 3}
)

const (
	methodPost    = "chat.postMessage"
	methodUpdate  = "chat.update"
	methodHistory = "conversations.history"
	methodHome    = "views.publish"
)

// limiter says when a call may be made. It does not wait: whoever asks comes again. All of
// its clock is what it is told.
type limiter struct {
	mu      sync.Mutex
	limits  Limits
	methods map[string]*bucket
	rooms   map[string]*bucket
	gates   map[string]time.Time
	// slowed is by how much posts are slowed down since slowedAt; 1 is not at all.
	slowed   float64
	slowedAt time.Time
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(l Limits) *limiter {
	if l.Scale <= 0 {
		l.Scale = 1
	}
	return &limiter{limits: l, methods: map[string]*bucket{}, rooms: map[string]*bucket{}, gates: map[string]time.Time{}, slowed: 1}
}

// take allows a call of a method, and for a post in a room, at now. Zero: go ahead; otherwise
// nothing was taken, and it is worth asking again after that long. The method "" is no call.
func (l *limiter) take(now time.Time, method, room string) time.Duration {
	if method == "" {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := l.gates[method].Sub(now); wait > 0 {
		return wait
	}
	if l.limits.Off {
		return 0
	}
	of := methodRates[method]
	if method == methodPost {
		of.perSecond *= l.slowness(now)
	}
	m := l.fill(l.methods, method, of, now)
	wait := m.lacks(l.scaled(of))
	if room == "" {
		m.spend(wait)
		return wait
	}
	r := l.fill(l.rooms, room, roomRate, now)
	wait = max(wait, r.lacks(l.scaled(roomRate)))
	m.spend(wait)
	r.spend(wait)
	return wait
}

// giveBack returns what was taken for a call that was not made.
func (l *limiter) giveBack(method, room string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.methods[method]; b != nil {
		b.tokens++
	}
	if b := l.rooms[room]; b != nil {
		b.tokens++
	}
}

// gate stops a method for as long as Slack asks for.
func (l *limiter) gate(now time.Time, method string, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := now.Add(wait); until.After(l.gates[method]) {
		l.gates[method] = until
	}
}

// leastSpeed is how far posts are slowed down at most.
const leastSpeed = 1.0 / 16

// slowDown halves the speed of posts: the workspace as a whole has too many messages, ours or
// others'. The speed doubles again with every minute in which Slack does not say so.
func (l *limiter) slowDown(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowed, l.slowedAt = max(l.slowness(now)/2, leastSpeed), now
}

func (l *limiter) slowness(now time.Time) float64 {
	speed := l.slowed
	for spent := now.Sub(l.slowedAt); speed < 1 && spent >= time.Minute; spent -= time.Minute {
		speed *= 2
	}
	return min(speed, 1)
}

func (l *limiter) scaled(r rate) rate {
	return rate{r.perSecond * l.limits.Scale, max(1, r.burst*l.limits.Scale)}
}

// maxRooms bounds what is remembered of rooms; those at rest are forgotten first.
const maxRooms = 10_000

func (l *limiter) fill(in map[string]*bucket, name string, of rate, now time.Time) *bucket {
	of = l.scaled(of)
	b := in[name]
	if b == nil {
		if len(in) >= maxRooms {
			forgetFull(in, now, of)
		}
		b = &bucket{tokens: of.burst, at: now}
		in[name] = b
	}
	if d := now.Sub(b.at); d > 0 {
		b.tokens, b.at = min(of.burst, b.tokens+d.Seconds()*of.perSecond), now
	}
	return b
}

func forgetFull(in map[string]*bucket, now time.Time, of rate) {
	for name, b := range in {
		if b.tokens+now.Sub(b.at).Seconds()*of.perSecond >= of.burst {
			delete(in, name)
		}
	}
}

// lacks is how long until there is a token, zero when there is one.
func (b *bucket) lacks(of rate) time.Duration {
	if b.tokens >= 1 {
		return 0
	}
	return max(time.Millisecond, time.Duration((1-b.tokens)/of.perSecond*float64(time.Second)))
}

// spend takes a token unless there is something to wait for.
func (b *bucket) spend(wait time.Duration) {
	if wait == 0 {
		b.tokens--
	}
}
