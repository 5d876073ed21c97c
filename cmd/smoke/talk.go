package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"countersign/slack/emulator"
)

// asked is a refund that bo wants to know more about before chen approves it.
func (s *smoke) asked(ctx context.Context) error {
	call := s.refund("see the ticket")
	call.Callback.Events = []string{"ticket.question_asked"}
	_, t, err := s.api.submit(ctx, call)
	if err != nil {
		return err
	}
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.dialog(ctx, "bo", card, ask, question, "Which customer is <this>?"); err != nil {
		return err
	}
	if err := s.questioned(ctx, t.ID); err != nil {
		return err
	}
	answered, err := s.api.call(ctx, http.MethodPost, "/v1/tickets/"+t.ID+"/answers", map[string]string{"answer": "customer 42, case 991"})
	if err != nil {
		return err
	}
	s.equal("the caller answers over the API", "200", statusCode(answered))
	if err := s.cardSays(ctx, t.ID, 1, "Which customer is <this>?", "customer 42, case 991", "[Approve]"); err != nil {
		return err
	}
	if err := s.press(ctx, "chen", card); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed: POST", "Approved by @chen"}})
	if err != nil {
		return err
	}
	s.equal("only chen has decided: a question is no decision", 1, len(end.Decisions))
	return nil
}

// questioned expects that the caller has been told of the question, and waits.
func (s *smoke) questioned(ctx context.Context, id string) error {
	told, err := s.demo.callbackOf(ctx, id, "ticket.question_asked")
	if err != nil {
		return err
	}
	s.check(told.Verified && told.verify(s.dev.hello.CallbackSecret) == nil, "its caller is told of the question by a signed callback")
	_, t, err := s.api.get(ctx, id)
	if err != nil {
		return err
	}
	s.equal("the ticket waits for an answer", "needs_info", t.State)
	s.check(t.Question != nil && t.Question.Person == "bo" && t.Question.Text == "Which customer is <this>?", "and says who asks what")
	return nil
}

// dialog presses a button that opens a dialog, fills it in and expects nothing but that.
func (s *smoke) dialog(ctx context.Context, who string, card emulator.Message, button, input, text string) error {
	seen, err := s.slack.click(ctx, who, card, button)
	if err != nil {
		return err
	}
	if seen.OpenedView == nil {
		return fmt.Errorf("%s presses %s and no dialog opens: saw %+v", who, button, seen)
	}
	seen, err = s.slack.fill(ctx, who, seen.OpenedView.ID, input, text)
	s.check(err == nil && seen.Closed && seen.Warning == "" && len(seen.Errors) == 0, "%s presses %s and fills in the dialog", who, button)
	return err
}

// cardSays waits until a card says all of these words.
func (s *smoke) cardSays(ctx context.Context, id string, nth int, words ...string) error {
	var text string
	err := until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		cards, err := s.slack.cards(ctx, id)
		if err != nil || len(cards) < nth {
			return false, err
		}
		text = cards[nth-1].Text
		return saysAll(text, words), nil
	})
	if err != nil {
		return fmt.Errorf("card %d of %s does not say %q: %w\n%s", nth, id, words, err, text)
	}
	s.check(true, "its card says: %s", strings.Join(words, ", "))
	return nil
}

// superseded is a refund whose caller has found a mistake in it.
func (s *smoke) superseded(ctx context.Context) error {
	_, old, err := s.api.submit(ctx, s.refund("the wrong charge"))
	if err != nil {
		return err
	}
	if _, err := s.steady(ctx, old.ID); err != nil {
		return err
	}
	call := s.refund("the right charge")
	call.Supersedes = old.ID
	_, t, err := s.api.submit(ctx, call)
	if err != nil {
		return err
	}
	s.equal("the new one says whose place it takes", old.ID, t.Supersedes)
	end, err := s.ends(ctx, expectation{id: old.ID, state: "cancelled", cards: 1, said: []string{"Superseded by", shown(t.ID)}})
	if err != nil {
		return err
	}
	s.equal("the old one says who took its place", "superseded "+t.ID, end.errorCode()+" "+end.SupersededBy)
	again, err := s.api.call(ctx, http.MethodPost, "/v1/tickets", call, "Idempotency-Key", "smoke-supersede-again")
	if err != nil {
		return err
	}
	s.equal("that cannot be done twice", 409, again.status)
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.press(ctx, "bo", card); err != nil {
		return err
	}
	_, err = s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed: POST", "Approved by @bo"}})
	return err
}

const (
	// delay is how far ahead the scheduled call is, and lateness how late it may be.
	delay    = 4 * time.Second
	lateness = 1500 * time.Millisecond
)

// scheduled is a refund that is approved at once and made at its hour.
func (s *smoke) scheduled(ctx context.Context) error {
	call := s.refund("on the first of the month")
	hour := s.now().Add(delay).UTC()
	call.NotBefore = hour.Format(time.RFC3339Nano)
	_, t, err := s.api.submit(ctx, call)
	if err != nil {
		return err
	}
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.press(ctx, "chen", card); err != nil {
		return err
	}
	_, t, err = s.api.get(ctx, t.ID)
	if err != nil {
		return err
	}
	calls, err := s.demo.callsFor(ctx, t.ID)
	if err != nil {
		return err
	}
	s.equal("approved, it is held back until its hour", "approved, 0 calls", fmt.Sprintf("%s, %d calls", t.State, len(calls)))
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed: POST"}}); err != nil {
		return err
	}
	events, err := s.api.events(ctx, t.ID)
	if err != nil {
		return err
	}
	for _, e := range events {
		if e.Type == "ticket.executing" {
			late := e.At.Sub(hour)
			s.check(late >= 0 && late < lateness, "it goes out at its hour, not before and not %s later (%.3f s)", lateness, late.Seconds())
		}
	}
	return nil
}

// glass is a refund that eva approves past everybody.
func (s *smoke) glass(ctx context.Context) error {
	const why = "payments are down, incident 17"
	_, t, err := s.api.submit(ctx, s.refund("cannot wait"))
	if err != nil {
		return err
	}
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.politely(ctx, "bo", card, breakGlass, "You may not break the glass for this request"); err != nil {
		return err
	}
	if err := s.politely(ctx, "ana", card, breakGlass, "You count as the requester of this call"); err != nil {
		return err
	}
	if err := s.dialog(ctx, "eva", card, breakGlass, comment, why); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed (glass broken): POST", "Glass broken by @eva", why}})
	if err != nil {
		return err
	}
	s.check(end.BreakGlass != nil && end.BreakGlass.Person == "eva" && end.BreakGlass.Comment == why, "the ticket says who broke the glass, and why")
	var loud []emulator.Message
	err = until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		loud, err = s.slack.posted(ctx, "general", "Glass broken", "@eva", why)
		return len(loud) > 0, err
	})
	s.check(err == nil && len(loud) == 1, "and #general is told, once")
	return nil
}

// overAPI is an erasure whose first stage dev decides with a personal key.
func (s *smoke) overAPI(ctx context.Context) error {
	_, t, err := s.api.submit(ctx, s.erasure())
	if err != nil {
		return err
	}
	if _, err := s.steady(ctx, t.ID); err != nil {
		return err
	}
	if err := s.keysApart(ctx, t); err != nil {
		return err
	}
	got, err := s.decideAs(ctx, s.person, t.ID, map[string]string{"verdict": "approve", "digest": t.Digest, "comment": "seen the case"})
	if err != nil {
		return err
	}
	s.equal("dev approves with a personal key", "200", statusCode(got))
	again, err := s.decideAs(ctx, s.person, t.ID, map[string]string{"verdict": "approve", "digest": t.Digest})
	if err != nil {
		return err
	}
	s.equal("and cannot do so twice", "409 already_decided", statusCode(again))
	if err := s.quorum(ctx, t.ID); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 2, said: erasureEnd})
	if err != nil {
		return err
	}
	s.equal("the first decision is dev's", decision{Person: "dev", Verdict: "approve", Stage: 1, Comment: "seen the case"}, end.Decisions[0])
	return nil
}

// keysApart expects that a person's key does what a person may and a caller's what a caller
// may, and that a decision says what it is about.
func (s *smoke) keysApart(ctx context.Context, t ticket) error {
	for _, try := range []struct {
		what, want string
		key        *api
		body       map[string]string
	}{
		{"a caller cannot decide", "403 not_a_person", s.api, map[string]string{"verdict": "approve", "digest": t.Digest}},
		{"what was not looked at is not approved", "409 digest_mismatch", s.person, map[string]string{"verdict": "approve", "digest": strings.Repeat("0", 64)}},
		{"a no needs its reason", "422 comment_required", s.person, map[string]string{"verdict": "deny", "digest": t.Digest}},
	} {
		got, err := s.decideAs(ctx, try.key, t.ID, try.body)
		if err != nil {
			return err
		}
		s.equal(try.what, try.want, statusCode(got))
	}
	got, err := s.person.call(ctx, http.MethodPost, "/v1/tickets", s.refund("by dev"), "Idempotency-Key", "smoke-by-a-person")
	if err != nil {
		return err
	}
	s.equal("a person cannot submit", "403 not_a_caller", statusCode(got))
	_, seen, err := s.person.get(ctx, t.ID)
	if err != nil {
		return err
	}
	s.equal("but sees what waits for them", t.ID, seen.ID)
	return nil
}

func (s *smoke) decideAs(ctx context.Context, who *api, id string, body map[string]string) (answer, error) {
	return who.call(ctx, http.MethodPost, "/v1/tickets/"+id+"/decisions", body)
}
