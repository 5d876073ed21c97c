package policy

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// A literal secret in the file is a mistake that must be reported without repeating it. The
// excerpts quote lines, so what stands in fields that hold secrets, or look like it, is
// blanked before anything else is judged, and comments are left out.

// secretWords mark the names of fields whose values are never quoted, whatever they are.
var secretWords = []string{"secret", "token", "passw", "credential", "auth", "key", "private"}

// secretFields are the fields that do hold secrets; a misspelling of one is treated alike.
var secretFields = []string{
	"secret", "secrets", "value", "credentials", "key_sha256", "bot_token", "signing_secrets",
}

// secretish reports whether the value of a field must not be quoted.
func secretish(field string) bool {
	field = strings.ToLower(field)
	if field == "url" { // of the database: it holds a password
		return true
	}
	for _, word := range secretWords {
		if strings.Contains(field, word) {
			return true
		}
	}
	return slices.ContainsFunc(secretFields, func(known string) bool {
		return len(field) > 3 && distance(field, known) <= 2
	})
}

// quotable reports whether text is a well-formed reference to a secret, not one itself.
func quotable(text string) bool {
	name, env := strings.CutPrefix(text, "env:")
	return env && envName.MatchString(name) || strings.HasPrefix(text, "file:")
}

// hideSecrets notes the places of all values that must not be quoted.
func (s *source) hideSecrets(tokens token.Tokens) {
	for i, tk := range tokens {
		if tk.Type == token.CommentType {
			s.hideSpan(tk.Position.Line, span{tk.Position.Column, 0}) // old secrets live on in comments
			continue
		}
		if i+1 < len(tokens) && tokens[i+1].Type == token.MappingValueType && secretish(tk.Value) {
			s.hideValue(tk, tokens[i+2:])
		}
	}
}

// hideValue hides the scalars that belong to a key, but for references, nested keys and
// the name of a credential's header.
func (s *source) hideValue(key *token.Token, rest token.Tokens) {
	depth := 0
	for i, tk := range rest {
		switch tk.Type { //nolint:exhaustive // only brackets and commas end or nest a value
		case token.MappingStartType, token.SequenceStartType:
			depth++
			continue
		case token.MappingEndType, token.SequenceEndType:
			if depth--; depth < 0 {
				return
			}
			continue
		case token.CollectEntryType:
			if depth == 0 {
				return
			}
			continue
		case token.MappingValueType, token.SequenceEntryType, token.CommentType:
			if depth == 0 && outside(key, tk) {
				return
			}
			continue
		}
		if depth == 0 && outside(key, tk) {
			return
		}
		if i+1 < len(rest) && rest[i+1].Type == token.MappingValueType || quotable(tk.Value) || namesHeader(tk) {
			continue
		}
		s.hideToken(tk)
	}
}

// outside reports whether a token of a later line no longer belongs to the block of key.
func outside(key, tk *token.Token) bool {
	if tk.Position.Line <= key.Position.Line {
		return false
	}
	return tk.Position.Column < key.Position.Column ||
		(tk.Position.Column == key.Position.Column && tk.Type != token.SequenceEntryType)
}

func namesHeader(tk *token.Token) bool {
	return tk.Prev != nil && tk.Prev.Type == token.MappingValueType && tk.Prev.Prev != nil && tk.Prev.Prev.Value == "header"
}

// span is a part of a line, in columns from 1; to is not in it, 0 is the end of the line.
type span struct{ from, to int }

// hideToken hides a token: itself if it is where it says and on one line, and otherwise
// everything from there to the next one.
func (s *source) hideToken(tk *token.Token) {
	first, last := tk.Position.Line, len(s.lines)+1
	if tk.Next != nil {
		last = tk.Next.Position.Line
	}
	text := []rune(strings.TrimSpace(tk.Origin))
	from, to := tk.Position.Column, tk.Position.Column+len(text)
	if line := s.runes(first); from >= 1 && to <= len(line)+1 && slices.Equal(line[from-1:to-1], text) {
		s.hideSpan(first, span{from, to})
		return
	}
	s.hideSpan(first, span{from, 0})
	for line := first + 1; line < max(last, first+2); line++ {
		s.hideSpan(line, span{1, 0})
	}
}

func (s *source) hideSpan(line int, what span) {
	what.from = max(what.from, 1)
	s.hide[line] = append(s.hide[line], what)
}

func (s *source) runes(line int) []rune {
	if line < 1 || line > len(s.lines) {
		return nil
	}
	return []rune(s.lines[line-1])
}

var (
	// looksSecret finds what is a secret by its own form, wherever it stands; its first group
	// is what may be shown.
	looksSecret = regexp.MustCompile(`(?i)(://)[^/\s"']*@|()(whsec_|cs[kp]_|xox[a-z]-|xapp-|-----begin|(bearer|basic)\s+)[^\s,"'\]}]+`)
	// secretKey finds a field by name in a line that could not be taken apart.
	secretKey = regexp.MustCompile(`([A-Za-z0-9_-]+)["']?\s*:(\s|$)`)
)

// blanked returns a line with its secrets replaced by ***, and the column moved along.
func (s *source) blanked(line, col int) (string, int) {
	text, col := blankSpans(s.runes(line), s.hide[line], col)
	if s.broken {
		text = s.blankBroken(line, text)
	}
	return blankPatterns(text, col)
}

// blankSpans replaces spans, from the last to the first; a comment leaves nothing behind.
func blankSpans(line []rune, hide []span, col int) (string, int) {
	hide = slices.Clone(hide)
	slices.SortFunc(hide, func(a, b span) int { return b.from - a.from })
	for _, h := range hide {
		if h.from > len(line) {
			continue
		}
		if h.to == 0 || h.to > len(line) {
			h.to = len(line) + 1
		}
		mark := []rune(hidden)
		if line[h.from-1] == '#' && h.to == len(line)+1 {
			mark = nil
		}
		switch {
		case col >= h.to:
			col += len(mark) - (h.to - h.from)
		case col > h.from:
			col = h.from
		}
		line = slices.Concat(line[:h.from-1], mark, line[h.to-1:])
	}
	return strings.TrimRight(string(line), " "), col
}

// blankPatterns replaces what looks like a secret.
func blankPatterns(text string, col int) (string, int) {
	var b strings.Builder
	end, moved := 0, 0
	for _, m := range looksSecret.FindAllStringSubmatchIndex(text, -1) {
		start := max(m[3], m[5]) // behind what may be shown
		from, to := utf8.RuneCountInString(text[:start])+1, utf8.RuneCountInString(text[:m[1]])+1
		switch {
		case col >= to:
			moved += to - from - len(hidden)
		case col > from:
			col = from
		}
		b.WriteString(text[end:start] + hidden)
		end = m[1]
		if text[end-1] == '@' {
			b.WriteByte('@')
			moved--
		}
	}
	return b.String() + text[end:], col - moved
}

// blankBroken blanks a line of a text that is no YAML: everything after a field that holds
// a secret, and the whole line when such a field encloses it.
func (s *source) blankBroken(line int, text string) string {
	for _, m := range secretKey.FindAllStringSubmatchIndex(text, -1) {
		if secretish(text[m[2]:m[3]]) && !quotable(strings.Trim(text[m[1]:], ` "'}`)) {
			return text[:m[1]] + hidden
		}
	}
	own := indentation(text)
	if own < len(text) && secretish(s.enclosing(line, own)) && !quotable(strings.Trim(text[own:], ` "'`)) {
		return text[:own] + hidden
	}
	return text
}

// enclosing returns the last field named on the nearest line above with less indentation.
func (s *source) enclosing(line, own int) string {
	for i := line - 2; i >= 0; i-- {
		if strings.TrimSpace(s.lines[i]) == "" || indentation(s.lines[i]) >= own {
			continue
		}
		names := secretKey.FindAllStringSubmatch(s.lines[i], -1)
		if len(names) == 0 {
			return ""
		}
		return names[len(names)-1][1]
	}
	return ""
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " -")) }
