package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
)

// SubmitTicket opens a ticket for a call, or finds the one that its Idempotency-Key has
// opened before.
func (o operations) SubmitTicket(ctx context.Context, r SubmitTicketRequestObject) (SubmitTicketResponseObject, error) {
	x := exchangeOf(ctx)
	request, err := o.prepare(x, *r.Body)
	if err != nil {
		return nil, err
	}
	result, err := o.store.Submit(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("submit a ticket: %w", err)
	}
	t := result.Ticket
	x.ticket, x.replayed = t.ID, result.Replayed
	wait, err := o.waitOf("", r.Params.Prefer)
	if err != nil {
		return nil, err
	}
	if wait.length > 0 && !t.Done() {
		t, wait = o.follow(ctx, x, t, wait)
	}
	return o.submitted(x, t, result.Replayed, wait), nil
}

// follow waits for a ticket that has just been opened. Whatever goes wrong with the wait,
// the ticket is there, and the client must hear of it: the answer is then the ticket as
// it was opened.
func (o operations) follow(ctx context.Context, x *exchange, t approvals.Ticket, wait waiting) (approvals.Ticket, waiting) {
	ref := db.Ref{ID: t.ID, Caller: x.caller.Name}
	version, _, err := o.await(ctx, ref, wait, whenDone)
	if err != nil {
		return t, waiting{}
	}
	if version == t.Version {
		return t, wait
	}
	after, err := o.store.Ticket(ctx, ref)
	if err != nil {
		return t, waiting{}
	}
	return after, wait
}

func (o operations) submitted(x *exchange, t approvals.Ticket, replayed bool, wait waiting) answer {
	a := o.ticketAnswer(http.StatusAccepted, t, x.config.Directory())
	a.locate(t.ID)
	a.header.Set("Operation-Location", o.publicURL+ticketPath(t.ID))
	if replayed {
		a.header.Set("Idempotent-Replayed", "true")
	}
	a.waited(wait)
	return a
}

// prepare checks a submit and asks the policy what it takes. Nothing has been written
// when it fails, so that the key is free for the corrected request.
func (o operations) prepare(x *exchange, body SubmitRequest) (db.SubmitRequest, error) {
	call, err := o.call(x, body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	back, err := o.callback(x, body.Callback)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	person, err := checkWords(x.config.Directory(), body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	key, err := idempotencyKey(x.key, x.body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return db.SubmitRequest{}, fmt.Errorf("make a ticket id: %w", err)
	}
	return db.SubmitRequest{
		Submission: approvals.Submission{
			ID: approvals.TicketID(id), Caller: x.caller.Name, OnBehalfOf: person, Call: call,
			Justification: body.Justification, Metadata: body.Metadata, Callback: back,
		},
		Plan: x.config.Plan(x.caller, person, call), Directory: x.config.Directory(), Key: key,
	}, nil
}
