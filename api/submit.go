package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
)

// SubmitTicket opens a ticket for a call, or finds the one that its Idempotency-Key has
// opened before.
func (o operations) SubmitTicket(ctx context.Context, r SubmitTicketRequestObject) (SubmitTicketResponseObject, error) {
	x := exchangeOf(ctx)
	request, err := o.prepare(ctx, x, *r.Body)
	if err != nil {
		return o.earlier(ctx, x, err)
	}
	late := !request.Submission.NotBefore.IsZero() && !request.Submission.NotBefore.After(o.now())
	if late {
		// Too late to be opened, and yet perhaps a retry of what was opened in time: that is
		// to find its ticket. A ticket that takes its own place finds what its key stands for,
		// and opens nothing.
		request.Submission.Supersedes = request.Submission.ID
	}
	result, err := o.store.Submit(ctx, request)
	if err != nil {
		return o.earlier(ctx, x, fmt.Errorf("submit a ticket: %w", refusedSubmit(err, late)))
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
	return o.submitted(ctx, x, t, result.Replayed, wait)
}

// earlier answers a submit that is refused today with the ticket that the very same submit
// has opened before, if it has: whoever never saw that answer must not believe that there is
// no ticket, because a rule, a right or a person has changed since.
func (o operations) earlier(ctx context.Context, x *exchange, refusal error) (SubmitTicketResponseObject, error) {
	key, err := idempotencyKey(x.key, x.body)
	if err != nil {
		return nil, refusal
	}
	t, err := o.store.Keyed(ctx, x.caller.Name, key)
	if err != nil || x.mayCall(t.Call) != nil {
		return nil, refusal
	}
	x.ticket, x.replayed = t.ID, true
	return o.submitted(ctx, x, t, true, waiting{})
}

// refusedSubmit says which ticket of a submit does not exist.
func refusedSubmit(err error, late bool) error {
	switch {
	case approvals.ErrorCode(err) != approvals.CodeNotFound:
		return err
	case late:
		return tooLate()
	}
	return failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/supersedes", Detail: "there is no such ticket of this caller"}})
}

func tooLate() *failure {
	return failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/not_before", Detail: "must be in the future"}})
}

// follow waits for a ticket that has just been opened. Whatever goes wrong with the wait,
// the ticket is there, and the client must hear of it: the answer is then the ticket as
// it was opened.
func (o operations) follow(ctx context.Context, x *exchange, t approvals.Ticket, wait waiting) (approvals.Ticket, waiting) {
	ref := db.Ref{ID: t.ID, Caller: x.caller.Name}
	version, _, err := o.await(ctx, x.who(), ref, wait, whenDone)
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

func (o operations) submitted(ctx context.Context, x *exchange, t approvals.Ticket, replayed bool, wait waiting) (answer, error) {
	a, err := o.ticketAnswer(ctx, x, http.StatusAccepted, t)
	if err != nil {
		return answer{}, err
	}
	a.locate(t.ID)
	a.header.Set("Operation-Location", o.publicURL+ticketPath(t.ID))
	if replayed {
		a.header.Set("Idempotent-Replayed", "true")
	}
	a.waited(wait)
	return a, nil
}

// prepare checks a submit and asks the policy what it takes. Nothing has been written
// when it fails, so that the key is free for the corrected request.
func (o operations) prepare(ctx context.Context, x *exchange, body SubmitRequest) (db.SubmitRequest, error) {
	call, err := o.call(x.config, x.caller, body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	submission, err := o.submission(ctx, x, call, body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	key, err := idempotencyKey(x.key, x.body)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	return o.planned(x, submission, key), nil
}

// planned asks the policy what a submission takes, whichever door it came through.
func (o operations) planned(x *exchange, submission approvals.Submission, key db.IdempotencyKey) db.SubmitRequest {
	now := o.now()
	return db.SubmitRequest{
		Submission: submission, Key: key, Directory: x.config.Directory().At(now),
		Plan:  x.config.PlanAt(x.caller, submission.OnBehalfOf, submission.Call, now, submission.NotBefore),
		Quota: x.caller.Limits.Open,
	}
}

// submission is what a caller asks for, checked: the call, and of body the words about it.
func (o operations) submission(ctx context.Context, x *exchange, call approvals.Call, body SubmitRequest) (approvals.Submission, error) {
	if err := x.mayCall(call); err != nil {
		return approvals.Submission{}, err
	}
	if err := x.maySupersede(body.Supersedes); err != nil {
		return approvals.Submission{}, err
	}
	back, err := o.callback(ctx, x, body.Callback)
	if err != nil {
		return approvals.Submission{}, err
	}
	person, err := checkWords(x.config.Directory(), body)
	if err != nil {
		return approvals.Submission{}, err
	}
	earliest, err := o.schedule(body)
	if err != nil {
		return approvals.Submission{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return approvals.Submission{}, fmt.Errorf("make a ticket id: %w", err)
	}
	return approvals.Submission{
		ID: approvals.TicketID(id), Caller: x.caller.Name, Ref: x.ref, OnBehalfOf: person, Call: call,
		Justification: body.Justification, Metadata: body.Metadata, Callback: back,
		NotBefore: earliest, Supersedes: body.Supersedes,
	}, nil
}

// schedule checks when a call is to be made at the earliest, and which ticket's place it
// takes. Whether that time is still to come is for the submit to say.
func (o operations) schedule(body SubmitRequest) (earliest time.Time, err error) {
	var items []ProblemItem
	refuse := func(pointer, detail string) { items = append(items, ProblemItem{Pointer: pointer, Detail: detail}) }
	if body.NotBefore != "" {
		earliest, err = time.Parse(time.RFC3339, body.NotBefore)
		switch {
		case err != nil || earliest.Year() < 1970:
			refuse("#/not_before", "must be a time such as 2026-03-02T22:00:00Z")
		case earliest.After(o.now().Add(approvals.MaxDelay)):
			refuse("#/not_before", fmt.Sprintf("must be at most %d days ahead", approvals.MaxDelay/(24*time.Hour)))
		}
	}
	if body.Supersedes != "" && !approvals.ValidTicketID(body.Supersedes) {
		refuse("#/supersedes", "is not the id of a ticket")
	}
	if len(items) > 0 {
		return time.Time{}, failItems(codeValidationFailed, items)
	}
	return earliest.UTC(), nil
}
