package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// exchangeLimit bounds one request that does not wait.
	exchangeLimit = 30 * time.Second
	firstPause    = 200 * time.Millisecond
	longestPause  = 15 * time.Second
	// longestRetryAfter is how long a server may send a request away for.
	longestRetryAfter = 2 * time.Minute
	maxDocument       = 8 << 20
)

// request is one exchange with the API.
type request struct {
	method, path string
	header       http.Header
	body         []byte
	// wait is how long the server may hold the answer.
	wait time.Duration
	// safe says that making the request again can do no harm.
	safe bool
	// limit bounds the answer's body in bytes. Zero: 8 MiB.
	limit int64
}

// response is an answer read to its end.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do makes a request, again if need be, and returns an answer below 400. Anything else is an error: a *ProblemError when
// there was an answer.
func (c *Client) do(ctx context.Context, r request) (response, error) {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		res, err := c.once(ctx, r)
		if err == nil && res.status < http.StatusBadRequest {
			return res, nil
		}
		if err == nil {
			err = problemOf(res.status, res.header, res.body, c.now())
		}
		err = r.explain(err)
		if attempt >= c.attempts || ctx.Err() != nil || !r.again(err) {
			return response{}, err
		}
		if !sleep(ctx, max(jitter(pause), asked(err))) {
			return response{}, err
		}
		pause = min(2*pause, longestPause)
	}
}

// explain says what was tried, without the query: that may hold what is nobody's business.
func (r request) explain(err error) error {
	path, _, _ := strings.Cut(r.path, "?")
	return fmt.Errorf("%s %s: %w", r.method, path, err)
}

// again says whether a failed request may be made again. Whatever was refused for now, before anything was done, may.
func (r request) again(err error) bool {
	var p *ProblemError
	if !errors.As(err, &p) {
		return r.safe
	}
	switch {
	case p.RetryAfter > longestRetryAfter:
		return false
	case p.Status == http.StatusTooManyRequests || p.Code == ErrIdempotencyInProgress || p.Code == ErrNotReady:
		return true
	}
	return r.safe && p.Status >= http.StatusInternalServerError && p.Status != http.StatusNotImplemented
}

// asked is when the server wants to see us again.
func asked(err error) time.Duration {
	var p *ProblemError
	if errors.As(err, &p) {
		return p.RetryAfter
	}
	return 0
}

// jitter spreads a pause, so that clients that were turned away together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d) //nolint:gosec // no secret hangs on it
}

// sleep is false when the context ends first, or would: there is no use in waiting for that.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// once makes a request once.
func (c *Client) once(ctx context.Context, r request) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeLimit+r.wait)
	defer cancel()
	res, err := c.send(ctx, r)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it is wanted
	limit := r.limit
	if limit == 0 {
		limit = maxDocument
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return response{}, fmt.Errorf("read the answer: %w", plain(err))
	case int64(len(body)) > limit:
		return response{}, fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	return response{res.StatusCode, res.Header, body}, nil
}

// send makes a request and leaves the answer's body to be read.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return nil, errors.New("the request cannot be made from these arguments")
	}
	for name, values := range r.header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+string(c.key))
	}
	req.Header.Set("User-Agent", c.agent)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	if redirect(res) && res.Header.Get(headerTicket) == "" { // with a ticket it is an upstream's
		_ = res.Body.Close()
		return nil, fmt.Errorf("the server answers with a redirect (%d), which is not followed: is the address right?", res.StatusCode)
	}
	return res, nil
}

func redirect(res *http.Response) bool {
	return res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified
}

// plain takes the URL out of a transport's error: the path has been said, and a query may hold what is nobody's business.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
