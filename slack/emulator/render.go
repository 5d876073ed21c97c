package emulator

import (
	"cmp"
	"fmt"
	"strings"
)

// Span is a run of text as a reader sees it: entities decoded, ids turned into names.
type Span struct {
	// Kind is text, link, user, usergroup, channel, broadcast, date or emoji.
	Kind string `json:"kind"`
	// Text is what is shown. For a date it is the fallback.
	Text   string `json:"text"`
	URL    string `json:"url,omitempty"`
	ID     string `json:"id,omitempty"`
	Bold   bool   `json:"bold,omitempty"`
	Italic bool   `json:"italic,omitempty"`
	Strike bool   `json:"strike,omitempty"`
	Code   bool   `json:"code,omitempty"`
	// Unix and Format are a date's, for readers who show it in their own time zone.
	Unix   int64  `json:"unix,omitempty"`
	Format string `json:"format,omitempty"`
}

// Piece is a paragraph ("p"), quotation ("quote"), preformatted text ("pre") or one list
// item ("item").
type Piece struct {
	Kind   string `json:"kind"`
	Spans  []Span `json:"spans"`
	Marker string `json:"marker,omitempty"` // of a list item
	Indent int    `json:"indent,omitempty"` // of a list item
}

// Part is one block as it is shown.
type Part struct {
	// Kind is header, section, context, divider, actions, input or image.
	Kind     string    `json:"kind"`
	BlockID  string    `json:"block_id"`
	Flow     []Piece   `json:"flow,omitempty"`
	Fields   [][]Piece `json:"fields,omitempty"`   // of a section; of a context, its elements
	Elements []Element `json:"elements,omitempty"` // what can be used
	Hint     string    `json:"hint,omitempty"`
	Optional bool      `json:"optional,omitempty"`
	ImageURL string    `json:"image_url,omitempty"`
	Alt      string    `json:"alt,omitempty"`
}

// Element is a button, menu or input.
type Element struct {
	// Type is Block Kit's, such as button or plain_text_input.
	Type     string `json:"type"`
	ActionID string `json:"action_id"`
	BlockID  string `json:"block_id"`
	// Text is a button's label or an input's placeholder.
	Text      string   `json:"text,omitempty"`
	Style     string   `json:"style,omitempty"`
	Value     string   `json:"value,omitempty"` // a button's value; what an input holds
	URL       string   `json:"url,omitempty"`
	Label     string   `json:"label,omitempty"` // for screen readers
	Confirm   *Confirm `json:"confirm,omitempty"`
	Options   []Option `json:"options,omitempty"`
	Multiline bool     `json:"multiline,omitempty"`
	MinLength int      `json:"min_length,omitempty"`
	MaxLength int      `json:"max_length,omitempty"`
	Focus     bool     `json:"focus,omitempty"`
}

// Confirm is the dialog that asks before an element is used.
type Confirm struct {
	Title   string  `json:"title"`
	Text    []Piece `json:"text"`
	Confirm string  `json:"confirm"`
	Deny    string  `json:"deny"`
	Style   string  `json:"style,omitempty"`
}

// Option is one choice of a menu or group of boxes.
type Option struct {
	Text        []Piece `json:"text"`
	Value       string  `json:"value"`
	Description []Piece `json:"description,omitempty"`
}

// rendered is what a message looks like, kept until its content or a name changes.
type rendered struct {
	parts   []Part
	text    string
	summary string
}

func (s *Server) render(m *message) *rendered {
	if m.rendered == nil || m.epoch != s.renderEpoch {
		r := &rendered{parts: s.parts(m.blocks), summary: plainPieces(s.mrkdwn(m.text, false))}
		if len(m.blocks) == 0 {
			r.parts = []Part{{Kind: "section", Flow: s.mrkdwn(m.text, false)}}
		}
		r.text = plainParts(r.parts)
		m.rendered, m.epoch = r, s.renderEpoch
	}
	return m.rendered
}

// parts renders blocks, which have been checked when they arrived.
func (s *Server) parts(blocks []any) []Part {
	out := make([]Part, 0, len(blocks))
	for _, b := range blocks {
		if o, ok := b.(object); ok {
			out = append(out, s.part(o))
		}
	}
	return out
}

func (s *Server) part(o object) Part {
	p := Part{Kind: str(o, "type"), BlockID: str(o, "block_id"), Optional: o["optional"] == true}
	for _, el := range interactive(o) {
		p.Elements = append(p.Elements, s.element(el, p.BlockID))
	}
	switch p.Kind {
	case "header", "section":
		p.Flow = s.textObject(o["text"])
		p.Fields = s.textObjects(o["fields"])
	case "context":
		p.Fields = s.textObjects(o["elements"])
	case "input":
		p.Flow, p.Hint = s.textObject(o["label"]), plainPieces(s.textObject(o["hint"]))
	case "rich_text":
		p.Kind, p.Flow = "section", s.richText(o)
	case "markdown":
		p.Kind, p.Flow = "section", []Piece{{Kind: "p", Spans: []Span{{Kind: "text", Text: str(o, "text")}}}}
	case "image":
		p.ImageURL, p.Alt, p.Flow = str(o, "image_url"), str(o, "alt_text"), s.textObject(o["title"])
	}
	return p
}

func (s *Server) textObjects(v any) [][]Piece {
	items, _ := v.([]any)
	var out [][]Piece
	for _, it := range items {
		if o, ok := it.(object); ok && o["type"] == "image" {
			out = append(out, []Piece{{Kind: "p", Spans: []Span{{Kind: "text", Text: str(o, "alt_text")}}}})
			continue
		}
		out = append(out, s.textObject(it))
	}
	return out
}

// textObject renders a plain_text or mrkdwn object.
func (s *Server) textObject(v any) []Piece {
	o, ok := v.(object)
	if !ok {
		return nil
	}
	if o["type"] == "mrkdwn" {
		return s.mrkdwn(str(o, "text"), o["verbatim"] == true)
	}
	if o["emoji"] == false {
		return []Piece{{Kind: "p", Spans: []Span{{Kind: "text", Text: str(o, "text")}}}}
	}
	return []Piece{{Kind: "p", Spans: withEmoji(str(o, "text"), Span{})}}
}

func (s *Server) plain(v any) string { return plainPieces(s.textObject(v)) }

func (s *Server) element(o object, block string) Element {
	e := Element{
		Type: str(o, "type"), ActionID: str(o, "action_id"), BlockID: block,
		Text: s.plain(o["text"]), Style: str(o, "style"), Value: str(o, "value"), URL: str(o, "url"),
		Label: str(o, "accessibility_label"), Multiline: o["multiline"] == true, Focus: o["focus_on_load"] == true,
	}
	e.Text = cmp.Or(e.Text, s.plain(o["placeholder"]))
	low, _ := o["min_length"].(float64)
	high, _ := o["max_length"].(float64)
	e.MinLength, e.MaxLength = int(low), int(high)
	for _, opt := range optionsOf(o) {
		e.Options = append(e.Options, Option{Text: s.textObject(opt["text"]), Value: str(opt, "value"), Description: s.textObject(opt["description"])})
	}
	if c, ok := o["confirm"].(object); ok {
		e.Confirm = &Confirm{
			Title: s.plain(c["title"]), Text: s.textObject(c["text"]), Confirm: s.plain(c["confirm"]), Deny: s.plain(c["deny"]), Style: str(c, "style"),
		}
	}
	return e
}

func str(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// plainParts is what a message reads like without its looks.
func plainParts(parts []Part) string {
	var lines []string
	for _, p := range parts {
		if len(p.Flow) > 0 {
			lines = append(lines, plainPieces(p.Flow))
		}
		for _, f := range p.Fields {
			lines = append(lines, plainPieces(f))
		}
		if labels := plainElements(p.Elements); labels != "" {
			lines = append(lines, labels)
		}
	}
	return strings.Join(lines, "\n")
}

func plainElements(elements []Element) string {
	var labels []string
	for _, e := range elements {
		if e.Text != "" {
			labels = append(labels, "["+e.Text+"]")
		}
	}
	return strings.Join(labels, " ")
}

func plainPieces(pieces []Piece) string {
	lines := make([]string, 0, len(pieces))
	for _, p := range pieces {
		var b strings.Builder
		for _, sp := range p.Spans {
			b.WriteString(sp.Text)
		}
		switch p.Kind {
		case "quote":
			lines = append(lines, "> "+strings.ReplaceAll(b.String(), "\n", "\n> "))
		case "item":
			lines = append(lines, strings.Repeat("  ", p.Indent)+p.Marker+" "+b.String())
		default:
			lines = append(lines, b.String())
		}
	}
	return strings.Join(lines, "\n")
}

// userName and its like are how ids show; an id nobody has shows as itself.
func (s *Server) userName(id string) string {
	if u, ok := s.users[id]; ok {
		return "@" + u.Name
	}
	return "@" + id
}

func (s *Server) groupName(id string) string {
	if g, ok := s.groups[id]; ok {
		return "@" + g.Handle
	}
	return "@" + id
}

func (s *Server) channelName(id string) string {
	if c, ok := s.channels[id]; ok && !c.isIM() {
		return "#" + c.Name
	}
	return "#" + id
}

// richText renders the parts of a rich_text block. Text in it is never parsed.
func (s *Server) richText(o object) []Piece {
	items, _ := o["elements"].([]any)
	var out []Piece
	for _, it := range items {
		part, _ := it.(object)
		switch str(part, "type") {
		case "rich_text_preformatted":
			out = append(out, Piece{Kind: "pre", Spans: s.inlines(part)})
		case "rich_text_quote":
			out = append(out, Piece{Kind: "quote", Spans: s.inlines(part)})
		case "rich_text_list":
			out = append(out, s.richList(part)...)
		default:
			out = append(out, Piece{Kind: "p", Spans: s.inlines(part)})
		}
	}
	return out
}

func (s *Server) richList(list object) []Piece {
	items, _ := list["elements"].([]any)
	indent, _ := list["indent"].(float64)
	offset, _ := list["offset"].(float64)
	out := make([]Piece, 0, len(items))
	for i, it := range items {
		item, _ := it.(object)
		marker := "•"
		if list["style"] == "ordered" {
			marker = fmt.Sprintf("%d.", int(offset)+i+1)
		}
		out = append(out, Piece{Kind: "item", Spans: s.inlines(item), Marker: marker, Indent: int(indent)})
	}
	return out
}

func (s *Server) inlines(part object) []Span {
	items, _ := part["elements"].([]any)
	spans := make([]Span, 0, len(items))
	for _, it := range items {
		if o, ok := it.(object); ok {
			spans = append(spans, s.inline(o))
		}
	}
	return spans
}

func (s *Server) inline(o object) Span {
	style, _ := o["style"].(object)
	sp := Span{
		Kind: str(o, "type"), Text: str(o, "text"), URL: str(o, "url"),
		Bold: style["bold"] == true, Italic: style["italic"] == true, Strike: style["strike"] == true, Code: style["code"] == true,
	}
	switch sp.Kind {
	case "link":
		sp.Text = cmp.Or(sp.Text, sp.URL)
	case "user":
		sp.ID, sp.Text = str(o, "user_id"), s.userName(str(o, "user_id"))
	case "usergroup":
		sp.ID, sp.Text = str(o, "usergroup_id"), s.groupName(str(o, "usergroup_id"))
	case "channel":
		sp.ID, sp.Text = str(o, "channel_id"), s.channelName(str(o, "channel_id"))
	case "broadcast":
		sp.ID, sp.Text = str(o, "range"), "@"+str(o, "range")
	case "emoji":
		sp.Text = emoji(str(o, "name"))
	case "date":
		unix, _ := o["timestamp"].(float64)
		sp.Unix, sp.Format = int64(unix), str(o, "format")
		sp.Text = cmp.Or(str(o, "fallback"), sp.Format)
	}
	return sp
}
