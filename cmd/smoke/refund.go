package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"countersign/slack/emulator"
)

// refundBody is sent as it stands: escaping it on the way would be a change.
const refundBody = `{"charge":"ch_1","amount":4200,"note":"a < b & c"}`

// refund is (b) of the demo policy.
func (s *smoke) refund(why string) submission {
	return s.with(submission{
		Upstream: "billing", Method: "POST", Path: "/refunds", Body: json.RawMessage(refundBody), Justification: why,
	})
}

// refundDenied is denied by bo, after others have tried who may not decide.
func (s *smoke) refundDenied(ctx context.Context) error {
	got, t, err := s.api.submit(ctx, s.refund("customer was charged twice"))
	if err != nil {
		return err
	}
	s.equal("it waits for bo and chen", []string{"bo", "chen"}, t.WaitingFor)
	seconds, err := strconv.Atoi(got.header.Get("Retry-After"))
	s.check(err == nil && seconds > 0, "Retry-After says when to ask again")
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	s.contains("the card shows all of the call", card.Text, "Approval needed: POST", s.demo.upstream+"/v1/refunds", refundBody,
		"customer was charged twice", "demo-bot", "0 of 1", "@bo, @chen", t.Fingerprint, "[Approve]", "[Deny…]")
	if err := s.turnedAway(ctx, t.ID, card); err != nil {
		return err
	}
	if err := s.boDenies(ctx, card); err != nil {
		return err
	}
	end, err := s.ends(ctx, expectation{id: t.ID, state: "denied", cards: 1, said: []string{"Denied: POST", "Denied by @bo", "was refunded in May"}})
	if err != nil {
		return err
	}
	s.equal("the decision has its reason", []decision{{Person: "bo", Verdict: "deny", Stage: 1, Comment: "was refunded in May"}}, end.Decisions)
	return s.noResult(ctx, t.ID)
}

// turnedAway lets people press who may not decide.
func (s *smoke) turnedAway(ctx context.Context, id string, card emulator.Message) error {
	if err := s.slack.invite(ctx, "gus"); err != nil {
		return err
	}
	const guest, stranger, requester = "this Slack account is a guest", "You are not an approver for this request", "You count as the requester of this call"
	for _, try := range []struct{ who, button, told string }{
		{"gus", approve, guest}, {"gus", deny, guest}, {"eva", approve, stranger}, {"ana", approve, requester}, {"ana", deny, requester},
	} {
		if err := s.politely(ctx, try.who, card, try.button, try.told); err != nil {
			return err
		}
	}
	_, t, err := s.api.get(ctx, id)
	if err != nil {
		return err
	}
	s.equal("none of that counted", "pending, stage 1 of 1: 0 of 1", t.State+", "+t.stands())
	events, err := s.api.events(ctx, id)
	if err != nil {
		return err
	}
	s.equal("and all of it is on record", []string{"refused", "refused", "refused", "refused", "refused"}, types(events, "ticket.created", "ticket.notified"))
	return nil
}

// politely expects that a click is refused with words that only its person sees, without a
// dialog and without a warning by Slack.
func (s *smoke) politely(ctx context.Context, who string, card emulator.Message, button, words string) error {
	before, err := s.slack.told(ctx, who)
	if err != nil {
		return err
	}
	seen, err := s.slack.click(ctx, who, card, button)
	if err != nil {
		return err
	}
	after, err := s.slack.told(ctx, who)
	if err != nil {
		return err
	}
	what := who + " presses " + button + " and is told politely: " + words
	if seen.Warning != "" || seen.OpenedView != nil || len(after) != len(before)+1 {
		s.fail("%s: saw %+v and was told %d things", what, seen, len(after)-len(before))
		return nil
	}
	s.contains(what, after[len(after)-1], words)
	return nil
}

// boDenies goes through the dialog that asks for a reason.
func (s *smoke) boDenies(ctx context.Context, card emulator.Message) error {
	seen, err := s.slack.click(ctx, "bo", card, deny)
	if err != nil {
		return err
	}
	if seen.OpenedView == nil {
		s.fail("bo presses Deny and a dialog opens: saw %+v", seen)
		return nil
	}
	s.contains("bo presses Deny and a dialog opens", seen.OpenedView.Title+"\n"+seen.OpenedView.Text, "Deny", "/refunds")
	seen, err = s.slack.fill(ctx, "bo", seen.OpenedView.ID, reason, "no")
	if err != nil {
		return err
	}
	s.check(len(seen.Errors) > 0 && !seen.Closed, "it wants more of a reason than \"no\"")
	if seen, err = s.reasonAgain(ctx); err != nil {
		return err
	}
	s.check(seen.Closed && seen.Warning == "" && len(seen.Errors) == 0, "with a reason it closes")
	return nil
}

func (s *smoke) reasonAgain(ctx context.Context) (emulator.Seen, error) {
	state, err := s.slack.state(ctx)
	if err != nil {
		return emulator.Seen{}, err
	}
	i := slices.IndexFunc(state.Views, func(v emulator.View) bool { return v.User == people["bo"] && v.Top })
	if i < 0 {
		return emulator.Seen{}, errNoDialog
	}
	return s.slack.fill(ctx, "bo", state.Views[i].ID, reason, "was refunded in May")
}

// refundApproved is approved by chen while its caller waits.
func (s *smoke) refundApproved(ctx context.Context) error {
	const key = "smoke-refund-1"
	call := s.refund("the other charge")
	_, t, err := s.api.submitAs(ctx, call, key)
	if err != nil {
		return err
	}
	card, err := s.slack.card(ctx, t.ID, 1, true)
	if err != nil {
		return err
	}
	if err := s.unchanged(ctx, t.ID); err != nil {
		return err
	}
	waiting := s.api.poll(ctx, t.ID, s.now)
	if err := s.press(ctx, "chen", card); err != nil {
		return err
	}
	got := <-waiting
	if got.err != nil {
		return got.err
	}
	s.check(got.Done && got.took < pollWait*time.Second, "a long poll is answered when the ticket is done, not at its end (%.1f s)", got.took.Seconds())
	s.equal("and says what wait it was granted", "wait="+strconv.Itoa(pollWait), got.header.Get("Preference-Applied"))
	if _, err := s.ends(ctx, expectation{id: t.ID, state: "succeeded", calls: 1, cards: 1, said: []string{"Executed: POST", "Approved by @chen", "Upstream answered 200"}}); err != nil {
		return err
	}
	if err := s.asWritten(ctx, t.ID); err != nil {
		return err
	}
	if err := s.result(ctx, t.ID, "POST /v1/refunds"); err != nil {
		return err
	}
	return s.replayed(ctx, call, key, t.ID)
}

// press approves and expects nothing but that.
func (s *smoke) press(ctx context.Context, who string, card emulator.Message) error {
	seen, err := s.slack.click(ctx, who, card, approve)
	s.check(err == nil && seen.Sent && seen.Warning == "", "%s presses Approve", who)
	return err
}

// unchanged expects 304 for the version that is known.
func (s *smoke) unchanged(ctx context.Context, id string) error {
	got, err := s.steady(ctx, id)
	if err != nil {
		return err
	}
	tag := got.header.Get("ETag")
	same, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/"+id, nil, "If-None-Match", tag)
	if err != nil {
		return err
	}
	s.equal("If-None-Match with its version is 304 without a body", "304 0 "+tag, statusCode(same)+" "+strconv.Itoa(len(same.body))+" "+same.header.Get("ETag"))
	other, err := s.api.call(ctx, http.MethodGet, "/v1/tickets/"+id, nil, "If-None-Match", `"999"`)
	if err != nil {
		return err
	}
	s.equal("with another one it is 200", "200", statusCode(other))
	return nil
}

// steady reads a ticket once its card is on record: after that nothing happens by itself.
func (s *smoke) steady(ctx context.Context, id string) (got answer, err error) {
	err = until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		events, err := s.api.events(ctx, id)
		return contains(types(events), "notified"), err
	})
	if err != nil {
		return got, err
	}
	got, _, err = s.api.get(ctx, id)
	return got, err
}

// asWritten expects the body that the upstream got to be the one that was submitted.
func (s *smoke) asWritten(ctx context.Context, id string) error {
	calls, err := s.demo.callsFor(ctx, id)
	if err == nil && len(calls) == 1 {
		s.equal("the upstream got the call as it was written", "POST /v1/refunds "+refundBody, calls[0].Method+" "+calls[0].Path+" "+calls[0].Body)
	}
	return err
}

// replayed submits again under the same key.
func (s *smoke) replayed(ctx context.Context, call submission, key, id string) error {
	got, t, err := s.api.submitAs(ctx, call, key)
	if err != nil {
		return err
	}
	s.equal("the same submit under the same key is the same ticket, as it is by now", id+" succeeded true", t.ID+" "+t.State+" "+got.header.Get("Idempotent-Replayed"))
	call.Justification += ", really"
	other, err := s.api.call(ctx, http.MethodPost, "/v1/tickets", call, "Idempotency-Key", key)
	if err != nil {
		return err
	}
	s.equal("another submit under the same key is refused", "422 idempotency_key_reused", statusCode(other))
	return nil
}
