package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// CallbackEvent is the body of a callback.
type CallbackEvent struct {
	Type      string       `json:"type"`
	Timestamp time.Time    `json:"timestamp"`
	Data      CallbackData `json:"data"`
	// ID is the webhook-id: the same whenever this event is delivered. Attempt counts those deliveries from 1; Manual says
	// that somebody asked for this one. All three come from headers.
	ID      string `json:"-"`
	Attempt int    `json:"-"`
	Manual  bool   `json:"-"`
	// Raw is the body as it came.
	Raw json.RawMessage `json:"-"`
}

// CallbackData is what an event is about. Events come in no particular order: drop what has a lower Version than what
// you know of the ticket.
type CallbackData struct {
	TicketID     string            `json:"ticket_id"`
	Caller       string            `json:"caller"` // whom it was sent to
	State        State             `json:"state"`
	Done         bool              `json:"done"`
	Sequence     int64             `json:"sequence"`
	Version      int64             `json:"version"`
	Metadata     map[string]string `json:"metadata"`
	Links        map[string]string `json:"links"`
	Error        *TicketProblem    `json:"error"`
	Question     *Question         `json:"question"`
	Reason       string            `json:"reason"`
	SupersededBy string            `json:"superseded_by"`
	// Result is the upstream's answer. Where ResultOmitted says why it is missing, Client.Result has it.
	Result        *ResultDocument `json:"result"`
	ResultOmitted string          `json:"result_omitted"`
	// Challenge is that of an endpoint.verification, which VerifyCallback answers.
	Challenge string `json:"challenge"`
}

// EventVerification is the type of the event by which Countersign asks whether an address wants its callbacks.
const EventVerification = "endpoint.verification"

// ParseEvent reads the body of a callback whose signature was verified.
func ParseEvent(body []byte) (CallbackEvent, error) {
	e := CallbackEvent{Raw: json.RawMessage(body)}
	if err := json.Unmarshal(body, &e); err != nil {
		return CallbackEvent{}, fmt.Errorf("read the event: %w", err)
	}
	if e.Type == "" {
		return CallbackEvent{}, errors.New("read the event: it has no type")
	}
	return e, nil
}

type eventKey struct{}

// EventFrom returns the event that VerifyCallback has verified for this request.
func EventFrom(ctx context.Context) (CallbackEvent, bool) {
	e, ok := ctx.Value(eventKey{}).(CallbackEvent)
	return e, ok
}

// Seen keeps the ids of events that were taken. A store that several processes share makes each event reach one handler
// once, but for those that are delivered at the same moment.
type Seen interface {
	// Has says whether an id was added. Add keeps one, for as long as deliveries may be repeated: a week is plenty.
	Has(ctx context.Context, id string) (bool, error)
	Add(ctx context.Context, id string) error
}

// SeenInMemory keeps the last n ids of this process.
func SeenInMemory(n int) Seen { return &memory{limit: max(n, 1), known: make(map[string]struct{})} }

type memory struct {
	mu    sync.Mutex
	limit int
	known map[string]struct{}
	order []string // oldest first
}

func (m *memory) Has(_ context.Context, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known[id]
	return ok, nil
}

func (m *memory) Add(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.known[id]; ok {
		return nil
	}
	if len(m.order) == m.limit {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
	m.known[id], m.order = struct{}{}, append(m.order, id)
	return nil
}

// VerifyCallback makes a middleware for the address to which events are posted. A request that passes reaches the handler
// with its body intact and the event in its context, see EventFrom; the handler answers 2xx once it has the event safe,
// and anything else to be sent it again. Challenges are answered by themselves. What does not pass is answered by 401, or
// 400, 405, 413 or 503, with no body worth reading, and never reaches the handler.
func VerifyCallback(c CallbackConfig) (func(http.Handler) http.Handler, error) {
	v, err := NewVerifier(c)
	if err != nil {
		return nil, err
	}
	return v.Middleware, nil
}

// Middleware is what VerifyCallback returns.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			v.receive(w, r, next)
		case http.MethodOptions:
			v.handshake(w, r)
		default:
			w.Header().Set("Allow", "POST")
			v.refuse(w, r, http.StatusMethodNotAllowed, fmt.Errorf("method %s", r.Method))
		}
	})
}

func (v *Verifier) receive(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, v.maxBody))
	if err != nil {
		v.refuse(w, r, statusOf(err), fmt.Errorf("read the body: %w", err))
		return
	}
	if err := v.Verify(r.Context(), r.Header, body); err != nil {
		v.refuse(w, r, statusOf(err), err)
		return
	}
	e, err := ParseEvent(body)
	if err != nil {
		v.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	e.ID = r.Header.Get("Webhook-Id")
	e.Attempt, _ = strconv.Atoi(r.Header.Get("Countersign-Attempt")) // 0 when it does not say
	e.Manual = r.Header.Get("Countersign-Trigger") == "manual"
	if e.Type == EventVerification {
		v.confirm(w, e)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), eventKey{}, e))
	r.Body = io.NopCloser(bytes.NewReader(body))
	v.once(w, r, e, next)
}

// once hands an event on, unless it was taken before.
func (v *Verifier) once(w http.ResponseWriter, r *http.Request, e CallbackEvent, next http.Handler) {
	if v.seen == nil {
		next.ServeHTTP(w, r)
		return
	}
	again, err := v.seen.Has(r.Context(), e.ID)
	switch {
	case err != nil:
		v.refuse(w, r, http.StatusServiceUnavailable, fmt.Errorf("look whether event %s was taken: %w", e.ID, err))
		return
	case again:
		w.WriteHeader(http.StatusNoContent)
		return
	}
	answer := &watched{ResponseWriter: w, status: http.StatusOK}
	next.ServeHTTP(answer, r)
	if answer.status < 300 {
		if err := v.seen.Add(context.WithoutCancel(r.Context()), e.ID); err != nil && v.refused != nil {
			v.refused(r, fmt.Errorf("keep that event %s was taken: %w", e.ID, err))
		}
	}
}

// watched sees how a handler answers.
type watched struct {
	http.ResponseWriter
	status int
	wrote  bool
}

// WriteHeader keeps the first status that is final.
func (w *watched) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write settles the status.
func (w *watched) Write(p []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// confirm answers a challenge with itself.
func (v *Verifier) confirm(w http.ResponseWriter, e CallbackEvent) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"challenge": e.Data.Challenge}) // whoever asks will ask again
}

// handshake answers that of CloudEvents' abuse protection, which is not signed: only for the origin that is known.
func (v *Verifier) handshake(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("WebHook-Request-Origin")
	if v.origin == "" || origin != v.origin {
		v.refuse(w, r, http.StatusMethodNotAllowed, errors.New("a handshake of an origin that is not the configured one"))
		return
	}
	w.Header().Set("WebHook-Allowed-Origin", origin)
	w.Header().Set("WebHook-Allowed-Rate", "*")
	w.Header().Set("Allow", "POST")
	w.WriteHeader(http.StatusOK)
}

func statusOf(err error) int {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, ErrCallbackHeaders):
		return http.StatusBadRequest
	case errors.Is(err, ErrCallbackTime), errors.Is(err, ErrCallbackSignature), errors.Is(err, ErrCallbackCaller):
		return http.StatusUnauthorized
	case errors.Is(err, ErrCallbackKeys):
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// refuse says no more than the status to whoever asked.
func (v *Verifier) refuse(w http.ResponseWriter, r *http.Request, status int, why error) {
	if v.refused != nil {
		v.refused(r, why)
	}
	http.Error(w, http.StatusText(status), status)
}
