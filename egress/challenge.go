package egress

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	minNonce = 16
	maxNonce = 128
	// maxAllowedRate is more messages a minute than anybody means.
	maxAllowedRate = 1_000_000

	headerRequestOrigin = "WebHook-Request-Origin"
	headerRequestRate   = "WebHook-Request-Rate"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
	headerAllowedRate   = "WebHook-Allowed-Rate"
)

// ChallengeMethod says how an endpoint asked for callbacks.
type ChallengeMethod string

// The ways.
const (
	// ByChallenge: it answered the signed challenge with the nonce.
	ByChallenge ChallengeMethod = "challenge"
	// ByCloudEvents: it allowed our origin in the handshake of the CloudEvents web hook specification.
	ByCloudEvents ChallengeMethod = "cloudevents"
)

// ChallengeRequest asks an endpoint whether it wants callbacks.
type ChallengeRequest struct {
	// URL, ID, Secrets, SigningKeys, Headers, Timeout, RootCAs and ClientCertificates are as in Attempt. Timeout is of
	// each of the two questions.
	URL                string
	ID                 string
	Secrets            []Secret
	SigningKeys        []SigningKey
	Headers            []Credential
	Timeout            time.Duration
	RootCAs            *x509.CertPool
	ClientCertificates []tls.Certificate
	// Nonce is what must come back: 16 to 128 letters, digits, _ and -, and nobody's guess.
	Nonce string
	// Caller is whom it is sent to, which the event says. Empty: it does not.
	Caller string
	// Origin is our own name for the CloudEvents handshake, a host name. Empty: only the challenge is sent.
	Origin string
	// Rate is how many messages a minute the handshake asks for. Zero: it does not say.
	Rate int
}

// ChallengeResult is what an endpoint said. Its AttemptResult is that of the question that decided: the handshake if it
// was allowed there, else the challenge. Class is Delivered exactly if Verified.
type ChallengeResult struct {
	AttemptResult
	// Verified: it asked for callbacks. A status alone never says so.
	Verified bool
	// Method, if Verified.
	Method ChallengeMethod
	// AllowedRate is how many messages a minute it takes, at most a million. Zero: it did not say, or any number.
	AllowedRate int
}

// Challenge posts a signed endpoint.verification event that carries the nonce, {"type": …, "timestamp": …, "data":
// {"challenge": …}}. Consent is an answer 2xx whose body is the nonce, or a JSON object with it as its "challenge"; the
// event sent back as it came is none, for that is what an echo does. Without it the CloudEvents handshake is tried: an
// OPTIONS with our origin, answered 2xx with that origin, or *, in WebHook-Allowed-Origin.
//
// It obeys the rules of Do: same policy, no redirects, bounded in time and size.
func (d *Deliverer) Challenge(ctx context.Context, c ChallengeRequest) ChallengeResult {
	started := d.now()
	result := d.challenge(ctx, c, started)
	result.Duration = d.now().Sub(started)
	return result
}

func (d *Deliverer) challenge(ctx context.Context, c ChallengeRequest, at time.Time) ChallengeResult {
	a := Attempt{
		URL: c.URL, ID: c.ID, Number: 1, Secrets: c.Secrets, SigningKeys: c.SigningKeys, Headers: c.Headers,
		Timeout: c.Timeout, RootCAs: c.RootCAs, ClientCertificates: c.ClientCertificates,
	}
	var err error
	if a.Body, err = challengeBody(c, at); err != nil {
		return ChallengeResult{AttemptResult: AttemptResult{
			Verdict: Verdict{Class: Failed, Retry: true}, ErrorClass: ErrorInvalid, Err: failureText[ErrorInvalid], Cause: err,
		}}
	}
	posted := d.do(ctx, a, at)
	if posted.Class == Delivered && returned(posted.ResponseSnippet, c.Nonce) {
		return ChallengeResult{AttemptResult: posted, Verified: true, Method: ByChallenge}
	}
	if c.Origin != "" && posted.Status != 0 { // who gave no answer gives none to a second question
		if result, ok := d.handshake(ctx, c, a); ok {
			return result
		}
	}
	return ChallengeResult{AttemptResult: withoutConsent(posted)}
}

func challengeBody(c ChallengeRequest, at time.Time) ([]byte, error) {
	if len(c.Nonce) < minNonce || len(c.Nonce) > maxNonce || strings.Trim(c.Nonce, idCharacters) != "" {
		return nil, fmt.Errorf("challenge: nonce must be %d to %d letters, digits, _ and -", minNonce, maxNonce)
	}
	if !plainValue(c.Origin) || len(c.Origin) > maxURLBytes || c.Rate < 0 {
		return nil, errors.New("challenge: origin must be a header value, rate not negative")
	}
	type data struct {
		Challenge string `json:"challenge"`
		Caller    string `json:"caller,omitempty"`
	}
	return json.Marshal(struct {
		Type      string `json:"type"`
		Timestamp string `json:"timestamp"`
		Data      data   `json:"data"`
	}{"endpoint.verification", at.UTC().Format(time.RFC3339Nano), data{c.Nonce, c.Caller}})
}

// returned looks for the nonce in an answer. Both forms are compared, in constant time.
func returned(body []byte, nonce string) bool {
	var object struct {
		Challenge string `json:"challenge"`
	}
	_ = json.Unmarshal(body, &object) // what is not JSON leaves it empty
	plain := subtle.ConstantTimeCompare(bytes.TrimSpace(body), []byte(nonce))
	inJSON := subtle.ConstantTimeCompare([]byte(object.Challenge), []byte(nonce))
	return plain|inJSON == 1
}

func (d *Deliverer) handshake(ctx context.Context, c ChallengeRequest, a Attempt) (ChallengeResult, bool) {
	target, err := CheckURL(c.URL, d.policy)
	if err != nil {
		return ChallengeResult{}, false
	}
	result, header := d.send(ctx, a, d.now(), func() *http.Request { return d.options(target, c, a) })
	allowed := strings.TrimSpace(header.Get(headerAllowedOrigin))
	if result.Class != Delivered || (allowed != "*" && !strings.EqualFold(allowed, c.Origin)) {
		return ChallengeResult{}, false
	}
	return ChallengeResult{
		AttemptResult: result, Verified: true, Method: ByCloudEvents, AllowedRate: allowedRate(header.Get(headerAllowedRate)),
	}, true
}

// options is the validation request of the CloudEvents web hook specification. It carries the endpoint's own headers,
// for without them it may not get past a gateway, and no signature: it has nothing to sign.
func (d *Deliverer) options(target *url.URL, c ChallengeRequest, a Attempt) *http.Request {
	header := d.header(a)
	header.Set(headerRequestOrigin, c.Origin)
	if c.Rate > 0 {
		header.Set(headerRequestRate, strconv.Itoa(c.Rate))
	}
	return &http.Request{
		Method: http.MethodOptions, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// allowedRate reads messages a minute. * and nonsense are zero: no bound that we know of.
func allowedRate(value string) int {
	rate, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
	if err != nil {
		return 0
	}
	return int(min(rate, maxAllowedRate))
}

// withoutConsent is a challenge that was not met: an answer 2xx that says nothing is no consent, and so no success.
func withoutConsent(result AttemptResult) AttemptResult {
	if result.Class == Delivered {
		result.Verdict = Verdict{Class: Failed, Retry: true}
		result.ErrorClass, result.Err = ErrorConsent, failureText[ErrorConsent]
	}
	return result
}
