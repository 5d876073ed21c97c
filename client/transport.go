package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

// TransportConfig configures Client.Transport.
type TransportConfig struct {
	// Upstream is the configured name of the API that requests are for. Required.
	Upstream string
	// BaseURL is that of the upstream: what a request's URL has below it is the path of the call, and requests for
	// anything else are refused. Empty: the path is taken as it is, whatever the host.
	BaseURL string
	// Justification is for the approvers to read. A request's own Countersign-Justification header wins.
	Justification string
	// Metadata comes back with the tickets.
	Metadata map[string]string
	// MaxBody bounds a request's body in bytes, which is kept for sending it again. Zero: 1 MiB, the server's default.
	MaxBody int64
}

// Transport is an http.RoundTripper whose calls wait for their approval. See Client.Transport.
type Transport struct {
	client *Client
	config TransportConfig
	base   *url.URL
}

var _ http.RoundTripper = (*Transport)(nil)

const defaultMaxBody = 1 << 20

// Transport makes a RoundTripper for one upstream:
//
//	billing := &http.Client{Transport: transport}
//	res, err := billing.Do(req) // returns when the call was approved and made
//
// The request goes to the front, /proxy/{upstream}/…; where it needs approval the ticket is waited for until it is done,
// or the request's context ends, and the answer is then the upstream's: status, headers and body. A call that was never
// answered is an error: *DeniedError, *ExpiredError, *CancelledError, *FailedError, *OutcomeUnknownError, or
// *NotDoneError when the context ended first. All unwrap to *TicketError, which has the ticket. A refusal of Countersign
// is a *ProblemError. An http.Client's own Timeout ends the wait as well: leave it zero, or long enough for people.
//
// Every request is sent under an Idempotency-Key, its own or one made for it, without which nothing is ever sent twice.
// An Authorization header of the request is left out: credentials for the upstream are Countersign's to add.
func (c *Client) Transport(config TransportConfig) (*Transport, error) {
	if config.Upstream == "" {
		return nil, errors.New("client: TransportConfig.Upstream is missing")
	}
	if config.MaxBody <= 0 {
		config.MaxBody = defaultMaxBody
	}
	t := &Transport{client: c, config: config}
	if config.BaseURL != "" {
		base, err := baseURL(config.BaseURL, true)
		if err != nil {
			return nil, errors.New("client: TransportConfig.BaseURL must be such as https://billing.internal/v1")
		}
		t.base, _ = url.Parse(base) // it has just been parsed
	}
	return t, nil
}

// RoundTrip makes one call and waits for its answer.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	r, err := t.front(req)
	if err != nil {
		return nil, err
	}
	res, err := t.exchange(req.Context(), r)
	if err != nil {
		return nil, err
	}
	if res.Header.Get(headerState) != "" { // it is about the ticket: not done yet, or ended without an answer
		_ = res.Body.Close()
		return t.await(req, res.Header.Get(headerTicket))
	}
	t.relocate(res)
	res.Request = req
	return res, nil
}

// relocate turns the place that the front redirects to, which is one at the front, back into that of the upstream.
func (t *Transport) relocate(res *http.Response) {
	rest, at := strings.CutPrefix(res.Header.Get("Location"), t.prefix())
	if !redirect(res) || !at || !strings.HasPrefix(rest, "/") {
		return
	}
	if t.base != nil {
		rest = t.base.EscapedPath() + rest
	}
	res.Header.Set("Location", rest)
}

// prefix is what paths of the upstream are below at the front.
func (t *Transport) prefix() string { return "/proxy/" + url.PathEscape(t.config.Upstream) }

// await waits for the end of a ticket and returns the answer that is stored for it.
func (t *Transport) await(req *http.Request, id string) (*http.Response, error) {
	ticket, err := t.client.Wait(req.Context(), id)
	if err != nil {
		return nil, err
	}
	if ticket.State != Succeeded && ticket.State != Failed {
		return nil, ticket.Err()
	}
	result, err := t.client.Result(req.Context(), id)
	switch {
	case errors.Is(err, ErrNoResult) && ticket.State == Failed:
		return nil, ticket.Err()
	case errors.Is(err, ErrNoResult):
		return nil, &NoAnswerError{TicketError{ticket}}
	case err != nil:
		return nil, fmt.Errorf("ticket %s is %s: %w", id, ticket.State, err)
	case result.Truncated && req.Method != http.MethodHead:
		return nil, &TruncatedError{TicketError{ticket}}
	}
	return result.response(req, id), nil
}

// front writes the request anew, for the front.
func (t *Transport) front(req *http.Request) (request, error) {
	path, err := t.path(req.URL)
	if err != nil {
		_ = closeBody(req)
		return request{}, err
	}
	body, err := t.body(req)
	if err != nil {
		return request{}, err
	}
	header := req.Header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	for _, name := range []string{"Authorization", "User-Agent", "Connection", "Te", "Upgrade"} {
		header.Del(name)
	}
	if header.Get("Idempotency-Key") == "" {
		header.Set("Idempotency-Key", rand.Text())
	}
	if t.config.Justification != "" && header.Get("Countersign-Justification") == "" {
		header.Set("Countersign-Justification", escapeHeader(t.config.Justification))
	}
	if len(t.config.Metadata) > 0 && header.Get("Countersign-Metadata") == "" {
		raw, err := json.Marshal(t.config.Metadata)
		if err != nil {
			return request{}, fmt.Errorf("write the metadata as JSON: %w", err)
		}
		header.Set("Countersign-Metadata", escapeJSON(raw))
	}
	header.Add("Prefer", "wait="+strconv.Itoa(int(t.client.poll/time.Second)))
	return request{method: req.Method, path: path, header: header, body: body, safe: true, wait: t.client.poll}, nil
}

// path is the address at the front: the request's path as it is escaped, never tidied.
func (t *Transport) path(u *url.URL) (string, error) {
	path := u.EscapedPath()
	if t.base != nil {
		rest, below := strings.CutPrefix(path, t.base.EscapedPath())
		if !strings.EqualFold(u.Scheme, t.base.Scheme) || !strings.EqualFold(u.Host, t.base.Host) || !below || (rest != "" && rest[0] != '/') {
			return "", fmt.Errorf("client: the request for %s is not below the base URL of upstream %s", u.Host, t.config.Upstream)
		}
		path = rest
	}
	if path == "" {
		path = "/"
	}
	path = t.prefix() + path
	if u.RawQuery != "" || u.ForceQuery {
		path += "?" + u.RawQuery
	}
	return path, nil
}

// body keeps the request's body, so that it can be sent again.
func (t *Transport) body(req *http.Request) ([]byte, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, t.config.MaxBody+1))
	err = errors.Join(err, closeBody(req))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the request's body: %w", err)
	case int64(len(body)) > t.config.MaxBody:
		return nil, fmt.Errorf("client: the request's body is larger than %d bytes", t.config.MaxBody)
	}
	return body, nil
}

func closeBody(req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	return req.Body.Close()
}

// headerTicket is on every answer that belongs to a ticket, and headerState besides on those that are Countersign's own
// words about it and not the upstream's. Neither ever comes from an upstream.
const (
	headerTicket = "Countersign-Ticket"
	headerState  = "Countersign-State"
)

// maxProblem is how much of a refusal is read, in bytes.
const maxProblem = 256 << 10

// longestCall bounds the wait for the head of an answer, besides the wait for people: upstreams have deadlines of
// their own, which are shorter.
const longestCall = 10 * time.Minute

// exchange sends a request, again if need be, and returns an answer that belongs to a ticket, its body unread.
func (t *Transport) exchange(ctx context.Context, r request) (*http.Response, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		res, err := t.head(ctx, r)
		if err == nil && res.Header.Get(headerTicket) != "" {
			return res, nil
		}
		if err == nil {
			err = refusal(res, t.client.now())
		}
		err = r.explain(err)
		if attempt >= t.client.attempts || ctx.Err() != nil || errors.Is(err, errNoFront) || !r.again(err) {
			return nil, err
		}
		if !sleep(ctx, max(jitter(pause), asked(err))) {
			return nil, err
		}
		pause = min(2*pause, longestPause)
	}
}

var errNoFront = errors.New("the answer does not come from Countersign: is the address right?")

// refusal reads an answer that belongs to no ticket.
func refusal(res *http.Response, now time.Time) error {
	defer func() { _ = res.Body.Close() }() // it was read as far as it is wanted
	if res.StatusCode < http.StatusBadRequest {
		return errNoFront
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what there is of it
	return problemOf(res.StatusCode, res.Header, body, now)
}

// head sends a request once. The deadline for the answer's head does not cut its body.
func (t *Transport) head(ctx context.Context, r request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(r.wait+longestCall, cancel)
	res, err := t.client.send(ctx, r)
	late.Stop()
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = &closing{res.Body, cancel}
	return res, nil
}

// closing gives the request's resources back with the body.
type closing struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close closes the body.
func (c *closing) Close() error {
	defer c.cancel()
	return c.ReadCloser.Close()
}

// escapeJSON spells what is not ASCII as JSON can, since header fields are ASCII.
func escapeJSON(raw []byte) string {
	var b strings.Builder
	for _, r := range string(raw) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.String()
}

// escapeHeader spells a text as a header field can carry it: what is not printable ASCII, and the percent sign, in
// percent escapes of its UTF-8.
func escapeHeader(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
