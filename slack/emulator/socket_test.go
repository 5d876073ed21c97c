package emulator_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

func socketMode(c *emulator.Config) {
	standing(c)
	c.SocketMode, c.CommandsURL, c.EventsURL = true, c.InteractionsURL, c.InteractionsURL
}

// line is the app's end of one web socket.
type line struct {
	t      *testing.T
	conn   *websocket.Conn
	frames chan object // closed when the connection ends
}

// url asks for the address of a connection.
func (b *bundle) url() string {
	b.t.Helper()
	out, _ := b.callAs("xapp-emulator", "apps.connections.open")
	require.Equal(b.t, true, out["ok"], out)
	return out["url"].(string)
}

// connect opens a connection and takes its hello.
func (b *bundle) connect() *line {
	b.t.Helper()
	l := b.dial(b.url())
	require.Equal(b.t, "hello", l.next()["type"])
	return l
}

func (b *bundle) dial(url string) *line {
	b.t.Helper()
	conn, resp, err := websocket.Dial(b.t.Context(), url, nil) //nolint:bodyclose // closed by the library
	require.NoError(b.t, err)
	require.Equal(b.t, http.StatusSwitchingProtocols, resp.StatusCode)
	conn.SetReadLimit(1 << 20)
	l := &line{t: b.t, conn: conn, frames: make(chan object, 100)}
	b.t.Cleanup(func() { _ = conn.CloseNow() })
	go l.read()
	return l
}

func (l *line) read() {
	defer close(l.frames)
	for {
		_, raw, err := l.conn.Read(l.t.Context())
		if err != nil {
			return
		}
		var frame object
		if json.Unmarshal(raw, &frame) == nil {
			l.frames <- frame
		}
	}
}

// next returns the next frame.
func (l *line) next() object {
	l.t.Helper()
	select {
	case f, ok := <-l.frames:
		require.True(l.t, ok, "the connection has ended")
		return f
	case <-soon(l.t).Done():
		l.t.Fatal("no frame came")
		return nil
	}
}

// ended waits for the end of the connection.
func (l *line) ended() {
	l.t.Helper()
	for {
		select {
		case _, ok := <-l.frames:
			if !ok {
				return
			}
		case <-soon(l.t).Done():
			l.t.Fatal("the connection still stands")
		}
	}
}

func (l *line) ack(id any, payload any) {
	l.t.Helper()
	frame := object{"envelope_id": id}
	if payload != nil {
		frame["payload"] = payload
	}
	raw, err := json.Marshal(frame)
	require.NoError(l.t, err)
	require.NoError(l.t, l.conn.Write(l.t.Context(), websocket.MessageText, raw))
}

// clicked lets Bo press Deny in the background.
func (b *bundle) clicked(ts string) chan emulator.Seen {
	got := make(chan emulator.Seen, 1)
	go func() {
		seen, err := b.slack.Click(b.t.Context(), bo, channel, ts, "cs.deny", true)
		if err != nil {
			seen.Warning = err.Error()
		}
		got <- seen
	}()
	return got
}

func TestSocketModeSaysHelloAndCountsConnections(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	hello := b.dial(b.url()).next()
	require.Equal(t, "hello", hello["type"])
	require.EqualValues(t, 1, hello["num_connections"])
	require.Equal(t, "A0EMULATOR", at(hello, "connection_info", "app_id"))
	require.NotZero(t, at(hello, "debug_info", "approximate_connection_time"))
	require.EqualValues(t, 2, b.dial(b.url()).next()["num_connections"])
	require.Equal(t, 2, b.slack.Sockets())
}

func TestSocketURLsAreGoodOnceAndSoon(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	refusedURL := func(url string) {
		_, resp, err := websocket.Dial(t.Context(), url, nil) //nolint:bodyclose // closed by the library
		require.Error(t, err)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	}
	url := b.url()
	b.dial(url).next()
	refusedURL(url)
	late := b.url()
	b.slack.Advance(31 * time.Second)
	refusedURL(late)
	refusedURL(strings.Replace(b.url(), "ticket=", "ticket=x", 1))
	b.slack.SetSocketMode(false)
	out, _ := b.callAs("xapp-emulator", "apps.connections.open")
	require.Equal(t, "socket_mode_not_enabled", out["error"])
}

func TestSocketModeTakesTenConnections(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	for range 10 {
		b.connect()
	}
	l := b.dial(b.url())
	frame := l.next()
	require.Equal(t, "disconnect", frame["type"])
	require.Equal(t, "too_many_websockets", frame["reason"])
	l.ended()
	require.Equal(t, 10, b.slack.Sockets())
}

func TestSocketModeDeliversEverythingAndHTTPNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	l := b.connect()
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))

	seen := b.clicked(ts)
	e := l.next()
	require.Equal(t, "interactive", e["type"])
	require.Equal(t, false, e["accepts_response_payload"])
	require.Equal(t, "block_actions", at(e, "payload", "type"))
	require.NotContains(t, e, "retry_attempt")
	b.ok("views.open", "trigger_id", at(e, "payload", "trigger_id").(string), "view", fixture(t, "deny_modal"))
	l.ack(e["envelope_id"], nil)
	got := <-seen
	require.Empty(t, got.Warning)
	require.NotNil(t, got.OpenedView)

	submitted := make(chan emulator.Seen, 1)
	go func() {
		s, _ := b.slack.SubmitView(b.t.Context(), bo, got.OpenedView.ID, reason("not today"))
		submitted <- s
	}()
	e = l.next()
	require.Equal(t, true, e["accepts_response_payload"])
	l.ack(e["envelope_id"], object{"response_action": "errors", "errors": object{"reason": "say more"}})
	require.Equal(t, "say more", (<-submitted).Errors["reason"])

	commanded := make(chan emulator.Seen, 1)
	go func() {
		s, _ := b.slack.Slash(b.t.Context(), bo, channel, "/approvals", "mine")
		commanded <- s
	}()
	e = l.next()
	require.Equal(t, "slash_commands", e["type"])
	require.Equal(t, "/approvals", at(e, "payload", "command"))
	l.ack(e["envelope_id"], object{"text": "none"})
	require.Equal(t, "none", (<-commanded).Message.Text)

	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	e = l.next()
	require.Equal(t, "events_api", e["type"])
	require.Equal(t, false, e["accepts_response_payload"])
	require.EqualValues(t, 0, e["retry_attempt"])
	require.Equal(t, "user_change", at(e, "payload", "event", "type"))
	l.ack(e["envelope_id"], nil)
	b.settled()
	require.Zero(t, b.app.count(), "nothing came over HTTP")
	for _, d := range b.slack.Deliveries() {
		require.Equal(t, "socket", d.Transport)
		require.Equal(t, 200, d.Status)
	}
}

func TestEachEnvelopeGoesToOneConnection(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	one, two := b.connect(), b.connect()
	for range 4 {
		b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title += "x" })
	}
	for range 4 {
		select {
		case e := <-one.frames:
			one.ack(e["envelope_id"], nil)
		case e := <-two.frames:
			two.ack(e["envelope_id"], nil)
		case <-soon(t).Done():
			t.Fatal("an envelope is missing")
		}
	}
	b.settled()
	require.Len(t, b.slack.Deliveries(), 4)
	used := map[int]bool{}
	for _, d := range b.slack.Deliveries() {
		used[d.Connection] = true
	}
	require.Len(t, used, 2, "and not always to the same")
}

func TestAConnectionThatClosesPassesItsEnvelopeOn(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	one, two := b.connect(), b.connect()
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	seen := b.clicked(ts)
	from, to := one, two
	var e object
	select {
	case e = <-one.frames:
	case e = <-two.frames:
		from, to = two, one
	}
	require.NoError(t, from.conn.CloseNow())
	again := to.next()
	require.Equal(t, e["envelope_id"], again["envelope_id"])
	require.EqualValues(t, 1, again["retry_attempt"])
	require.Equal(t, "connection_lost", again["retry_reason"])
	to.ack(again["envelope_id"], nil)
	require.Empty(t, (<-seen).Warning)
}

func TestAnUnacknowledgedEnvelopeIsRedeliveredElsewhere(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode, impatient)
	one, two := b.connect(), b.connect()
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	seen := b.clicked(ts)
	var first object
	to := two
	select {
	case first = <-one.frames:
	case first = <-two.frames:
		to = one
	}
	again := to.next()
	require.Equal(t, first["envelope_id"], again["envelope_id"])
	require.Equal(t, "timeout", again["retry_reason"])
	require.Contains(t, (<-seen).Warning, "not responding", "for the person it is too late")
	to.ack(again["envelope_id"], nil)
}

func TestUnacknowledgedEventsAreRetriedAsOverHTTP(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode, impatient)
	l := b.connect()
	b.slack.UpdateUser(ana, func(u *emulator.User) { u.Title = "x" })
	first, second := l.next(), l.next()
	require.EqualValues(t, 1, second["retry_attempt"])
	require.Equal(t, at(first, "payload", "event_id"), at(second, "payload", "event_id"))
	b.settled()
	b.slack.Advance(time.Minute)
	require.EqualValues(t, 2, l.next()["retry_attempt"])
	b.settled()
	b.slack.Advance(5 * time.Minute)
	require.EqualValues(t, 3, l.next()["retry_attempt"])
	b.settled()
	b.slack.Advance(time.Hour)
	b.settled()
	require.Len(t, b.slack.Deliveries(), 4)
}

func TestOversizedAcknowledgementsAreDroppedSilently(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode, impatient)
	l := b.connect()
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	seen := b.clicked(ts)
	l.ack(l.next()["envelope_id"], object{"text": strings.Repeat("x", 20_000)})
	require.NotEmpty(t, (<-seen).Warning)
}

func TestDisconnectsAreAnnounced(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	l := b.connect()
	b.slack.Disconnect(emulator.DisconnectRefresh)
	require.Equal(t, "refresh_requested", l.next()["reason"])
	l.ended()

	l = b.connect()
	b.slack.Disconnect(emulator.DisconnectWarning)
	require.Equal(t, "warning", l.next()["reason"])
	require.Equal(t, 1, b.slack.Sockets(), "it stands for ten more seconds")
	b.slack.Advance(10 * time.Second)
	l.ended()

	l = b.connect()
	b.slack.CutSockets()
	l.ended()

	l = b.connect()
	b.slack.Disconnect(emulator.DisconnectDisabled)
	require.Equal(t, "link_disabled", l.next()["reason"])
	l.ended()
	require.False(t, b.slack.Snapshot().SocketMode)
}

func TestWithoutAConnectionThePersonIsWarned(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	ts := b.post("text", "t", "blocks", fixture(t, "pending"))
	require.NotEmpty(t, b.click(ts, "cs.deny").Warning)
	_, err := b.slack.SendEnvelope(t.Context(), object{})
	require.Error(t, err)
}

func TestForgedEnvelopesCanBeSent(t *testing.T) {
	t.Parallel()
	b := setup(t, socketMode)
	l := b.connect()
	done := make(chan string, 1)
	go func() {
		payload, err := b.slack.SendEnvelope(t.Context(), object{"envelope_id": "e1", "type": "interactive", "payload": object{"type": "forged"}})
		if err != nil {
			payload = json.RawMessage(err.Error())
		}
		done <- string(payload)
	}()
	require.Equal(t, "forged", at(l.next(), "payload", "type"))
	l.ack("e1", object{"text": "no"})
	require.JSONEq(t, `{"text":"no"}`, <-done)
}
