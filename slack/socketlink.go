package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	// greetingFor is how long Slack may take to say hello, writeFor a write.
	greetingFor = 10 * time.Second
	writeFor    = 5 * time.Second
)

// link is one connection.
type link struct {
	s       *Socket
	conn    *websocket.Conn
	since   time.Time
	hello   chan struct{} // closed once Slack has greeted
	tired   chan struct{} // closed when another connection should take its place
	over    chan struct{} // closed when nothing is read any more; err says why
	err     error
	tire    func()
	leaving sync.Once

	life     time.Duration // what Slack said in hello; zero: nothing, negative: there was none yet
	writing  sync.Mutex
	handling sync.WaitGroup
}

func newLink(s *Socket, conn *websocket.Conn) *link {
	l := &link{s: s, conn: conn, since: s.c.Now(), hello: make(chan struct{}), tired: make(chan struct{}), over: make(chan struct{}), life: -1}
	l.tire = sync.OnceFunc(func() { close(l.tired) })
	conn.SetReadLimit(maxEnvelope)
	answer := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		l.alive()
		return answer(data)
	})
	conn.SetPongHandler(func(string) error {
		l.alive()
		return nil
	})
	l.alive()
	return l
}

// alive puts off the moment at which the connection is given up for its silence.
func (l *link) alive() { _ = l.conn.SetReadDeadline(l.s.c.Now().Add(l.s.c.SilentFor)) }

// frame is whatever Slack sends.
type frame struct {
	Envelope
	Reason string `json:"reason"`
	Debug  struct {
		Seconds int64 `json:"approximate_connection_time"`
	} `json:"debug_info"`
}

// read takes what comes until the connection ends.
func (l *link) read(ctx context.Context) {
	defer func() {
		close(l.over)
		if l.life >= 0 {
			l.s.open.Add(-1)
		}
	}()
	for {
		_, raw, err := l.conn.ReadMessage()
		if err != nil {
			l.err = fmt.Errorf("read from slack's socket: %w", err)
			return
		}
		l.alive()
		var f frame
		if err := json.Unmarshal(raw, &f); err != nil {
			l.s.c.Logger.WarnContext(ctx, "slack sent a frame that is not understood", slog.Int("bytes", len(raw)))
			continue
		}
		if l.err = l.take(ctx, f); l.err != nil {
			return
		}
	}
}

func (l *link) take(ctx context.Context, f frame) error {
	switch f.Type {
	case "hello":
		l.greet(f)
	case "disconnect":
		if f.Reason == "link_disabled" {
			return ErrSocketOff
		}
		l.tire()
	default:
		if f.ID != "" {
			l.handle(ctx, f.Envelope)
		}
	}
	return nil
}

func (l *link) greet(f frame) {
	if l.life >= 0 {
		return // once is enough
	}
	l.life = time.Duration(min(max(f.Debug.Seconds, 0), 7*24*3600)) * time.Second
	close(l.hello)
	l.s.open.Add(1)
}

// greeted waits for hello.
func (l *link) greeted(ctx context.Context) error {
	timer := time.NewTimer(greetingFor)
	defer timer.Stop()
	select {
	case <-l.hello:
		return nil
	case <-l.over:
		return l.err
	case <-timer.C:
		return errors.New("slack's socket did not say hello")
	case <-ctx.Done():
		return fmt.Errorf("wait for slack's hello: %w", ctx.Err())
	}
}

// wait returns when another connection should take this one's place: with nil, while this
// one still listens, or with the reason why it does not.
func (l *link) wait(ctx context.Context) error {
	var end <-chan time.Time
	if l.life > 0 {
		timer := time.NewTimer(l.life / 10 * 9) // Slack's word is approximate
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-l.over:
		return l.err
	case <-l.tired:
	case <-end:
	case <-ctx.Done():
	}
	return nil
}

// steady reports whether the connection has lasted for a while.
func (l *link) steady() bool { return l.s.c.Now().Sub(l.since) >= steadyAfter }

// ping makes both ends see that the connection stands.
func (l *link) ping() {
	tick := time.NewTicker(l.s.c.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return
		case <-tick.C:
		}
		if l.conn.WriteControl(websocket.PingMessage, nil, l.s.c.Now().Add(writeFor)) != nil {
			_ = l.conn.Close() // the reader finds out, and says so
			return
		}
	}
}

// handle carries an envelope out beside the others. When too many are being carried out,
// nothing more is read.
func (l *link) handle(ctx context.Context, e Envelope) {
	l.s.places <- struct{}{}
	l.handling.Go(func() {
		defer func() { <-l.s.places }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.s.c.HandleFor)
		defer cancel()
		ack := l.s.handled(ctx, e)
		if !ack.Done {
			return
		}
		if err := l.acknowledge(ctx, e, ack); err != nil {
			l.s.c.Logger.WarnContext(ctx, "an acknowledgement did not reach slack, which will deliver again",
				slog.String("envelope_id", e.ID), slog.Any("error", err))
		}
	})
}

// handled calls the handler. One that panics has not done its work.
func (s *Socket) handled(ctx context.Context, e Envelope) (ack Ack) {
	defer func() {
		if p := recover(); p != nil {
			s.c.Logger.ErrorContext(ctx, "handling an envelope panicked", slog.String("envelope_id", e.ID), slog.Any("panic", p),
				slog.String("stack", string(debug.Stack())))
			ack = Ack{}
		}
	}()
	return s.c.Handle(ctx, e)
}

func (l *link) acknowledge(ctx context.Context, e Envelope, ack Ack) error {
	body := map[string]any{"envelope_id": e.ID}
	if len(ack.Payload) > 0 && e.AcceptsResponse {
		body["payload"] = json.RawMessage(ack.Payload)
	}
	raw, err := json.Marshal(body)
	if err != nil || len(raw) >= maxAck {
		l.s.c.Logger.ErrorContext(ctx, "an answer to slack is left out", slog.String("envelope_id", e.ID),
			slog.Int("bytes", len(ack.Payload)), slog.Any("error", err))
		raw = encode(map[string]any{"envelope_id": e.ID})
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.conn.SetWriteDeadline(l.s.c.Now().Add(writeFor)); err != nil {
		return err
	}
	return l.conn.WriteMessage(websocket.TextMessage, raw)
}

// retire ends the connection: nothing more is read, what was read is acknowledged, and
// Slack is told. Of no connection it does nothing.
func (l *link) retire() {
	if l == nil {
		return
	}
	l.leaving.Do(func() {
		// The reader notices, even in the middle of a frame.
		stopped := l.stopReading()
		<-stopped
		l.handling.Wait()
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = l.conn.WriteControl(websocket.CloseMessage, bye, l.s.c.Now().Add(time.Second))
		_ = l.conn.Close()
	})
}

// stopReading makes the reader's deadline pass, again and again: a frame that came at that
// very moment puts it off.
func (l *link) stopReading() <-chan struct{} {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_ = l.conn.SetReadDeadline(time.Unix(1, 0))
		select {
		case <-l.over:
			return l.over
		case <-tick.C:
		}
	}
}
