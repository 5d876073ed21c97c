package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decoder collects what stands in the files, and everything that is wrong with it. It
// never stops at a problem.
type decoder struct {
	getenv   func(string) string
	src      *source // the file being decoded
	label    string  // the field being decoded
	problems Problems
	draft    draft
	// sections holds those that any file has, first where those that may stand only once were.
	sections map[string]bool
	first    map[string]pos
	// whole is where problems of the configuration as a whole are reported.
	whole pos
	// unread is set when a file could not be taken apart, so that nothing can be said about
	// what is missing.
	unread bool
	// blind is set when references are not looked up, so that nothing is said about what is
	// behind them.
	blind bool
}

// word is a text with its place. Empty text means that there was none, or a bad one that
// has been reported.
type word struct {
	text string
	at   pos
}

// field decodes the value of one field into what it closes over.
type field func(ast.Node)

// fields is what an object may contain.
type fields map[string]field

func (d *decoder) problem(at pos, hint, format string, args ...any) {
	message, _ := blankPatterns(fmt.Sprintf(format, args...), 0)
	p := Problem{Message: message, Hint: hint}
	if at.src != nil {
		p.File, p.Line, p.Column, p.Excerpt = at.src.name, at.line, at.col, at.excerpt()
	}
	d.problems = append(d.problems, p)
}

// at returns where a node begins.
func (d *decoder) at(n ast.Node) pos {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		n = m.Values[0].Key
	}
	tk := n.GetToken()
	if tk == nil || tk.Position == nil {
		return pos{src: d.src, line: 1, col: 1}
	}
	return pos{src: d.src, line: tk.Position.Line, col: tk.Position.Column}
}

// object decodes a mapping with exactly these fields. What names it in errors, with its
// article.
func (d *decoder) object(n ast.Node, what string, known fields, required ...string) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.wrongType(n, what+" must be a mapping of fields")
		return
	}
	seen := make(map[string]pos, len(m.Values))
	for _, entry := range m.Values {
		key, at, ok := d.key(entry)
		if !ok {
			continue
		}
		if before, twice := seen[key]; twice {
			d.problem(at, "", "duplicate field %q, already set on line %d", key, before.line)
			continue
		}
		seen[key] = at
		d.value(key, at, bare(entry.Value), what, known)
	}
	for _, key := range required {
		if _, ok := seen[key]; !ok {
			d.problem(d.at(m), "", "%s needs the field %q", what, key)
		}
	}
}

func (d *decoder) key(entry *ast.MappingValueNode) (string, pos, bool) {
	at := d.at(entry.Key)
	text, ok := entry.Key.(*ast.StringNode)
	if !ok {
		d.problem(at, "", "a field name must be a plain word")
		return "", at, false
	}
	return text.Value, at, true
}

func (d *decoder) value(key string, at pos, n ast.Node, what string, known fields) {
	decode, ok := known[key]
	switch {
	case ok && isEmpty(n):
		d.problem(at, "remove the field or give it a value", "the field %q is empty", key)
	case ok:
		d.label = key
		decode(n)
	default:
		d.problem(at, didYouMean(key, names(known)), "unknown field %q in %s", shorten(key), what)
	}
}

// maxShown bounds how much of a mistaken word is repeated in a message, in bytes.
const maxShown = 60

func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}

func names[T any](m map[string]T) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func isEmpty(n ast.Node) bool {
	_, null := n.(*ast.NullNode)
	return n == nil || null
}

// wrongType reports a value of another type than expected, without repeating it. What has
// been reported already, an alias, is passed over.
func (d *decoder) wrongType(n ast.Node, message string) {
	if _, reported := n.(*ast.AliasNode); !reported {
		d.problem(d.at(n), "", "%s, not %s", message, kind(n))
	}
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.IntegerNode:
		return "a number"
	case *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a decimal number"
	case *ast.BoolNode:
		return "true or false"
	case *ast.NullNode, nil:
		return "nothing"
	default:
		return "text"
	}
}

// list decodes each item of a sequence of at least one.
func (d *decoder) list(what string, item field) field {
	return func(n ast.Node) {
		seq, ok := n.(*ast.SequenceNode)
		switch {
		case !ok:
			d.wrongType(n, what+" must be a list")
		case len(seq.Values) == 0:
			d.problem(d.at(n), "remove the field or give it a value", "%s is an empty list", what)
		case len(seq.Values) > maxItems:
			d.problem(d.at(n), "", "%s has %d items, at most %d are allowed", what, len(seq.Values), maxItems)
		default:
			d.items(seq, what, item)
		}
	}
}

// capped is a list with a limit of its own.
func (d *decoder) capped(what string, most int, item field) field {
	return func(n ast.Node) {
		if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) > most {
			d.problem(d.at(n), "", "%s has %d items, at most %d are allowed", what, len(seq.Values), most)
			return
		}
		d.list(what, item)(n)
	}
}

// oneOrMore decodes one item, or a list of up to so many.
func (d *decoder) oneOrMore(what string, most int, item field) field {
	return func(n ast.Node) {
		if _, many := n.(*ast.SequenceNode); many {
			d.capped(what, most, item)(n)
			return
		}
		item(n)
	}
}

// maxItems bounds every list.
const maxItems = 5000

func (d *decoder) items(seq *ast.SequenceNode, what string, item field) {
	for _, n := range seq.Values {
		n = bare(n)
		if isEmpty(n) {
			d.problem(d.at(seq), "", "%s has an empty item", what)
			continue
		}
		item(n)
	}
}
