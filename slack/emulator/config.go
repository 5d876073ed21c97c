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
	// BotToken is the app's bot token. Zero: "xoxb-emulator". With RefreshToken set it
	// expires after 12 h.
	BotToken Secret
	// AppToken is the app-level token of Socket Mode. Zero: "xapp-emulator".
	AppToken Secret
	// Tokens are further tokens, each with its own scopes. Nil: none.
	Tokens []Token
	// ClientID, ClientSecret and RefreshToken turn token rotation on. RefreshToken zero: off,
	// and the bot token never expires. The other two zero: "emulator-client" and
	// "emulator-client-secret".
	ClientID     string
	ClientSecret Secret
	RefreshToken Secret
	// SigningSecret signs what is sent to the app. Zero: "emulator-signing-secret". See
	// [Server.SetSigningSecret] for its rotation.
	SigningSecret Secret
	// Scopes granted to BotToken. Nil: [DefaultScopes].
	Scopes []string
	// AppScopes granted to AppToken. Nil: connections:write.
	AppScopes []string
	// TeamID, TeamName and TeamDomain name the workspace. Zero: T0EMULATOR, "Acme", "acme".
	TeamID, TeamName, TeamDomain string
	// EnterpriseID and EnterpriseName name the Grid organisation the workspace belongs to.
	// EnterpriseID zero: it belongs to none. EnterpriseName zero: TeamName.
	EnterpriseID, EnterpriseName string
	// OrgInstall says that the app was installed for the whole organisation: its tokens then
	// have to name the workspace (team_id) where Slack wants that.
	OrgInstall bool
	// AppID, BotID, BotUserID and BotName name the app. Zero: A0EMULATOR, B0EMULATOR, U0BOT,
	// "countersign".
	AppID, BotID, BotUserID, BotName string
	// Workspace holds the people, channels and user groups at the start. Zero: the bot alone.
	Workspace Workspace
	// InteractionsURL receives block_actions, view_submission and view_closed. Zero: nobody
	// listens yet and every click ends in a warning; see [Server.SetInteractionsURL].
	InteractionsURL string
	// EventsURL receives events; the url_verification handshake comes before the first one.
	// Zero: nobody listens yet and events are not sent; see [Server.SetEventsURL].
	EventsURL string
	// CommandsURL receives slash commands. Zero: nobody listens yet and every command fails;
	// see [Server.SetCommandsURL].
	CommandsURL string
	// Events are the event subscriptions, by name. Nil: [DefaultEvents]. As with Slack, an
	// event whose scope the bot token lacks is not sent.
	Events []string
	// Commands are the slash commands the app has. Nil: any command goes to the app.
	Commands []string
	// SocketMode sends everything through web sockets (see apps.connections.open) and nothing
	// to the URLs. Zero: HTTP.
	SocketMode bool
	// NoHome turns the Home tab off: views.publish then answers not_enabled.
	NoHome bool
	// IgnoreClientMsgID posts a second message for a client_msg_id that was used before. Zero:
	// the second post is answered duplicate_message.
	IgnoreClientMsgID bool
	// EditWindow is how long a message can be updated. Zero: for ever, as for apps.
	EditWindow time.Duration
	// Limits are the rate limits. Zero: none; see [Server.SetLimits].
	Limits Limits
	// BaseURL is where the app reaches this server, for response_urls. Zero: set by
	// [Server.Start], else learned from the Host header of the first request.
	BaseURL string
	// AckTimeout is how long, in real time, the app may take to answer an interaction, event
	// or command. Zero: Slack's 3 s.
	AckTimeout time.Duration
	// Client delivers interactions, events and commands. Zero: a client that neither follows
	// redirects nor proxies.
	Client Doer
	// Clock is the workspace's clock. Nil: one that follows Now.
	Clock *Clock
	// Now is what a nil Clock follows. Zero: real time.
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
	c.AppToken = cmp.Or(c.AppToken, "xapp-emulator")
	c.ClientID = cmp.Or(c.ClientID, "emulator-client")
	c.ClientSecret = cmp.Or(c.ClientSecret, "emulator-client-secret")
	c.SigningSecret = cmp.Or(c.SigningSecret, "emulator-signing-secret")
	c.AckTimeout = cmp.Or(c.AckTimeout, ackTimeout)
	c = c.withNames()
	c.Scopes = ownCopy(c.Scopes, DefaultScopes)
	c.AppScopes = ownCopy(c.AppScopes, func() []string { return []string{"connections:write"} })
	c.Events = ownCopy(c.Events, DefaultEvents)
	if c.Client == nil {
		c.Client = newClient()
	}
	if c.Clock == nil {
		c.Clock = RunningClock(c.Now)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) withNames() Config {
	c.TeamID = cmp.Or(c.TeamID, "T0EMULATOR")
	c.TeamName = cmp.Or(c.TeamName, "Acme")
	c.TeamDomain = cmp.Or(c.TeamDomain, "acme")
	c.EnterpriseName = cmp.Or(c.EnterpriseName, c.TeamName)
	c.AppID = cmp.Or(c.AppID, "A0EMULATOR")
	c.BotID = cmp.Or(c.BotID, "B0EMULATOR")
	c.BotUserID = cmp.Or(c.BotUserID, "U0BOT")
	c.BotName = cmp.Or(c.BotName, "countersign")
	return c
}

// ownCopy keeps the server's list apart from the caller's; a nil one becomes the usual list.
func ownCopy(list []string, usual func() []string) []string {
	if list == nil {
		return usual()
	}
	return slices.Clone(list)
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
