package slack

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"
)

// Class says what a failed call means for whoever made it.
type Class string

const (
	// Permanent means that this call will never work: give up this delivery.
	Permanent Class = "permanent"
	// App means that no call will work until an operator does something: stop and alarm.
	App Class = "app"
	// Retryable means that it was not done, or may be done twice without harm: try again.
	Retryable Class = "retryable"
	// Ambiguous means that a message may have been posted: find out before posting again.
	Ambiguous Class = "ambiguous"
	// RateLimited means to wait for Error.RetryAfter. A message may have been posted even
	// so; whoever can find out should.
	RateLimited Class = "rate_limited"
)

// Error is a failed call to Slack. It never holds the token.
type Error struct {
	Class Class
	// Method is the Web API method, or "response_url".
	Method string
	// Code is Slack's word for it, such as "channel_not_found", or one of ours: "http_503",
	// "network", "timeout", "canceled", "bad_answer", "empty_answer", "refused_here",
	// "too_many_pages", "no_token".
	Code string
	// RetryAfter is set with RateLimited: what Slack asked for, at most an hour, or a minute
	// when it did not say, as for the limit on messages of a whole workspace.
	RetryAfter time.Duration
	// Details are Slack's own explanations, such as which block is invalid, at most 20. They
	// can repeat what was sent: for our log only.
	Details []string

	cause error
}

// Error names the method, the class and the code.
func (e *Error) Error() string {
	text := "slack " + e.Method + ": " + e.Code + " (" + string(e.Class) + ")"
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

const (
	unknownRetryAfter = time.Minute
	maxRetryAfter     = time.Hour
)

// appCodes stop everything until an operator has done something.
var appCodes = []string{
	"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "missing_scope",
	"not_allowed_token_type", "team_access_not_granted", "org_login_required", "accesslimited", "enterprise_is_restricted",
	// Of refreshing a token: the pair that we hold leads nowhere any more.
	"invalid_refresh_token", "invalid_client_id", "bad_client_secret", "token_rotation_not_enabled", "invalid_grant",
}

// doubtful are answers after which a message may have been posted all the same.
var doubtful = []string{
	"internal_error", "fatal_error", "service_unavailable", "request_timeout", "duplicate_message",
	"duplicate_message_not_found", "duplicate_channel_not_found",
}

// passing are answers that say that nothing was done and that this will change.
var passing = []string{"team_added_to_org", "update_failed", "external_channel_migrating"}

// classify sorts an error of a call. once says that doing it twice does harm.
func classify(method string, once bool, err error) *Error {
	e := &Error{Method: method, cause: err}
	var (
		limited *slackgo.RateLimitedError
		said    slackgo.SlackErrorResponse
		status  slackgo.StatusCodeError
	)
	var unmade *tokenError
	switch {
	case errors.As(err, &unmade):
		e.unmade(unmade)
	case errors.As(err, &limited):
		e.limit("ratelimited", limited.RetryAfter)
	case errors.As(err, &said):
		e.said(said, once)
	case errors.As(err, &status):
		e.status(status.Code, once)
	default:
		e.lost(err, once)
	}
	return e
}

// unmade sorts a call that was not made for want of a token: whatever kept us from having
// one, nothing was posted.
func (e *Error) unmade(err *tokenError) {
	var said *Error
	e.Class, e.Code = Retryable, "no_token"
	if errors.As(err.cause, &said) && said.Class == App {
		e.Class = App
	}
}

func (e *Error) limit(code string, after time.Duration) {
	if after <= 0 {
		after = unknownRetryAfter
	}
	e.Class, e.Code, e.RetryAfter = RateLimited, code, min(after, maxRetryAfter)
}

var codePattern = regexp.MustCompile(`^[a-z0-9_.:-]{1,80}$`)

// said sorts an answer with ok:false.
func (e *Error) said(r slackgo.SlackErrorResponse, once bool) {
	e.cause = nil // its text is the code, and nothing of the answer that is not a code
	e.Code = r.Err
	if !codePattern.MatchString(e.Code) {
		e.Code = "unreadable_code"
	}
	e.Details = r.ResponseMetadata.Messages[:min(len(r.ResponseMetadata.Messages), 20)]
	if r.Needed != "" {
		e.Details = append(slices.Clone(e.Details), "needed: "+r.Needed, "provided: "+r.Provided)
	}
	switch {
	case e.Code == "ratelimited" || e.Code == "rate_limited" || e.Code == "message_limit_exceeded":
		e.limit(e.Code, 0)
	case slices.Contains(appCodes, e.Code):
		e.Class = App
	case slices.Contains(doubtful, e.Code):
		e.Class = doubt(once)
	case slices.Contains(passing, e.Code):
		e.Class = Retryable
	default:
		e.Class = Permanent
	}
}

// status sorts an answer that is not 200. Slack itself answers so only with 429 and when
// it is in trouble; other statuses come from something in between.
func (e *Error) status(code int, once bool) {
	switch {
	case code == http.StatusTooManyRequests:
		e.limit("http_429", 0)
		return
	case code >= 500 || code == http.StatusRequestTimeout:
		e.Class = doubt(once)
	default:
		e.Class = Retryable
	}
	e.Code = "http_" + strconv.Itoa(code)
}

// lost sorts calls without an answer that can be read.
func (e *Error) lost(err error, once bool) {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
		number *strconv.NumError
		dial   *net.OpError
		name   *net.DNSError
	)
	e.Class = doubt(once)
	switch {
	case errors.As(err, &number): // the only number read is that of Retry-After
		e.limit("ratelimited", 0)
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, errTooLong), errors.Is(err, errNoAnswer):
		e.Code = "bad_answer"
	case errors.Is(err, context.DeadlineExceeded):
		e.Code = "timeout"
	case errors.Is(err, context.Canceled):
		e.Code = "canceled"
	case errors.As(err, &name), errors.As(err, &dial) && dial.Op == "dial":
		e.Class, e.Code = Retryable, "network" // nothing left this machine
	default:
		e.Code = "network"
	}
}

func doubt(once bool) Class {
	if once {
		return Ambiguous
	}
	return Retryable
}

// refusedHere is for calls that are not made because they could only fail.
func refusedHere(method string, cause error) *Error {
	return &Error{Class: Permanent, Method: method, Code: "refused_here", cause: cause}
}

// without takes tokens out of an error that repeats them, as an answer might make it do:
// those that were used, and whatever else looks like one.
func (e *Error) without(tokens []Secret) *Error {
	clean := func(s string) string {
		for _, token := range tokens {
			s = strings.ReplaceAll(s, string(token), masked)
		}
		return tokenPattern.ReplaceAllString(s, masked)
	}
	if e.cause != nil && clean(e.cause.Error()) != e.cause.Error() {
		e.cause = errors.New(clean(e.cause.Error()))
	}
	for i, d := range e.Details {
		e.Details[i] = clean(d)
	}
	e.Code = clean(e.Code)
	return e
}

// tokenPattern finds tokens of all kinds: of bots, of apps, of those that rotate and those
// that they are refreshed with.
var tokenPattern = regexp.MustCompile(`xox[a-z]\.?[A-Za-z0-9.-]*-[A-Za-z0-9-]+|xapp-[A-Za-z0-9-]+`)
