package policy

import (
	"encoding/base64"
	"fmt"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// maxDecisions bounds the decisions of one case.
const maxDecisions = 100

func (d *decoder) fixtureCase(f *Fixture) field {
	return func(n ast.Node) {
		c := Case{Line: d.at(n).line, At: FixtureTime}
		var name word
		d.object(n, "a case", fields{
			"name":       d.word(&name),
			"call":       d.fixtureCall(&c),
			"at":         d.moment(&c.At),
			"expect":     d.expect(&c),
			"decisions":  d.capped("decisions", maxDecisions, d.fixtureDecision(&c)),
			"usergroups": d.userGroups(&c.UserGroups),
		}, "name", "call", "expect")
		c.Name = name.text
		d.finishCase(&c)
		f.Cases = append(f.Cases, c)
	}
}

// userGroups decodes who is in Slack user groups.
func (d *decoder) userGroups(dst *map[string][]string) field {
	return func(n ast.Node) {
		*dst = make(map[string][]string)
		d.mapping(n, func(id string, at pos, value ast.Node) {
			if !groupPattern.MatchString(id) {
				d.problem(at, "", "usergroups are named by their id, such as S0123ABCD")
				return
			}
			d.label = "the people in " + id
			if people, ok := d.people(value); ok {
				(*dst)[id] = people
			}
		})
	}
}

// finishCase checks what concerns more than one field.
func (d *decoder) finishCase(c *Case) {
	var last time.Duration
	for i, one := range c.Decisions {
		if one.After < last {
			d.problem(one.at, "after is counted from the submission", "decisions must be in order: this one comes before the one above it")
		}
		last = max(last, one.After)
		if one.Person != "" {
			c.wants = append(c.wants, wantDecision(i, one))
		}
	}
}

func (d *decoder) fixtureCall(c *Case) field {
	return func(n ast.Node) {
		var caller, behalf, upstream, method, path word
		var encoded *[]byte
		d.object(n, "a call", fields{
			"caller": d.word(&caller), "on_behalf_of": d.word(&behalf), "upstream": d.word(&upstream),
			"method": d.oneOf(&method, Methods()), "path": d.word(&path), "query": d.fixtureQuery(&c.Call.Query),
			"headers": d.fixtureHeaders(&c.Call.Headers), "body": d.json(&c.Call.Body), "body_base64": d.bytes(&encoded),
		}, "caller", "upstream", "method", "path")
		if strings.ContainsAny(path.text, "?#") {
			d.problem(path.at, "put what follows the ? into query", "a path has neither a query nor a fragment")
		}
		c.Caller, c.OnBehalfOf = caller.text, behalf.text
		c.Call.Upstream, c.Call.Method, c.Call.Path = upstream.text, method.text, path.text
		d.finishBody(n, c, encoded)
	}
}

// finishBody makes the body what the API makes of it, which describes JSON as such.
func (d *decoder) finishBody(n ast.Node, c *Case, encoded *[]byte) {
	switch {
	case encoded != nil && c.Call.Body != nil:
		d.problem(d.at(n), "keep one of them", "the call has both body and body_base64")
	case encoded != nil:
		c.Call.Body = *encoded
	case c.Call.Body != nil:
		c.Call.Headers = describeJSON(c.Call.Headers)
	}
	slices.SortFunc(c.Call.Headers, func(a, b approvals.Header) int { return strings.Compare(a.Name, b.Name) })
}

const contentType = "Content-Type"

func describeJSON(headers []approvals.Header) []approvals.Header {
	if slices.ContainsFunc(headers, func(h approvals.Header) bool { return h.Name == contentType }) {
		return headers
	}
	return append(headers, approvals.Header{Name: contentType, Value: "application/json"})
}

// fixtureQuery decodes a raw query, or parameters by name as the API takes them.
func (d *decoder) fixtureQuery(dst *string) field {
	return func(n ast.Node) {
		if _, ok := n.(*ast.MappingNode); !ok {
			var w word
			d.word(&w)(n)
			*dst = strings.TrimPrefix(w.text, "?")
			return
		}
		var pairs []string
		d.mapping(n, func(name string, _ pos, value ast.Node) {
			d.each(value, func(item ast.Node) {
				if text, ok := d.textOf(item); ok {
					pairs = append(pairs, escapeQuery(name)+"="+escapeQuery(text))
				}
			})
		})
		slices.SortStableFunc(pairs, func(a, b string) int {
			a, _, _ = strings.Cut(a, "=")
			b, _, _ = strings.Cut(b, "=")
			return strings.Compare(a, b)
		})
		*dst = strings.Join(pairs, "&")
	}
}

func escapeQuery(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// each decodes a value, or every value of a list.
func (d *decoder) each(n ast.Node, item field) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		item(n)
		return
	}
	for _, value := range seq.Values {
		item(bare(value))
	}
}

// mapping decodes an object whose fields have names of the writer's choice.
func (d *decoder) mapping(n ast.Node, entry func(name string, at pos, value ast.Node)) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.wrongType(n, d.label+" must be a mapping")
		return
	}
	seen := make(map[string]bool)
	for _, e := range m.Values {
		name, at, ok := d.key(e)
		switch {
		case !ok:
		case seen[name]:
			d.problem(at, "", "duplicate field %q", shorten(name))
		default:
			seen[name] = true
			entry(name, at, bare(e.Value))
		}
	}
}

func (d *decoder) fixtureHeaders(dst *[]approvals.Header) field {
	return func(n ast.Node) {
		seen := make(map[string]bool)
		d.mapping(n, func(name string, at pos, value ast.Node) {
			name = textproto.CanonicalMIMEHeaderKey(name)
			if seen[name] {
				d.problem(at, "", "the header %s is given twice; names are compared without case", shorten(name))
			}
			seen[name] = true
			if text, ok := d.textOf(value); ok {
				*dst = append(*dst, approvals.Header{Name: name, Value: text})
			}
		})
	}
}

func (d *decoder) bytes(dst **[]byte) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		if !ok {
			return
		}
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			d.problem(d.at(n), "", "%s must be standard base64 with padding", d.label)
		}
		*dst = &raw
	}
}

// moment decodes a time.
func (d *decoder) moment(dst *time.Time) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		if !ok {
			return
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			d.problem(d.at(n), `write "2026-11-23T12:00:00Z"`, "%s must be a time as in RFC 3339", d.label)
			return
		}
		*dst = at.UTC()
	}
}

// oneOf decodes one of several words.
func (d *decoder) oneOf(dst *word, known []string) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		if w.text != "" && !slices.Contains(known, w.text) {
			hint := didYouMean(w.text, known)
			if hint == "" && len(known) <= 10 {
				hint = "it is one of " + strings.Join(known, ", ")
			}
			d.problem(w.at, hint, "%s cannot be %q", d.label, shorten(w.text))
			return
		}
		*dst = w
	}
}

func (d *decoder) fixtureDecision(c *Case) field {
	return func(n ast.Node) {
		out := CaseDecision{at: d.at(n)}
		var person, verdict, refused word
		d.object(n, "a decision", fields{
			"person":  d.word(&person),
			"verdict": d.oneOf(&verdict, verdicts()),
			"comment": func(n ast.Node) { out.Comment, _ = d.textOf(n) },
			"after":   d.duration(&out.After, 0, maxExpires),
			"refused": d.oneOf(&refused, refusals()),
		}, "person", "verdict")
		out.Person, out.Verdict, out.Refused = person.text, approvals.Verdict(verdict.text), approvals.Code(refused.text)
		if len(out.Comment) > approvals.MaxComment {
			d.problem(out.at, "", "the comment is longer than %d bytes", approvals.MaxComment)
		}
		c.Decisions = append(c.Decisions, out)
	}
}

func verdicts() []string {
	var out []string
	for _, v := range approvals.Verdicts() {
		out = append(out, string(v))
	}
	return out
}

// refusals lists the codes with which a decision can be refused in a case.
func refusals() []string {
	var out []string
	for _, code := range []approvals.Code{
		approvals.CodeNotApprover, approvals.CodeSelfApproval, approvals.CodeAway, approvals.CodeAlreadyDecided,
		approvals.CodeNotNeeded, approvals.CodeNeededLater, approvals.CodeCommentRequired, approvals.CodeConflict,
		approvals.CodeAlreadyFinal, approvals.CodeExpired,
	} {
		out = append(out, string(code))
	}
	return out
}

// field names a part of an expectation.
func stageField(i int, name string) string { return fmt.Sprintf("stages[%d].%s", i, name) }
