package slack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/slack"
	"countersign/slack/emulator"
)

// socketTo returns a socket to a server, and what it logs.
func socketTo(t *testing.T, api string, handle func(context.Context, slack.Envelope) slack.Ack, change ...func(*slack.SocketConfig)) (*slack.Socket, *logged) {
	t.Helper()
	log := &logged{}
	plain, secure := egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true})
	c := slack.SocketConfig{ //nolint:gosec // made up
		AppToken: "xapp-emulator", APIURL: api, HTTP: http.DefaultClient, Dial: plain, DialTLS: secure, Handle: handle,
		Now: wallClock, Retry: 10 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&c)
	}
	s, err := slack.NewSocket(c)
	require.NoError(t, err)
	return s, log
}

func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // deadlines of connections are real
}

// running runs a socket until the test ends, or until stop is called, which returns how it
// ended.
func running(t *testing.T, s *slack.Socket) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return soon(t, "the socket ends", done)
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// soon waits for a signal, generously.
func soon[T any](t *testing.T, what string, ch <-chan T) (got T) {
	t.Helper()
	timer := time.NewTimer(40 * time.Second)
	defer timer.Stop()
	select {
	case got = <-ch:
	case <-timer.C:
		t.Errorf("still waiting: %s", what)
	}
	return got
}

func until(t *testing.T, what string, check func() bool) {
	t.Helper()
	require.Eventually(t, check, 40*time.Second, 2*time.Millisecond, what)
}

// socketMode is a workspace that delivers through sockets.
func socketMode(t *testing.T) (*emulator.Server, string) {
	t.Helper()
	emu := emulator.New(emulator.Config{Workspace: emulator.Demo(), SocketMode: true, AckTimeout: 30 * time.Second})
	srv := httptest.NewServer(emu)
	t.Cleanup(srv.Close)
	t.Cleanup(emu.Close)
	emu.SetBaseURL(srv.URL)
	return emu, srv.URL + "/api/"
}

func acked(context.Context, slack.Envelope) slack.Ack { return slack.Ack{Done: true} }

func TestSocketDeliversAndAcknowledgesWhatWasHandled(t *testing.T) {
	t.Parallel()
	emu, api := socketMode(t)
	got := make(chan slack.Envelope, 10)
	s, log := socketTo(t, api, func(_ context.Context, e slack.Envelope) slack.Ack {
		got <- e
		return slack.Ack{Done: true, Payload: []byte(`{"text":"hello there"}`)}
	})
	stop := running(t, s)
	until(t, "two connections", func() bool { return emu.Sockets() == 2 && s.Open() == 2 })
	_, err := emu.Slash(t.Context(), "U0BOT", channel, "/approvals", "mine")
	require.NoError(t, err)
	e := soon(t, "the command", got)
	require.Equal(t, slack.EnvelopeCommand, e.Type)
	require.NotEmpty(t, e.ID)
	require.True(t, e.AcceptsResponse)
	require.Contains(t, string(e.Payload), "/approvals")
	require.NotEmpty(t, emu.Ephemerals("U0BOT"), "the answer was shown")
	require.NoError(t, stop())
	require.Zero(t, s.Open())
	require.NotContains(t, log.String(), "xapp-emulator")
	require.NotContains(t, log.String(), "ticket=")
}

func TestSocketAcknowledgesNothingBeforeItIsHandled(t *testing.T) {
	t.Parallel()
	w := wire(t)
	release := make(chan struct{})
	s, _ := socketTo(t, w.url, func(context.Context, slack.Envelope) slack.Ack {
		<-release
		return slack.Ack{Done: true}
	}, one)
	running(t, s)
	c := w.accept()
	c.send(`{"envelope_id":"e1","type":"events_api","payload":{}}`)
	c.send(`{"type":"disconnect","reason":"unheard_of"}`) // another frame is read meanwhile: a second connection proves it
	w.accept()
	select {
	case raw := <-c.got:
		t.Fatalf("acknowledged too early: %s", raw)
	default:
	}
	close(release)
	require.JSONEq(t, `{"envelope_id":"e1"}`, string(soon(t, "the acknowledgement", c.got)))
}

func TestSocketDoesNotAcknowledgeWhatIsNotSafe(t *testing.T) {
	t.Parallel()
	w := wire(t)
	s, log := socketTo(t, w.url, func(_ context.Context, e slack.Envelope) slack.Ack {
		if e.ID == "panics" {
			panic("at the disco")
		}
		return slack.Ack{Done: e.ID == "safe"}
	}, one)
	stop := running(t, s)
	c := w.accept()
	for _, id := range []string{"lost", "panics", "safe"} {
		c.send(`{"envelope_id":"` + id + `","type":"interactive","payload":{}}`)
	}
	require.JSONEq(t, `{"envelope_id":"safe"}`, string(soon(t, "one acknowledgement", c.got)))
	require.NoError(t, stop()) // which waits for all of them
	require.Empty(t, c.got)
	require.Contains(t, log.String(), "panicked")
}

func TestSocketLeavesOutAnswersThatSlackWouldDrop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accepts bool
		payload string
		want    string
	}{
		"one that fits":     {true, `{"a":"b"}`, `{"envelope_id":"e1","payload":{"a":"b"}}`},
		"too long":          {true, `"` + strings.Repeat("x", 20_000) + `"`, `{"envelope_id":"e1"}`},
		"not JSON":          {true, `nonsense`, `{"envelope_id":"e1"}`},
		"nobody wants it":   {false, `{"a":"b"}`, `{"envelope_id":"e1"}`},
		"there is none":     {true, ``, `{"envelope_id":"e1"}`},
		"just short enough": {true, `"` + strings.Repeat("x", 19_000) + `"`, `{"envelope_id":"e1","payload":"` + strings.Repeat("x", 19_000) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := wire(t)
			s, _ := socketTo(t, w.url, func(context.Context, slack.Envelope) slack.Ack {
				return slack.Ack{Done: true, Payload: []byte(c.payload)}
			}, one)
			running(t, s)
			conn := w.accept()
			conn.send(fmt.Sprintf(`{"envelope_id":"e1","type":"interactive","accepts_response_payload":%t,"payload":{}}`, c.accepts))
			require.JSONEq(t, c.want, string(soon(t, "the acknowledgement", conn.got)))
		})
	}
}

func TestSocketOpensTheNextConnectionBeforeItClosesTheLast(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"warning", "refresh_requested"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := wire(t)
			s, _ := socketTo(t, w.url, acked, one)
			running(t, s)
			first := w.accept()
			first.send(`{"type":"disconnect","reason":"` + reason + `"}`)
			second := w.accept() // the first is still open, or this would not have come
			// What still comes through the first is handled.
			soon(t, "the first is closed by us", first.closed)
			second.send(`{"envelope_id":"e2","type":"interactive","payload":{}}`)
			require.JSONEq(t, `{"envelope_id":"e2"}`, string(soon(t, "the acknowledgement", second.got)))
		})
	}
}

func TestSocketIsReplacedBeforeSlackEndsIt(t *testing.T) {
	t.Parallel()
	w := wire(t)
	w.life = 1 // second
	s, _ := socketTo(t, w.url, acked, one)
	running(t, s)
	first := w.accept()
	w.accept()
	soon(t, "the first is closed by us", first.closed)
}

func TestSocketFinishesWhatIsUnderWayWhenItsConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	w := wire(t)
	release, begun := make(chan struct{}), make(chan struct{})
	s, _ := socketTo(t, w.url, func(context.Context, slack.Envelope) slack.Ack {
		close(begun)
		<-release
		return slack.Ack{Done: true}
	}, one)
	running(t, s)
	first := w.accept()
	first.send(`{"envelope_id":"slow","type":"interactive","payload":{}}`)
	soon(t, "it is begun", begun)
	first.send(`{"type":"disconnect","reason":"warning"}`)
	w.accept()
	close(release)
	require.JSONEq(t, `{"envelope_id":"slow"}`, string(soon(t, "the acknowledgement, through the connection that it came by", first.got)))
}

func TestSocketConnectsAnewWhateverBreaks(t *testing.T) {
	t.Parallel()
	emu, api := socketMode(t)
	var n atomic.Int64
	s, _ := socketTo(t, api, func(context.Context, slack.Envelope) slack.Ack {
		n.Add(1)
		return slack.Ack{Done: true}
	})
	running(t, s)
	for i := range 3 {
		until(t, "connections", func() bool { return emu.Sockets() == 2 && s.Open() == 2 })
		before := n.Load()
		until(t, "a command", func() bool { // who presses while no connection stands sees that it failed, and presses again
			_, err := emu.Slash(t.Context(), "U0BOT", channel, "/approvals", "")
			require.NoError(t, err)
			return n.Load() > before
		})
		emu.AddFault(emulator.Fault{Method: "apps.connections.open", Kind: emulator.ServerError, Times: 2})
		if i == 1 {
			emu.Disconnect(emulator.DisconnectRefresh)
		} else {
			emu.CutSockets()
		}
	}
}

func TestSocketThatIsSilentIsGivenUp(t *testing.T) {
	t.Parallel()
	w := wire(t)
	w.deaf = true
	s, log := socketTo(t, w.url, acked, one, func(c *slack.SocketConfig) { c.PingEvery, c.SilentFor = 10*time.Millisecond, 100*time.Millisecond })
	running(t, s)
	w.accept()
	w.accept()
	until(t, "it says why", func() bool { return strings.Contains(log.String(), "is lost") })
}

func TestSocketStopsWhenOnlyAnOperatorCanHelp(t *testing.T) {
	t.Parallel()
	for _, code := range []string{
		"invalid_auth", "account_inactive", "not_authed", "token_revoked", "missing_scope", "not_allowed_token_type", "socket_mode_not_enabled",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(saying(http.StatusOK, `{"ok":false,"error":"`+code+`"}`))
			t.Cleanup(srv.Close)
			s, _ := socketTo(t, srv.URL, acked)
			err := soonErr(t, s)
			var said *slack.Error
			require.ErrorAs(t, err, &said)
			require.Equal(t, code, said.Code)
		})
	}
	t.Run("link_disabled", func(t *testing.T) {
		t.Parallel()
		emu, api := socketMode(t)
		s, _ := socketTo(t, api, acked)
		done := make(chan error, 1)
		go func() { done <- s.Run(t.Context()) }()
		until(t, "connections", func() bool { return emu.Sockets() == 2 })
		emu.SetSocketMode(false)
		err := soon(t, "the socket ends", done)
		var said *slack.Error
		require.True(t, errors.Is(err, slack.ErrSocketOff) || errors.As(err, &said) && said.Code == "socket_mode_not_enabled", "%v", err)
	})
}

func soonErr(t *testing.T, s *slack.Socket) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context()) }()
	return soon(t, "the socket ends", done)
}

func TestSocketWaitsAsLongAsSlackWantsAndTriesAgain(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	w := wire(t)
	w.before = func(rw http.ResponseWriter) bool {
		switch asked.Add(1) {
		case 1:
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusTooManyRequests)
		case 2:
			rw.WriteHeader(http.StatusBadGateway)
		case 3:
			_, _ = io.WriteString(rw, `{"ok":true}`)
		case 4:
			_, _ = io.WriteString(rw, `{"ok":true,"url":"https://127.0.0.1/not-a-socket"}`)
		default:
			return false
		}
		return true
	}
	s, _ := socketTo(t, w.url, acked, one)
	running(t, s)
	w.accept()
	require.EqualValues(t, 5, asked.Load())
}

func TestSocketOnlyGoesWhereItMay(t *testing.T) {
	t.Parallel()
	for _, target := range []string{
		"wss://evil.example/x", "ws://slack.com/x", "wss://slack.com:8443/x", "wss://169.254.169.254/x", "wss://slack.com.evil.example/x", "ftp://127.0.0.1/",
	} {
		var asked atomic.Int64
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer xapp-emulator" || r.URL.RawQuery != "" {
				t.Error("the token belongs into the header")
			}
			asked.Add(1)
			_, _ = io.WriteString(w, `{"ok":true,"url":"`+target+`"}`)
		}))
		t.Cleanup(srv.Close)
		s, log := socketTo(t, srv.URL, acked, one)
		stop := running(t, s)
		until(t, target, func() bool { return asked.Load() > 1 && strings.Contains(log.String(), "is lost") })
		require.NoError(t, stop())
		require.Zero(t, s.Open())
	}
}

func TestSocketHandlesABoundedNumberAtOnce(t *testing.T) {
	t.Parallel()
	w := wire(t)
	var now atomic.Int64
	var mu sync.Mutex
	var most int64
	release := make(chan struct{})
	s, _ := socketTo(t, w.url, func(context.Context, slack.Envelope) slack.Ack {
		n := now.Add(1)
		defer now.Add(-1)
		mu.Lock()
		most = max(most, n)
		mu.Unlock()
		<-release
		return slack.Ack{Done: true}
	}, one)
	running(t, s)
	c := w.accept()
	for i := range 100 {
		c.send(fmt.Sprintf(`{"envelope_id":"e%d","type":"events_api","payload":{}}`, i))
	}
	until(t, "as many as may be", func() bool { return now.Load() == 32 })
	close(release)
	for range 100 {
		soon(t, "an acknowledgement", c.got)
	}
	require.EqualValues(t, 32, most)
}

func TestSocketOutlivesFramesThatMakeNoSense(t *testing.T) {
	t.Parallel()
	w := wire(t)
	s, _ := socketTo(t, w.url, acked, one)
	running(t, s)
	c := w.accept()
	for _, frame := range []string{``, `nonsense`, `[]`, `{}`, `{"type":"hello"}`, `{"type":"hello","debug_info":{"approximate_connection_time":-5}}`, `{"type":"new_thing"}`, `{"envelope_id":7}`} {
		c.send(frame)
	}
	c.send(`{"envelope_id":"e1","type":"events_api","payload":{}}`)
	require.JSONEq(t, `{"envelope_id":"e1"}`, string(soon(t, "the acknowledgement", c.got)))
	require.Equal(t, 1, s.Open())
	c.send(`{"envelope_id":"e2","x":"` + strings.Repeat("x", 1<<20) + `"}`) // too long: given up, and made anew
	w.accept()
}

func TestNewSocketSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := slack.NewSocket(slack.SocketConfig{})
	require.Error(t, err)
	_, err = slack.NewSocket(slack.SocketConfig{
		DialTLS: (&websocketDial{}).dial, Handle: acked, Now: wallClock, HTTP: http.DefaultClient,
	})
	require.Error(t, err, "without a token")
}
