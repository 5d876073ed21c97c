package slack

import (
	slackgo "github.com/slack-go/slack"

	"countersign/approvals"
)

// MaxAnswer bounds an answer typed into a modal, in characters: what Slack takes, which is
// less than [approvals.MaxAnswer].
const MaxAnswer = min(3000, approvals.MaxAnswer)

// AnswerModal asks the requester for the answer to the question that is open, and shows it.
func AnswerModal(v View) slackgo.ModalViewRequest {
	m := v.modal(CallbackAnswer, "Answer a question", "Send answer", nil,
		typing(AnswerBlock, "Answer (shown to everybody who decides, and kept in the audit log)", MaxAnswer, true))
	if q := v.Ticket.Question; q != nil {
		asked := rich(blockNotes, v.byline("", q.Person, "", " asks: "), quote(shorten(orDash(q.Text), roomThread, lines)))
		m.Blocks.BlockSet = append(m.Blocks.BlockSet[:1:1], append([]slackgo.Block{asked}, m.Blocks.BlockSet[1:]...)...)
	}
	return m
}

// AnswerRequest renders a question for those who asked for the call, as a direct message. It
// has a button to answer as long as that question is the one that is open, and shows the
// answer once it has one.
func AnswerRequest(v View, q approvals.Question) Message {
	title := "Question about your request"
	said := []slackgo.RichTextElement{v.byline("", q.Person, "", " asks: "), quote(shorten(orDash(q.Text), roomThread, lines))}
	if q.Answer != "" {
		title = "Question answered"
		said = append(said, label("Answer: "), quote(shorten(q.Answer, roomThread/2, lines)))
	}
	m := Message{Text: v.sentenceOf(title), Blocks: []slackgo.Block{
		header(v.headlineOf(title)),
		rich(blockRequest, preformatted(v.line(roomLine))),
		rich(blockNotes, said...),
		section(blockOutcome, v.answering(q)),
		contextLine(blockHash, v.footer()),
	}}
	if v.answerable(q) && ValidHandle(v.Handle) {
		answer := slackgo.NewButtonBlockElement(ActionAnswer, v.Handle, plainText("Answer…")).WithStyle(slackgo.StylePrimary)
		m.Blocks = append(m.Blocks, slackgo.NewActionBlock(blockActions, answer))
	}
	return m
}

// answerable reports whether a question is the one that waits for its answer.
func (v View) answerable(q approvals.Question) bool {
	open := v.Ticket.Question
	return v.Ticket.State == approvals.NeedsInfo && open != nil && q.Answer == "" &&
		open.Person == q.Person && open.Text == q.Text && open.AskedAt.Equal(q.AskedAt)
}

// answering says what answering does, or why it is over.
func (v View) answering(q approvals.Question) string {
	switch {
	case q.Answer != "" && v.Ticket.State.Open():
		return "It was answered. The request can be decided on; nothing has been sent."
	case q.Answer != "":
		return "It was answered."
	case v.answerable(q):
		return "Nothing has been sent. Reminders and escalation rest until it is answered, the deadline does not: the request expires " +
			date(v.Ticket.ExpiresAt) + ". A program can answer with " + code("POST /v1/tickets/"+v.Ticket.ID+"/answers", 80) + "."
	default:
		return "It was closed without an answer: it is not needed any more."
	}
}
