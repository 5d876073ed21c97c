package slack

import (
	"net/url"
	"strings"

	"countersign/approvals"
)

// exhibit is the request as people see it, with an account of what they do not see.
type exhibit struct {
	// text is the request line, the headers, and after an empty line the body.
	text string
	// account says what is shown of what there is.
	account []string
	// complete says that everything is shown but what the plan wants hidden.
	complete bool
	// obstacle says why nobody can judge the request by what is shown, here or in the full
	// view, as the rest of "cannot be approved from here: …". Without one, what is not
	// complete here is in the full view.
	obstacle string
}

// exhibit shows the call in at most room units.
func (v View) exhibit(room int) exhibit {
	e := v.reveal(room)
	out := exhibit{text: orEllipsis(e.out.String()), account: e.account(), obstacle: v.defect(e)}
	out.complete = out.obstacle == "" && !e.full
	return out
}

// line is the request line alone, with an ellipsis if that is not all of it. It does not
// look at the rest of the call.
func (v View) line(room int) string { return orEllipsis(v.begin(room).line) }

func orEllipsis(text string) string {
	if text == "" { // no room for as much as the method
		return "…"
	}
	return text
}

// begin writes out the request line.
func (v View) begin(room int) *exhibiting {
	r := newRedaction(v.Ticket.Plan.Redact)
	e := &exhibiting{screen: screen{room: room}, call: v.Ticket.Call, redaction: r, clear: !r.unclear}
	e.requestLine(v.address())
	if e.line = e.out.String(); e.full {
		e.line += "…"
	}
	return e
}

// reveal writes out the call as far as there is room.
func (v View) reveal(room int) *exhibiting {
	e := v.begin(room)
	e.headers()
	e.body()
	return e
}

// verdictOnBinding says whether the bytes of a ticket are those of its digest.
type verdictOnBinding int

const (
	bindingUnchecked verdictOnBinding = iota
	bindingHolds
	bindingBroken
)

// checked is the view with its binding checked: a body may be long, and is shown in more
// than one way.
func (v View) checked() View {
	t := v.Ticket
	switch {
	case v.binding != bindingUnchecked:
	case t.Binding(t.Plan.UpstreamDigest).Digest() == t.Digest:
		v.binding = bindingHolds
	default:
		v.binding = bindingBroken
	}
	return v
}

// defect says why nobody can judge the request, however much of it is shown.
func (v View) defect(e *exhibiting) string {
	switch {
	case v.checked().binding != bindingHolds:
		return "what is shown does not have the fingerprint of what was submitted"
	case !e.clear:
		return "its rule hides parts of it that cannot be told from the rest, so all of it is hidden"
	}
	return ""
}

type exhibiting struct {
	screen
	// line is the request line, with an ellipsis if that is not all of it.
	line      string
	call      approvals.Call
	redaction redaction
	clear     bool

	headersShown, headersHidden, queryHidden int
	bodyShown, bodyHidden                    int
}

// requestLine shows the whole address, as it will be called.
func (e *exhibiting) requestLine(address string) {
	e.write(e.call.Method, asciiLine)
	e.put(" ")
	e.write(address, asciiLine)
	if e.call.Query == "" {
		return
	}
	e.put("?")
	for _, p := range e.redaction.queryParts(e.call.Query) {
		switch {
		case !p.hidden:
			e.write(p.text, asciiLine)
		case e.put(hiddenValue):
			e.queryHidden++
		}
	}
}

func (e *exhibiting) headers() {
	for _, h := range e.call.Headers {
		e.put("\n")
		e.write(h.Name, asciiLine)
		e.put(": ")
		if e.redaction.hidesHeader(h.Name) {
			e.put(hiddenValue)
		} else {
			e.write(h.Value, oneLine)
		}
		switch {
		case e.full:
		case e.redaction.hidesHeader(h.Name):
			e.headersHidden++
		default:
			e.headersShown++
		}
	}
}

func (e *exhibiting) body() {
	if len(e.call.Body) == 0 {
		return
	}
	parts, understood := e.redaction.bodyParts(e.call)
	e.clear = e.clear && understood
	e.put("\n\n")
	for _, p := range parts {
		switch {
		case !p.hidden:
			e.bodyShown += e.write(p.text, lines)
		case e.put(`"` + hiddenValue + `"`):
			e.bodyHidden++
		}
	}
}

// account is what the card says of itself: what is shown, hidden and spelled out.
func (e *exhibiting) account() []string {
	out := []string{e.bodyAccount()}
	if n := len(e.call.Headers); n > 0 {
		text := "headers: " + grouped(e.headersShown) + " shown"
		if e.headersHidden > 0 {
			text += ", " + grouped(e.headersHidden) + " redacted"
		}
		if left := n - e.headersShown - e.headersHidden; left > 0 {
			text += ", " + grouped(left) + " not shown"
		}
		out = append(out, text)
	}
	if e.queryHidden > 0 {
		out = append(out, "query: "+plural(e.queryHidden, "value", "values")+" redacted")
	}
	if e.spelled > 0 {
		out = append(out, plural(e.spelled, "character", "characters")+` spelled out as \u… or \x…`)
	}
	return out
}

func (e *exhibiting) bodyAccount() string {
	if len(e.call.Body) == 0 {
		return "no body"
	}
	text := "body " + grouped(e.bodyShown) + " of " + grouped(len(e.call.Body)) + " bytes shown"
	if e.bodyHidden > 0 {
		text += ", " + plural(e.bodyHidden, "part", "parts") + " redacted"
	}
	return text
}

// address is the full URL of the call without its query: base and path joined as they are.
func (v View) address() string {
	base, ok := v.base()
	if !ok {
		return v.Ticket.Call.Upstream + ":" + v.Ticket.Call.Path
	}
	return base + v.Ticket.Call.Path
}

// target is address without the scheme, for a dialog.
func (v View) target() string {
	_, rest, found := strings.Cut(v.address(), "://")
	if !found {
		return v.address()
	}
	return rest
}

// base is the upstream's base URL without a final slash, and without a user or password
// that somebody may have written into it.
func (v View) base() (string, bool) {
	u, err := url.Parse(v.BaseURL)
	if err != nil || u.Host == "" {
		return "", false
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return strings.TrimRight(u.String(), "/"), true
}
