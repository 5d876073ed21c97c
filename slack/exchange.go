package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	slackgo "github.com/slack-go/slack"
)

// exchange stands between us, slack-go included, and the wire. It sets the token, which
// slack-go would put into the form, as a header; bounds what is read; and keeps from
// slack-go the parts of an answer that nobody here needs, because one block in them that it
// cannot decode would make a message that was posted look as if it might not have been.
type exchange struct {
	http   Doer
	tokens func(ctx context.Context, refused Secret) (Secret, error)

	mu     sync.Mutex
	recent []Secret // tokens that were used lately, to keep them out of errors
}

const (
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
	// maxRecent is how many tokens are remembered.
	maxRecent = 8
)

var errTooLong = errors.New("the answer is too long")

func newExchange(cfg Config) *exchange {
	x := &exchange{http: cfg.HTTP, tokens: cfg.Tokens}
	if cfg.Tokens == nil {
		x.tokens = func(context.Context, Secret) (Secret, error) { return cfg.Token, nil }
	}
	return x
}

// Do makes one exchange for slack-go.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	if err := withoutToken(req); err != nil {
		return nil, err
	}
	resp, raw, err := x.send(req, maxAnswer)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(withoutEcho(raw)))
	return resp, nil
}

// send makes one exchange, and one more when the token has expired, which Slack says
// before it does anything. It reads at most limit bytes of the answer.
func (x *exchange) send(req *http.Request, limit int64) (*http.Response, []byte, error) {
	token, err := x.token(req.Context(), "")
	if err != nil {
		return nil, nil, err
	}
	resp, raw, err := x.sendAs(req, token, limit)
	if err != nil || !expired(raw) {
		return resp, raw, err
	}
	next, err := x.token(req.Context(), token)
	if err != nil {
		return nil, nil, err
	}
	if next == token {
		return resp, raw, nil
	}
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, nil, fmt.Errorf("read the request again: %w", err)
		}
	}
	return x.sendAs(again, next, limit)
}

func (x *exchange) sendAs(req *http.Request, token Secret, limit int64) (*http.Response, []byte, error) {
	req.Header.Set("Authorization", "Bearer "+string(token))
	resp, err := x.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	// The body that came off the wire, not the one that may be put in its place.
	wire := resp.Body
	defer func() { _ = wire.Close() }()
	raw, err := readAnswer(resp, limit)
	if err != nil {
		return nil, nil, err
	}
	return resp, raw, nil
}

func (x *exchange) token(ctx context.Context, refused Secret) (Secret, error) {
	token, err := x.tokens(ctx, refused)
	if err == nil && token == "" {
		err = errors.New("there is none")
	}
	if err != nil {
		return "", &tokenError{cause: err}
	}
	x.remember(token)
	return token, nil
}

// remember keeps a secret out of errors from now on.
func (x *exchange) remember(secret Secret) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Contains(x.recent, secret) {
		x.recent = append(x.recent[max(0, len(x.recent)-maxRecent+1):], secret)
	}
}

// used are the tokens that an error might repeat.
func (x *exchange) used() []Secret {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.recent)
}

// expired recognises the one answer after which a call is made again.
func expired(raw []byte) bool {
	var got envelope
	return bytes.Contains(raw, []byte("token_expired")) && json.Unmarshal(raw, &got) == nil && !got.OK && got.Code == "token_expired"
}

// tokenError says that a call was not made for want of a token.
type tokenError struct{ cause error }

func (e *tokenError) Error() string { return "no token: " + e.cause.Error() }
func (e *tokenError) Unwrap() error { return e.cause }

// withoutToken takes the token that slack-go knows of, which is none, out of its form.
func withoutToken(req *http.Request) error {
	if req.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || req.Body == nil {
		return nil
	}
	raw, err := io.ReadAll(req.Body)
	if err != nil {
		return fmt.Errorf("read the form: %w", err)
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return errors.New("the form cannot be read")
	}
	form.Del("token")
	setBody(req, []byte(form.Encode()))
	return nil
}

// setBody also lets net/http send the body again, which it does only on a connection that
// took nothing of it the first time.
func setBody(req *http.Request, raw []byte) {
	req.ContentLength = int64(len(raw))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil }
	req.Body, _ = req.GetBody()
}

func readAnswer(resp *http.Response, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(raw)) > limit {
		return nil, errTooLong
	}
	return raw, nil
}

// withoutEcho drops the message or view that Slack repeats in its answer.
func withoutEcho(raw []byte) []byte {
	var answer map[string]json.RawMessage
	if json.Unmarshal(raw, &answer) != nil || answer == nil {
		return raw
	}
	delete(answer, "message")
	delete(answer, "view")
	return encode(answer)
}

// Respond shows text to the person who made an interaction, and to nobody else, through
// its response_url. Text is plain: it cannot mention anybody or hold a link. Only Slack's
// own hosts are called. A response_url works five times within half an hour; after that
// the error is [Permanent].
func (c *Client) Respond(ctx context.Context, responseURL, text string) error {
	return c.respondWith(ctx, responseURL, map[string]any{
		"response_type": "ephemeral", "replace_original": false,
		"text": entities.Replace(shorten(orDash(text), 2500, lines)),
	})
}

// RespondMessage is [Client.Respond] with a whole message, for that person alone or for
// the whole channel.
func (c *Client) RespondMessage(ctx context.Context, responseURL string, m Message, ephemeral bool) error {
	if err := Lint(m); err != nil {
		return c.failed(ctx, refusedHere(methodRespond, fmt.Errorf("message breaks block kit limits: %w", err)))
	}
	kind := "in_channel"
	if ephemeral {
		kind = "ephemeral"
	}
	return c.respondWith(ctx, responseURL, map[string]any{
		"response_type": kind, "replace_original": false, "text": m.Text, "blocks": m.Blocks,
		"unfurl_links": false, "unfurl_media": false,
	})
}

const methodRespond = "response_url"

func (c *Client) respondWith(ctx context.Context, responseURL string, body map[string]any) error {
	target, err := c.responseTarget(responseURL)
	if err != nil {
		return c.failed(ctx, refusedHere(methodRespond, err))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return c.failed(ctx, refusedHere(methodRespond, errors.New("the response_url cannot be called")))
	}
	setBody(req, encode(body))
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if err := c.respond(req); err != nil {
		return c.failed(ctx, classify(methodRespond, true, secretURL(err)))
	}
	return nil
}

func (c *Client) respond(req *http.Request) error {
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := readAnswer(resp, maxAnswer)
	if err != nil {
		return err
	}
	var answer slackgo.SlackResponse
	readable := json.Unmarshal(raw, &answer) == nil
	switch {
	case readable && !answer.Ok && answer.Error != "":
		return answer.Err()
	case resp.StatusCode >= 400 && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		return slackgo.SlackErrorResponse{Err: strings.TrimSpace(string(raw))} // a word such as used_url
	case resp.StatusCode != http.StatusOK:
		return slackgo.StatusCodeError{Code: resp.StatusCode, Status: resp.Status}
	case string(bytes.TrimSpace(raw)) != "ok" && (!readable || !answer.Ok):
		return fmt.Errorf("neither ok nor an error: %w", errNoAnswer)
	}
	return nil
}

var errNoAnswer = errors.New("not an answer of slack's")

// secretURL drops the URL from an error: whoever has a response_url can post.
func secretURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return fmt.Errorf("%s a response_url: %w", strings.ToLower(u.Op), u.Err)
	}
	return err
}

// responseTarget checks where a response_url leads. An interaction is signed, but a
// signing secret that leaks must not turn us into somebody's HTTP client.
func (c *Client) responseTarget(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || u.Fragment != "" || u.Opaque != "" || len(raw) > 2048 {
		return "", errors.New("not a response_url")
	}
	if u.Scheme == c.base.Scheme && strings.EqualFold(u.Host, c.base.Host) {
		return u.String(), nil
	}
	if u.Scheme == "https" && slices.ContainsFunc(c.cfg.ResponseHosts, func(host string) bool { return strings.EqualFold(u.Host, host) }) {
		return u.String(), nil
	}
	return "", errors.New("the response_url is not on a host of slack's")
}
