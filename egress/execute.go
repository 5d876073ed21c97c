package egress

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	defaultUpstreamTimeout = 30 * time.Second
	defaultMaxResponse     = int64(1 << 20)
	maxMaxResponse         = int64(64 << 20)
	maxKeyLength           = 255
	productName            = "Countersign/"
	defaultVersion         = "dev"
)

// Upstream is a configured API behind the gate. CheckUpstream says whether it can be used.
type Upstream struct {
	// Name is for errors.
	Name string
	// BaseURL is required: http or https, with an optional path, without userinfo, query and fragment.
	BaseURL *url.URL
	// Credentials are set last and win over everything. Nil: none.
	Credentials []Credential
	// Timeout bounds the whole exchange, from the dial to the last byte of the answer. Zero: 30 s.
	Timeout time.Duration
	// MaxResponseBytes of the body are kept, at most 64 MiB. Zero: 1 MiB.
	MaxResponseBytes int64
	// SuccessStatus decides Outcome.Success. Nil: 2xx.
	SuccessStatus func(status int) bool
	// RequestHeaders may be sent besides those that AllowedRequestHeader knows. Nil: none.
	RequestHeaders []string
	// ResponseHeaders are kept instead of the default list. Nil: the default, ordinary metadata; empty: none.
	ResponseHeaders []string
	// RootCAs replaces the policy's certificate authorities. Nil: the policy's.
	RootCAs *x509.CertPool
	// ClientCertificates are offered instead of the policy's. Nil: the policy's.
	ClientCertificates []tls.Certificate
	// Proxy is the forward proxy that the upstream is reached through, http://host:port or https://host:port without user
	// information. It is asked by CONNECT, for http too, and resolves the upstream's name. Nil: none.
	Proxy *url.URL
	// ProxyAuthorization is the value of Proxy-Authorization, such as "Basic …". Only the proxy is told. Empty: none.
	ProxyAuthorization Secret
}

// Request is an approved call.
type Request struct {
	Method string
	// Path is the escaped path below the base URL; see CheckPath.
	Path string
	// RawQuery goes without its question mark; see CheckQuery. Empty: none.
	RawQuery string
	// Headers are what the caller may send; see CheckHeaders.
	Headers []Header
	// Body is sent as it is. Empty: no body.
	Body []byte
	// IdempotencyKey is sent unless Headers have one; at most 255 characters. Empty: none.
	IdempotencyKey string
	// Answer is called at most once, when the head of the answer is there, and returns where the body is written as it
	// comes, without credentials; see Stream. Headers are those of Outcome. Length is -1 if it is not known or may change
	// because a credential is taken out. It and the writer are used by a goroutine of their own, until Outcome.Stream.Wait
	// returns. A body that is withheld (ErrorEncoded) is not streamed. Nil: not streamed.
	Answer func(status int, headers []Header, length int64) io.Writer
}

// ExecutorConfig configures NewExecutor.
type ExecutorConfig struct {
	// Policy for upstreams: any address but metadata services, which AllowPrefixes opens. Of the rest, DenyAddrs,
	// RootCAs, ClientCertificates and Resolver count. An upstream has its own Proxy.
	Policy Policy
	// Version is the product's, for User-Agent. Empty: dev.
	Version string
	// Now is required; it measures durations only.
	Now func() time.Time
}

// Executor makes approved calls. It is safe for concurrent use.
type Executor struct {
	guard     *guard
	userAgent string
	now       func() time.Time
}

// NewExecutor returns an Executor, or an error that names the missing field.
func NewExecutor(config ExecutorConfig) (*Executor, error) {
	if config.Now == nil {
		return nil, errors.New("executor config: Now is required")
	}
	return &Executor{
		guard:     newUpstreamGuard(config.Policy).through(nil, Secret{}),
		userAgent: productName + cmp.Or(config.Version, defaultVersion),
		now:       config.Now,
	}, nil
}

// CheckUpstream reports every reason why an upstream cannot be used. No error contains a credential.
func CheckUpstream(up Upstream) error {
	var problems []error
	if err := checkBaseURL(up.BaseURL); err != nil {
		problems = append(problems, err)
	}
	for _, c := range up.Credentials {
		problems = append(problems, checkCredential(c))
	}
	for _, name := range up.RequestHeaders {
		if !AllowedRequestHeader(name, name) {
			problems = append(problems, fmt.Errorf("request header %q may not be sent by a caller", name))
		}
	}
	for _, name := range up.ResponseHeaders {
		if withheld(http.CanonicalHeaderKey(name)) {
			problems = append(problems, fmt.Errorf("response header %q is never kept", name))
		}
	}
	problems = append(problems, checkProxy(up.Proxy, up.ProxyAuthorization))
	if up.Timeout < 0 || up.MaxResponseBytes < 0 || up.MaxResponseBytes > maxMaxResponse {
		problems = append(problems, fmt.Errorf("timeout must not be negative, response limit between 0 and %d bytes", maxMaxResponse))
	}
	return errors.Join(problems...)
}

func checkBaseURL(base *url.URL) error {
	if base == nil {
		return errors.New("base url is missing")
	}
	if (base.Scheme != "http" && base.Scheme != "https") || base.Hostname() == "" || base.Opaque != "" {
		return errors.New("base url must be an absolute http or https url")
	}
	if base.User != nil || base.RawQuery != "" || base.ForceQuery || base.Fragment != "" {
		return errors.New("base url must not have user information, a query or a fragment")
	}
	if !httpguts.ValidHostHeader(base.Host) {
		return errors.New("base url has no valid host")
	}
	if path := base.EscapedPath(); path != "" {
		if err := CheckPath(path); err != nil {
			return fmt.Errorf("base url: %w", err)
		}
	}
	return nil
}

// ownHeaders cannot be credentials: they frame the message.
var ownHeaders = []string{
	"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding",
	"Upgrade", "User-Agent",
}

func checkCredential(c Credential) error {
	if !httpguts.ValidHeaderFieldName(c.Name) || containsHeader(ownHeaders, http.CanonicalHeaderKey(c.Name)) {
		return fmt.Errorf("credential header %q cannot be set", c.Name)
	}
	if value := c.Value.reveal(); value == "" || !plainValue(value) {
		return fmt.Errorf("credential for header %s is empty or not a header value", c.Name)
	}
	return nil
}

// Do makes the call, at most once, and never follows where an answer points. Everything is built first; then beforeDial
// (nil: none) sees the request as it will be sent, but for the credentials, and may still refuse it: it is the place to
// compare digests and to record that sending starts. It runs under ctx, the deadline of the upstream starts after it.
//
// ctx ending gives up the exchange, which is then NotSent or Unknown as the connection knows. Do does not wait for the
// writer of r.Answer: record the outcome, then wait for Outcome.Stream.
func (e *Executor) Do(ctx context.Context, up Upstream, r Request, beforeDial func(*http.Request) error) Outcome {
	started := e.now()
	outcome := e.do(ctx, up, r, beforeDial)
	outcome.Duration = e.now().Sub(started)
	return outcome
}

func (e *Executor) do(ctx context.Context, up Upstream, r Request, beforeDial func(*http.Request) error) Outcome {
	req, err := e.build(ctx, up, r)
	if err != nil {
		return notSent(ErrorInvalid, fmt.Errorf("call upstream %s: %w", up.Name, err))
	}
	if beforeDial != nil {
		if err := beforeDial(preview(req, r.Body)); err != nil {
			return notSent(ErrorRefused, fmt.Errorf("call upstream %s: before dial: %w", up.Name, err))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(up.Timeout, defaultUpstreamTimeout))
	req = req.WithContext(ctx)
	for _, c := range up.Credentials { // last, and with Set: nothing that was there before is left
		req.Header.Set(c.Name, c.Value.reveal())
	}
	scrub := newScrubber(append(slices.Clone(up.Credentials), Credential{Value: up.ProxyAuthorization}))
	x := &exchange{guard: e.guard.through(up.Proxy, up.ProxyAuthorization), tls: e.tlsConfig(up)}
	resp, err := x.transport(ctx).RoundTrip(req) // not a Client: it would follow redirects and rewrite headers
	if err != nil {
		defer cancel()
		return failed(x, up, scrub, x.tunnel.blame(withCause(ctx, err)))
	}
	return answered(ctx, up, r.Answer, scrub, resp, func() {
		_ = resp.Body.Close()
		cancel()
	})
}

// failed decides between the two ways of not having an answer. One thing only counts as proof that nothing was sent: the
// connection was never given a byte and has been told to take none.
func failed(x *exchange, up Upstream, scrub scrubber, err error) Outcome {
	if x.seal() {
		return notSent(failureClass(err), describe(up, scrub, err))
	}
	return Outcome{Kind: Unknown, ErrorClass: failureClass(err), Err: describe(up, scrub, err)}
}

// build makes the request from its parts; nothing is copied over from what a caller sent but what the rules admit.
func (e *Executor) build(ctx context.Context, up Upstream, r Request) (*http.Request, error) {
	if err := errors.Join(CheckUpstream(up), CheckMethod(r.Method), CheckQuery(r.RawQuery), checkRequestHeaders(up, r)); err != nil {
		return nil, err
	}
	target, err := JoinURL(up.BaseURL, r.Path, r.RawQuery)
	if err != nil {
		return nil, err
	}
	req := (&http.Request{
		Method: r.Method, URL: target, Host: target.Host, Header: make(http.Header),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: newBody(r.Body), ContentLength: int64(len(r.Body)),
	}).WithContext(ctx)
	for _, h := range r.Headers {
		req.Header.Add(h.Name, h.Value)
	}
	if r.IdempotencyKey != "" && req.Header.Get("Idempotency-Key") == "" {
		req.Header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	req.Header.Set("Accept-Encoding", "identity") // a compressed answer could not be searched for credentials
	req.Header.Set("User-Agent", e.userAgent)
	return req, nil
}

func checkRequestHeaders(up Upstream, r Request) error {
	if !plainValue(r.IdempotencyKey) || len(r.IdempotencyKey) > maxKeyLength {
		return refuse("idempotency key must be printable ASCII of at most %d characters", maxKeyLength)
	}
	for _, h := range r.Headers {
		for _, c := range up.Credentials {
			if strings.EqualFold(h.Name, c.Name) {
				return refuse("header %s carries the credential", http.CanonicalHeaderKey(c.Name))
			}
		}
	}
	return CheckHeaders(r.Headers, up.RequestHeaders...)
}

// JoinURL puts an escaped path and a raw query under a base URL, by string. It checks the path and the query, and that
// the request line will carry exactly base path + path: net/url falls back to an encoding of its own if it disagrees.
func JoinURL(base *url.URL, path, rawQuery string) (*url.URL, error) {
	if err := errors.Join(CheckPath(path), CheckQuery(rawQuery)); err != nil {
		return nil, err
	}
	want := strings.TrimSuffix(base.EscapedPath(), "/") + path
	decoded, err := url.PathUnescape(want)
	if err != nil {
		return nil, refuse("path has an invalid escape")
	}
	u := &url.URL{Scheme: base.Scheme, Host: base.Host, Path: decoded, RawPath: want, RawQuery: rawQuery}
	line := want
	if rawQuery != "" {
		line += "?" + rawQuery
	}
	if u.EscapedPath() != want || u.RequestURI() != line {
		return nil, refuse("path would not be sent as it is written")
	}
	return u, nil
}

// newBody can be read once. Request.GetBody stays nil, so that net/http has nothing to send a second time.
func newBody(b []byte) io.ReadCloser {
	if len(b) == 0 {
		return http.NoBody
	}
	return io.NopCloser(onceReader{bytes.NewReader(b)})
}

// onceReader hides every method of bytes.Reader but Read.
type onceReader struct{ io.Reader }

// preview is a copy with a body of its own: beforeDial may read or change it without effect on what is sent.
func preview(req *http.Request, body []byte) *http.Request {
	seen := req.Clone(req.Context())
	seen.Body = newBody(bytes.Clone(body))
	return seen
}

func (e *Executor) tlsConfig(up Upstream) *tls.Config {
	config := e.guard.policy.tlsConfig()
	if up.RootCAs != nil {
		config.RootCAs = up.RootCAs
	}
	if up.ClientCertificates != nil {
		config.Certificates = up.ClientCertificates
	}
	return config
}
