package main

import (
	"context"
)

// erasure is (c) of the demo policy.
func (s *smoke) erasure() submission {
	return s.with(submission{
		Upstream: "billing", Method: "DELETE", Path: "/customers/42", Justification: "asked for erasure, case 991",
	})
}

// erasureEnd is what the last card of an erasure says.
var erasureEnd = []string{"Executed: DELETE", "Upstream answered 200"}

// chain goes through two stages; the second needs two people.
func (s *smoke) chain(ctx context.Context) error {
	_, t, err := s.api.submit(ctx, s.erasure())
	if err != nil {
		return err
	}
	s.equal("the first stage waits for dev alone: ana owns the caller", []string{"dev"}, t.WaitingFor)
	first, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.politely(ctx, "ana", first, approve, "You count as the requester of this call"); err != nil {
		return err
	}
	if err := s.politely(ctx, "bo", first, approve, "You are not an approver for this request"); err != nil {
		return err
	}
	if err := s.press(ctx, "dev", first); err != nil {
		return err
	}
	if err := s.quorum(ctx, t.ID); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 2, said: erasureEnd})
	if err != nil {
		return err
	}
	s.equal("the decisions are dev's, bo's and chen's", []decision{
		{Person: "dev", Verdict: "approve", Stage: 1}, {Person: "bo", Verdict: "approve", Stage: 2}, {Person: "chen", Verdict: "approve", Stage: 2},
	}, end.Decisions)
	return s.result(ctx, t.ID, "DELETE /v1/customers/42")
}

// quorum lets bo and chen approve the second stage.
func (s *smoke) quorum(ctx context.Context, id string) error {
	second, err := s.slack.card(ctx, id, 2, true)
	if err != nil {
		return err
	}
	s.contains("the second stage has a card of its own", second.Text, "stage 2 of 2", "0 of 2", "@bo, @chen")
	first, err := s.slack.card(ctx, id, 1, false)
	if err != nil {
		return err
	}
	s.contains("the first stage's card says that it is complete", first.Text, "Stage 1 complete", "@dev")
	if err := s.press(ctx, "bo", second); err != nil {
		return err
	}
	_, t, err := s.api.get(ctx, id)
	if err != nil {
		return err
	}
	s.equal("one of two is not enough", "pending, stage 2 of 2: 1 of 2", t.State+", "+t.stands())
	if err := s.politely(ctx, "bo", second, approve, "You have already decided on this request"); err != nil {
		return err
	}
	calls, err := s.demo.callsFor(ctx, id)
	if err != nil {
		return err
	}
	s.equal("and nothing has been sent", 0, len(calls))
	return s.press(ctx, "chen", second)
}

// escalated is an erasure that nobody looks at until eva is asked too.
func (s *smoke) escalated(ctx context.Context) error {
	_, t, err := s.api.submit(ctx, s.erasure())
	if err != nil {
		return err
	}
	if err := until(ctx, escalationLimit, func(ctx context.Context) (bool, error) {
		events, err := s.api.events(ctx, t.ID)
		return contains(types(events), "escalated"), err
	}); err != nil {
		return err
	}
	_, t, err = s.api.get(ctx, t.ID)
	if err != nil {
		return err
	}
	s.equal("after 30 s eva may stand in for dev", []string{"dev", "eva"}, t.WaitingFor)
	first, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.press(ctx, "eva", first); err != nil {
		return err
	}
	second, err := s.slack.card(ctx, t.ID, 2, true)
	if err != nil {
		return err
	}
	for _, who := range []string{"chen", "bo"} {
		if err := s.press(ctx, who, second); err != nil {
			return err
		}
	}
	_, err = s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 2, said: erasureEnd})
	return err
}
