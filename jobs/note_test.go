package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack/emulator"
)

// withGlass lets chen bypass two approvals, in the hearing of another channel.
func withGlass(s *shape) {
	s.need, s.more = "{from: [ana, bo], approvals: 2}", `break_glass: {from: [chen], announce: "#loud"}`
}

func (s workspace) openLoud() {
	s.PutChannel(emulator.Channel{ID: "C0LOUD", Name: "loud", Members: []string{"U0BOT", "U0ANA"}})
}

// loud returns what is in the other channel.
func (s workspace) loud() []emulator.Message { return s.Messages("C0LOUD") }

func (w *world) breakGlass(id, comment string) {
	w.tb.Helper()
	dir := w.config.Load().Directory()
	w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: "chen", Via: "slack"},
			approvals.Decision{Person: "chen", Verdict: approvals.GlassBroken, Stage: t.Stage, Digest: t.Digest, Comment: comment}, dir, now)
	})
}

func (w *world) ask(id, person, text string) {
	w.tb.Helper()
	dir := w.config.Load().Directory()
	w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Ask(approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}, approvals.Question{Person: person, Text: text}, dir, now)
	})
}

func (w *world) answer(id, text string) {
	w.tb.Helper()
	w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Answer(approvals.Actor{Kind: approvals.ActorCaller, Name: callerName, Via: "api"}, text, now)
	})
}

// saying finds the one message that says something.
func saying(tb testing.TB, all []emulator.Message, text string) emulator.Message {
	tb.Helper()
	var found []emulator.Message
	for _, m := range all {
		if strings.Contains(m.Text, text) {
			found = append(found, m)
		}
	}
	require.Len(tb, found, 1, "messages that say %q in %v", text, all)
	return found[0]
}

func TestAQuestionAndItsAnswerAreSaidBelowTheCardAndShownOnIt(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	card := space.awaitTitles("Approval needed")[0]
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	w.ask(id, "bo", "Which <!channel> is this for?")
	all := space.awaitTitles("Question open", "@bo asks @dora for details")
	require.Equal(t, []any{card.TS, false}, []any{all[1].ThreadTS, all[1].Broadcast})
	require.Contains(t, all[1].Text, "> Which <!channel> is this for?")
	require.Contains(t, all[0].Text, "@bo asks: \n> Which <!channel> is this for?")
	rang := space.Notifications("U0DORA")
	require.NotEmpty(t, rang, "the caller's owner hears of it")
	require.Contains(t, rang[len(rang)-1].Text, "Question")

	w.answer(id, "The one of case 991 <@U0CHEN>")
	all = space.awaitTitles("Approval needed", "asks @dora", "@bo, your question has an answer from payroll-bot")
	require.Contains(t, all[2].Text, "> The one of case 991 <@U0CHEN>")
	require.Equal(t, card.TS, all[2].ThreadTS)
	space.await("the answer on the card", func(all []emulator.Message) bool {
		return strings.Contains(all[0].Text, "1 question, answered\n@bo asked: \n> Which <!channel> is this for?\nAnswer: \n> The one of case 991 <@U0CHEN>")
	})
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Contains(t, space.await("the end", func(all []emulator.Message) bool { return strings.Contains(all[0].Text, "Executed") })[0].Text,
		"1 question, answered", "and still there in the end")
	require.Empty(t, space.Snapshot().Warnings)
	w.requireWhole(id)
}

func TestAQuestionThatHasItsAnswerIsSaidOnceWithIt(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	client := space.client()
	id := w.submit(call{}).ID
	w.ask(id, "bo", "Which customer?")
	w.answer(id, "Number 42")
	w.run(w.withSlack(client))
	space.await("the answer", func(all []emulator.Message) bool {
		return len(all) > 0 && strings.Contains(all[len(all)-1].Text, "has an answer") || len(all) == 1 && strings.Contains(all[0].Text, "Number 42")
	})
	w.settled()
	for _, m := range messages(space.Snapshot()) {
		require.NotContains(t, m.Text, "asks @dora", "nobody is asked for what has been answered")
	}
}

func TestBrokenGlassIsAnnouncedAloudAlthoughTheTicketIsDecided(t *testing.T) {
	t.Parallel()
	w, space := setup(t, withGlass), newWorkspace(t)
	space.openLoud()
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	card := space.awaitTitles("Approval needed")[0]
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	w.breakGlass(id, "Production is <!channel> down")
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	all := space.awaitTitles("Executed (glass broken)", "Glass broken by @chen: 2 approvals were bypassed")
	require.Equal(t, []any{card.TS, true}, []any{all[1].ThreadTS, all[1].Broadcast}, "in the thread, and in the channel")
	w.settled()
	require.Len(t, space.loud(), 1)
	for _, m := range []emulator.Message{all[1], space.loud()[0]} {
		for _, words := range []string{
			"Glass broken: DELETE · billing /customers/42", "/customers/42", "> Production is <!channel> down",
			"2 approvals were bypassed", "Their decision was not waited for: @ana and @bo",
		} {
			require.Contains(t, m.Text, words)
		}
	}
	require.Empty(t, space.loud()[0].ThreadTS)
	require.NotEqual(t, all[1].ClientMsgID, space.loud()[0].ClientMsgID)
	for _, who := range []string{"U0ANA", "U0BO"} {
		require.NotEmpty(t, space.Notifications(who), "%s hears of it", who)
	}
	require.Contains(t, all[0].Text, "Glass broken by @chen: 2 approvals were bypassed.")
	w.requireEvents(id, approvals.EventCreated, approvals.EventNotified, approvals.EventGlassBroken, approvals.EventApproved,
		approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func TestBrokenGlassIsAnnouncedWhereThereIsNoCardYet(t *testing.T) {
	t.Parallel()
	w, space := setup(t, withGlass), newWorkspace(t)
	space.openLoud()
	id := w.submit(call{}).ID
	w.breakGlass(id, "Production is down")
	w.run(w.withSlack(space.client()))
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	all := space.awaitTitles("Glass broken by @chen")
	require.Empty(t, all[0].ThreadTS)
	require.Len(t, space.loud(), 1)
}

func TestBrokenGlassIsAnnouncedInOneChannelWhereTheOtherIsMissing(t *testing.T) {
	t.Parallel()
	w, space := setup(t, withGlass), newWorkspace(t) // no channel "loud"
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	w.breakGlass(id, "Production is down")
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitTitles("Executed (glass broken)", "Glass broken by @chen")
	w.settled()
	space.awaitTitles("Executed (glass broken)", "Glass broken by @chen")
}

func TestBrokenGlassIsAnnouncedWhenSlackIsBack(t *testing.T) {
	t.Parallel()
	w, space := setup(t, withGlass), newWorkspace(t)
	space.openLoud()
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	space.SetOutage(true)
	w.breakGlass(id, "Production is down")
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.SetOutage(false)
	space.awaitTitles("Executed (glass broken)", "Glass broken by @chen")
	eventually(t, "the other channel hears of it", func() bool { return len(space.loud()) == 1 })
	w.settled()
	require.Len(t, space.loud(), 1)
}

func TestAnEscalationSaysWhyAndMentionsThoseItAsks(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) {
		p.Stages[0].Need = []approvals.ApproverSet{{From: []string{"ana", "bo"}, Approvals: 2}}
		p.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, To: []string{"chen"}, Mode: approvals.ModeAdd}}
	}}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	w.reload(func(s *shape) { s.members = "ana, chen" })
	dir := w.config.Load().Directory()
	delete(dir.People, "bo") // bo has left: ana alone cannot complete it
	w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Reassess(dir, now) })
	all := space.awaitTitles("Approval needed", "Out of reach: of 2 needed approvals only 1 can be given by those who are asked. @chen, please review")
	require.True(t, all[1].Broadcast)
}

func TestAStallIsSaidToTheWholeChannel(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) {
		p.Stages[0].Need = []approvals.ApproverSet{{From: []string{"ana", "bo"}, Approvals: 2}}
	}}).ID
	card := space.awaitTitles("Approval needed")[0]
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	dir := w.config.Load().Directory()
	delete(dir.People, "bo")
	stalled := w.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Reassess(dir, now) })
	require.NotNil(t, stalled.Stalled)
	w.enqueue(approvals.Notify{TicketID: id, Seq: stalled.Version})
	all := space.await("the stall", func(all []emulator.Message) bool { return len(all) > 1 })
	require.Equal(t, []any{card.TS, true}, []any{all[1].ThreadTS, all[1].Broadcast})
	require.Contains(t, all[1].Text, "Nobody who may still decide can complete this: of 2 needed approvals only 1 can be given by the people who may still decide.")
}

// asksMore is a policy that wants two people where one was enough.
func asksMore(s *shape) { s.need = "{from: [security], approvals: 2}" }

func TestAStricterPolicyAsksAgainOnACardOfItsOwnAndSaysWhy(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{after: 1500 * time.Millisecond}).ID
	first := space.awaitTitles("Approval needed")[0]
	w.decide(id, "ana", approvals.Approve)
	space.await("when it will be sent", func(all []emulator.Message) bool {
		return strings.Contains(all[0].Text, "It will be sent once, not before")
	})
	w.reload(asksMore)
	all := space.await("both", func(all []emulator.Message) bool {
		return len(all) == 3 && strings.Contains(all[0].Text, "asked again")
	})
	require.Contains(t, all[0].Text, "Stage 1 complete")
	card := saying(t, all, "Approval needed")
	require.Contains(t, card.Text, "the policy became stricter: asked again")
	require.Empty(t, card.ThreadTS)
	require.Len(t, card.Buttons, 4)
	note := saying(t, all, "The approval of this request no longer counts: the policy has changed")
	require.Equal(t, []any{first.TS, true}, []any{note.ThreadTS, note.Broadcast})
	require.Contains(t, note.Text, "Stage 2 of 2 is asked")
	w.decide(id, "ana", approvals.Approve)
	w.decide(id, "bo", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireWhole(id)
}

func TestAnApprovalThatNoLongerStandsIsSaidBelowItsCard(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{after: 1500 * time.Millisecond}).ID
	first := space.awaitTitles("Approval needed")[0]
	w.decide(id, "ana", approvals.Approve)
	space.await("when it will be sent", func(all []emulator.Message) bool { return strings.Contains(all[0].Text, "not before") })
	w.reload(func(s *shape) { s.members = "bo, chen" })
	all := space.awaitTitles("Approval needed", "an approval no longer stands: that of ana")
	require.Equal(t, []any{first.TS, true}, []any{all[1].ThreadTS, all[1].Broadcast})
	require.Contains(t, all[1].Text, "@bo and @chen, please review", "edits notify nobody")
	require.NotEmpty(t, all[0].Buttons, "the card is open again")
	w.decide(id, "bo", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}
