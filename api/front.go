package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
)

const (
	// frontPath is where calls come through the transparent front: the request itself is the
	// call.
	frontPath = "/proxy/"
	// ticketField and stateField tell the answers of the front apart: an upstream's has the
	// first one only, one of ours about a ticket has both. Fields of these names never come
	// from an upstream.
	ticketField, stateField = "Countersign-Ticket", "Countersign-State"
	// lastResort bounds what is written to a client where nothing else does any more.
	lastResort = 10 * time.Minute
)

// routeFront adds the front. Its routes are not generated: the call is read from the request
// as it came, and nothing that reads parameters or bodies may stand before that.
func (s *Server) routeFront(e *echo.Echo) {
	for _, method := range policy.Methods() {
		who := accessOf(frontOperation(method))
		e.Add(method, frontPath+":upstream/*", operations{s}.front, noStore, s.authenticate, s.limited(who.class), who.admit)
	}
	for _, short := range []string{strings.TrimSuffix(frontPath, "/"), frontPath, frontPath + ":upstream"} {
		e.RouteNotFound(short, pathless)
	}
}

// pathless says what is missing of an address that the front would take. A base URL without
// its slash is an easy mistake, and to most clients no different.
func pathless(c echo.Context) error {
	at := c.Request().URL.EscapedPath()
	if name := strings.TrimPrefix(at, frontPath); name == "" || len(name) >= len(at) || len(name) > maxEcho {
		return fail(codeNotFound, "the front takes calls at %s{upstream}/{path}", frontPath)
	}
	return fail(codeNotFound, "there is no path of a call here: write %s/ and the path", at)
}

// frontOperation is the operation of openapi.yaml for a method.
func frontOperation(method string) string { return "proxy" + method[:1] + strings.ToLower(method[1:]) }

// fronted is a call that came through the front, checked and planned.
type fronted struct {
	request  db.SubmitRequest
	upstream policy.Upstream
	wait     waiting
}

// front takes a request as the call to be made. What is allowed outright is made and
// answered as the upstream does; anything else is answered like a submit.
func (o operations) front(c echo.Context) error {
	ctx, x := c.Request().Context(), exchangeOf(c.Request().Context())
	f, err := o.readFront(c, x)
	if err != nil {
		return frontFailure(err)
	}
	// What is waited for below has bounds of its own.
	_ = http.NewResponseController(c.Response()).SetWriteDeadline(o.now().Add(lastResort))
	result, err := o.open(ctx, f.request)
	if err != nil {
		// As in earlier: what the same call has opened before is there, whatever is refused today.
		before, missing := o.store.Keyed(c.Request().Context(), x.caller.Name, f.request.Key)
		if missing != nil {
			return frontFailure(fmt.Errorf("submit a ticket: %w", refusedSubmit(err, false)))
		}
		result = db.SubmitResult{Ticket: before, Replayed: true}
	}
	t := result.Ticket
	x.ticket, x.replayed = t.ID, result.Replayed
	if f.request.Direct && !result.Replayed && t.State == approvals.Approved {
		if answered, err := o.relay(c, x, t, f); answered || err != nil {
			return err
		}
	}
	return o.frontAnswer(c, x, t, f)
}

func (o operations) open(ctx context.Context, request db.SubmitRequest) (db.SubmitResult, error) {
	bounded, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	return o.store.Submit(bounded, request)
}

// frontAnswer waits for the end of a ticket, as long as there is reason to, and answers with
// what the upstream said, why it said nothing, or the ticket as it is.
func (o operations) frontAnswer(c echo.Context, x *exchange, t approvals.Ticket, f fronted) error {
	ctx := c.Request().Context()
	length := f.wait.length
	if t.Plan.Action == approvals.ActionAllow { // nobody is asked: whoever makes the call is soon done
		length = max(length, f.upstream.Timeout)
	}
	if length > 0 && !t.Done() {
		t, _ = o.follow(ctx, x, t, waiting{length: length})
	}
	if t.Done() {
		return o.ended(c, x, t)
	}
	a, err := o.submitted(ctx, x, t, x.replayed, f.wait)
	if err != nil {
		return err
	}
	a.header.Set(ticketField, t.ID)
	a.header.Set(stateField, string(t.State))
	return a.write(c.Response())
}

// readFront makes the submission of a request.
func (o operations) readFront(c echo.Context, x *exchange) (fronted, error) {
	r := c.Request()
	if ids, unfit := r.Context().Value(unfitRequestID{}).([]string); unfit {
		r.Header[echo.HeaderXRequestID] = ids
	}
	name, path, query, err := readTarget(r.RequestURI)
	if err != nil {
		return fronted{}, err
	}
	upstream, err := upstreamOf(x.config, x.caller, name, r.Method)
	if err != nil {
		return fronted{}, err
	}
	words, err := readWords(r.Header)
	if err != nil {
		return fronted{}, err
	}
	call := approvals.Call{Upstream: upstream.Name, Method: r.Method, Path: path, Query: query}
	if call.Body, err = readBody(r); err != nil {
		return fronted{}, err
	}
	var items []ProblemItem
	call.Headers, items = frontHeaders(upstream, r, len(call.Body) > 0)
	if call, err = o.sendable(call, items); err != nil {
		return fronted{}, err
	}
	wait, err := o.waitOf("", preferredWait(r.Header))
	if err != nil {
		return fronted{}, err
	}
	request, err := o.frontRequest(x, r, call, words)
	return fronted{request: request, upstream: upstream, wait: wait}, err
}

func (o operations) frontRequest(x *exchange, r *http.Request, call approvals.Call, words SubmitRequest) (db.SubmitRequest, error) {
	var key string
	if values := r.Header.Values("Idempotency-Key"); len(values) > 0 {
		var err error
		if key, err = parseKey(values); err != nil {
			return db.SubmitRequest{}, err
		}
	}
	submission, err := o.submission(r.Context(), x, call, words)
	if err != nil {
		return db.SubmitRequest{}, err
	}
	request := o.planned(x, submission, frontKey(key, submission))
	if key == "" && x.config.KeyRequired(request.Plan.Rule) {
		return db.SubmitRequest{}, noKey("the rule for this call asks for")
	}
	// To a client of HTTP/1.0 an answer that breaks off looks whole: it is given stored ones.
	// What is sensitive is read from what is stored, so that the reading is on record first.
	request.Direct = o.direct != nil && request.Plan.Action == approvals.ActionAllow && !request.Plan.Sensitive && r.ProtoAtLeast(1, 1)
	return request, nil
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body) // bounded by the body limit in front
	if err != nil {
		return nil, readFailure(err)
	}
	return body, nil
}
