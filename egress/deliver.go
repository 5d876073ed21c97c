package egress

import (
	"bytes"
	"cmp"
	"context"
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
	// Traceparent of the W3C. Empty: none.
	Traceparent string
}

// AttemptResult is what became of an attempt.
type AttemptResult struct {
	Verdict
	// Status is zero if no answer came.
	Status int
	// Err is a constant sentence for callers: it names no address, and nothing of what was said. Empty if Delivered.
	Err string
	// ErrorClass is one of the Error constants. Empty if Delivered.
	ErrorClass string
	// Cause is for our log only.
	Cause error
	// Address that was connected to, for our log only. Empty: none.
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
	// Timeout of one attempt, head and body of the answer included. Zero: 15 s.
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
	return &Deliverer{
		policy:    config.Policy,
		transport: NewTransport(config.Policy),
		userAgent: userAgent,
		timeout:   cmp.Or(config.Timeout, deliverTimeout),
		now:       config.Now,
	}, nil
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
	signature := Sign(a.Secrets, a.ID, at, a.Body)
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	for try := 1; ; try++ {
		result := d.try(ctx, d.request(target, a, at, signature))
		result.Tries = try
		if try == 2 || !worthAnotherTry(result) || d.now().Sub(at) >= quickFailure {
			return result
		}
	}
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
	case Sign(a.Secrets, a.ID, time.Time{}, nil) == "":
		return fmt.Errorf("attempt: %w", ErrNoSecret)
	}
	return nil
}

const idCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func (d *Deliverer) request(target *url.URL, a Attempt, at time.Time, signature string) *http.Request {
	header := make(http.Header)
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", d.userAgent)
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

func (d *Deliverer) try(ctx context.Context, req *http.Request) AttemptResult {
	watch := newStopwatch(d.now)
	ctx = httptrace.WithClientTrace(ctx, watch.trace())
	resp, err := d.transport.RoundTrip(req.WithContext(ctx)) // not a Client: it would follow redirects
	result := AttemptResult{}
	result.Timing, result.Address, err = watch.read(err)
	if err != nil {
		return d.finish(result, nil, withCause(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	result.Status = resp.StatusCode
	if resp.StatusCode >= http.StatusOK { // the body of a 101 is the connection, and outlives every deadline
		result.ResponseSnippet = snippet(resp.Body)
	}
	return d.finish(result, resp.Header, nil)
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
		result.ErrorClass, result.Cause = failureClass(err), shortened(err)
	case result.Class != Delivered:
		result.ErrorClass = ErrorStatus
	}
	if result.ErrorClass != "" {
		result.Err = failureText[result.ErrorClass]
	}
	return result
}

// failureText is all that a caller is told: fixed sentences, so that an attempt is of no use for looking around in our
// network.
var failureText = map[string]string{
	ErrorInvalid:  "the callback could not be prepared",
	ErrorBlocked:  ErrBlocked.Error(),
	ErrorDNS:      "the name could not be resolved",
	ErrorConnect:  "no connection could be made",
	ErrorTLS:      "no secure connection could be made",
	ErrorTimeout:  "no answer in time",
	ErrorCanceled: "the attempt was interrupted",
	ErrorReset:    "the connection ended before an answer",
	ErrorProtocol: "the answer was not valid HTTP",
	ErrorStatus:   "the receiver did not answer 2xx",
}
