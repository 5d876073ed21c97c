package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// Digests are taken over JSON of structs made for it: fields in fixed order, what is a set
// sorted, secrets as their references. A domain in front keeps the two kinds apart.
const (
	upstreamDomain = "countersign-upstream/v1\n"
	policyDomain   = "countersign-policy/v1\n"
)

func digest(domain string, v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // the structs below hold nothing that JSON cannot
	}
	sum := sha256.Sum256(append([]byte(domain), text...))
	return hex.EncodeToString(sum[:])
}

type canonicalUpstream struct {
	Name, BaseURL   string
	Credentials     [][2]string // header, reference
	Methods         []string
	Timeout         time.Duration
	Idempotent      bool
	MaxResponse     int64
	Success         []StatusRange
	RequestHeaders  []string
	ResponseHeaders []string
}

func (u Upstream) digest() string {
	c := canonicalUpstream{
		Name: u.Name, BaseURL: u.BaseURL.String(), Methods: sorted(u.Methods), Timeout: u.Timeout,
		Idempotent: u.Idempotent, MaxResponse: u.MaxResponseBytes, Success: slices.Clone(u.Success),
		RequestHeaders: sorted(u.RequestHeaders), ResponseHeaders: sorted(u.ResponseHeaders),
	}
	for _, cred := range u.Credentials {
		c.Credentials = append(c.Credentials, [2]string{strings.ToLower(cred.Header), cred.Value.ref})
	}
	slices.SortFunc(c.Credentials, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	slices.SortFunc(c.Success, func(a, b StatusRange) int { return cmp.Or(a.From-b.From, a.To-b.To) })
	return digest(upstreamDomain, c)
}

type canonicalConfig struct {
	People    []canonicalPerson
	Groups    []Group
	Logins    []Login
	Operators []string
	Callers   []canonicalCaller
	Upstreams []string // digests
	Rules     []Rule   // in order: it decides
	Slack     canonicalSlack
	Egress    Egress
}

// canonicalPerson leaves the key out, as canonicalCaller does.
type canonicalPerson struct {
	Name, Slack, Email string
	Accounts           []string
	Logins             [][2]string // issuer, subject
	Away               *approvals.Absence
}

// canonicalCaller leaves the key out: a new one is no new policy.
type canonicalCaller struct {
	Name                       string
	Owners, Upstreams, Origins []string
	CallbackSecrets            []string
}

type canonicalSlack struct {
	BotToken       string
	SigningSecrets []string
	APIURL         string
	TeamIDs        []string
	AppID, Channel string
	// What came later is left out where it is not written, so that the digest of a file
	// stays what it was.
	EnterpriseIDs         []string `json:",omitempty"`
	FallbackChannel       string   `json:",omitempty"`
	AppToken, ClientID    string   `json:",omitempty"`
	ClientSecret, Refresh string   `json:",omitempty"`
	EmailDomains          []string `json:",omitempty"` // none: addresses are not matched
	AllowExternal         bool     `json:",omitempty"`
	TellRequesters        string   `json:",omitempty"`
	ResponseHosts         []string `json:",omitempty"`
}

// canonical leaves the mode out: it is socket exactly with an app token.
func (s Slack) canonical() canonicalSlack {
	out := canonicalSlack{
		BotToken: s.BotToken.ref, SigningSecrets: refs(s.SigningSecrets), APIURL: s.APIURL,
		TeamIDs: sorted(s.TeamIDs), AppID: s.AppID, Channel: s.Channel, EnterpriseIDs: sorted(s.EnterpriseIDs),
		FallbackChannel: s.FallbackChannel, AppToken: s.AppToken.ref, ClientID: s.ClientID, ClientSecret: s.ClientSecret.ref,
		Refresh: s.RefreshToken.ref, EmailDomains: sorted(s.EmailDomains), AllowExternal: s.AllowExternal,
		TellRequesters: s.TellRequesters, ResponseHosts: sorted(s.ResponseHosts),
	}
	if out.TellRequesters == tellOutcomes {
		out.TellRequesters = ""
	}
	return out
}

func (c *Config) digest() string {
	out := canonicalConfig{
		People: c.canonicalPeople(), Rules: c.Rules, Egress: c.Egress, Logins: slices.Clone(c.logins), Operators: sorted(c.Operators),
		Slack: c.Slack.canonical(),
	}
	slices.SortFunc(out.Logins, func(a, b Login) int { return cmp.Compare(a.Issuer, b.Issuer) })
	for _, g := range c.Groups {
		out.Groups = append(out.Groups, Group{Name: g.Name, Members: sorted(g.Members), SlackUsergroup: g.SlackUsergroup, Hours: g.Hours})
	}
	slices.SortFunc(out.Groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, caller := range c.Callers {
		out.Callers = append(out.Callers, canonicalCaller{
			Name: caller.Name, Owners: sorted(caller.Owners), Upstreams: sorted(caller.Upstreams),
			Origins: sorted(caller.Origins), CallbackSecrets: refs(caller.CallbackSecrets),
		})
	}
	slices.SortFunc(out.Callers, func(a, b canonicalCaller) int { return cmp.Compare(a.Name, b.Name) })
	for _, u := range c.Upstreams {
		out.Upstreams = append(out.Upstreams, u.Digest)
	}
	slices.Sort(out.Upstreams)
	return digest(policyDomain, out)
}

func (c *Config) canonicalPeople() []canonicalPerson {
	logins := make(map[int][][2]string)
	for a, i := range c.byAccount {
		logins[i] = append(logins[i], [2]string{a.issuer, a.subject})
	}
	var out []canonicalPerson
	for i, p := range c.People {
		one := canonicalPerson{Name: p.Name, Slack: p.Slack, Email: p.Email, Accounts: sorted(p.Accounts), Logins: logins[i]}
		if absent, ok := c.directory.Away[p.Name]; ok {
			one.Away = &absent
		}
		slices.SortFunc(one.Logins, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
		out = append(out, one)
	}
	slices.SortFunc(out, func(a, b canonicalPerson) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func sorted(set []string) []string {
	out := slices.Clone(set)
	slices.Sort(out)
	return out
}

func refs(secrets []Secret) []string {
	var out []string
	for _, s := range secrets {
		out = append(out, s.ref)
	}
	return out
}
