package slack

import (
	"fmt"
	"slices"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// Reminder renders the number-th reminder, counted from 1, for the thread below a card.
// Edits notify nobody, so whoever is waited for is mentioned in a new message.
func Reminder(v View, number int) Message {
	missing := max(v.Tally.Needed-v.Tally.Have, 0)
	text := fmt.Sprintf(":bell: Reminder %d: still waiting for %s", number, plural(missing, "approval", "approvals"))
	if who := v.deciders(); len(who) > 0 {
		text += " from " + list(who, " or ")
	}
	return v.threadMessage("rem", text+"; expires "+date(v.Ticket.ExpiresAt)+".", fmt.Sprintf("Reminder %d", number))
}

// Escalation renders a ticket.escalated for the thread below a card: why, and whom its tier
// asks. The ticket must be the one after the tier has fired: mentioned are those of the
// tier who may decide now.
func Escalation(v View, e approvals.Data) Message {
	stage, _ := v.stage()
	heading := fmt.Sprintf("Escalation %d", e.Number)
	if e.Number >= 1 && e.Number <= len(stage.Escalate) {
		heading += fmt.Sprintf(" of %d", len(stage.Escalate))
	}
	text := ":rotating_light: " + why(e) + ". "
	if who := v.called(e.Asked); len(who) > 0 {
		text += list(who, " and ") + ", please review"
	} else {
		text += "Please review"
	}
	if e.Tier != nil && e.Tier.Mode == approvals.ModeReplace {
		text += ", instead of those who were asked before"
	}
	return v.threadMessage("esc", text+"; expires "+date(v.Ticket.ExpiresAt)+".", heading)
}

// why is the reason of an escalation, with its delay as people say it.
func why(e approvals.Data) string {
	switch {
	case e.Reason == "":
		return "No decision"
	case e.Tier != nil && strings.HasPrefix(e.Reason, "no decision after "):
		return "No decision after " + spoken(e.Tier.After)
	}
	return capital(mrkdwn(e.Reason, roomReason))
}

// called mentions those who were asked and may decide now, or all who may if those are not
// to be told apart.
func (v View) called(asked []string) []string {
	if len(v.Mention) > 0 {
		return v.deciders()
	}
	out := v.waiting(func(name string) bool { return slices.Contains(asked, name) })
	if len(out) == 0 {
		return v.deciders()
	}
	return out
}

// Asked renders a question for the thread below a card, with a mention of those who can
// answer it, as far as they are known.
func Asked(v View, q approvals.Question) Message {
	text := ":question: " + v.person(q.Person) + " asks "
	if who := v.requesters(); len(who) > 0 {
		text += list(who, " and ") + " for details, to be answered in the direct message they get of it, or with "
	} else {
		text += "*" + mrkdwn(v.Ticket.Caller, roomName) + "* for details, to be answered with "
	}
	text += code("POST /v1/tickets/"+v.Ticket.ID+"/answers", 80) + ". Reminders and escalation rest until it is answered, the deadline does not: expires " + date(v.Ticket.ExpiresAt) + "."
	return v.threadMessage("ask", text, "Question", quote(shorten(orDash(q.Text), roomThread, lines)))
}

// Answered renders an answer, given by somebody, for the thread below a card, with a
// mention of who had asked.
func Answered(v View, q approvals.Question, by approvals.Actor) Message {
	name := "*" + mrkdwn(by.Name, roomName) + "*"
	if by.Kind == approvals.ActorPerson {
		name = v.person(by.Name)
	}
	return v.threadMessage("ans", ":speech_balloon: "+v.person(q.Person)+", your question has an answer from "+name+
		". The request can be decided on its card.", "Answer",
		label("Question: "), quote(shorten(orDash(q.Text), roomThread/2, lines)),
		label("Answer: "), quote(shorten(orDash(q.Answer), roomThread, lines)))
}

// Stalled renders for the thread below a card that nobody can complete its ticket.
func Stalled(v View, reason string) Message {
	text := ":warning: *Nobody who may still decide can complete this:* " + mrkdwn(orDash(reason), roomReason) +
		". It expires " + date(v.Ticket.ExpiresAt) + " unless people who were asked come back, somebody denies it, or its caller withdraws it."
	if who := v.requesters(); len(who) > 0 {
		text += " Requested by " + list(who, " and ") + "."
	}
	return v.threadMessage("stall", text, "Stalled")
}

// AskedAgain renders for the thread below a card why a ticket that was approved waits for
// people again, and where.
func AskedAgain(v View, reason string) Message {
	now := v.Ticket.Stage
	text := ":leftwards_arrow_with_hook: The approval of this request no longer counts: " + mrkdwn(orDash(reason), roomReason) +
		". Nothing was sent."
	if now >= 0 && now < len(v.Ticket.Plan.Stages) {
		text += fmt.Sprintf(" Stage %d of %d is asked", now+1, len(v.Ticket.Plan.Stages))
		if channel := v.Ticket.Plan.Stages[now].Channel; now != v.Stage && channel != "" {
			text += " in " + room(channel)
		}
		if who := v.deciders(); len(who) > 0 {
			text += ": " + list(who, " and ") + ", please review"
		}
		text += "; expires " + date(v.Ticket.ExpiresAt) + "."
	}
	return v.threadMessage("again", text, "Asked again")
}

// requesters mentions the people behind the call who can be reached: the owners of its
// caller, and whom it is made for.
func (v View) requesters() []string {
	names := slices.Clone(v.Directory.Owners[v.Ticket.Caller])
	for name, p := range v.Directory.People {
		if who := v.Ticket.OnBehalfOf; who != "" && slices.ContainsFunc(append([]string{p.Name, p.Slack, p.Email}, p.Accounts...),
			func(known string) bool { return strings.EqualFold(known, who) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []string
	for _, name := range slices.Compact(names) {
		if personPattern.MatchString(v.Directory.People[name].Slack) {
			out = append(out, v.person(name))
		}
	}
	return out
}

// threadMessage is a line of ours, what others wrote below it, and what it is about.
func (v View) threadMessage(id, text, heading string, said ...slackgo.RichTextElement) Message {
	m := Message{Text: heading + ". " + v.sentence(), Blocks: []slackgo.Block{section(id, text)}}
	if len(said) > 0 {
		m.Blocks = append(m.Blocks, rich(blockNotes, said...))
	}
	return v.withReference(m, heading)
}

func (v View) withReference(m Message, heading string) Message {
	m.Blocks = append(m.Blocks, contextLine("ref", heading+" · "+v.ticketLink()+" · fingerprint "+v.fingerprint()))
	return m
}

// spoken shows a duration as people say it: 15 min, 2 h 30 min, 3 d.
func spoken(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d/time.Second))
	}
	var parts []string
	for _, u := range []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if n := d / u.size; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
			d -= n * u.size
		}
	}
	return strings.Join(parts, " ")
}
