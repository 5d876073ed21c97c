package slack

import (
	"fmt"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"
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

// Escalation renders the tier-th escalation, counted from 1, for the thread below a card.
// The ticket must be the one after the tier has fired: mentioned are those of the tier who
// may decide now.
func Escalation(v View, tier int) Message {
	stage, _ := v.stage()
	heading, after := fmt.Sprintf("Escalation %d", tier), ""
	if tier >= 1 && tier <= len(stage.Escalate) {
		heading += fmt.Sprintf(" of %d", len(stage.Escalate))
		after = " after " + spoken(stage.Escalate[tier-1].After)
	}
	text := ":rotating_light: No decision" + after + ". "
	if who := v.called(tier); len(who) > 0 {
		text += list(who, " and ") + ", please review; expires "
	} else {
		text += "Please review; expires "
	}
	return v.threadMessage("esc", text+date(v.Ticket.ExpiresAt)+".", heading)
}

// called mentions the people of a tier who may decide, or all who may if those are not to
// be told apart.
func (v View) called(tier int) []string {
	stage, ok := v.stage()
	if len(v.Mention) > 0 || !ok || tier < 1 || tier > len(stage.Escalate) {
		return v.deciders()
	}
	of := v.Directory.Members(stage.Escalate[tier-1].To)
	var out []string
	for _, name := range v.Ticket.WaitingFor(v.Directory) {
		if of[name] {
			out = append(out, v.person(name))
		}
	}
	if len(out) == 0 {
		return v.deciders()
	}
	return out
}

func (v View) threadMessage(id, text, heading string) Message {
	return Message{
		Text: heading + ". " + v.sentence(),
		Blocks: []slackgo.Block{
			section(id, text),
			contextLine("ref", heading+" · "+v.ticketLink()+" · fingerprint "+v.fingerprint()),
		},
	}
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
