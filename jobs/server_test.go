package jobs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// received is a request as it came.
type received struct {
	method, path string
	header       http.Header
	body         string
}

// ticket is the id of the ticket behind a call to an upstream.
func (r received) ticket() string { return r.header.Get("Idempotency-Key") }

// server is an upstream or a receiver that keeps a ledger of every request it has read.
type server struct {
	http    *httptest.Server
	closing chan struct{}
	got     chan received // every request, as it comes

	mu     sync.Mutex
	ledger []received
	answer http.HandlerFunc
}

// serve starts a server that answers 200 and {"ok":true} unless told otherwise.
func serve(tb testing.TB) *server {
	tb.Helper()
	s := &server{closing: make(chan struct{}), got: make(chan received, 10_000), answer: func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"ok":true}`)
	}}
	s.http = httptest.NewServer(http.HandlerFunc(s.handle))
	tb.Cleanup(func() {
		close(s.closing)
		s.http.Close()
	})
	return s
}

func (s *server) url() string { return s.http.URL }

func (s *server) handle(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // not received in full
	}
	entry := received{method: r.Method, path: r.RequestURI, header: r.Header.Clone(), body: string(body)}
	s.mu.Lock()
	s.ledger = append(s.ledger, entry)
	answer := s.answer
	s.mu.Unlock()
	s.got <- entry
	answer(rw, r)
}

// answers makes the server answer otherwise from now on.
func (s *server) answers(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// status makes the server answer with a status and no body.
func (s *server) status(code int) {
	s.answers(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
}

// statuses makes the server answer with these statuses, the last one for ever.
func (s *server) statuses(codes ...int) {
	var mu sync.Mutex
	s.answers(func(rw http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		rw.WriteHeader(codes[0])
		if len(codes) > 1 {
			codes = codes[1:]
		}
	})
}

// hangs makes the server keep requests waiting until release is called, or until it or the
// client gives up.
func (s *server) hangs() (release func()) {
	done := make(chan struct{})
	s.answers(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-done:
			_, _ = io.WriteString(rw, `{"ok":"late"}`)
		case <-r.Context().Done():
		case <-s.closing:
		}
	})
	return sync.OnceFunc(func() { close(done) })
}

func (s *server) requests() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.ledger...)
}

// callsOf counts the requests for a ticket.
func (s *server) callsOf(id string) (n int) {
	for _, r := range s.requests() {
		if r.ticket() == id {
			n++
		}
	}
	return n
}

// requireSigned verifies a callback with the library callers use.
func requireSigned(tb testing.TB, r received) {
	tb.Helper()
	webhook, err := standardwebhooks.NewWebhook(callbackSecret)
	require.NoError(tb, err)
	require.NoError(tb, webhook.Verify([]byte(r.body), r.header), "verify the signature of a callback")
}
