package approvals

import "time"

// MaxQuestions bounds how often a ticket's timers can be held up.
const MaxQuestions = 20

// Question is what an approver wants to know before deciding.
type Question struct {
	Person  string    `json:"person"`
	Text    string    `json:"text"`
	AskedAt time.Time `json:"asked_at"`
	Answer  string    `json:"answer,omitempty"`
}

// Ask puts a question to the requester. The ticket becomes needs_info; reminders and
// escalation rest until it is answered, the deadline does not. Only somebody who may
// decide may ask. Decisions are accepted meanwhile; one that completes the stage closes the
// question unanswered. Errors are those of Decide.
func (t Ticket) Ask(actor Actor, q Question, dir Directory, now time.Time) (Transition, error) {
	if q.Text == "" {
		return Transition{}, refuse(CodeInvalid, "the question is empty")
	}
	if err := checkText("the question", q.Text, MaxQuestion); err != nil {
		return Transition{}, err
	}
	if t.State.Open() && !now.Before(t.ExpiresAt) {
		return t.expireLate(now)
	}
	dir = dir.At(now)
	_, why := t.mayDecide(Decision{Person: q.Person, Verdict: Deny, Stage: t.Stage, Digest: t.Digest}, dir)
	switch {
	case why != nil:
	case t.State == NeedsInfo:
		why = refuse(CodeConflict, "a question is already open")
	case t.Questions >= MaxQuestions:
		why = refuse(CodeConflict, "%d questions have been asked on this request; no more are taken", MaxQuestions)
	}
	if why != nil {
		return t.refused(actor, "ask", why, now)
	}
	c := t.change(actor, now)
	q.AskedAt, q.Answer = c.now, ""
	c.record(EventQuestionAsked, NeedsInfo, Data{Question: &q})
	c.notify()
	c.updateCard()
	c.arm()
	return c.done(), nil
}

// Answer gives the requester's answer. The ticket is pending again and its timers go on
// where they stopped.
func (t Ticket) Answer(actor Actor, text string, now time.Time) (Transition, error) {
	if text == "" {
		return Transition{}, refuse(CodeInvalid, "the answer is empty")
	}
	if err := checkText("the answer", text, MaxAnswer); err != nil {
		return Transition{}, err
	}
	if t.State.Final() {
		return Transition{}, refuse(CodeAlreadyFinal, "this ticket is already %s", t.State)
	}
	if t.State != NeedsInfo {
		return Transition{}, refuse(CodeConflict, "no question is open on this ticket")
	}
	if !now.Before(t.ExpiresAt) {
		return t.expireLate(now)
	}
	c := t.change(actor, now)
	q := *t.Question
	q.Answer = text
	c.record(EventAnswered, Pending, Data{Question: &q})
	c.notify()
	c.updateCard()
	c.arm()
	return c.done(), nil
}
