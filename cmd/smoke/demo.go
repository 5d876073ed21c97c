package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// demo is the demo upstream and the demo callback receiver.
type demo struct {
	http               doer
	upstream, callback string
}

// made is a call that the upstream got.
type made struct {
	Method         string `json:"method"`
	Path           string `json:"path"`
	Query          string `json:"query"`
	IdempotencyKey string `json:"idempotency_key"`
	Body           string `json:"body"`
	Authorized     bool   `json:"authorized"`
}

// calls is the upstream's ledger.
func (d *demo) calls(ctx context.Context) ([]made, error) {
	type ledger struct {
		Calls []made `json:"calls"`
	}
	l, err := fetch[ledger](ctx, d.http, http.MethodGet, d.upstream+"/calls", nil)
	return l.Calls, err
}

// callsFor returns the calls that carry a ticket's id.
func (d *demo) callsFor(ctx context.Context, id string) ([]made, error) {
	all, err := d.calls(ctx)
	return slices.DeleteFunc(all, func(c made) bool { return c.IdempotencyKey != id }), err
}

// received is a callback that the receiver got.
type received struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	TicketID string          `json:"ticket_id"`
	Verified bool            `json:"verified"`
	Headers  http.Header     `json:"headers"`
	Body     json.RawMessage `json:"body"`
}

// callbacks returns what the receiver got about a ticket.
func (d *demo) callbacks(ctx context.Context, id string) ([]received, error) {
	type list struct {
		Callbacks []received `json:"callbacks"`
	}
	l, err := fetch[list](ctx, d.http, http.MethodGet, d.callback+"/received", nil)
	return slices.DeleteFunc(l.Callbacks, func(r received) bool { return r.TicketID != id }), err
}

// callbackOf waits for the callback about an event of a ticket.
func (d *demo) callbackOf(ctx context.Context, id, event string) (received, error) {
	var all []received
	found := -1
	err := until(ctx, showLimit, func(ctx context.Context) (ok bool, err error) {
		all, err = d.callbacks(ctx, id)
		found = slices.IndexFunc(all, func(r received) bool { return r.Type == event })
		return found >= 0, err
	})
	if err != nil {
		return received{}, fmt.Errorf("wait for the callback %s about %s (there are %d others): %w", event, id, len(all), err)
	}
	return all[found], nil
}

// verify checks a callback as a caller would, with a library that is not ours.
func (r received) verify(secret string) error {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return hook.Verify(r.Body, r.Headers)
}

// forged is the callback with one byte of its body changed.
func (r received) forged() received {
	r.Body = slices.Clone(r.Body)
	r.Body[len(r.Body)/2] ^= 1
	return r
}
