package egress

import (
	"cmp"
	"crypto/x509"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// defaultLoginResponse is far more than the keys of any identity provider take.
const defaultLoginResponse = 1 << 20

// LoginConfig configures LoginClient.
type LoginConfig struct {
	// Issuers returns the URLs of the identity providers that the operator has configured. They may live on any network
	// and port, as upstreams may. Asked for at every request. Nil: none.
	Issuers func() []string
	// AllowLoopback says whether providers on loopback are admitted, over http, too, for development and tests. Asked for
	// at every request. Nil: https only.
	AllowLoopback func() bool
	// Timeout of a whole exchange. Zero: 10 s.
	Timeout time.Duration
	// MaxResponseBytes that can be read of an answer, then ErrResponseTooLarge. Zero: 1 MiB.
	MaxResponseBytes int64
	// RootCAs replaces the system's certificate authorities. Nil: the system's.
	RootCAs *x509.CertPool
}

// LoginClient returns a client that reads what identity providers publish: their metadata and their keys. It makes GET
// requests over https, follows no redirects and keeps to one deadline and a bounded answer. The hosts of the issuers are
// the operator's choice; whatever else a provider's metadata points at must be a public address on port 443 or 8443.
func LoginClient(config LoginConfig) *http.Client {
	limit := cmp.Or(config.MaxResponseBytes, defaultLoginResponse)
	return &http.Client{
		Transport: &loginTransport{
			config: config,
			limit:  limit,
			strict: newLoginRoads(Policy{RootCAs: config.RootCAs}, limit),
			local:  newLoginRoads(Policy{AllowLoopback: true, AllowHTTP: true, RootCAs: config.RootCAs}, limit),
		},
		Timeout:       cmp.Or(config.Timeout, defaultClientTimeout),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// loginRoads are the ways to the hosts that the operator has named and to all others, under one policy. Each policy has
// connections of its own, so that one which is not allowed any more is not used again.
type loginRoads struct {
	issuers *http.Transport
	others  *guardedTransport
}

func newLoginRoads(policy Policy, limit int64) loginRoads {
	issuers := NewTransport(policy)
	issuers.DialContext = newUpstreamGuard(policy).dial
	return loginRoads{issuers: issuers, others: &guardedTransport{base: NewTransport(policy), policy: policy, limit: limit}}
}

// loginTransport tells the hosts that the operator has named from all others.
type loginTransport struct {
	config        LoginConfig
	limit         int64
	strict, local loginRoads
}

// RoundTrip fulfils http.RoundTripper.
func (t *loginTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	loopback := t.config.AllowLoopback != nil && t.config.AllowLoopback()
	if err := t.check(req, loopback); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	roads := t.strict
	if loopback {
		roads = t.local
	}
	if !t.named(req.URL) {
		return roads.others.RoundTrip(req)
	}
	resp, err := roads.issuers.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close() // it is the connection, and outlives every deadline
		return nil, errSwitched
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: t.limit}
	return resp, nil
}

// CloseIdleConnections is called by http.Client's method of that name.
func (t *loginTransport) CloseIdleConnections() {
	for _, roads := range []loginRoads{t.strict, t.local} {
		roads.issuers.CloseIdleConnections()
		roads.others.CloseIdleConnections()
	}
}

func (t *loginTransport) check(req *http.Request, loopback bool) error {
	local := loopback && isLoopbackHost(req.URL.Hostname())
	safe := req.URL.Scheme == "https" || (req.URL.Scheme == "http" && local)
	switch {
	case req.Method != http.MethodGet:
		return blocked("%s to an identity provider", req.Method)
	case !safe:
		return blocked("%s to an identity provider", req.URL.Scheme)
	}
	if _, err := parseURL(req.URL.String()); err != nil {
		return &BlockedError{cause: err}
	}
	return nil
}

// named reports whether a URL is on the host and port of an issuer.
func (t *loginTransport) named(u *url.URL) bool {
	if t.config.Issuers == nil {
		return false
	}
	return slices.ContainsFunc(t.config.Issuers(), func(raw string) bool {
		issuer, err := url.Parse(raw)
		return err == nil && strings.EqualFold(issuer.Hostname(), u.Hostname()) && effectivePort(issuer) == effectivePort(u)
	})
}
