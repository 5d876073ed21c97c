package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"countersign/approvals"
	"countersign/db"
)

// GetTicketResult reads upstream's answer, as JSON that describes it or raw.
func (o operations) GetTicketResult(ctx context.Context, r GetTicketResultRequestObject) (GetTicketResultResponseObject, error) {
	x := exchangeOf(ctx)
	raw, known, err := resultForm(r.Params)
	if err != nil {
		return nil, err
	}
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
	tag := etag(version)
	if raw {
		tag = rawTag(version)
	}
	if known.lists(tag) {
		return unchanged(tag), nil
	}
	result, err := o.readResult(ctx, x, ref)
	switch {
	case approvals.ErrorCode(err) == approvals.CodeNotFound:
		f := fail(codeNoResult, "the ticket is %s and has no upstream answer", state)
		f.state = state
		return nil, f
	case err != nil:
		return nil, fmt.Errorf("read the result of ticket %s: %w", ref.ID, err)
	}
	if known.any {
		return unchanged(tag), nil
	}
	if raw {
		return rawResult(result, tag), nil
	}
	a := private(renderResult(result))
	a.revalidate(version)
	a.header["AsyncResult"] = []string{strconv.Itoa(result.Status)}
	return a, nil
}

// resultForm says whether the body alone is asked for, and what the client has already.
func resultForm(p GetTicketResultParams) (raw bool, known etags, err error) {
	if p.Raw != "" && p.Raw != "true" && p.Raw != "false" {
		return false, etags{}, badParameter("raw", "raw must be true or false")
	}
	known, err = parseETags("If-None-Match", p.IfNoneMatch)
	return p.Raw == "true", known, err
}

// unchanged says that the client has it already.
func unchanged(tag string) answer {
	a := answer{status: http.StatusNotModified, header: http.Header{"Cache-Control": {"private, no-cache"}}}
	a.header["ETag"] = []string{tag}
	return a
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
