package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"countersign/egress"
)

// serveDemo serves a handler until ctx ends.
func serveDemo(ctx context.Context, l net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: demoTimeout}
	go func() { _ = srv.Serve(l) }() // ends with Close
	context.AfterFunc(ctx, func() { _ = srv.Close() })
}

// demoUpstream is a billing API with nothing behind it. It keeps a ledger of the calls it
// got, which is what proves that a call was made once.
type demoUpstream struct {
	token string
	mu    sync.Mutex
	calls []demoCall
}

type demoCall struct {
	Method         string `json:"method"`
	Path           string `json:"path"`
	Query          string `json:"query,omitempty"`
	IdempotencyKey string `json:"idempotency_key"`
	Body           string `json:"body,omitempty"`
	Authorized     bool   `json:"authorized"`
}

// ServeHTTP answers calls below /v1 and shows the ledger at /calls.
func (u *demoUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/calls" {
		u.mu.Lock()
		defer u.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{"calls": append([]demoCall{}, u.calls...)})
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	call := demoCall{
		Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Body: string(body),
		IdempotencyKey: r.Header.Get("Idempotency-Key"), Authorized: r.Header.Get("Authorization") == "Bearer "+u.token,
	}
	u.mu.Lock()
	u.calls = append(u.calls, call)
	n := len(u.calls)
	u.mu.Unlock()
	if !call.Authorized {
		reply(w, http.StatusUnauthorized, map[string]any{"error": "the gate's credential is missing"})
		return
	}
	reply(w, http.StatusOK, map[string]any{"done": call.Method + " " + call.Path, "call_number": n})
}

// demoReceiver takes callbacks and believes only those whose signature is right.
type demoReceiver struct {
	secret string
	now    func() time.Time
	mu     sync.Mutex
	got    []demoCallback
	tell   func(demoCallback)
}

type demoCallback struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	TicketID string          `json:"ticket_id"`
	Verified bool            `json:"verified"`
	Attempt  string          `json:"attempt"`
	Headers  http.Header     `json:"headers"`
	Body     json.RawMessage `json:"body"`
}

func (d *demoReceiver) listen(tell func(demoCallback)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tell = tell
}

// ServeHTTP takes a callback with POST and shows what came with GET /received.
func (d *demoReceiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Path == "/received" {
		d.mu.Lock()
		defer d.mu.Unlock()
		reply(w, http.StatusOK, map[string]any{"callbacks": append([]demoCallback{}, d.got...)})
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || r.Method != http.MethodPost || !json.Valid(body) {
		reply(w, http.StatusBadRequest, map[string]any{"error": "this is the demo's callback receiver: POST a signed event, or GET /received"})
		return
	}
	c := demoCallback{
		ID: r.Header.Get("Webhook-Id"), Attempt: r.Header.Get("Countersign-Attempt"), Body: body, Headers: r.Header,
		Verified: d.verified(r.Header, body),
	}
	var event struct {
		Type string `json:"type"`
		Data struct {
			TicketID  string `json:"ticket_id"`
			Challenge string `json:"challenge"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &event); err == nil {
		c.Type, c.TicketID = event.Type, event.Data.TicketID
	}
	d.mu.Lock()
	d.got = append(d.got, c)
	tell := d.tell
	d.mu.Unlock()
	if tell != nil {
		tell(c)
	}
	if !c.Verified {
		reply(w, http.StatusUnauthorized, map[string]any{"error": "the signature is wrong"})
		return
	}
	if event.Data.Challenge != "" { // it was asked whether it wants callbacks
		reply(w, http.StatusOK, map[string]any{"challenge": event.Data.Challenge})
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *demoReceiver) verified(header http.Header, body []byte) bool {
	secret, err := egress.ParseSecret(d.secret)
	return err == nil && egress.Verify([]egress.Secret{secret}, header, body, d.now(), 5*time.Minute) == nil
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		_, _ = fmt.Fprintln(w, err)
	}
}
