package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/db"
)

const (
	// streamRetry is how long a client is to wait before it comes back, in milliseconds.
	streamRetry = "3000"
	// streamRead bounds one reading of events from the database.
	streamRead = 15 * time.Second
	// streamPage is how many events are read at a time.
	streamPage = 100
)

// streams are the operations that answer with a stream of server-sent events to whoever
// accepts that, and with JSON to others. A stream has no deadline as a whole.
var streams = map[string]bool{"listTicketEvents": true, "listEvents": true}

// acceptEvents refuses requests that accept neither a stream nor JSON, and notes in the
// exchange which of them it is to be: a stream for those who name it, unless they like JSON
// better.
func (s *Server) acceptEvents(operation string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			x, accept := exchangeOf(c.Request().Context()), c.Request().Header.Get("Accept")
			x.stream = prefersStream(accept)
			if !x.stream && !accepts(accept, "application", "json") {
				return fail(codeNotAcceptable, "only text/event-stream and application/json are offered here")
			}
			key, ip := bearer(c.Request().Header), c.RealIP()
			x.still = func(ctx context.Context) (*exchange, error) { return s.recheck(ctx, x, operation, key, ip) }
			return next(c)
		}
	}
}

// prefersStream reports whether an Accept header asks for a stream: by name and no less than
// for JSON, or by admitting it and not JSON.
func prefersStream(accept string) bool {
	stream, plain := listed(accept, "text", "event-stream"), listed(accept, "application", "json")
	if stream > 0 && stream >= plain {
		return true
	}
	return !accepts(accept, "application", "json") && accepts(accept, "text", "event-stream")
}

// errNoMore ends a stream: whoever opened it may not have it any more.
var errNoMore = errors.New("no longer allowed")

// recheck authenticates whoever opened a stream again, by the configuration of now.
func (s *Server) recheck(ctx context.Context, x *exchange, operation, key, ip string) (*exchange, error) {
	now := &exchange{config: s.policy()}
	if now.config == nil {
		return nil, errNoMore
	}
	if err := s.recognise(ctx, now, key, ip); err != nil {
		return nil, err
	}
	if now.caller.Name != x.caller.Name || now.person.Name != x.person.Name {
		return nil, errNoMore
	}
	if accessOf(operation).refusal(now) != nil {
		return nil, errNoMore
	}
	return now, nil
}

// streamed is an answer that goes on for as long as there is something to tell. An error
// before its first byte is answered as a problem; after that the stream ends.
type streamed func(w http.ResponseWriter) error

// VisitListTicketEventsResponse writes the stream.
func (f streamed) VisitListTicketEventsResponse(w http.ResponseWriter) error { return f(w) }

// VisitListEventsResponse writes the stream.
func (f streamed) VisitListEventsResponse(w http.ResponseWriter) error { return f(w) }

// events writes server-sent events (WHATWG HTML, section 9.2). Nothing is buffered beyond
// one write.
type events struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	b    bytes.Buffer
	last string // the id that the client has
	wait time.Duration
}

// openEvents begins a stream.
func (s *Server) openEvents(w http.ResponseWriter) (*events, error) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("Vary", "Accept")
	h.Set("Connection", "close") // its deadlines are of no use to another request
	w.WriteHeader(http.StatusOK)
	e := &events{w: w, ctl: http.NewResponseController(w), wait: s.streamWrite}
	e.b.WriteString("retry: " + streamRetry + "\n\n")
	return e, e.flush()
}

// hangUp is a stream that ends at once: its client comes back, to another process if this
// one is going away. To an error it would not.
func (s *Server) hangUp(w http.ResponseWriter) error {
	_, err := s.openEvents(w)
	return err
}

// event adds one to what is written next. An empty id leaves the client's as it is.
func (e *events) event(id, name string, data any) error {
	raw, err := json.Marshal(data) // one line: JSON escapes line breaks
	if err != nil {
		return err
	}
	e.id(id)
	e.b.WriteString("event: " + name + "\ndata: ")
	e.b.Write(raw)
	e.b.WriteString("\n\n")
	return nil
}

func (e *events) id(id string) {
	if id != "" && id != e.last {
		e.b.WriteString("id: " + id + "\n")
		e.last = id
	}
}

// place tells the client from where to go on, without an event.
func (e *events) place(id string) {
	if id != e.last {
		e.id(id)
		e.b.WriteByte('\n')
	}
}

// reset tells the client to forget what it knows of the past.
func (e *events) reset(id, why string) error {
	return e.event(id, "reset", map[string]string{"reason": why})
}

// beat shows that the stream is alive, to the client and to whatever is in between.
func (e *events) beat() error {
	e.b.WriteString(": \n\n")
	return e.flush()
}

// flush writes what was added. The deadline is real time, whatever the clock of the server.
func (e *events) flush() error {
	if e.b.Len() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.wait)
	defer cancel()
	deadline, _ := ctx.Deadline()
	if err := e.ctl.SetWriteDeadline(deadline); err != nil {
		return err
	}
	_, err := e.w.Write(e.b.Bytes())
	e.b.Reset()
	if e.b.Cap() > 64<<10 {
		e.b = bytes.Buffer{} // one that was once large is not kept for as long as the stream lasts
	}
	if err != nil {
		return err
	}
	return e.ctl.Flush()
}

// keepOn runs a stream until it is done, the client leaves, the server drains, or whoever
// opened it may not have it any more. again is called at first and then whenever there may
// be something new; it writes that, and says when it was the last. check is called once a
// heartbeat with who asks by then.
func (s *Server) keepOn(ctx context.Context, x *exchange, sub *db.Subscription, out *events,
	again func() (done bool, err error), check func(now *exchange) error,
) error {
	ticker := time.NewTicker(s.heartbeat)
	defer ticker.Stop()
	for {
		done, err := again()
		if err := errors.Join(err, out.flush()); err != nil || done {
			return err
		}
		select {
		case <-sub.C:
		case <-ticker.C:
			now, err := x.still(ctx)
			if err == nil {
				err = check(now)
			}
			if err := errors.Join(err, out.beat()); err != nil {
				return err
			}
		case <-s.store.Closed():
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// streamOver makes the end of a stream the end of the request: what ended it is for our log, not
// for a client that has already been answered 200.
func (s *Server) streamOver(x *exchange, err error) error {
	if err != nil && !errors.Is(err, errNoMore) && !errors.Is(err, context.Canceled) {
		x.writeErr = err
	}
	return nil
}

// accepted is what representations an operation offers.
func (s *Server) accepted(operation string) echo.MiddlewareFunc {
	if streams[operation] {
		return s.acceptEvents(operation)
	}
	return acceptJSON
}

// maxCatching bounds how many streams read of the past at a time.
const maxCatching = 4
