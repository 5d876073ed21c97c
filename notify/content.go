package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"countersign/approvals"
	"countersign/db"
	"countersign/directory"
	"countersign/slack"
)

// Post renders a message from the state of now. [ErrOver] means that it has become pointless,
// an [*Undeliverable] that it must never be sent there.
func (p *Planner) Post(ctx context.Context, post db.Post) (Outgoing, error) {
	if err := p.checkRoom(ctx, post); err != nil {
		return Outgoing{}, err
	}
	if strings.HasPrefix(post.Name, endpointPrefix) {
		return p.endpointPost(ctx, post)
	}
	s, err := p.situation(ctx, post.TicketID)
	if err != nil {
		return Outgoing{}, err
	}
	switch post.Kind {
	case db.PostCard:
		return p.cardPost(ctx, s, post)
	case db.PostNote:
		return p.notePost(ctx, s, post)
	case db.PostAnnouncement:
		return p.announcementPost(ctx, s, post)
	case db.PostQuestion:
		return p.questionPost(ctx, s, post)
	case db.PostOutcome:
		return p.outcomePost(ctx, s, post)
	case db.PostNotice:
		return p.noticePost(ctx, s, post)
	}
	return Outgoing{}, fmt.Errorf("a message of an unknown kind %q", post.Kind)
}

// Card renders what a card shows now.
func (p *Planner) Card(ctx context.Context, card db.Card) (Outgoing, error) {
	s, err := p.situation(ctx, card.TicketID)
	if err != nil {
		return Outgoing{}, err
	}
	if card.Kind == db.CardAnswer {
		return p.answerCard(ctx, s, card)
	}
	var undeliverable *Undeliverable
	switch err := p.checkRoom(ctx, db.Post{Destination: card.PostedTo}); {
	case errors.As(err, &undeliverable): // since it was posted
		return Outgoing{Message: slack.Elsewhere(), Version: s.ticket.Version, Priority: urgency(s.ticket), Plain: slack.Elsewhere}, nil
	case err != nil:
		return Outgoing{}, err
	}
	return p.stageCard(ctx, s, card)
}

// Home renders a home tab.
func (p *Planner) Home(ctx context.Context, h db.Home) (slack.HomeView, error) {
	if p.c.Home == nil {
		return slack.HomeView{}, ErrOver
	}
	return p.c.Home(ctx, h)
}

// stageCard renders the card of a stage.
func (p *Planner) stageCard(ctx context.Context, s situation, card db.Card) (Outgoing, error) {
	answered, err := p.answered(ctx, s.ticket)
	if err != nil {
		return Outgoing{}, err
	}
	v := p.view(s, card)
	v.Answered = answered
	return Outgoing{
		Message: slack.Card(v), Version: s.ticket.Version, Keep: s.asks(card), Priority: urgency(s.ticket),
		Plain: func() slack.Message { return slack.Plain(v) },
	}, nil
}

// asks reports whether people can decide on a card now.
func (s situation) asks(card db.Card) bool {
	return card.Kind == db.CardStage && s.ticket.State.Open() && s.ticket.Stage == card.Stage
}

// urgency of bringing a card up to date: its end goes first.
func urgency(t approvals.Ticket) int {
	if t.State.Final() {
		return priorityFinal
	}
	return priorityProgress
}

// cardPost is the first message of a card. Nobody is asked about what is decided.
func (p *Planner) cardPost(ctx context.Context, s situation, post db.Post) (Outgoing, error) {
	card, ok := s.card(post.Handle)
	if !ok || !s.asks(card) {
		return Outgoing{}, ErrOver
	}
	if card.SlackUser != "" && !s.awaited(card.SlackUser) {
		return Outgoing{}, ErrOver // has decided elsewhere, or may not any more
	}
	out, err := p.stageCard(ctx, s, card)
	out.Priority = post.Priority
	return out, err
}

// awaited reports whether somebody with a Slack id may still decide.
func (s situation) awaited(slackUser string) bool {
	for _, name := range s.ticket.WaitingFor(s.dir) {
		if s.dir.People[name].Slack == slackUser {
			return true
		}
	}
	return false
}

func (s situation) card(handle string) (db.Card, bool) {
	for _, c := range s.cards {
		if c.Handle == handle {
			return c, true
		}
	}
	return db.Card{}, false
}

// event reads one event of a ticket.
func (p *Planner) event(ctx context.Context, ticketID string, seq int64) (approvals.Event, error) {
	events, err := p.c.Store.Events(ctx, db.Ref{ID: ticketID}, seq-1, 1)
	if err != nil {
		return approvals.Event{}, err
	}
	if len(events) == 0 || events[0].Seq != seq {
		return approvals.Event{}, fmt.Errorf("ticket %s has no event %d", ticketID, seq)
	}
	return events[0], nil
}

// view is what a message is rendered from.
func (p *Planner) view(s situation, card db.Card) slack.View {
	config := p.c.Policy()
	v := slack.View{
		Ticket: s.ticket, Tally: s.ticket.Tally(card.Stage, s.dir), Directory: config.Directory(), Now: p.c.Now(),
		Stage: card.Stage, Handle: card.Handle, PublicURL: p.c.PublicURL,
		Fingerprint: approvals.Fingerprint(p.c.FingerprintKey, s.ticket.Digest), Confirm: config.Confirm(s.ticket),
	}
	if up, ok := config.Upstream(s.ticket.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}

// eventPage is how many events are read at once.
const eventPage = 500

// answered reads the questions of a ticket that have an answer. They are in its events only.
func (p *Planner) answered(ctx context.Context, t approvals.Ticket) (out []approvals.Question, err error) {
	for after, more := int64(0), t.Questions > 0; more; {
		events, err := p.c.Store.Events(ctx, db.Ref{ID: t.ID}, after, eventPage)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if after = e.Seq; e.Type == approvals.EventAnswered && e.Data.Question != nil {
				out = append(out, *e.Data.Question)
			}
		}
		more = len(events) == eventPage
	}
	return out, nil
}

// checkRoom refuses a channel that people of another organisation read. What cannot be
// found out is not posted: it is tried again.
func (p *Planner) checkRoom(ctx context.Context, post db.Post) error {
	if p.c.Channels == nil || p.c.Policy().Slack.AllowExternal || isDirect(post.Destination) {
		return nil
	}
	external, err := p.c.Channels(ctx, post.Destination)
	if errors.Is(err, directory.ErrNoChannel) {
		return nil // the attempt to post there says so
	}
	if err != nil {
		return fmt.Errorf("ask whether %s is shared: %w", post.Destination, err)
	}
	if external {
		return &Undeliverable{Reason: "externally_shared"}
	}
	return nil
}
