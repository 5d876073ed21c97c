package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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

func TestACallIsSubmittedWaitedForAndItsAnswerRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	call := deletion
	call.Query = map[string][]string{"force": {"true"}, "tag": {"b", "a"}}
	call.Header = map[string]string{"Accept": "application/json"}
	call.Metadata = map[string]string{"case": "991"}
	ticket := submit(t, c, call)
	require.Equal(t, client.Pending, ticket.State)
	require.Equal(t, "DELETE billing /customers/42?force=true&tag=b&tag=a", ticket.Target())
	require.Equal(t, []string{"bo"}, ticket.WaitingFor)
	require.Equal(t, "991", ticket.Metadata["case"])
	require.ErrorContains(t, ticket.Err(), "not done")

	waiting := inBackground(func() (client.Ticket, error) { return c.Wait(t.Context(), ticket.ID) })
	w.approve(t, ticket.ID)
	w.made(t, ticket.ID, reply{status: 200, mediaType: "application/json", body: `{"deleted":true}`})
	got := receive(t, waiting, "the end of the wait")
	require.NoError(t, got.err)
	require.NoError(t, got.value.Err())
	require.True(t, got.value.Done)
	require.Equal(t, "bo", got.value.Decisions[0].Person)

	result, err := c.Result(t.Context(), ticket.ID)
	require.NoError(t, err)
	require.Equal(t, 200, result.Status)
	require.Equal(t, `{"deleted":true}`, string(result.Body))
	require.Equal(t, "application/json", result.Header.Get("Content-Type"))
	require.Equal(t, 12*time.Millisecond, result.Duration)
}

func TestABodyArrivesAsItStands(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	for name, row := range map[string]struct{ body, mediaType, want, wantType string }{
		"json with odd spacing":   {body: `{ "a" : [1.50, "<&>"] }`, want: `{ "a" : [1.50, "<&>"] }`, wantType: "application/json"},
		"json of a file":          {body: "{\"a\":1}\n", want: `{"a":1}`, wantType: "application/json"},
		"null":                    {body: "null", want: "null"},
		"text":                    {body: "a=1&b=2", mediaType: "application/x-www-form-urlencoded", want: "a=1&b=2", wantType: "application/x-www-form-urlencoded"},
		"json under another name": {body: `{"a" :1}`, mediaType: "application/vnd.acme+json", want: `{"a" :1}`, wantType: "application/vnd.acme+json"},
		"bytes":                   {body: "\x00\xff\xfe", mediaType: "application/octet-stream", want: "\x00\xff\xfe", wantType: "application/octet-stream"},
		"none":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := client.Call{Upstream: "billing", Method: "POST", Path: "/x", Body: []byte(row.body)}
			if row.mediaType != "" {
				call.Header = map[string]string{"content-type": row.mediaType}
			}
			id := submit(t, c, call).ID
			stored, err := w.store.Ticket(t.Context(), db.Ref{ID: id})
			require.NoError(t, err)
			require.Equal(t, row.want, string(stored.Call.Body))
			var mediaType string
			for _, h := range stored.Call.Headers {
				if h.Name == "Content-Type" {
					mediaType = h.Value
				}
			}
			require.Equal(t, row.wantType, mediaType)
		})
	}
}

func TestEachEndIsAnErrorOfItsOwnWithTheTicketInIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	person := func(do func(bo *client.Client, tk client.Ticket) (client.Ticket, error)) func(*testing.T, client.Ticket) {
		return func(t *testing.T, tk client.Ticket) {
			t.Helper()
			_, err := do(w.as(t, "bo"), tk)
			require.NoError(t, err)
		}
	}
	for name, row := range map[string]struct {
		end  func(t *testing.T, tk client.Ticket)
		want func(error) bool
		says string
	}{
		"denied": {person(func(bo *client.Client, tk client.Ticket) (client.Ticket, error) {
			return bo.Decide(t.Context(), tk.ID, client.Deny, tk.Digest, 1, "not without a contract")
		}), is[*client.DeniedError], "is denied"},
		"cancelled": {func(t *testing.T, tk client.Ticket) {
			t.Helper()
			_, err := c.Cancel(t.Context(), tk.ID, "no longer needed")
			require.NoError(t, err)
		}, is[*client.CancelledError], "is cancelled"},
		"expired": {func(t *testing.T, tk client.Ticket) {
			t.Helper()
			w.advance(t, tk.ID, func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) { return x.Expire(x.ExpiresAt) })
		}, is[*client.ExpiredError], "is expired"},
		"failed": {func(t *testing.T, tk client.Ticket) {
			t.Helper()
			w.approve(t, tk.ID)
			w.made(t, tk.ID, reply{status: 500, mediaType: "text/plain", body: "oops"})
		}, is[*client.FailedError], "the upstream answered Internal Server Error"},
		"outcome unknown": {func(t *testing.T, tk client.Ticket) {
			t.Helper()
			w.approve(t, tk.ID)
			w.begin(t, tk.ID)
			w.advance(t, tk.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return x.FinishExecution(x.Epoch, "worker-7", approvals.Outcome{
					Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "timeout", Detail: "no answer in time"},
				}, now)
			})
		}, is[*client.OutcomeUnknownError], "is outcome_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tk := submit(t, c, deletion)
			row.end(t, tk)
			tk, err := c.Wait(t.Context(), tk.ID)
			require.NoError(t, err, "the wait itself is well")
			err = tk.Err()
			require.True(t, row.want(err), "%T: %v", err, err)
			require.ErrorContains(t, err, row.says)
			var te *client.TicketError
			require.ErrorAs(t, fmt.Errorf("pay: %w", err), &te)
			require.Equal(t, tk.ID, te.Ticket.ID)
		})
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestAFinalStateThatIsNotKnownIsATicketError(t *testing.T) {
	t.Parallel()
	err := client.Ticket{ID: "tkt_1", State: "vanished", Done: true}.Err()
	require.True(t, is[*client.TicketError](err), "%T", err)
	require.ErrorContains(t, err, "vanished")
}

func TestRefusalsAreProblemsWithTheirCode(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c, bo := w.as(t, "payroll"), w.as(t, "bo")
	ctx := t.Context()
	tk := submit(t, c, deletion)
	for name, row := range map[string]struct {
		do     func() error
		want   client.Code
		status int
	}{
		"wrong key": {func() error {
			_, err := w.as(t, "payroll", func(c *client.Config) { c.Key = "csk_wrong" }).Ticket(ctx, tk.ID)
			return err
		}, client.ErrUnauthenticated, 401},
		"no such ticket":   {func() error { _, err := c.Wait(ctx, "tkt_00000000000000000000000000"); return err }, client.ErrNotFound, 404},
		"an odd id":        {func() error { _, err := c.Ticket(ctx, "../../healthz"); return err }, client.ErrNotFound, 404},
		"a person submits": {func() error { _, err := bo.Submit(ctx, deletion); return err }, client.ErrNotCaller, 403},
		"a caller decides": {func() error { _, err := c.Decide(ctx, tk.ID, client.Approve, tk.Digest, 0, ""); return err }, client.ErrNotPerson, 403},
		"another upstream": {func() error {
			_, err := c.Submit(ctx, client.Call{Upstream: "crm", Method: "GET", Path: "/"})
			return err
		}, client.ErrUpstreamNotAllowed, 403},
		"a path that is none": {func() error {
			_, err := c.Submit(ctx, client.Call{Upstream: "billing", Method: "POST", Path: "/a/../b"})
			return err
		}, client.ErrCallInvalid, 422},
		"another digest": {func() error {
			_, err := bo.Decide(ctx, tk.ID, client.Approve, strings.Repeat("0", 64), 0, "")
			return err
		}, client.ErrDigestMismatch, 409},
		"no question": {func() error { _, err := c.Answer(ctx, tk.ID, "because"); return err }, client.ErrConflict, 409},
		"no operator": {func() error { _, err := bo.Resolve(ctx, tk.ID, client.Succeeded, "saw it"); return err }, "not_operator", 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := row.do()
			require.ErrorIs(t, err, row.want)
			require.NotErrorIs(t, err, client.Code("some_other"))
			var p *client.ProblemError
			require.ErrorAs(t, err, &p)
			require.Equal(t, row.status, p.Status)
			require.NotEmpty(t, p.RequestID, "what to quote")
			require.NotContains(t, err.Error(), string(w.keys["payroll"]))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestAQuestionIsAskedAndAnswered(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	id := submit(t, c, deletion).ID
	asked, err := w.as(t, "bo").Ask(t.Context(), id, "which contract?")
	require.NoError(t, err)
	require.Equal(t, client.NeedsInfo, asked.State)
	require.Equal(t, "which contract?", asked.Question.Text)
	answered, err := c.Answer(t.Context(), id, "4711")
	require.NoError(t, err)
	require.Equal(t, client.Pending, answered.State)
	require.Equal(t, "4711", answered.Question.Answer)
}

func TestAnOperatorResolvesACallInDoubt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	id := submit(t, c, deletion).ID
	w.approve(t, id)
	w.begin(t, id)
	w.advance(t, id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.FinishExecution(x.Epoch, "worker-7", approvals.Outcome{Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "timeout"}}, now)
	})
	resolved, err := w.as(t, "dora").Resolve(t.Context(), id, client.Succeeded, "the customer is gone")
	require.NoError(t, err)
	require.NoError(t, resolved.Err())
	_, err = c.Result(t.Context(), id)
	require.ErrorIs(t, err, client.ErrNoResult)
}

func TestTicketsGoThroughAllPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	var want []string
	for range 5 {
		want = append([]string{submit(t, c, deletion).ID}, want...)
	}
	_, err := c.Cancel(t.Context(), want[2], "")
	require.NoError(t, err)
	ids := func(who *client.Client, f client.Filter) (out []string) {
		for tk, err := range who.Tickets(t.Context(), f) {
			require.NoError(t, err)
			out = append(out, tk.ID)
		}
		return out
	}
	require.Equal(t, want, ids(c, client.Filter{PageSize: 2}), "newest first")
	require.Equal(t, want[2:3], ids(c, client.Filter{States: []client.State{client.Cancelled, client.Expired}}))
	require.Empty(t, ids(c, client.Filter{CreatedBefore: time.Unix(1, 0)}))
	require.Len(t, ids(w.as(t, "bo"), client.Filter{Mine: true, PageSize: 3}), 4, "what waits for bo")
	for tk, err := range c.Tickets(t.Context(), client.Filter{}) {
		require.NoError(t, err)
		require.Equal(t, want[0], tk.ID)
		break // and nothing more is read
	}
	for _, err := range c.Tickets(t.Context(), client.Filter{States: []client.State{"no-such"}}) {
		require.ErrorIs(t, err, client.Code("invalid_parameter"))
	}
}

func TestNewRefusesWhatCannotWorkAndNeverRepeatsIt(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]client.Config{
		"nothing":        {Key: "k"},
		"no key":         {BaseURL: "https://c.example.com"},
		"no scheme":      {BaseURL: "c.example.com", Key: "k"},
		"another scheme": {BaseURL: "ftp://c.example.com", Key: "k"},
		"plain http":     {BaseURL: "http://c.example.com", Key: "k"},
		"a password":     {BaseURL: "https://me:canary@c.example.com", Key: "k"}, //nolint:gosec // refused
		"a query":        {BaseURL: "https://c.example.com?token=canary", Key: "k"},
		"a key of lines": {BaseURL: "https://c.example.com", Key: "canary\r\nX: y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client.New(config)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "canary")
		})
	}
	for _, base := range []string{"https://c.example.com/", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://c.example.com/below"} {
		_, err := client.New(client.Config{BaseURL: base, Key: "k"})
		require.NoError(t, err, base)
	}
	_, err := client.New(client.Config{BaseURL: "http://c.example.com", Key: "k", AllowHTTP: true})
	require.NoError(t, err)
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	const canary = "canary-value"
	var out strings.Builder
	for _, v := range []any{client.Secret(canary), client.Config{Key: canary}, &client.CallbackConfig{Secrets: []client.Secret{canary}}} {
		fmt.Fprintf(&out, "%v %+v %#v %s\n", v, v, v, v)
		slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "x", slog.Any("v", v))
	}
	raw, err := json.Marshal(client.Secret(canary))
	require.NoError(t, err)
	require.NotContains(t, out.String()+string(raw), canary)
}

func TestARedirectIsNotFollowedWithTheKey(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(server.Close)
	_, err := clientAt(t, server.URL, func(c *client.Config) { c.Attempts = 1 }).Ticket(t.Context(), "tkt_1")
	require.ErrorContains(t, err, "redirect")
}

func TestAnAnswerThatIsNotOfCountersignIsSaidSo(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"a page": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "<html>hello") },
		"a 404":  http.NotFound,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			_, err := clientAt(t, server.URL).Submit(t.Context(), deletion)
			require.ErrorContains(t, err, "is the address right?")
		})
	}
}

func TestTheContextEndsAWaitAndTheTicketGoesOn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	id := submit(t, c, deletion).ID
	ctx, cancel := context.WithCancel(t.Context())
	waiting := inBackground(func() (client.Ticket, error) { return c.Wait(ctx, id) })
	cancel()
	got := receive(t, waiting, "the end of the wait")
	require.ErrorIs(t, got.err, context.Canceled)
	var late *client.NotDoneError
	require.ErrorAs(t, got.err, &late)
	require.Equal(t, id, late.Ticket.ID)
	w.approve(t, id)
}
