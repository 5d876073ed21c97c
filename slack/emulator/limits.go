package emulator

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Limits are Slack's rate limits, counted on the workspace's clock. The zero value limits
// nothing.
type Limits struct {
	// On turns the limits on.
	On bool `json:"on"`
	// Scale multiplies every rate and burst below, for tests that want to see limits sooner
	// (below one) or rarely. Zero: 1.
	Scale float64 `json:"scale,omitempty"`
	// ChannelPerSecond is how many messages a channel takes. Zero: 1.
	ChannelPerSecond float64 `json:"channel_per_second,omitempty"`
	// ChannelBurst is how many a quiet channel takes at once. Zero: 4; Slack says that short
	// bursts pass and not how short.
	ChannelBurst float64 `json:"channel_burst,omitempty"`
	// WorkspacePerMinute is how many messages all channels take together; above it Slack
	// answers message_limit_exceeded, and does not say for how long. Zero: 300; Slack says
	// "several hundred".
	WorkspacePerMinute float64 `json:"workspace_per_minute,omitempty"`
	// Methods overrides calls per minute by method. Nil: the documented tiers.
	Methods map[string]float64 `json:"methods,omitempty"`
}

// Calls per minute of Slack's tiers; hundreds is for methods said to allow hundreds.
const (
	tier1    = 1
	tier2    = 20
	tier3    = 50
	tier4    = 100
	hundreds = 600
)

// bucket holds what may still be used and refills with the clock.
type bucket struct {
	level float64
	at    time.Time
}

// take uses one of what refills at perSecond up to burst. If none is left it returns how long
// until there is.
func (b *bucket) take(now time.Time, perSecond, burst float64) (wait time.Duration) {
	passed := now.Sub(b.at).Seconds()
	b.level = math.Min(burst, b.level+math.Max(0, passed)*perSecond)
	b.at = now
	if b.level >= 1 {
		b.level--
		return 0
	}
	return time.Duration((1 - b.level) / perSecond * float64(time.Second))
}

// SetLimits replaces the rate limits and forgets what was used of the old ones.
func (s *Server) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits, s.buckets = l, map[string]*bucket{}
	s.touch()
}

// spend takes one from the bucket of that name, made full at need.
func (c *call) spend(name string, perSecond, burst float64) time.Duration {
	scale := cmp.Or(c.limits.Scale, 1)
	perSecond, burst = perSecond*scale, math.Max(1, burst*scale)
	b := c.buckets[name]
	if b == nil {
		b = &bucket{level: burst, at: c.now}
		c.buckets[name] = b
	}
	return b.take(c.now, perSecond, burst)
}

// overLimit refuses a call that is over a limit. Slack counts a call against its method first.
func (c *call) overLimit(method string, perMinute float64) error {
	if !c.limits.On {
		return nil
	}
	if n, ok := c.limits.Methods[method]; ok {
		perMinute = n
	}
	if perMinute > 0 {
		if wait := c.spend("method "+method, perMinute/60, perMinute); wait > 0 {
			return tooFast(wait)
		}
	}
	if method != "chat.postMessage" {
		return nil
	}
	return c.overMessages()
}

// overMessages are the limits of chat.postMessage: each channel's and the workspace's.
func (c *call) overMessages() error {
	rate := cmp.Or(c.limits.ChannelPerSecond, 1)
	if wait := c.spend("channel "+c.channelKey(), rate, cmp.Or(c.limits.ChannelBurst, 4)); wait > 0 {
		return tooFast(wait)
	}
	all := cmp.Or(c.limits.WorkspacePerMinute, 300)
	if c.spend("workspace", all/60, all) > 0 {
		return &apiError{code: "message_limit_exceeded", status: 429}
	}
	return nil
}

// channelKey names the channel of a call, the same however the call names it.
func (c *call) channelKey() string {
	name := c.str("channel")
	for _, ch := range c.channels {
		if ch.User == name && name != "" || "#"+ch.Name == name {
			return ch.ID
		}
	}
	return name
}

// tooFast is a 429 with Retry-After in whole seconds, rounded up.
func tooFast(wait time.Duration) error {
	return &apiError{code: "ratelimited", status: 429, retryAfter: int(math.Ceil(wait.Seconds()))}
}

// hasScope says whether a list of scopes has one.
func hasScope(scopes []string, scope string) bool {
	return scope == "" || slices.Contains(scopes, scope)
}
