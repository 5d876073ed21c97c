package jobs

import (
	"context"
	"fmt"

	"countersign/egress"
	"countersign/policy"
)

// unusableError is what keeps anything from being sent to an endpoint, in constant words.
type unusableError struct{ why string }

func (e *unusableError) Error() string { return e.why }

// prepare is an attempt at an endpoint, but for what is sent: who signs, what it is shown and
// how it is recognised. The error is an unusableError where trying again is of no use.
func (r *Runner) prepare(ctx context.Context, config *policy.Config, caller policy.Caller, e policy.Endpoint) (egress.Attempt, error) {
	a := egress.Attempt{Timeout: e.Timeout}
	for _, s := range caller.LiveSecrets(r.c.Now()) {
		secret, err := egress.ParseSecret(s.Reveal())
		if err != nil {
			return a, &unusableError{"the caller's callback secret is not usable"}
		}
		a.Secrets = append(a.Secrets, secret)
	}
	if len(a.Secrets) == 0 {
		return a, &unusableError{"the caller has no callback secret any more"}
	}
	if e.Ed25519 {
		for _, k := range config.Signing.Keys {
			key, err := egress.ParseSigningKey(k.Reveal())
			if err != nil {
				return a, &unusableError{"a signing key is not usable"}
			}
			a.SigningKeys = append(a.SigningKeys, key)
		}
	}
	keys, err := parseTrust(policy.Upstream{CA: e.CA, Certificate: e.Certificate, CertificateKey: e.CertificateKey})
	if err != nil {
		return a, &unusableError{"the endpoint's certificates are not usable"}
	}
	a.RootCAs, a.ClientCertificates = keys.authorities, keys.certificates
	a.Headers, err = r.headersFor(ctx, e)
	return a, err
}

// headersFor are the endpoint's own header fields. A program that does not print one now may
// do so later.
func (r *Runner) headersFor(ctx context.Context, e policy.Endpoint) (out []egress.Credential, err error) {
	for _, c := range e.Headers {
		value := egress.NewSecret(c.Prefix + c.Value.Reveal())
		if program, ok := programOf(c); ok {
			if value, err = r.credentials.Read(ctx, program); err != nil {
				return nil, fmt.Errorf("read header %s of endpoint %s: %w", c.Header, e.Origin, err)
			}
		}
		out = append(out, egress.Credential{Name: c.Header, Value: value})
	}
	return out, nil
}
