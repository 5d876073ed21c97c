package client

import (
	"errors"
	"fmt"
)

// TicketError is a ticket that is not what was hoped for. It is what all errors about the end of a ticket unwrap to:
//
//	var te *client.TicketError
//	if errors.As(err, &te) { log(te.Ticket.ID) }
type TicketError struct {
	// Ticket as it was last seen.
	Ticket Ticket
}

// Error says what became of the ticket, in one line.
func (e *TicketError) Error() string {
	if e.Ticket.State == "" {
		return oneLine("ticket " + e.Ticket.ID + " was not read")
	}
	out := "ticket " + e.Ticket.ID + " is " + string(e.Ticket.State)
	if p := e.Ticket.Error; p != nil {
		out += fmt.Sprintf(" (%s)", p.Code)
		if p.Detail != "" {
			out += ": " + p.Detail
		}
	}
	return oneLine(out)
}

// The ends of a ticket that are no success. Each unwraps to *TicketError.
type (
	// DeniedError means that an approver or a rule refused the call. Nothing was sent.
	DeniedError struct{ TicketError }
	// ExpiredError means that nobody decided, or it was not begun, in time. Nothing was sent.
	ExpiredError struct{ TicketError }
	// CancelledError means that the call was withdrawn, or superseded by another ticket. Nothing was sent.
	CancelledError struct{ TicketError }
	// FailedError means that the upstream answered outside of what counts as success, or was provably never reached;
	// Ticket.ExecutionStartedAt tells which.
	FailedError struct{ TicketError }
	// OutcomeUnknownError means that the call was sent, or may have been, and no answer was seen. Do not repeat it blindly: an
	// operator will resolve the ticket.
	OutcomeUnknownError struct{ TicketError }
	// TruncatedError means that there is an answer, but it was larger than the upstream's limit and not all of it was kept.
	TruncatedError struct{ TicketError }
	// NoAnswerError means that the ticket succeeded, on the word of an operator, and there is no answer to be read.
	NoAnswerError struct{ TicketError }
	// NotDoneError means that the wait ended before the ticket did. It goes on: wait for Ticket.ID again. It unwraps to the reason
	// as well, such as context.DeadlineExceeded.
	NotDoneError struct {
		TicketError
		Reason error
	}
)

// Unwrap returns the *TicketError.
func (e *DeniedError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *ExpiredError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *CancelledError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *FailedError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *OutcomeUnknownError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *TruncatedError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError.
func (e *NoAnswerError) Unwrap() error { return &e.TicketError }

// Unwrap returns the *TicketError and the reason.
func (e *NotDoneError) Unwrap() []error { return []error{&e.TicketError, e.Reason} }

// Error says that the answer is not whole.
func (e *TruncatedError) Error() string {
	return "ticket " + e.Ticket.ID + ": the upstream's answer was cut at its limit; read what there is with Result"
}

// Error says why there is nothing to be read.
func (e *NoAnswerError) Error() string {
	return "ticket " + e.Ticket.ID + " was resolved as succeeded; the upstream's answer was never seen"
}

// Error says where the ticket is and why the wait ended.
func (e *NotDoneError) Error() string {
	return fmt.Sprintf("%s, not done: %v", e.TicketError.Error(), e.Reason)
}

// Err returns nil for a ticket that succeeded, the error for its end otherwise, and a *NotDoneError while it has not
// ended. A final state that this package does not know is a plain *TicketError.
func (t Ticket) Err() error {
	e := TicketError{t}
	switch {
	case !t.Done:
		return &NotDoneError{e, errNotDone}
	case t.State == Succeeded:
		return nil
	case t.State == Denied:
		return &DeniedError{e}
	case t.State == Expired:
		return &ExpiredError{e}
	case t.State == Cancelled:
		return &CancelledError{e}
	case t.State == Failed:
		return &FailedError{e}
	case t.State == OutcomeUnknown:
		return &OutcomeUnknownError{e}
	}
	return &e
}

var errNotDone = errors.New("the ticket has not ended")
