package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

// PlannerConfig says what a [Planner] works with.
type PlannerConfig struct {
	// Store keeps what is owed. Required.
	Store *db.Store
	// Policy is the configuration in force, with what is known of Slack's people. Required.
	Policy func() *policy.Config
	// FingerprintKey is the key of this install under which requests are told apart by
	// people; see [approvals.Fingerprint]. Nil: no fingerprint is shown.
	FingerprintKey []byte
	// PublicURL is where the pages of tickets are. Zero: no links.
	PublicURL string
	// Home renders a home tab. Nil: there are none.
	Home func(context.Context, db.Home) (slack.HomeView, error)
	// Channels reports whether a channel, by id or "#name", is shared with another
	// organisation. An error but [directory.ErrNoChannel] means that this is not known, and
	// nothing is posted there until it is. Nil: every channel is taken for our own.
	Channels func(ctx context.Context, name string) (external bool, err error)
	// Wake is called when something new is owed to Slack. Nil: the sender looks for itself.
	Wake func()
	// Now is the clock by which it is judged who is away. Required.
	Now func() time.Time
	// Logger: nil means slog.Default().
	Logger *slog.Logger
}

// Planner decides who is told what, and where, and what a message says when its time has
// come. It writes down what is owed; a [Sender] brings it to Slack. It is safe for concurrent
// use, and doing a thing twice is doing it once: the name of a message says which it is.
type Planner struct {
	c     PlannerConfig
	log   *slog.Logger
	dying dying
}

// NewPlanner makes a planner. It starts nothing.
func NewPlanner(c PlannerConfig) (*Planner, error) {
	if c.Store == nil || c.Policy == nil || c.Now == nil {
		return nil, errors.New("notify.NewPlanner: Store, Policy and Now are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	return &Planner{c: c, log: c.Logger}, nil
}

// Notify writes down the messages that one event of a ticket asks for, as the ticket is now:
// what has passed meanwhile is not spoken of any more.
func (p *Planner) Notify(ctx context.Context, ticketID string, seq int64) error {
	s, err := p.situation(ctx, ticketID)
	if err != nil {
		return err
	}
	events, err := p.c.Store.Events(ctx, db.Ref{ID: ticketID}, seq-1, 1)
	if err != nil {
		return fmt.Errorf("read event %d of %s: %w", seq, ticketID, err)
	}
	if len(events) == 0 || events[0].Seq != seq {
		return nil // there is no such event
	}
	wishes := s.told(events[0])
	if err := p.owe(ctx, s, wishes); err != nil {
		return err
	}
	p.reportUnheard(ctx, s, events[0])
	return p.c.Store.DirtyHomes(ctx, s.concerned())
}

// Changed writes down that what is shown of a ticket is to be brought up to date, and, where
// it has come to its end, who is told of that.
func (p *Planner) Changed(ctx context.Context, ticketID string) error {
	s, err := p.situation(ctx, ticketID)
	if err != nil {
		return err
	}
	if err := p.c.Store.WantCards(ctx, ticketID, s.ticket.Version); err != nil {
		return err
	}
	if err := p.owe(ctx, s, s.ended()); err != nil {
		return err
	}
	p.c.Wake()
	return p.c.Store.DirtyHomes(ctx, s.concerned())
}

// situation is all that a plan is made from. Plans are pure: the same situation gives the
// same messages under the same names.
type situation struct {
	ticket approvals.Ticket
	cards  []db.Card
	posts  []db.Post
	slack  policy.Slack
	// dir is the directory of now, as it counts for the ticket.
	dir approvals.Directory
	// dead are messages that will never be sent, whatever posts says.
	dead map[uuid.UUID]bool
}

func (p *Planner) situation(ctx context.Context, ticketID string) (situation, error) {
	t, err := p.c.Store.Ticket(ctx, db.Ref{ID: ticketID})
	if err != nil {
		return situation{}, err
	}
	cards, err := p.c.Store.Cards(ctx, ticketID)
	if err != nil {
		return situation{}, err
	}
	posts, err := p.c.Store.PostsOf(ctx, ticketID)
	if err != nil {
		return situation{}, err
	}
	config := p.c.Policy()
	return situation{
		ticket: t, cards: cards, posts: posts, slack: config.Slack, dir: config.Directory().At(p.c.Now()),
	}, nil
}

// wish is a message that is owed.
type wish struct {
	// name makes it that message; a second wish of the same name is the same.
	name string
	kind db.PostKind
	// card is the card that it is, which is made when it has none yet; nil: handle is the
	// card that it belongs to, if any.
	card   *db.NewCard
	handle string
	// destination is a channel or a person, by Slack's id or "#name".
	destination string
	// seq is the event that it is about, 0 for none.
	seq      int64
	priority int
}

// owe is the one place where messages are written down. A try that dies in between leaves
// cards that nobody has posted, and finds them again.
func (p *Planner) owe(ctx context.Context, s situation, wishes []wish) error {
	posts := make([]db.Post, 0, len(wishes))
	for _, w := range wishes {
		if w.card != nil {
			card, err := p.c.Store.PrepareCard(ctx, *w.card)
			if err != nil {
				return err
			}
			w.handle = card.Handle
		}
		posts = append(posts, db.Post{
			Name: w.name, TicketID: s.ticket.ID, Seq: w.seq, Kind: w.kind, Handle: w.handle,
			Destination: w.destination, Priority: w.priority,
		})
	}
	if len(posts) == 0 {
		return nil
	}
	if err := p.c.Store.QueuePosts(ctx, posts); err != nil {
		return fmt.Errorf("queue %d messages about %s: %w", len(posts), s.ticket.ID, err)
	}
	p.c.Wake()
	return nil
}
