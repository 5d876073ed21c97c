package policy

import (
	"regexp"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// draft is the configuration as written, with the places of everything that is judged once
// all files are read.
type draft struct {
	server    Server
	listen    word
	publicURL word
	database  Database
	slack     slackDraft
	egress    Egress
	callers   []callerDraft
	people    []personDraft
	groups    []groupDraft
	upstreams []upstreamDraft
	rules     []ruleDraft
	logins    []loginDraft
	operators []word                // people and groups
	auditors  []word                // likewise
	compiled  map[string]*condition // by text

	encryption Encryption
	signing    Signing
}

type slackDraft struct {
	Slack
	at      pos
	present bool
	api     word
	app     word
	channel word
	teams   []word

	enterprises, domains, hosts []word
	fallback, client            word
	mode, tell                  word
	matchAt                     pos
	appTokenAt, signedAt        pos // zero when there is none
	rotation                    []pos
}

type callerDraft struct {
	at        pos
	name      word
	keys      []keyDraft
	logins    []callerLoginDraft
	limits    Limits
	owners    []word
	upstreams []word
	endpoints []endpointDraft
	secrets   []CallbackSecret
	alert     word
}

type personDraft struct {
	at   pos
	name word
	// slack and email list the first one first.
	slack  []word
	email  []word
	keys   []keyDraft
	logins []accountDraft
	away   *awayDraft
}

// accountDraft is a person's account at an identity provider.
type accountDraft struct {
	at              pos
	issuer, subject word
}

type awayDraft struct {
	until    time.Time
	delegate word
}

type loginDraft struct {
	Login
	issuer word
}

type groupDraft struct {
	at      pos
	name    word
	members []word
	live    word // the id of a Slack user group
	hours   *Hours
}

type upstreamDraft struct {
	Upstream
	at   pos
	name word
	base word
	// proxyShown is where proxy_authorization stands; zero when it does not.
	proxyShown pos
}

type ruleDraft struct {
	Rule
	at       pos
	name     word
	upstream word
	path     word
	methods  []word
	callers  []word
	action   word
	stages   []stageDraft
	glass    []word
	glassAt  pos // zero when the rule has no break_glass
	// Zero when the rule does not have the field.
	successAt, keyAt, sensitiveAt pos
	// broken is set when something about the rule has been reported, so that what follows
	// from that is not reported as well.
	broken bool
	route  template
	when   whenDraft
}

type stageDraft struct {
	at       pos
	name     word
	need     []setDraft
	denials  int
	denialAt pos
	comment  approvals.CommentRule
	remind   remindDraft
	tiers    []tierDraft
	channel  word
	fallback word
	direct   bool
}

type remindDraft struct {
	at      pos
	every   time.Duration
	backoff int
	most    time.Duration
	mostAt  pos
}

type setDraft struct {
	at          pos
	from        []word
	approvals   int
	approvalsAt pos
}

type tierDraft struct {
	at       pos
	after    time.Duration
	afterAt  pos
	to       []word
	need     []setDraft
	mode     approvals.Mode
	offHours bool
}

// asked lists whom a tier names, in whichever way.
func (t tierDraft) asked() []word {
	out := slices.Clone(t.to)
	for _, set := range t.need {
		out = append(out, set.from...)
	}
	return out
}

// top decodes the sections of one file.
func (d *decoder) top(n ast.Node) {
	if m, ok := n.(*ast.MappingNode); ok {
		for _, entry := range m.Values {
			d.sections[entry.Key.GetToken().Value] = true
		}
	}
	d.object(n, "the configuration", fields{
		"server":     d.once("server", d.server),
		"database":   d.once("database", d.database),
		"encryption": d.once("encryption", d.encryption),
		"signing":    d.once("signing", d.signing),
		"slack":      d.once("slack", d.slack),
		"egress":     d.once("egress", d.egress),
		"callers":    d.list("callers", d.caller),
		"people":     d.list("people", d.person),
		"groups":     d.list("groups", d.group),
		"upstreams":  d.list("upstreams", d.upstream),
		"rules":      d.list("rules", d.rule),
		"logins":     d.list("logins", d.login),
		"operators":  d.words("operators", &d.draft.operators),
		"auditors":   d.words("auditors", &d.draft.auditors),
	})
}

// once refuses a section that another file has already.
func (d *decoder) once(section string, decode field) field {
	return func(n ast.Node) {
		if before, ok := d.first[section]; ok {
			d.problem(d.at(n), "", "the section %q is already in %s, line %d", section, before.src.name, before.line)
			return
		}
		d.first[section] = d.at(n)
		decode(n)
	}
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// name decodes a name that others can refer to.
func (d *decoder) name(dst *word) field {
	return d.matching(dst, namePattern, "a name is 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit")
}

// matching decodes a word of a certain form.
func (d *decoder) matching(dst *word, form *regexp.Regexp, rule string) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		if w.text != "" && !form.MatchString(w.text) {
			d.problem(w.at, "", "%s", rule)
			w.text = ""
		}
		*dst = w
	}
}

func texts(words []word) []string {
	if len(words) == 0 {
		return nil
	}
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.text
	}
	return out
}
