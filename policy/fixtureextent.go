package policy

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// spot is a place in a text, line and column from 1.
type spot struct{ line, col int }

func (s spot) before(o spot) bool { return s.line < o.line || s.line == o.line && s.col < o.col }

// extent is a part of a text; to is not in it. The zero extent is none.
type extent struct{ from, to spot }

func (e extent) holds(o extent) bool { return !o.from.before(e.from) && !e.to.before(o.to) }

// extents says where the values of a mapping stand: from behind the colon to the end.
func (d *decoder) extents(n ast.Node) map[string]extent {
	out := make(map[string]extent)
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return out
	}
	for _, e := range m.Values {
		if e.Start == nil || e.Start.Position == nil {
			continue
		}
		where := extentOf(e.Value)
		where.from = spot{e.Start.Position.Line, e.Start.Position.Column + 1}
		if where.from.before(where.to) {
			out[e.Key.GetToken().Value] = where
		}
	}
	return out
}

// extentOf is where a value stands, the zero extent when that cannot be said for sure.
func extentOf(n ast.Node) extent {
	first, last := n.GetToken(), lastToken(n)
	if first == nil || last == nil || first.Position == nil || last.Position == nil {
		return extent{}
	}
	text := strings.TrimSpace(last.Origin)
	if text == "" || strings.Contains(text, "\n") {
		return extent{}
	}
	return extent{
		from: spot{first.Position.Line, first.Position.Column},
		to:   spot{last.Position.Line, last.Position.Column + utf8.RuneCountInString(text)},
	}
}

func lastToken(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if n.IsFlowStyle || len(n.Values) == 0 {
			return n.End
		}
		return lastToken(n.Values[len(n.Values)-1].Value)
	case *ast.SequenceNode:
		if n.IsFlowStyle || len(n.Values) == 0 {
			return n.End
		}
		return lastToken(n.Values[len(n.Values)-1])
	case *ast.LiteralNode:
		return nil // its end is where the next line is less indented
	case nil:
		return nil
	}
	return n.GetToken()
}

// edit replaces a part of a text.
type edit struct {
	where extent
	yaml  string
}

// applied returns a text with edits made, from the last to the first, and how many were
// made. One inside another is part of it.
func applied(text string, edits []edit) (string, int) {
	lines := strings.Split(text, "\n")
	slices.SortStableFunc(edits, func(a, b edit) int {
		switch {
		case a.where.from.before(b.where.from):
			return 1
		case b.where.from.before(a.where.from):
			return -1
		case a.where.to.before(b.where.to):
			return 1
		}
		return 0
	})
	made := 0
	for i, e := range edits {
		inside := slices.ContainsFunc(edits, func(o edit) bool { return o.where != e.where && o.where.holds(e.where) })
		again := slices.ContainsFunc(edits[:i], func(o edit) bool { return o.where == e.where })
		if e.where == (extent{}) || inside || again || !within(lines, e.where) {
			continue
		}
		lines = e.apply(lines)
		made++
	}
	return strings.Join(lines, "\n"), made
}

func within(lines []string, e extent) bool {
	ok := func(s spot) bool {
		return s.line >= 1 && s.line <= len(lines) && s.col >= 1 && s.col <= utf8.RuneCountInString(lines[s.line-1])+1
	}
	return ok(e.from) && ok(e.to)
}

// apply puts the new value where the old one was, on the line where that began.
func (e edit) apply(lines []string) []string {
	first, last := []rune(lines[e.where.from.line-1]), []rune(lines[e.where.to.line-1])
	joined := strings.TrimRight(string(first[:e.where.from.col-1]), " ") + " " + e.yaml + string(last[e.where.to.col-1:])
	return slices.Replace(slices.Clone(lines), e.where.from.line-1, e.where.to.line, joined)
}
