package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
)

const (
	// piece is how much of an answer is written to a client at a time, pieceFor how long the
	// client may take over it.
	piece    = 64 << 10
	pieceFor = 15 * time.Second
	// handOver is how long the end of a call is waited for beyond what its upstream may take.
	handOver = 30 * time.Second
	// held is how much of an answer is kept for a client that is slower than its upstream.
	held = 1 << 20
)

// relay makes a call that nobody has to approve, here and now, and answers with what the
// upstream says while it says it. It reports whether there was an answer; without one, the
// ticket says what is to be said.
//
// The call is made beside this request and not in it: neither a client that leaves nor one
// that reads slowly holds it up, or keeps it from being recorded. The answer is only ended
// once the call is recorded, and broken off, so that no client can take a part for the whole,
// when it was not all there.
func (o operations) relay(c echo.Context, x *exchange, t approvals.Ticket, f fronted) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(c.Request().Context(), f.upstream.Timeout+handOver)
	defer cancel()
	s := newStream()
	defer s.leave()
	made := make(chan error, 1)
	go func() { made <- o.makeCall(context.WithoutCancel(ctx), t.ID, s) }()
	for {
		select {
		case <-s.ready:
			if !o.pass(c, x, t, s) {
				return true, nil
			}
		case err := <-made:
			if !o.pass(c, x, t, s) {
				return true, nil
			}
			x.broken = s.begun() && err != nil
			return s.begun(), nil
		case <-ctx.Done():
			x.broken = s.begun()
			return x.broken, nil
		}
	}
}

// makeCall has the call made. A panic must not end the process of a client that is waiting.
func (o operations) makeCall(ctx context.Context, id string, s *stream) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			o.log.ErrorContext(ctx, "a direct call panicked", slog.String("ticket_id", id), slog.Any("error", err))
		}
	}()
	return o.direct(ctx, id, s)
}

// pass writes to the client what has come. When that fails the answer is broken off.
func (o operations) pass(c echo.Context, x *exchange, t approvals.Ticket, s *stream) bool {
	head, body := s.take()
	w, method := c.Response(), c.Request().Method
	if head != nil {
		// Without a length, which would end the answer before this request ends.
		o.upstreamHeader(c, x, t, head.status, head.headers)
		w.WriteHeader(head.status)
	}
	if !w.Committed || bodiless(method, w.Status) {
		return true // nothing yet, or what the end of this request sends
	}
	for first := head != nil; first || len(body) > 0; first = false {
		n := min(len(body), piece)
		if x.writeErr = o.writePiece(w, body[:n]); x.writeErr != nil {
			x.broken = true
			return false
		}
		body = body[n:]
	}
	return true
}

// writePiece hands a piece to the client at once. What bounds it is a timer, so that it takes
// no clock.
func (o operations) writePiece(w *echo.Response, b []byte) error {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(o.now().Add(lastResort))
	late := time.AfterFunc(pieceFor, func() { _ = control.SetWriteDeadline(time.Unix(1, 0)) })
	defer late.Stop()
	if len(b) > 0 {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return control.Flush()
}

// answerHead is the beginning of an upstream's answer.
type answerHead struct {
	status  int
	headers []approvals.Header
}

// stream is an [AnswerSink] that holds what the client has not taken yet. Its writer waits
// when that is too much.
type stream struct {
	ready chan struct{} // holds one token when there is something to take

	mu      sync.Mutex
	room    sync.Cond // taken from, or left
	head    *answerHead
	started bool // the head has been there
	pending []byte
	left    bool
}

func newStream() *stream {
	s := &stream{ready: make(chan struct{}, 1)}
	s.room.L = &s.mu
	return s
}

// Head takes the head of the answer.
func (s *stream) Head(status int, headers []approvals.Header, _ int64) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.started = &answerHead{status: status, headers: headers}, true
	s.signal()
	return s
}

// Write takes a part of the body. It fails when nobody wants it any more.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.left && len(s.pending) >= held {
		s.room.Wait()
	}
	if s.left {
		return 0, io.ErrClosedPipe
	}
	s.pending = append(s.pending, b...)
	s.signal()
	return len(b), nil
}

func (s *stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// take hands out what has come since it was last asked.
func (s *stream) take() (*answerHead, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, body := s.head, s.pending
	s.head, s.pending = nil, nil
	s.room.Broadcast()
	return head, body
}

// leave says that nothing more is wanted.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.pending = true, nil
	s.room.Broadcast()
}

func (s *stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}
