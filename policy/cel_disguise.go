package policy

import (
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// disguised reports a condition that reads differently from how it runs, by the way it is
// written: everybody who reviews a policy goes by what they see.
func (d *decoder) disguised(n ast.Node, text string) bool {
	before := len(d.problems)
	place := d.inside(n, text)
	at := func(i int) pos {
		start := strings.LastIndex(text[:i], "\n") + 1
		return place.pos(1+strings.Count(text[:i], "\n"), len([]rune(text[start:i])))
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }); i >= 0 {
		d.problem(at(i), `in a text, write \u and four hex digits`, "a condition is written in ASCII: other letters can look like these")
	}
	if i := comment(text); i >= 0 {
		d.problem(at(i), "write it as a YAML comment, in a line of its own", "a condition has no // comments: what stands behind one may look like a part of it")
	}
	d.folded(n, text)
	return len(d.problems) > before
}

// folded reports a condition whose lines YAML joins without any quotation marks, or which
// it cuts.
func (d *decoder) folded(n ast.Node, text string) {
	const hint = "put it in quotes, or write it as a block behind |"
	if block, ok := n.(*ast.LiteralNode); ok {
		if block.Start.Type == token.FoldedType {
			d.problem(d.at(n), hint, "the lines of a condition must not be folded")
		}
		return
	}
	if kind := n.GetToken().Type; kind == token.SingleQuoteType || kind == token.DoubleQuoteType {
		return
	}
	at := d.at(n)
	raw := d.lineOf(at.line)
	if at.col < 1 || at.col > len(raw) || !strings.HasPrefix(string(raw[at.col-1:]), text) {
		d.problem(at, hint, "a condition of several lines needs quotation marks")
		return
	}
	rest := strings.TrimSpace(string(raw[at.col-1:])[len(text):])
	if strings.HasPrefix(rest, "#") {
		d.problem(at, "put it in quotes", "YAML cuts the condition at the #")
	}
}

// comment returns where a comment begins outside the literal texts of a condition, -1 for
// nowhere.
func comment(text string) int {
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "//"):
			return i
		case text[i] == '"' || text[i] == '\'':
			i = literalEnd(text, i)
		}
	}
	return -1
}

// literalEnd returns where the literal ends that begins with the quotation mark at i: the
// index of the last mark, or of the end of the text.
func literalEnd(text string, i int) int {
	mark := text[i : i+1]
	if strings.HasPrefix(text[i:], strings.Repeat(mark, 3)) {
		mark = strings.Repeat(mark, 3)
	}
	raw := isRaw(text[:i])
	for at := i + len(mark); at < len(text); at++ {
		switch {
		case text[at] == '\\' && !raw:
			at++
		case strings.HasPrefix(text[at:], mark):
			return at + len(mark) - 1
		}
	}
	return len(text)
}

// isRaw reports whether a literal behind this text has no escapes: r"…", br"…".
func isRaw(before string) bool {
	prefix := before[len(strings.TrimRight(before, "rRbB")):]
	return len(prefix) <= 2 && strings.ContainsAny(prefix, "rR")
}
