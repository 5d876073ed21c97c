package jobs

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// messageID is the same for every try of one post, so that Slack may recognise a second.
func messageID(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)).String()
}

// postNote posts below the card of the event's stage: edits notify nobody. Where the stage
// has no card, because Slack would not take it, whatever was wrong may have been put right
// since: the card itself is posted, or nobody would ever be asked.
func (r *Runner) postNote(ctx context.Context, t approvals.Ticket, e approvals.Event) error {
	if over(t, e) {
		return nil
	}
	cards, err := r.c.Store.Cards(ctx, t.ID)
	if err != nil {
		return err
	}
	shown := shownOn(cards, t.Stage)
	if len(shown) == 0 {
		return r.postCard(ctx, t)
	}
	return r.below(ctx, t, e, shown)
}

// over reports whether an event is about what has passed: a stage that is over, a stall that
// is, or a question that has its answer, which is posted with it.
func over(t approvals.Ticket, e approvals.Event) bool {
	switch {
	case e.Data.Stage != nil && *e.Data.Stage != t.Stage:
		return true
	case e.Type == approvals.EventStalled:
		return t.Stalled == nil
	case e.Type == approvals.EventQuestionAsked:
		return t.Question == nil || !t.Question.AskedAt.Equal(e.Data.Question.AskedAt)
	}
	return false
}

// askAgain shows the stage that is asked again, and says below the card that people have
// decided on why they are.
func (r *Runner) askAgain(ctx context.Context, t approvals.Ticket, e approvals.Event) error {
	if over(t, e) {
		return r.postCard(ctx, t)
	}
	cards, err := r.c.Store.Cards(ctx, t.ID)
	if err != nil {
		return err
	}
	stage := t.Stage
	if a := e.Data.Amendment; a != nil && t.Plan.Stages[stage].Round == a.Round {
		stage-- // its own card is new; a stage of before has one
	}
	var decided []db.Card
	for ; stage >= 0 && len(decided) == 0; stage-- {
		decided = shownOn(cards, stage)
	}
	if err := r.postCard(ctx, t); err != nil && !hopeless(err) {
		return err // or the note would be posted at every try
	}
	return r.below(ctx, t, e, decided)
}

// below posts an event's note in the thread of each of these cards.
func (r *Runner) below(ctx context.Context, t approvals.Ticket, e approvals.Event, cards []db.Card) error {
	var failures failures
	for _, card := range cards {
		message, broadcast := r.note(t, e, card)
		_, err := r.c.Slack.Post(ctx, card.PostedTo, message, slack.PostOptions{
			ThreadTS: card.TS, Broadcast: broadcast, ClientMsgID: messageID(fmt.Sprintf("%s/%d", card.Handle, e.Seq)),
		})
		failures.add(err)
	}
	return failures.err()
}

// note renders an event; broadcast shows it in the channel besides the thread.
func (r *Runner) note(t approvals.Ticket, e approvals.Event, card db.Card) (m slack.Message, broadcast bool) {
	v := r.view(t, card, nil)
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

// announce says aloud that the glass was broken: below the stage's card and in its channel,
// and in the channel that the rule names for it. It is said where one of them fails, and
// although the ticket is decided by then.
func (r *Runner) announce(ctx context.Context, t approvals.Ticket, e approvals.Event) error {
	cards, err := r.c.Store.Cards(ctx, t.ID)
	if err != nil {
		return err
	}
	stage := e.Data.Decision.Stage
	shown := shownOn(cards, stage)
	rooms := []string{}
	if len(shown) == 0 { // the call was approved before its card was posted
		rooms = append(rooms, t.Plan.Stages[stage].Channel)
	}
	if t.Plan.BreakGlass != nil && t.Plan.BreakGlass.Announce != t.Plan.Stages[stage].Channel {
		rooms = append(rooms, t.Plan.BreakGlass.Announce)
	}
	var failures failures
	failures.add(r.below(ctx, t, e, shown))
	for _, room := range slices.DeleteFunc(rooms, func(room string) bool { return room == "" }) {
		message, _ := r.note(t, e, db.Card{TicketID: t.ID, Stage: stage})
		_, err := r.c.Slack.Post(ctx, room, message, slack.PostOptions{
			ClientMsgID: messageID(fmt.Sprintf("%s/%d/%s", t.ID, e.Seq, room)),
		})
		failures.add(err)
	}
	return failures.err()
}
