package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"countersign/slack/emulator"
)

// expectation is what has to have become of a ticket.
type expectation struct {
	id, state string
	// calls is how often the upstream was called for it.
	calls int
	// cards is how many cards it has in Slack.
	cards int
	// said are words of its last card.
	said []string
}

// ends checks everything about a ticket that is over: state, ledger, callback, cards. It
// prints the timeline first, so that a failure can be read beside it.
func (s *smoke) ends(ctx context.Context, e expectation) (ticket, error) {
	s.expected = append(s.expected, e)
	t, err := s.api.end(ctx, e.id)
	if err != nil {
		return t, err
	}
	callback, err := s.demo.callbackOf(ctx, e.id, "ticket."+e.state)
	if err != nil {
		return t, err
	}
	if err := s.delivered(ctx, e.id); err != nil {
		return t, err
	}
	if err := s.timeline(ctx, e.id); err != nil {
		return t, err
	}
	s.equal("the ticket ends as "+e.state, e.state, t.State)
	s.signed(callback, t)
	if err := s.called(ctx, e); err != nil {
		return t, err
	}
	return t, s.closedCards(ctx, e)
}

// delivered waits until the ticket itself says that its callback was taken.
func (s *smoke) delivered(ctx context.Context, id string) error {
	err := until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		_, t, err := s.api.get(ctx, id)
		return t.Callback.State == "delivered", err
	})
	if err != nil {
		return fmt.Errorf("wait for the callback of %s to count as delivered: %w", id, err)
	}
	return nil
}

// signed checks a callback's signature with the printed secret, and that it is about
// this ticket and this end.
func (s *smoke) signed(c received, t ticket) {
	what := "its callback is ticket." + t.State + ", signed, and verifies with the printed secret"
	if c.Type != "ticket."+t.State || !c.Verified {
		s.fail("%s: got %s, which the receiver found verified: %v", what, c.Type, c.Verified)
		return
	}
	if err := c.verify(s.dev.hello.CallbackSecret); err != nil {
		s.fail("%s: %v", what, err)
		return
	}
	if c.forged().verify(s.dev.hello.CallbackSecret) == nil {
		s.fail("%s: a forged body verifies too", what)
		return
	}
	s.check(true, "%s", what)
	s.contains("the callback says what became of it", string(c.Body), t.ID, `"state":"`+t.State+`"`, `"done":true`)
}

// called checks the upstream's ledger.
func (s *smoke) called(ctx context.Context, e expectation) error {
	calls, err := s.demo.callsFor(ctx, e.id)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("the upstream was called %d time(s) under the ticket's id", e.calls)
	s.equal(what, e.calls, len(calls))
	for _, c := range calls {
		s.check(c.Authorized, "the call carried the gate's credential: %s %s", c.Method, c.Path)
	}
	return nil
}

// closedCards checks that the cards show the end and offer nothing any more.
func (s *smoke) closedCards(ctx context.Context, e expectation) error {
	if e.cards == 0 {
		return s.countCards(ctx, e.id, 0, "Slack was not asked")
	}
	for n := 1; n <= e.cards; n++ {
		if err := s.closedCard(ctx, e, n); err != nil {
			return err
		}
	}
	return s.countCards(ctx, e.id, e.cards, fmt.Sprintf("Slack shows %d card(s) of it", e.cards))
}

func (s *smoke) countCards(ctx context.Context, id string, want int, what string) error {
	cards, err := s.slack.cards(ctx, id)
	if err != nil {
		return err
	}
	s.equal(what, want, len(cards))
	return nil
}

func (s *smoke) closedCard(ctx context.Context, e expectation, n int) error {
	var card emulator.Message
	err := until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		cards, err := s.slack.cards(ctx, e.id)
		if err != nil || len(cards) < n {
			return false, err
		}
		card = cards[n-1]
		return len(card.Buttons) == 0 && saysAll(card.Text, e.said), nil
	})
	what := fmt.Sprintf("card %d shows the end: %s", n, strings.Join(e.said, ", "))
	if err == errLate { //nolint:errorlint // our own, never wrapped
		s.fail("%s; after %s it has %d buttons and reads:\n%s", what, showLimit, len(card.Buttons), indent(card.Text))
		return nil
	}
	s.check(err == nil, "%s", what)
	return err
}

func saysAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

func contains(list []string, one string) bool { return slices.Contains(list, one) }
