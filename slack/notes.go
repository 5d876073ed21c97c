package slack

import (
	"slices"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// noting collects what people, rules and upstreams wrote, until its room is used up. None
// of it is ours, so none of it is mrkdwn.
type noting struct {
	room int
	out  []slackgo.RichTextElement
}

// leastNote is the room below which a note is left out rather than cut to a stump.
const leastNote = 100

func (n *noting) add(heading slackgo.RichTextElement, text string) {
	used := sizeOf(heading)
	if text == "" || n.room < used+leastNote {
		return
	}
	shown := shorten(text, min(n.room-used, roomNotes/2), lines)
	n.room -= used + units(shown)
	n.out = append(n.out, heading, quote(shown))
}

// sizeOf is the text of an element, in units as [Lint] counts them.
func sizeOf(e slackgo.RichTextElement) int {
	l := linter{}
	l.richText(e)
	return l.text
}

// notes quote what was said about a ticket, the most pressing first.
func (v View) notes() []slackgo.RichTextElement {
	n, t := &noting{room: roomNotes}, v.Ticket
	for _, d := range t.Decisions {
		if d.Verdict == approvals.GlassBroken {
			n.add(v.byline("Glass broken by ", d.Person, "", v.stands(d)+": "), d.Comment)
		}
	}
	if q := t.Question; q != nil {
		n.add(v.byline("", q.Person, "", " asks: "), q.Text)
	}
	v.noteAnswers(n)
	for _, d := range t.Decisions {
		if says := map[approvals.Verdict]string{approvals.Approve: " approved: ", approvals.Deny: " denied: "}[d.Verdict]; says != "" {
			n.add(v.byline("", d.Person, d.For, says), d.Comment)
		}
	}
	if t.Problem != nil && v.explains() {
		n.add(label("Why: "), t.Problem.Detail)
	}
	return n.out
}

// stands says of a bypass that it has stopped counting.
func (v View) stands(d approvals.Decision) string {
	if now, ok := v.bypass(); ok && now.At.Equal(d.At) && now.Person == d.Person {
		return ""
	}
	return ", which no longer counts"
}

// noteAnswers shows the questions that were answered, the newest first.
func (v View) noteAnswers(n *noting) {
	count := len(v.Answered)
	if count == 0 {
		return
	}
	heading := label(plural(count, "question", "questions") + ", answered")
	n.room -= sizeOf(heading)
	n.out = append(n.out, heading)
	for _, q := range slices.Backward(v.Answered) {
		n.add(v.byline("", q.Person, "", " asked: "), q.Text)
		n.add(label("Answer: "), q.Answer)
	}
}

// roomAnswers is the most that notes take, the heading of the answered questions included.
const roomAnswers = roomNotes + 100

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

// byline is a bold line above what somebody wrote, with mentions of them and of the one in
// whose place they did.
func (v View) byline(before, person, place, after string) slackgo.RichTextElement {
	var elements []slackgo.RichTextSectionElement
	if before != "" {
		elements = append(elements, bold(before))
	}
	elements = append(elements, v.named(person))
	if place != "" {
		elements = append(elements, bold(" for "), v.named(place))
	}
	return slackgo.NewRichTextSection(append(elements, bold(after))...)
}

// named mentions somebody in rich text, or names them where they have no Slack id.
func (v View) named(name string) slackgo.RichTextSectionElement {
	if id := v.Directory.People[name].Slack; personPattern.MatchString(id) {
		return slackgo.NewRichTextSectionUserElement(id, nil)
	}
	if name == "" {
		name = "somebody"
	}
	return bold(shorten(name, roomName, oneLine))
}
