package interact

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// press is one interaction, judged by one snapshot of the configuration and of Slack's facts.
type press struct {
	slack.Interaction
	who
	// key is what the request is written down under; late says that Slack had its answer and
	// nobody waits for another one.
	key  string
	late bool
	// card is what the handle leads to; review, where it is one's, how far they have read.
	card   db.Card
	review *db.Review
	// ticket is what it was before anything was decided, question what an answer is to; nil
	// for none.
	ticket   approvals.Ticket
	question *approvals.Question
	now      time.Time // the database's, once the ticket has been locked
	// settled says that the note that the request is done has been made, with what was decided.
	settled bool
	outcome string
}

// interact carries out an interaction. Its errors are refusals of the domain, errors that it
// can be tried again after, and errUnopened.
func (d *Desk) interact(ctx context.Context, p *press) error {
	if p.Type == slack.ViewClosed {
		p.outcome = "closed"
		return nil
	}
	p.config = d.c.Policy()
	if !d.ours(p.AppID, p.TeamID, p.EnterpriseID) {
		d.c.Logger.WarnContext(ctx, "a click from another workspace or app", slog.String("team", p.TeamID),
			slog.String("app", p.AppID), slog.String("user", p.User.ID))
		return errElsewhere
	}
	if p.tried() == "" {
		return errElsewhere
	}
	if err := d.find(ctx, p); err != nil {
		return err
	}
	ticket, err := d.c.Store.Ticket(ctx, db.Ref{ID: p.card.TicketID})
	if err != nil {
		return err
	}
	p.ticket = ticket
	p.who = d.who(ctx, p.User, d.patience(p), needOf(ticket, p.config.Directory()))
	misplaced, err := d.belongs(ctx, p)
	switch {
	case err != nil:
		return err
	case misplaced != nil:
		p.refusal, p.say = misplaced, ""
	}
	if p.refusal != nil {
		_, err := d.put(ctx, p, nil)
		return err
	}
	return d.act(ctx, p)
}

// patience is how long Slack may take to say who somebody is.
func (d *Desk) patience(p *press) time.Duration {
	if p.late {
		return askLate
	}
	return d.c.Budget * 2 / 5
}

// tries is what the audit trail calls what each button and modal of ours is for.
var tries = map[string]string{
	slack.ActionApprove: "approve", slack.ActionDeny: "deny", slack.ActionAsk: "ask", slack.ActionBreakGlass: "break_glass",
	slack.ActionAnswer: "answer", slack.ActionView: "view", slack.ActionNext: "view", slack.ActionPrev: "view",
}

// action is the button that was pressed, or that opened the modal.
func (p *press) action() string {
	if p.Type == slack.BlockActions {
		return p.ActionID
	}
	return p.View.CallbackID
}

// tried is what an attempt is called; "" for a button that is none of ours.
func (p *press) tried() string { return tries[p.action()] }

// act does what a button or modal is for, if it is one that its handle has.
func (d *Desk) act(ctx context.Context, p *press) error {
	if !p.has() {
		p.refusal = d.misplaced(ctx, p, "a button that does not belong to its handle")
		_, err := d.put(ctx, p, nil)
		return err
	}
	if p.card.Kind == db.CardAnswer {
		if err := d.findQuestion(ctx, p); err != nil {
			return err
		}
	}
	if p.Type == slack.ViewSubmission {
		return d.submitted(ctx, p)
	}
	switch p.ActionID {
	case slack.ActionApprove:
		return d.approve(ctx, p)
	case slack.ActionView:
		return d.look(ctx, p)
	case slack.ActionNext, slack.ActionPrev:
		return d.turn(ctx, p)
	}
	return d.open(ctx, p)
}

// findQuestion finds what somebody answers to: what their message asked, which need not be
// what the ticket waits for by now.
func (d *Desk) findQuestion(ctx context.Context, p *press) error {
	seq := p.card.Question()
	events, err := d.c.Store.Events(ctx, db.Ref{ID: p.card.TicketID}, seq-1, 1)
	if err != nil {
		return err
	}
	if seq > 0 && len(events) == 1 {
		p.question = events[0].Data.Question
	}
	return nil
}

// has reports whether a handle's message or modal has such a button at all: cards those that
// decide, questions the one that answers, what is personal the one that opens the full view;
// that itself its pages, and, sent off, an approval.
func (p *press) has() bool {
	action := p.action()
	switch {
	case p.review != nil && p.Type == slack.ViewSubmission:
		return action == slack.CallbackApprove
	case p.review != nil:
		return p.Surface == slack.SurfaceModal && (action == slack.ActionNext || action == slack.ActionPrev)
	case p.Type == slack.ViewSubmission && (action == slack.CallbackApprove || action == slack.CallbackView):
		return false // those have a review
	case p.Surface == slack.SurfaceModal && p.Type == slack.BlockActions:
		return false
	}
	switch p.card.Kind {
	case db.CardStage:
		return action != slack.ActionAnswer && action != slack.ActionNext && action != slack.ActionPrev
	case db.CardAnswer:
		return action == slack.ActionAnswer
	case db.CardPersonal:
		return action == slack.ActionView
	}
	return false
}

// put puts an attempt to the ticket, in one transaction with the note that the request is
// done. What is refused before that is refused here, on record. decide may be nil then.
func (d *Desk) put(ctx context.Context, p *press, decide db.Decide) (approvals.Ticket, error) {
	decided := false
	t, err := d.c.Store.AdvanceInbound(ctx, p.key, db.Ref{ID: p.card.TicketID}, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		p.now, decided = now, true
		if p.refusal != nil {
			return t.Refuse(p.actor, p.tried(), p.refusal, now)
		}
		return decide(t, now)
	})
	var refusal *approvals.Error
	p.settled = decided && (err == nil || errors.As(err, &refusal))
	return t, err
}

// isOf reports whether a review is open before whoever did something.
func isOf(r db.Review, in slack.Interaction) bool {
	return r.SlackUser == in.User.ID && r.SlackTeam == in.User.TeamID
}
