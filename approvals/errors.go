package approvals

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an [Error]. Each front renders it in its own words: HTTP as a
// problem document, Slack as a sentence, a job as done, retry or cancel.
type Code string

const (
	// CodeConflict means that the ticket has moved on: decided, claimed or done.
	CodeConflict Code = "conflict"
	// CodeAlreadyFinal means that the ticket is final and the verb came too late.
	CodeAlreadyFinal Code = "already_final"
	// CodeAlreadyDecided means that this person has already decided on this ticket.
	CodeAlreadyDecided Code = "already_decided"
	// CodeStale means that the decision was about another stage of the ticket.
	CodeStale Code = "stale"
	// CodeDigestMismatch means that what was decided on is not what the ticket holds.
	CodeDigestMismatch Code = "digest_mismatch"
	// CodeNotApprover means that the person is in no approver set of this stage.
	CodeNotApprover Code = "not_approver"
	// CodeSelfApproval means that the person asked for this call, or owns its caller.
	CodeSelfApproval Code = "self_approval"
	// CodeNotOperator means that only operators may do that.
	CodeNotOperator Code = "not_operator"
	// CodeNotRequester means that only the requester's own people may do that.
	CodeNotRequester Code = "not_requester"
	// CodeNeededLater means that the person's only useful vote is in a later stage.
	CodeNeededLater Code = "needed_later"
	// CodeNotNeeded means that the person's sets already have their approvals.
	CodeNotNeeded Code = "not_needed"
	// CodeAway means that the person is marked as away; their delegate decides.
	CodeAway Code = "away"
	// CodeCommentRequired means that the rule asks for a comment with this verdict.
	CodeCommentRequired Code = "comment_required"
	// CodeStalePolicy means that the policy of today demands more than was approved.
	CodeStalePolicy Code = "policy_tightened"
	// CodeExpired means that a deadline has passed by the database's clock.
	CodeExpired Code = "expired"
	// CodeNotDue means that a timer came early; see [Error.DueAt].
	CodeNotDue Code = "not_due"
	// CodeInvalid means that an argument breaks a limit of the domain.
	CodeInvalid Code = "invalid"
	// CodeUnsatisfiable means that nobody could ever meet the plan.
	CodeUnsatisfiable Code = "plan_unsatisfiable"
	// CodeNotFound means that there is no such ticket for whoever asks.
	CodeNotFound Code = "not_found"
)

// Error is a refusal by the domain. Message is fit for the person or program that is
// refused and names nothing they may not see.
type Error struct {
	Code    Code
	Message string
	// DueAt is set with CodeNotDue: when the timer should come back.
	DueAt time.Time
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is matches errors by code, so that errors.Is(err, &Error{Code: c}) works.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// ErrorCode returns the code of the domain error in err, or "" when there is none.
func ErrorCode(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
