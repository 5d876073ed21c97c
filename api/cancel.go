package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"countersign/approvals"
)

// CancelTicket withdraws a call, or notes that its caller would like to.
func (o operations) CancelTicket(ctx context.Context, r CancelTicketRequestObject) (CancelTicketResponseObject, error) {
	x := exchangeOf(ctx)
	ref, err := o.find(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	expected, err := parseETags("If-Match", r.Params.IfMatch)
	if err != nil {
		return nil, err
	}
	var reason string
	if r.Body != nil {
		reason = r.Body.Reason
	}
	t, err := o.store.Advance(ctx, ref, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if expected.given && !expected.strong(t.Version) {
			return approvals.Transition{}, changed(t)
		}
		return t.Cancel(x.actor(), reason, now)
	})
	if err != nil {
		return nil, fmt.Errorf("cancel ticket %s: %w", ref.ID, withState(err, t.State))
	}
	if t.State != approvals.Executing {
		return o.ticketAnswer(ctx, x, http.StatusOK, t)
	}
	a, err := o.ticketAnswer(ctx, x, http.StatusAccepted, t)
	if err != nil {
		return nil, err
	}
	a.locate(t.ID)
	return a, nil
}

func changed(t approvals.Ticket) error {
	f := fail(codePreconditionFailed, "the ticket is at version %d", t.Version)
	f.state = t.State
	f.header = http.Header{"ETag": {etag(t.Version)}}
	return f
}

// withState adds to a refusal the state that is the reason for it, when it is known.
func withState(err error, state approvals.State) error {
	f := failureOf(err)
	switch f.code {
	case codeAlreadyFinal, codeConflict, codeExpired, codeStale:
		f.state = state
		return f
	}
	return err
}
