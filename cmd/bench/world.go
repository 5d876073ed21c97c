package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"countersign/envelope"
)

// world is everything round the service, as light as it can be: an upstream, a receiver
// and a Slack that remembers the button of each card. It notes when each was reached.
type world struct {
	upstream, receiver, slack string
	// keyset is one for all processes on the database.
	keyset string

	mu       sync.Mutex
	handles  map[string]card      // ticket fingerprint line → button
	arrived  map[string]time.Time // ticket → first byte at the upstream
	answered map[string]time.Time
	called   map[string]time.Time // ticket → callback received
	cards    chan card
	posted   int
}

type card struct{ handle, channel, ts string }

const (
	signingSecret = "bench-signing-secret"
	team, app     = "T0BENCH", "A0BENCH"
)

func newWorld(ctx context.Context) (*world, error) {
	keyset, err := envelope.NewKeyset()
	if err != nil {
		return nil, err
	}
	w := &world{
		keyset: keyset, handles: map[string]card{}, arrived: map[string]time.Time{}, answered: map[string]time.Time{},
		called: map[string]time.Time{}, cards: make(chan card, 100_000),
	}
	for _, part := range []struct {
		url *string
		h   http.HandlerFunc
	}{{&w.upstream, w.serveUpstream}, {&w.receiver, w.serveReceiver}, {&w.slack, w.serveSlack}} {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*part.url = "http://" + l.Addr().String()
		srv := &http.Server{Handler: part.h, ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = srv.Serve(l) }() // ends with the process
	}
	return w, nil
}

func (w *world) serveUpstream(rw http.ResponseWriter, r *http.Request) {
	id, now := r.Header.Get("Idempotency-Key"), time.Now()
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write([]byte(`{"ok":true}`))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived[id], w.answered[id] = now, time.Now()
}

func (w *world) serveReceiver(rw http.ResponseWriter, r *http.Request) {
	now := time.Now()
	var event struct {
		Data struct {
			TicketID string `json:"ticket_id"`
		} `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	rw.WriteHeader(http.StatusNoContent)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.called[event.Data.TicketID] = now
}

// wasCalled reports whether the callback of a ticket has come.
func (w *world) wasCalled(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.called[id]
	return ok
}

// drainCards forgets the cards nobody has pressed.
func (w *world) drainCards() {
	for {
		select {
		case <-w.cards:
		default:
			return
		}
	}
}

// serveSlack takes posts and updates. The handle is read out of the card's first button.
func (w *world) serveSlack(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "application/json")
	if err := r.ParseForm(); err != nil {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	blocks := r.PostForm.Get("blocks")
	w.mu.Lock()
	w.posted++
	ts := fmt.Sprintf("1700000000.%06d", w.posted)
	w.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "chat.postMessage") {
		if _, rest, ok := strings.Cut(blocks, `"value":"h_`); ok && len(rest) > 32 {
			w.cards <- card{handle: "h_" + rest[:32], channel: "C0BENCH", ts: ts}
		}
	}
	_, _ = fmt.Fprintf(rw, `{"ok":true,"channel":"C0BENCH","ts":"%s","message":{}}`, ts)
}

// configuration is what the service runs with.
func (w *world) configuration(listen, keyHash string) (yaml string, env []string) {
	env = []string{
		"BENCH_KEYSET=" + w.keyset,
		"BENCH_TOKEN=xoxb-bench", "BENCH_SIGNING=" + signingSecret, "BENCH_KEY=" + keyHash,
		"BENCH_CALLBACK=whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32))),
	}
	return fmt.Sprintf(`
server: {listen: "%s", public_url: "http://%s", drain: 10s}
encryption: {keyset: env:BENCH_KEYSET}
slack: {bot_token: env:BENCH_TOKEN, signing_secrets: [env:BENCH_SIGNING], api_url: "%s/api/", team_ids: [%s], app_id: %s, channel: C0BENCH}
people: [{name: ana, slack: U0ANA}, {name: bo, slack: U0BO}, {name: chen, slack: U0CHEN}]
groups: [{name: security, members: [ana, bo, chen]}]
callers: [{name: bench, key_sha256: env:BENCH_KEY, limits: {waiting: 20000, open: 1000000}, upstreams: [billing], callbacks: {verification: waived, origins: ["%s"], secret: env:BENCH_CALLBACK}}]
upstreams: [{name: billing, base_url: "%s/v1", timeout: 10s}]
egress: {callbacks: {allow_loopback: true, allow_http: true}}
rules:
  - name: two
    match: {upstream: billing, methods: [DELETE]}
    stages: [{name: security, need: [{from: [security], approvals: 2}]}]
  - name: short
    match: {upstream: billing, methods: [POST]}
    expires_in: 2s
    stages: [{name: security, need: [{from: [security], approvals: 2}]}]
`, listen, listen, w.slack, team, app, w.receiver, w.upstream), env
}
