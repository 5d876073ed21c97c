package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/client"
)

// road stands between a client and the real API, and can be made to misbehave.
type road struct {
	url string
	// lose says of a request whether its answer gets lost once the server has given it, refuse answers in its place.
	mu     sync.Mutex
	lose   func(r *http.Request, n int) bool
	refuse func(w http.ResponseWriter, r *http.Request, n int) bool
	seen   []*http.Request
}

func roadTo(t *testing.T, target string) *road {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	x := &road{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(u) }, FlushInterval: -1,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		x.seen = append(x.seen, r)
		n, lose, refuse := len(x.seen), x.lose, x.refuse
		x.mu.Unlock()
		switch {
		case refuse != nil && refuse(w, r, n):
		case lose != nil && lose(r, n):
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		default:
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	x.url = server.URL
	return x
}

func (x *road) keys() (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.seen {
		out = append(out, r.Header.Get("Idempotency-Key"))
	}
	return out
}

func problem(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "/problems/" + code, "status": status, "code": code, "detail": "of the test"})
}

func TestASubmitWhoseAnswerIsLostMakesOneTicket(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := roadTo(t, w.url)
	x.lose = func(_ *http.Request, n int) bool { return n <= 2 }
	c := clientAt(t, x.url, func(c *client.Config) { c.Key = w.keys["payroll"] })
	id := submit(t, c, deletion).ID
	var ids []string
	for tk, err := range c.Tickets(t.Context(), client.Filter{}) {
		require.NoError(t, err)
		ids = append(ids, tk.ID)
	}
	require.Equal(t, []string{id}, ids)
	keys := x.keys()
	require.NotEmpty(t, keys[0])
	require.Equal(t, []string{keys[0], keys[0]}, keys[1:3], "always the same key")
}

func TestOwnKeysAreUsedAndMadeOnesAreNeverTheSame(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := roadTo(t, w.url)
	c := clientAt(t, x.url, func(c *client.Config) { c.Key = w.keys["payroll"] })
	mine := deletion
	mine.IdempotencyKey = `pay "run" \7`
	first := submit(t, c, mine)
	require.Equal(t, first.ID, submit(t, c, mine).ID, "the same key is the same ticket")
	require.NotEqual(t, submit(t, c, deletion).ID, submit(t, c, deletion).ID)
	require.Equal(t, `"pay \"run\" \\7"`, x.keys()[0])
	other := mine
	other.Path = "/customers/43"
	_, err := c.Submit(t.Context(), other)
	require.ErrorIs(t, err, client.ErrIdempotencyKeyReused)
}

func TestASubmitIsTriedAgainWhenTheServerSaysSo(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]struct {
		status int
		code   string
		after  string
	}{
		"in progress":        {409, "idempotency_in_progress", "1"},
		"over a limit":       {429, "quota_exceeded", "1"},
		"starting":           {503, "not_ready", "1"},
		"overloaded":         {503, "overloaded", ""},
		"retry after a date": {503, "unavailable", "Fri, 01 Jan 2021 00:00:00 GMT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			x := roadTo(t, w.url)
			x.refuse = func(rw http.ResponseWriter, _ *http.Request, n int) bool {
				if n == 1 {
					rw.Header().Set("Retry-After", refusal.after)
					problem(rw, refusal.status, refusal.code)
				}
				return n == 1
			}
			c := clientAt(t, x.url, func(c *client.Config) { c.Key = w.keys["payroll"] })
			began := time.Now() //nolint:forbidigo // Retry-After is honoured in real time
			require.NotEmpty(t, submit(t, c, deletion).ID)
			if refusal.after == "1" {
				require.GreaterOrEqual(t, time.Since(began), time.Second, "not earlier than asked") //nolint:forbidigo // as above
			}
			keys := x.keys()
			require.Len(t, keys, 2)
			require.Equal(t, keys[0], keys[1])
		})
	}
}

func TestRetriesAreBounded(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		if r.URL.Path == "/v1/tickets/later" {
			w.Header().Set("Retry-After", "86400")
		}
		problem(w, 503, "unavailable")
	}))
	t.Cleanup(server.Close)
	c := clientAt(t, server.URL, func(c *client.Config) { c.Attempts = 3 })
	_, err := c.Submit(t.Context(), deletion)
	require.ErrorIs(t, err, client.ErrUnavailable)
	require.EqualValues(t, 3, n.Swap(0))
	_, err = c.Ticket(t.Context(), "later")
	var p *client.ProblemError
	require.ErrorAs(t, err, &p)
	require.Equal(t, 24*time.Hour, p.RetryAfter)
	require.EqualValues(t, 1, n.Swap(0), "a day is too long to be waited for")
	_, err = c.Answer(t.Context(), "tkt_1", "yes")
	require.ErrorIs(t, err, client.ErrUnavailable)
	require.EqualValues(t, 1, n.Load(), "what may have arrived is not repeated")
}

func TestADecisionWhoseAnswerIsLostIsNotRepeated(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := submit(t, w.as(t, "payroll"), deletion).ID
	x := roadTo(t, w.url)
	x.lose = func(r *http.Request, _ int) bool { return r.Method == http.MethodPost }
	bo := clientAt(t, x.url, func(c *client.Config) { c.Key = w.keys["bo"] })
	tk, err := bo.Ticket(t.Context(), id)
	require.NoError(t, err)
	_, err = bo.Decide(t.Context(), id, client.Approve, tk.Digest, 0, "")
	require.Error(t, err)
	require.NotContains(t, err.Error(), string(w.keys["bo"]))
	require.Len(t, x.keys(), 2, "one read, one decision")
	tk, err = bo.Ticket(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, client.Approved, tk.State, "it had arrived")
}

func TestAWaitOutlastsARestartOfTheServer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := roadTo(t, w.url)
	var down atomic.Bool
	refused := make(chan struct{}, 100)
	x.refuse = func(rw http.ResponseWriter, _ *http.Request, n int) bool {
		if !down.Load() {
			return false
		}
		refused <- struct{}{}
		if n%2 == 0 {
			problem(rw, 503, "not_ready")
			return true
		}
		panic(http.ErrAbortHandler)
	}
	c := clientAt(t, x.url, func(c *client.Config) { c.Key, c.Poll = w.keys["payroll"], time.Second })
	id := submit(t, c, deletion).ID
	down.Store(true)
	waiting := inBackground(func() (client.Ticket, error) { return c.Wait(t.Context(), id) })
	for range 3 {
		receive(t, refused, "a poll of a server that is away")
	}
	w.approve(t, id)
	w.made(t, id, reply{status: 204})
	down.Store(false)
	got := receive(t, waiting, "the end of the wait")
	require.NoError(t, got.err)
	require.Equal(t, client.Succeeded, got.value.State)
}

func TestAWaitAsksForChangesAndDoesNotHammerAServerThatDoesNotHoldIt(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Etag", `"3"`)
		if r.Header.Get("If-None-Match") == `"3"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, `{"id":"tkt_1","state":"pending","version":3}`)
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	c := clientAt(t, server.URL, func(c *client.Config) { c.Poll = 7 * time.Second })
	waiting := inBackground(func() (client.Ticket, error) { return c.Wait(ctx, "tkt_1") })
	first := receive(t, asked, "the first look")
	require.Empty(t, first.Header.Get("If-None-Match"))
	began := time.Now() //nolint:forbidigo // Retry-After is honoured in real time
	for range 3 {
		r := receive(t, asked, "a poll")
		require.Equal(t, `"3"`, r.Header.Get("If-None-Match"))
		require.Equal(t, "wait=7", r.Header.Get("Prefer"))
	}
	require.GreaterOrEqual(t, time.Since(began), 2*time.Second, "two pauses between three polls") //nolint:forbidigo // as above
	cancel()
	got := receive(t, waiting, "the end of the wait")
	var late *client.NotDoneError
	require.ErrorAs(t, got.err, &late)
	require.Equal(t, client.Pending, late.Ticket.State, "as it was last seen")
	require.EqualValues(t, 3, late.Ticket.Version)
}

func TestAnEndlessAnswerIsCut(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := fmt.Fprintf(w, "%01024d", 0); err != nil {
				return
			}
		}
	}))
	t.Cleanup(server.Close)
	_, err := clientAt(t, server.URL, func(c *client.Config) { c.Attempts = 1 }).Ticket(t.Context(), "tkt_1")
	require.ErrorContains(t, err, "larger than")
}
