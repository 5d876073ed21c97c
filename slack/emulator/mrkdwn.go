package emulator

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// mrkdwn renders Slack's markup. Unless verbatim, bare URLs become links.
func (s *Server) mrkdwn(text string, verbatim bool) []Piece {
	var out []Piece
	for i, chunk := range splitFences(text) {
		if i%2 == 1 {
			p := parser{Server: s, plain: true}
			out = append(out, Piece{Kind: "pre", Spans: p.spans(strings.Trim(chunk, "\n"), Span{})})
			continue
		}
		out = append(out, s.paragraphs(chunk, verbatim)...)
	}
	return out
}

// splitFences cuts text at pairs of triple backticks; the odd entries were inside a pair.
func splitFences(text string) []string {
	const fence = "```"
	parts := strings.Split(text, fence)
	if len(parts)%2 == 0 { // the last fence has no partner and is plain text
		last := len(parts) - 1
		parts[last-1] += fence + parts[last]
		parts = parts[:last]
	}
	return parts
}

// paragraphs splits a text without code into runs of quoted and unquoted lines.
func (s *Server) paragraphs(text string, verbatim bool) []Piece {
	text = strings.Trim(text, "\n")
	if text == "" {
		return nil
	}
	p := parser{Server: s, verbatim: verbatim}
	var out []Piece
	var run []string
	kind := "p"
	flush := func() {
		if len(run) > 0 {
			out = append(out, Piece{Kind: kind, Spans: p.spans(strings.Join(run, "\n"), Span{})})
		}
		run = nil
	}
	for line := range strings.SplitSeq(text, "\n") {
		now := "p"
		if rest, quoted := cutQuote(line); quoted {
			now, line = "quote", rest
		}
		if now != kind {
			flush()
			kind = now
		}
		run = append(run, line)
	}
	flush()
	return out
}

func cutQuote(line string) (string, bool) {
	for _, mark := range []string{"&gt;", ">"} {
		if rest, ok := strings.CutPrefix(line, mark); ok {
			return strings.TrimPrefix(rest, " "), true
		}
	}
	return line, false
}

// parser turns one run of markup into spans.
type parser struct {
	*Server
	verbatim bool
	plain    bool // inside code: no styles and no emoji, mentions and links stay
}

// control matches <…>, inline code, and bare URLs, in this order of preference.
var (
	controlPattern = regexp.MustCompile(`^<([^<>\n]+)>`)
	codePattern    = regexp.MustCompile("^`([^`\n]+)`")
	urlPattern     = regexp.MustCompile(`^https?://[^\s<>|*~` + "`" + `]+[^\s<>|*~` + "`" + `.,;:!?'")\]]`)
)

var entities = strings.NewReplacer("&amp;", "&", "&lt;", "<", "&gt;", ">")

func (p parser) spans(text string, style Span) []Span {
	var out []Span
	pending := 0
	flush := func(to int) {
		if to > pending {
			out = append(out, p.leaf(text[pending:to], style)...)
		}
	}
	for i := 0; i < len(text); {
		got, n := p.at(text, i, style)
		if n == 0 {
			_, size := utf8.DecodeRuneInString(text[i:])
			i += size
			continue
		}
		flush(i)
		out = append(out, got...)
		i += n
		pending = i
	}
	flush(len(text))
	return out
}

// leaf is text without markup.
func (p parser) leaf(text string, style Span) []Span {
	text = entities.Replace(text)
	if p.plain {
		style.Kind, style.Text = "text", text
		return []Span{style}
	}
	return withEmoji(text, style)
}

// at parses the markup that begins at text[i]; n is its length, 0 if there is none.
func (p parser) at(text string, i int, style Span) (spans []Span, n int) {
	rest := text[i:]
	if m := controlPattern.FindStringSubmatch(rest); m != nil {
		if sp, ok := p.control(m[1], style); ok {
			return []Span{sp}, len(m[0])
		}
	}
	if p.plain {
		return nil, 0
	}
	if m := codePattern.FindStringSubmatch(rest); m != nil {
		inner := parser{Server: p.Server, plain: true}
		style.Code = true
		return inner.spans(m[1], style), len(m[0])
	}
	if m := urlPattern.FindString(rest); m != "" && !p.verbatim && opens(text, i) {
		style.Kind, style.Text, style.URL = "link", entities.Replace(m), entities.Replace(m)
		return []Span{style}, len(m)
	}
	return p.styled(text, i, style)
}

// styled parses *bold*, _italic_ and ~strike~, which start and end at word boundaries.
func (p parser) styled(text string, i int, style Span) (spans []Span, n int) {
	mark := text[i]
	inner := style
	switch mark {
	case '*':
		inner.Bold = true
	case '_':
		inner.Italic = true
	case '~':
		inner.Strike = true
	default:
		return nil, 0
	}
	end := closing(text, i, mark)
	if !opens(text, i) || end < 0 {
		return nil, 0
	}
	return p.spans(text[i+1:end], inner), end + 1 - i
}

// opens says whether a style or link may begin at text[i]: not in the middle of a word.
func opens(text string, i int) bool {
	r, _ := utf8.DecodeLastRuneInString(text[:i])
	return i == 0 || !wordRune(r)
}

// closing finds the mark that ends the style begun at text[i], or -1.
func closing(text string, i int, mark byte) int {
	if i+1 >= len(text) || text[i+1] == ' ' || text[i+1] == mark {
		return -1
	}
	for j := i + 1; j < len(text) && text[j] != '\n'; j++ {
		switch text[j] {
		case '<', '`':
			j += skipped(text[j:])
		case mark:
			r, _ := utf8.DecodeRuneInString(text[j+1:])
			if text[j-1] != ' ' && (j+1 == len(text) || !wordRune(r)) {
				return j
			}
		}
	}
	return -1
}

// skipped is how far a control sequence or piece of code that begins here reaches, less one.
func skipped(text string) int {
	for _, pattern := range []*regexp.Regexp{controlPattern, codePattern} {
		if m := pattern.FindString(text); m != "" {
			return len(m) - 1
		}
	}
	return 0
}

func wordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

var datePattern = regexp.MustCompile(`^date\^(\d+)\^([^^|]+)(?:\^([^|]+))?\|(.*)$`)

// control parses the inside of <…>; ok is false for what Slack shows as it is.
func (p parser) control(inside string, style Span) (sp Span, ok bool) {
	sp = style
	target, label, _ := strings.Cut(inside, "|")
	switch target[0] {
	case '@':
		sp.Kind, sp.ID, sp.Text = "user", target[1:], p.userName(target[1:])
	case '#':
		sp.Kind, sp.ID, sp.Text = "channel", target[1:], p.channelName(target[1:])
	case '!':
		return p.special(inside[1:], style)
	default:
		if !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") && !strings.HasPrefix(target, "mailto:") {
			return sp, false
		}
		sp.Kind, sp.URL, sp.Text = "link", entities.Replace(target), entities.Replace(label)
		if sp.Text == "" {
			sp.Text = sp.URL
		}
	}
	return sp, true
}

func (p parser) special(inside string, style Span) (sp Span, ok bool) {
	sp = style
	if m := datePattern.FindStringSubmatch(inside); m != nil {
		sp.Kind, sp.Format, sp.URL, sp.Text = "date", m[2], m[3], entities.Replace(m[4])
		sp.Unix, _ = strconv.ParseInt(m[1], 10, 64)
		return sp, true
	}
	word, _, _ := strings.Cut(inside, "|")
	if id, isGroup := strings.CutPrefix(word, "subteam^"); isGroup {
		sp.Kind, sp.ID, sp.Text = "usergroup", id, p.groupName(id)
		return sp, true
	}
	switch word {
	case "here", "channel", "everyone":
		sp.Kind, sp.ID, sp.Text = "broadcast", word, "@"+word
		return sp, true
	}
	return sp, false
}

var emojiPattern = regexp.MustCompile(`:[a-z0-9_+-]+:`)

// withEmoji splits text at the emoji codes it knows.
func withEmoji(text string, style Span) []Span {
	var out []Span
	add := func(kind, text string) {
		if text != "" {
			sp := style
			sp.Kind, sp.Text = kind, text
			out = append(out, sp)
		}
	}
	from := 0
	for _, at := range emojiPattern.FindAllStringIndex(text, -1) {
		code := text[at[0]:at[1]]
		if shown := emoji(strings.Trim(code, ":")); shown != code {
			add("text", text[from:at[0]])
			add("emoji", shown)
			from = at[1]
		}
	}
	add("text", text[from:])
	return out
}

var emojiByName = map[string]string{
	"white_check_mark": "✅", "heavy_check_mark": "✔️", "x": "❌", "no_entry": "⛔", "no_entry_sign": "🚫", "warning": "⚠️",
	"rotating_light": "🚨", "hourglass": "⌛", "hourglass_flowing_sand": "⏳", "lock": "🔒", "unlock": "🔓", "key": "🔑",
	"eyes": "👀", "question": "❓", "grey_question": "❔", "exclamation": "❗", "speech_balloon": "💬", "bell": "🔔", "tada": "🎉",
	"clock1": "🕐", "clock3": "🕒", "alarm_clock": "⏰", "stopwatch": "⏱️", "wave": "👋", "thumbsup": "👍", "+1": "👍", "thumbsdown": "👎",
	"-1": "👎", "rocket": "🚀", "fire": "🔥", "bug": "🐛", "wastebasket": "🗑️", "memo": "📝", "link": "🔗", "shield": "🛡️", "robot_face": "🤖",
	"large_green_circle": "🟢", "large_yellow_circle": "🟡", "red_circle": "🔴", "white_circle": "⚪", "black_circle": "⚫",
	"information_source": "ℹ️", "arrow_right": "➡️", "repeat": "🔁", "zap": "⚡", "package": "📦", "mag": "🔍", "smile": "😄", "boom": "💥",
	"ballot_box_with_check": "☑️", "leftwards_arrow_with_hook": "↩️", "double_vertical_bar": "⏸️", "bust_in_silhouette": "👤",
}

// emoji returns the picture for a name, or the name between colons.
func emoji(name string) string {
	if shown, ok := emojiByName[name]; ok {
		return shown
	}
	return ":" + name + ":"
}

// entityEscape escapes what people type, as Slack's clients do before they send it.
var entityEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
