package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs/crashpoint"
	"countersign/slack"
)

// notify tells people about one event: a card for a stage that begins, a note in its
// thread for a reminder or an escalation.
func (r *Runner) notify(ctx context.Context, args NotifyArgs) error {
	if r.c.Slack == nil {
		return nil
	}
	t, err := r.c.Store.Ticket(ctx, db.Ref{ID: args.TicketID})
	if err != nil {
		return err
	}
	events, err := r.c.Store.Events(ctx, db.Ref{ID: args.TicketID}, args.Seq-1, 1)
	if err != nil || len(events) == 0 || !t.State.Open() {
		return err // nobody is asked about a ticket that is decided
	}
	switch e := events[0]; e.Type { //nolint:exhaustive // the others notify nobody
	case approvals.EventCreated, approvals.EventStageCompleted, approvals.EventReopened:
		return r.postCard(ctx, t)
	case approvals.EventReminded, approvals.EventEscalated:
		return r.postNote(ctx, t, e)
	default:
		return nil
	}
}

// postCard shows the current stage. It may post twice when this process dies in between;
// both copies carry the same handle and act on the same ticket.
func (r *Runner) postCard(ctx context.Context, t approvals.Ticket) error {
	channel := t.Plan.Stages[t.Stage].Channel
	if channel == "" {
		return nil
	}
	card, err := r.c.Store.PrepareCard(ctx, t.ID, t.Stage, channel, t.Digest)
	if err != nil {
		return err
	}
	if card.TS != "" {
		// Posted before: by a try that may have died before it could look whether the
		// ticket had moved on meanwhile.
		return r.updateCard(ctx, UpdateCardArgs{TicketID: t.ID})
	}
	ref, err := r.c.Slack.Post(ctx, channel, slack.Card(r.view(t, card)), slack.PostOptions{
		// The same for every try, so that Slack may recognise a second one.
		ClientMsgID: uuid.NewSHA1(uuid.NameSpaceURL, []byte(card.Handle)).String(),
	})
	if err != nil {
		return slackFailure(err)
	}
	crashpoint.Hit("notify.posted")
	if err := r.c.Store.CardPosted(ctx, card.Handle, ref.Channel, ref.TS, t.Version); err != nil {
		return err
	}
	_, err = r.advance(ctx, t.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Notified(r.id, approvals.Card{Stage: card.Stage, Channel: ref.Channel, TS: ref.TS, Version: t.Version}, now)
	})
	return err
}

// postNote posts below the card of the event's stage: edits notify nobody. Where the stage
// has no card, because Slack would not take it, whatever was wrong may have been put right
// since: the card itself is posted, or nobody would ever be asked.
func (r *Runner) postNote(ctx context.Context, t approvals.Ticket, e approvals.Event) error {
	if *e.Data.Stage != t.Stage {
		return nil // about a stage that is over
	}
	cards, err := r.c.Store.Cards(ctx, t.ID)
	if err != nil {
		return err
	}
	shown := func(c db.Card) bool { return c.Stage == t.Stage && c.TS != "" }
	if !slices.ContainsFunc(cards, shown) {
		return r.postCard(ctx, t)
	}
	for _, card := range cards {
		if !shown(card) {
			continue
		}
		v, options := r.view(t, card), slack.PostOptions{ThreadTS: card.TS}
		message := slack.Reminder(v, e.Data.Number)
		if e.Type == approvals.EventEscalated {
			message, options.Broadcast = slack.Escalation(v, e.Data.Number), true
		}
		options.ClientMsgID = uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%d", card.Handle, e.Seq)).String()
		if _, err := r.c.Slack.Post(ctx, card.PostedTo, message, options); err != nil {
			return slackFailure(err)
		}
	}
	return nil
}

// updateCard renders every card of a ticket from its present state, and again if the
// state has changed meanwhile: of two updates that cross, the newer one wins in the end,
// because whoever showed an older state shows the newer one again, even if the other
// update has done so already.
func (r *Runner) updateCard(ctx context.Context, args UpdateCardArgs) error {
	if r.c.Slack == nil {
		return nil
	}
	for again := false; ; again = true {
		t, err := r.c.Store.Ticket(ctx, db.Ref{ID: args.TicketID})
		if err != nil {
			return err
		}
		if err := r.showAll(ctx, t, again); err != nil {
			return err
		}
		now, _, err := r.c.Store.Version(ctx, db.Ref{ID: t.ID})
		if err != nil || now == t.Version {
			return err
		}
	}
}

// showAll renders the cards of a ticket, without again only those that show an older
// version. A card that cannot be updated any more, such as one that somebody deleted,
// keeps none of the others from it.
func (r *Runner) showAll(ctx context.Context, t approvals.Ticket, again bool) error {
	cards, err := r.c.Store.Cards(ctx, t.ID)
	if err != nil {
		return err
	}
	var errs, hopeless []error
	for _, card := range cards {
		if card.TS == "" || (card.Shown >= t.Version && !again) {
			continue
		}
		err := r.c.Slack.Update(ctx, slack.Ref{Channel: card.PostedTo, TS: card.TS}, slack.Card(r.view(t, card)))
		if err == nil {
			err = r.c.Store.CardShown(ctx, card.Handle, t.Version)
		}
		if isPermanent(err) {
			hopeless = append(hopeless, err)
			continue
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return slackFailure(err)
	}
	return slackFailure(errors.Join(hopeless...))
}

func isPermanent(err error) bool {
	var e *slack.Error
	return errors.As(err, &e) && e.Class == slack.Permanent
}

func (r *Runner) view(t approvals.Ticket, card db.Card) slack.View {
	config := r.c.Policy()
	dir := config.Directory()
	v := slack.View{
		Ticket: t, Tally: t.Tally(card.Stage, dir), Directory: dir, Stage: card.Stage, Handle: card.Handle,
		PublicURL: r.c.PublicURL,
	}
	if up, ok := config.Upstream(t.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}

// slackFailure says to River what a failed call means: give up, wait, or try again.
func slackFailure(err error) error {
	var e *slack.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Class {
	case slack.Permanent:
		return river.JobCancel(err)
	case slack.RateLimited:
		return river.JobSnooze(e.RetryAfter)
	case slack.App, slack.Retryable, slack.Ambiguous:
	}
	return err
}
