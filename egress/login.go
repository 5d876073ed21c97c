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
	// AllowLoopback admits providers on loopback over http, for development and tests. Zero: https only.
	AllowLoopback bool
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
	policy := Policy{AllowLoopback: config.AllowLoopback, AllowHTTP: config.AllowLoopback, RootCAs: config.RootCAs}
	issuers := NewTransport(policy)
	issuers.DialContext = newUpstreamGuard(policy).dial
	return &http.Client{
		Transport: &loginTransport{
			config:  config,
			issuers: issuers,
			others:  &guardedTransport{base: NewTransport(policy), policy: policy, limit: limit},
			limit:   limit,
		},
		Timeout:       cmp.Or(config.Timeout, defaultClientTimeout),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// loginTransport tells the hosts that the operator has named from all others.
type loginTransport struct {
	config  LoginConfig
	issuers *http.Transport
	others  *guardedTransport
	limit   int64
}

// RoundTrip fulfils http.RoundTripper.
func (t *loginTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	if !t.named(req.URL) {
		return t.others.RoundTrip(req)
	}
	resp, err := t.issuers.RoundTrip(req)
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
	t.issuers.CloseIdleConnections()
	t.others.CloseIdleConnections()
}

func (t *loginTransport) check(req *http.Request) error {
	local := t.config.AllowLoopback && isLoopbackHost(req.URL.Hostname())
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
