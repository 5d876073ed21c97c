package policy

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// Login is an identity provider whose tokens people may log in with.
type Login struct {
	// Issuer is the exact issuer of the tokens, an https URL; on this machine http will do.
	// Audience is who they must be for.
	Issuer, Audience string
	// Email says that a verified e-mail address in a token identifies a person for whom no
	// subject of this issuer is configured. Default false.
	Email bool
}

// account is one human being's at an identity provider.
type account struct{ issuer, subject string }

// maxLogins bounds the identity providers, and a person's accounts there.
const maxLogins = 5

func (d *decoder) login(n ast.Node) {
	var l loginDraft
	var audience word
	d.object(n, "a login", fields{
		"issuer":   d.word(&l.issuer),
		"audience": d.word(&audience),
		"email":    d.boolean(&l.Email),
	}, "issuer", "audience")
	l.Issuer, l.Audience = l.issuer.text, audience.text
	if l.Issuer != "" {
		d.checkIssuer(l.issuer)
	}
	d.draft.logins = append(d.draft.logins, l)
}

func (d *decoder) checkIssuer(w word) {
	if err := checkBase(w.text); err != nil {
		d.problem(w.at, "", "issuer %s", err)
		return
	}
	if u, err := url.Parse(w.text); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		d.problem(w.at, "", "issuer must be https unless it is this machine")
	}
}

// checkLogins compares the identity providers with each other and with what people name.
func (d *decoder) checkLogins() {
	issuers, names := registry{}, []string{}
	for i, l := range d.draft.logins {
		d.add(issuers, "the issuer", l.issuer)
		names = append(names, l.Issuer)
		if i == maxLogins {
			d.problem(l.issuer.at, "", "at most %d logins are allowed", maxLogins)
		}
	}
	for _, p := range d.draft.people {
		for _, a := range p.logins {
			d.checkKnownIssuer(a.issuer, names)
		}
	}
	d.checkCallerLogins(names)
}

func (d *decoder) checkKnownIssuer(w word, issuers []string) {
	if w.text != "" && !slices.Contains(issuers, w.text) {
		d.problem(w.at, orElse(didYouMean(w.text, issuers), "list it under logins"), "unknown issuer %q", shorten(w.text))
	}
}

func orElse(hint, other string) string {
	if hint == "" {
		return other
	}
	return hint
}

// PersonByKey finds the person who holds a personal API key that has not expired. A caller's
// key is nobody's here, whatever the hash.
func (c *Config) PersonByKey(key string, now time.Time) (approvals.Person, bool) {
	holder, ok := c.byPersonKey.find(key, keyPrefix)
	if !ok || !holder.key.live(now) {
		return approvals.Person{}, false
	}
	return c.People[holder.index], true
}

// PersonByLogin finds the person with a login: an issuer and the subject there. Where the
// configuration says so for this issuer, an e-mail address will do as well, but never for
// somebody whose subject is known: addresses are given to others. Email must be one that
// the provider vouches for, "" for none.
func (c *Config) PersonByLogin(issuer, subject, email string) (approvals.Person, bool) {
	if i, ok := c.byAccount[account{issuer, subject}]; ok {
		return c.People[i], true
	}
	trusted := slices.ContainsFunc(c.logins, func(l Login) bool { return l.Issuer == issuer && l.Email })
	i, ok := c.byEmail[strings.ToLower(email)]
	if !ok || !trusted || email == "" || c.pinned[c.People[i].Name][issuer] {
		return approvals.Person{}, false
	}
	return c.People[i], true
}

// Operator reports whether a person, by name, may resolve what is in doubt.
func (c *Config) Operator(person string) bool { return c.directory.Members(c.Operators)[person] }

// Auditor reports whether a person, by name, may read everything.
func (c *Config) Auditor(person string) bool { return c.directory.Members(c.Auditors)[person] }

// Logins lists the identity providers. It must not be changed.
func (c *Config) Logins() []Login { return c.logins }

// identities notes by what people are found.
func (c *Config) identities(people []personDraft) {
	c.byPersonKey, c.byAccount = make(keyIndex), make(map[account]int)
	c.byEmail, c.pinned = make(map[string]int), make(map[string]map[string]bool)
	for i, p := range people {
		for _, k := range p.keys {
			c.byPersonKey.add(k.CallerKey, i)
		}
		for _, w := range p.email {
			c.byEmail[strings.ToLower(w.text)] = i
		}
		c.pinned[p.name.text] = make(map[string]bool, len(p.logins))
		for _, a := range p.logins {
			c.byAccount[account{a.issuer.text, a.subject.text}] = i
			c.pinned[p.name.text][a.issuer.text] = true
		}
	}
}
