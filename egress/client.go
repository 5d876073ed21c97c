package egress

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	defaultClientTimeout  = 10 * time.Second
	defaultClientResponse = 8 << 20
)

// ErrResponseTooLarge ends the body of an answer that is larger than the client's limit.
var ErrResponseTooLarge = errors.New("response is too large")

// errSwitched answers a server that changes the protocol though nobody asked for it.
var errSwitched = errors.New("server switched protocols")

// ClientConfig configures NewClient.
type ClientConfig struct {
	// Policy for every request: its URL is held to CheckURL, its address to the dial check.
	Policy Policy
	// Hosts that may be called, themselves and what is below them; ASCII, lower case. Loopback is exempt if the policy
	// allows it. Nil: any host.
	Hosts []string
	// Timeout of a whole exchange, reading the answer included. Zero: 10 s.
	Timeout time.Duration
	// MaxResponseBytes that can be read of an answer, then ErrResponseTooLarge. Zero: 8 MiB.
	MaxResponseBytes int64
}

// NewClient returns a client that stays within the policy: no redirects (the 3xx is the answer), no proxy, no cookies,
// no decompression, one deadline. A refused request fails with an error that is ErrBlocked.
func NewClient(config ClientConfig) *http.Client {
	return &http.Client{
		Transport: &guardedTransport{
			base:   NewTransport(config.Policy),
			policy: config.Policy,
			hosts:  config.Hosts,
			limit:  cmp.Or(config.MaxResponseBytes, defaultClientResponse),
		},
		Timeout:       cmp.Or(config.Timeout, defaultClientTimeout),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// SlackConfig configures SlackClient.
type SlackConfig struct {
	// Timeout of a whole exchange. Zero: 10 s.
	Timeout time.Duration
	// AllowLoopback admits an emulator on loopback, over http and on any port. Zero: Slack only.
	AllowLoopback bool
	// MaxResponseBytes that can be read of an answer. Zero: 8 MiB.
	MaxResponseBytes int64
}

// SlackClient returns a client that reaches Slack over https, and nothing else.
func SlackClient(config SlackConfig) *http.Client {
	return NewClient(ClientConfig{
		Policy:           Policy{AllowLoopback: config.AllowLoopback, AllowHTTP: config.AllowLoopback},
		Hosts:            []string{"slack.com", "slack-gov.com"},
		Timeout:          config.Timeout,
		MaxResponseBytes: config.MaxResponseBytes,
	})
}

// guardedTransport applies the rules for URLs to each request, and bounds each answer.
type guardedTransport struct {
	base   *http.Transport
	policy Policy
	hosts  []string
	limit  int64
}

// RoundTrip fulfils http.RoundTripper.
func (t *guardedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := t.base.RoundTrip(req)
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
func (t *guardedTransport) CloseIdleConnections() { t.base.CloseIdleConnections() }

func (t *guardedTransport) check(req *http.Request) error {
	u, err := CheckURL(req.URL.String(), t.policy)
	if err != nil {
		return &BlockedError{cause: err}
	}
	host := u.Hostname()
	local := t.policy.AllowLoopback && isLoopbackHost(host)
	if u.Scheme == "http" && t.hosts != nil && !local {
		return blocked("http to %s", host)
	}
	known := slices.ContainsFunc(t.hosts, func(h string) bool { return host == h || strings.HasSuffix(host, "."+h) })
	if t.hosts != nil && !known && !local {
		return blocked("%s is not one of the hosts this client may call", host)
	}
	return nil
}

// boundedBody fails once more than it may give has been asked of it.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n, b.left = int(b.left), 0
		return n, ErrResponseTooLarge
	}
	b.left -= int64(n)
	return n, err
}
