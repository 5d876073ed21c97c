package client_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/client"
	"countersign/db"
)

// ordinary is an http.Client whose calls wait for approval.
func ordinary(t *testing.T, c *client.Client, config client.TransportConfig) *http.Client {
	t.Helper()
	config.Upstream = "billing"
	transport, err := c.Transport(config)
	require.NoError(t, err)
	return &http.Client{Transport: transport}
}

// answer is what came of a request, read to its end.
type answer struct {
	status  int
	header  http.Header
	body    string
	request *http.Request
}

// sent makes a request in the background.
func sent(c *http.Client, req *http.Request) <-chan outcome[answer] {
	return inBackground(func() (answer, error) {
		res, err := c.Do(req)
		if err != nil {
			return answer{}, err
		}
		defer func() { _ = res.Body.Close() }() // it is read to its end
		body, err := io.ReadAll(res.Body)
		return answer{res.StatusCode, res.Header, string(body), res.Request}, err
	})
}

func request(t *testing.T, ctx context.Context, method, url, body string) *http.Request { //nolint:revive // t comes first in tests
	t.Helper()
	var from io.Reader
	if body != "" {
		from = struct{ io.Reader }{strings.NewReader(body)} // of a kind that net/http cannot rewind
	}
	req, err := http.NewRequestWithContext(ctx, method, url, from)
	require.NoError(t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// only waits for the one ticket there is.
func (w *world) only(t *testing.T) client.Ticket {
	t.Helper()
	var found client.Ticket
	c := w.as(t, "payroll")
	require.Eventually(t, func() bool {
		n := 0
		for tk, err := range c.Tickets(t.Context(), client.Filter{}) {
			require.NoError(t, err)
			found = tk
			n++
		}
		require.LessOrEqual(t, n, 1, "one call is one ticket")
		return n == 1
	}, patience, 10*time.Millisecond, "a ticket is there")
	return found
}

func TestAnOrdinaryClientWaitsForApprovalAndGetsTheAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	billing := ordinary(t, w.as(t, "payroll"), client.TransportConfig{
		BaseURL: "https://billing.internal/v1", Justification: "größe – 100 %", Metadata: map[string]string{"case": "ü😀"},
	})
	req := request(t, t.Context(), "POST", "https://billing.internal/v1/customers/a%2Bb?x=1&y=%20", `{ "amount": 1.50 }`)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer of-the-upstream")
	answered := sent(billing, req)
	tk := w.only(t)
	require.Equal(t, "POST billing /customers/a%2Bb?x=1&y=%20", tk.Target())
	require.Equal(t, "größe – 100 %", tk.Justification)
	require.Equal(t, "ü😀", tk.Metadata["case"])
	stored, err := w.store.Ticket(t.Context(), db.Ref{ID: tk.ID})
	require.NoError(t, err)
	require.Equal(t, `{ "amount": 1.50 }`, string(stored.Call.Body))
	for _, h := range stored.Call.Headers {
		require.NotEqual(t, "Authorization", h.Name)
	}
	w.approve(t, tk.ID)
	w.made(t, tk.ID, reply{status: 404, mediaType: "application/problem+json", body: `{"type":"/problems/denied","code":"denied"}`})
	got := receive(t, answered, "the answer")
	require.NoError(t, got.err)
	require.Equal(t, 404, got.value.status, "the upstream's own status")
	require.Equal(t, `{"type":"/problems/denied","code":"denied"}`, got.value.body, "an upstream may write as Countersign does")
	require.Equal(t, "application/problem+json", got.value.header.Get("Content-Type"))
	require.Equal(t, tk.ID, got.value.header.Get("Countersign-Ticket"))
	require.Same(t, req, got.value.request)
}

func TestACallWithoutAnAnswerIsATypedError(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		end  func(t *testing.T, w *world, id string)
		want func(error) bool
	}{
		"denied": {func(t *testing.T, w *world, id string) {
			t.Helper()
			bo := w.as(t, "bo")
			tk, err := bo.Ticket(t.Context(), id)
			require.NoError(t, err)
			_, err = bo.Decide(t.Context(), id, client.Deny, tk.Digest, 0, "no")
			require.NoError(t, err)
		}, is[*client.DeniedError]},
		"expired": {func(t *testing.T, w *world, id string) {
			t.Helper()
			w.advance(t, id, func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) { return x.Expire(x.ExpiresAt) })
		}, is[*client.ExpiredError]},
		"cancelled": {func(t *testing.T, w *world, id string) {
			t.Helper()
			_, err := w.as(t, "payroll").Cancel(t.Context(), id, "")
			require.NoError(t, err)
		}, is[*client.CancelledError]},
		"in doubt": {func(t *testing.T, w *world, id string) {
			t.Helper()
			w.approve(t, id)
			w.begin(t, id)
			w.advance(t, id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return x.FinishExecution(x.Epoch, "worker-7", approvals.Outcome{Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "timeout"}}, now)
			})
		}, is[*client.OutcomeUnknownError]},
		"never reached": {func(t *testing.T, w *world, id string) {
			t.Helper()
			w.approve(t, id)
			w.begin(t, id)
			w.advance(t, id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return x.FinishExecution(x.Epoch, "worker-7", approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{Code: "upstream_unreachable"}}, now)
			})
		}, is[*client.FailedError]},
		"cut at the limit": {func(t *testing.T, w *world, id string) {
			t.Helper()
			w.approve(t, id)
			w.made(t, id, reply{status: 200, mediaType: "text/plain", body: "some", truncated: true})
		}, is[*client.TruncatedError]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			billing := ordinary(t, w.as(t, "payroll", func(c *client.Config) { c.Poll = time.Second }), client.TransportConfig{})
			req := request(t, t.Context(), "DELETE", "http://billing.example.com/customers/42", "")
			answered := sent(billing, req)
			id := w.only(t).ID
			row.end(t, w, id)
			got := receive(t, answered, "the answer")
			require.True(t, row.want(got.err), "%T: %v", got.err, got.err)
			var te *client.TicketError
			require.ErrorAs(t, got.err, &te)
			require.Equal(t, id, te.Ticket.ID)
		})
	}
}

func TestWhatARuleDeniesIsADeniedErrorAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	billing := ordinary(t, w.as(t, "payroll"), client.TransportConfig{})
	err := receive(t, sent(billing, request(t, t.Context(), "PUT", "http://x.example.com/a", `{}`)), "the refusal").err
	require.True(t, is[*client.DeniedError](err), "%T: %v", err, err)
	require.ErrorContains(t, err, "nobody puts")
}

func TestARefusalOfTheFrontIsAProblem(t *testing.T) {
	t.Parallel()
	w := setup(t)
	billing := ordinary(t, w.as(t, "payroll"), client.TransportConfig{BaseURL: "https://billing.internal/v1"})
	for url, want := range map[string]client.Code{
		"https://billing.internal/v1/a/../b":  client.ErrCallInvalid,
		"https://billing.internal/v1/a%2f..b": client.ErrCallInvalid,
	} {
		err := receive(t, sent(billing, request(t, t.Context(), "POST", url, "")), "the refusal").err
		require.ErrorIs(t, err, want, url)
	}
	for _, url := range []string{"https://evil.example.com/v1/a", "http://billing.internal/v1/a", "https://billing.internal/v10", "https://billing.internal/"} {
		err := receive(t, sent(billing, request(t, t.Context(), "POST", url, "")), "the refusal").err
		require.ErrorContains(t, err, "not below the base URL", url)
	}
	err := receive(t, sent(billing, request(t, t.Context(), "POST", "https://billing.internal/v1/a", strings.Repeat("x", 2<<20))), "the refusal").err
	require.ErrorContains(t, err, "larger than")
	for _, err := range w.as(t, "payroll").Tickets(t.Context(), client.Filter{}) {
		require.NoError(t, err)
		require.Fail(t, "none of them made a ticket")
	}
}

func TestTheContextOfARequestEndsItsWaitAndNamesTheTicket(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := roadTo(t, w.url)
	polled := make(chan struct{}, 100)
	x.refuse = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("If-None-Match") != "" {
			polled <- struct{}{}
		}
		return false
	}
	c := clientAt(t, x.url, func(c *client.Config) { c.Key, c.Poll = w.keys["payroll"], time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	req := request(t, ctx, "DELETE", "http://billing.example.com/customers/42", "")
	answered := sent(ordinary(t, c, client.TransportConfig{}), req)
	id := w.only(t).ID
	receive(t, polled, "a poll of the ticket")
	cancel()
	got := receive(t, answered, "the end")
	require.ErrorIs(t, got.err, context.Canceled)
	var late *client.NotDoneError
	require.ErrorAs(t, got.err, &late, "%v", got.err)
	require.Equal(t, id, late.Ticket.ID)
	require.Equal(t, client.Pending, late.Ticket.State)
}

func TestABodyIsSentAgainUnderItsKeyOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := roadTo(t, w.url)
	x.lose = func(r *http.Request, n int) bool { return n == 1 && r.Method == "POST" }
	c := clientAt(t, x.url, func(c *client.Config) { c.Key, c.Poll = w.keys["payroll"], time.Second })
	billing := ordinary(t, c, client.TransportConfig{})
	answered := sent(billing, request(t, t.Context(), "POST", "http://billing.example.com/refunds", `{"amount":1}`))
	id := w.only(t).ID
	require.Eventually(t, func() bool { return len(x.keys()) >= 2 }, patience, time.Millisecond, "it is sent again")
	keys := x.keys()
	require.NotEmpty(t, keys[0])
	require.Equal(t, keys[0], keys[1])
	w.approve(t, id)
	w.made(t, id, reply{status: 201, mediaType: "application/json", body: `{}`})
	got := receive(t, answered, "the answer")
	require.NoError(t, got.err)
	require.Equal(t, 201, got.value.status)
	w.only(t)
}

func TestAnAnswerFromSomewhereElseIsNotTakenForTheUpstreams(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "welcome to the network, please log in")
	}))
	t.Cleanup(server.Close)
	err := receive(t, sent(ordinary(t, clientAt(t, server.URL), client.TransportConfig{}),
		request(t, t.Context(), "GET", "http://billing.example.com/", "")), "the refusal").err
	require.ErrorContains(t, err, "does not come from Countersign")
}

func TestARedirectOfTheUpstreamIsFollowedThroughTheFrontAndBelowTheBaseURL(t *testing.T) {
	t.Parallel()
	for base, prefix := range map[string]string{"https://billing.internal/v1": "/v1", "": ""} {
		var asked []string
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.RequestURI)
			w.Header().Set("Countersign-Ticket", "tkt_00000000000000000000000000")
			if r.URL.Path == "/proxy/billing/old" {
				http.Redirect(w, r, "/proxy/billing/new?x=1", http.StatusFound)
				return
			}
			_, _ = io.WriteString(w, "there")
		}))
		t.Cleanup(front.Close)
		c := ordinary(t, clientAt(t, front.URL), client.TransportConfig{BaseURL: base})
		got := receive(t, sent(c, request(t, t.Context(), "GET", "https://billing.internal"+prefix+"/old", "")), "the answer")
		require.NoError(t, got.err)
		require.Equal(t, "there", got.value.body)
		require.Equal(t, "https://billing.internal"+prefix+"/new?x=1", got.value.request.URL.String(), "what was asked for in the end")
		require.Equal(t, []string{"/proxy/billing/old", "/proxy/billing/new?x=1"}, asked)
	}
}
