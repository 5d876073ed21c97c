package policy

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
)

const (
	// maxCallerLogins bounds the kinds of token that count as one caller, maxClaims what is
	// asked of each.
	maxCallerLogins = 20
	maxClaims       = 20
	maxClaimName    = 200
)

// checkedClaims are those that are judged for every token, or have a field of their own.
var checkedClaims = []string{"iss", "sub", "aud", "azp", "exp", "nbf", "iat"}

type callerLoginDraft struct {
	CallerLogin
	at              pos
	issuer, subject word
}

// callerLogin decodes what a token must say to count as a caller's.
func (d *decoder) callerLogin(c *callerDraft) field {
	return func(n ast.Node) {
		l := callerLoginDraft{at: d.at(n)}
		d.object(n, "login", fields{
			"issuer":  d.word(&l.issuer),
			"subject": d.word(&l.subject),
			"claims":  d.claims(&l),
		}, "issuer")
		l.Issuer, l.Subject = l.issuer.text, l.subject.text
		if m, ok := n.(*ast.MappingNode); ok && !hasField(m, "subject") && !hasField(m, "claims") {
			d.problem(l.at, "", "login needs subject or claims: everybody with a token of the issuer would be this caller")
		}
		c.logins = append(c.logins, l)
	}
}

func (d *decoder) claims(l *callerLoginDraft) field {
	return func(n ast.Node) {
		m, ok := n.(*ast.MappingNode)
		switch {
		case !ok:
			d.wrongType(n, "claims must be a mapping of names to texts")
			return
		case len(m.Values) == 0:
			d.problem(d.at(n), "remove the field or give it a value", "claims is empty")
		case len(m.Values) > maxClaims:
			d.problem(d.at(n), "", "claims has %d items, at most %d are allowed", len(m.Values), maxClaims)
			return
		}
		l.Claims = make(map[string]string, len(m.Values))
		for _, entry := range m.Values {
			d.claim(l, entry)
		}
	}
}

func (d *decoder) claim(l *callerLoginDraft, entry *ast.MappingValueNode) {
	name, at, ok := d.key(entry)
	if !ok {
		return
	}
	var value word
	d.label = shorten(name)
	switch n := bare(entry.Value); {
	case len(name) > maxClaimName:
		d.problem(at, "", "the name of a claim is longer than %d bytes", maxClaimName)
	case slices.Contains(checkedClaims, name):
		d.problem(at, "", "the claim %q is not compared here: iss, aud and the times are checked anyway, and sub is the field subject", name)
	case l.Claims[name] != "":
		d.problem(at, "", "claims has %q twice", shorten(name))
	case isEmpty(n):
		d.problem(at, "remove the field or give it a value", "the field %q is empty", shorten(name))
	default:
		if d.word(&value)(n); value.text != "" {
			l.Claims[name] = value.text
		}
	}
}

// checkCallerLogins reports tokens that would certainly count as two: those of another
// caller, or of a person. Whether two callers ask for different claims that one token can
// have at the same time is not known here; such a token is nobody's.
func (d *decoder) checkCallerLogins(issuers []string) {
	type known struct {
		callerLoginDraft
		caller string
	}
	var before []known
	for _, c := range d.draft.callers {
		for _, l := range c.logins {
			d.checkKnownIssuer(l.issuer, issuers)
			for _, b := range before {
				if b.caller != c.name.text && (l.covers(b.CallerLogin) || b.covers(l.CallerLogin)) {
					d.problem(l.at, "", "a token could count as both the caller %q (%s) and %q", b.caller, b.at.from(l.at), c.name.text)
				}
			}
			before = append(before, known{l, c.name.text})
			if person, taken := d.personOf(l); taken {
				d.problem(l.subject.at, "", "this is the login of the person %q", person)
			}
		}
	}
}

func (d *decoder) personOf(l callerLoginDraft) (string, bool) {
	for _, p := range d.draft.people {
		for _, a := range p.logins {
			if l.Subject != "" && a.issuer.text == l.Issuer && a.subject.text == l.Subject {
				return p.name.text, true
			}
		}
	}
	return "", false
}

// covers reports whether every token that the other one takes is taken by this one too.
func (l CallerLogin) covers(other CallerLogin) bool {
	if l.Issuer != other.Issuer || l.Subject != "" && l.Subject != other.Subject {
		return false
	}
	for name, want := range l.Claims {
		if other.Claims[name] != want {
			return false
		}
	}
	return true
}

// takes reports whether a token counts. A claim is compared if it is a text, or a list that
// contains it as one; what is neither is no match.
func (l CallerLogin) takes(issuer, subject string, claims map[string]any) bool {
	if l.Issuer != issuer || l.Subject != "" && l.Subject != subject || l.Subject == "" && len(l.Claims) == 0 {
		return false
	}
	for name, want := range l.Claims {
		switch got := claims[name].(type) {
		case string:
			if got != want {
				return false
			}
		case []any:
			if !slices.Contains(got, any(want)) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// CallerByToken finds the caller that a token of an identity provider counts as: by its
// issuer, its subject and its further claims, as encoding/json reads them. Nobody when it
// would count as more than one.
func (c *Config) CallerByToken(issuer, subject string, claims map[string]any) (Caller, bool) {
	found := -1
	for i, caller := range c.Callers {
		if !slices.ContainsFunc(caller.Logins, func(l CallerLogin) bool { return l.takes(issuer, subject, claims) }) {
			continue
		}
		if found >= 0 {
			return Caller{}, false
		}
		found = i
	}
	if found < 0 {
		return Caller{}, false
	}
	return c.Callers[found], true
}
