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

	slackgo "github.com/slack-go/slack"
)

// exchange stands between slack-go and the wire. It moves the token from the form, where
// slack-go puts it, into a header; bounds what is read; and keeps from slack-go the parts
// of an answer that nobody here needs, because one block in them that it cannot decode
// would make a message that was posted look as if it might not have been.
type exchange struct{ cfg Config }

// maxAnswer is how much of an answer is read, in bytes.
const maxAnswer = 1 << 20

var errTooLong = errors.New("the answer is too long")

// Do makes one exchange.
func (x *exchange) Do(req *http.Request) (*http.Response, error) {
	if err := x.moveToken(req); err != nil {
		return nil, err
	}
	resp, err := x.cfg.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	// The body that came off the wire, not the one put in its place below.
	wire := resp.Body
	defer func() { _ = wire.Close() }()
	raw, err := readAnswer(resp)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(withoutEcho(raw)))
	return resp, nil
}

func (x *exchange) moveToken(req *http.Request) error {
	req.Header.Set("Authorization", "Bearer "+string(x.cfg.Token))
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

func readAnswer(resp *http.Response) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(raw) > maxAnswer {
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
	const method = "response_url"
	target, err := c.responseTarget(responseURL)
	if err != nil {
		return c.failed(ctx, refusedHere(method, err))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	body := encode(map[string]any{
		"response_type": "ephemeral", "replace_original": false,
		"text": entities.Replace(shorten(orDash(text), 2500, lines)),
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, nil)
	if err != nil {
		return c.failed(ctx, refusedHere(method, errors.New("the response_url cannot be called")))
	}
	setBody(req, body)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	if err := c.respond(req); err != nil {
		return c.failed(ctx, classify(method, true, secretURL(err)))
	}
	return nil
}

func (c *Client) respond(req *http.Request) error {
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := readAnswer(resp)
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
