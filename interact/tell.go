package interact

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// stillChecking is said when the time for an answer runs out before there is one.
const stillChecking = "Countersign is still checking this. You will be told in a moment what came of it; there is no need to press again."

// buttonNames are what people read on the buttons that open dialogs.
var buttonNames = map[string]string{
	slack.ActionApprove: "Approve", slack.ActionDeny: "Deny", slack.ActionAsk: "Ask for details", slack.ActionBreakGlass: "Break glass",
	slack.ActionView: "View full request", slack.ActionAnswer: "Answer", slack.ActionNext: "Next page", slack.ActionPrev: "Previous page",
}

// final reports whether an error says what came of an interaction, for good. After any other
// it is tried again.
func final(err error) bool {
	var refusal *approvals.Error
	return err == nil || errors.As(err, &refusal) || errors.Is(err, errUnopened) || errors.Is(err, db.ErrTaken)
}

// answerClick tells the person, and then Slack, what came of a click. Silence would look like
// success: when neither a dialog nor a word reaches them, Slack is to warn them.
func (d *Desk) answerClick(ctx context.Context, r request, p *press, err error) Ack {
	if !final(err) {
		d.unfinished(ctx, r, err)
		d.tell(ctx, p, stillChecking)
		return Ack{Status: http.StatusOK}
	}
	told := true
	if err != nil && !errors.Is(err, db.ErrTaken) {
		told = d.tell(ctx, p, d.sentence(ctx, p, err))
	}
	d.settle(ctx, r, p, err)
	if !told && errors.Is(err, errUnopened) {
		return Ack{Status: http.StatusServiceUnavailable}
	}
	return Ack{Status: http.StatusOK} // the card, or the dialog, says it
}

// answerModal says what the modal does next: close; stay, with what was typed, where that can
// be corrected; or become a notice.
func (d *Desk) answerModal(ctx context.Context, r request, p *press, err error) Ack {
	if !final(err) {
		d.unfinished(ctx, r, err)
		return Ack{Status: http.StatusOK, Body: slack.AckNotice(stillChecking)}
	}
	d.settle(ctx, r, p, err)
	if err == nil || errors.Is(err, db.ErrTaken) {
		return Ack{Status: http.StatusOK}
	}
	text := d.sentence(ctx, p, err)
	input := slack.InputOf(p.View.CallbackID)
	var code *codeError
	if errors.As(err, &code) {
		input = slack.CodeBlock
	}
	if input == "" || !correctable(err) {
		return Ack{Status: http.StatusOK, Body: slack.AckNotice(text)}
	}
	return Ack{Status: http.StatusOK, Body: slack.AckError(input, text)}
}

// settle notes that an interaction is done, unless that was noted with what it decided, and
// writes its line in the log.
func (d *Desk) settle(ctx context.Context, r request, p *press, err error) {
	outcome := p.outcome
	switch code := approvals.ErrorCode(err); {
	case errors.Is(err, db.ErrTaken):
		outcome = "taken"
	case errors.Is(err, errUnopened):
		outcome = "unopened"
	case err != nil:
		outcome = "refused: " + string(code)
	case outcome == "":
		outcome = "counted"
	}
	attrs := []slog.Attr{slog.String("action", p.tried()), slog.String("user", p.User.ID), slog.String("ticket_id", p.card.TicketID)}
	if p.settled {
		d.line(ctx, r, outcome, attrs...)
		return
	}
	d.finish(ctx, r, outcome, attrs...)
}

// sentence turns an error into words for the person.
func (d *Desk) sentence(ctx context.Context, p *press, err error) string {
	var refusal *approvals.Error
	switch {
	case errors.As(err, &refusal) && p.say != "":
		return p.say
	case errors.As(err, &refusal) && p.action() == slack.ActionBreakGlass:
		return slack.RefusalToBypass(refusal.Code, refusal.Message)
	case errors.As(err, &refusal):
		return slack.Refusal(refusal.Code, refusal.Message)
	}
	d.c.Logger.ErrorContext(ctx, "cannot carry out a Slack interaction", slog.Any("error", err))
	if errors.Is(err, errUnopened) {
		return "Slack did not open the dialog in time. Please press " + buttonNames[p.action()] + " again."
	}
	return slack.Refusal("", "")
}

// tell shows a text to the one who clicked, and reports whether it could. It is a courtesy:
// what counts is recorded.
func (d *Desk) tell(ctx context.Context, p *press, text string) bool {
	var err error
	switch {
	case p.ResponseURL != "":
		err = d.c.Client.Respond(ctx, p.ResponseURL, text)
	case p.View.ID != "" && p.Surface == slack.SurfaceModal:
		err = d.c.Client.UpdateView(ctx, p.View.ID, "", slack.Notice(text))
	case p.Type == slack.BlockActions && p.actor.Kind == approvals.ActorPerson:
		// A home tab has no address to answer to.
		_, err = d.c.Client.Post(ctx, p.User.ID, slack.Saying(text), slack.PostOptions{})
	default:
		return false
	}
	if err != nil {
		d.c.Logger.WarnContext(ctx, "cannot answer in Slack", slog.Any("error", err))
	}
	return err == nil
}

// ephemeralMessage is the answer to a command that only the one who typed it sees.
func ephemeralMessage(m slack.Message) []byte {
	return append([]byte(`{"response_type":"ephemeral",`), m.JSON()[1:]...)
}

func ephemeral(text string) []byte { return ephemeralMessage(slack.Saying(text)) }

// challenge is the answer by which Slack knows an address for ours.
func challenge(text string) []byte {
	raw, _ := json.Marshal(map[string]string{"challenge": text}) // a map of strings always marshals
	return raw
}
