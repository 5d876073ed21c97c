package notify

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
)

// Undeliverable says that a message must never be sent where it was to go.
type Undeliverable struct {
	// Reason is a word of ours, such as "externally_shared".
	Reason string
}

// Error names the reason.
func (u *Undeliverable) Error() string { return "must not be sent there: " + u.Reason }

var personID = regexp.MustCompile(`^[UW][A-Z0-9]{1,30}$`)

// isPerson reports whether a destination is somebody, by Slack's id, and not a conversation.
func isPerson(destination string) bool { return personID.MatchString(destination) }

var directID = regexp.MustCompile(`^[UWD][A-Z0-9]{1,30}$`)

// isDirect reports whether a destination is a person, or the conversation with one, by
// Slack's id, and not a channel.
func isDirect(destination string) bool { return directID.MatchString(destination) }

// Dead plans what happens instead of a message that Slack will never take: the stage is
// shown in the next channel that may do, then to its people directly, and where none of
// this is left the operator is told. A message that is nobody's card is given up, and said.
func (p *Planner) Dead(ctx context.Context, post db.Post, reason string) error {
	// One after the other, so that of messages that die at once the last finds nothing left.
	p.dying.Lock()
	defer p.dying.Unlock()
	if strings.HasPrefix(post.Name, endpointPrefix) {
		p.log.WarnContext(ctx, "people cannot be told about a callback endpoint", slog.String("name", post.Name), slog.String("reason", reason))
		return nil
	}
	s, err := p.situation(ctx, post.TicketID)
	if err != nil {
		return err
	}
	s.dead = p.dying.add(post, s.posts)
	attrs := []any{
		slog.String("ticket_id", post.TicketID), slog.String("kind", string(post.Kind)),
		slog.String("destination", post.Destination), slog.String("reason", reason),
	}
	switch post.Kind {
	case db.PostCard, db.PostNote:
		card, ok := s.card(post.Handle)
		if !ok || !s.asks(card) {
			return nil // nobody is asked there any more
		}
		if post.Kind == db.PostNote && slices.Contains(unfit, reason) {
			p.log.WarnContext(ctx, "a note cannot be posted; its card can be seen", attrs...)
			return nil
		}
		return p.instead(ctx, s, card, attrs)
	case db.PostAnnouncement:
		return p.louder(ctx, s, post, attrs)
	case db.PostQuestion, db.PostOutcome:
		p.log.WarnContext(ctx, "a requester cannot be told in slack", attrs...)
	case db.PostNotice:
		p.log.WarnContext(ctx, "a card cannot be brought up to date", attrs...)
	}
	return nil
}

// unfit are reasons that are about a message and not about its place.
var unfit = []string{"invalid_blocks", "msg_too_long", "msg_blocks_too_long", "metadata_too_large", "no_text", "invalid_arguments"}

// dying are messages that are being given up: the outbox does not say so yet.
type dying struct {
	sync.Mutex
	posts map[uuid.UUID]bool
}

// maxDying bounds what is remembered.
const maxDying = 10_000

// add notes a message, forgets those of the same ticket of which the outbox knows, and
// returns all.
func (d *dying) add(post db.Post, known []db.Post) map[uuid.UUID]bool {
	if d.posts == nil || len(d.posts) >= maxDying {
		d.posts = map[uuid.UUID]bool{}
	}
	for _, p := range known {
		if p.State == db.PostDead {
			delete(d.posts, p.ID)
		}
	}
	d.posts[post.ID] = true
	return d.posts
}

// instead shows the stage of a card elsewhere.
func (p *Planner) instead(ctx context.Context, s situation, card db.Card, attrs []any) error {
	var wishes []wish
	if card.SlackUser == "" || !s.shownBesides(card) {
		// One person's message is no reason to show a request in a wider channel, as long as
		// others have theirs.
		wishes = s.otherwise(card)
	}
	switch {
	case len(wishes) > 0:
		for _, w := range wishes {
			p.log.WarnContext(ctx, "a card is posted elsewhere", append(slices.Clone(attrs), slog.String("instead", w.destination))...)
		}
	case s.shownBesides(card):
		p.log.WarnContext(ctx, "a card cannot be posted; others of its stage can", attrs...)
	default:
		p.log.ErrorContext(ctx, "nobody can be asked in slack about a request", attrs...)
	}
	return p.owe(ctx, s, wishes)
}

// otherwise plans where the current stage is shown when a card of it cannot be: in the first
// channel that has not been tried, or to each of its people.
func (s situation) otherwise(card db.Card) []wish {
	for _, channel := range s.ladder() {
		if channel != card.Channel && !s.tried(channel) {
			return []wish{s.cardIn(channel)}
		}
	}
	if card.SlackUser != "" {
		return nil // the others have theirs
	}
	var out []wish
	ids, _ := s.reachable()
	for _, id := range ids {
		if !s.tried(id) {
			out = append(out, s.cardFor(id))
		}
	}
	return out
}

// ladder lists the channels in which the current stage may be shown, the one to be tried
// first coming first.
func (s situation) ladder() []string {
	stage := s.ticket.Plan.Stages[s.ticket.Stage]
	var out []string
	for _, channel := range []string{stage.Channel, stage.Fallback, s.slack.FallbackChannel} {
		if channel != "" && !slices.Contains(out, channel) {
			out = append(out, channel)
		}
	}
	return out
}

// fallback is the channel for those who cannot be written to; "" for none.
func (s situation) fallback() string {
	for _, channel := range s.ladder() {
		if channel != s.ticket.Plan.Stages[s.ticket.Stage].Channel {
			return channel
		}
	}
	return ""
}

// tried reports whether a card of the current stage was ever to go somewhere.
func (s situation) tried(destination string) bool {
	return slices.ContainsFunc(s.cards, func(c db.Card) bool {
		return c.Stage == s.ticket.Stage && c.Kind == db.CardStage && c.Channel == destination && s.planned(c.Handle)
	})
}

func (s situation) planned(handle string) bool {
	return slices.ContainsFunc(s.posts, func(p db.Post) bool { return p.Handle == handle && p.Kind == db.PostCard })
}

// shownBesides reports whether there is another card of the stage, or will be.
func (s situation) shownBesides(card db.Card) bool {
	return slices.ContainsFunc(s.living(card.Stage), func(c db.Card) bool { return c.Handle != card.Handle })
}

// louder announces a bypass in the channel for what cannot be posted elsewhere. That it
// could not be announced where it was to be is the operator's to know in any case.
func (p *Planner) louder(ctx context.Context, s situation, post db.Post, attrs []any) error {
	p.log.ErrorContext(ctx, "a bypass cannot be announced where it is to be", attrs...)
	channel := s.slack.FallbackChannel
	e, err := p.event(ctx, post.TicketID, post.Seq)
	if err != nil || channel == "" || channel == post.Destination {
		return err
	}
	return p.owe(ctx, s, []wish{s.announced(channel, e)})
}

// reportUnheard says which of those who are to decide nobody writes to: they have no Slack
// id, or there are too many of them.
func (p *Planner) reportUnheard(ctx context.Context, s situation, e approvals.Event) {
	if e.Type != approvals.EventCreated && e.Type != approvals.EventStageCompleted {
		return
	}
	if !s.ticket.State.Open() || s.ticket.Stage >= len(s.ticket.Plan.Stages) || !s.direct() {
		return
	}
	ids, rest := s.reachable()
	attrs := []any{slog.String("ticket_id", s.ticket.ID), slog.Int("written_to", len(ids)), slog.Int("left_out", rest)}
	switch {
	case rest == 0:
	case len(ids) == 0 && len(s.ladder()) == 0:
		p.log.ErrorContext(ctx, "nobody can be asked in slack about a request", attrs...)
	default:
		p.log.WarnContext(ctx, "not everybody who may decide is written to", attrs...)
	}
}

// goneAtOnce is how many open tickets are shown elsewhere when their channel is gone.
const goneAtOnce = 1000

// ChannelGone shows the open tickets elsewhere whose cards are in a channel, by its id, that
// is not to be posted to any more, for a reason such as "is_archived". Tickets to come find
// that out by themselves.
func (p *Planner) ChannelGone(ctx context.Context, id, reason string) error {
	cards, err := p.c.Store.OpenCardsIn(ctx, id, goneAtOnce)
	if err != nil {
		return err
	}
	p.log.WarnContext(ctx, "a channel with cards is gone", slog.String("channel", id), slog.String("reason", reason),
		slog.Int("open_cards", len(cards)))
	for _, card := range cards {
		s, err := p.situation(ctx, card.TicketID)
		if err != nil {
			return err
		}
		if !s.asks(card) {
			continue
		}
		attrs := []any{slog.String("ticket_id", card.TicketID), slog.String("destination", id), slog.String("reason", reason)}
		if err := p.instead(ctx, s, card, attrs); err != nil {
			return err
		}
	}
	return nil
}

// ChannelRenamed notes that a channel has another id. What the configuration calls by the
// old one is for the operator to change.
func (p *Planner) ChannelRenamed(ctx context.Context, before, after string) error {
	p.log.WarnContext(ctx, "a channel has another id: look whether the configuration names the old one",
		slog.String("before", before), slog.String("after", after))
	if err := p.c.Store.MoveConversation(ctx, before, after); err != nil {
		return err
	}
	p.c.Wake()
	return nil
}
