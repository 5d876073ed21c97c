package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/db"
)

// ended answers with what the upstream of a ticket has said, or with the reason why it said
// nothing.
func (o operations) ended(c echo.Context, x *exchange, t approvals.Ticket) error {
	result, err := o.readResult(c.Request().Context(), x, db.Ref{ID: t.ID, Caller: x.caller.Name})
	switch {
	case approvals.ErrorCode(err) == approvals.CodeNotFound:
		return unanswered(t)
	case err != nil:
		return fmt.Errorf("read the result of ticket %s: %w", t.ID, err)
	case result.Truncated:
		return ofTicket(fail(codeAnswerTruncated, "the upstream answered %d, and not all of its answer is there; what there is: %s/result",
			result.Status, ticketPath(t.ID)), t)
	}
	h := o.upstreamHeader(c, x, t, result.Status, result.Headers)
	if x.replayed {
		h.Set("Idempotent-Replayed", "true")
	}
	if !bodiless(c.Request().Method, result.Status) {
		h.Set("Content-Length", strconv.Itoa(len(result.Body)))
	}
	c.Response().WriteHeader(result.Status)
	if bodiless(c.Request().Method, result.Status) {
		return nil
	}
	_, x.writeErr = c.Response().Write(result.Body)
	return nil
}

// bodiless reports whether an answer has no body, whatever the upstream sent (RFC 9110
// section 6.4.1).
func bodiless(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

// upstreamHeader makes the header of the answer that of the upstream alone, but for the name
// of the ticket, and that nobody keeps it: nothing else of what our other answers have belongs here.
func (o operations) upstreamHeader(c echo.Context, x *exchange, t approvals.Ticket, status int, headers []approvals.Header) http.Header {
	h := c.Response().Header()
	x.request = requestID(c)
	clear(h)
	upstream, known := x.config.Upstream(t.Call.Upstream)
	for _, f := range headers {
		if own(f.Name) || ofConnection[strings.ToLower(f.Name)] {
			continue
		}
		if redirected(status) && strings.EqualFold(f.Name, echo.HeaderLocation) {
			if !known {
				continue
			}
			if f.Value = o.frontLocation(c, upstream, t.Call, f.Value); f.Value == "" {
				continue
			}
		}
		h.Add(f.Name, f.Value)
	}
	if h.Get("Content-Type") == "" {
		h["Content-Type"] = nil // or net/http would guess one
	}
	if !unshared(h.Values("Cache-Control")) {
		h.Set("Cache-Control", "no-store")
	}
	h.Set(ticketField, t.ID)
	return h
}

// unshared reports whether an answer says itself that nobody but its client may keep it. One that
// does not is not to be kept at all: by what it lacks, or calls public, it would be handed to
// others without a key, and without a ticket.
func unshared(cacheControl []string) bool {
	for _, directive := range splitList(strings.Join(cacheControl, ", ")) {
		if strings.EqualFold(directive, "private") || strings.EqualFold(directive, "no-store") {
			return true
		}
	}
	return false
}

// ofConnection are fields that frame an answer. None should be in one that is stored.
var ofConnection = map[string]bool{
	"connection": true, "content-length": true, "keep-alive": true, "te": true, "trailer": true,
	"transfer-encoding": true, "upgrade": true,
}

// endings say what a ticket without an answer is to a client of the front, by the code of its
// problem.
var endings = map[string]string{
	"denied": codeDenied, "denied_by_policy": codeDenied,
	"expired": codeExpired, "approval_stale": codeExpired,
	"binding_violation": codeBindingViolation, "upstream_unreachable": codeUpstreamUnreachable,
	"resolved_as_failed": codeNoResult,
}

// unanswered is the problem of a ticket that ended without an answer.
func unanswered(t approvals.Ticket) error {
	detail := "the ticket is " + string(t.State)
	var code string
	if t.Problem != nil {
		code = endings[t.Problem.Code]
		detail = t.Problem.Detail
	}
	switch {
	case code != "":
	case t.State == approvals.Denied:
		code = codeDenied
	case t.State == approvals.Expired:
		code = codeExpired
	case t.State == approvals.Cancelled:
		code = codeCancelled
	case t.State == approvals.OutcomeUnknown:
		code = codeOutcomeUnknown
	case t.State == approvals.Failed:
		code = codeCallFailed
	default: // an operator has said that it succeeded
		code = codeNoResult
	}
	if t.State == approvals.OutcomeUnknown { // whatever the last try was refused for
		code = codeOutcomeUnknown
	}
	return ofTicket(fail(code, "%s", detail), t)
}

// ofTicket marks a problem as one about a ticket.
func ofTicket(f *failure, t approvals.Ticket) error {
	f.state, f.instance = t.State, ticketPath(t.ID)
	return f.with(ticketField, t.ID).with(stateField, string(t.State)).
		with("Link", "<"+ticketPath(t.ID)+`>; rel="related"`)
}
