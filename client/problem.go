package client

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Code is the word of a problem document that says what went wrong. A Code is an error, so that
// errors.Is(err, client.ErrNotFound) holds for any ProblemError of that code. Codes without a constant here are as good:
// errors.Is(err, client.Code("scope_missing")).
type Code string

// Error returns the code.
func (c Code) Error() string { return string(c) }

// The codes that programs most often tell apart.
const (
	ErrUnauthenticated       Code = "unauthenticated"
	ErrNotFound              Code = "not_found"
	ErrUpstreamNotAllowed    Code = "upstream_not_allowed"
	ErrMethodNotAllowed      Code = "upstream_method_not_allowed"
	ErrNotCaller             Code = "not_a_caller"
	ErrNotPerson             Code = "not_a_person"
	ErrNotApprover           Code = "not_approver"
	ErrSelfApproval          Code = "self_approval"
	ErrIdempotencyInProgress Code = "idempotency_in_progress"
	ErrIdempotencyKeyReused  Code = "idempotency_key_reused"
	ErrAlreadyFinal          Code = "already_final"
	ErrAlreadyDecided        Code = "already_decided"
	ErrConflict              Code = "conflict"
	ErrDigestMismatch        Code = "digest_mismatch"
	ErrNoResult              Code = "no_result"
	ErrPreconditionFailed    Code = "precondition_failed"
	ErrValidationFailed      Code = "validation_failed"
	ErrCallInvalid           Code = "call_invalid"
	ErrCallbackRefused       Code = "callback_refused"
	ErrCallbackUnverified    Code = "callback_unverified"
	ErrPlanUnsatisfiable     Code = "plan_unsatisfiable"
	ErrQuotaExceeded         Code = "quota_exceeded"
	ErrUnavailable           Code = "unavailable"
	ErrOverloaded            Code = "overloaded"
	ErrNotReady              Code = "not_ready"
)

// ProblemError is an answer that is a problem document (RFC 9457), or no answer of Countersign at all: then Code is
// empty and Status what whoever answered said.
type ProblemError struct {
	// Status is that of the answer.
	Status int `json:"status"`
	// Code says what went wrong, for programs.
	Code Code `json:"code"`
	// Type is the URI reference of the kind of problem; Title is its name for people.
	Type  string `json:"type"`
	Title string `json:"title"`
	// Detail is about this problem in particular.
	Detail string `json:"detail"`
	// Instance is the path that was asked for; RequestID is what to quote when asking for help.
	Instance  string `json:"instance"`
	RequestID string `json:"request_id"`
	// Errors say where the problems are.
	Errors []ProblemItem `json:"errors"`
	// Allowed lists what would have been allowed, where that helps.
	Allowed []string `json:"allowed"`
	// State is the ticket's, where the problem depends on it.
	State State `json:"state"`
	// ViolatedPolicies are the quotas that are used up.
	ViolatedPolicies []string `json:"violated-policies"`
	// RetryAfter is when asking again is worth while. Zero: nothing was said about it.
	RetryAfter time.Duration `json:"-"`
}

// ProblemItem is the place of a problem: a JSON pointer into the body, a query parameter or a header.
type ProblemItem struct {
	Pointer   string `json:"pointer"`
	Parameter string `json:"parameter"`
	Header    string `json:"header"`
	Detail    string `json:"detail"`
}

// Error is one line.
func (e *ProblemError) Error() string {
	var b strings.Builder
	if e.Code == "" {
		fmt.Fprintf(&b, "HTTP status %d", e.Status)
	} else {
		fmt.Fprintf(&b, "%s (%d)", e.Code, e.Status)
	}
	if text := e.Detail; text != "" {
		b.WriteString(": " + text)
	} else if e.Title != "" {
		b.WriteString(": " + e.Title)
	}
	for _, item := range e.Errors {
		if item.Detail == "" || !strings.HasSuffix(e.Detail, item.Detail) {
			b.WriteString("; " + item.place() + item.Detail)
		}
	}
	if e.RequestID != "" {
		b.WriteString(" (request " + e.RequestID + ")")
	}
	return oneLine(b.String())
}

func (i ProblemItem) place() string {
	for _, p := range []string{i.Pointer, i.Parameter, i.Header} {
		if p != "" {
			return p + ": "
		}
	}
	return ""
}

// Is holds for the problem's Code.
func (e *ProblemError) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code != "" && code == e.Code
}

// problemOf reads an answer that is no success.
func problemOf(status int, header http.Header, body []byte, now time.Time) *ProblemError {
	e := &ProblemError{}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || media != "application/problem+json" || json.Unmarshal(body, e) != nil {
		e = &ProblemError{Detail: "the answer is no problem document of Countersign: is the address right?"}
	}
	e.Status, e.RetryAfter = status, retryAfter(header, now)
	return e
}

// retryAfter reads Retry-After, which is seconds or a date (RFC 9110 section 10.2.3). Zero: there is none.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// oneLine bounds a text and takes out of it what could be read as another line, or written over one.
func oneLine(text string) string {
	const most = 2000
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
