package policy

import (
	"net/netip"
	"net/url"
	"slices"
	"time"

	"countersign/approvals"
)

// Config is a whole, checked configuration. It is immutable: nothing that is reached from
// it may be changed, and it is safe for concurrent use.
type Config struct {
	// Digest is the hex SHA-256 of a canonical form of everything that matters to
	// decisions: people, groups, logins, operators, callers, upstreams, rules, Slack, egress.
	// Layout, comments, the values of secrets and all API keys do not count; references to
	// secrets do.
	Digest   string
	Server   Server
	Database Database
	// Slack is zero when the file has no such section.
	Slack     Slack
	Callers   []Caller
	People    []approvals.Person
	Groups    []Group
	Upstreams []Upstream
	Rules     []Rule
	Egress    Egress
	// Operators are the people and groups who may resolve what is in doubt.
	Operators []string
	// Auditors are the people and groups who may read everything, and change nothing.
	Auditors   []string
	Encryption Encryption
	Signing    Signing

	base        *Config         // as written, nil: this one is
	told        map[string]bool // the user groups, by id, of which it is known who is in them
	facts       Facts           // what it was completed with
	directory   approvals.Directory
	logins      []Login
	hours       map[string]*Hours // by group
	byKey       keyIndex
	byPersonKey keyIndex
	byAccount   map[account]int
	byEmail     map[string]int             // in lower case
	pinned      map[string]map[string]bool // per person: issuers where their subject is known
	callers     map[string]int
	upstreams   map[string]int
	rules       ruleIndex
}

// Server says how the service is reached and run.
type Server struct {
	// Listen is host:port. Default 127.0.0.1:8080.
	Listen string
	// PublicURL is the base of the addresses that are handed out, without a slash at its
	// end. Default http:// and Listen when that is a loopback address with a port.
	PublicURL string
	// DataDir is where the embedded database lives, relative to the working directory.
	// Default "": the program's choice.
	DataDir string
	// Drain bounds the wait for work in progress at shutdown. Default 30 s.
	Drain time.Duration
	// MaxBody bounds the body of a submission, in bytes. Default 1 MiB.
	MaxBody int64
}

// Database says where the tickets are kept.
type Database struct {
	// URL of Postgres. Zero: none was given.
	URL Secret
}

// Slack says which workspace and app the approvers are asked through.
type Slack struct {
	BotToken Secret
	// SigningSecrets are one, or two while Slack's is being rotated. None with Mode socket.
	SigningSecrets []Secret
	// APIURL ends in a slash. Default https://slack.com/api/.
	APIURL string
	// TeamIDs and AppID are the workspaces and the app that clicks are accepted from,
	// EnterpriseIDs the organisations of Enterprise Grid all of whose workspaces are.
	TeamIDs       []string
	EnterpriseIDs []string
	AppID         string
	// Channel is where cards go when the stage names no channel. "": to the people whom the
	// stage asks, directly. FallbackChannel is where they go when they cannot be posted there,
	// "" for nowhere.
	Channel         string
	FallbackChannel string
	// Mode is how Slack reaches Countersign: "http", the default, or "socket". AppToken opens
	// the sockets, and is there exactly with "socket".
	Mode     string
	AppToken Secret
	// ClientID, ClientSecret and RefreshToken renew a bot token that expires. All three, or
	// none: it does not.
	ClientID     string
	ClientSecret Secret
	RefreshToken Secret
	// MatchEmail says that people without a Slack id are known by a confirmed address in one
	// of EmailDomains, which are in lower case. Default false.
	MatchEmail   bool
	EmailDomains []string
	// AllowExternal lets cards go to channels that other organisations are in. Default false.
	AllowExternal bool
	// TellRequesters says what people for whom calls are made are sent: "outcomes", the
	// default, and questions; "questions" only; or "none".
	TellRequesters string
	// ResponseHosts may be in the addresses that Slack gives for answers, besides
	// hooks.slack.com and the host of APIURL.
	ResponseHosts []string
}

// Configured reports whether there is anything to talk to Slack with.
func (s Slack) Configured() bool { return !s.BotToken.IsZero() }

// Group is a named set of people: Members, or whoever is in a Slack user group.
type Group struct {
	Name    string
	Members []string
	// SlackUsergroup is the id of the user group, "" where there are Members.
	SlackUsergroup string `json:",omitempty"`
	// Hours are when they are at work; nil for always.
	Hours *Hours
}

// Upstream is an API behind the gate.
type Upstream struct {
	Name string
	// BaseURL has no slash at the end of its path, no query and no user information.
	BaseURL *url.URL
	// Credentials are set on every call, last.
	Credentials []Credential
	// Methods that may be called. Default all of [Methods].
	Methods []string
	// Timeout of one whole exchange. Default 30 s, at most 50 s.
	Timeout time.Duration
	// Idempotent says that a call may be sent again when its outcome is unknown.
	Idempotent bool
	// MaxResponseBytes of an answer's body are kept. Default 1 MiB, at most 8 MiB.
	MaxResponseBytes int64
	// Success are the statuses that count as success. Default 200 to 299.
	Success []StatusRange
	// Concurrency bounds the calls that are made at a time, Rate how many begin. Zero: not.
	Concurrency int
	Rate        Rate
	Breaker     Breaker
	// CA are the authorities, in PEM, that its certificate may be from besides those of the
	// system. Certificate and CertificateKey, in PEM, are what we show it; both or none.
	CA, Certificate, CertificateKey Secret
	// Proxy is asked to connect to it, with ProxyAuthorization as the value of the header
	// field of that name; nil for none. It is http://host:port.
	Proxy              *url.URL
	ProxyAuthorization Secret
	// RequestHeaders are the names a caller may set, in lower case. Default: accept,
	// accept-language, content-type, idempotency-key, if-match, if-none-match, prefer,
	// x-request-id.
	RequestHeaders []string
	// ResponseHeaders are the names that are kept, in lower case. Default: content-type,
	// etag, last-modified, location, retry-after, x-request-id.
	ResponseHeaders []string
	// Digest is the hex SHA-256 of a canonical form of all of the above, with references
	// in place of secrets; see [approvals.Binding].
	Digest string
}

// Credential is a header field that is set on every call to an upstream, or on every
// callback to an endpoint.
type Credential struct {
	Header string
	// Prefix stands before the value in the field, such as "Bearer ".
	Prefix string
	// Value may be what a program prints; see [Secret.Exec].
	Value Secret
	// Cache is for how long what a program printed is used. Zero: it is run for every call.
	Cache time.Duration
}

// StatusRange is a range of HTTP statuses, ends included.
type StatusRange struct {
	From, To int
}

// Succeeded reports whether a status counts as success.
func (u Upstream) Succeeded(status int) bool {
	return slices.ContainsFunc(u.Success, func(r StatusRange) bool { return r.From <= status && status <= r.To })
}

// Egress says where calls may go besides public addresses over https.
type Egress struct {
	Callbacks EgressPolicy
}

// EgressPolicy is strictest when zero.
type EgressPolicy struct {
	// AllowLoopback admits this machine; for development.
	AllowLoopback bool
	// AllowHTTP admits plain http, on port 80 too.
	AllowHTTP bool
	// AllowPrefixes are networks the operator vouches for.
	AllowPrefixes []netip.Prefix
	// AllowPorts are admitted besides 443 and 8443.
	AllowPorts []uint16
	// Proxy is asked to connect to receivers, http://host:port; nil for none. Where they are
	// is judged all the same.
	Proxy *url.URL `json:",omitempty"`
}

// Rule says what calls it matches and what it demands of them.
type Rule struct {
	Name   string
	Match  Match
	Action approvals.Action
	// Reason is shown to the caller with [approvals.ActionDeny].
	Reason string
	// Redact lists what people are not shown; see [approvals.Plan].
	Redact []string
	// ExpiresIn bounds the time for all decisions. Default 24 h; 1 s to 30 d.
	ExpiresIn time.Duration
	// ExecuteWithin bounds the time between approval and call. Default 15 m; 1 s to 24 h.
	ExecuteWithin time.Duration
	// Stages are there exactly with [approvals.ActionApprove]. A Channel of "" stands for
	// the one of [Slack], and so does a Fallback.
	Stages []approvals.Stage
	// Distinct says how often one person counts. Default once a ticket.
	Distinct approvals.Distinct
	// OnStale says what becomes of an approval that stands no more. Default: asked again.
	OnStale approvals.OnStale
	// BreakGlass names who may bypass the stages; nil for nobody.
	BreakGlass *approvals.BreakGlass
	// Confirm is how deliberate an approval in Slack has to be. Default: the button asks back.
	Confirm approvals.Confirm `json:",omitempty"`
	// Success are the statuses that count as success. Nil: those of the upstream.
	Success []StatusRange `json:",omitempty"`
	// KeyRequired says that a call must come with an Idempotency-Key, through either door.
	KeyRequired bool `json:",omitempty"`
	// Sensitive says that callbacks never carry the result, so that each reading of it is
	// recorded.
	Sensitive bool `json:",omitempty"`
}

// Match says which calls a rule is about. Each empty field matches everything.
type Match struct {
	Upstream string
	Methods  []string
	// Path is a template; see the package comment.
	Path    string
	Callers []string
	// When is a condition in CEL on the call, of at most 2 KiB; "" for none.
	When string
}

// Methods lists the HTTP methods that can be called.
func Methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
}

// Directory returns who exists and who belongs where. It is computed once and must not be
// changed.
func (c *Config) Directory() approvals.Directory { return c.directory }

// Caller finds a caller by name.
func (c *Config) Caller(name string) (Caller, bool) {
	i, ok := c.callers[name]
	if !ok {
		return Caller{}, false
	}
	return c.Callers[i], true
}

// Upstream finds an upstream by name.
func (c *Config) Upstream(name string) (Upstream, bool) {
	i, ok := c.upstreams[name]
	if !ok {
		return Upstream{}, false
	}
	return c.Upstreams[i], true
}

// KeyRequired reports whether calls that meet a rule, by name, must come with an
// Idempotency-Key through either door. False when there is no such rule.
func (c *Config) KeyRequired(rule string) bool {
	return slices.ContainsFunc(c.Rules, func(r Rule) bool { return r.Name == rule && r.KeyRequired })
}

// MayUse reports whether a caller may ask for an upstream that exists.
func (c *Config) MayUse(caller Caller, upstream string) bool {
	_, ok := c.upstreams[upstream]
	return ok && slices.Contains(caller.Upstreams, upstream)
}
