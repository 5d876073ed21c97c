package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
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
	// What came later is left out where it is not written. How many calls are made, and when
	// none is, does not count: it is about the upstream's health, not about a call.
	Prefixes                        [][2]string `json:",omitempty"` // header, prefix
	CA, Certificate, CertificateKey string      `json:",omitempty"`
	Proxy, ProxyAuthorization       string      `json:",omitempty"`
}

func (u Upstream) digest() string {
	c := canonicalUpstream{
		Name: u.Name, BaseURL: u.BaseURL.String(), Methods: sorted(u.Methods), Timeout: u.Timeout,
		Idempotent: u.Idempotent, MaxResponse: u.MaxResponseBytes, Success: slices.Clone(u.Success),
		RequestHeaders: sorted(u.RequestHeaders), ResponseHeaders: sorted(u.ResponseHeaders),
		CA: u.CA.ref, Certificate: u.Certificate.ref, CertificateKey: u.CertificateKey.ref, ProxyAuthorization: u.ProxyAuthorization.ref,
	}
	if u.Proxy != nil {
		c.Proxy = u.Proxy.String()
	}
	c.Credentials, c.Prefixes = canonicalHeaders(u.Credentials)
	slices.SortFunc(c.Success, func(a, b StatusRange) int { return cmp.Or(a.From-b.From, a.To-b.To) })
	return digest(upstreamDomain, c)
}

// canonicalHeaders are the references by their headers, and what stands before some.
func canonicalHeaders(credentials []Credential) (values, prefixes [][2]string) {
	for _, c := range credentials {
		name := strings.ToLower(c.Header)
		values = append(values, [2]string{name, c.Value.ref})
		if c.Prefix != "" {
			prefixes = append(prefixes, [2]string{name, c.Prefix})
		}
	}
	for _, list := range [][][2]string{values, prefixes} {
		slices.SortFunc(list, func(a, b [2]string) int { return cmp.Compare(a[0], b[0]) })
	}
	return values, prefixes
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
	// What came later is left out where it is not written.
	Auditors []string `json:",omitempty"`
	Signing  []string `json:",omitempty"`
}

// canonicalPerson leaves the key out, as canonicalCaller does.
type canonicalPerson struct {
	Name, Slack, Email string
	Accounts           []string
	Logins             [][2]string // issuer, subject
	Away               *approvals.Absence
}

// canonicalCaller leaves keys and limits out: a new one is no new policy. So is the day on
// which a secret stops to sign.
type canonicalCaller struct {
	Name                       string
	Owners, Upstreams, Origins []string
	CallbackSecrets            []string
	// What came later is left out where it is not written.
	Logins       []CallerLogin       `json:",omitempty"`
	Endpoints    []canonicalEndpoint `json:",omitempty"` // those with something of their own
	AlertChannel string              `json:",omitempty"`
}

// canonicalEndpoint is where and how an endpoint is told, without how much at a time.
type canonicalEndpoint struct {
	Origin                          string
	Verify, Payload                 string          `json:",omitempty"`
	Waived, Ed25519                 bool            `json:",omitempty"`
	Schedule                        []time.Duration `json:",omitempty"`
	Timeout, DisableAfter           time.Duration   `json:",omitempty"` // zero: the default
	Headers, Prefixes               [][2]string     `json:",omitempty"`
	CA, Certificate, CertificateKey string          `json:",omitempty"`
}

func (e Endpoint) canonical() canonicalEndpoint {
	out := canonicalEndpoint{
		Origin: e.Origin, Verify: e.Verify, Payload: e.Payload, Waived: e.Waived, Ed25519: e.Ed25519, Schedule: e.Schedule,
		CA: e.CA.ref, Certificate: e.Certificate.ref, CertificateKey: e.CertificateKey.ref,
	}
	if e.Timeout != defaultAttempt {
		out.Timeout = e.Timeout
	}
	if e.DisableAfter != defaultDisable {
		out.DisableAfter = e.DisableAfter
	}
	out.Headers, out.Prefixes = canonicalHeaders(e.Headers)
	return out
}

// canonical leaves endpoints out that are only an origin.
func (c Caller) canonical() canonicalCaller {
	out := canonicalCaller{
		Name: c.Name, Owners: sorted(c.Owners), Upstreams: sorted(c.Upstreams), Origins: sorted(c.Origins), AlertChannel: c.AlertChannel,
		Logins: slices.Clone(c.Logins),
	}
	for _, s := range c.CallbackSecrets {
		out.CallbackSecrets = append(out.CallbackSecrets, s.ref)
	}
	slices.SortFunc(out.Logins, CallerLogin.compare)
	for _, e := range c.Endpoints {
		if one := e.canonical(); !reflect.DeepEqual(one, canonicalEndpoint{Origin: e.Origin}) {
			out.Endpoints = append(out.Endpoints, one)
		}
	}
	slices.SortFunc(out.Endpoints, func(a, b canonicalEndpoint) int { return cmp.Compare(a.Origin, b.Origin) })
	return out
}

func (l CallerLogin) compare(other CallerLogin) int {
	claims := func(l CallerLogin) string {
		text, err := json.Marshal(l.Claims) // in the order of their names
		if err != nil {
			panic(err) // texts
		}
		return string(text)
	}
	return cmp.Or(cmp.Compare(l.Issuer, other.Issuer), cmp.Compare(l.Subject, other.Subject), cmp.Compare(claims(l), claims(other)))
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
		Slack: c.Slack.canonical(), Auditors: sorted(c.Auditors), Signing: refs(c.Signing.Keys),
	}
	slices.SortFunc(out.Logins, func(a, b Login) int { return cmp.Compare(a.Issuer, b.Issuer) })
	for _, g := range c.Groups {
		out.Groups = append(out.Groups, Group{Name: g.Name, Members: sorted(g.Members), SlackUsergroup: g.SlackUsergroup, Hours: g.Hours})
	}
	slices.SortFunc(out.Groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	for _, caller := range c.Callers {
		out.Callers = append(out.Callers, caller.canonical())
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
