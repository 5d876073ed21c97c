package policy

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep a body nests.
const maxJSONDepth = 64

// parseJSON reads a body more strictly than RFC 8259 demands, so that what a condition sees
// is what every server sees: no name twice in an object, no byte that is not UTF-8, no half
// of a surrogate pair, no number that neither int64 nor float64 can hold, no two names in an
// object that differ in case only. Objects become maps of CEL, lists []any, whole numbers int64 and others float64.
func parseJSON(text string) (any, error) {
	if !utf8.ValidString(text) {
		return nil, errJSON
	}
	p := jsonReader{text: text}
	v, ok := p.value()
	p.space()
	switch {
	case !ok || p.at < len(text):
		return nil, errJSON
	case p.alike:
		return nil, errAlike
	}
	return v, nil
}

type jsonReader struct {
	text      string
	at, depth int
	alike     bool
}

func (p *jsonReader) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// eat passes over a text when it is next.
func (p *jsonReader) eat(text string) bool {
	if !strings.HasPrefix(p.text[p.at:], text) {
		return false
	}
	p.at += len(text)
	return true
}

func (p *jsonReader) value() (any, bool) {
	p.space()
	if p.at == len(p.text) {
		return nil, false
	}
	switch p.text[p.at] {
	case '{':
		return p.nested(p.object)
	case '[':
		return p.nested(p.list)
	case '"':
		return p.quoted()
	case 't':
		return true, p.eat("true")
	case 'f':
		return false, p.eat("false")
	case 'n':
		return nil, p.eat("null")
	}
	return p.number()
}

func (p *jsonReader) nested(read func() (any, bool)) (any, bool) {
	p.at++
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxJSONDepth {
		return nil, false
	}
	p.space()
	return read()
}

func (p *jsonReader) object() (any, bool) {
	out := make(map[string]any)
	if p.eat("}") {
		return p.folded(out), true
	}
	for {
		p.space()
		if p.at == len(p.text) || p.text[p.at] != '"' {
			return nil, false
		}
		name, ok := p.quoted()
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		if p.space(); !p.eat(":") {
			return nil, false
		}
		if out[name], ok = p.value(); !ok {
			return nil, false
		}
		if p.space(); !p.eat(",") {
			return p.folded(out), p.eat("}")
		}
	}
}

// folded makes an object of its fields, and notes when their names differ in case only.
func (p *jsonReader) folded(fields map[string]any) any {
	out := object(fields)
	if out == nil {
		p.alike = true
	}
	return out
}

func (p *jsonReader) list() (any, bool) {
	out := []any{}
	if p.eat("]") {
		return out, true
	}
	for {
		v, ok := p.value()
		if !ok {
			return nil, false
		}
		out = append(out, v)
		if p.space(); !p.eat(",") {
			return out, p.eat("]")
		}
	}
}

// quoted reads a text, which begins with a quotation mark.
func (p *jsonReader) quoted() (string, bool) {
	p.at++
	end := strings.IndexAny(p.text[p.at:], `"\`)
	if end < 0 || hasControl(p.text[p.at:p.at+end]) {
		return "", false
	}
	plain := p.text[p.at : p.at+end]
	p.at += end
	if p.eat(`"`) {
		return plain, true
	}
	return p.escaped(plain)
}

// escaped reads the rest of a text from its first backslash on.
func (p *jsonReader) escaped(plain string) (string, bool) {
	var b strings.Builder
	b.WriteString(plain)
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return b.String(), true
		case c < ' ':
			return "", false
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		r, ok := p.escape()
		if !ok {
			return "", false
		}
		b.WriteRune(r)
	}
	return "", false
}

func (p *jsonReader) escape() (rune, bool) {
	if p.at == len(p.text) {
		return 0, false
	}
	c := p.text[p.at]
	p.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	if c != 'u' {
		return 0, false
	}
	r, ok := p.hex()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if !p.eat(`\u`) {
		return 0, false
	}
	second, ok := p.hex()
	r = utf16.DecodeRune(r, second)
	return r, ok && r != utf8.RuneError
}

func (p *jsonReader) hex() (rune, bool) {
	if len(p.text)-p.at < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(p.text[p.at:p.at+4], 16, 16)
	p.at += 4
	return rune(n), err == nil
}

func hasControl(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' {
			return true
		}
	}
	return false
}

func (p *jsonReader) number() (any, bool) {
	start := p.at
	p.eat("-")
	whole := p.digits()
	if whole == "" || len(whole) > 1 && whole[0] == '0' {
		return nil, false
	}
	decimal := false
	if p.eat(".") {
		if decimal = true; p.digits() == "" {
			return nil, false
		}
	}
	if p.eat("e") || p.eat("E") {
		if !p.eat("+") {
			p.eat("-")
		}
		if decimal = true; p.digits() == "" {
			return nil, false
		}
	}
	if decimal {
		return double(p.text[start:p.at])
	}
	n, err := strconv.ParseInt(p.text[start:p.at], 10, 64)
	return n, err == nil
}

func (p *jsonReader) digits() string {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.text[start:p.at]
}

// double reads a number with a point or an exponent. One so small that it would become 0
// does not fit.
func double(text string) (any, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(n, 0) {
		return nil, false
	}
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	return n, n != 0 || !strings.ContainsAny(mantissa, "123456789")
}
