package client

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const (
	defaultAttempts = 6
	defaultAgent    = "countersign-client"
	// longestWait is what the server grants a request that waits.
	longestWait = 60 * time.Second
)

// Config configures New.
type Config struct {
	// BaseURL is where Countersign is, such as https://countersign.example.com. Required. Plain http is taken for
	// loopback addresses only: the key would be readable on the way.
	BaseURL string
	// Key is the caller's key (csk_…), a personal key (csp_…) or a token. Required, unless HTTPClient adds its own.
	Key Secret
	// HTTPClient makes the requests. Nil: one with deadlines for connecting and TLS, which follows no redirects. One of
	// your own must allow 90 seconds for a request, and should not follow redirects either.
	HTTPClient *http.Client
	// AllowHTTP takes plain http to any host, for networks that are protected otherwise.
	AllowHTTP bool
	// Attempts is how often a request that may safely be repeated is made. Zero: 6. One: no retries.
	Attempts int
	// Poll is how long one request of Wait waits at most. Zero, and more than a minute: a minute.
	Poll time.Duration
	// UserAgent says who is asking. Empty: countersign-client.
	UserAgent string
	// Now is the clock. Nil: the real one.
	Now func() time.Time
}

// Client talks to one Countersign as one caller or person.
type Client struct {
	base     string // without a slash at the end
	key      Secret
	http     *http.Client
	attempts int
	poll     time.Duration
	agent    string
	now      func() time.Time
}

// New checks the configuration. Nothing is sent. Errors never contain the key.
func New(c Config) (*Client, error) {
	base, err := baseURL(c.BaseURL, c.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if c.Key == "" && c.HTTPClient == nil {
		return nil, errors.New("client: Config.Key is missing")
	}
	if strings.ContainsFunc(string(c.Key), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("client: Config.Key holds a blank or another character that no key has")
	}
	out := &Client{
		base: base, key: c.Key, http: c.HTTPClient, attempts: cmp.Or(max(c.Attempts, 0), defaultAttempts),
		poll: min(cmp.Or(max(c.Poll, 0), longestWait), longestWait), agent: cmp.Or(c.UserAgent, defaultAgent), now: c.Now,
	}
	if out.http == nil {
		out.http = safeClient()
	}
	if out.now == nil {
		out.now = time.Now //nolint:forbidigo // the default clock of whoever uses the package
	}
	return out, nil
}

// baseURL never repeats what it refuses: there may be a password in it.
func baseURL(text string, plain bool) (string, error) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return "", errors.New("client: Config.BaseURL is missing")
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return "", errors.New("client: Config.BaseURL must be such as https://countersign.example.com")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", errors.New("client: Config.BaseURL must have no user, query or fragment")
	case u.Scheme == "http" && !plain && !loopback(u.Hostname()):
		return "", fmt.Errorf("client: Config.BaseURL is plain http to %s, which would show the key to the network: use https", u.Hostname())
	}
	return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && addr.IsLoopback())
}

// safeClient has a deadline for every phase but the answer, for which the request's context has one. Bodies come as they
// are: digests are of those bytes.
func safeClient() *http.Client {
	const phase = 10 * time.Second
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: phase}).DialContext,
			TLSHandshakeTimeout: phase, ForceAttemptHTTP2: true, DisableCompression: true, MaxResponseHeaderBytes: 256 << 10,
			MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
