package slack

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// unbreakable is what is never shown in halves: a character spelled out, and the mark of what is
// hidden.
var unbreakable = regexp.MustCompile(`\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|"?\[redacted\]"?`)

// maxAtom is the longest of those.
const maxAtom = len(`"[redacted]"`)

// cutAt returns how many bytes of a text go first when at most bytes bytes and as many units
// fit: behind a line where there is one near the end, and never through a character, its
// marks, or what is unbreakable. 0 when nothing fits.
func cutAt(text string, bytes, units int) int {
	n := fitting(text, bytes, units)
	if n == len(text) {
		return n
	}
	if i := strings.LastIndexByte(text[:n], '\n') + 1; i > n*4/5 && !marked(text[i:]) {
		return i
	}
	return whole(text, n)
}

// fitting is how many bytes of a text fit, by whole characters.
func fitting(text string, bytes, units int) (n int) {
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		width := 1
		if r > 0xffff {
			width = 2
		}
		if n+size > bytes || width > units {
			break
		}
		n, units = n+size, units-width
	}
	return n
}

// whole moves a cut back to where it parts nothing.
func whole(text string, n int) int {
	for {
		to := outside(text, n)
		for to > 0 && marked(text[to:]) {
			_, size := utf8.DecodeLastRuneInString(text[:to])
			to -= size
		}
		if to == n {
			return n
		}
		n = to // a mark may be on the last character of something spelled out
	}
}

// outside moves a cut to the beginning of what is unbreakable, where it is in the middle.
func outside(text string, n int) int {
	low := max(n-maxAtom, 0)
	for low > 0 && !utf8.RuneStart(text[low]) {
		low--
	}
	for _, m := range unbreakable.FindAllStringIndex(text[low:min(n+maxAtom, len(text))], -1) {
		if from, to := low+m[0], low+m[1]; from < n && n < to {
			return from
		}
	}
	return n
}

// marked reports whether a text begins with a mark that belongs on the character before it.
func marked(text string) bool {
	r, _ := utf8.DecodeRuneInString(text)
	return text != "" && unicode.In(r, unicode.Mn, unicode.Me)
}
