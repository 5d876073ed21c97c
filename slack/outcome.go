package slack

import (
	"fmt"
	"slices"

	"countersign/approvals"
)

// outcome says what has happened to a ticket nobody can decide on from this card.
func (v View) outcome() string {
	t := v.Ticket
	text := v.happened()
	if t.State == approvals.Executing && !t.CancelRequestedAt.IsZero() {
		text += " Its caller has asked to withdraw it since, which came too late."
	}
	if t.State.Final() {
		text += v.callback()
	}
	return text
}

func (v View) happened() string {
	switch t := v.Ticket; t.State {
	case approvals.Pending, approvals.NeedsInfo:
		return v.elsewhere()
	case approvals.Approved:
		if v.held() {
			return ":hourglass_flowing_sand: " + v.approved() + " It will be sent once, not before " + date(t.NotBefore) + "."
		}
		return ":hourglass_flowing_sand: " + v.approved() + " It is about to be sent, once."
	case approvals.Executing:
		return ":hourglass_flowing_sand: " + v.approved() + " It is being sent."
	case approvals.Succeeded:
		return ":white_check_mark: " + v.approved() + v.answer()
	case approvals.Failed:
		return ":x: " + v.approved() + v.answer()
	case approvals.OutcomeUnknown:
		return ":warning: " + v.approved() + " It was sent, or may have been, and no answer was recorded" + v.problemCode() +
			". It is not sent again; somebody has to find out what happened and say so."
	case approvals.Denied:
		return v.denied()
	case approvals.Expired:
		return v.expired()
	case approvals.Cancelled:
		return v.cancelled()
	}
	return "This request cannot be decided on here."
}

// held reports whether an approved ticket waits for its hour.
func (v View) held() bool {
	t := v.Ticket
	return t.State == approvals.Approved && t.NotBefore.After(t.ApprovedAt) && t.ReleasedAt.IsZero()
}

// elsewhere is for cards of stages other than the current one.
func (v View) elsewhere() string {
	now := v.Ticket.Stage
	name := ""
	if now >= 0 && now < len(v.Ticket.Plan.Stages) {
		name = " (" + mrkdwn(v.Ticket.Plan.Stages[now].Name, roomName) + ")"
	}
	if now < v.Stage {
		return fmt.Sprintf(":leftwards_arrow_with_hook: An approval of an earlier stage no longer stands, so stage %d%s is asked again first. "+
			"Nothing has been sent.", now+1, name)
	}
	text := fmt.Sprintf(":white_check_mark: Stage %d is complete", v.Stage+1)
	if by := v.approvers(func(d approvals.Decision) bool { return d.Stage == v.Stage }); len(by) > 0 {
		text += ", approved by " + list(by, " and ")
	}
	text += ". "
	if v.roundOf(now) > v.roundOf(v.Stage) {
		text += "The policy became stricter since: *asked again*. "
	}
	return text + fmt.Sprintf("Stage %d of %d%s is being asked. Nothing has been sent.", now+1, len(v.Ticket.Plan.Stages), name)
}

// roundOf is how often a stricter policy had added stages when it added this one.
func (v View) roundOf(stage int) int {
	if stage < 0 || stage >= len(v.Ticket.Plan.Stages) {
		return 0
	}
	return v.Ticket.Plan.Stages[stage].Round
}

// voter mentions who decided, and in whose place where that was not their own.
func (v View) voter(d approvals.Decision) string {
	if d.For == "" {
		return v.person(d.Person)
	}
	return v.person(d.Person) + " for " + v.person(d.For)
}

func (v View) approvers(counts func(approvals.Decision) bool) (out []string) {
	for _, d := range v.Ticket.Decisions {
		if name := v.voter(d); d.Verdict == approvals.Approve && counts(d) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (v View) approved() string {
	by := v.approvers(func(approvals.Decision) bool { return true })
	d, broken := v.bypass()
	switch {
	case broken && len(by) > 0:
		return v.glass(d) + " Approved by " + list(by, " and ") + " before."
	case broken:
		return v.glass(d)
	case len(by) == 0:
		return "Allowed by rule " + code(v.Ticket.Plan.Rule, roomName) + " without anybody's approval."
	}
	return "Approved by " + list(by, " and ") + "."
}

// answer says what upstream answered, as far as that is known.
func (v View) answer() string {
	r := v.Ticket.Result
	if r == nil && v.Ticket.State == approvals.Failed && v.Ticket.ExecutionStartedAt.IsZero() {
		return " *Nothing was sent*" + v.problemCode() + "."
	}
	if r == nil {
		return " There is no answer from upstream" + v.problemCode() + "."
	}
	text := fmt.Sprintf(" Upstream answered *%d* in %s ms", r.Status, grouped(int(r.DurationMS)))
	if v.Ticket.State == approvals.Failed {
		text += ", which counts as a failure"
	}
	return text + "."
}

func (v View) problemCode() string {
	if p := v.Ticket.Problem; p != nil && p.Code != "" {
		return " (" + code(p.Code, 40) + ")"
	}
	return ""
}

func (v View) denied() string {
	var by []string
	for _, d := range v.Ticket.Decisions {
		if d.Verdict == approvals.Deny {
			by = append(by, v.voter(d))
		}
	}
	if len(by) == 0 {
		return ":no_entry: Denied by rule " + code(v.Ticket.Plan.Rule, roomName) + ". Nothing was sent."
	}
	return ":no_entry: Denied by " + list(by, " and ") + ". Nothing was sent."
}

func (v View) expired() string {
	if !v.Ticket.ApprovedAt.IsZero() {
		return ":hourglass: " + v.approved() + " It was not begun in time, and that approval is no longer good. Nothing was sent."
	}
	return ":hourglass: Nobody decided in time. Nothing was sent."
}

func (v View) cancelled() string {
	if by := v.Ticket.SupersededBy; by != "" {
		return ":leftwards_arrow_with_hook: Superseded by " + v.otherLink(by) + ". Nothing was sent."
	}
	return ":leftwards_arrow_with_hook: Withdrawn by its caller. Nothing was sent."
}

func (v View) callback() string {
	switch v.Ticket.CallbackState {
	case approvals.CallbackPending:
		return " Callback not delivered yet."
	case approvals.CallbackDelivered:
		return " Callback delivered."
	case approvals.CallbackExhausted:
		return " Callback could not be delivered."
	case approvals.CallbackNone:
	}
	return ""
}
