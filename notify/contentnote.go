package notify

import (
	"context"
	"slices"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// over reports whether an event is about what has passed: a stage that is over, a stall that
// is, a question that has its answer, which is posted with it, or a reminder or an
// escalation after which there was another.
func over(t approvals.Ticket, e approvals.Event) bool {
	if e.Data.Stage != nil && *e.Data.Stage != t.Stage {
		return true
	}
	switch e.Type { //nolint:exhaustive // the others stay true
	case approvals.EventReminded:
		return t.State != approvals.Pending || t.Reminders > e.Data.Number
	case approvals.EventEscalated:
		return t.Stage < len(t.Tiers) && t.Tiers[t.Stage] > e.Data.Number
	case approvals.EventStalled:
		return t.Stalled == nil
	case approvals.EventQuestionAsked:
		return t.Question == nil || !t.Question.AskedAt.Equal(e.Data.Question.AskedAt)
	}
	return false
}

// notePost is a message below a card.
func (p *Planner) notePost(ctx context.Context, s situation, post db.Post) (Outgoing, error) {
	card, ok := s.card(post.Handle)
	if !ok {
		return Outgoing{}, ErrOver
	}
	e, err := p.event(ctx, post.TicketID, post.Seq)
	if err != nil {
		return Outgoing{}, err
	}
	if card.TS == "" || (e.Type != approvals.EventGlassBroken && !s.matters(card, e)) {
		return Outgoing{}, ErrOver // a card that is not there will say it all, or nobody is asked
	}
	said, err := p.saidByTheCard(ctx, card, e)
	if err != nil {
		return Outgoing{}, err
	}
	if said {
		return Outgoing{}, ErrOver
	}
	message, broadcast := p.note(s, e, card)
	return Outgoing{
		Message: message, ThreadTS: card.TS, Broadcast: broadcast, Version: s.ticket.Version, Priority: post.Priority,
	}, nil
}

// matters reports whether an event is still to be spoken of to those who see a card. Who has
// decided, or may not any more, is not reminded.
func (s situation) matters(card db.Card, e approvals.Event) bool {
	if !s.ticket.State.Open() || over(s.ticket, e) {
		return false
	}
	return card.SlackUser == "" || !calls(e) || s.awaited(card.SlackUser)
}

// calls reports whether an event does no more than call those who may decide.
func calls(e approvals.Event) bool {
	return e.Type == approvals.EventReminded || e.Type == approvals.EventEscalated
}

// saidByTheCard reports whether a card was posted after an event that calls people: it has
// called them itself, and all that was missed while Slack was away is not made up for.
func (p *Planner) saidByTheCard(ctx context.Context, card db.Card, e approvals.Event) (bool, error) {
	if !calls(e) {
		return false, nil
	}
	events, err := p.c.Store.Events(ctx, db.Ref{ID: card.TicketID}, e.Seq, eventPage)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(events, func(x approvals.Event) bool {
		return x.Type == approvals.EventNotified && x.Data.Card != nil && x.Data.Card.TS == card.TS && x.Data.Card.Version >= e.Seq
	}), nil
}

// note renders an event; broadcast shows it in the channel besides the thread.
func (p *Planner) note(s situation, e approvals.Event, card db.Card) (m slack.Message, broadcast bool) {
	v := p.view(s, card)
	switch e.Type { //nolint:exhaustive // the others have no note
	case approvals.EventEscalated:
		return slack.Escalation(v, e.Data), true
	case approvals.EventStalled:
		return slack.Stalled(v, e.Data.Reason), true
	case approvals.EventReopened, approvals.EventTightened:
		return slack.AskedAgain(v, e.Data.Reason), true
	case approvals.EventGlassBroken:
		return slack.GlassBroken(v, *e.Data.Decision), true
	case approvals.EventQuestionAsked:
		return slack.Asked(v, *e.Data.Question), false
	case approvals.EventAnswered:
		return slack.Answered(v, *e.Data.Question, e.Actor), false
	default:
		return slack.Reminder(v, e.Data.Number), false
	}
}

// announcementPost says aloud, in a channel without a card, that the glass was broken.
func (p *Planner) announcementPost(ctx context.Context, s situation, post db.Post) (Outgoing, error) {
	e, err := p.event(ctx, post.TicketID, post.Seq)
	if err != nil {
		return Outgoing{}, err
	}
	if e.Data.Decision == nil {
		return Outgoing{}, ErrOver
	}
	message, _ := p.note(s, e, db.Card{TicketID: s.ticket.ID, Stage: e.Data.Decision.Stage})
	return Outgoing{Message: message, Version: s.ticket.Version, Priority: post.Priority}, nil
}

// noticePost says below a card that can no longer be changed how its ticket stands: the card
// once more, as it is now.
func (p *Planner) noticePost(ctx context.Context, s situation, post db.Post) (Outgoing, error) {
	card, ok := s.card(post.Handle)
	if !ok || card.TS == "" {
		return Outgoing{}, ErrOver
	}
	out, err := p.Card(ctx, card)
	out.ThreadTS, out.Priority = card.TS, post.Priority
	return out, err
}
