package slack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	slackgo "github.com/slack-go/slack"
)

// Doer makes one HTTP exchange. It must not follow redirects, since requests carry the
// token, and need not retry: nothing here does either.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// Config makes a [Client].
type Config struct {
	// Token is the bot token. Required, unless there are Tokens.
	Token Secret
	// Tokens is asked for the token before each call, for one that can be replaced while the
	// program runs or that rotates (see [Tokens]). refused is "", or the token which Slack has
	// just called expired: then the call, of which nothing was done, is made once more with
	// what is returned. An error leaves the call unmade. Zero: always Token.
	Tokens func(ctx context.Context, refused Secret) (Secret, error)
	// APIURL is the base of the Web API. Zero: "https://slack.com/api/".
	APIURL string
	// HTTP makes the calls. Required.
	HTTP Doer
	// ResponseHosts are more hosts, besides hooks.slack.com and that of APIURL, that a
	// response_url may have, such as "hooks.slack-gov.com". Zero: none.
	ResponseHosts []string
	// Timeout bounds each call, answer included. Zero: 10 s.
	Timeout time.Duration
	// Logger gets one line per failed call. Zero: nothing is logged.
	Logger *slog.Logger
}

// Client talks to Slack's Web API as the bot. It tries each call once: what to do about a
// failure is up to its caller, who finds an [*Error] in every error. It is safe for
// concurrent use.
type Client struct {
	cfg      Config
	api      *slackgo.Client
	wire     *exchange
	base     *url.URL
	identity *atomic.Pointer[Identity]
}

// New returns a client, or says what is wrong with cfg. It calls nothing.
func New(cfg Config) (*Client, error) {
	cfg.APIURL = strings.TrimRight(cmp.Or(cfg.APIURL, slackgo.APIURL), "/") + "/"
	cfg.Timeout = cmp.Or(cfg.Timeout, 10*time.Second)
	cfg.ResponseHosts = append([]string{"hooks.slack.com"}, cfg.ResponseHosts...)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	base, err := url.Parse(cfg.APIURL)
	switch {
	case cfg.Token == "" && cfg.Tokens == nil:
		return nil, errors.New("a bot token is required")
	case cfg.HTTP == nil:
		return nil, errors.New("a way to make HTTP calls is required")
	case err != nil || base.Host == "" || (base.Scheme != "https" && base.Scheme != "http"):
		return nil, errors.New("the API URL is not an http or https URL")
	}
	wire := newExchange(cfg)
	// The token is set on the wire, where it may change from call to call.
	api := slackgo.New("", slackgo.OptionAPIURL(cfg.APIURL), slackgo.OptionHTTPClient(wire))
	return &Client{cfg: cfg, api: api, wire: wire, base: base, identity: &atomic.Pointer[Identity]{}}, nil
}

// Ref is where a message is. Channel is the id that Slack answered with, which for a direct
// message is not what it was posted to; only this one can be updated.
type Ref struct{ Channel, TS string }

// Metadata travels with a message. Everybody in the workspace can read it.
type Metadata struct {
	EventType string
	Payload   map[string]string
}

// maxPostMetadata bounds metadata, in bytes of JSON; Slack documents no number.
const maxPostMetadata = 500

// PostOptions are the rarer arguments of [Client.Post].
type PostOptions struct {
	// ThreadTS posts below that message. Zero: into the channel.
	ThreadTS string
	// Broadcast shows a message of a thread in the channel too.
	Broadcast bool
	// ClientMsgID is the same for every try of one post, a UUID. Slack does not document
	// it; it may keep a second try from posting again. Zero: none.
	ClientMsgID string
	// Metadata of at most 500 bytes as JSON. Zero: none.
	Metadata *Metadata
}

// Post posts a message to a channel, by id or "#name", or to a person, by id. An error of
// class [Ambiguous] or [RateLimited] leaves open whether it was posted.
func (c *Client) Post(ctx context.Context, channel string, m Message, opts PostOptions) (Ref, error) {
	const method = "chat.postMessage"
	options, err := c.postOptions(m, opts)
	if err != nil {
		return Ref{}, c.failed(ctx, refusedHere(method, err))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if ctx.Err() != nil {
		return Ref{}, c.failed(ctx, classify(method, false, ctx.Err()))
	}
	got, ts, _, err := c.api.SendMessageContext(ctx, channel, options...)
	if err == nil && (ts == "" || got == "") {
		return Ref{}, c.failed(ctx, &Error{Class: Ambiguous, Method: method, Code: "empty_answer"})
	}
	if err != nil {
		return Ref{}, c.failed(ctx, classify(method, true, err))
	}
	return Ref{Channel: got, TS: ts}, nil
}

func (c *Client) postOptions(m Message, opts PostOptions) ([]slackgo.MsgOption, error) {
	options, err := content(m)
	if err != nil {
		return nil, err
	}
	if opts.ThreadTS != "" {
		options = append(options, slackgo.MsgOptionTS(opts.ThreadTS))
	}
	if opts.Broadcast {
		options = append(options, slackgo.MsgOptionBroadcast())
	}
	if opts.ClientMsgID != "" {
		options = append(options, slackgo.UnsafeMsgOptionEndpoint(c.cfg.APIURL+"chat.postMessage", func(v url.Values) {
			v.Set("client_msg_id", opts.ClientMsgID)
		}))
	}
	if opts.Metadata == nil {
		return options, nil
	}
	if n := len(encode(opts.Metadata)); n > maxPostMetadata {
		return nil, fmt.Errorf("metadata of %d bytes, at most %d are allowed", n, maxPostMetadata)
	}
	payload := map[string]any{}
	for k, v := range opts.Metadata.Payload {
		payload[k] = v
	}
	return append(options, slackgo.MsgOptionMetadata(slackgo.SlackMetadata{EventType: opts.Metadata.EventType, EventPayload: payload})), nil
}

// content is what posting and updating have in common. Text is escaped already.
func content(m Message) ([]slackgo.MsgOption, error) {
	if err := Lint(m); err != nil {
		return nil, fmt.Errorf("message breaks block kit limits: %w", err)
	}
	return []slackgo.MsgOption{
		slackgo.MsgOptionText(m.Text, false), slackgo.MsgOptionBlocks(m.Blocks...),
		slackgo.MsgOptionDisableLinkUnfurl(), slackgo.MsgOptionDisableMediaUnfurl(),
	}, nil
}

// Update replaces a message. Doing it twice does no harm, so no error is [Ambiguous].
func (c *Client) Update(ctx context.Context, ref Ref, m Message) error {
	const method = "chat.update"
	options, err := content(m)
	if err != nil {
		return c.failed(ctx, refusedHere(method, err))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	_, ts, _, err := c.api.UpdateMessageContext(ctx, ref.Channel, ref.TS, options...)
	if err == nil && ts == "" {
		return c.failed(ctx, &Error{Class: Retryable, Method: method, Code: "empty_answer"})
	}
	if err != nil {
		return c.failed(ctx, classify(method, false, err))
	}
	return nil
}

// OpenView opens a modal, such as [DenyModal], for whoever made the click that triggerID
// comes from. A trigger works once and for 3 s; after that the error is [Permanent] and
// the person has to press again.
func (c *Client) OpenView(ctx context.Context, triggerID string, view slackgo.ModalViewRequest) error {
	const method = "views.open"
	if triggerID == "" {
		return c.failed(ctx, refusedHere(method, errors.New("no trigger")))
	}
	if err := LintModal(view); err != nil {
		return c.failed(ctx, refusedHere(method, fmt.Errorf("modal breaks block kit limits: %w", err)))
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	resp, err := c.api.OpenViewContext(ctx, triggerID, view)
	if err == nil && !resp.Ok {
		return c.failed(ctx, &Error{Class: Retryable, Method: method, Code: "empty_answer"})
	}
	if err != nil {
		return c.failed(ctx, classify(method, false, err))
	}
	return nil
}

// Identity is who the token belongs to.
type Identity struct {
	TeamID, Team, EnterpriseID, URL string
	// EnterpriseInstall says that the app is installed in a whole organisation: then user
	// groups have to be asked for workspace by workspace.
	EnterpriseInstall bool
	// BotID and UserID are the bot's two ids: of its messages, and of the bot as a user.
	BotID, UserID string
	// Scopes the token has.
	Scopes []string
	// Date is Slack's clock, zero when it did not say.
	Date time.Time
}

// Auth asks Slack whose token this is and what it may do (auth.test; no scope).
func (c *Client) Auth(ctx context.Context) (Identity, error) {
	const method = "auth.test"
	var got struct {
		envelope
		URL          string `json:"url"`
		Team         string `json:"team"`
		TeamID       string `json:"team_id"`
		UserID       string `json:"user_id"`
		BotID        string `json:"bot_id"`
		EnterpriseID string `json:"enterprise_id"`
		Enterprise   bool   `json:"is_enterprise_install"`
	}
	header, err := c.ask(ctx, method, nil, &got)
	if err != nil {
		return Identity{}, err
	}
	if got.UserID == "" || (got.TeamID == "" && got.EnterpriseID == "") {
		return Identity{}, c.notAnswered(ctx, method)
	}
	at, _ := http.ParseTime(header.Get("Date")) // zero stands for "it did not say"
	out := Identity{
		TeamID: got.TeamID, Team: got.Team, EnterpriseID: got.EnterpriseID, EnterpriseInstall: got.Enterprise,
		URL: got.URL, BotID: got.BotID, UserID: got.UserID, Scopes: scopes(header.Get("X-OAuth-Scopes")), Date: at,
	}
	c.identity.Store(&out)
	return out, nil
}

func scopes(header string) []string {
	all := strings.FieldsFunc(header, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(all)
	return all
}

// failed logs a failure and makes sure that it does not repeat a token.
func (c *Client) failed(ctx context.Context, e *Error) error {
	e = e.without(c.wire.used())
	c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "slack call failed", slog.String("method", e.Method),
		slog.String("class", string(e.Class)), slog.String("code", e.Code), slog.Any("details", e.Details))
	return e
}
