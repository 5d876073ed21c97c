package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"countersign/approvals"
	"countersign/db"
)

// GetTicketResult reads upstream's answer.
func (o operations) GetTicketResult(ctx context.Context, r GetTicketResultRequestObject) (GetTicketResultResponseObject, error) {
	x := exchangeOf(ctx)
	ref, err := o.find(ctx, x, r.ID)
	if err != nil {
		return nil, err
	}
	if err := o.mayReadResult(ctx, x, ref); err != nil {
		return nil, err
	}
	version, state, err := o.store.Version(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("read ticket %s: %w", ref.ID, err)
	}
	if !state.Final() {
		return o.notYet(ctx, x, ref)
	}
	result, err := o.store.Result(ctx, ref)
	switch {
	case approvals.ErrorCode(err) == approvals.CodeNotFound:
		f := fail(codeNoResult, "the ticket is %s and has no upstream answer", state)
		f.state = state
		return nil, f
	case err != nil:
		return nil, fmt.Errorf("read the result of ticket %s: %w", ref.ID, err)
	}
	a := private(renderResult(result))
	a.revalidate(version)
	a.header["AsyncResult"] = []string{strconv.Itoa(result.Status)}
	return a, nil
}

// notYet answers with the ticket. It may have ended in between; the client sees that in
// the ticket and comes back.
func (o operations) notYet(ctx context.Context, x *exchange, ref db.Ref) (GetTicketResultResponseObject, error) {
	t, err := o.store.Ticket(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("read ticket %s: %w", ref.ID, err)
	}
	a, err := o.ticketAnswer(ctx, x, http.StatusAccepted, t)
	if err != nil {
		return nil, err
	}
	a.locate(t.ID)
	return a, nil
}

func renderResult(r approvals.Result) Result {
	body := r.Render()
	out := Result{
		Status: body.Status, Headers: make([]Header, 0, len(body.Headers)), Body: body.Body, BodyBase64: body.BodyBase64,
		Truncated: body.Truncated, Size: body.Size, Digest: body.Digest, DurationMs: body.DurationMS,
		ExecutedAt: Timestamp{body.ExecutedAt},
	}
	for _, h := range body.Headers {
		out.Headers = append(out.Headers, Header(h))
	}
	return out
}
