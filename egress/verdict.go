package egress

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Class says what a callback attempt came to.
type Class string

const (
	// Delivered means that the receiver answered 2xx.
	Delivered Class = "delivered"
	// Failed means that this attempt failed, another may follow.
	Failed Class = "failed"
	// Gone means that the receiver answered 410 or asked to be disabled; nothing more is sent to this endpoint.
	Gone Class = "gone"
	// Aborted means that the receiver asked not to be sent this message again.
	Aborted Class = "aborted"
	// Blocked means that our egress policy refuses the destination; trying again is no use.
	Blocked Class = "blocked"
)

const (
	maxRetryAfter = 24 * time.Hour
	slowDown      = time.Minute
	jitterSpread  = 0.2
)

// Verdict is what a receiver's answer means for the delivery and its endpoint.
type Verdict struct {
	Class Class
	// Retry: another attempt may follow, at NextAttempt.
	Retry bool
	// RetryAfter is how long the whole endpoint asked to be left alone, at most 24 h. Zero: it did not.
	RetryAfter time.Duration
	// SlowDown: the receiver is overloaded; the next attempt waits at least a minute.
	SlowDown bool
	// DisableEndpoint: the endpoint must be disabled and its owner told.
	DisableEndpoint bool
}

// Classify reads the answer to a callback. It is pure; now is for a Retry-After that names a date. With err, status and
// header are those of an answer that came before it, or zero. A complete head counts whatever became of the body.
func Classify(status int, header http.Header, err error, now time.Time) Verdict {
	if status == 0 {
		return classifyError(err)
	}
	control := strings.ToLower(strings.TrimSpace(header.Get("Webhook-Delivery")))
	delivered := status >= 200 && status <= 299
	switch {
	case delivered:
		return Verdict{Class: Delivered, DisableEndpoint: control == "disable"}
	case status == http.StatusGone, control == "disable":
		return Verdict{Class: Gone, DisableEndpoint: true}
	case control == "abort-message":
		return Verdict{Class: Aborted}
	}
	verdict := Verdict{Class: Failed, Retry: true}
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		verdict.RetryAfter = retryAfter(header.Get("Retry-After"), now)
		verdict.SlowDown = status == http.StatusTooManyRequests
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		verdict.SlowDown = true
	}
	return verdict
}

func classifyError(err error) Verdict {
	switch failureClass(err) {
	case ErrorBlocked:
		return Verdict{Class: Blocked}
	case ErrorTimeout:
		return Verdict{Class: Failed, Retry: true, SlowDown: true}
	default:
		return Verdict{Class: Failed, Retry: true}
	}
}

// retryAfter reads RFC 9110 section 10.2.3: seconds or a date. Nonsense and the past are zero.
func retryAfter(value string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

var defaultSchedule = []time.Duration{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 14 * time.Hour,
	20 * time.Hour, 24 * time.Hour,
}

// DefaultSchedule is the one Standard Webhooks suggests: the wait before each of 10 attempts, 75 h 35 min in all.
func DefaultSchedule() []time.Duration { return slices.Clone(defaultSchedule) }

// NextAttempt says how long to wait after attempt (counted from 1) came to verdict, and whether there is another one at
// all. Each wait of the schedule varies by a fifth either way; jitter returns numbers in [0, 1), and nil means none. An
// overloaded receiver gets at least a minute, and one that said when to come back gets at least that.
func NextAttempt(schedule []time.Duration, attempt int, verdict Verdict, jitter func() float64) (time.Duration, bool) {
	if !verdict.Retry || attempt < 0 || attempt >= len(schedule) {
		return 0, false
	}
	wait := schedule[attempt]
	if jitter != nil {
		wait = time.Duration(math.Round(float64(wait) * (1 - jitterSpread + 2*jitterSpread*jitter())))
	}
	if verdict.SlowDown {
		wait = max(wait, slowDown)
	}
	return max(wait, verdict.RetryAfter), true
}
