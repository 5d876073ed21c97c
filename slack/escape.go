package slack

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// charset says which characters of a text that others wrote may be shown as they are. All
// others are spelled out, as \u202e or \xff.
type charset int

const (
	// lines keeps line breaks and tabs.
	lines charset = iota
	// oneLine spells them out as well, so that a value cannot pretend to be two.
	oneLine
	// asciiLine keeps printable ASCII alone, for what must not be confused with anything
	// that merely looks like it: methods, addresses, header names.
	asciiLine
)

// maxMarks is how many combining marks in a row are shown as such. No script needs more,
// and a tower of them covers the lines above.
const maxMarks = 3

// screen collects text that others wrote for people to judge, character by character,
// until its room is used up. It never cuts through a character or its spelling.
type screen struct {
	out strings.Builder
	// room is what is left, in units.
	room int
	// spelled counts the characters that were spelled out.
	spelled int
	marks   int
	// full says that something did not fit. From then on nothing more is shown.
	full bool
}

// write shows text, which may be any bytes, and returns how many of its bytes are shown. A
// character and the marks on it are shown together or not at all.
func (s *screen) write(text string, keep charset) (shown int) {
	for shown < len(text) && !s.full {
		if n := s.writePlain(text[shown:], keep); n > 0 {
			shown += n
			continue
		}
		shown += s.writeMarked(text[shown:], keep)
	}
	return shown
}

// writePlain shows what a text begins with in printable ASCII, at once, for the sake of
// long ones. The last of it is left when a mark may follow.
func (s *screen) writePlain(text string, keep charset) (n int) {
	for n < len(text) && text[n] < utf8.RuneSelf && plain(rune(text[n]), keep) {
		n++
	}
	if n < len(text) && text[n] >= utf8.RuneSelf {
		n--
	}
	if n <= 0 {
		return 0
	}
	s.marks = 0
	if n > s.room {
		n, s.full = s.room, true
	}
	s.room -= n
	s.out.WriteString(text[:n])
	return n
}

// writeMarked shows the character that a text begins with, and as many marks on it as are
// shown as such.
func (s *screen) writeMarked(text string, keep charset) (n int) {
	var pieces strings.Builder
	spelled := 0
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if n > 0 && (!unicode.In(r, unicode.Mn, unicode.Me) || s.marks >= maxMarks) {
			break
		}
		piece, odd := s.spell(r, text[n:n+size], keep)
		if pieces.WriteString(piece); odd {
			spelled++
		}
		n += size
	}
	if !s.put(pieces.String()) {
		return 0
	}
	s.spelled += spelled
	return n
}

// put shows our own words.
func (s *screen) put(piece string) bool {
	n := units(piece)
	if s.full || n > s.room {
		s.full = true
		return false
	}
	s.room -= n
	s.out.WriteString(piece)
	return true
}

func (s *screen) spell(r rune, raw string, keep charset) (piece string, spelled bool) {
	if r == utf8.RuneError && len(raw) == 1 {
		return fmt.Sprintf(`\x%02x`, raw[0]), true
	}
	if s.countMarks(r); s.marks <= maxMarks && plain(r, keep) {
		return raw, false
	}
	if r > 0xffff {
		return fmt.Sprintf(`\U%08x`, r), true
	}
	return fmt.Sprintf(`\u%04x`, r), true
}

func (s *screen) countMarks(r rune) {
	if !unicode.In(r, unicode.Mn, unicode.Me) {
		s.marks = 0
		return
	}
	s.marks++
}

// plain reports whether a character may be shown as it is. What has no ink of its own may
// not: controls, direction marks, joiners, fillers, unusual spaces, variation selectors,
// tags, private and unassigned characters.
func plain(r rune, keep charset) bool {
	switch {
	case r == '\n' || r == '\t':
		return keep == lines
	case r < utf8.RuneSelf:
		return r >= ' ' && r != 0x7f
	case keep == asciiLine:
		return false
	case r == '\u3000': // the space of Chinese and Japanese text
		return true
	case r == '\u2800' || r == '\U0001d159' || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return false
	default:
		return unicode.IsPrint(r)
	}
}

// units is the length of a text as UTF-16 counts it. Slack says "characters" for its
// limits; this is the longest it can mean.
func units(s string) (n int) {
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// shorten shows a text in at most room units, with an ellipsis when that is not all of it.
func shorten(text string, room int, keep charset) string {
	s := screen{room: room}
	if s.write(text, keep); !s.full {
		return s.out.String()
	}
	s = screen{room: room - 1}
	s.write(text, keep)
	return s.out.String() + "…"
}

var entities = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// mrkdwn shows a text inside mrkdwn, in at most room units once it is escaped; the cut never
// goes through an entity.
func mrkdwn(text string, room int) string {
	text = shorten(text, room, oneLine)
	if whole := entities.Replace(text); units(whole) <= room {
		return whole
	}
	var out strings.Builder
	for _, r := range text {
		piece := entities.Replace(string(r))
		if room -= units(piece); room < 1 {
			break
		}
		out.WriteString(piece)
	}
	return out.String() + "…"
}

// code is mrkdwn between backticks, which the text cannot close.
func code(text string, room int) string {
	return "`" + strings.ReplaceAll(mrkdwn(text, room), "`", "'") + "`"
}
