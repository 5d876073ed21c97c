package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/client"
)

// script answers each connection with the next of its parts, and keeps what was asked.
type script struct {
	mu    sync.Mutex
	parts []func(w http.ResponseWriter, r *http.Request)
	last  []string // Last-Event-ID of each
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.last)
	s.last = append(s.last, r.Header.Get("Last-Event-ID"))
	s.mu.Unlock()
	if n >= len(s.parts) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.parts[n](w, r)
}

func says(text string) func(w http.ResponseWriter, r *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "retry: 1\n\n"+text)
	}
}

func event(n int, kind string) string {
	return fmt.Sprintf(": a comment\n\nid: %d\nevent: %s\ndata: {\"sequence\":%d,\"type\":%q,\"state\":\"pending\",\"actor\":{\"kind\":\"person\",\"name\":\"bo\"}}\n\n", n, kind, n, kind)
}

func collect(t *testing.T, events func(yield func(client.Event, error) bool)) (types []string, last error) {
	t.Helper()
	for e, err := range events {
		if err != nil {
			return types, err
		}
		types = append(types, e.Type)
	}
	return types, nil
}

func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	t.Parallel()
	s := &script{parts: []func(http.ResponseWriter, *http.Request){
		says(event(1, "ticket.created") + event(2, "ticket.decided") + "id: 3\ndata: {\"cut"),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) { problem(w, 503, "not_ready") },
		says(event(2, "ticket.decided") + strings.ReplaceAll(event(3, "ticket.approved"), "\n", "\r\n")),
		says(event(4, "ticket.something_new")),
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	types, err := collect(t, clientAt(t, server.URL).Events(t.Context(), "tkt_1", 0))
	require.NoError(t, err, "204 ends it")
	require.Equal(t, []string{"ticket.created", "ticket.decided", "ticket.approved", "ticket.something_new"}, types, "no gap, none twice")
	require.Equal(t, []string{"", "2", "2", "2", "3", "4"}, s.last)
}

func TestAStreamBeginsWhereItIsToldTo(t *testing.T) {
	t.Parallel()
	s := &script{parts: []func(http.ResponseWriter, *http.Request){says(event(8, "ticket.decided"))}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	_, err := collect(t, clientAt(t, server.URL).Events(t.Context(), "tkt_1", 7))
	require.NoError(t, err)
	require.Equal(t, []string{"7", "8"}, s.last)
}

func TestAResetIsHandedOn(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&script{parts: []func(http.ResponseWriter, *http.Request){
		says("event: reset\ndata: {}\n\n" + event(9, "ticket.decided")),
	}})
	t.Cleanup(server.Close)
	types, err := collect(t, clientAt(t, server.URL).Events(t.Context(), "tkt_1", 3))
	require.NoError(t, err)
	require.Equal(t, []string{client.EventReset, "ticket.decided"}, types)
}

func TestAStreamOfAllTicketsKeepsItsCursor(t *testing.T) {
	t.Parallel()
	s := &script{parts: []func(http.ResponseWriter, *http.Request){
		says("id: opaque-1\nevent: ticket.created\ndata: {\"ticket_id\":\"tkt_1\",\"sequence\":1,\"type\":\"ticket.created\"}\n\n"),
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	var got []client.Event
	for e, err := range clientAt(t, server.URL).AllEvents(t.Context(), "opaque-0") {
		require.NoError(t, err)
		got = append(got, e)
	}
	require.Len(t, got, 1)
	require.Equal(t, "tkt_1", got[0].TicketID)
	require.Equal(t, "opaque-1", got[0].Cursor)
	require.Equal(t, []string{"opaque-0", "opaque-1"}, s.last)
}

func TestAStreamThatIsRefusedEndsWithTheProblem(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem(w, 404, "not_found") }))
	t.Cleanup(server.Close)
	_, err := collect(t, clientAt(t, server.URL).Events(t.Context(), "tkt_1", 0))
	require.ErrorIs(t, err, client.ErrNotFound)
}

func TestAStreamThatIsNoneOrHasNoEndIsRefused(t *testing.T) {
	t.Parallel()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	t.Cleanup(page.Close)
	_, err := collect(t, clientAt(t, page.URL).Events(t.Context(), "tkt_1", 0))
	require.ErrorContains(t, err, "no stream of events")

	part := func(filler string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			says("")(w, r)
			for range 9 << 10 {
				if _, err := io.WriteString(w, filler); err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, "\n\n"+event(1, "ticket.created"))
		}
	}
	s := &script{parts: []func(http.ResponseWriter, *http.Request){
		part(strings.Repeat("x", 1024)), part("data: " + strings.Repeat("x", 1024) + "\n"), says(event(2, "ticket.decided")),
	}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	types, err := collect(t, clientAt(t, server.URL).Events(t.Context(), "tkt_1", 0))
	require.NoError(t, err)
	require.Equal(t, []string{"ticket.decided"}, types, "what is too long is given up, and the stream tried again")
}

func TestAStreamEndsWithItsContextAndWithItsReader(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(event(1, "ticket.created"))(w, r)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range clientAt(t, server.URL).Events(ctx, "tkt_1", 0) {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			break
		}
		cancel()
	}
	receive(t, gone, "the end of the connection")
	for _, err := range clientAt(t, server.URL).Events(t.Context(), "tkt_1", 0) {
		require.NoError(t, err)
		break
	}
	receive(t, gone, "the end of the connection")
}
