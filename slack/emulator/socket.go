package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxSockets is how many connections an app may have at once.
	maxSockets = 10
	// maxAckBytes is from where on a socket's answer is dropped without a word.
	maxAckBytes = 20_000
	ticketLife  = 30 * time.Second
	// pingEvery is real time, as the connection is real.
	pingEvery = 5 * time.Second
	// warningLead is how long before it closes a connection says so.
	warningLead = 10 * time.Second
	// connectionLife is what hello says of how long the connection will stand, in seconds.
	connectionLife = 18_060
)

// socket is one web socket of the app.
type socket struct {
	number int
	conn   *websocket.Conn
	gone   chan struct{} // closed with the connection
}

// envelopeAck is what came back for an envelope.
type envelopeAck struct {
	Envelope string          `json:"envelope_id"`
	Payload  json.RawMessage `json:"payload"`
}

// Why a connection ends, for [Server.Disconnect].
const (
	DisconnectWarning  = "warning"           // it closes 10 s later, on the workspace's clock
	DisconnectRefresh  = "refresh_requested" // it closes at once, and the app opens another
	DisconnectDisabled = "link_disabled"     // Socket Mode was turned off in the app's settings
	tooManySockets     = "too_many_websockets"
)

// openConnection is apps.connections.open: a URL that is good for one connection, soon.
func openConnection(c *call) (object, error) {
	if !c.socketMode {
		return nil, fail("socket_mode_not_enabled")
	}
	for ticket, until := range c.tickets {
		if c.now.After(until) {
			delete(c.tickets, ticket)
		}
	}
	ticket := strings.ToLower(c.nextID("") + c.nextID(""))
	c.tickets[ticket] = c.now.Add(ticketLife)
	return object{"url": "ws" + strings.TrimPrefix(c.baseURL, "http") + "/link/?ticket=" + ticket + "&app_id=" + c.cfg.AppID}, nil
}

// takeTicket spends a ticket, which is good once.
func (s *Server) takeTicket(ticket string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.tickets[ticket]
	delete(s.tickets, ticket)
	return ok && s.socketMode && !s.now().After(until)
}

// serveSocket is the other end of a connection until it closes.
func (s *Server) serveSocket(w http.ResponseWriter, r *http.Request) {
	if !s.takeTicket(r.URL.Query().Get("ticket")) {
		http.Error(w, "the ticket is not valid", http.StatusUnauthorized)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(maxBody)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go s.cancelWhenClosed(ctx, cancel)
	k, ok := s.join(conn)
	if !ok {
		_ = s.speak(ctx, conn, s.goodbye(tooManySockets))
		_ = conn.Close(websocket.StatusNormalClosure, "")
		return
	}
	defer s.leave(k)
	if s.speak(ctx, conn, s.hello()) == nil {
		go k.ping(ctx, cancel)
		s.listen(ctx, k)
	}
}

func (s *Server) cancelWhenClosed(ctx context.Context, cancel context.CancelFunc) {
	select {
	case <-s.done:
		cancel()
	case <-ctx.Done():
	}
}

func (s *Server) join(conn *websocket.Conn) (*socket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) >= maxSockets {
		return nil, false
	}
	s.opened++
	k := &socket{number: s.opened, conn: conn, gone: make(chan struct{})}
	s.sockets = append(s.sockets, k)
	s.touch()
	return k, true
}

func (s *Server) leave(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sockets = slices.DeleteFunc(s.sockets, func(o *socket) bool { return o == k })
	close(k.gone)
	_ = k.conn.CloseNow()
	s.touch()
}

func (s *Server) hello() object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return object{
		"type": "hello", "num_connections": len(s.sockets), "connection_info": object{"app_id": s.cfg.AppID},
		"debug_info": object{"host": "applink-emulator", "build_number": 1, "approximate_connection_time": connectionLife},
	}
}

func (s *Server) goodbye(reason string) object {
	return object{"type": "disconnect", "reason": reason, "debug_info": object{"host": "applink-emulator"}}
}

// speak writes one frame.
func (s *Server) speak(ctx context.Context, conn *websocket.Conn, frame object) error {
	ctx, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, []byte(encode(frame)))
}

// ping keeps telling the app that the connection stands; apps give up one that is silent.
func (k *socket) ping(ctx context.Context, lost context.CancelFunc) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if err := k.conn.Ping(ctx); err != nil {
			lost()
			return
		}
	}
}

// listen hands acknowledgements to those who wait for them until the connection ends.
func (s *Server) listen(ctx context.Context, k *socket) {
	for {
		_, raw, err := k.conn.Read(ctx)
		if err != nil {
			return
		}
		var a envelopeAck
		if json.Unmarshal(raw, &a) != nil || len(a.Payload) >= maxAckBytes {
			continue
		}
		s.mu.Lock()
		waiting := s.envelopes[a.Envelope]
		delete(s.envelopes, a.Envelope)
		s.mu.Unlock()
		if waiting != nil {
			waiting <- a
		}
	}
}

var errNoSocket = errors.New("no web socket is connected")

// viaSocket sends a parcel to one connection. A connection that closes before it has
// acknowledged makes it go to another; one that stays silent too long does so as well, but
// what the app then answers comes too late for the person.
func (s *Server) viaSocket(ctx context.Context, p parcel) ack {
	begun := wallClock()
	id := s.newEnvelope()
	a := s.tryOnSockets(ctx, p, id)
	a.took = wallClock().Sub(begun)
	if a.late && p.class != ForEvents { // events have retries of their own
		p.retry, p.reason, p.avoid = p.retry+1, "timeout", a.socket
		go s.redeliver(context.WithoutCancel(ctx), p, id)
	}
	return a
}

func (s *Server) newEnvelope() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.digest("envelope")
	return fmt.Sprintf("%x-%x-%x-%x-%x", d[:4], d[4:6], d[6:8], d[8:10], d[10:16])
}

// redeliver sends an envelope that was not acknowledged to another connection, once.
func (s *Server) redeliver(ctx context.Context, p parcel, id string) {
	if s.pick(p.avoid, true) != nil {
		_ = s.tryOnSockets(ctx, p, id)
	}
}

func (s *Server) tryOnSockets(ctx context.Context, p parcel, id string) ack {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
	defer cancel()
	for {
		k := s.pick(p.avoid, false)
		if k == nil {
			return ack{err: errNoSocket, socket: p.avoid}
		}
		a, lost := s.exchangeOn(ctx, k, p, id)
		if !lost {
			return a
		}
		p.avoid, p.retry, p.reason = k, p.retry+1, "connection_lost"
	}
}

// pick chooses a connection, another than the given one if there is any; strictly says that
// the same will not do.
func (s *Server) pick(not *socket, strictly bool) *socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(s.sockets), func(k *socket) bool { return k == not })
	if len(others) == 0 && !strictly {
		others = s.sockets
	}
	if len(others) == 0 {
		return nil
	}
	s.turn++
	return others[s.turn%len(others)]
}

// exchangeOn sends an envelope through one connection; lost says that it closed first.
func (s *Server) exchangeOn(ctx context.Context, k *socket, p parcel, id string) (a ack, lost bool) {
	answer := make(chan envelopeAck, 1)
	s.expect(id, answer)
	defer s.expect(id, nil)
	frame := object{"envelope_id": id, "type": p.envelope, "accepts_response_payload": p.answers, "payload": json.RawMessage(p.payload)}
	if p.class == ForEvents || p.retry > 0 {
		frame["retry_attempt"], frame["retry_reason"] = p.retry, p.reason
	}
	begun := wallClock()
	defer func() {
		s.remember(Delivery{
			Kind: p.kind, Transport: "socket", Body: encode(frame), Envelope: id, Connection: k.number, Retry: p.retry,
			Status: a.status, AckMS: wallClock().Sub(begun).Milliseconds(),
		})
	}()
	if err := s.speak(ctx, k.conn, frame); err != nil {
		return ack{}, ctx.Err() == nil
	}
	select {
	case got := <-answer:
		return s.acknowledged(got, p, k), false
	case <-k.gone:
		return ack{}, true
	case <-ctx.Done():
		a := s.silence(ctx.Err())
		a.socket = k
		return a, false
	}
}

// expect says who waits for an envelope's acknowledgement, nil for nobody any more.
func (s *Server) expect(id string, answer chan envelopeAck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer == nil {
		delete(s.envelopes, id)
		return
	}
	s.envelopes[id] = answer
}

// acknowledged is an acknowledgement as if it had come over HTTP.
func (s *Server) acknowledged(got envelopeAck, p parcel, k *socket) ack {
	a := ack{status: http.StatusOK, socket: k}
	if p.answers && len(got.Payload) > 0 && string(got.Payload) != "null" && string(got.Payload) != "{}" {
		a.contentType, a.body = "application/json", got.Payload
	}
	return a
}

// Sockets returns how many web sockets the app has open.
func (s *Server) Sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sockets)
}

// SetSocketMode turns Socket Mode on or off. While it is on nothing is sent to the URLs;
// turning it off disconnects what is connected.
func (s *Server) SetSocketMode(on bool) {
	s.mu.Lock()
	s.socketMode = on
	s.touch()
	s.mu.Unlock()
	if !on {
		s.Disconnect(DisconnectDisabled)
	}
}

// Disconnect tells every connection that it ends, and why, and ends it. DisconnectDisabled
// turns Socket Mode off as well.
func (s *Server) Disconnect(reason string) {
	s.mu.Lock()
	if reason == DisconnectDisabled {
		s.socketMode = false
	}
	all := slices.Clone(s.sockets)
	due := s.now()
	s.mu.Unlock()
	if reason == DisconnectWarning {
		due = due.Add(warningLead)
	}
	for _, k := range all {
		s.dismiss(k, reason, due)
	}
}

func (s *Server) dismiss(k *socket, reason string, due time.Time) {
	_ = s.speak(s.life(), k.conn, s.goodbye(reason))
	go func() {
		if s.clock.until(due, s.done) {
			_ = k.conn.Close(websocket.StatusNormalClosure, "")
		}
	}()
}

// CutSockets drops every connection without a word, as a failing network does.
func (s *Server) CutSockets() {
	s.mu.Lock()
	all := slices.Clone(s.sockets)
	s.mu.Unlock()
	for _, k := range all {
		_ = k.conn.CloseNow()
	}
}

// SendEnvelope sends a frame of the caller's making to one connection. If it has an
// envelope_id, SendEnvelope waits for the acknowledgement and returns its payload; otherwise
// it returns nil at once.
func (s *Server) SendEnvelope(ctx context.Context, frame map[string]any) (json.RawMessage, error) {
	k := s.pick(nil, false)
	if k == nil {
		return nil, errNoSocket
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.AckTimeout)
	defer cancel()
	id, _ := frame["envelope_id"].(string)
	answer := make(chan envelopeAck, 1)
	if id != "" {
		s.expect(id, answer)
		defer s.expect(id, nil)
	}
	if err := s.speak(ctx, k.conn, frame); err != nil || id == "" {
		return nil, err
	}
	select {
	case got := <-answer:
		return got.Payload, nil
	case <-k.gone:
		return nil, errNoSocket
	case <-ctx.Done():
		return nil, s.silence(ctx.Err()).err
	}
}
