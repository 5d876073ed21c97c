package policy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	defaultConcurrency    = 4
	maxConcurrency        = 100
	defaultAttempt        = 15 * time.Second
	maxAttempt            = 30 * time.Second
	defaultDisable        = 5 * day
	maxSchedule           = 20
	maxRetry              = day
	maxCallbackSecrets    = 10
	verificationWaived    = "waived"
	verificationRequired  = "required"
	signatureWithEd25519  = "ed25519"
	signatureWithHMACOnly = "hmac"
)

// ownCallbackHeaders say what a callback is, so that an endpoint's cannot. Those that end in
// "-" are beginnings.
var ownCallbackHeaders = []string{"content-", "countersign-", "proxy-", "signature", "traceparent", "tracestate", "user-agent", "webhook-"}

type endpointDraft struct {
	Endpoint
	at      pos
	origin  word
	verify  word
	ed25519 pos // zero when it is not asked for
	// required is set when it says so itself, whatever holds for the others.
	required bool
}

// callbacks decodes where a caller is told, and how.
func (d *decoder) callbacks(c *callerDraft) field {
	return func(n ast.Node) {
		var one Secret
		var verification word
		d.object(n, "callbacks", fields{
			"origins":      d.list("origins", d.endpoint(c)),
			"secret":       d.secret(&one, signingKey),
			"secrets":      d.callbackSecrets(c),
			"verification": d.choice(&verification, verificationRequired, verificationWaived),
			"alert":        d.channel(&c.alert),
		}, "origins")
		for i := range c.endpoints {
			e := &c.endpoints[i]
			e.Waived = e.Waived || verification.text == verificationWaived && !e.required
		}
		m, ok := n.(*ast.MappingNode)
		switch {
		case !ok:
		case hasField(m, "secret") && hasField(m, "secrets"):
			d.problem(d.at(n), "keep secrets, newest first", "callbacks has both secret and secrets")
		case !hasField(m, "secret") && !hasField(m, "secrets"):
			d.problem(d.at(n), "", `callbacks needs the field "secret" or "secrets"`)
		case !one.IsZero():
			c.secrets = []CallbackSecret{{Secret: one}}
		}
	}
}

// endpoint decodes an origin, by itself or with what is particular to it.
func (d *decoder) endpoint(c *callerDraft) field {
	return func(n ast.Node) {
		e := endpointDraft{at: d.at(n)}
		e.Concurrency, e.Timeout, e.DisableAfter = defaultConcurrency, defaultAttempt, defaultDisable
		if _, plain := n.(*ast.MappingNode); plain {
			d.endpointFields(&e, n)
		} else {
			d.label = "origins"
			d.word(&e.origin)(n)
		}
		if e.origin.text == "" {
			return
		}
		if slices.ContainsFunc(c.endpoints, func(before endpointDraft) bool { return before.origin.text == e.origin.text }) {
			d.problem(e.origin.at, "", "origins has %q twice", shorten(e.origin.text))
			return
		}
		c.endpoints = append(c.endpoints, e)
	}
}

func (d *decoder) endpointFields(e *endpointDraft, n ast.Node) {
	var verification, payload, signature word
	d.object(n, "an origin", fields{
		"origin":        d.word(&e.origin),
		"verify":        d.word(&e.verify),
		"verification":  d.choice(&verification, verificationRequired, verificationWaived),
		"payload":       d.choice(&payload, "auto", "full", "thin"),
		"signature":     d.choice(&signature, signatureWithHMACOnly, signatureWithEd25519),
		"schedule":      d.schedule(&e.Schedule),
		"concurrency":   d.number(&e.Concurrency, new(pos), 1, maxConcurrency),
		"rate":          d.rate(&e.Rate),
		"timeout":       d.duration(&e.Timeout, time.Second, maxAttempt),
		"headers":       d.credentials("headers", &e.Headers, callbackHeader),
		"ca":            d.secret(&e.CA, authorities),
		"certificate":   d.certificate(&e.Certificate, &e.CertificateKey),
		"disable_after": d.duration(&e.DisableAfter, time.Hour, 30*day),
	}, "origin")
	e.Waived, e.required = verification.text == verificationWaived, verification.text == verificationRequired
	if payload.text != "auto" {
		e.Payload = payload.text
	}
	if e.Ed25519 = signature.text == signatureWithEd25519; e.Ed25519 {
		e.ed25519 = signature.at
	}
	if e.verify.text != "" {
		e.Verify = d.verifyPath(e.verify)
	}
}

// verifyPath checks a path of an address. It is joined to the origin as it is.
func (d *decoder) verifyPath(w word) string {
	if _, plain := segments(w.text); !strings.HasPrefix(w.text, "/") || strings.ContainsAny(w.text, "?# \\") || !plain {
		d.problem(w.at, "write /countersign/verify", "verify is a path that begins with a slash and can be read in one way, without a query")
		return ""
	}
	return w.text
}

// schedule decodes the waits before each attempt.
func (d *decoder) schedule(dst *[]time.Duration) field {
	return d.capped("schedule", maxSchedule, func(n ast.Node) {
		d.label = "schedule"
		wait := time.Duration(-1)
		if d.duration(&wait, 0, maxRetry)(n); wait >= 0 {
			*dst = append(*dst, wait)
		}
	})
}

// callbackHeader says of a header field, in lower case, whether it may be set on callbacks.
func callbackHeader(lower string) error {
	if slices.ContainsFunc(ownCallbackHeaders, func(own string) bool { return strings.HasPrefix(lower, own) }) {
		return errors.New("says what the callback is and cannot be set")
	}
	return nil
}

// callbackSecrets decodes one to ten secrets, each with its end, if it has one. One must
// have none: a file that loads today must not fall silent one day.
func (d *decoder) callbackSecrets(c *callerDraft) field {
	return func(n ast.Node) {
		lasting, before := false, len(d.problems)
		d.capped("secrets", maxCallbackSecrets, func(item ast.Node) {
			var s CallbackSecret
			var until word
			if _, ok := item.(*ast.MappingNode); ok {
				d.object(item, "a secret", fields{"secret": d.secret(&s.Secret, signingKey), "until": d.word(&until)}, "secret")
			} else {
				d.secret(&s.Secret, signingKey)(item)
			}
			if until.text != "" {
				s.Until = d.instant(until)
			}
			lasting = lasting || until.text == ""
			if slices.ContainsFunc(c.secrets, func(b CallbackSecret) bool { return b.ref == s.ref }) && !s.IsZero() {
				d.problem(d.at(item), "", "secrets has %s twice", s.ref)
			}
			if !s.IsZero() {
				c.secrets = append(c.secrets, s)
			}
		})(n)
		if !lasting && len(d.problems) == before {
			d.problem(d.at(n), "", "every secret has an end: one day nothing could be signed")
		}
	}
}

// certificate decodes what we show, and the key to it.
func (d *decoder) certificate(certificate, key *Secret) field {
	return func(n ast.Node) {
		before := len(d.problems)
		d.object(n, "certificate", fields{
			"certificate": d.secret(certificate, authorities),
			"key":         d.secret(key, nil),
		}, "certificate", "key")
		if len(d.problems) > before || d.blind {
			return
		}
		if _, err := tls.X509KeyPair([]byte(certificate.Reveal()), []byte(key.Reveal())); err != nil {
			d.problem(d.at(n), "", "what %s and %s hold is no certificate with its key", certificate.ref, key.ref)
		}
	}
}

// authorities accepts one or more certificates in PEM.
func authorities(value string) error {
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(value)) {
		return errors.New("is no certificate in PEM")
	}
	return nil
}

// checkEndpoints judges the origins of a caller once it is known where callbacks may go.
func (d *decoder) checkEndpoints(c *callerDraft) {
	seen := make(map[string]bool)
	for i := range c.endpoints {
		e := &c.endpoints[i]
		o, ok := d.origin(e.origin)
		if ok && seen[o] {
			d.problem(e.origin.at, "", "the origin %s is listed twice", o)
		}
		seen[o], e.Origin = true, o
		if e.ed25519.src != nil && len(d.draft.signing.Keys) == 0 && !d.sections["signing"] {
			d.problem(e.ed25519, "set signing.keys", "there is no key to make this signature with")
		}
	}
}
