package slack

import (
	"regexp"
	"slices"

	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// GlassBroken renders the announcement that somebody bypassed the stages of a ticket by a
// decision: for the thread below its card, and for any other channel that is to know. It
// says who, which call, why, and how much was bypassed, and mentions whoever was asked.
func GlassBroken(v View, d approvals.Decision) Message {
	n := v.missing(d)
	request := []slackgo.RichTextElement{preformatted(v.line(roomLine))}
	if d.Comment != "" {
		request = append(request, v.byline("Glass broken by ", d.Person, "", ": "), quote(shorten(d.Comment, roomThread, lines)))
	}
	m := Message{
		Text: v.sentenceOf("Glass broken by "+mrkdwn(d.Person, roomName)) + "; " + bypassed(n),
		Blocks: []slackgo.Block{
			header(v.headlineOf("Glass broken")),
			section("glass", ":rotating_light: "+v.glass(d)+" That alone approved this call: it is sent once"+v.hour()+
				", without waiting for anybody else."),
			rich(blockRequest, request...),
		},
	}
	if who := v.unheard(d); len(who) > 0 {
		m.Blocks = append(m.Blocks, section("asked", "Their decision was not waited for: "+list(who, " and ")+"."))
	}
	return v.withReference(m, "Glass broken")
}

// bypass returns the decision by which the stages of the ticket were bypassed, as long as
// the approval that came of it stands.
func (v View) bypass() (approvals.Decision, bool) {
	t := v.Ticket
	for _, d := range t.Decisions {
		if d.Verdict == approvals.GlassBroken && !t.ApprovedAt.IsZero() && d.At.Equal(t.ApprovedAt) {
			return d, true
		}
	}
	return approvals.Decision{}, false
}

// glass names a bypass as exactly that.
func (v View) glass(d approvals.Decision) string {
	return "*Glass broken by* " + v.person(d.Person) + ": " + bypassed(v.missing(d)) + "."
}

func bypassed(n int) string {
	if n == 1 {
		return "1 approval was bypassed"
	}
	return grouped(n) + " approvals were bypassed"
}

// missing counts the approvals that were missing when the glass was broken, in the stage of
// then and in those after it.
func (v View) missing(d approvals.Decision) int {
	t := v.Ticket
	if i := slices.IndexFunc(t.Decisions, func(x approvals.Decision) bool {
		return x.Verdict == approvals.GlassBroken && x.At.Equal(d.At) && x.Person == d.Person
	}); i >= 0 {
		t.Decisions = t.Decisions[:i]
	}
	t.Stage = d.Stage
	return toGo(t, v.Directory.At(v.Now))
}

// toGo counts the approvals that a ticket still lacks.
func toGo(t approvals.Ticket, dir approvals.Directory) (n int) {
	for i := max(t.Stage, 0); i < len(t.Plan.Stages); i++ {
		tally := t.Tally(i, dir)
		n += max(tally.Needed-tally.Have, 0)
	}
	return n
}

// unheard mentions those who could have decided where the glass was broken and had not.
func (v View) unheard(d approvals.Decision) []string {
	t, asked := v.Ticket, make(map[string]bool)
	for _, set := range t.Tally(d.Stage, v.Directory.At(v.Now)).Sets {
		for name := range v.dir().Members(set.From) {
			asked[name] = !v.requester(name)
		}
	}
	for _, x := range t.Decisions {
		asked[x.Person] = false
	}
	var out []string
	for _, name := range approvals.Names(asked) {
		if asked[name] {
			out = append(out, v.person(name))
		}
	}
	return out
}

// requester reports whether somebody counts as who asked for the call.
func (v View) requester(name string) bool {
	return slices.Contains(v.Ticket.Plan.Excluded, name) || slices.Contains(v.Directory.Owners[v.Ticket.Caller], name)
}

// hour says from when on the call may be made, where that is yet to come.
func (v View) hour() string {
	if !v.Now.Before(v.Ticket.NotBefore) {
		return ""
	}
	return ", not before " + date(v.Ticket.NotBefore)
}

var channelPattern = regexp.MustCompile(`^[CG][A-Z0-9]{1,30}$`)

// room names a channel of the configuration.
func room(channel string) string {
	if channelPattern.MatchString(channel) {
		return "<#" + channel + ">"
	}
	return "*" + mrkdwn(channel, roomName) + "*"
}

// rooms are the channels in which a bypass is announced.
func (v View) rooms() (out []string) {
	stage, _ := v.stage()
	if stage.Channel != "" {
		out = append(out, room(stage.Channel))
	}
	if p := v.Ticket.Plan.BreakGlass; p != nil && p.Announce != "" && p.Announce != stage.Channel {
		out = append(out, room(p.Announce))
	}
	return out
}
