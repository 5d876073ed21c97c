package api

import (
	"context"
	"errors"
	"fmt"
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
	// MaxWaitersPerCaller bounds the long polls of one caller, or person, at a time. Zero:
	// 1,000.
	MaxWaitersPerCaller int
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
	// Slack takes POST /slack/interactions, /slack/commands and /slack/events, with the raw
	// body. Nil: those addresses are 404.
	Slack http.Handler
}

// Server is the HTTP front. It is safe for concurrent use.
type Server struct {
	store         Store
	policy        func() *policy.Config
	checkCall     func(path, rawQuery string, headers []approvals.Header) error
	checkCallback func(raw string) (origin string, err error)
	publicURL     string
	maxWait       time.Duration
	timeout       time.Duration
	now           func() time.Time
	log           *slog.Logger
	version       string
	fingerprint   []byte
	identify      func(ctx context.Context, token string) (identity.Identity, error)
	strangers     *throttle
	waiters       *waiters
	tokens        pageTokens
	echo          *echo.Echo
}

// New builds a Server. Errors name each required field that is missing.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	s := &Server{
		store: c.Store, policy: c.Policy, checkCall: c.CheckCall, checkCallback: c.CheckCallbackURL,
		publicURL: strings.TrimSuffix(c.PublicURL, "/"), maxWait: c.MaxWait, timeout: c.RequestTimeout,
		now: c.Now, log: c.Logger, version: c.Version, fingerprint: c.FingerprintKey, identify: c.Identify,
		strangers: newThrottle(), waiters: newWaiters(c.MaxWaitersPerCaller),
	}
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
		"MaxWaitersPerCaller": c.MaxWaitersPerCaller < 0, "RequestTimeout": c.RequestTimeout < 0,
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
	if c.MaxWaitersPerCaller == 0 {
		c.MaxWaitersPerCaller = 1000
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

// Drain answers every long poll with the ticket as it is, lets no new one wait, and turns
// /readyz to 503. Call it before shutting the HTTP server down. It does not wait.
func (s *Server) Drain() { s.waiters.drain() }
