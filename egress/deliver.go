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
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxCallbackBody = 256 << 10
	maxSnippet      = 4 << 10
	maxDrained      = 64 << 10
	maxMessageID    = 128
	// quickFailure: a connection that fails sooner is tried once more at once. A kept connection that the receiver has
	// closed meanwhile is the usual reason.
	quickFailure = time.Second
)

// Trigger says why an attempt is made.
type Trigger string

// The triggers.
const (
	Auto   Trigger = "auto"
	Manual Trigger = "manual"
)

// Attempt is one try to deliver a callback.
type Attempt struct {
	// URL as the caller gave it; it is checked again here.
	URL string
	// ID is the same for all attempts of a delivery. Letters, digits, _ and -, at most 128.
	ID string
	// Body is sent and signed as it is, at most 256 KiB.
	Body []byte
	// Number counts from 1.
	Number int
	// Trigger. Empty: Auto.
	Trigger Trigger
	// Secrets that sign, newest first. At least one is required: nothing is sent unsigned.
	Secrets []Secret
	// SigningKeys sign besides, by v1a, newest first. Nil: none.
	SigningKeys []SigningKey
	// Headers are the endpoint's own, such as an Authorization; see CheckCallbackHeader. What an answer repeats of their
	// values is taken out of ResponseSnippet. Nil: none.
	Headers []Credential
	// Timeout of the attempt, at most 60 s. Zero: the deliverer's.
	Timeout time.Duration
	// RootCAs replaces the policy's certificate authorities, ClientCertificates the policy's certificates. With either the
	// attempt has a connection of its own. Nil: the policy's.
	RootCAs            *x509.CertPool
	ClientCertificates []tls.Certificate
	// Traceparent of the W3C. Empty: none.
	Traceparent string
}

// AttemptResult is what became of an attempt.
type AttemptResult struct {
	Verdict
	// Ours: our own forward proxy failed, and the receiver was not asked. It must not be charged for that.
	Ours bool
	// Status is zero if no answer came.
	Status int
	// Err is a constant sentence for callers: it names no address, and nothing of what was said. Empty if Delivered.
	Err string
	// ErrorClass is one of the Error constants. Empty if Delivered.
	ErrorClass string
	// Cause is for our log only.
	Cause error
	// Address that was connected to, the proxy's if there is one, for our log only. Empty: none.
	Address string
	// ResponseSnippet is the beginning of the answer's body, at most 4 KiB.
	ResponseSnippet []byte
	// Tries is 2 if a connection that failed at once was tried again, else 1; 0 if nothing was dialled.
	Tries int
	// Duration of the whole attempt.
	Duration time.Duration
	// Timing of the last try.
	Timing Timing
}

// DelivererConfig configures NewDeliverer.
type DelivererConfig struct {
	// Policy for destinations that callers chose.
	Policy Policy
	// Version is the product's, for User-Agent. Empty: dev.
	Version string
	// DocumentationURL is added to User-Agent. Empty: left out.
	DocumentationURL string
	// Timeout of one attempt, head and body of the answer included, at most 60 s. Zero: 15 s.
	Timeout time.Duration
	// Now is required: it stamps signatures and measures.
	Now func() time.Time
}

// Deliverer makes callback attempts. It is safe for concurrent use.
type Deliverer struct {
	policy    Policy
	transport *http.Transport
	userAgent string
	timeout   time.Duration
	now       func() time.Time
}

// NewDeliverer returns a Deliverer, or an error that names the missing field.
func NewDeliverer(config DelivererConfig) (*Deliverer, error) {
	if config.Now == nil {
		return nil, errors.New("deliverer config: Now is required")
	}
	userAgent := productName + cmp.Or(config.Version, defaultVersion)
	if config.DocumentationURL != "" {
		userAgent += " (+" + config.DocumentationURL + ")"
	}
	if config.Timeout < 0 || !plainValue(userAgent) {
		return nil, errors.New("deliverer config: Timeout must not be negative, Version and DocumentationURL must be printable ASCII")
	}
	if err := checkProxy(config.Policy.Proxy, config.Policy.ProxyAuthorization); err != nil {
		return nil, fmt.Errorf("deliverer config: %w", err)
	}
	return &Deliverer{
		policy:    config.Policy,
		transport: deliverTransport(config.Policy),
		userAgent: userAgent,
		timeout:   min(cmp.Or(config.Timeout, deliverTimeout), maxDeliverTimeout),
		now:       config.Now,
	}, nil
}

// deliverTransport leaves it to the deadline of each attempt how long a head may take.
func deliverTransport(policy Policy) *http.Transport {
	transport := NewTransport(policy)
	transport.ResponseHeaderTimeout = maxDeliverTimeout
	return transport
}

// Close drops idle connections.
func (d *Deliverer) Close() { d.transport.CloseIdleConnections() }

// Do makes the attempt. A redirect is a failed attempt and is not followed. The receiver may get the message twice (see
// AttemptResult.Tries); its id is the same.
func (d *Deliverer) Do(ctx context.Context, a Attempt) AttemptResult {
	started := d.now()
	result := d.do(ctx, a, started)
	result.Duration = d.now().Sub(started)
	return result
}

func (d *Deliverer) do(ctx context.Context, a Attempt, at time.Time) AttemptResult {
	if err := checkAttempt(a); err != nil {
		return AttemptResult{Verdict: Verdict{Class: Failed, Retry: true}, ErrorClass: ErrorInvalid, Err: failureText[ErrorInvalid], Cause: err}
	}
	target, err := CheckURL(a.URL, d.policy)
	if err != nil {
		return d.finish(AttemptResult{}, nil, &BlockedError{cause: err})
	}
	signature := strings.TrimSpace(Sign(a.Secrets, a.ID, at, a.Body) + " " + SignEd25519(a.SigningKeys, a.ID, at, a.Body))
	result, _ := d.send(ctx, a, at, func() *http.Request { return d.request(target, a, at, signature) })
	return result
}

// send makes one exchange, or two if the first failed at once, in the time and with the certificates of the attempt. It
// also returns the headers of the answer, if one came.
func (d *Deliverer) send(ctx context.Context, a Attempt, at time.Time, build func() *http.Request) (AttemptResult, http.Header) {
	transport := d.transport
	if a.RootCAs != nil || a.ClientCertificates != nil {
		transport = d.ownTransport(a)
		defer transport.CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(ctx, min(cmp.Or(a.Timeout, d.timeout), maxDeliverTimeout))
	defer cancel()
	scrub := newScrubber(a.Headers)
	for try := 1; ; try++ {
		req := build()
		// What a receiver says unasked on a kept connection, net/http prints; it could be what it was sent.
		req.Close = len(a.Headers) > 0
		result, header := d.try(ctx, transport, req)
		result.Tries = try
		if try == 2 || !worthAnotherTry(result) || d.now().Sub(at) >= quickFailure {
			result.ResponseSnippet, _ = scrub.bytes(result.ResponseSnippet, maxSnippet)
			result.ResponseSnippet, _ = scrub.tail(result.ResponseSnippet)
			result.Cause = scrub.cause(result.Cause)
			return result, header
		}
	}
}

// ownTransport keeps no connection: whoever presents a certificate of its own must not be found on another's.
func (d *Deliverer) ownTransport(a Attempt) *http.Transport {
	policy := d.policy
	if a.RootCAs != nil {
		policy.RootCAs = a.RootCAs
	}
	if a.ClientCertificates != nil {
		policy.ClientCertificates = a.ClientCertificates
	}
	transport := deliverTransport(policy)
	transport.DisableKeepAlives = true
	return transport
}

func worthAnotherTry(result AttemptResult) bool {
	return result.Status == 0 && (result.ErrorClass == ErrorConnect || result.ErrorClass == ErrorReset)
}

func checkAttempt(a Attempt) error {
	switch {
	case a.ID == "" || len(a.ID) > maxMessageID || strings.Trim(a.ID, idCharacters) != "":
		return errors.New("attempt: id must be letters, digits, _ and -")
	case len(a.Body) > maxCallbackBody:
		return fmt.Errorf("attempt: body is larger than %d bytes", maxCallbackBody)
	case a.Number < 1:
		return errors.New("attempt: number counts from 1")
	case a.Trigger != "" && a.Trigger != Auto && a.Trigger != Manual:
		return errors.New("attempt: unknown trigger")
	case !plainValue(a.Traceparent):
		return errors.New("attempt: traceparent is not a header value")
	case a.Timeout < 0:
		return errors.New("attempt: timeout must not be negative")
	case Sign(a.Secrets, a.ID, time.Time{}, nil) == "":
		return fmt.Errorf("attempt: %w", ErrNoSecret)
	}
	for _, h := range a.Headers {
		if err := checkCallbackCredential(h); err != nil {
			return fmt.Errorf("attempt: %w", err)
		}
	}
	return nil
}

const idCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func (d *Deliverer) request(target *url.URL, a Attempt, at time.Time, signature string) *http.Request {
	header := d.header(a)
	header.Set("Content-Type", "application/json")
	header.Set(HeaderID, a.ID)
	header.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	header.Set(HeaderSignature, signature)
	header.Set(HeaderContentDigest, ContentDigest(a.Body))
	header.Set("Countersign-Attempt", strconv.Itoa(a.Number))
	header.Set("Countersign-Trigger", string(cmp.Or(a.Trigger, Auto)))
	if a.Traceparent != "" {
		header.Set("Traceparent", a.Traceparent)
	}
	return &http.Request{
		Method: http.MethodPost, URL: target, Host: target.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: newBody(a.Body), ContentLength: int64(len(a.Body)),
	}
}

// header has what goes to an endpoint whatever is sent: the endpoint's own headers, and who we are.
func (d *Deliverer) header(a Attempt) http.Header {
	header := make(http.Header)
	for _, h := range a.Headers {
		header.Set(h.Name, h.Value.reveal())
	}
	header.Set("User-Agent", d.userAgent)
	return header
}

func (d *Deliverer) try(ctx context.Context, transport *http.Transport, req *http.Request) (AttemptResult, http.Header) {
	var tunnel tunnelWatch
	ctx = tunnel.attach(ctx)
	watch := newStopwatch(d.now)
	ctx = httptrace.WithClientTrace(ctx, watch.trace())
	resp, err := transport.RoundTrip(req.WithContext(ctx)) // not a Client: it would follow redirects
	result := AttemptResult{}
	result.Timing, result.Address, err = watch.read(err)
	if err != nil {
		return d.finish(result, nil, tunnel.blame(withCause(ctx, err))), nil
	}
	defer func() { _ = resp.Body.Close() }()
	result.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusOK { // the body of a 101 is the connection, and outlives every deadline
		result.ResponseSnippet = snippet(resp.Body)
	}
	return d.finish(result, resp.Header, nil), resp.Header
}

// snippet reads on a little behind what it keeps, so that an ordinary answer leaves its connection fit for the next
// delivery. What goes wrong here is of no interest: the status is known.
func snippet(body io.Reader) []byte {
	var kept bytes.Buffer
	_, _ = io.CopyN(&kept, body, maxSnippet)
	_, _ = io.CopyN(io.Discard, body, maxDrained-maxSnippet)
	return kept.Bytes()
}

func (d *Deliverer) finish(result AttemptResult, header http.Header, err error) AttemptResult {
	result.Verdict = Classify(result.Status, header, err, d.now())
	switch {
	case err != nil:
		result.ErrorClass, result.Cause = failureClass(err), err
		result.Ours = result.ErrorClass == ErrorProxy
	case result.Class != Delivered:
		result.ErrorClass = ErrorStatus
	}
	if result.ErrorClass != "" {
		result.Err = result.why()
	}
	return result
}

// why is what a caller is told of a failure: the fixed sentence of its class, or of what the answer asked for.
func (r AttemptResult) why() string {
	switch {
	case r.Status == http.StatusGone:
		return "the receiver answered 410 Gone: nothing more is sent there"
	case r.Class == Gone:
		return "the receiver asked that nothing more be sent there"
	case r.Class == Aborted:
		return "the receiver asked not to be sent this message again"
	case r.Status >= 300 && r.Status <= 399:
		return "the receiver answered with a redirect, which is not followed"
	}
	return failureText[r.ErrorClass]
}

// failureText is what a caller is told of a class: fixed sentences, so that an attempt is of no use for looking around
// in our network.
var failureText = map[string]string{
	ErrorInvalid:  "the callback could not be prepared",
	ErrorBlocked:  ErrBlocked.Error(),
	ErrorProxy:    "the callback could not be sent from our side",
	ErrorDNS:      "the name could not be resolved",
	ErrorConnect:  "no connection could be made",
	ErrorTLS:      "no secure connection could be made",
	ErrorTimeout:  "no answer in time",
	ErrorCanceled: "the attempt was interrupted",
	ErrorReset:    "the connection ended before an answer",
	ErrorProtocol: "the answer was not valid HTTP",
	ErrorStatus:   "the receiver did not answer 2xx",
	ErrorConsent:  "the receiver did not ask for callbacks",
}
