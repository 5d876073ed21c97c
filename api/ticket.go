package api

import (
	"context"
	"fmt"
	"net/http"
)

// GetTicket reads a ticket, waiting for it when asked to.
func (o operations) GetTicket(ctx context.Context, r GetTicketRequestObject) (GetTicketResponseObject, error) {
	x := exchangeOf(ctx)
	ref, err := o.find(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	wait, err := o.waitOf(r.Params.Wait, r.Params.Prefer)
	if err != nil {
		return nil, err
	}
	known, err := parseETags("If-None-Match", r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	if known.given || wait.length > 0 {
		// The version alone says whether there is anything to tell; a ticket is only read
		// when there is.
		until := whenDone
		if known.given {
			until = whenOther(known)
		}
		version, state, err := o.await(ctx, x.who(), ref, wait, until)
		if err != nil {
			return nil, fmt.Errorf("wait for ticket %s: %w", ref.ID, err)
		}
		if known.weak(version) {
			a := answer{status: http.StatusNotModified, header: make(http.Header)}
			a.revalidate(version)
			a.retryAfter(o.sinceID(ref.ID, state))
			a.waited(wait)
			return a, nil
		}
	}
	t, err := o.store.Ticket(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("read ticket %s: %w", ref.ID, err)
	}
	a, err := o.ticketAnswer(ctx, x, http.StatusOK, t)
	if err != nil {
		return nil, err
	}
	a.waited(wait)
	return a, nil
}
