package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Result is an upstream's answer.
type Result struct {
	// Status is the upstream's own.
	Status int
	// Header holds the fields that the upstream's configuration lets through.
	Header http.Header
	// Body is what the upstream sent, byte for byte, unless Truncated or Scrubbed.
	Body []byte
	// Truncated says that the body was cut at the upstream's limit.
	Truncated bool
	// Scrubbed says that the upstream's credential was in the answer and has been taken out.
	Scrubbed bool
	// Digest is SHA-256 in hex of the body as it was received, up to the limit.
	Digest string
	// Duration is how long the call took, ExecutedAt when it was made.
	Duration   time.Duration
	ExecutedAt time.Time
}

// ErrDigest means that a body is not what its digest says: something on the way changed it.
var ErrDigest = errors.New("the body does not fit its digest")

// ResultDocument is an upstream's answer as the API and callbacks write it: JSON is in Body as JSON, other text in Body
// as a string, other bytes in BodyBase64.
type ResultDocument struct {
	Status     int             `json:"status"`
	Headers    []Header        `json:"headers"`
	Body       json.RawMessage `json:"body"`
	BodyBase64 string          `json:"body_base64"`
	Truncated  bool            `json:"truncated"`
	// Size is in bytes, Digest SHA-256 in hex, both of the body as received.
	Size       int64     `json:"size"`
	Digest     string    `json:"digest"`
	DurationMS int64     `json:"duration_ms"`
	ExecutedAt time.Time `json:"executed_at"`
}

// Bytes returns the body. exact says that it is what the upstream sent, by its digest: JSON may have been written anew on
// the way.
func (d ResultDocument) Bytes() (body []byte, exact bool) {
	var text string
	isText := json.Unmarshal(d.Body, &text) == nil && len(d.Body) > 0 && d.Body[0] == '"'
	raw, err := base64.StdEncoding.DecodeString(d.BodyBase64)
	switch {
	case d.BodyBase64 != "":
		return raw, err == nil && d.fits(raw)
	case isText && !d.fits(d.Body): // text, unless the upstream sent a JSON string
		return []byte(text), d.fits([]byte(text))
	}
	return d.Body, d.fits(d.Body)
}

func (d ResultDocument) fits(body []byte) bool {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]) == d.Digest
}

// Result reads the upstream's answer of a ticket that is done, and checks it against its digest. Without an answer the
// error is ErrNoResult; before the end, a *NotDoneError.
func (c *Client) Result(ctx context.Context, id string) (Result, error) {
	r := request{method: http.MethodGet, path: ticketPath(id) + "/result", safe: true, limit: maxResult}
	res, err := c.do(ctx, r)
	if err != nil {
		return Result{}, err
	}
	if res.status == http.StatusAccepted {
		t, err := readTicket(res)
		if err != nil {
			return Result{}, r.explain(err)
		}
		return Result{}, &NotDoneError{TicketError{t}, errNotDone}
	}
	var d ResultDocument
	if err := json.Unmarshal(res.body, &d); err != nil || d.Status == 0 {
		return Result{}, r.explain(errors.New("the answer is no result"))
	}
	out := Result{
		Status: d.Status, Header: make(http.Header), Truncated: d.Truncated, Digest: d.Digest,
		Duration: time.Duration(d.DurationMS) * time.Millisecond, ExecutedAt: d.ExecutedAt,
	}
	for _, h := range d.Headers {
		out.Header.Add(h.Name, h.Value)
	}
	var exact bool
	if out.Body, exact = d.Bytes(); exact {
		return out, nil
	}
	if out.Body, err = c.raw(ctx, id); err != nil {
		return Result{}, err
	}
	out.Scrubbed = !d.fits(out.Body)
	return out, nil
}

// maxResult bounds an answer. In base64, and where JSON spells one byte in six, it is larger than the upstream's limit.
const maxResult = 256 << 20

// raw reads the body alone, byte for byte.
func (c *Client) raw(ctx context.Context, id string) ([]byte, error) {
	r := request{method: http.MethodGet, path: ticketPath(id) + "/result?raw=true", safe: true, limit: maxResult}
	res, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if !digestFits(res.header.Get("Content-Digest"), res.body) {
		return nil, r.explain(ErrDigest)
	}
	return res.body, nil
}

// digestFits checks a Content-Digest (RFC 9530). Without a sha-256 there is nothing to be checked, and it does not fit.
func digestFits(field string, body []byte) bool {
	sum := sha256.Sum256(body)
	for part := range strings.SplitSeq(field, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if got, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":")); name == "sha-256" && err == nil {
			return bytes.Equal(got, sum[:])
		}
	}
	return false
}

// response turns a result into the answer to a request.
func (r Result) response(req *http.Request, id string) *http.Response {
	header := r.Header.Clone()
	header.Set(headerTicket, id)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", r.Status, http.StatusText(r.Status)), StatusCode: r.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Request: req,
		Body: io.NopCloser(bytes.NewReader(r.Body)), ContentLength: int64(len(r.Body)),
	}
}
