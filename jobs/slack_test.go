package jobs_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/slack"
	"countersign/slack/emulator"
)

// workspace is a Slack of the test's own, with the people of its configuration.
type workspace struct {
	*emulator.Server
	tb testing.TB
}

func newWorkspace(tb testing.TB) workspace {
	tb.Helper()
	people := []string{"U0ANA", "U0BO", "U0CHEN", "U0DORA", "U0FAY", "U0GIL", "U0HAL"}
	c := emulator.Config{Workspace: emulator.Workspace{Channels: []emulator.Channel{
		{ID: "C0APPROVALS", Name: "approvals", Members: append([]string{"U0BOT"}, people...)},
	}}}
	for _, id := range people {
		name := strings.ToLower(strings.TrimPrefix(id, "U0"))
		c.Workspace.Users = append(c.Workspace.Users, emulator.User{ID: id, Name: name, RealName: name})
	}
	s := emulator.New(c)
	_, err := s.Start(tb.Context(), "127.0.0.1:0")
	require.NoError(tb, err)
	tb.Cleanup(s.Close)
	return workspace{Server: s, tb: tb}
}

func (s workspace) client() *slack.Client {
	s.tb.Helper()
	http := egress.SlackClient(egress.SlackConfig{AllowLoopback: true, Timeout: 5 * time.Second})
	s.tb.Cleanup(http.CloseIdleConnections)
	c, err := slack.New(slack.Config{Token: slack.Secret(getenv("BOT")), APIURL: s.APIURL(), HTTP: http})
	require.NoError(s.tb, err)
	return c
}

// messages returns what is in the channel, oldest first.
func messages(s emulator.Snapshot) []emulator.Message { return s.Channels[0].Messages }

// await waits until the channel is as wanted, and returns its messages.
func (s workspace) await(what string, want func([]emulator.Message) bool) []emulator.Message {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	err := s.Wait(ctx, func(now emulator.Snapshot) bool { return want(messages(now)) })
	require.NoError(s.tb, err, "%s; in the channel: %v", what, messages(s.Snapshot()))
	return messages(s.Snapshot())
}

// awaitTitles waits until the messages of the channel say these things, one each.
func (s workspace) awaitTitles(titles ...string) []emulator.Message {
	s.tb.Helper()
	return s.await(strings.Join(titles, ", "), func(all []emulator.Message) bool {
		if len(all) != len(titles) {
			return false
		}
		for i, title := range titles {
			if !strings.Contains(all[i].Text, title) {
				return false
			}
		}
		return true
	})
}

func TestCardIsPostedAndFollowsTheTicketToItsEnd(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	card := space.awaitTitles("Approval needed")[0]
	require.NotEmpty(t, card.Buttons)
	require.NotEmpty(t, card.ClientMsgID)
	noted := w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	require.Equal(t, approvals.Pending, noted.State)

	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	card = space.awaitTitles("Executed")[0]
	require.Empty(t, card.Buttons, "nothing is left to press")
	space.await("that the caller was told", func(all []emulator.Message) bool {
		return strings.Contains(strings.ToLower(all[0].Text), "delivered")
	})
	w.requireEvents(id, approvals.EventCreated, approvals.EventNotified, approvals.EventDecided, approvals.EventApproved,
		approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
	require.Empty(t, space.Snapshot().Warnings)
}

func TestEveryStageHasACardOfItsOwn(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: twoStages}).ID
	space.awaitTitles("stage 1 of 2")
	w.decide(id, "ana", approvals.Approve)
	space.awaitTitles("Stage 1 complete", "stage 2 of 2")
	w.decide(id, "bo", approvals.Approve)
	space.awaitTitles("Executed", "Executed")
	require.Equal(t, 2, count(w.requireWhole(id), approvals.EventNotified))
}

func twoStages(p *approvals.Plan) { p.Stages = append(p.Stages[:1:1], p.Stages[0]) }

func TestRemindersAndEscalationsAreSaidBelowTheCard(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) {
		p.Stages[0].RemindEvery = 2 * time.Second
		p.Stages[0].Escalate = []approvals.Tier{{After: 3 * time.Second, To: []string{"chen"}, Mode: approvals.ModeAdd}}
	}}).ID
	all := space.await("a reminder and an escalation", func(all []emulator.Message) bool {
		var reminded, escalated bool
		for _, m := range all {
			reminded = reminded || strings.Contains(m.Text, "Reminder")
			escalated = escalated || strings.Contains(m.Text, "Escalation 1")
		}
		return reminded && escalated
	})
	for _, m := range all[1:] {
		require.Equal(t, all[0].TS, m.ThreadTS)
		require.Equal(t, strings.Contains(m.Text, "Escalation"), m.Broadcast)
	}
	w.decide(id, "bo", approvals.Deny)
	w.awaitState(id, approvals.Denied)
	w.requireWhole(id)
}

func TestSecondNotificationPostsNoSecondCard(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version == 2 })
	w.enqueue(approvals.Notify{TicketID: id, Seq: 1}, approvals.Notify{TicketID: id, Seq: 1}, approvals.Notify{TicketID: id, Seq: 77})
	w.settled()
	require.Len(t, messages(space.Snapshot()), 1)
	w.requireEvents(id, approvals.EventCreated, approvals.EventNotified)
}

func TestNobodyIsAskedAboutWhatIsDecided(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	id := w.submit(call{}).ID
	w.decide(id, "bo", approvals.Deny)
	w.run(w.withSlack(space.client()))
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	w.settled()
	require.Empty(t, messages(space.Snapshot()))
}

func TestCardThatWasPostedByATryThatDiedIsBroughtUpToDate(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.settled()
	before := messages(space.Snapshot())[0].Revision
	w.sql(`UPDATE cards SET shown = 0 WHERE ticket_id = $1`, id) // as if it had died before it could look again
	w.enqueue(approvals.UpdateCard{TicketID: id})
	space.await("another revision", func(all []emulator.Message) bool { return all[0].Revision > before })
	require.Len(t, messages(space.Snapshot()), 1)
}

func TestOfTwoUpdatesThatCrossTheNewerOneIsShownInTheEnd(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: twoStages, quiet: true}).ID
	space.awaitTitles("stage 1 of 2")
	w.settled()
	// The update after the first decision is held up until the one after the last is done.
	space.AddFault(emulator.Fault{Method: "chat.update", Kind: emulator.Slow, DelayMS: 1500})
	w.decide(id, "ana", approvals.Approve)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, space.Wait(ctx, func(s emulator.Snapshot) bool { return len(s.Faults) == 0 }), "the old update is on its way")
	w.decide(id, "bo", approvals.Deny)
	space.await("the newer update", func(all []emulator.Message) bool { return strings.Contains(all[0].Text, "Denied") })
	w.settled()
	require.Contains(t, messages(space.Snapshot())[0].Text, "Denied", "the older update came last and must not stay")
}

func TestCardThatCannotBeUpdatedKeepsNoOtherFromItAndHasItsEndSaidBelow(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: twoStages, quiet: true}).ID
	space.awaitTitles("stage 1 of 2")
	w.decide(id, "ana", approvals.Approve)
	space.awaitTitles("Stage 1 complete", "stage 2 of 2")
	w.settled()
	space.AddFault(emulator.Fault{Method: "chat.update", Kind: emulator.ErrorReply, Error: "message_not_found"})
	w.decide(id, "bo", approvals.Deny)
	all := space.await("the end on one card, and below the other", func(all []emulator.Message) bool {
		return len(all) == 3 && strings.Contains(all[2].Text, "Denied") &&
			strings.Contains(all[0].Text, "Denied") != strings.Contains(all[1].Text, "Denied")
	})
	stuck := all[0]
	if strings.Contains(stuck.Text, "Denied") {
		stuck = all[1]
	}
	require.Equal(t, stuck.TS, all[2].ThreadTS)
	require.Empty(t, all[2].Buttons)
	w.settled()
	require.Len(t, messages(space.Snapshot()), 3, "and once")
}

func TestCardIsPostedWhenSlackIsBack(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	space.SetOutage(true)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	eventually(t, "the first try fails", func() bool {
		return w.number(`SELECT count(*) FROM slack_outbox WHERE attempts > 0 AND state IN ('queued', 'unknown')`) == 1
	})
	space.SetOutage(false)
	space.awaitTitles("Approval needed")
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}

func TestCardThatSlackTakesNowhereIsPostedWhenTheTicketIsNextSpokenOf(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	// Neither in the channel nor to ana, bo and chen.
	space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.ErrorReply, Error: "not_in_channel", Times: 4})
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) { p.Stages[0].RemindEvery = 2 * time.Second }}).ID
	all := space.await("the card", func(all []emulator.Message) bool { return len(all) > 0 })
	require.Contains(t, all[0].Text, "Approval needed")
	require.Empty(t, all[0].ThreadTS)
	w.await(id, "notified", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventNotified) == 1 })
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}

func TestSlackThatAsksToWaitIsWaitedForAndItsCardsActOnOneTicket(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.RateLimited, RetryAfter: 1})
	space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenDrop})
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	// The post whose answer was lost cannot be looked for without the scope to read messages,
	// and a card whose place is not known could not be kept up to date: it is made again.
	all := space.awaitTitles("Approval needed", "Approval needed")
	first, second := all[0].Buttons[0], all[1].Buttons[0]
	require.Equal(t, first.Value, second.Value, "both copies carry the same handle")
	w.await(id, "notified once", func(approvals.Ticket) bool { return count(w.events(id), approvals.EventNotified) == 1 })
	cards, err := w.store.Cards(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, cards, 1)
}

func TestTicketsAreExecutedWithoutSlack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	id := w.approved(call{method: http.MethodPost, body: "{}"}).ID
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	cards, err := w.store.Cards(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, []db.Card{}, append([]db.Card{}, cards...))
}
