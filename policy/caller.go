package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Caller is a client that may submit calls.
type Caller struct {
	Name string
	// Keys are its API keys; several while one is rotated, or for uses that are kept apart.
	Keys []CallerKey
	// Logins are the tokens of identity providers that count as this caller.
	Logins []CallerLogin
	Limits Limits
	// Owners are the people who count as the caller, and so cannot approve its calls.
	Owners []string
	// Upstreams are those it may ask for.
	Upstreams []string
	// Origins its callbacks may go to, as scheme://host:port with the port written out, in the
	// order of Endpoints.
	Origins []string
	// Endpoints say of each of the Origins how it is sent callbacks.
	Endpoints []Endpoint
	// CallbackSecrets sign its callbacks, newest first. Those that are over are among them;
	// see [Caller.LiveSecrets].
	CallbackSecrets []CallbackSecret
	// AlertChannel is the Slack channel that is told when its endpoints are in trouble. "":
	// the owners are told, directly.
	AlertChannel string
}

// CallerKey is an API key and what may be done with it. A zero limit limits nothing, so the
// zero key, which stands for a token of an identity provider, may do all that its caller may.
type CallerKey struct {
	// Name tells the keys of one caller apart, where people read of them. "" for key_sha256.
	Name string
	// Hash is the SHA-256 of the whole key.
	Hash [32]byte
	// Expires is when it stops to count. Zero: never.
	Expires time.Time
	// Scopes are of [Scopes].
	Scopes []string
	// Upstreams and Methods are those that it may ask for, among its caller's.
	Upstreams, Methods []string
	// Networks are those it may be used from.
	Networks []netip.Prefix
}

// What a caller's key can be for.
const (
	// ScopeSubmit hands in calls, and asks what would come of them.
	ScopeSubmit = "submit"
	// ScopeRead reads tickets, results and events.
	ScopeRead = "read"
	// ScopeCancel takes calls back.
	ScopeCancel = "cancel"
	// ScopeAnswer answers questions.
	ScopeAnswer = "answer"
	// ScopeCallbacks reads and operates callback endpoints and deliveries.
	ScopeCallbacks = "callbacks"
)

// Scopes lists what a caller's key can be for.
func Scopes() []string {
	return []string{ScopeSubmit, ScopeRead, ScopeCancel, ScopeAnswer, ScopeCallbacks}
}

// May reports whether a key is for something, one of [Scopes].
func (k CallerKey) May(scope string) bool {
	return len(k.Scopes) == 0 || slices.Contains(k.Scopes, scope)
}

// MayFrom reports whether a key may be used from an address, which may be an IPv4 one
// written as IPv6. An invalid address is in no network.
func (k CallerKey) MayFrom(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(k.Networks) == 0 || slices.ContainsFunc(k.Networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// MayCall reports whether a key may ask for a method of an upstream. Whether its caller and
// the upstream allow it is another question.
func (k CallerKey) MayCall(upstream, method string) bool {
	return (len(k.Upstreams) == 0 || slices.Contains(k.Upstreams, upstream)) &&
		(len(k.Methods) == 0 || slices.Contains(k.Methods, method))
}

// live reports whether a key has not expired.
func (k CallerKey) live(now time.Time) bool { return k.Expires.IsZero() || now.Before(k.Expires) }

// CallerLogin is what a token of an identity provider must say to count as a caller's. There
// is a Subject, or at least one of the Claims.
type CallerLogin struct {
	// Issuer is that of one of the logins of the configuration.
	Issuer string
	// Subject is the exact subject; "" for any.
	Subject string
	// Claims are compared exactly. A claim that is a list of texts must contain the text.
	Claims map[string]string
}

// Limits bound what one caller may do.
type Limits struct {
	// Submit and Read bound its requests. Zero: not.
	Submit, Read Rate
	// Open bounds its tickets that are not final. Default 10,000.
	Open int
	// Executing bounds how many of its calls are made at a time. Zero: not.
	Executing int
	// Waiting bounds its requests that wait for something at a time. Default 1,000.
	Waiting int
}

// Rate is so many of something in a time. Zero: no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// IsZero reports whether there is no limit.
func (r Rate) IsZero() bool { return r.N == 0 }

// CallbackSecret signs callbacks. It is whsec_ and base64.
type CallbackSecret struct {
	Secret
	// Until is when it stops to sign. Zero: never.
	Until time.Time
}

// LiveSecrets are those that sign callbacks now, newest first. None when all are over.
func (c Caller) LiveSecrets(now time.Time) []Secret {
	var out []Secret
	for _, s := range c.CallbackSecrets {
		if s.Until.IsZero() || now.Before(s.Until) {
			out = append(out, s.Secret)
		}
	}
	return out
}

// Endpoint finds the endpoint of an origin, which is scheme://host:port with the port
// written out. False: the caller's callbacks may not go there.
func (c Caller) Endpoint(origin string) (Endpoint, bool) {
	for _, e := range c.Endpoints {
		if e.Origin == origin {
			return e, true
		}
	}
	return Endpoint{}, false
}

// Endpoint is one origin of a caller's callbacks, and how it is sent them.
type Endpoint struct {
	// Origin is scheme://host:port with the port written out.
	Origin string
	// Verify is the path, with a slash at its beginning, at which it is asked whether it wants
	// callbacks. "": the first URL that a submit names.
	Verify string
	// Waived says that it need not be asked.
	Waived bool
	// Payload says how much of a result callbacks carry: "full", "thin", or "" for what is
	// small.
	Payload string
	// Ed25519 adds a signature (v1a) by the keys of [Signing].
	Ed25519 bool
	// Schedule is the waits before each attempt, the first of them before the first. Nil: the
	// default one.
	Schedule []time.Duration
	// Concurrency bounds the attempts at a time. Default 4.
	Concurrency int
	// Rate bounds the attempts. Zero: not.
	Rate Rate
	// Timeout of one whole attempt. Default 15 s.
	Timeout time.Duration
	// Headers are set on every attempt.
	Headers []Credential
	// CA are the authorities, in PEM, that its certificate may be from besides those of the
	// system. Certificate and CertificateKey, in PEM, are what we show it; both or none.
	CA, Certificate, CertificateKey Secret
	// DisableAfter is how long every attempt must have failed until it is sent nothing more.
	// Default 5 d.
	DisableAfter time.Duration
}

// Encryption says how results and callbacks are kept.
type Encryption struct {
	// Keyset holds the keys. Zero: none was given.
	Keyset Secret
}

// Signing says what Countersign signs with in its own name.
type Signing struct {
	// Keys are whsk_ and the base64 of an ed25519 key, newest first.
	Keys []Secret
}

// Breaker says when an upstream is left alone: after so many Failures in a row Within a
// time, For another. Zero: never.
type Breaker struct {
	Failures    int
	Within, For time.Duration
}
