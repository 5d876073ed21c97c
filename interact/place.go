package interact

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

var errElsewhere = &approvals.Error{Code: approvals.CodeNotFound, Message: "the button is not on a card of ours"}

// find finds what a handle leads to: a card, or a review and the card it was opened from.
func (d *Desk) find(ctx context.Context, p *press) error {
	handle := p.Handle
	if slack.ValidReview(handle) {
		review, err := d.c.Store.ReviewByHandle(ctx, handle)
		if err != nil {
			return err
		}
		p.review, handle = &review, review.Card
	}
	card, err := d.c.Store.CardByHandle(ctx, handle)
	if err != nil {
		return err
	}
	p.card = card
	return nil
}

// belongs says why what was pressed is not where its handle belongs, or not its presser's; nil
// when it is. A handle pressed in another conversation than its card's was copied, and so was
// one that only one person sees. Elsewhere in the same conversation it is an orphan copy,
// whose post was answered and the answer lost: it is adopted, and counts as the card; unless
// the message there is known to be another card's, whose button it then does not carry.
func (d *Desk) belongs(ctx context.Context, p *press) (*approvals.Error, error) {
	switch {
	case p.review != nil && (!isOf(*p.review, p.Interaction) || p.refusal == nil && p.review.Person != p.actor.Name):
		return d.misplaced(ctx, p, "a review of somebody else's"), nil
	case p.card.SlackUser != "" && p.card.SlackUser != p.User.ID:
		return d.misplaced(ctx, p, "a button that is somebody else's"), nil
	case p.Surface == slack.SurfaceModal, p.Type != slack.BlockActions:
		return nil, nil // a modal is nowhere; who may have it open was judged above
	case p.card.Kind == db.CardPersonal:
		return nil, nil // a home tab, or a list that only one person sees
	case p.Surface != slack.SurfaceMessage || p.Ephemeral || p.Channel == "":
		return d.misplaced(ctx, p, "a button pressed outside its conversation"), nil
	}
	return d.placed(ctx, p)
}

// placed is belongs for a button on a message.
func (d *Desk) placed(ctx context.Context, p *press) (*approvals.Error, error) {
	if !d.at(ctx, p) {
		return d.misplaced(ctx, p, "a button pressed outside its conversation"), nil
	}
	if p.card.TS == p.MessageTS || !timestamp.MatchString(p.MessageTS) {
		return nil, nil
	}
	other, err := d.c.Store.CardAt(ctx, p.Channel, p.MessageTS)
	switch {
	case err != nil:
		return nil, err
	case other == p.card.Handle:
		return nil, nil
	case other != "":
		return d.misplaced(ctx, p, "a button on the message of another card"), nil
	}
	err = d.c.Store.AdoptCopy(ctx, p.card.Handle, p.Channel, p.MessageTS)
	if errors.Is(err, db.ErrCopies) {
		return d.misplaced(ctx, p, "a button on one copy too many"), nil
	}
	return nil, err
}

// misplaced says in the log what is wrong with the place of a button, and refuses it.
func (d *Desk) misplaced(ctx context.Context, p *press, what string) *approvals.Error {
	d.c.Logger.LogAttrs(ctx, slog.LevelWarn, "refused a button", slog.String("reason", what), slog.String("ticket_id", p.card.TicketID),
		slog.String("channel", p.Channel), slog.String("user", p.User.ID))
	return &approvals.Error{Code: approvals.CodeNotFound, Message: what}
}

var (
	channelID = regexp.MustCompile(`^[CG][A-Z0-9]+$`)
	timestamp = regexp.MustCompile(`^[0-9]{1,16}\.[0-9]{1,12}$`)
)

// at reports whether a card is in the conversation where its button was pressed. Where it is,
// is known once Slack's answer to the post has been written down; until then where it was to
// go counts.
func (d *Desk) at(ctx context.Context, p *press) bool {
	to := p.card.Channel
	switch {
	case p.card.PostedTo != "":
		return p.card.PostedTo == p.Channel
	case channelID.MatchString(to):
		return to == p.Channel
	case p.card.SlackUser != "": // the one who presses, as was seen above
		return strings.HasPrefix(p.Channel, "D")
	case accountID.MatchString(to):
		return to == p.User.ID && strings.HasPrefix(p.Channel, "D")
	}
	there, err := d.c.Client.Conversation(ctx, p.Channel)
	// What cannot be checked does not count.
	return err == nil && there.Name != "" && there.Name == strings.TrimPrefix(to, "#")
}

// messageTS is the message that was pressed on, which is evidence and therefore bounded; a
// modal's is that of the card it was opened from.
func (p *press) messageTS() string {
	if timestamp.MatchString(p.MessageTS) {
		return p.MessageTS
	}
	return p.card.TS
}

// conversation is likewise the one that was pressed in.
func (p *press) conversation() string {
	if p.Channel != "" {
		return p.Channel
	}
	return p.card.PostedTo
}
