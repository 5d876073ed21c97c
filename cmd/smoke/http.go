package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// exchangeLimit bounds every request; none waits for longer than pollWait.
	exchangeLimit = 20 * time.Second
	maxAnswer     = 32 << 20
)

type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// newHTTP is for the servers of dev on this machine: no proxy, no redirects.
func newHTTP() doer {
	return &http.Client{
		Transport: &http.Transport{}, Timeout: exchangeLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// code is the problem's word for programs, "" when the answer is no problem document.
func (a answer) code() string {
	var p struct {
		Code string `json:"code"`
	}
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil {
		return ""
	}
	return p.Code
}

// statusCode is "409 no_result", or the status alone where there is no problem.
func statusCode(a answer) string {
	return strings.TrimSpace(strconv.Itoa(a.status) + " " + a.code())
}

// exchange sends body as JSON, unless it is nil. The headers are names and values in turn.
func exchange(ctx context.Context, http doer, method, url string, body any, headers ...string) (answer, error) {
	req, err := request(ctx, method, url, body, headers)
	if err != nil {
		return answer{}, err
	}
	resp, err := http.Do(req)
	if err != nil {
		return answer{}, err // it names method and URL
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer to %s %s: %w", method, url, err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: b}, nil
}

func request(ctx context.Context, method, url string, body any, headers []string) (*http.Request, error) {
	var b bytes.Buffer
	if body != nil {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // a body inside is to arrive as it was written
		if err := e.Encode(body); err != nil {
			return nil, fmt.Errorf("encode the request to %s %s: %w", method, url, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, &b)
	if err != nil {
		return nil, fmt.Errorf("make the request to %s %s: %w", method, url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req, nil
}

// fetch is exchange for an answer that has to be 200 and JSON.
func fetch[T any](ctx context.Context, http doer, method, url string, body any, headers ...string) (T, error) {
	var v T
	a, err := exchange(ctx, http, method, url, body, headers...)
	if err != nil {
		return v, err
	}
	if a.status != 200 {
		return v, fmt.Errorf("%s %s: answered %d: %s", method, url, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		return v, fmt.Errorf("%s %s: %w", method, url, err)
	}
	return v, nil
}
