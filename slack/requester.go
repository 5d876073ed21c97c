package slack

import (
	slackgo "github.com/slack-go/slack"
)

// OutcomeNotice renders what became of a request for those who asked for it, as a direct
// message: in plain words, with what was said about it. Parts that the rule hides stay
// hidden.
func OutcomeNotice(v View) Message {
	title := v.title()
	m := Message{Text: "Your request. " + v.sentenceOf(title), Blocks: []slackgo.Block{
		header(v.headlineOf(title)),
		section(blockOutcome, "Your request, made by *"+mrkdwn(v.Ticket.Caller, roomName)+"* under rule "+
			code(v.Ticket.Plan.Rule, roomName)+". "+v.outcome()),
		rich(blockRequest, preformatted(v.line(roomLine))),
	}}
	if notes := v.notes(); len(notes) > 0 {
		m.Blocks = append(m.Blocks, rich(blockNotes, notes...))
	}
	foot := v.footer()
	if link := v.permalink("Open in its channel"); link != "" {
		foot += " · " + link
	}
	m.Blocks = append(m.Blocks, contextLine(blockHash, foot))
	return m
}
