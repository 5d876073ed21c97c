package slack

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"countersign/approvals"
)

// hiddenValue stands where a value is not shown. How many there are is said on the card, so
// that a caller who writes these words pretends nothing.
const hiddenValue = "[redacted]"

// redaction is what a plan's Redact says, taken apart. Names match whatever their case.
type redaction struct {
	headers, query []string
	// body holds paths of member names into a JSON body. An empty path is all of it.
	body [][]string
	// unclear is set by a rule that is not understood: then nothing it might mean is shown.
	unclear bool
}

// newRedaction reads rules such as "headers.x-token", "query.token", "body.users.ssn" or
// "body". A "*" stands for every name; list indexes may be left out.
func newRedaction(rules []string) redaction {
	var r redaction
	for _, rule := range rules {
		root, rest, _ := strings.Cut(rule, ".")
		if i := strings.IndexByte(root, '['); i >= 0 {
			root, rest = root[:i], root[i:]+"."+rest
		}
		switch strings.ToLower(root) {
		case "headers", "header":
			r.headers = append(r.headers, orAll(rest))
		case "query":
			r.query = append(r.query, orAll(rest))
		case "body":
			r.body = append(r.body, path(rest))
		default:
			r.unclear = true
		}
	}
	return r
}

func orAll(name string) string {
	if name == "" {
		return "*"
	}
	return name
}

// path takes "users[0].ssn", with or without "$." before it, apart into users, 0, ssn.
func path(s string) []string {
	steps := strings.FieldsFunc(s, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	if len(steps) > 0 && steps[0] == "$" {
		return steps[1:]
	}
	return steps
}

// sensitive are the words that make a header's value a secret whatever the plan says.
var sensitive = []string{"authorization", "cookie", "token", "secret", "key", "password", "credential"}

func (r redaction) hidesHeader(name string) bool {
	low := strings.ToLower(name)
	return r.unclear || slices.ContainsFunc(sensitive, func(word string) bool { return strings.Contains(low, word) }) ||
		slices.ContainsFunc(r.headers, func(rule string) bool { return rule == "*" || strings.EqualFold(rule, name) })
}

// part is a run of bytes that is either shown or hidden.
type part struct {
	text   string
	hidden bool
}

// queryParts splits a raw query. A name that cannot be decoded hides its value, since
// nobody can say that no rule means it.
func (r redaction) queryParts(raw string) []part {
	if r.unclear && raw != "" {
		return []part{{raw, true}}
	}
	return pairs(raw, r.query)
}

func pairs(raw string, names []string) []part {
	if len(names) == 0 {
		return []part{{raw, false}}
	}
	var out []part
	for raw != "" {
		end := strings.IndexAny(raw, "&;") + 1
		if end == 0 {
			end = len(raw)
		}
		pair := raw[:end]
		raw = raw[end:]
		value := strings.TrimRight(pair, "&;")
		name, _, found := strings.Cut(value, "=")
		if !found || !matchesName(name, names) {
			out = append(out, part{pair, false})
			continue
		}
		out = append(out, part{pair[:len(name)+1], false}, part{value[len(name)+1:], true}, part{pair[len(value):], false})
	}
	return out
}

// matchesName also sees through the brackets that some frameworks read as lists and maps.
func matchesName(raw string, names []string) bool {
	name, err := url.QueryUnescape(raw)
	if err != nil {
		return true
	}
	base, _, _ := strings.Cut(name, "[")
	return slices.ContainsFunc(names, func(rule string) bool {
		return rule == "*" || strings.EqualFold(rule, name) || strings.EqualFold(rule, base)
	})
}

// bodyParts splits a body. It is false when a rule means the body but the body cannot be
// read well enough to tell what: then all of it is hidden.
func (r redaction) bodyParts(call approvals.Call) ([]part, bool) {
	body := string(call.Body)
	switch {
	case body == "" || (len(r.body) == 0 && !r.unclear):
		return []part{{body, false}}, true
	case r.unclear:
		return []part{{body, true}}, false
	case slices.ContainsFunc(r.body, func(p []string) bool { return len(p) == 0 }):
		return []part{{body, true}}, true
	}
	if spans, ok := jsonSpans(call.Body, r.body); ok {
		return cutSpans(body, spans), true
	}
	if !json.Valid(call.Body) && isForm(call) {
		return pairs(body, firsts(r.body)), true
	}
	return []part{{body, true}}, false
}

func isForm(call approvals.Call) bool {
	n := 0
	for _, h := range call.Headers {
		if strings.EqualFold(h.Name, "Content-Type") {
			kind, _, _ := strings.Cut(h.Value, ";")
			if n++; !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
				return false
			}
		}
	}
	return n == 1
}

// firsts are the names that forms know of paths: the whole of it in dots, and its start.
func firsts(paths [][]string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, p[0], strings.Join(p, "."))
	}
	return out
}

type span struct{ from, to int }

func cutSpans(body string, spans []span) []part {
	var out []part
	at := 0
	for _, s := range spans {
		out = append(out, part{body[at:s.from], false}, part{body[s.from:s.to], true})
		at = s.to
	}
	return append(out, part{body[at:], false})
}
