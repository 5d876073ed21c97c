package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"countersign/approvals"
	"countersign/db"
	"countersign/identity"
)

// authenticate finds out who asks, in one snapshot of the configuration that serves the
// whole request: a caller by its key, or a person by a personal key or a token of an
// identity provider.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		x := exchangeOf(c.Request().Context())
		key := bearer(c.Request().Header)
		config := s.policy()
		if config == nil {
			return fail(codeNotReady, "the configuration is not loaded yet").retryAfter(time.Second)
		}
		x.config = config
		if err := s.recognise(c.Request().Context(), x, key); err != nil {
			return err
		}
		if x.caller.Name == "" && x.person.Name == "" {
			return s.refuseStranger(c.RealIP(), key)
		}
		return next(c)
	}
}

// recognise puts into the exchange whose key or token it is, nobody when it is nobody's.
// What begins like a personal key is nothing else.
func (s *Server) recognise(ctx context.Context, x *exchange, key string) error {
	if key == "" {
		return nil
	}
	if strings.HasPrefix(key, personPrefix) {
		if person, known := x.config.PersonByKey(key); known {
			x.person, x.ref = person, "key"
		}
		return nil
	}
	if caller, known := x.config.CallerByKey(key); known {
		x.caller = caller
		return nil
	}
	return s.recogniseToken(ctx, x, key)
}

// personPrefix begins every personal key.
const personPrefix = "csp_"

// maxRef bounds what the audit trail keeps of who a person is to their identity provider.
const maxRef = 512

func (s *Server) recogniseToken(ctx context.Context, x *exchange, token string) error {
	if s.identify == nil || strings.Count(token, ".") != 2 {
		return nil
	}
	who, err := s.identify(ctx, token)
	switch {
	case errors.Is(err, identity.ErrInvalid):
		return nil
	case err != nil:
		return fail(codeUnavailable, "the identity provider cannot be asked").retryAfter(5 * time.Second).because(err)
	}
	if person, known := x.config.PersonByLogin(who.Issuer, who.Subject, who.Email); known {
		x.person, x.ref = person, cut(who.Issuer+" "+who.Subject, maxRef)
	}
	return nil
}

// bearer returns the key of an Authorization header (RFC 6750 section 2.1), "" when there
// is not exactly one.
func bearer(h http.Header) string {
	values := h.Values(echo.HeaderAuthorization)
	if len(values) != 1 {
		return ""
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(key)
}

// refuseStranger answers a failed authentication, with 429 when there were too many from
// one address. A valid key is never held up by it: keys are too long to be guessed at any
// rate, and behind a load balancer all callers may share an address.
func (s *Server) refuseStranger(ip, key string) error {
	if !s.strangers.allow(ip, s.now()) {
		f := fail(codeQuotaExceeded, "too many failed authentications from this address").retryAfter(strangerEvery)
		f.violated = []string{"auth-failures"}
		return f.with("RateLimit-Policy", `"auth-failures";q=10;w=60`).with("RateLimit", `"auth-failures";r=0;t=`+seconds(strangerEvery))
	}
	challenge := `Bearer realm="countersign"`
	if key != "" {
		challenge += `, error="invalid_token"`
	}
	return fail(codeUnauthenticated, "send a valid key or token as Authorization: Bearer …").with("WWW-Authenticate", challenge)
}

const (
	// strangerBurst and strangerEvery bound failed authentications per address.
	strangerBurst = 10
	strangerEvery = 6 * time.Second
	// maxStrangers bounds how many addresses are remembered in one generation.
	maxStrangers = 4096
)

// throttle counts failures per address in bounded memory: two generations of limiters, of
// which the older is forgotten when the younger is full.
type throttle struct {
	mu         sync.Mutex
	young, old map[netip.Prefix]*rate.Limiter
}

func newThrottle() *throttle {
	return &throttle{young: make(map[netip.Prefix]*rate.Limiter)}
}

func (t *throttle) allow(ip string, now time.Time) bool {
	who := network(ip)
	t.mu.Lock()
	defer t.mu.Unlock()
	limiter, known := t.young[who]
	if !known {
		if limiter, known = t.old[who]; !known {
			limiter = rate.NewLimiter(rate.Every(strangerEvery), strangerBurst)
		}
		if len(t.young) >= maxStrangers {
			t.old, t.young = t.young, make(map[netip.Prefix]*rate.Limiter)
		}
		t.young[who] = limiter
	}
	return limiter.AllowN(now, 1)
}

// network is what one client can be assumed to hold: an IPv4 address, or an IPv6 /64.
// What is no address shares the zero prefix.
func network(ip string) netip.Prefix {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// callersOnly lets callers through, and nobody else.
func callersOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if exchangeOf(c.Request().Context()).caller.Name == "" {
			return fail(codeNotACaller, "this takes the key of a caller, csk_…; people approve calls and do not make them")
		}
		return next(c)
	}
}

// peopleOnly lets people through, and nobody else.
func peopleOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if exchangeOf(c.Request().Context()).person.Name == "" {
			return fail(codeNotAPerson, "this takes the key or token of a person; callers do not decide on calls")
		}
		return next(c)
	}
}

// owner is the caller whose tickets a request is about. It fails for everybody else, for
// the store reads an empty name as any caller.
func (x *exchange) owner() (string, error) {
	if x.caller.Name == "" {
		return "", fail(codeUnauthenticated, "a valid API key is needed")
	}
	return x.caller.Name, nil
}

// find names a ticket for whoever asks: a caller's own, or one that a person may see. For
// a person it reads the ticket; what they may not see does not exist for them.
func (o operations) find(ctx context.Context, x *exchange, id string) (db.Ref, error) {
	if !approvals.ValidTicketID(id) {
		return db.Ref{}, noTicket()
	}
	x.ticket = id
	if x.person.Name == "" {
		owner, err := x.owner()
		return db.Ref{ID: id, Caller: owner}, err
	}
	t, err := o.store.Ticket(ctx, db.Ref{ID: id})
	switch {
	case err != nil:
		return db.Ref{}, fmt.Errorf("read ticket %s: %w", id, err)
	case !x.sees(t):
		return db.Ref{}, noTicket()
	}
	return db.Ref{ID: id}, nil
}

// actor is whoever asks as the audit trail names them.
func (x *exchange) actor() approvals.Actor {
	if x.person.Name != "" {
		return approvals.Actor{Kind: approvals.ActorPerson, Name: x.person.Name, Via: "api", Ref: x.ref}
	}
	return approvals.Actor{Kind: approvals.ActorCaller, Name: x.caller.Name, Via: "api"}
}

// who tells callers and people apart where they are counted.
func (x *exchange) who() string {
	if x.person.Name != "" {
		return "person " + x.person.Name
	}
	return "caller " + x.caller.Name
}
