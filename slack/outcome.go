package slack

import (
	"fmt"
	"slices"

	slackgo "github.com/slack-go/slack"

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
		return ":leftwards_arrow_with_hook: Withdrawn by its caller. Nothing was sent."
	}
	return "This request cannot be decided on here."
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
	return text + fmt.Sprintf(". Stage %d of %d%s is being asked. Nothing has been sent.", now+1, len(v.Ticket.Plan.Stages), name)
}

func (v View) approvers(counts func(approvals.Decision) bool) (out []string) {
	for _, d := range v.Ticket.Decisions {
		if name := v.person(d.Person); d.Verdict == approvals.Approve && counts(d) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (v View) approved() string {
	by := v.approvers(func(approvals.Decision) bool { return true })
	if len(by) == 0 {
		return "Allowed by rule " + code(v.Ticket.Plan.Rule, roomName) + " without anybody's approval."
	}
	return "Approved by " + list(by, " and ") + "."
}

// answer says what upstream answered, as far as that is known.
func (v View) answer() string {
	r := v.Ticket.Result
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
			by = append(by, v.person(d.Person))
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

// notes quote what people, rules and upstreams gave as reasons. None of it is ours, so none
// of it is mrkdwn.
func (v View) notes() (out []slackgo.RichTextElement) {
	room := roomNotes
	add := func(who, says, text string) {
		if text == "" || room < 100 {
			return
		}
		shown := shorten(text, min(room, roomNotes/2), lines)
		room -= units(shown)
		out = append(out, v.attributed(who, says), quote(shown))
	}
	t := v.Ticket
	for _, d := range t.Decisions {
		if d.Verdict == approvals.Deny {
			add(d.Person, " denied: ", d.Comment)
		}
	}
	if t.Question != nil {
		add(t.Question.Person, " asks: ", t.Question.Text)
	}
	if t.Problem != nil && v.explains() {
		add("", "Why: ", t.Problem.Detail)
	}
	return out
}

// explains reports whether the ticket's problem says more than the outcome already does.
func (v View) explains() bool {
	switch v.Ticket.State { //nolint:exhaustive // the others have no problem, or say it in our words
	case approvals.Failed, approvals.OutcomeUnknown:
		return true
	case approvals.Denied:
		return len(v.Ticket.Decisions) == 0
	default:
		return false
	}
}

// attributed is a heading that names a person.
func (v View) attributed(name, after string) slackgo.RichTextElement {
	if id := v.Directory.People[name].Slack; personPattern.MatchString(id) {
		return label("", id, after)
	}
	return label(shorten(name, roomName, oneLine), "", after)
}
