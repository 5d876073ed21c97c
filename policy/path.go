package policy

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// template is a path template, taken apart. The zero template matches any path.
type template struct {
	set  bool
	segs []segment
	rest bool // the last segment stands for one or more
}

// segment is a literal, or a variable with a name.
type segment struct {
	text     string
	name     string
	variable bool
}

var (
	variablePattern = regexp.MustCompile(`^\{([a-z_][a-z0-9_]*)(\.\.\.)?\}$`)
	errTemplate     = errors.New(`a path is "/", literals and {name} between slashes, and {name...} at the end`)
)

// parseTemplate reads a template such as /customers/{id} or /files/{path...}.
func parseTemplate(text string) (template, error) {
	if !strings.HasPrefix(text, "/") {
		return template{}, errors.New("a path must begin with a slash")
	}
	t := template{set: true}
	parts, seen := strings.Split(text[1:], "/"), make(map[string]bool)
	for i, part := range parts {
		if m := variablePattern.FindStringSubmatch(part); m != nil {
			if seen[m[1]] {
				return template{}, errors.New("a path must not use a name twice")
			}
			seen[m[1]] = true
			if t.rest = m[2] != ""; t.rest && i < len(parts)-1 {
				return template{}, errors.New("{name...} can only be the last part of a path")
			}
			t.segs = append(t.segs, segment{name: m[1], variable: true})
			continue
		}
		literal, ok := unescape(part, i == len(parts)-1)
		if !ok || strings.ContainsAny(part, "{}?#*") {
			return template{}, errTemplate
		}
		t.segs = append(t.segs, segment{text: literal})
	}
	return t, nil
}

// matches reports whether the template matches a path taken apart by segments.
func (t template) matches(path []string) bool {
	if !t.set {
		return true
	}
	if len(path) < len(t.segs) || len(path) > len(t.segs) && !t.rest {
		return false
	}
	for i, s := range t.segs {
		switch {
		case !s.variable && s.text != path[i]:
			return false
		case s.variable && path[i] == "" && (!t.rest || i < len(t.segs)-1):
			return false
		}
	}
	return true
}

// variables lists the names of a template's variables, in order.
func (t template) variables() []string {
	var out []string
	for _, s := range t.segs {
		if s.variable {
			out = append(out, s.name)
		}
	}
	return out
}

// values are what the variables stand for in a path that the template matches, unescaped.
// In one that stands for several segments, a slash or percent sign inside a segment stays
// escaped, so that it never looks like the end of one.
func (t template) values(path []string) map[string]string {
	out := make(map[string]string, len(t.segs))
	for i, s := range t.segs {
		switch {
		case !s.variable || i >= len(path):
		case t.rest && i == len(t.segs)-1:
			out[s.name] = spell(path[i:])
		default:
			out[s.name] = path[i]
		}
	}
	return out
}

var inSegment = strings.NewReplacer("%", "%25", "/", "%2F")

// spell puts segments together in the one spelling that conditions see: everything is
// unescaped but a slash or percent sign inside a segment.
func spell(path []string) string {
	if !slices.ContainsFunc(path, func(s string) bool { return strings.ContainsAny(s, "%/") }) {
		return strings.Join(path, "/")
	}
	out := make([]string, len(path))
	for i, s := range path {
		out[i] = inSegment.Replace(s)
	}
	return strings.Join(out, "/")
}

// covers reports whether every path that other matches is matched by t as well.
func (t template) covers(other template) bool {
	switch {
	case !t.set:
		return true
	case !other.set:
		return len(t.segs) == 1 && t.rest
	case other.rest && !t.rest, len(other.segs) < len(t.segs), len(other.segs) > len(t.segs) && !t.rest:
		return false
	}
	for i, s := range t.segs {
		o, last := other.segs[i], t.rest && i == len(t.segs)-1
		switch {
		case last:
			return true
		case !s.variable && (o.variable || o.text != s.text):
			return false
		case s.variable && !o.variable && o.text == "":
			return false
		}
	}
	return true
}

// segments takes an escaped path apart. False means that servers could read it in two
// ways, so that no rule can be trusted to have seen what they will.
func segments(escaped string) ([]string, bool) {
	if !strings.HasPrefix(escaped, "/") || strings.ContainsAny(escaped, "?#\\") {
		return nil, false
	}
	parts := strings.Split(escaped[1:], "/")
	for i, part := range parts {
		text, ok := unescape(part, i == len(parts)-1)
		if !ok {
			return nil, false
		}
		parts[i] = text
	}
	return parts, true
}

// unescape decodes one segment. Only the last may be empty; none may be or hide "." or
// "..", nor hold a backslash or a control character.
func unescape(part string, last bool) (string, bool) {
	text := part
	if strings.Contains(part, "%") {
		var err error
		if text, err = url.PathUnescape(part); err != nil {
			return "", false
		}
	}
	if text == "" {
		return "", last
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f || text[i] == '\\' {
			return "", false
		}
	}
	if text[0] != '.' && !strings.Contains(text, "/") {
		return text, true
	}
	for piece := range strings.SplitSeq(text, "/") {
		if piece == "" || piece == "." || piece == ".." {
			return "", false
		}
	}
	return text, true
}
