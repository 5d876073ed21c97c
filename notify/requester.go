package notify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// What slack.tell_requesters may say.
const (
	tellOutcomes = "outcomes" // and questions
	tellNothing  = "none"
)

// maxRequesters is how many people behind one call are written to.
const maxRequesters = 20

// behalf are the people for whom a call is made, as far as they are known.
func (s situation) behalf() []string {
	t := s.ticket
	t.Caller, t.Plan.Excluded = "", nil // whom it acts for, and not who acts
	return s.answering(t)
}

// answering are the people who may answer for a ticket, sorted.
func (s situation) answering(t approvals.Ticket) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.dir.People)) {
		if t.MayAnswer(name, s.dir) {
			out = append(out, name)
		}
	}
	return out
}

// addresses are the Slack ids of some people, each once.
func (s situation) addresses(names []string) []string {
	var out []string
	for _, name := range names {
		if id := s.dir.People[name].Slack; id != "" && !slices.Contains(out, id) && len(out) < maxRequesters {
			out = append(out, id)
		}
	}
	return out
}

// questioned plans a message with an Answer button for each of those who may answer.
func (s situation) questioned(e approvals.Event) []wish {
	if s.slack.TellRequesters == tellNothing || over(s.ticket, e) {
		return nil
	}
	var out []wish
	for _, id := range s.addresses(s.answering(s.ticket)) {
		out = append(out, wish{
			name: fmt.Sprintf("question/%s/%d/%s", s.ticket.ID, e.Seq, id), kind: db.PostQuestion, destination: id,
			seq: e.Seq, priority: priorityNew,
			card: &db.NewCard{
				TicketID: s.ticket.ID, Stage: s.ticket.Stage, Kind: db.CardAnswer, Channel: db.AnswerPlace(id, e.Seq),
				SlackUser: id, Digest: s.ticket.Digest,
			},
		})
	}
	return out
}

// questionPost asks one person for an answer, as long as it is wanted.
func (p *Planner) questionPost(ctx context.Context, s situation, post db.Post) (Outgoing, error) {
	card, ok := s.card(post.Handle)
	if !ok || card.Kind != db.CardAnswer || !s.ticket.State.Open() {
		return Outgoing{}, ErrOver
	}
	e, err := p.event(ctx, post.TicketID, post.Seq)
	if err != nil {
		return Outgoing{}, err
	}
	if e.Data.Question == nil || over(s.ticket, e) {
		return Outgoing{}, ErrOver
	}
	return Outgoing{
		Message: slack.AnswerRequest(p.view(s, card), *e.Data.Question), Version: s.ticket.Version, Priority: post.Priority,
	}, nil
}

// answerCard shows what has become of a question.
func (p *Planner) answerCard(ctx context.Context, s situation, card db.Card) (Outgoing, error) {
	seq := card.Question()
	e, err := p.event(ctx, card.TicketID, seq)
	if err != nil {
		return Outgoing{}, err
	}
	if e.Data.Question == nil {
		return Outgoing{}, fmt.Errorf("event %d of %s asks no question", seq, card.TicketID)
	}
	answered, err := p.answered(ctx, s.ticket)
	if err != nil {
		return Outgoing{}, err
	}
	q := *e.Data.Question
	for _, a := range answered {
		if a.AskedAt.Equal(q.AskedAt) && a.Person == q.Person {
			q = a
		}
	}
	return Outgoing{
		Message: slack.AnswerRequest(p.view(s, card), q), Version: s.ticket.Version, Priority: urgency(s.ticket),
	}, nil
}

// ended plans who is told of the end of a ticket that people were asked about: whom the call
// was for, of every end; where that is nobody, the caller's own people, of every end but
// success, of which the caller itself is told.
func (s situation) ended() []wish {
	t := s.ticket
	if !t.State.Final() || t.Plan.Action != approvals.ActionApprove {
		return nil
	}
	if s.slack.TellRequesters != "" && s.slack.TellRequesters != tellOutcomes {
		return nil
	}
	who := s.behalf()
	if len(s.addresses(who)) == 0 && t.State != approvals.Succeeded {
		who = s.answering(t)
	}
	var out []wish
	for _, id := range s.addresses(who) {
		out = append(out, wish{
			name: s.outcomeName(id), kind: db.PostOutcome, destination: id, seq: t.Version, priority: priorityFinal,
		})
	}
	return out
}

// outcomeName is the same for one end of a ticket: one that is in doubt may get another.
func (s situation) outcomeName(slackUser string) string {
	return fmt.Sprintf("outcome/%s/%s/%s", s.ticket.ID, s.ticket.State, slackUser)
}

// outcomePost tells somebody how their call ended.
func (p *Planner) outcomePost(_ context.Context, s situation, post db.Post) (Outgoing, error) {
	if post.Name != s.outcomeName(post.Destination) {
		return Outgoing{}, ErrOver // the end is another one by now, and told by itself
	}
	stage := min(s.ticket.Stage, len(s.ticket.Plan.Stages)-1)
	return Outgoing{
		Message: slack.OutcomeNotice(p.view(s, db.Card{TicketID: s.ticket.ID, Stage: stage})),
		Version: s.ticket.Version, Priority: priorityFinal,
	}, nil
}

// concerned are the people in whose home tab a ticket may be.
func (s situation) concerned() []string {
	t := s.ticket
	people := s.answering(t)
	people = append(people, t.WaitingFor(s.dir)...)
	for _, members := range t.Plan.Roster {
		people = append(people, members...)
	}
	for _, d := range t.Decisions {
		people = append(people, d.Person)
	}
	for name := range t.Plan.Live {
		people = append(people, s.dir.Groups[name]...)
	}
	if t.Question != nil {
		people = append(people, t.Question.Person)
	}
	slices.Sort(people)
	return slices.Compact(people)
}
