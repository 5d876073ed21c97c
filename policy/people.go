package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/mail"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// maxAccounts bounds the accounts of one kind that a person has.
const maxAccounts = 10

func (d *decoder) person(n ast.Node) {
	p := personDraft{at: d.at(n)}
	slack := func(dst *word) field {
		return d.matching(dst, userPattern, "slack must be a member id, such as U0123ABCD, not a name")
	}
	d.object(n, "a person", fields{
		"name":       d.name(&p.name),
		"slack":      d.accounts("slack", &p.slack, slack),
		"email":      d.accounts("email", &p.email, d.email),
		"key_sha256": d.oneKey(&p.keys),
		"keys":       d.apiKeys(&p.keys, false),
		"login":      d.oneOrMore("login", maxLogins, d.account(&p)),
		"away":       d.away(&p),
	}, "name")
	if m, ok := n.(*ast.MappingNode); ok && !slices.ContainsFunc(identifying, func(f string) bool { return hasField(m, f) }) {
		d.problem(p.at, "", "a person needs slack, email, key_sha256, keys or login: nobody could tell who is deciding")
	}
	d.checkOneWay(n)
	d.checkKeyNames(p.keys)
	d.draft.people = append(d.draft.people, p)
}

// identifying are the fields by which a person can be told from others.
var identifying = []string{"slack", "email", "key_sha256", "keys", "login"}

// accounts decodes one text or a list of them, the first one first, without repetition.
func (d *decoder) accounts(what string, dst *[]word, form func(*word) field) field {
	return d.oneOrMore(what, maxAccounts, func(n ast.Node) {
		var w word
		form(&w)(n)
		switch {
		case w.text == "":
		case slices.ContainsFunc(*dst, func(before word) bool { return strings.EqualFold(before.text, w.text) }):
			d.problem(w.at, "", "%s has %q twice", what, shorten(w.text))
		default:
			*dst = append(*dst, w)
		}
	})
}

// account decodes a person's account at an identity provider.
func (d *decoder) account(p *personDraft) field {
	return func(n ast.Node) {
		a := accountDraft{at: d.at(n)}
		d.object(n, "login", fields{"issuer": d.word(&a.issuer), "subject": d.word(&a.subject)}, "issuer", "subject")
		p.logins = append(p.logins, a)
	}
}

func hasField(m *ast.MappingNode, name string) bool {
	return slices.ContainsFunc(m.Values, func(v *ast.MappingValueNode) bool {
		key, ok := v.Key.(*ast.StringNode)
		return ok && key.Value == name
	})
}

func (d *decoder) email(dst *word) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		if w.text == "" {
			return
		}
		if a, err := mail.ParseAddress(w.text); err != nil || a.Address != w.text {
			d.problem(w.at, "", "email is not an e-mail address")
			return
		}
		*dst = w
	}
}

func (d *decoder) group(n ast.Node) {
	g := groupDraft{at: d.at(n)}
	d.object(n, "a group", fields{
		"name":            d.name(&g.name),
		"members":         d.words("members", &g.members),
		"slack_usergroup": d.matching(&g.live, groupPattern, "slack_usergroup must be the id of a Slack user group, such as S0123ABCD, not its handle"),
		"hours":           d.hours(&g),
	}, "name")
	if m, ok := n.(*ast.MappingNode); ok {
		switch members, live := hasField(m, "members"), hasField(m, "slack_usergroup"); {
		case members && live:
			d.problem(g.at, "remove one of them", "a group has members or slack_usergroup, not both")
		case !members && !live:
			d.problem(g.at, "", `a group needs the field "members" or "slack_usergroup"`)
		}
	}
	d.draft.groups = append(d.draft.groups, g)
}

func (d *decoder) caller(n ast.Node) {
	c := callerDraft{at: d.at(n), limits: Limits{Open: defaultOpen, Waiting: defaultWaiting}}
	d.object(n, "a caller", fields{
		"name":       d.name(&c.name),
		"key_sha256": d.oneKey(&c.keys),
		"keys":       d.apiKeys(&c.keys, true),
		"login":      d.oneOrMore("login", maxCallerLogins, d.callerLogin(&c)),
		"limits":     d.limits(&c.limits),
		"owners":     d.words("owners", &c.owners),
		"upstreams":  d.words("upstreams", &c.upstreams),
		"callbacks":  d.callbacks(&c),
	}, "name", "upstreams")
	if m, ok := n.(*ast.MappingNode); ok && !hasField(m, "key_sha256") && !hasField(m, "keys") && !hasField(m, "login") {
		d.problem(c.at, "", "a caller needs key_sha256, keys or login: nobody could be it")
	}
	d.checkOneWay(n)
	d.checkKeyNames(c.keys)
	d.draft.callers = append(d.draft.callers, c)
}

// keyHash decodes the hash of an API key: itself, since it is not secret, or a reference.
func (d *decoder) keyHash(dst *[32]byte, at *pos) field {
	return func(n ast.Node) {
		scalar, ok := n.(ast.ScalarNode)
		if !ok {
			d.wrongType(n, d.label+" must be text")
			return
		}
		text := scalar.GetToken().Value
		if strings.HasPrefix(text, "env:") || strings.HasPrefix(text, "file:") {
			value, err := d.resolve(text)
			if err != nil {
				d.problem(d.at(n), "", "%s", err)
				return
			}
			text = strings.TrimSpace(value)
		}
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != sha256.Size {
			d.problem(d.at(n), hashHint(text), "%s must be the SHA-256 of the key: 64 hex digits", d.label)
			return
		}
		copy(dst[:], sum)
		*at = d.at(n)
	}
}

func hashHint(text string) string {
	if strings.HasPrefix(text, keyPrefix) || strings.HasPrefix(text, personPrefix) {
		return "this is the key itself; put its hash here and the key away"
	}
	return ""
}

// signingKey accepts a Standard Webhooks secret.
func signingKey(value string) error {
	encoded, ok := strings.CutPrefix(value, "whsec_")
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || strings.ContainsAny(value, "\r\n") || len(key) < 24 || len(key) > 64 {
		return errors.New("is not whsec_ followed by the base64 of 24 to 64 bytes")
	}
	return nil
}
