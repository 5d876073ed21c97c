package slack

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"countersign/approvals"
)

// Shown is a call as people see it in full, with the same parts hidden as on its card, but
// nothing cut and nothing spelled out: for programs that show it to people by themselves.
type Shown struct {
	Query   string
	Headers []approvals.Header
	// Body as text; as base64 in BodyBase64 when it is none.
	Body, BodyBase64 string
	// Complete says that everything is there but what the plan wants hidden. While a rule of
	// its hides parts that cannot be told from the rest, nobody can judge the call from this.
	Complete bool
}

// Show shows the call of a ticket. What a rule means to hide and cannot find is hidden
// whole.
func Show(t approvals.Ticket) Shown {
	r, c := newRedaction(t.Plan.Redact), t.Call
	out := Shown{Complete: !r.unclear}
	out.Query = joined(r.queryParts(c.Query), hiddenValue)
	for _, h := range c.Headers {
		if r.hidesHeader(h.Name) {
			h.Value = hiddenValue
		}
		out.Headers = append(out.Headers, h)
	}
	parts, understood := r.bodyParts(c)
	out.Complete = out.Complete && understood
	if out.Body = joined(parts, `"`+hiddenValue+`"`); !utf8.ValidString(out.Body) {
		out.Body, out.BodyBase64 = "", base64.StdEncoding.EncodeToString([]byte(out.Body))
	}
	return out
}

func joined(parts []part, instead string) string {
	var b strings.Builder
	for _, p := range parts {
		if p.hidden {
			p.text = instead
		}
		b.WriteString(p.text)
	}
	return b.String()
}
