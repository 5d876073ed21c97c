package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxMarks is how many combining marks in a row are shown as such: a tower of them covers
// the lines above.
const maxMarks = 3

// safe spells out what others wrote and a terminal would not show, or would obey: controls,
// direction marks, what has no ink of its own, bytes that are no text. The result is one
// line.
func safe(text string) string {
	var b strings.Builder
	marks := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if marks++; !unicode.In(r, unicode.Mn, unicode.Me) {
			marks = 0
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case inked(r) && marks <= maxMarks:
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

func inked(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r >= ' ' && r != 0x7f
	case r == '\u2800' || r == '\U0001d159' || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return false
	}
	return unicode.IsPrint(r)
}

// safeLines is safe for a text of several lines, which stay lines.
func safeLines(indent, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		body := strings.TrimSuffix(line, "\n")
		b.WriteString(indent + strings.ReplaceAll(safe(strings.ReplaceAll(body, "\t", "    ")), "\n", "") + "\n")
	}
	return b.String()
}

// brief is a text in at most n characters.
func brief(text string, n int) string {
	r := []rune(safe(text))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}
