package emulator

import (
	"cmp"
	"log/slog"
	"net/http"
	"slices"
	"time"
)

// Config is what a workspace and its one installed app are made of.
type Config struct {
	// BotToken is the only token the Web API accepts. Zero: "xoxb-emulator".
	BotToken Secret
	// SigningSecret signs what is sent to the app. Zero: "emulator-signing-secret".
	SigningSecret Secret
	// Scopes granted to BotToken. Nil: [DefaultScopes].
	Scopes []string
	// TeamID, TeamName and TeamDomain name the workspace. Zero: T0EMULATOR, "Acme", "acme".
	TeamID, TeamName, TeamDomain string
	// AppID, BotID, BotUserID and BotName name the app. Zero: A0EMULATOR, B0EMULATOR, U0BOT,
	// "countersign".
	AppID, BotID, BotUserID, BotName string
	// Workspace holds the people, channels and user groups at the start. Zero: the bot alone.
	Workspace Workspace
	// InteractionsURL receives block_actions, view_submission and view_closed. Zero: nobody
	// listens yet and every click ends in a warning; see [Server.SetInteractionsURL].
	InteractionsURL string
	// BaseURL is where the app reaches this server, for response_urls. Zero: set by
	// [Server.Start], else learned from the Host header of the first request.
	BaseURL string
	// AckTimeout is how long the app may take to answer an interaction. Zero: Slack's 3 s.
	AckTimeout time.Duration
	// Client delivers interactions. Zero: a client that neither follows redirects nor proxies.
	Client Doer
	// Now is the workspace's clock: message timestamps, trigger and response_url lifetimes.
	// Signatures carry the wall clock whatever Now says, because receivers check against it.
	// Zero: the wall clock.
	Now func() time.Time
	// Logger gets one line per interaction and per refused request. Zero: nothing is logged.
	Logger *slog.Logger
}

// Doer sends one HTTP request; *http.Client is one.
type Doer interface {
	Do(*http.Request) (*http.Response, error)
}

// DefaultScopes returns the bot scopes of Countersign's app manifest, without its optional
// feature sets (users:read.email and the history scopes).
func DefaultScopes() []string {
	return []string{"chat:write", "im:write", "commands", "users:read", "usergroups:read", "channels:read", "groups:read"}
}

// ackTimeout is Slack's limit for answering an interaction.
const ackTimeout = 3 * time.Second

func (c Config) withDefaults() Config {
	c.BotToken = cmp.Or(c.BotToken, "xoxb-emulator")
	c.SigningSecret = cmp.Or(c.SigningSecret, "emulator-signing-secret")
	c.TeamID = cmp.Or(c.TeamID, "T0EMULATOR")
	c.TeamName = cmp.Or(c.TeamName, "Acme")
	c.TeamDomain = cmp.Or(c.TeamDomain, "acme")
	c.AppID = cmp.Or(c.AppID, "A0EMULATOR")
	c.BotID = cmp.Or(c.BotID, "B0EMULATOR")
	c.BotUserID = cmp.Or(c.BotUserID, "U0BOT")
	c.BotName = cmp.Or(c.BotName, "countersign")
	c.AckTimeout = cmp.Or(c.AckTimeout, ackTimeout)
	if c.Scopes == nil {
		c.Scopes = DefaultScopes()
	}
	c.Scopes = slices.Clone(c.Scopes)
	if c.Client == nil {
		c.Client = newClient()
	}
	if c.Now == nil {
		c.Now = wallClock
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// wallClock is real time, which signature checks on the other side are made against.
func wallClock() time.Time {
	return time.Now() //nolint:forbidigo // receivers verify Slack's signature against the wall clock
}

// newClient plays Slack's side of an interaction: the outside world, not a call of ours.
func newClient() Doer {
	//nolint:forbidigo // the emulator is Slack calling us, so it does not go through egress
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second}, //nolint:forbidigo // as above
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
