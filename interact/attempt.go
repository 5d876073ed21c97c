package interact

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"countersign/approvals"
	"countersign/slack"
)

// verdicts says which buttons decide.
var verdicts = map[string]approvals.Verdict{
	slack.ActionApprove: approvals.Approve, slack.ActionDeny: approvals.Deny, slack.ActionBreakGlass: approvals.GlassBroken,
}

// placeholder stands for what is yet to be typed. It is never committed.
const placeholder = "not typed yet"

// judge says what comes of an attempt. Whether it is allowed at all comes first: only who may
// do it is told that something is missing. text is what was typed.
func (d *Desk) judge(p *press, t approvals.Ticket, text string) (approvals.Transition, error) {
	switch p.action() {
	case slack.ActionAsk:
		return d.ask(p, t, text)
	case slack.ActionAnswer:
		return d.answer(p, t, text)
	}
	return d.decide(p, t, p.decision(verdicts[p.action()], text))
}

// decision is a verdict on what somebody was shown.
func (p *press) decision(verdict approvals.Verdict, text string) approvals.Decision {
	out := approvals.Decision{
		Person: p.actor.Name, Verdict: verdict, Stage: p.card.Stage, Comment: text, Digest: p.card.Digest,
		MessageTS: p.messageTS(), Channel: p.conversation(), Rendered: p.rendered(),
	}
	if r := p.review; r != nil {
		out.Stage, out.Digest, out.Rendered = r.Stage, r.Digest, r.Rendered
	}
	return out
}

// rendered names what the card showed. Of a second message of a card nobody knows which
// version it shows.
func (p *press) rendered() string {
	if p.MessageTS != "" && p.card.TS != "" && p.MessageTS != p.card.TS {
		return ""
	}
	return p.card.Rendered
}

// decide puts a verdict. The glass is broken by nobody who was not shown all of the call, on
// its card as it stands now or before that in full.
func (d *Desk) decide(p *press, t approvals.Ticket, v approvals.Decision) (approvals.Transition, error) {
	tr, err := t.Decide(p.actor, v, p.dir, p.now)
	allowed := err == nil || approvals.ErrorCode(err) == approvals.CodeCommentRequired
	if !allowed {
		return tr, err
	}
	if v.Verdict == approvals.GlassBroken && !d.shown(p, t) {
		p.say = "The card cannot show all of this request, so nothing was done. Press View full request and read it to its end; after that you can break the glass."
		return t.Refuse(p.actor, p.tried(), &approvals.Error{
			Code: approvals.CodeDigestMismatch, Message: "they have not been shown the whole request",
		}, p.now)
	}
	if p.Type == slack.ViewSubmission {
		if short := p.brief(t, v.Comment); short != nil {
			return approvals.Transition{}, short
		}
	}
	return tr, err
}

// shown reports whether somebody who breaks the glass has been shown all of the call. Any card
// of the ticket is as good, whatever its stage.
func (d *Desk) shown(p *press, t approvals.Ticket) bool {
	for _, person := range t.Viewers {
		if person == p.actor.Name {
			return true
		}
	}
	v := d.view(p, t)
	v.Stage, v.Tally = t.Stage, t.Tally(t.Stage, p.dir.At(p.now))
	return slack.ShowsAll(v)
}

// brief says that what was typed is too short. Only a comment or a reason may be left out,
// where the rule does not ask for one.
func (p *press) brief(t approvals.Ticket, text string) error {
	what, required := "comment", true
	switch p.action() {
	case slack.ActionAsk:
		what = "question"
	case slack.ActionAnswer:
		what = "answer"
	case slack.ActionDeny:
		what, required = "reason", slack.CommentRequired(t, p.card.Stage, approvals.Deny)
	case slack.ActionApprove:
		required = slack.CommentRequired(t, p.card.Stage, approvals.Approve)
	}
	if !required || utf8.RuneCountInString(text) >= slack.MinTyped {
		return nil
	}
	return &approvals.Error{
		Code: approvals.CodeInvalid, Message: fmt.Sprintf("please give %s %s, in at least %d characters", article(what), what, slack.MinTyped),
	}
}

func article(noun string) string {
	if strings.HasPrefix(noun, "a") {
		return "an"
	}
	return "a"
}

// ask puts a question. One from a card that no longer shows what the ticket holds is no
// question about it.
func (d *Desk) ask(p *press, t approvals.Ticket, text string) (approvals.Transition, error) {
	tr, err := t.Ask(p.actor, approvals.Question{Person: p.actor.Name, Text: orPlaceholder(text)}, p.dir, p.now)
	if err != nil {
		return tr, err
	}
	// Ask judges the stage that is now, and knows nothing of cards.
	switch {
	case p.card.Digest != t.Digest:
		return t.Refuse(p.actor, "ask", &approvals.Error{Code: approvals.CodeDigestMismatch, Message: "the card shows something else"}, p.now)
	case p.card.Stage != t.Stage:
		return t.Refuse(p.actor, "ask", &approvals.Error{Code: approvals.CodeStale, Message: "that stage is over; please ask on its newest card"}, p.now)
	}
	if short := p.brief(t, text); short != nil {
		return approvals.Transition{}, short
	}
	return tr, nil
}

// answer gives the answer to a question.
func (d *Desk) answer(p *press, t approvals.Ticket, text string) (approvals.Transition, error) {
	switch {
	case !t.MayAnswer(p.actor.Name, p.dir.At(p.now)):
		p.say = "Only those who count as the requester of this call can answer, so nothing was sent."
		return t.Refuse(p.actor, "answer", &approvals.Error{Code: approvals.CodeNotRequester, Message: "you do not count as the requester of this call"}, p.now)
	case p.card.Digest != t.Digest:
		return t.Refuse(p.actor, "answer", &approvals.Error{Code: approvals.CodeDigestMismatch, Message: "the message shows something else"}, p.now)
	}
	tr, err := t.Answer(p.actor, orPlaceholder(text), p.now)
	if err != nil {
		return tr, err
	}
	if q := p.question; q == nil || q.Person != t.Question.Person || !q.AskedAt.Equal(t.Question.AskedAt) {
		return t.Refuse(p.actor, "answer", &approvals.Error{
			Code: approvals.CodeStale, Message: "another question is open by now; please answer it in its own message",
		}, p.now)
	}
	if short := p.brief(t, text); short != nil {
		return approvals.Transition{}, short
	}
	return tr, nil
}

// orPlaceholder lets the domain say whether somebody may ask before they are told that they
// have not.
func orPlaceholder(text string) string {
	if text == "" {
		return placeholder
	}
	return text
}

// approve handles the Approve button of a card: it counts, or it opens the full view where
// that is where to approve from.
func (d *Desk) approve(ctx context.Context, p *press) error {
	reading := false
	t, err := d.put(ctx, p, func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		tr, err := d.judge(p, t, "")
		v := d.view(p, t)
		allowed := err == nil || approvals.ErrorCode(err) == approvals.CodeCommentRequired
		if reading = allowed && slack.NeedsReview(v); !reading {
			return tr, err
		}
		if obstacle := slack.NewReview(v).Obstacle(); obstacle != "" {
			p.say = "Your click was not counted: this request cannot be approved from here, because " + obstacle + "."
			return t.Refuse(p.actor, p.tried(), &approvals.Error{Code: approvals.CodeDigestMismatch, Message: obstacle}, p.now)
		}
		return approvals.Transition{}, nil
	})
	if err != nil || !reading {
		return err
	}
	return d.openReview(ctx, p, t, slack.ReviewApprove)
}

// errUnopened means that Slack would not open a dialog, or turn its page.
var errUnopened = errors.New("cannot open a dialog")

// open opens the modal of a button for somebody who may use it. Somebody who may not is
// refused now, and on record, rather than after writing a reason; who may is judged again
// when it comes.
func (d *Desk) open(ctx context.Context, p *press) error {
	t, err := d.put(ctx, p, func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		tr, err := d.judge(p, t, placeholder)
		if err == nil {
			return approvals.Transition{}, nil
		}
		return tr, err
	})
	if err != nil {
		return err
	}
	modal, _ := slack.Modal(d.view(p, t), p.ActionID)
	return d.popUp(ctx, p, modal)
}

// popUp opens a modal before whoever pressed a button. Nobody sees one open long after.
func (d *Desk) popUp(ctx context.Context, p *press, modal slack.ModalView) error {
	if p.late {
		return errUnopened
	}
	p.outcome = "opened"
	if err := d.c.Client.OpenView(ctx, p.TriggerID, modal); err != nil {
		return fmt.Errorf("%w: %w", errUnopened, err)
	}
	return nil
}

// submitted handles a modal. Slack counts spaces, and checks in the person's own client.
func (d *Desk) submitted(ctx context.Context, p *press) error {
	text := strings.TrimSpace(p.Typed())
	_, err := d.put(ctx, p, func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		tr, err := d.judge(p, t, text)
		if p.review == nil || (err != nil && !correctable(err)) {
			return tr, err
		}
		if why := d.unread(p, t); why != nil {
			return t.Refuse(p.actor, p.tried(), why, p.now)
		}
		if err == nil {
			err = d.checkCode(p, t)
		}
		if err != nil {
			return approvals.Transition{}, err
		}
		return tr, nil
	})
	return err
}

// correctable reports whether whoever typed something can put it right and send it again.
func correctable(err error) bool {
	code := approvals.ErrorCode(err)
	return code == approvals.CodeInvalid || code == approvals.CodeCommentRequired
}

// codeError says that the digits that were typed are not those of the fingerprint.
type codeError struct{ why *approvals.Error }

func (e *codeError) Error() string { return e.why.Error() }
func (e *codeError) Unwrap() error { return e.why }

// checkCode compares the digits typed into a full view with those of the fingerprint, where
// they have to be.
func (d *Desk) checkCode(p *press, t approvals.Ticket) error {
	if p.config.Confirm(t) != approvals.ConfirmCode {
		return nil
	}
	fingerprint := approvals.Fingerprint(d.c.FingerprintKey, t.Digest)
	want := fingerprint[max(len(fingerprint)-4, 0):]
	if len(want) == 4 && subtle.ConstantTimeCompare([]byte(strings.ToLower(p.Code())), []byte(want)) == 1 {
		return nil
	}
	return &codeError{&approvals.Error{
		Code: approvals.CodeInvalid, Message: "these are not the last four digits of the fingerprint on the card of this request",
	}}
}

// view is what the card is rendered from, but for the answers to questions: they make no
// difference to what can be pressed.
func (d *Desk) view(p *press, t approvals.Ticket) slack.View {
	v := slack.View{
		Ticket: t, Tally: t.Tally(p.card.Stage, p.dir.At(p.now)), Directory: p.dir, Now: p.now, Stage: p.card.Stage, Handle: p.card.Handle,
		PublicURL: d.c.PublicURL, Fingerprint: approvals.Fingerprint(d.c.FingerprintKey, t.Digest), Confirm: p.config.Confirm(t),
	}
	if up, ok := p.config.Upstream(t.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}
