package notify

import (
	"fmt"
	"slices"

	"countersign/approvals"
	"countersign/db"
)

// Which message goes before which, when Slack takes them one after the other.
const (
	priorityFinal    = 1
	priorityNew      = 2
	priorityProgress = 3
	priorityReminder = 4
)

// maxDirect is how many people are written to directly about one stage.
const maxDirect = 50

// told plans what one event asks for.
func (s situation) told(e approvals.Event) []wish {
	if e.Type == approvals.EventGlassBroken {
		return s.glass(e) // whatever has become of the ticket since
	}
	if !s.ticket.State.Open() || s.ticket.Stage >= len(s.ticket.Plan.Stages) {
		return nil // nobody is asked about a ticket that is decided
	}
	switch e.Type { //nolint:exhaustive // the others notify nobody
	case approvals.EventCreated, approvals.EventStageCompleted:
		return s.stage()
	case approvals.EventReopened, approvals.EventTightened:
		return append(s.stage(), s.again(e)...)
	case approvals.EventReminded, approvals.EventEscalated, approvals.EventStalled, approvals.EventAnswered:
		return s.noted(e)
	case approvals.EventQuestionAsked:
		return append(s.noted(e), s.questioned(e)...)
	default:
		return nil
	}
}

// stage plans the cards of the current stage: one in its channel, and one for each person
// who is asked directly. What was planned before keeps its name.
func (s situation) stage() []wish {
	stage := s.ticket.Plan.Stages[s.ticket.Stage]
	var out []wish
	if stage.Channel != "" {
		out = append(out, s.cardIn(stage.Channel))
	}
	if s.direct() {
		asked, rest := s.reachable()
		for _, id := range asked {
			out = append(out, s.cardFor(id))
		}
		if fallback := s.fallback(); rest > 0 && fallback != "" && stage.Channel == "" {
			out = append(out, s.cardIn(fallback))
		}
	}
	return out
}

// direct reports whether the current stage's people are written to one by one. Where it
// names no channel at all, nobody would hear of it otherwise.
func (s situation) direct() bool {
	stage := s.ticket.Plan.Stages[s.ticket.Stage]
	return stage.Direct || stage.Channel == ""
}

// reachable are the Slack ids of those who may decide now, at most [maxDirect], and how many
// more there are who are not among them: those beyond, and those without an id.
func (s situation) reachable() (ids []string, rest int) {
	for _, name := range s.ticket.WaitingFor(s.dir) {
		id := s.dir.People[name].Slack
		if id == "" || len(ids) == maxDirect {
			rest++
			continue
		}
		ids = append(ids, id)
	}
	return ids, rest
}

// cardIn is a card of the current stage for everybody in a channel.
func (s situation) cardIn(channel string) wish {
	return wish{
		name: s.cardName(channel), kind: db.PostCard, destination: channel, priority: priorityNew,
		card: &db.NewCard{
			TicketID: s.ticket.ID, Stage: s.ticket.Stage, Kind: db.CardStage, Channel: channel, Digest: s.ticket.Digest,
		},
	}
}

// cardFor is a card of the current stage for one person alone.
func (s situation) cardFor(slackUser string) wish {
	w := s.cardIn(slackUser)
	w.card.SlackUser = slackUser
	return w
}

func (s situation) cardName(destination string) string {
	return fmt.Sprintf("card/%s/%d/%s", s.ticket.ID, s.ticket.Stage, destination)
}

// noted plans a note below every card of the stage: edits notify nobody. Where the stage has
// no card, because Slack would not take one, whatever was wrong may have been put right
// since: the cards are tried again, or nobody would ever be asked.
func (s situation) noted(e approvals.Event) []wish {
	if over(s.ticket, e) {
		return nil
	}
	var out []wish
	for _, card := range s.living(s.ticket.Stage) {
		out = append(out, s.note(card, e))
	}
	if len(out) == 0 {
		return s.retried(e.Seq)
	}
	if calls(e) && s.direct() {
		out = append(out, s.stage()...) // who is asked only since then has no card yet
	}
	return out
}

// retried plans the cards of the stage once more, because of an event that is to be told.
func (s situation) retried(seq int64) []wish {
	out := s.stage()
	for i := range out {
		out[i].name += fmt.Sprintf("/%d", seq)
	}
	return out
}

// note is a message below a card.
func (s situation) note(card db.Card, e approvals.Event) wish {
	priority := priorityProgress
	switch e.Type { //nolint:exhaustive // the others are progress
	case approvals.EventReminded:
		priority = priorityReminder
	case approvals.EventEscalated, approvals.EventReopened, approvals.EventTightened, approvals.EventGlassBroken:
		priority = priorityNew
	}
	return wish{
		name: fmt.Sprintf("note/%s/%d", card.Handle, e.Seq), kind: db.PostNote, handle: card.Handle,
		destination: whereOf(card), seq: e.Seq, priority: priority,
	}
}

// whereOf is where a card is, or where it is to be.
func whereOf(card db.Card) string {
	if card.PostedTo != "" {
		return card.PostedTo
	}
	return card.Channel
}

// living lists the cards of a stage that are in Slack or on their way, those for who decides.
func (s situation) living(stage int) []db.Card {
	return slices.DeleteFunc(slices.Clone(s.cards), func(c db.Card) bool {
		return c.Stage != stage || c.Kind != db.CardStage || (c.TS == "" && !s.onItsWay(c.Handle))
	})
}

// posted is living without those on their way.
func (s situation) posted(stage int) []db.Card {
	return slices.DeleteFunc(s.living(stage), func(c db.Card) bool { return c.TS == "" })
}

// onItsWay reports whether the message of a card is still owed.
func (s situation) onItsWay(handle string) bool {
	return slices.ContainsFunc(s.posts, func(p db.Post) bool {
		if p.Handle != handle || p.Kind != db.PostCard || s.dead[p.ID] {
			return false
		}
		return p.State == db.PostQueued || p.State == db.PostSending || p.State == db.PostUnknown
	})
}

// again plans what is said below the cards on which people had decided: why they are asked
// once more. The card of the stage that is asked is another one when the policy added it.
func (s situation) again(e approvals.Event) []wish {
	if over(s.ticket, e) {
		return nil
	}
	stage := s.ticket.Stage
	if a := e.Data.Amendment; a != nil && s.ticket.Plan.Stages[stage].Round == a.Round {
		stage-- // its own card is new; a stage of before has one
	}
	var out []wish
	for ; stage >= 0 && len(out) == 0; stage-- {
		for _, card := range s.posted(stage) {
			out = append(out, s.note(card, e))
		}
	}
	return out
}

// glass plans the announcement of a bypass: below the cards of its stage and in their
// channel, and in the channel that the rule names for it. It is said where one of them
// fails, and although the ticket is decided by then.
func (s situation) glass(e approvals.Event) []wish {
	stage := e.Data.Decision.Stage
	if stage < 0 || stage >= len(s.ticket.Plan.Stages) {
		return nil
	}
	var out []wish
	for _, card := range s.posted(stage) {
		out = append(out, s.note(card, e))
	}
	own := s.ticket.Plan.Stages[stage].Channel
	if own != "" && !slices.ContainsFunc(s.posted(stage), func(c db.Card) bool { return c.Channel == own }) {
		out = append(out, s.announced(own, e)) // approved before its card was posted
	}
	if g := s.ticket.Plan.BreakGlass; g != nil && g.Announce != "" && g.Announce != own {
		out = append(out, s.announced(g.Announce, e))
	}
	return out
}

// announced is a message of its own in a channel.
func (s situation) announced(channel string, e approvals.Event) wish {
	return wish{
		name: fmt.Sprintf("glass/%s/%d/%s", s.ticket.ID, e.Seq, channel), kind: db.PostAnnouncement,
		destination: channel, seq: e.Seq, priority: priorityNew,
	}
}
