package api

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/time/rate"

	"countersign/approvals"
	"countersign/db"
)

// authenticate finds the caller by its key, in one snapshot of the configuration that
// serves the whole request.
func (s *Server) authenticate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		x := exchangeOf(c.Request().Context())
		key := bearer(c.Request().Header)
		config := s.policy()
		if config == nil {
			return fail(codeNotReady, "the configuration is not loaded yet").retryAfter(time.Second)
		}
		caller, known := config.CallerByKey(key)
		if key == "" || !known || caller.Name == "" {
			return s.refuseStranger(c.RealIP(), key)
		}
		x.config, x.caller = config, caller
		return next(c)
	}
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
	return fail(codeUnauthenticated, "send a valid API key as Authorization: Bearer csk_…").with("WWW-Authenticate", challenge)
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

// owner is the caller whose tickets a request is about. It fails for nobody, for the
// store reads an empty name as any caller.
func (x *exchange) owner() (string, error) {
	if x.caller.Name == "" {
		return "", fail(codeUnauthenticated, "a valid API key is needed")
	}
	return x.caller.Name, nil
}

// ref names a ticket for the caller of a request.
func (x *exchange) ref(id string) (db.Ref, error) {
	owner, err := x.owner()
	if err != nil {
		return db.Ref{}, err
	}
	if !approvals.ValidTicketID(id) {
		return db.Ref{}, noTicket()
	}
	x.ticket = id
	return db.Ref{ID: id, Caller: owner}, nil
}

// actor is the caller as the audit trail names it.
func (x *exchange) actor() approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorCaller, Name: x.caller.Name, Via: "api"}
}
