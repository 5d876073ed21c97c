package slack

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// The kinds of envelopes.
const (
	EnvelopeInteraction = "interactive"
	EnvelopeCommand     = "slash_commands"
	EnvelopeEvent       = "events_api"
)

// Envelope is one request of Slack's that came through a socket. The socket is what makes
// it authentic: nothing in it is signed.
type Envelope struct {
	// ID is the same in every delivery of the request.
	ID string `json:"envelope_id"`
	// Type is one of [EnvelopeInteraction], [EnvelopeCommand] and [EnvelopeEvent].
	Type string `json:"type"`
	// Payload is the JSON that HTTP would have carried; of a command, its form as an object.
	Payload json.RawMessage `json:"payload"`
	// AcceptsResponse says that the acknowledgement may carry an answer.
	AcceptsResponse bool   `json:"accepts_response_payload"`
	RetryAttempt    int    `json:"retry_attempt"`
	RetryReason     string `json:"retry_reason"`
}

// Ack is the answer to an [Envelope].
type Ack struct {
	// Done says that the request is safe with us. Otherwise it is not acknowledged, and Slack
	// delivers it again.
	Done bool
	// Payload is JSON for Slack, nil for none. One of 20 kB and more, which Slack would drop,
	// is left out.
	Payload []byte
}

const (
	// maxEnvelope bounds a frame, maxAck an acknowledgement, in bytes.
	maxEnvelope = 1 << 20
	maxAck      = 20_000
	// maxHandling is how many envelopes are handled at once, all connections together. Slack
	// waits for the others.
	maxHandling = 32
	lastRetry   = time.Minute
	// steadyAfter is how long a connection has to last to count as one that works.
	steadyAfter = 30 * time.Second
)

// ErrSocketOff means that Socket Mode was turned off in the app's settings.
var ErrSocketOff = errors.New("slack says that socket mode is turned off for this app")

// SocketConfig makes a [Socket].
type SocketConfig struct {
	// AppToken is the app-level token with the scope connections:write. Required.
	AppToken Secret
	// APIURL and HTTP are those of [Config]. HTTP is required.
	APIURL string
	HTTP   Doer
	// DialTLS connects for wss and returns a connection that has done its handshake. Required.
	DialTLS func(ctx context.Context, network, addr string) (net.Conn, error)
	// Dial connects for ws, which must lead to an emulator only. Nil: ws is refused.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Handle carries a request out, or writes down that it is to be carried out, before it is
	// acknowledged. It is called many times at once, and not broken off when its connection
	// is. Required.
	Handle func(ctx context.Context, e Envelope) Ack
	// Connections is how many are kept open, so that one can be replaced while another
	// listens. Slack allows an app ten, those of all processes together, and while one is
	// replaced there is one more. Zero: 2.
	Connections int
	// HandleFor bounds Handle. Zero: 10 s.
	HandleFor time.Duration
	// PingEvery is the pause between two pings, SilentFor how long a connection may be silent
	// before it is given up. Zero: 10 s and 35 s.
	PingEvery, SilentFor time.Duration
	// Retry is the first pause after a failure; it doubles up to a minute. Zero: 1 s.
	Retry time.Duration
	// Now is the wall clock. Required.
	Now func() time.Time
	// Logger: nil means that nothing is logged.
	Logger *slog.Logger
}

// Socket receives from Slack without being reachable from outside (Socket Mode).
//
// It is built on gorilla/websocket, which is what slack-go itself talks to Slack with, and
// not on slack-go's socketmode: that one acknowledges through a queue that says nothing of
// success, decodes payloads whole, blocks its reader behind a slow consumer and retries for
// ever what only an operator can mend.
type Socket struct {
	c      SocketConfig
	client *Client
	dialer websocket.Dialer
	places chan struct{}
	open   atomic.Int32
}

// NewSocket returns a socket that is not connected yet, or says what is wrong with c.
func NewSocket(c SocketConfig) (*Socket, error) {
	if c.DialTLS == nil || c.Handle == nil || c.Now == nil {
		return nil, errors.New("a socket needs a way to dial, a handler and a clock")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	client, err := New(Config{Token: c.AppToken, APIURL: c.APIURL, HTTP: c.HTTP, Logger: c.Logger})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c.Connections = cmp.Or(c.Connections, 2)
	c.HandleFor = cmp.Or(c.HandleFor, 10*time.Second)
	c.PingEvery = cmp.Or(c.PingEvery, 10*time.Second)
	c.SilentFor = cmp.Or(c.SilentFor, 35*time.Second)
	c.Retry = cmp.Or(c.Retry, time.Second)
	return &Socket{
		c: c, client: client, places: make(chan struct{}, maxHandling),
		// No Proxy: one of the environment would see everything.
		dialer: websocket.Dialer{NetDialContext: c.Dial, NetDialTLSContext: c.DialTLS, HandshakeTimeout: 10 * time.Second},
	}, nil
}

// Open is how many connections Slack delivers through at the moment.
func (s *Socket) Open() int { return int(s.open.Load()) }

// Run receives until ctx ends, and then returns nil once everything under way is
// acknowledged. It connects anew whatever breaks. Its errors are for an operator: the token
// is of no use (an [*Error] of class [App]), or Socket Mode is off ([ErrSocketOff]).
func (s *Socket) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var slots sync.WaitGroup
	var fatal atomic.Pointer[error]
	for range s.c.Connections {
		slots.Go(func() {
			if err := s.keepOne(ctx); err != nil {
				fatal.CompareAndSwap(nil, &err)
				stop(err)
			}
		})
	}
	slots.Wait()
	if err := fatal.Load(); err != nil {
		return *err
	}
	return nil
}

// keepOne keeps one connection: the next one stands before the last one is closed.
func (s *Socket) keepOne(ctx context.Context) error {
	var old *link
	defer func() { old.retire() }()
	for failures := 0; ; {
		next, err := s.connect(ctx)
		if ctx.Err() != nil {
			next.retire()
			return nil
		}
		if err == nil {
			old.retire()
			old = next
			err = next.wait(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case isFinal(err):
			return err
		case next != nil && next.steady():
			failures = 0
		default:
			failures++
		}
		if err != nil {
			s.c.Logger.WarnContext(ctx, "a connection to slack is lost and made anew", slog.Any("error", err), slog.Int("failures", failures))
		}
		if pause(ctx, s.delay(failures, err)) != nil {
			return nil
		}
	}
}

func isFinal(err error) bool {
	var said *Error
	return errors.Is(err, ErrSocketOff) || errors.As(err, &said) && (said.Class == App || said.Class == Permanent)
}

// delay grows with the failures in a row and is never the same for two who fail at the
// same time.
func (s *Socket) delay(failures int, err error) time.Duration {
	if failures == 0 {
		return 0
	}
	d := min(s.c.Retry<<min(failures-1, 10), lastRetry)
	d = d/2 + rand.N(d/2+1) //nolint:gosec // jitter, not a secret
	var said *Error
	if errors.As(err, &said) {
		d = max(d, said.RetryAfter)
	}
	return d
}

// connect opens a connection and waits until Slack has greeted.
func (s *Socket) connect(ctx context.Context) (*link, error) {
	target, err := s.target(ctx)
	if err != nil {
		return nil, err
	}
	conn, resp, err := s.dialer.DialContext(ctx, target, nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("connect to slack's socket: %w", secretURL(err))
	}
	l := newLink(s, conn)
	go l.read(ctx)
	if err := l.greeted(ctx); err != nil {
		l.retire()
		return nil, err
	}
	go l.ping()
	return l, nil
}

// target asks for an address, which is good for one connection (apps.connections.open).
func (s *Socket) target(ctx context.Context) (string, error) {
	const method = "apps.connections.open"
	var got struct {
		envelope
		URL string `json:"url"`
	}
	if _, err := s.client.ask(ctx, method, nil, &got); err != nil {
		return "", err
	}
	u, err := url.Parse(got.URL)
	if err != nil || u.Host == "" || (u.Scheme != "wss" && (u.Scheme != "ws" || s.c.Dial == nil)) {
		return "", s.client.notAnswered(ctx, method)
	}
	return got.URL, nil
}
