package policy

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// inner is where the lines of a text stand in its file.
type inner struct {
	value pos
	// lines holds a line of the text each. Nil: all that is known is where the value begins.
	lines []innerLine
}

// innerLine is one line of a text: the columns of its characters, and of what follows them,
// on a line of the file.
type innerLine struct {
	line    int
	columns []int
}

// pos returns the place of a character of the text: its line counted from 1, its column
// from 0. Where that cannot be said, it is the place of the value.
func (i inner) pos(line, col int) pos {
	if line < 1 || line > len(i.lines) {
		return i.value
	}
	l := i.lines[line-1]
	return pos{src: i.value.src, line: l.line, col: l.columns[min(max(col, 0), len(l.columns)-1)]}
}

// inside finds a text in its file: on one line, plain or quoted, or as a block behind |.
func (d *decoder) inside(n ast.Node, text string) inner {
	out := inner{value: d.at(n)}
	first, col, spell := out.value.line, out.value.col, plainWidth
	if block, ok := n.(*ast.LiteralNode); ok {
		first, col = block.Start.Position.Line+1, 0
	}
	switch n.GetToken().Type { //nolint:exhaustive // the others are plain
	case token.SingleQuoteType:
		col, spell = col+1, singleWidth
	case token.DoubleQuoteType:
		col, spell = col+1, doubleWidth
	}
	for i, line := range strings.Split(text, "\n") {
		raw := d.lineOf(first + i)
		if col == 0 { // the first line of a block says how far it is moved in
			col = 1 + len(raw) - len([]rune(strings.TrimLeft(string(raw), " ")))
		}
		columns, ok := spelled(raw, []rune(line), col, spell)
		if !ok || i > 0 && n.Type() != ast.LiteralType {
			return inner{value: out.value}
		}
		out.lines = append(out.lines, innerLine{line: first + i, columns: columns})
	}
	return out
}

func (d *decoder) lineOf(n int) []rune {
	if n < 1 || n > len(d.src.lines) {
		return nil
	}
	return []rune(d.src.lines[n-1])
}

// spelled returns the columns of the characters of a text that begins at a column of a
// line, and of what follows it. False means that it does not stand there.
func spelled(raw, text []rune, col int, width func(raw []rune, r rune) int) ([]int, bool) {
	columns := make([]int, 0, len(text)+1)
	for _, r := range text {
		if col < 1 || col > len(raw) {
			return nil, false
		}
		n := width(raw[col-1:], r)
		if n == 0 {
			return nil, false
		}
		columns = append(columns, col)
		col += n
	}
	return append(columns, col), true
}

// plainWidth, singleWidth and doubleWidth say how many characters stand for one, in a plain
// text and between quotation marks, 0 when it is another one.
func plainWidth(raw []rune, r rune) int {
	if raw[0] != r {
		return 0
	}
	return 1
}

func singleWidth(raw []rune, r rune) int {
	if r == '\'' && len(raw) > 1 && raw[0] == r && raw[1] == r {
		return 2
	}
	return plainWidth(raw, r)
}

func doubleWidth(raw []rune, r rune) int {
	if raw[0] != '\\' || len(raw) < 2 {
		return plainWidth(raw, r)
	}
	switch raw[1] {
	case 'x':
		return 4
	case 'u':
		return 6
	case 'U':
		return 10
	}
	return 2
}
