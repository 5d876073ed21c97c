package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
)

// DecideTicket puts a person's verdict to a ticket. Whether it counts is for the domain to
// say, as for a click in Slack.
func (o operations) DecideTicket(ctx context.Context, r DecideTicketRequestObject) (DecideTicketResponseObject, error) {
	x := exchangeOf(ctx)
	if r.Body.Stage != nil && *r.Body.Stage < 1 {
		return nil, failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/stage", Detail: "stages are counted from 1"}})
	}
	d := approvals.Decision{
		Person: x.person.Name, Verdict: approvals.Verdict(r.Body.Verdict), Comment: r.Body.Comment, Digest: r.Body.Digest,
	}
	return o.put(ctx, x, r.ID, "decide on", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		d.Stage = t.Stage
		if r.Body.Stage != nil {
			d.Stage = *r.Body.Stage - 1
		}
		tr, err := t.Decide(x.actor(), d, x.config.Directory(), now)
		if err == nil && d.Verdict != approvals.Deny && !slack.Show(t).Complete {
			return t.Refuse(x.actor(), string(d.Verdict), &approvals.Error{
				Code: approvals.CodeConflict, Message: "its rule hides parts of this call that cannot be told from the rest: " +
					"nobody can see what would be sent, and so nobody can approve it",
			}, now)
		}
		return tr, err
	})
}

// AskTicket puts a person's question to the requester.
func (o operations) AskTicket(ctx context.Context, r AskTicketRequestObject) (AskTicketResponseObject, error) {
	x := exchangeOf(ctx)
	q := approvals.Question{Person: x.person.Name, Text: r.Body.Question}
	return o.put(ctx, x, r.ID, "ask about", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Ask(x.actor(), q, x.config.Directory(), now)
	})
}

// AnswerTicket gives the answer of the caller, or of one of the requester's own people.
func (o operations) AnswerTicket(ctx context.Context, r AnswerTicketRequestObject) (AnswerTicketResponseObject, error) {
	x := exchangeOf(ctx)
	return o.put(ctx, x, r.ID, "answer about", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if name := x.person.Name; name != "" && !t.MayAnswer(name, x.config.Directory()) {
			return t.Refuse(x.actor(), "answer", &approvals.Error{
				Code: approvals.CodeNotRequester, Message: "the question is for the caller and the requester's own people",
			}, now)
		}
		return t.Answer(x.actor(), r.Body.Answer, now)
	})
}

// ResolveTicket records what an operator has found out about a call in doubt.
func (o operations) ResolveTicket(ctx context.Context, r ResolveTicketRequestObject) (ResolveTicketResponseObject, error) {
	x := exchangeOf(ctx)
	outcome := approvals.State(r.Body.Outcome)
	if outcome != approvals.Succeeded && outcome != approvals.Failed {
		return nil, failItems(codeValidationFailed, []ProblemItem{{
			Pointer: "#/outcome", Detail: "must be succeeded or failed, not " + quote(r.Body.Outcome),
		}})
	}
	return o.put(ctx, x, r.ID, "resolve", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		switch {
		case !x.operator():
			return t.Refuse(x.actor(), "resolve", &approvals.Error{
				Code: approvals.CodeNotOperator, Message: "only operators may say what became of a call",
			}, now)
		case x.requester(t):
			return t.Refuse(x.actor(), "resolve", &approvals.Error{
				Code: approvals.CodeSelfApproval, Message: "you count as the requester of this call; another operator must say",
			}, now)
		}
		return t.Resolve(x.actor(), outcome == approvals.Succeeded, r.Body.Reason, now)
	})
}

// put finds a ticket for whoever asks, applies a verb to it, and answers with the ticket as
// it is then.
func (o operations) put(ctx context.Context, x *exchange, id, doing string, verb db.Decide) (answer, error) {
	ref, err := o.find(ctx, x, id)
	if err != nil {
		return answer{}, err
	}
	t, err := o.store.Advance(ctx, ref, verb)
	if err != nil {
		return answer{}, fmt.Errorf("%s ticket %s: %w", doing, ref.ID, withState(err, t.State))
	}
	return o.ticketAnswer(ctx, x, http.StatusOK, t)
}

const (
	// eventsAtOnce is how many events are read together in search of an answer, maxSearch
	// how often.
	eventsAtOnce = 500
	maxSearch    = 10
)

// answered returns the latest question of a ticket that was answered. It is in the events
// only. Nil when there is none: the question was closed by the decisions.
func (s *Server) answered(ctx context.Context, id string) (*approvals.Question, error) {
	var last *approvals.Question
	var after int64
	for range maxSearch {
		events, err := s.store.Events(ctx, db.Ref{ID: id}, after, eventsAtOnce)
		if err != nil {
			return nil, fmt.Errorf("read the events of ticket %s: %w", id, err)
		}
		for _, e := range events {
			if after = e.Seq; e.Type == approvals.EventAnswered {
				last = e.Data.Question
			}
		}
		if len(events) < eventsAtOnce {
			break
		}
	}
	return last, nil
}
