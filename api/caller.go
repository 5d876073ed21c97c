package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"countersign/policy"
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
		if err := s.recognise(c.Request().Context(), x, key, c.RealIP()); err != nil {
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
func (s *Server) recognise(ctx context.Context, x *exchange, key, ip string) error {
	switch {
	case key == "":
		return nil
	case strings.HasPrefix(key, personPrefix):
		if person, known := x.config.PersonByKey(key, s.now()); known {
			x.person, x.ref = person, "key"
		}
		return nil
	}
	if caller, k, known := x.config.CallerByKey(key, s.now()); known {
		s.recogniseCaller(ctx, x, caller, k, ip)
		return nil
	}
	return s.recogniseToken(ctx, x, key)
}

const (
	// personPrefix begins every personal key.
	personPrefix = "csp_"
	// maxRef bounds what the audit trail keeps of who somebody is to whoever vouches for them.
	maxRef = 512
)

// recogniseCaller takes the key of a caller, unless it comes from where it may not be used.
// It is then answered like a key that nobody has, for it may have been stolen; that is for
// us to know.
func (s *Server) recogniseCaller(ctx context.Context, x *exchange, caller policy.Caller, key policy.CallerKey, ip string) {
	// An address that cannot be read is in no network.
	if addr, _ := netip.ParseAddr(ip); !key.MayFrom(addr) {
		s.astray(ctx, caller, key, ip)
		return
	}
	x.caller, x.apiKey = narrow(caller, key), key
	if key.Name != "" {
		x.ref = cut("key "+key.Name, maxRef)
	}
}

// strays is how often it is said that a key is used from where it may not be: once a minute
// for each, for whoever has stolen one may try it any number of times.
var strays = policy.Rate{N: 1, Per: time.Minute}

// astray tells operators that a key is in the wrong place.
func (s *Server) astray(ctx context.Context, caller policy.Caller, key policy.CallerKey, ip string) {
	name := caller.Name + "/" + key.Name
	if !s.limiter.take(bucket{"stray", name}, strays, s.now()).ok {
		return
	}
	s.log.WarnContext(ctx, "a valid key was used from where it may not be, and refused",
		slog.String("caller", caller.Name), slog.String("key", key.Name), slog.String("remote_ip", ip))
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	actor := approvals.Actor{Kind: approvals.ActorCaller, Name: caller.Name, Via: "api"}
	err := s.store.NoteServiceEvent(ctx, "key/"+name, "key.astray", actor, map[string]string{"remote_ip": ip})
	if err != nil { // it is refused all the same, and in the log
		s.log.ErrorContext(ctx, "a service event could not be written", slog.Any("error", err))
	}
}

// recogniseToken finds out whose a token is. One that stands for a person and for a caller
// is nobody's: as a caller they could ask for what they then approve.
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
	person, isPerson := x.config.PersonByLogin(who.Issuer, who.Subject, who.Email)
	caller, isCaller := x.config.CallerByToken(who.Issuer, who.Subject, who.Claims)
	if isPerson && isCaller {
		s.log.WarnContext(ctx, "a token stands for a person and for a caller, and so for nobody",
			slog.String("person", person.Name), slog.String("caller", caller.Name))
		return nil
	}
	ref := cut(who.Issuer+" "+who.Subject, maxRef)
	if isPerson {
		x.person, x.ref = person, ref
	}
	if isCaller {
		x.caller, x.ref = caller, ref
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
	return approvals.Actor{Kind: approvals.ActorCaller, Name: x.caller.Name, Via: "api", Ref: x.ref}
}

// who tells callers and people apart where they are counted.
func (x *exchange) who() string {
	if x.person.Name != "" {
		return "person " + x.person.Name
	}
	return "caller " + x.caller.Name
}
