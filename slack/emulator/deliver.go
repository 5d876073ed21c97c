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
	"time"
)

// Delivery is one request that was sent to the app.
type Delivery struct {
	// Kind is block_actions, view_submission, view_closed or raw.
	Kind string `json:"kind"`
	// Query, Header and Body are what was sent; sending them again with [Server.SendRaw]
	// is a replay.
	Query  string      `json:"query,omitempty"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	// Status is the answer's, 0 when there was none in time.
	Status int `json:"status"`
	// AckMS is how long the app took, in milliseconds.
	AckMS int64 `json:"ack_ms"`
}

// Raw is a request to send to the app that Slack would perhaps never send.
type Raw struct {
	// Body is sent as it is, with the content type of a form unless Header says otherwise.
	Body string `json:"body"`
	// Query is added to the interactions URL.
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
const maxDeliveries = 1000

// Deliveries returns what was sent to the app, oldest first.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.deliveries)
}

// SendRaw sends a request of the caller's making to the interactions URL.
func (s *Server) SendRaw(ctx context.Context, raw Raw) (RawReply, error) {
	h := http.Header{}
	if raw.Sign {
		h = s.Sign([]byte(raw.Body), wallClock().Add(time.Duration(raw.SkewSeconds)*time.Second))
	}
	for k, v := range raw.Header {
		h.Set(k, v)
	}
	a := s.post(ctx, "raw", raw.Query, []byte(raw.Body), h)
	if a.err != nil {
		return RawReply{}, a.err
	}
	return RawReply{Status: a.status, Body: string(a.body)}, nil
}

// ack is the app's answer to an interaction.
type ack struct {
	status      int
	contentType string
	body        []byte
	took        time.Duration
	err         error
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

// send posts a payload the way Slack does: a form with one field, signed with real time.
func (s *Server) send(ctx context.Context, p pressed) ack {
	body := []byte("payload=" + url.QueryEscape(p.sealed))
	return s.post(ctx, p.kind, "", body, s.Sign(body, wallClock()))
}

// post sends one request to the app and gives up after the time Slack allows. It is sent
// once: Slack does not retry interactions.
func (s *Server) post(ctx context.Context, kind, query string, body []byte, h http.Header) ack {
	h = withFormHeaders(h)
	begun := wallClock()
	a := s.roundTrip(ctx, query, body, h)
	a.took = wallClock().Sub(begun)
	s.remember(Delivery{Kind: kind, Query: query, Header: h, Body: string(body), Status: a.status, AckMS: a.took.Milliseconds()})
	s.log.InfoContext(ctx, "slack emulator sent an interaction", slog.String("kind", kind),
		slog.Int("status", a.status), slog.Int64("ack_ms", a.took.Milliseconds()), slog.String("problem", a.problem()))
	return a
}

func (s *Server) roundTrip(ctx context.Context, query string, body []byte, h http.Header) ack {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
	defer cancel()
	req, err := s.interactionRequest(ctx, query, body)
	if err != nil {
		return ack{err: err}
	}
	req.Header = h.Clone()
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return ack{err: s.silence(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return ack{err: s.silence(err)}
	}
	return ack{status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), body: raw}
}

// silence names the reason why there is no answer.
func (s *Server) silence(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the app did not answer within %s", s.cfg.AckTimeout)
	}
	return fmt.Errorf("reach the app: %w", err)
}

var errNoURL = errors.New("no interactions URL is set")

func (s *Server) interactionRequest(ctx context.Context, query string, body []byte) (*http.Request, error) {
	s.mu.Lock()
	target := s.interactionsURL
	s.mu.Unlock()
	if target == "" {
		return nil, errNoURL
	}
	if query != "" {
		target += "?" + query
	}
	return http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
}

func withFormHeaders(h http.Header) http.Header {
	h = h.Clone()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/x-www-form-urlencoded")
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
}
