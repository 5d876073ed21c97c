package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Delivery is one request or envelope that was sent to the app.
type Delivery struct {
	// Kind is block_actions, view_submission, view_closed, slash_commands, url_verification,
	// raw, or the name of an event.
	Kind string `json:"kind"`
	// Transport is "http" or "socket".
	Transport string `json:"transport"`
	// URL, Query, Header and Body are what was sent, Body being the envelope for a socket;
	// sending them again with [Server.SendRaw] or [Server.SendEnvelope] is a replay.
	URL    string      `json:"url,omitempty"`
	Query  string      `json:"query,omitempty"`
	Header http.Header `json:"header,omitempty"`
	Body   string      `json:"body"`
	// Envelope is a socket's envelope_id.
	Envelope string `json:"envelope_id,omitempty"`
	// Connection numbers the socket it went through, in the order they were opened, from 1.
	Connection int `json:"connection,omitempty"`
	// Retry is 0 for a first attempt.
	Retry int `json:"retry"`
	// Status is the answer's (200 for an acknowledged envelope), 0 when there was none in time.
	Status int `json:"status"`
	// AckMS is how long the app took, in milliseconds.
	AckMS int64 `json:"ack_ms"`
}

// Raw is a request to send to the app that Slack would perhaps never send.
type Raw struct {
	// To is interactions, events or commands. Zero: interactions.
	To string `json:"to"`
	// Body is sent as it is, with the content type of a form unless Header says otherwise.
	Body string `json:"body"`
	// Query is added to the URL.
	Query string `json:"query"`
	// Header is set last and so can replace the signature.
	Header map[string]string `json:"header"`
	// Sign adds an authentic signature, as somebody who stole the secret could. The time is
	// now plus SkewSeconds.
	Sign        bool  `json:"sign"`
	SkewSeconds int64 `json:"skew_seconds"`
}

// RawReply is what the app answered.
type RawReply struct {
	Status int    `json:"status"`
	Body   string `json:"body"`
}

// maxDeliveries bounds how many requests to the app are remembered.
const maxDeliveries = 5000

// Deliveries returns what was sent to the app, oldest first.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deliveries)
}

// SendRaw sends a request of the caller's making to one of the app's URLs, whether or not
// Socket Mode is on.
func (s *Server) SendRaw(ctx context.Context, raw Raw) (RawReply, error) {
	h := http.Header{}
	if raw.Sign {
		h = s.Sign([]byte(raw.Body), wallClock().Add(time.Duration(raw.SkewSeconds)*time.Second))
	}
	for k, v := range raw.Header {
		h.Set(k, v)
	}
	class := ForInteractions
	if raw.To != "" {
		class = raw.To
	}
	a := s.post(ctx, parcel{class: class, kind: "raw", query: raw.Query, body: []byte(raw.Body)}, h)
	if a.err != nil {
		return RawReply{}, a.err
	}
	return RawReply{Status: a.status, Body: string(a.body)}, nil
}

// Classes of what is sent to the app, and the Method of faults that hit it.
const (
	ForInteractions = "interactions"
	ForEvents       = "events"
	ForCommands     = "commands"
)

// parcel is something for the app.
type parcel struct {
	class, kind string
	body        []byte // over HTTP
	contentType string // of body; "" for a form
	query       string
	payload     string // through a socket, JSON
	envelope    string // the envelope's type
	answers     bool   // the acknowledgement may carry a body
	plain       bool   // no fault hits it
	retry       int
	reason      string
	avoid       *socket // the connection that failed before
}

// ack is the app's answer.
type ack struct {
	status      int
	contentType string
	body        []byte
	took        time.Duration
	err         error
	late        bool // err is that it did not come in time
	noRetry     bool
	socket      *socket
}

// problem says what is wrong with an answer apart from its body, or "".
func (a ack) problem() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case a.status != http.StatusOK:
		return fmt.Sprintf("the app answered HTTP %d", a.status)
	default:
		return ""
	}
}

// parcel wraps an interaction or command.
func (p pressed) parcel() parcel {
	if p.kind == "slash_commands" {
		return parcel{class: ForCommands, kind: p.kind, body: []byte(slashForm(p.payload)), payload: p.sealed, envelope: p.kind, answers: true}
	}
	return parcel{
		class: ForInteractions, kind: p.kind, body: []byte("payload=" + url.QueryEscape(p.sealed)), payload: p.sealed,
		envelope: "interactive", answers: p.kind == "view_submission",
	}
}

// send delivers an interaction. It is sent once: Slack does not retry interactions.
func (s *Server) send(ctx context.Context, p pressed) ack { return s.deliver(ctx, p.parcel()) }

var errLost = errors.New("the request was lost on its way")

// deliver sends a parcel the way that is switched on, with what was planned to go wrong.
func (s *Server) deliver(ctx context.Context, p parcel) ack {
	var f *Fault
	if !p.plain {
		f = s.takeInbound(p.class)
	}
	if f.kind() == Drop {
		s.passed()
		return ack{err: errLost}
	}
	if f.kind() == OutOfOrder {
		s.hold(ctx)
	}
	if f.kind() == Slow {
		s.pause(ctx, time.Duration(min(f.DelayMS, 60_000))*time.Millisecond)
	}
	a := s.carry(ctx, p)
	if f.kind() == Duplicate {
		_ = s.carry(ctx, p) // the person sees what came of the first
	}
	s.passed()
	return a
}

func (s *Server) carry(ctx context.Context, p parcel) ack {
	s.mu.Lock()
	sockets := s.socketMode
	s.mu.Unlock()
	if sockets {
		return s.viaSocket(ctx, p)
	}
	return s.post(ctx, p, s.Sign(p.body, wallClock()))
}

// passed says that something was delivered, which lets go what waits for that.
func (s *Server) passed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.delivered)
	s.delivered = make(chan struct{})
}

// hold waits until something else was delivered, or [Server.ReleaseHangs].
func (s *Server) hold(ctx context.Context) {
	s.mu.Lock()
	next, release := s.delivered, s.release
	s.mu.Unlock()
	select {
	case <-next:
	case <-release:
	case <-ctx.Done():
	case <-s.done:
	}
}

func (s *Server) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-s.done:
	}
}

// post sends one request to the app and gives up after the time Slack allows.
func (s *Server) post(ctx context.Context, p parcel, h http.Header) ack {
	h = withUsualHeaders(h, p)
	retryHeaders(h, p)
	begun := wallClock()
	target := s.urlOf(p)
	a := s.roundTrip(ctx, target, p, h)
	a.took = wallClock().Sub(begun)
	s.remember(Delivery{
		Kind: p.kind, Transport: "http", URL: target, Query: p.query, Header: h, Body: string(p.body), Retry: p.retry,
		Status: a.status, AckMS: a.took.Milliseconds(),
	})
	s.log.InfoContext(ctx, "slack emulator sent an interaction", slog.String("kind", p.kind),
		slog.Int("status", a.status), slog.Int64("ack_ms", a.took.Milliseconds()), slog.String("problem", a.problem()))
	return a
}

func (s *Server) urlOf(p parcel) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	target := map[string]string{ForInteractions: s.interactionsURL, ForEvents: s.eventsURL, ForCommands: s.commandsURL}[p.class]
	if target != "" && p.query != "" {
		target += "?" + p.query
	}
	return target
}

// maxRedirects is how many redirects Slack follows for an event; interactions follow none.
const maxRedirects = 2

func (s *Server) roundTrip(ctx context.Context, target string, p parcel, h http.Header) ack {
	if target == "" {
		return ack{err: fmt.Errorf("no %s URL is set", p.class)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
	defer cancel()
	for hop := 0; ; hop++ {
		a, next := s.oneTrip(ctx, target, p, h)
		switch {
		case next == "" || p.class != ForEvents:
			return a
		case hop == maxRedirects:
			return ack{err: errors.New("too many redirects")}
		}
		target = next
	}
}

// oneTrip posts once; next is where a redirect points to.
func (s *Server) oneTrip(ctx context.Context, target string, p parcel, h http.Header) (a ack, next string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(p.body)) //nolint:gosec // the app's own URL, or where it redirects to
	if err != nil {
		return ack{err: err}, ""
	}
	req.Header = h.Clone()
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return s.silence(err), ""
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return s.silence(err), ""
	}
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		next = to.String()
	}
	return ack{
		status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), body: raw,
		noRetry: resp.Header.Get("X-Slack-No-Retry") == "1",
	}, next
}

// silence names the reason why there is no answer.
func (s *Server) silence(err error) ack {
	if errors.Is(err, context.DeadlineExceeded) {
		return ack{late: true, err: fmt.Errorf("the app did not answer within %s", s.cfg.AckTimeout)}
	}
	return ack{err: fmt.Errorf("reach the app: %w", err)}
}

func withUsualHeaders(h http.Header, p parcel) http.Header {
	h = h.Clone()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		if p.contentType != "" {
			h.Set("Content-Type", p.contentType)
		}
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "Slackbot 1.0 (+https://api.slack.com/robots)")
	}
	h.Set("Accept", "application/json,*/*")
	return h
}

func (s *Server) remember(d Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deliveries = lastOf(append(s.deliveries, d), maxDeliveries)
	s.touch()
}

// isClosed says whether the server was closed.
func (s *Server) isClosed() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// commaList is how Slack joins lists in one argument.
func commaList(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
}
