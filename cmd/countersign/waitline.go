package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"countersign/client"
)

// painterOf is painter for another stream than standard output.
func painterOf(env environment, w io.Writer) paint {
	file, ok := w.(*os.File)
	return paint(ok && isTerminal(file) && env.getenv("NO_COLOR") == "" && env.getenv("TERM") != "dumb")
}

// state marks a state by how it ended, if it has.
func (p paint) state(s client.State) string {
	text := safe(string(s))
	switch s { //nolint:exhaustive // the others are neither good nor bad, and there may be new ones
	case client.Succeeded:
		return p.good(text)
	case client.Failed, client.Denied:
		return p.bad(text)
	case client.OutcomeUnknown, client.NeedsInfo:
		return p.alert(text)
	default:
		return text
	}
}

// eventLine is an event in one line: when, who, what. Events that only say how the work is
// shared out are left out.
func eventLine(p paint, e client.Event) string {
	what := happened(e)
	if what == "" {
		return ""
	}
	who := e.Actor.Name
	if who == "" {
		who = e.Actor.Kind
	}
	line := fmt.Sprintf("%s  %-14s %s", e.At.Local().Format(time.TimeOnly), brief(who, 14), safe(what))
	if e.Done {
		return p.bold(line)
	}
	return line
}

// happened says what an event is about, in words.
func happened(e client.Event) string {
	d := e.Data
	switch e.Type {
	case client.EventReset:
		return "(earlier events are no longer kept)"
	case "ticket.claimed", "ticket.claim_released", "ticket.viewed", "ticket.notified":
		return ""
	case "ticket.created":
		return "submitted the call"
	case "ticket.decided", "ticket.glass_broken":
		return decided(e)
	case "ticket.question_asked", "ticket.answered":
		return asked(e)
	case "ticket.escalated":
		return withReason("escalated to "+orNobody(d.Asked), d.Reason)
	case "ticket.reminded":
		return fmt.Sprintf("reminded the approvers, for the %s time", ordinal(d.Number))
	case "ticket.stage_completed":
		return fmt.Sprintf("stage %d is complete", d.Stage)
	case "ticket.approved":
		return withReason("approved", d.Reason)
	case "ticket.executing":
		return "the call is being made"
	case "ticket.succeeded", "ticket.failed", "ticket.outcome_unknown", "ticket.denied", "ticket.expired", "ticket.cancelled":
		return ended(e)
	case "ticket.resolved":
		return withReason("resolved as "+string(e.State), d.Reason)
	case "ticket.refused":
		if d.Refusal != nil {
			return "was refused to " + d.Refusal.Tried + ": " + d.Refusal.Message
		}
	case "ticket.callback_delivered", "ticket.callback_failed", "ticket.callback_exhausted":
		return posted(e)
	}
	return withReason(strings.ReplaceAll(strings.TrimPrefix(e.Type, "ticket."), "_", " "), d.Reason)
}

func decided(e client.Event) string {
	d := e.Data.Decision
	if d == nil {
		return "decided"
	}
	out := map[string]string{"approve": "approved", "deny": "denied", "break_glass": "broke the glass"}[d.Verdict]
	if out == "" {
		out = "decided: " + d.Verdict
	}
	if d.For != "" {
		out += " for " + d.For
	}
	if d.Stage > 0 {
		out += fmt.Sprintf(" at stage %d", d.Stage)
	}
	if t := e.Data.Progress; t != nil && d.Verdict == "approve" {
		out += fmt.Sprintf(", %d of %d", t.Have, t.Needed)
	}
	return withReason(out, d.Comment)
}

func asked(e client.Event) string {
	q := e.Data.Question
	switch {
	case q == nil:
		return strings.ReplaceAll(strings.TrimPrefix(e.Type, "ticket."), "_", " ")
	case e.Type == "ticket.answered":
		return withReason("answered", q.Answer)
	}
	return withReason("asked", q.Text)
}

func ended(e client.Event) string {
	out := strings.ReplaceAll(string(e.State), "_", " ")
	if r := e.Data.Result; r != nil {
		out += fmt.Sprintf(": the upstream answered %d after %d ms", r.Status, r.DurationMS)
	}
	if e.Data.SupersededBy != "" {
		out += ", superseded by " + e.Data.SupersededBy
	}
	if p := e.Data.Error; p != nil {
		return withReason(out, p.Detail)
	}
	return withReason(out, e.Data.Reason)
}

func posted(e client.Event) string {
	out := "callback " + strings.TrimPrefix(e.Type, "ticket.callback_")
	d := e.Data.Delivery
	if d == nil {
		return out
	}
	out += fmt.Sprintf(" (attempt %d", d.Number)
	if d.Status > 0 {
		out += fmt.Sprintf(", status %d", d.Status)
	}
	return withReason(out+")", d.Error)
}

func withReason(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "others"
	}
	return strings.Join(names, ", ")
}

func ordinal(n int) string {
	switch n {
	case 1:
		return "first"
	case 2:
		return "second"
	}
	return fmt.Sprintf("%d.", n)
}
