package jobs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/riverqueue/river"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs/crashpoint"
	"countersign/slack"
)

// notify tells people about one event: a card for a stage that begins, a note in its
// thread for what happens to it.
func (r *Runner) notify(ctx context.Context, args NotifyArgs) error {
	if r.c.Slack == nil {
		return nil
	}
	t, err := r.c.Store.Ticket(ctx, db.Ref{ID: args.TicketID})
	if err != nil {
		return err
	}
	events, err := r.c.Store.Events(ctx, db.Ref{ID: args.TicketID}, args.Seq-1, 1)
	if err != nil || len(events) == 0 {
		return err
	}
	e := events[0]
	if e.Type == approvals.EventGlassBroken {
		return r.announce(ctx, t, e) // whatever has become of the ticket since
	}
	if !t.State.Open() {
		return nil // nobody is asked about a ticket that is decided
	}
	switch e.Type { //nolint:exhaustive // the others notify nobody
	case approvals.EventCreated, approvals.EventStageCompleted:
		return r.postCard(ctx, t)
	case approvals.EventReopened, approvals.EventTightened:
		return r.askAgain(ctx, t, e)
	case approvals.EventReminded, approvals.EventEscalated, approvals.EventStalled,
		approvals.EventQuestionAsked, approvals.EventAnswered:
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
		// ticket had moved on meanwhile, or when the stage was asked for the first time.
		return r.updateCard(ctx, UpdateCardArgs{TicketID: t.ID})
	}
	answered, err := r.answered(ctx, t)
	if err != nil {
		return err
	}
	ref, err := r.c.Slack.Post(ctx, channel, slack.Card(r.view(t, card, answered)), slack.PostOptions{
		ClientMsgID: messageID(card.Handle),
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
	answered, err := r.answered(ctx, t)
	if err != nil {
		return err
	}
	var failures failures
	for _, card := range cards {
		if card.TS == "" || (card.Shown >= t.Version && !again) {
			continue
		}
		err := r.c.Slack.Update(ctx, slack.Ref{Channel: card.PostedTo, TS: card.TS}, slack.Card(r.view(t, card, answered)))
		if err == nil {
			err = r.c.Store.CardShown(ctx, card.Handle, t.Version)
		}
		failures.add(err)
	}
	return failures.err()
}

// view is what a card, or a note below it, is rendered from.
func (r *Runner) view(t approvals.Ticket, card db.Card, answered []approvals.Question) slack.View {
	config := r.c.Policy()
	dir := config.Directory()
	v := slack.View{
		Ticket: t, Tally: t.Tally(card.Stage, dir.At(r.c.Now())), Directory: dir, Now: r.c.Now(), Stage: card.Stage, Handle: card.Handle,
		PublicURL: r.c.PublicURL, Answered: answered,
	}
	if up, ok := config.Upstream(t.Call.Upstream); ok {
		v.BaseURL = up.BaseURL.String()
	}
	return v
}

// answered reads the questions of a ticket that have an answer. They are in its events
// only.
func (r *Runner) answered(ctx context.Context, t approvals.Ticket) (out []approvals.Question, err error) {
	const page = 500
	for after, more := int64(0), t.Questions > 0; more; {
		events, err := r.c.Store.Events(ctx, db.Ref{ID: t.ID}, after, page)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			if after = e.Seq; e.Type == approvals.EventAnswered && e.Data.Question != nil {
				out = append(out, *e.Data.Question)
			}
		}
		more = len(events) == page
	}
	return out, nil
}

// failures of several calls to Slack, none of which keeps the others from being made.
type failures struct{ passing, hopeless []error }

func (f *failures) add(err error) {
	if hopeless(err) {
		f.hopeless = append(f.hopeless, err)
		return
	}
	f.passing = append(f.passing, err)
}

// hopeless reports whether Slack will never do what it was asked for.
func hopeless(err error) bool {
	var e *slack.Error
	return errors.As(err, &e) && e.Class == slack.Permanent
}

// err is what the job answers: as long as anything may yet succeed, it is tried again.
func (f *failures) err() error {
	if err := errors.Join(f.passing...); err != nil {
		return slackFailure(err)
	}
	return slackFailure(errors.Join(f.hopeless...))
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

// shownOn lists the cards of a stage that are in Slack.
func shownOn(cards []db.Card, stage int) []db.Card {
	return slices.DeleteFunc(slices.Clone(cards), func(c db.Card) bool { return c.Stage != stage || c.TS == "" })
}
