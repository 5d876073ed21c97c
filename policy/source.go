package policy

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
)

// source is the text of one file, kept for excerpts.
type source struct {
	name  string
	lines []string
	// hide says which parts of a line must not be quoted.
	hide map[int][]span
	// broken is set when the text is no YAML, so that hide may have missed something.
	broken bool
}

func newSource(name, text string) *source {
	return &source{name: name, lines: strings.Split(text, "\n"), hide: make(map[int][]span)}
}

// dir is what file: references are relative to.
func (s *source) dir() string { return filepath.Dir(s.name) }

// pos is a place in a file. The zero pos is no place at all.
type pos struct {
	src       *source
	line, col int
}

// excerptWidth is how much of a line is quoted, in characters.
const excerptWidth = 120

// excerpt quotes the line with a caret under the column.
func (p pos) excerpt() string {
	if p.src == nil || p.line < 1 || p.line > len(p.src.lines) {
		return ""
	}
	line, col := p.src.blanked(p.line, p.col)
	runes := []rune(line)
	col = min(max(col, 1), len(runes)+1)
	if start := col - excerptWidth + 20; start > 0 {
		runes, col = append([]rune("…"), runes[start:]...), col-start+1
	}
	if len(runes) > excerptWidth {
		runes = append(runes[:excerptWidth:excerptWidth], '…')
	}
	for i, r := range runes {
		if !unicode.IsPrint(r) {
			runes[i] = '\ufffd' // nothing in the file may steer the terminal or reorder the line
		}
	}
	return fmt.Sprintf("%5d | %s\n      | %s^", p.line, string(runes), strings.Repeat(" ", col-1))
}
