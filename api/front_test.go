package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// headersOf lists what an answer's header holds besides the framing and the date, which are
// the connection's.
func headersOf(r reply) http.Header {
	h := r.header.Clone()
	for _, name := range []string{"Date", "Content-Length", "Connection", "Transfer-Encoding", "Countersign-Ticket", "Cache-Control"} {
		h.Del(name)
	}
	return h
}

func TestAnAllowedCallIsAnsweredByItsUpstreamAlone(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	for name, c := range map[string]struct {
		method string
		answer http.HandlerFunc
		status int
		header http.Header
		body   string
	}{
		"JSON": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.Header().Set("ETag", `"7"`)
			rw.Header().Set("X-Request-Id", "theirs")
			rw.Header().Set("Set-Cookie", "session=1")
			rw.Header().Set("Countersign-Ticket", "tkt_forged")
			rw.Header().Set("Countersign-State", "pending")
			_, _ = io.WriteString(rw, `{"b": 1,  "a": 2}`)
		}, 200, http.Header{"Content-Type": {"application/json"}, "Etag": {`"7"`}, "X-Request-Id": {"theirs"}}, `{"b": 1,  "a": 2}`},
		"an error": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			rw.WriteHeader(503)
			_, _ = io.WriteString(rw, "<b>busy</b>")
		}, 503, http.Header{"Content-Type": {"text/html"}}, "<b>busy</b>"},
		"a redirect": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", "https://elsewhere.example.com/x?y#z")
			rw.WriteHeader(302)
		}, 302, http.Header{"Location": {"https://elsewhere.example.com/x?y#z"}}, ""},
		"bytes without a type": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Type"] = nil
			_, _ = io.WriteString(rw, "<html>\x00\xff")
		}, 200, http.Header{}, "<html>\x00\xff"},
		"a 202 of its own": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header()["Content-Type"] = nil
			rw.WriteHeader(202)
		}, 202, http.Header{}, ""},
		"no content": {"GET", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(204) }, 204, http.Header{}, ""},
		"not modified": {"GET", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("ETag", `"7"`)
			rw.WriteHeader(304)
		}, 304, http.Header{"Etag": {`"7"`}}, ""},
		"HEAD": {"HEAD", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			rw.Header().Set("Content-Length", "4711")
		}, 200, http.Header{"Content-Type": {"text/plain"}}, ""},
		"a created thing": {"POST", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", "/things/1")
			rw.WriteHeader(201)
			_, _ = io.WriteString(rw, "made")
		}, 201, http.Header{"Location": {"/things/1"}, "Content-Type": {"text/plain; charset=utf-8"}}, "made"},
	} {
		w.answers <- c.answer
		r := w.send(t, c.method, "/proxy/billing/open/x", "")
		id := requireTheirs(t, r)
		require.Equal(t, c.status, r.status, "status of %s: %s", name, r.raw)
		require.Equal(t, c.header, headersOf(r), "header of %s", name)
		require.Equal(t, c.body, string(r.raw), "body of %s", name)
		dbtest.RequireTrail(t, w.store, id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed,
			approvals.EventExecuting, map[bool]approvals.EventType{true: approvals.EventSucceeded, false: approvals.EventFailed}[c.status < 300])
	}
}

func TestAnExistingClientWorksWithAnotherAddressAndKey(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	// A client of the upstream, of which only the base URL and the key were changed.
	client := func(method, path, body string) (status int, header http.Header, answer string) {
		req, err := http.NewRequestWithContext(t.Context(), method, w.url+"/proxy/billing"+path, strings.NewReader(body))
		require.NoError(t, err, "make a request")
		req.Header.Set("Authorization", "Bearer "+w.key)
		req.Header.Set("Content-Type", "application/vnd.thing+json")
		req.Header.Set("Accept", "application/json")
		req.Header.Set("X-Unknown-Thing", "1")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err, "%s %s", method, path)
		defer res.Body.Close() //nolint:errcheck // read to the end below
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err, "read the answer")
		return res.StatusCode, res.Header, string(raw)
	}
	status, header, body := client("POST", "/open/caf%C3%A9/a%20b?x=%2F&y=1+2&x=0&&z", " {\"a\":1,\"a\":2}\n\xff")
	require.Equal(t, []any{200, `{"ok":true}`}, []any{status, body}, "the answer")
	got := w.arrival(t)
	require.Equal(t, "POST /v1/open/caf%C3%A9/a%20b?x=%2F&y=1+2&x=0&&z", got.method+" "+got.target, "what is sent, as it was written")
	require.Equal(t, " {\"a\":1,\"a\":2}\n\xff", got.body, "the body, byte for byte")
	id := ticketOf(t, header)
	require.Equal(t, http.Header{
		"Accept": {"application/json"}, "Content-Type": {"application/vnd.thing+json"}, "X-Api-Key": {upstreamToken},
		"Idempotency-Key": {id}, "Accept-Encoding": {"identity"}, "User-Agent": {"Countersign/test"}, "Connection": {"close"},
		"Content-Length": {"16"},
	}, got.header, "the header, of which the credential and the key are Countersign's")
}

func TestACallThatNeedsApprovalIsAnsweredLikeASubmit(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	r := w.do(t, call{method: "DELETE", path: "/proxy/billing/customers/42?force=true"})
	require.Equal(t, http.StatusAccepted, r.status, "status: %s", r.raw)
	id := requireOurs(t, r, approvals.Pending)
	require.Equal(t, id, r.id(t), "the ticket")
	plain := w.do(t, call{method: "POST", path: "/v1/tickets", header: headers("Idempotency-Key", freshKey()), body: `{"upstream":"billing","method":"DELETE","path":"/customers/42"}`})
	want := plain.header.Clone()
	for _, name := range []string{"X-Request-Id", "Location", "Operation-Location", "Date", "Content-Length"} {
		require.Equal(t, want.Get(name) == "", r.header.Get(name) == "", "%s, as a submit has it", name)
		want.Del(name)
		r.header.Del(name)
	}
	r.header.Del("Countersign-Ticket")
	r.header.Del("Countersign-State")
	require.Equal(t, want, r.header, "the header of a submit")
	require.Equal(t, "force=true", r.field(t, "raw_query"), "the query")
	w.requireNoCall(t)
	dbtest.RequireTrail(t, w.store, id, approvals.EventCreated)
}

func TestBothDoorsOpenTheSameTicketForTheSameCall(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	body := `{"amount":12,"currency":"EUR"}`
	r := w.do(t, call{
		method: "POST", path: "/proxy/billing/customers/4%2B2/refunds?a=b%20c&d=", body: body, header: headers(
			"Accept", "text/csv", "Accept", "application/json", "Idempotency-Key", "k-1", "Prefer", "wait=0, return=minimal",
			"Countersign-Justification", "double charge, 100%25 sure, R%C3%BCckfrage", "Countersign-Metadata", `{"case":"9\u00e91"}`,
			"Countersign-Callback-Url", "https://hooks.example.com/x", "Countersign-Callback-Events", "ticket.approved, ticket.escalated",
			"Countersign-On-Behalf-Of", "zo%C3%AB@example.com"),
	})
	require.Equal(t, http.StatusAccepted, r.status, "the front: %s", r.raw)
	a := w.stored(t, r.id(t))
	r = w.do(t, call{
		method: "POST", path: "/v1/tickets", header: headers("Idempotency-Key", freshKey()), body: `{
			"upstream":"billing","method":"POST","path":"/customers/4%2B2/refunds","query":{"d":"","a":"b c"},
			"headers":{"accept":"text/csv, application/json","idempotency-key":"k-1","prefer":"return=minimal","content-type":"application/json"},
			"body":` + body + `,"justification":"double charge, 100% sure, Rückfrage","metadata":{"case":"9é1"},
			"callback":{"url":"https://hooks.example.com/x","events":["ticket.approved","ticket.escalated"]},"on_behalf_of":"zoe"}`,
	})
	require.Equal(t, http.StatusAccepted, r.status, "the submit: %s", r.raw)
	b := w.stored(t, r.id(t))
	require.Equal(t, b.Call, a.Call, "the call")
	require.Equal(t, b.Plan, a.Plan, "the plan")
	require.Equal(t, []any{b.Justification, b.Metadata, b.Callback, b.OnBehalfOf}, []any{a.Justification, a.Metadata, a.Callback, a.OnBehalfOf}, "the words")
	a.ExpiresAt = b.ExpiresAt // it counts, and was not opened at the same moment
	require.Equal(t, b.Digest, a.Binding(a.Plan.UpstreamDigest).Digest(), "the digest that people approve")
}

func TestPreferWaitHoldsTheAnswerForAQuickApproval(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	answer := make(chan reply, 1)
	go func() { // justification is how the ticket is told from others
		answer <- w.send(t, "DELETE", "/proxy/billing/customers/42", "", "Prefer", "wait=600, return=minimal")
	}()
	var id string
	eventually(t, "there is a ticket", func() bool {
		return w.pool.QueryRow(t.Context(), `SELECT id FROM tickets`).Scan(&id) == nil
	})
	w.approve(t, id, "bo")
	r := receive(t, answer)
	require.Equal(t, id, requireTheirs(t, r), "the ticket")
	require.Equal(t, []any{200, `{"ok":true}`}, []any{r.status, string(r.raw)}, "the upstream's stored answer")
	require.Equal(t, http.Header{"Content-Type": {"application/json"}}, headersOf(r), "its header")
	require.Equal(t, []string{"return=minimal"}, w.arrival(t).header["Prefer"], "the preference that is not for us")

	r = w.do(t, call{method: "DELETE", path: "/proxy/billing/customers/43", header: headers("Prefer", "wait=1")})
	require.Equal(t, []any{202, "wait=1"}, []any{r.status, r.header.Get("Preference-Applied")}, "nobody came: %s", r.raw)
	requireOurs(t, r, approvals.Pending)
}

func TestAReplayIsAnsweredWithWhatIsStored(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("ETag", `"1"`)
		rw.WriteHeader(201)
		_, _ = io.WriteString(rw, "made \xff")
	}
	send := func(body string) reply {
		return w.send(t, "POST", "/proxy/billing/open/x", body, "Idempotency-Key", `"once"`)
	}
	first := send("a")
	id := requireTheirs(t, first)
	second := send("a")
	require.Equal(t, id, requireTheirs(t, second), "the same ticket")
	require.Equal(t, "true", second.header.Get("Idempotent-Replayed"), "Idempotent-Replayed")
	second.header.Del("Idempotent-Replayed")
	require.Equal(t, []any{first.status, headersOf(first), first.raw}, []any{second.status, headersOf(second), second.raw}, "the same answer")
	require.Equal(t, `"once"`, w.arrival(t).header.Get("Idempotency-Key"), "the caller's key goes to an upstream that takes one")
	w.requireNoCall(t)
	requireProblem(t, send("b"), 422, "idempotency_key_reused")

	for range 2 {
		requireTheirs(t, w.send(t, "POST", "/proxy/billing/open/x", "a"))
	}
	require.Len(t, w.got, 2, "without a key each request is a call of its own")
	require.Equal(t, 3, w.tickets(t), "and a ticket of its own")
}

func TestAKeyIsRequiredWhereTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	r := w.do(t, call{method: "POST", path: "/proxy/billing/keyed", body: "{}"})
	requireProblem(t, r, 400, "idempotency_key_missing")
	require.Zero(t, w.tickets(t), "tickets")
	r = w.send(t, "POST", "/proxy/billing/keyed", "{}", "Idempotency-Key", freshKey())
	requireTheirs(t, r)
	requireProblem(t, w.do(t, call{method: "POST", path: "/proxy/billing/open/x", header: headers("Idempotency-Key", "a b")}), 400, "idempotency_key_invalid")
}

// end takes a ticket to its end by a verb.
func (w *frontWorld) end(t *testing.T, id string, kind approvals.OutcomeKind, code string) {
	t.Helper()
	w.approve(t, id, "bo")
	w.begin(t, id)
	w.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{Kind: kind, Problem: &approvals.Problem{Code: code, Detail: "because"}}, now)
	})
}

func TestATicketWithoutAnAnswerIsAProblem(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	for name, c := range map[string]struct {
		end    func(id string)
		state  approvals.State
		status int
		code   string
	}{
		"denied":  {func(id string) { w.decide(t, id, "bo", approvals.Deny) }, approvals.Denied, 403, "denied"},
		"expired": {func(id string) { w.expire(t, id) }, approvals.Expired, 409, "expired"},
		"cancelled": {func(id string) {
			w.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return tk.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll", Via: "api"}, "no more", now)
			})
		}, approvals.Cancelled, 409, "cancelled"},
		"unreachable": {func(id string) { w.end(t, id, approvals.NotSent, "upstream_unreachable") }, approvals.Failed, 502, "upstream_unreachable"},
		"unsendable":  {func(id string) { w.end(t, id, approvals.NotSent, "request_invalid") }, approvals.Failed, 502, "call_failed"},
		"in doubt":    {func(id string) { w.end(t, id, approvals.Unknown, "no_answer") }, approvals.OutcomeUnknown, 504, "outcome_unknown"},
		"changed": {func(id string) {
			w.approve(t, id, "bo")
			w.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return tk.Claim("worker-7", w.config.Directory(), tk.Plan, now)
			})
			_, err := w.store.Advance(t.Context(), db.Ref{ID: id}, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return tk.BeginExecution(tk.Epoch, "worker-7", strings.Repeat("0", 64), w.config.Directory(), tk.Plan, now)
			})
			require.Equal(t, approvals.CodeDigestMismatch, approvals.ErrorCode(err), "the door refuses")
		}, approvals.Failed, 409, "binding_violation"},
		"resolved": {func(id string) {
			w.end(t, id, approvals.Unknown, "no_answer")
			w.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return tk.Resolve(approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "api"}, true, "seen", now)
			})
		}, approvals.Succeeded, 409, "no_result"},
	} {
		send := func() reply {
			return w.do(t, call{method: "PUT", path: "/proxy/billing/things/1", header: headers("Idempotency-Key", strings.ReplaceAll(name, " ", "-"))})
		}
		id := requireOurs(t, send(), approvals.Pending)
		c.end(id)
		r := send()
		requireProblem(t, r, c.status, c.code)
		require.Equal(t, id, requireOurs(t, r, c.state), "the ticket of %s", name)
		require.Equal(t, []any{string(c.state), "/v1/tickets/" + id}, []any{r.field(t, "state"), r.field(t, "instance")}, "what %s is about", name)
	}
	r := w.do(t, call{method: "PUT", path: "/proxy/billing/closed"})
	requireProblem(t, r, 403, "denied")
	require.Equal(t, "not today", r.field(t, "detail"), "the rule's reason")
	requireOurs(t, r, approvals.Denied)
}

// expire lets the time of a ticket run out.
func (w *frontWorld) expire(t *testing.T, id string) {
	t.Helper()
	w.advance(t, id, func(tk approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return tk.Expire(tk.ExpiresAt.Add(time.Second))
	})
}

func TestWithoutAnybodyToMakeTheCallTheTicketIsTheAnswer(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	r := w.do(t, call{method: "GET", path: "/proxy/plain/x"}) // its upstream may take 200 ms
	require.Equal(t, http.StatusAccepted, r.status, "status: %s", r.raw)
	requireOurs(t, r, approvals.Approved)
	require.Empty(t, r.header.Get("Preference-Applied"), "nothing was asked")
}

func TestWorkersMakeTheCallWhenItIsNotMadeDirectly(t *testing.T) {
	t.Parallel()
	for name, direct := range map[string]func(context.Context, string, api.AnswerSink) error{
		"not at all": nil,
		"panic":      func(context.Context, string, api.AnswerSink) error { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setupFront(t, true, func(c *api.Config) { c.Direct = direct })
			r := w.send(t, "GET", "/proxy/billing/x", "")
			requireTheirs(t, r)
			require.Equal(t, []any{200, `{"ok":true}`}, []any{r.status, string(r.raw)}, "the stored answer")
		})
	}
}

func TestAnUpstreamThatCannotBeReachedIsSaidToBe(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true, func(c *api.Config) {
		direct := c.Direct
		c.Direct = func(ctx context.Context, id string, sink api.AnswerSink) error {
			err := direct(ctx, id, sink)
			require.NoError(t, err, "an answer or none, it is recorded")
			return err
		}
	})
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			_ = conn.Close() // after the request, before any answer
		}
	}
	r := w.send(t, "GET", "/proxy/billing/x", "")
	requireProblem(t, r, 504, "outcome_unknown")
	requireOurs(t, r, approvals.OutcomeUnknown)
}

func TestTheFrontTakesEveryMethodOfAnUpstreamAndNoOther(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	for _, method := range []string{"CONNECT", "TRACE", "TRACK", "PROPFIND", "get"} {
		r := w.send(t, method, "/proxy/billing/x", "")
		requireProblem(t, r, 405, "method_not_allowed")
	}
	requireProblem(t, w.do(t, call{method: "GET", path: "/proxy/nowhere/x"}), 403, "upstream_not_allowed")
	requireProblem(t, w.do(t, call{method: "GET", path: "/proxy/billing/x", key: "-"}), 401, "unauthenticated")
	require.Zero(t, w.tickets(t), "tickets")
}

func TestABodyOverTheLimitIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true, func(c *api.Config) { c.MaxBody = 1000 })
	requireTheirs(t, w.send(t, "POST", "/proxy/billing/open/x", strings.Repeat("x", 1000)))
	requireProblem(t, w.send(t, "POST", "/proxy/billing/open/x", strings.Repeat("x", 1001)), 413, "body_too_large")
	req := w.request(t, call{method: "POST", path: "/proxy/billing/open/x"})
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 5000))), -1 // chunked
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "send in chunks")
	defer res.Body.Close() //nolint:errcheck // only the status matters
	require.Equal(t, 413, res.StatusCode, "in chunks")
	require.Equal(t, 1, w.tickets(t), "tickets")
}

func TestWordsOfTheFrontAreRead(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	old := requireOurs(t, w.do(t, call{method: "PUT", path: "/proxy/billing/x"}), approvals.Pending)
	r := w.do(t, call{method: "PUT", path: "/proxy/billing/x", header: headers("Countersign-Supersedes", old, "Countersign-Justification", "raw ütf-8")})
	require.Equal(t, []any{202, old, "raw ütf-8"}, []any{r.status, r.field(t, "supersedes"), r.field(t, "justification")}, "%s", r.raw)
	before := w.tickets(t)
	for name, c := range map[string]struct {
		pairs  []string
		status int
		header string
	}{
		"unknown":             {[]string{"Countersign-Justifcation", "x"}, 400, "Countersign-Justifcation"},
		"ours in answers":     {[]string{"Countersign-Ticket", old}, 400, "Countersign-Ticket"},
		"underscore":          {[]string{"Countersign_Justification", "x"}, 400, "Countersign_justification"},
		"twice":               {[]string{"Countersign-Justification", "a", "Countersign-Justification", "b"}, 400, "Countersign-Justification"},
		"empty":               {[]string{"Countersign-Justification", " "}, 400, "Countersign-Justification"},
		"bare percent":        {[]string{"Countersign-Justification", "100% sure"}, 400, "Countersign-Justification"},
		"no UTF-8":            {[]string{"Countersign-Justification", "%ff"}, 400, "Countersign-Justification"},
		"NUL":                 {[]string{"Countersign-Justification", "a%00b"}, 422, "Countersign-Justification"},
		"too long":            {[]string{"Countersign-Justification", strings.Repeat("x", 4097)}, 422, "Countersign-Justification"},
		"metadata no object":  {[]string{"Countersign-Metadata", `["a"]`}, 400, "Countersign-Metadata"},
		"metadata no strings": {[]string{"Countersign-Metadata", `{"a":1}`}, 400, "Countersign-Metadata"},
		"metadata twice":      {[]string{"Countersign-Metadata", `{"a":"1","a":"2"}`}, 400, "Countersign-Metadata"},
		"metadata too much":   {[]string{"Countersign-Metadata", `{"a":"` + strings.Repeat("x", 513) + `"}`}, 422, "Countersign-Metadata"},
		"events alone":        {[]string{"Countersign-Callback-Events", "ticket.approved"}, 400, "Countersign-Callback-Events"},
		"unknown event":       {[]string{"Countersign-Callback-Url", "https://hooks.example.com/", "Countersign-Callback-Events", "ticket.aproved"}, 422, "Countersign-Callback-Events"},
		"foreign callback":    {[]string{"Countersign-Callback-Url", "https://evil.example.com/"}, 422, "Countersign-Callback-Url"},
		"unknown person":      {[]string{"Countersign-On-Behalf-Of", "nobody"}, 422, "Countersign-On-Behalf-Of"},
		"no ticket id":        {[]string{"Countersign-Supersedes", "x"}, 422, "Countersign-Supersedes"},
		"no such ticket":      {[]string{"Countersign-Supersedes", "tkt_00000000000000000000000000"}, 422, "Countersign-Supersedes"},
	} {
		r := w.do(t, call{method: "PUT", path: "/proxy/billing/x", header: headers(c.pairs...)})
		require.Equal(t, c.status, r.status, "%s: %s", name, r.raw)
		var problem struct{ Errors []struct{ Header string } }
		require.NoError(t, json.Unmarshal(r.raw, &problem), "decode %s", r.raw)
		require.Len(t, problem.Errors, 1, "%s: %s", name, r.raw)
		require.Equal(t, c.header, problem.Errors[0].Header, "%s names its header: %s", name, r.raw)
	}
	require.Equal(t, before, w.tickets(t), "nothing was opened")
}

func TestAnAnswerIsStreamedAsItComes(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	more, over := newSignal(), newSignal()
	t.Cleanup(more.fire)
	t.Cleanup(over.fire)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for _, s := range []*signal{more, over} {
			_, _ = io.WriteString(rw, strings.Repeat("data ", 100)) // more than may be held back for a credential
			_ = http.NewResponseController(rw).Flush()
			<-s.c
		}
		_, _ = io.WriteString(rw, "end")
	}
	res := w.stream(t, "GET", "/proxy/billing/x", "")
	defer res.Body.Close() //nolint:errcheck // read to the end below
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"), "the head is there before the end")
	buf := make([]byte, 200)
	_, err := io.ReadFull(res.Body, buf)
	require.NoError(t, err, "the first part is there before the second is written")
	more.fire()
	_, err = io.ReadFull(res.Body, buf)
	require.NoError(t, err, "the second part is there before the end")
	over.fire()
	rest, err := io.ReadAll(res.Body)
	require.NoError(t, err, "the rest")
	require.Equal(t, 1003, len(rest)+400, "length of the answer")
	require.Equal(t, approvals.Succeeded, w.stored(t, ticketOf(t, res.Header)).State, "recorded before the answer ends")
}

func TestAnAnswerThatBreaksOffBreaksTheConnection(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, strings.Repeat("x", 10_000))
		_ = http.NewResponseController(rw).Flush()
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	res := w.stream(t, "GET", "/proxy/billing/x", "", "Idempotency-Key", "broken")
	defer res.Body.Close() //nolint:errcheck // broken
	require.Equal(t, 200, res.StatusCode, "the head was good")
	_, err := io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF, "the body does not end, it breaks")
	require.Contains(t, w.logs.String(), `"msg":"request"`, "the request is in the log all the same")

	r := w.send(t, "GET", "/proxy/billing/x", "", "Idempotency-Key", "broken")
	requireProblem(t, r, 502, "answer_truncated")
	id := requireOurs(t, r, approvals.Succeeded)
	require.Contains(t, r.field(t, "detail"), "/v1/tickets/"+id+"/result", "where the part is")
}

func TestAnAnswerThatIsNotKeptWholeIsStillHandedOverWhole(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	long := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // of which 64 KiB are kept
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(long) }
	r := w.send(t, "GET", "/proxy/billing/x", "", "Idempotency-Key", "long")
	requireTheirs(t, r)
	require.True(t, bytes.Equal(long, r.raw), "the answer: %d bytes", len(r.raw))
	requireProblem(t, w.send(t, "GET", "/proxy/billing/x", "", "Idempotency-Key", "long"), 502, "answer_truncated")
}

func TestACallGoesOnWhenItsClientLeaves(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	gone := newSignal()
	t.Cleanup(gone.fire)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, strings.Repeat("x", 1000))
		_ = http.NewResponseController(rw).Flush()
		<-gone.c
		_, _ = io.WriteString(rw, "the end")
	}
	ctx, leave := contextOf(t)
	req := w.request(t, call{method: "GET", path: "/proxy/billing/x"}).WithContext(ctx)
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "the head is there")
	id := ticketOf(t, res.Header)
	leave()
	_, err = io.ReadAll(res.Body)
	require.Error(t, err, "the client has left")
	_ = res.Body.Close()
	eventually(t, "the server has noticed", func() bool { return strings.Contains(w.logs.String(), `"client_gone":true`) })
	gone.fire()
	w.until(t, id, approvals.Succeeded)
	result, err := w.store.Result(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "read the result")
	require.False(t, result.Truncated, "all of it is recorded")
	require.Equal(t, strings.Repeat("x", 1000)+"the end", string(result.Body), "the result")
}

func TestAClientThatDoesNotReadHoldsNoCallUp(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	long := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than connections hold on the way
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(long) }
	res := w.stream(t, "GET", "/proxy/billing/x", "")
	defer res.Body.Close() //nolint:errcheck // not read
	w.until(t, ticketOf(t, res.Header), approvals.Succeeded)
}

func TestAClientOfHTTP10IsGivenAStoredAnswer(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	raw := w.wire(t, "GET /proxy/billing/x HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer KEY\r\n\r\n")
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	require.Contains(t, head, "HTTP/1.0 200 OK", "the answer")
	require.Contains(t, head, "Content-Length: 11", "its length, by which a part can be told from the whole")
	require.Equal(t, `{"ok":true}`, body, "the body")
}

func TestTheStoreIsSaidToBeGone(t *testing.T) {
	t.Parallel()
	b := setupOn(t, failing{err: errors.Join(db.ErrUnavailable)})
	r := b.do(t, call{method: "PUT", path: "/proxy/billing/x"})
	requireProblem(t, r, 503, "unavailable")
}

func TestTheLogNamesARequestOfTheFrontByOurIDAndNotByTheUpstreams(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Request-Id", "forged-by-the-upstream")
	}
	r := w.send(t, "GET", "/proxy/billing/x", "", "X-Request-Id", "ours-42")
	id := requireTheirs(t, r)
	require.Equal(t, "forged-by-the-upstream", r.header.Get("X-Request-Id"), "the answer is the upstream's")
	var line string
	eventually(t, "the line of the request", func() bool {
		for _, one := range strings.Split(w.logs.String(), "\n") {
			if strings.Contains(one, `"request"`) && strings.Contains(one, id) {
				line = one
			}
		}
		return line != ""
	})
	require.Contains(t, line, `"request_id":"ours-42"`, "the line")
	require.NotContains(t, line, "forged", "the line")

	id = requireTheirs(t, w.send(t, "GET", "/proxy/billing/x", ""))
	eventually(t, "the line of a request without an id of its own", func() bool {
		for _, one := range strings.Split(w.logs.String(), "\n") {
			if strings.Contains(one, `"request"`) && strings.Contains(one, id) {
				line = one
				return true
			}
		}
		return false
	})
	require.Regexp(t, `"request_id":"[0-9a-z]{26}"`, line, "the line")
}

func TestAnAddressOfTheFrontWithoutAPathSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	for path, says := range map[string]string{
		"/proxy/billing":                      "write /proxy/billing/ and the path",
		"/proxy/billing?a=b":                  "write /proxy/billing/ and the path",
		"/proxy/b%20c":                        "write /proxy/b%20c/ and the path",
		"/proxy":                              "/proxy/{upstream}/{path}",
		"/proxy/":                             "/proxy/{upstream}/{path}",
		"/proxy/" + strings.Repeat("x", 3000): "/proxy/{upstream}/{path}",
	} {
		for _, method := range []string{"GET", "POST"} {
			r := b.do(t, call{method: method, path: path})
			requireProblem(t, r, http.StatusNotFound, "not_found")
			require.Contains(t, r.field(t, "detail"), says, "%s %s", method, path)
		}
	}
}

func TestDetailsNameTheHeaderFieldAndTheLimit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.do(t, call{method: "PUT", path: "/proxy/billing/x", header: headers("X-Http-Method-Override", "DELETE")})
	requireProblem(t, r, http.StatusUnprocessableEntity, "call_invalid")
	require.Contains(t, r.field(t, "detail"), "header field X-Http-Method-Override: ")
	r = b.do(t, call{method: "PUT", path: "/proxy/billing/x", header: headers("Countersign-Reason", "y")})
	requireProblem(t, r, http.StatusBadRequest, "invalid_header")
	require.Contains(t, r.field(t, "detail"), "header field Countersign-Reason: ")
	r = b.do(t, call{method: "GET", path: "/v1/tickets/" + b.submit(t, deletion).id(t), header: headers("If-None-Match", "7")})
	requireProblem(t, r, http.StatusBadRequest, "invalid_header")
	require.Regexp(t, "^If-None-Match must be", r.field(t, "detail"), "said once")
	r = b.do(t, call{method: "POST", path: "/v1/explain", body: strings.Replace(explained, "{", `{"headers":{"Cookie":"a=b"},`, 1)})
	requireProblem(t, r, http.StatusUnprocessableEntity, "call_invalid")
	require.Contains(t, r.field(t, "detail"), "header field Cookie: ")
	r = b.do(t, call{method: "POST", path: "/v1/explain", body: strings.Repeat("x", 2<<20)})
	requireProblem(t, r, http.StatusRequestEntityTooLarge, "body_too_large")
	require.Contains(t, r.field(t, "detail"), "1048576 bytes")
}

func TestNobodyInBetweenKeepsAnAnswerOfTheFront(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	for theirs, want := range map[string]string{
		"": "no-store", "public, max-age=60": "no-store", "max-age=60, s-maxage=9": "no-store", "must-revalidate": "no-store", "notprivate": "no-store",
		"no-store": "no-store", "Private, max-age=60": "Private, max-age=60", `x="private"`: "no-store",
	} {
		w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Last-Modified", "Mon, 02 Mar 2026 09:12:31 GMT")
			if theirs != "" {
				rw.Header().Set("Cache-Control", theirs)
			}
		}
		r := w.send(t, "GET", "/proxy/caching/x", "")
		requireTheirs(t, r)
		require.Equal(t, []string{want}, r.header.Values("Cache-Control"), "%q", theirs)
	}
}
