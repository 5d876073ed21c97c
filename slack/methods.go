package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	slackgo "github.com/slack-go/slack"
)

// maxList is how much of an answer that lists something is read, in bytes: the members of
// all user groups come in one.
const maxList = 8 << 20

func limitOf(method string) int64 {
	switch method {
	case "usergroups.list", "conversations.list", "conversations.history", "conversations.replies":
		return maxList
	}
	return maxAnswer
}

// envelope is what every answer of the Web API has in common. Answers embed it.
type envelope struct {
	OK       bool   `json:"ok"`
	Code     string `json:"error"`
	Needed   string `json:"needed"`
	Provided string `json:"provided"`
	Metadata struct {
		Cursor   string   `json:"next_cursor"`
		Messages []string `json:"messages"`
	} `json:"response_metadata"`
}

func (e *envelope) common() *envelope { return e }

// answer is what [Client.ask] decodes into: a struct that embeds envelope.
type answer interface{ common() *envelope }

// ask makes one call that may be made twice without harm, and decodes no more of the answer
// than somebody needs: what else is in it may be of kinds that this build has never heard of.
// An answer that says neither yes nor why not is an error.
func (c *Client) ask(ctx context.Context, method string, args url.Values, into answer) (http.Header, error) {
	return c.exchange(ctx, method, "application/x-www-form-urlencoded", []byte(args.Encode()), into)
}

// askJSON is ask with a body of JSON, which is what methods with a view take.
func (c *Client) askJSON(ctx context.Context, method string, args any, into answer) error {
	_, err := c.exchange(ctx, method, "application/json; charset=utf-8", encode(args), into)
	return err
}

func (c *Client) exchange(ctx context.Context, method, kind string, body []byte, into answer) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	header, err := c.asked(ctx, method, kind, body, into)
	if err != nil {
		return nil, c.failed(ctx, classify(method, false, err))
	}
	if !into.common().OK {
		return nil, c.failed(ctx, &Error{Class: Retryable, Method: method, Code: "empty_answer"})
	}
	return header, nil
}

// asked tells slack-go's errors, so that one function sorts those of all calls.
func (c *Client) asked(ctx context.Context, method, kind string, body []byte, into answer) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.APIURL+method, nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	setBody(req, body)
	req.Header.Set("Content-Type", kind)
	resp, raw, err := c.wire.send(req, limitOf(method))
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // again: send has read all of it
	if err := statusError(resp); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, err
	}
	e := into.common()
	if !e.OK && e.Code != "" {
		said := slackgo.SlackErrorResponse{Err: e.Code, Needed: e.Needed, Provided: e.Provided}
		said.ResponseMetadata.Messages = e.Metadata.Messages
		return nil, said
	}
	return resp.Header, nil
}

func statusError(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	if header := resp.Header.Get("Retry-After"); resp.StatusCode == http.StatusTooManyRequests && header != "" {
		after, _ := strconv.Atoi(header) // what cannot be read is 0, which means that it did not say
		return &slackgo.RateLimitedError{RetryAfter: time.Duration(min(max(after, 0), 1<<20)) * time.Second}
	}
	return slackgo.StatusCodeError{Code: resp.StatusCode, Status: http.StatusText(resp.StatusCode)}
}

// pages asks for page after page of a list, until next says that it has enough or the list
// ends. At most limit pages are read; more is an error, since what is not on them may be on
// the next one.
func (c *Client) pages(ctx context.Context, method string, args url.Values, limit int, next func() (answer, func() bool)) error {
	for range limit {
		into, enough := next()
		if _, err := c.ask(ctx, method, args, into); err != nil {
			return err
		}
		cursor := into.common().Metadata.Cursor
		if enough() || cursor == "" {
			return nil
		}
		args.Set("cursor", cursor)
	}
	return c.failed(ctx, &Error{Class: Retryable, Method: method, Code: "too_many_pages"})
}

// notAnswered is for an answer that says yes and lacks what was asked for.
func (c *Client) notAnswered(ctx context.Context, method string) error {
	return c.failed(ctx, &Error{Class: Retryable, Method: method, Code: "empty_answer"})
}

// checkID refuses an id that is none before anything is sent.
func (c *Client) checkID(ctx context.Context, method string, ids ...string) error {
	for _, id := range ids {
		if !idPattern.MatchString(id) {
			return c.failed(ctx, refusedHere(method, errors.New("not an id of slack's")))
		}
	}
	return nil
}
