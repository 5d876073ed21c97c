package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/identity"
	"countersign/policy"
)

// Config says what a Server works with.
type Config struct {
	// Store keeps the tickets. Required.
	Store Store
	// Policy returns the configuration in force; every request sees one snapshot of it.
	// Required.
	Policy func() *policy.Config
	// CheckCall says why a call cannot be sent, in words fit for the caller: an escaped
	// path, a raw query without "?", header fields. Required.
	CheckCall func(path, rawQuery string, headers []approvals.Header) error
	// CheckCallbackURL returns a callback URL's origin as scheme://host:port, or says why
	// the URL is refused, in words fit for the caller. Required.
	CheckCallbackURL func(raw string) (origin string, err error)
	// PublicURL opens the absolute links, without a slash at its end. Empty: links are
	// relative to this server.
	PublicURL string
	// MaxBody bounds request bodies, in bytes. Zero: 1 MiB.
	MaxBody int64
	// MaxWait bounds a long poll. Zero: 60 s. The write timeout of the HTTP server must
	// exceed it by RequestTimeout.
	MaxWait time.Duration
	// MaxWaitersPerCaller bounds the long polls and streams of one caller, or person, at a
	// time, whatever the configuration allows the caller. Zero: only that counts, and for
	// people, 1,000.
	MaxWaitersPerCaller int
	// Heartbeat is how often a stream shows that it is alive, and whoever opened it is looked
	// at again. Zero: 15 s.
	Heartbeat time.Duration
	// StreamWriteTimeout bounds one write to a stream: a client that does not read is let go.
	// Zero: 20 s.
	StreamWriteTimeout time.Duration
	// RequestTimeout bounds the handling of a request, waiting not counted. Zero: 15 s.
	RequestTimeout time.Duration
	// Now is the clock. Required.
	Now func() time.Time
	// Logger takes one line a request. Nil: slog.Default().
	Logger *slog.Logger
	// Version of the build, shown at /healthz. Empty: not shown.
	Version string
	// FingerprintKey makes the fingerprints of requests; see [approvals.Fingerprint]. Nil:
	// none are shown.
	FingerprintKey []byte
	// Identify says who holds a token of an identity provider: [identity.Verifier.Verify].
	// Nil: no tokens are taken.
	Identify func(ctx context.Context, token string) (identity.Identity, error)
	// Direct makes the call of an approved ticket in this process and at once, gives its answer
	// to sink, and returns when what came of it is recorded; ctx ending does not end the call.
	// An error without a call of sink: the call was not made here, or got no answer; after one,
	// sink was not given the whole body. Nil: calls that come through the proxy front are left
	// to the workers, and answered with what they have stored.
	Direct func(ctx context.Context, ticketID string, sink AnswerSink) error
	// VerifyEndpoint asks a callback endpoint now whether it wants callbacks and records what it
	// says, and TestEndpoint posts a test event to an address of one, or to where it is asked
	// when the address is "". ErrEndpointGone and ErrEndpointUnverified become 409. Nil: this
	// process makes no calls, and answers 503.
	VerifyEndpoint func(ctx context.Context, id string) error
	TestEndpoint   func(ctx context.Context, id, address string) (EndpointTest, error)
	// KeySet is the JWK set of the keys that sign callbacks. Nil: an empty one.
	KeySet func() []byte
	// Slack takes POST /slack/interactions, /slack/commands and /slack/events, with the raw
	// body. Nil: those addresses are 404.
	Slack http.Handler
}

// What an endpoint may have become while it was being verified or tested.
var (
	// ErrEndpointGone means that the configuration does not name it any more.
	ErrEndpointGone = errors.New("the configuration does not name this endpoint any more")
	// ErrEndpointUnverified means that it has not agreed to be sent callbacks.
	ErrEndpointUnverified = errors.New("this endpoint has not agreed to be sent callbacks; have it verified first")
)

// AnswerSink takes the answer of an upstream while it arrives.
type AnswerSink interface {
	// Head is called at most once, when the head of the answer is there, with the headers that
	// are kept of it; length is that of the body, -1 when it is not known. The body is written
	// to what it returns. An error of Write ends the streaming, not the recording.
	Head(status int, headers []approvals.Header, length int64) io.Writer
}

// Server is the HTTP front. It is safe for concurrent use.
type Server struct {
	store          Store
	policy         func() *policy.Config
	checkCall      func(path, rawQuery string, headers []approvals.Header) error
	checkCallback  func(raw string) (origin string, err error)
	publicURL      string
	maxBody        int64
	maxWait        time.Duration
	timeout        time.Duration
	now            func() time.Time
	log            *slog.Logger
	version        string
	fingerprint    []byte
	identify       func(ctx context.Context, token string) (identity.Identity, error)
	direct         func(ctx context.Context, ticketID string, sink AnswerSink) error
	keySet         func() []byte
	verifyEndpoint func(ctx context.Context, id string) error
	testEndpoint   func(ctx context.Context, id, address string) (EndpointTest, error)
	agreed         agreements
	strangers      *throttle
	limiter        *limiter
	waiters        *waiters
	heartbeat      time.Duration
	streamWrite    time.Duration
	catching       chan struct{} // a place for each stream that reads of the past
	tokens         pageTokens
	places         places
	echo           *echo.Echo
}

// New builds a Server. Errors name each required field that is missing.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &Server{
		store: c.Store, policy: c.Policy, checkCall: c.CheckCall, checkCallback: c.CheckCallbackURL,
		publicURL: strings.TrimSuffix(c.PublicURL, "/"), maxBody: c.MaxBody, maxWait: c.MaxWait, timeout: c.RequestTimeout,
		now: c.Now, log: c.Logger, version: c.Version, fingerprint: c.FingerprintKey, identify: c.Identify, direct: c.Direct,
		keySet: c.KeySet, verifyEndpoint: c.VerifyEndpoint, testEndpoint: c.TestEndpoint,
		strangers: newThrottle(), limiter: newLimiter(), waiters: newWaiters(c.MaxWaitersPerCaller), heartbeat: c.Heartbeat, streamWrite: c.StreamWriteTimeout, catching: make(chan struct{}, maxCatching),
	}
	s.places.secret = func(ctx context.Context) ([]byte, error) { return s.store.Secret(ctx, "event-places") }
	s.tokens.secret = func(ctx context.Context) ([]byte, error) { return s.store.Secret(ctx, "page-tokens") }
	s.echo = s.routes(c)
	return s, nil
}

func (c Config) check() error {
	var errs []error
	for name, missing := range map[string]bool{
		"Store": c.Store == nil, "Policy": c.Policy == nil, "CheckCall": c.CheckCall == nil,
		"CheckCallbackURL": c.CheckCallbackURL == nil, "Now": c.Now == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("api.New: %s is required", name))
		}
	}
	for name, negative := range map[string]bool{
		"MaxBody": c.MaxBody < 0, "MaxWait": c.MaxWait < 0,
		"MaxWaitersPerCaller": c.MaxWaitersPerCaller < 0, "RequestTimeout": c.RequestTimeout < 0, "Heartbeat": c.Heartbeat < 0, "StreamWriteTimeout": c.StreamWriteTimeout < 0,
	} {
		if negative {
			errs = append(errs, fmt.Errorf("api.New: %s is negative", name))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.MaxBody == 0 {
		c.MaxBody = 1 << 20
	}
	if c.MaxWait == 0 {
		c.MaxWait = time.Minute
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.StreamWriteTimeout == 0 {
		c.StreamWriteTimeout = 20 * time.Second
	}
	if c.RequestTimeout == 0 {
		c.RequestTimeout = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Handler serves the API.
func (s *Server) Handler() http.Handler { return s.echo }

// Drain answers every long poll with the ticket as it is, ends every stream, lets nobody wait
// any more, and turns
// /readyz to 503. Call it before shutting the HTTP server down. It does not wait.
func (s *Server) Drain() { s.waiters.drain() }
