package jobs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"

	"countersign/approvals"
	"countersign/credential"
	"countersign/egress"
	"countersign/policy"
)

// CheckUpstreams reports every upstream of a configuration that no call could be sent to:
// its own rules are checked when it is loaded, those of egress and of its certificates here.
// Without it the first to learn of a mistake would be those whose approved call fails. No
// program is run for it.
func CheckUpstreams(config *policy.Config) error {
	var errs []error
	for _, u := range config.Upstreams {
		keys, err := parseTrust(u)
		up := upstreamOf(u, keys)
		for _, c := range u.Credentials {
			up.Credentials = append(up.Credentials, egress.Credential{Name: c.Header, Value: checkable(c)})
		}
		if err := errors.Join(err, egress.CheckUpstream(up)); err != nil {
			errs = append(errs, fmt.Errorf("upstream %q: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

// checkable is the value of a credential or, where a program prints it, something in its place.
func checkable(c policy.Credential) egress.Secret {
	if _, program := c.Value.Exec(); program {
		return egress.NewSecret(c.Prefix + "printed")
	}
	return egress.NewSecret(c.Prefix + c.Value.Reveal())
}

// upstreamOf is an upstream of the configuration in the words of egress, but for its
// credentials.
func upstreamOf(u policy.Upstream, keys trust) egress.Upstream {
	out := egress.Upstream{
		Name: u.Name, BaseURL: u.BaseURL, Timeout: u.Timeout, MaxResponseBytes: u.MaxResponseBytes,
		RequestHeaders: u.RequestHeaders, ResponseHeaders: u.ResponseHeaders,
		RootCAs: keys.authorities, ClientCertificates: keys.certificates, Proxy: u.Proxy,
	}
	if !u.ProxyAuthorization.IsZero() {
		out.ProxyAuthorization = egress.NewSecret(u.ProxyAuthorization.Reveal())
	}
	return out
}

// upstreamFor is the upstream of a ticket with everything that a call to it needs. Credentials
// that programs print are read now: after the claim, which says in the audit trail that they
// are wanted, and before the door.
func (x *execution) upstreamFor(ctx context.Context, t approvals.Ticket) (egress.Upstream, error) {
	keys, err := x.r.trusts.of(x.config, x.upstream)
	if err != nil {
		return egress.Upstream{}, err
	}
	up := upstreamOf(x.upstream, keys)
	up.SuccessStatus = func(status int) bool { return t.Plan.Succeeded(status, ranges(x.upstream.Success)) }
	for _, c := range x.upstream.Credentials {
		value := egress.NewSecret(c.Prefix + c.Value.Reveal())
		if program, ok := programOf(c); ok {
			if value, err = x.r.credentials.Read(ctx, program); err != nil {
				return egress.Upstream{}, fmt.Errorf("read the credential for header %s: %w", c.Header, err)
			}
		}
		up.Credentials = append(up.Credentials, egress.Credential{Name: c.Header, Value: value})
	}
	return up, nil
}

func ranges(of []policy.StatusRange) []approvals.StatusRange {
	out := make([]approvals.StatusRange, 0, len(of))
	for _, r := range of {
		out = append(out, approvals.StatusRange{From: r.From, To: r.To})
	}
	return out
}

func programOf(c policy.Credential) (credential.Command, bool) {
	argv, ok := c.Value.Exec()
	return credential.Command{Argv: argv, Prefix: c.Prefix, Cache: c.Cache}, ok
}

// credentialsRefused has the programs asked again for the next call.
func (x *execution) credentialsRefused() {
	for _, c := range x.upstream.Credentials {
		if program, ok := programOf(c); ok {
			x.r.credentials.Refused(program)
		}
	}
}

// requestOf builds the request from the ticket. The ticket's id is the Idempotency-Key unless
// the caller chose one, and so the same at every attempt.
func (x *execution) requestOf(call approvals.Call) egress.Request {
	out := egress.Request{Method: call.Method, Path: call.Path, RawQuery: call.Query, Body: call.Body, IdempotencyKey: x.id}
	for _, h := range call.Headers {
		out.Headers = append(out.Headers, egress.Header{Name: h.Name, Value: h.Value})
	}
	if x.sink != nil {
		out.Answer = func(status int, headers []egress.Header, length int64) io.Writer {
			return x.sink.Head(status, headersOf(headers), length)
		}
	}
	return out
}

func headersOf(kept []egress.Header) []approvals.Header {
	out := make([]approvals.Header, 0, len(kept))
	for _, h := range kept {
		out = append(out, approvals.Header{Name: h.Name, Value: h.Value})
	}
	return out
}

// trust is by what an upstream is recognised, and we by it. Zero: as everybody is.
type trust struct {
	authorities  *x509.CertPool
	certificates []tls.Certificate
}

// parseTrust reads the certificates of an upstream. Its errors quote nothing of them.
func parseTrust(u policy.Upstream) (out trust, err error) {
	if !u.CA.IsZero() {
		if out.authorities, err = x509.SystemCertPool(); err != nil {
			out.authorities = x509.NewCertPool() // a system without any
		}
		if !out.authorities.AppendCertsFromPEM([]byte(u.CA.Reveal())) {
			return trust{}, fmt.Errorf("what %s holds is no certificate in PEM", u.CA.Ref())
		}
	}
	if u.Certificate.IsZero() {
		return out, nil
	}
	pair, err := tls.X509KeyPair([]byte(u.Certificate.Reveal()), []byte(u.CertificateKey.Reveal()))
	if err != nil {
		return trust{}, fmt.Errorf("what %s and %s hold is no certificate with its key in PEM", u.Certificate.Ref(), u.CertificateKey.Ref())
	}
	out.certificates = []tls.Certificate{pair}
	return out, nil
}

// trusts are the certificates of the upstreams of one configuration, each read once.
type trusts struct {
	mu     sync.Mutex
	config *policy.Config
	known  map[string]trust
}

func (k *trusts) of(config *policy.Config, u policy.Upstream) (trust, error) {
	if u.CA.IsZero() && u.Certificate.IsZero() {
		return trust{}, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.config != config {
		k.config, k.known = config, make(map[string]trust)
	}
	if t, ok := k.known[u.Name]; ok {
		return t, nil
	}
	t, err := parseTrust(u)
	if err == nil {
		k.known[u.Name] = t
	}
	return t, err
}
