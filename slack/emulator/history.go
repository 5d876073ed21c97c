package emulator

import (
	"slices"
	"strings"
)

func history(c *call) (object, error) {
	ch, err := c.readable("history")
	if err != nil {
		return nil, err
	}
	if !c.isIn(ch) {
		return nil, fail("not_in_channel")
	}
	var found []*message
	for _, m := range slices.Backward(ch.messages) {
		if (m.threadTS == "" || m.broadcast) && c.inRange(m.ts) {
			found = append(found, m)
		}
	}
	return c.messagePage(found)
}

func replies(c *call) (object, error) {
	ch, err := c.readable("history")
	if err != nil {
		return nil, err
	}
	if !c.isIn(ch) {
		return nil, fail("not_in_channel")
	}
	parent := ch.byTS[c.str("ts")]
	if parent == nil {
		return nil, fail("thread_not_found")
	}
	found := []*message{parent}
	for _, m := range ch.replies(parent.ts) {
		if c.inRange(m.ts) {
			found = append(found, m)
		}
	}
	return c.messagePage(found)
}

// inRange applies oldest and latest, which leave the bounds themselves out unless inclusive.
func (c *call) inRange(ts string) bool {
	oldest, latest, inclusive := paddedTS(c.str("oldest")), paddedTS(c.str("latest")), c.flag("inclusive")
	ts = paddedTS(ts)
	switch {
	case oldest != "" && (ts < oldest || ts == oldest && !inclusive):
		return false
	case latest != "" && (ts > latest || ts == latest && !inclusive):
		return false
	}
	return true
}

// paddedTS makes timestamps comparable as strings; "1700000000" and "1700000000.5" are legal
// bounds.
func paddedTS(ts string) string {
	if ts == "" || ts == "0" {
		return ""
	}
	sec, frac, _ := strings.Cut(ts, ".")
	return strings.Repeat("0", max(0, 10-len(sec))) + sec + "." + frac + strings.Repeat("0", max(0, 6-len(frac)))
}

func (c *call) messagePage(found []*message) (object, error) {
	ms, next, err := page(c, found, 100)
	if err != nil {
		return nil, err
	}
	wired := make([]object, 0, len(ms))
	for _, m := range ms {
		wired = append(wired, c.wire(m, c.flag("include_all_metadata")))
	}
	out := object{"messages": wired, "has_more": next != "", "pin_count": 0}
	if next != "" {
		out["response_metadata"] = object{"next_cursor": next}
	}
	return out, nil
}
