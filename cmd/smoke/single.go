package main

import (
	"context"
	"net/http"
)

// look is (a) of the demo policy.
func (s *smoke) look() submission {
	return s.with(submission{Upstream: "billing", Method: "GET", Path: "/customers/42", Justification: "look at a customer"})
}

// with adds the callback and something of ours to a call.
func (s *smoke) with(c submission) submission {
	c.Callback.URL = s.demo.callback + "/hook"
	c.Metadata = map[string]string{"case": "991 <&>"}
	return c
}

// frontDoor is what answers before any ticket does.
func (s *smoke) frontDoor(ctx context.Context) error {
	ready, err := exchange(ctx, s.api.http, http.MethodGet, s.api.base+"/readyz", nil)
	if err != nil {
		return err
	}
	s.equal("it is ready", 200, ready.status)
	document, err := exchange(ctx, s.api.http, http.MethodGet, s.api.base+"/openapi.yaml", nil)
	if err != nil {
		return err
	}
	s.check(document.status == 200 && len(document.body) > 1000, "it serves its own document")
	without, err := exchange(ctx, s.api.http, http.MethodGet, s.api.base+"/v1/tickets", nil)
	if err != nil {
		return err
	}
	s.equal("without a key it says 401", "401 unauthenticated", statusCode(without))
	wrong := api{http: s.api.http, base: s.api.base, key: s.api.key + "x"}
	with, err := wrong.call(ctx, http.MethodGet, "/v1/tickets", nil)
	if err != nil {
		return err
	}
	s.equal("with a wrong key it says 401", "401 unauthenticated", statusCode(with))
	missing, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/tkt_00000000000000000000000000", nil)
	if err != nil {
		return err
	}
	s.equal("a ticket that is not there is 404", "404 not_found", statusCode(missing))
	return nil
}

// allowed is a call that nobody needs to approve.
func (s *smoke) allowed(ctx context.Context) error {
	got, t, err := s.api.submit(ctx, s.look())
	if err != nil {
		return err
	}
	s.equal("it is approved at once, by the rule", "approved by read-only", t.State+" by "+t.Rule)
	s.equal("Location leads to it", "/v1/tickets/"+t.ID, got.header.Get("Location"))
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1}); err != nil {
		return err
	}
	return s.result(ctx, t.ID, "GET /v1/customers/42")
}

// result checks the result endpoint.
func (s *smoke) result(ctx context.Context, id, done string) error {
	got, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/"+id+"/result", nil)
	if err != nil {
		return err
	}
	s.equal("the result endpoint has the upstream's status", "200, upstream 200", statusCode(got)+", upstream "+got.header.Get("AsyncResult"))
	s.contains("and its answer", string(got.body), `"done":"`+done+`"`, `"truncated":false`)
	return nil
}

// noResult checks the result endpoint of a ticket that was never sent.
func (s *smoke) noResult(ctx context.Context, id string) error {
	got, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/"+id+"/result", nil)
	if err != nil {
		return err
	}
	s.equal("the result endpoint says that there is none", "409 no_result", statusCode(got))
	return nil
}

// refused is a call that a rule denies.
func (s *smoke) refused(ctx context.Context) error {
	_, t, err := s.api.submit(ctx, s.with(submission{
		Upstream: "billing", Method: "DELETE", Path: "/accounts/7", Justification: "clean-up",
	}))
	if err != nil {
		return err
	}
	s.equal("it is denied at once, by the rule", "denied denied_by_policy", t.State+" "+t.errorCode())
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "denied"}); err != nil {
		return err
	}
	return s.noResult(ctx, t.ID)
}

// withdrawn is a call that is cancelled while its card may still be on its way.
func (s *smoke) withdrawn(ctx context.Context) error {
	_, t, err := s.api.submit(ctx, s.refund("no longer needed"))
	if err != nil {
		return err
	}
	cancel := func(headers ...string) (answer, error) {
		return s.api.call(ctx, http.MethodPost, "/v1/tickets/"+t.ID+"/cancel", map[string]string{"reason": "solved otherwise"}, headers...)
	}
	stale, err := cancel("If-Match", `"999"`)
	if err != nil {
		return err
	}
	s.equal("a cancel of a version it does not have is refused", "412 precondition_failed", statusCode(stale))
	got, err := cancel()
	if err != nil {
		return err
	}
	s.equal("a cancel is taken", "200", statusCode(got))
	again, err := cancel()
	if err != nil {
		return err
	}
	s.equal("and taken again", "200", statusCode(again))
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "cancelled", cards: s.cardsOf(ctx, t.ID), said: []string{"Cancelled: POST"}}); err != nil {
		return err
	}
	return s.noResult(ctx, t.ID)
}

// cardsOf is 0 or 1: the cancel may have been faster than the card.
func (s *smoke) cardsOf(ctx context.Context, id string) int {
	_ = until(ctx, cardLimit, func(ctx context.Context) (bool, error) { // late means that there is none
		cards, err := s.slack.cards(ctx, id)
		return len(cards) > 0, err
	})
	cards, err := s.slack.cards(ctx, id)
	if err != nil {
		return 0
	}
	return len(cards)
}
