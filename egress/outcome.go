package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Kind says what is known about a call.
type Kind string

const (
	// Answered means that a complete response head came back, so what the upstream decided is known. A body that broke off does
	// not change that; see Truncated.
	Answered Kind = "answered"
	// NotSent means that no byte of the request left, nor will it. The call can be made again without a second effect.
	NotSent Kind = "not_sent"
	// Unknown means that some of the request may have left and no answer came. The call may have had its effect.
	Unknown Kind = "unknown"
)

// Outcome is all that is known of a call. It contains no credential.
type Outcome struct {
	Kind Kind
	// Status, Success (see Upstream.SuccessStatus) and Headers are set if Answered.
	Status  int
	Success bool
	Headers []Header
	// Body is at most Upstream.MaxResponseBytes, exactly as received but for credentials. It is never decompressed.
	Body []byte
	// Truncated: the body is not all there; ErrorClass says why.
	Truncated bool
	// Size and Digest (as in RFC 9530, sha-256) are of the bytes received, up to the limit, before scrubbing.
	Size   int64
	Digest string
	// Scrubbed: a credential was found in Headers or Body and replaced by [redacted].
	Scrubbed bool
	// Duration is from the call of Do to its return, beforeDial included.
	Duration time.Duration
	// Stream is the answer on its way to the writer of Request.Answer. Nil: there is none.
	Stream *Stream
	// Err is for our log. It is set unless the answer is complete, and can be compared with errors.Is.
	Err error
	// ErrorClass is one of the Error constants, or empty if the answer is complete.
	ErrorClass string
}

func notSent(class string, err error) Outcome {
	return Outcome{Kind: NotSent, ErrorClass: class, Err: err}
}

// describe makes an error that is fit for a log out of one that may quote the upstream.
func describe(up Upstream, scrub scrubber, err error) error {
	reason := err.Error()
	if refusal, ok := errors.AsType[*BlockedError](err); ok {
		reason = fmt.Sprintf("%v: %v", refusal, refusal.Unwrap())
	}
	text, _ := scrub.text("call upstream " + up.Name + ": " + reason)
	return &cleanError{text: shorten(text), err: err}
}

// answered reads what came back. From here on the status is known: no error below may turn it into a doubt. It calls
// release when the answer is done with, which is the stream's to do if there is one.
func answered(ctx context.Context, up Upstream, answer answerFunc, scrub scrubber, resp *http.Response, release func()) Outcome {
	if resp.StatusCode < http.StatusOK {
		// We asked for no upgrade: the server speaks something else now, and what it did with the call is anyone's guess.
		defer release()
		return Outcome{Kind: Unknown, ErrorClass: ErrorProtocol, Err: describe(up, scrub, fmt.Errorf("status %d is not an answer", resp.StatusCode))}
	}
	success := up.SuccessStatus
	if success == nil {
		success = func(status int) bool { return status >= 200 && status <= 299 }
	}
	outcome := Outcome{Kind: Answered, Status: resp.StatusCode, Success: success(resp.StatusCode)}
	outcome.Headers, outcome.Scrubbed = keptHeaders(resp.Header, up.ResponseHeaders, scrub)
	withheld := len(scrub.needles) > 0 && encoded(resp.Header)
	if answer == nil || withheld {
		defer release()
	} else {
		outcome.startStream(ctx, answer, scrub, resp, release)
	}
	outcome.readBody(up, scrub, resp, withheld)
	return outcome
}

type answerFunc func(status int, headers []Header, length int64) io.Writer

func (o *Outcome) startStream(ctx context.Context, answer answerFunc, scrub scrubber, resp *http.Response, release func()) {
	status, headers, length := o.Status, slices.Clone(o.Headers), resp.ContentLength
	if len(scrub.needles) > 0 {
		length = -1
	}
	o.Stream = startStream(ctx, scrub, func() io.Writer { return answer(status, headers, length) }, release)
}

// read takes of the body what is recorded, and a little more: to see whether there is more, and a credential that lies
// across the cut. What is behind that is the stream's alone.
func (o *Outcome) read(body io.Reader, most int64) ([]byte, error) {
	if o.Stream == nil {
		return io.ReadAll(io.LimitReader(body, most))
	}
	received, err := io.ReadAll(io.TeeReader(io.LimitReader(body, most), o.Stream))
	if err == nil && int64(len(received)) == most {
		o.Stream.end(nil, body)
	} else {
		o.Stream.end(err, nil)
	}
	return received, err
}

func (o *Outcome) readBody(up Upstream, scrub scrubber, resp *http.Response, withheld bool) {
	limit := cmp.Or(up.MaxResponseBytes, defaultMaxResponse)
	received, err := o.read(resp.Body, limit+1+scrub.overlap())
	kept := min(int64(len(received)), limit)
	o.Size, o.Digest = kept, ContentDigest(received[:kept])
	switch {
	case int64(len(received)) > limit:
		o.cut(ErrorTooLarge, fmt.Errorf("upstream %s: body is larger than %d bytes", up.Name, limit))
	case err != nil:
		o.cut(ErrorIncomplete, describe(up, scrub, fmt.Errorf("read answer: %w", err)))
	}
	if withheld && kept > 0 {
		o.cut(ErrorEncoded, fmt.Errorf("upstream %s: body is compressed, though none was asked for, and could hide a credential", up.Name))
		return
	}
	body, changed := scrub.bytes(received, int(kept))
	if err != nil {
		var partial bool
		body, partial = scrub.tail(body)
		changed = changed || partial
	}
	if int64(len(body)) > limit { // [redacted] may be longer than what it stands for
		body = body[:limit]
		o.cut(ErrorTooLarge, fmt.Errorf("upstream %s: body is larger than %d bytes", up.Name, limit))
	}
	o.Body, o.Scrubbed = body, o.Scrubbed || changed
}

func (o *Outcome) cut(class string, err error) {
	o.Truncated, o.ErrorClass, o.Err = true, class, err
}

func encoded(header http.Header) bool {
	for _, value := range header.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}
