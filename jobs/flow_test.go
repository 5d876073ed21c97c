package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack/emulator"
)

// summaries are what the messages of a conversation say in a notification, oldest first.
func summaries(all []emulator.Message) []string {
	out := make([]string, 0, len(all))
	for _, m := range all {
		said, _, _ := strings.Cut(m.Summary, ": ")
		said, _, _ = strings.Cut(said, ". Approval needed")
		out = append(out, said)
	}
	return out
}

// direct returns what somebody was written to directly.
func (s workspace) direct(user string) []emulator.Message { return s.Messages(s.DM(user)) }

// awaitDirect waits until somebody has been written to directly just so.
func (s workspace) awaitDirect(user string, want ...string) []emulator.Message {
	s.tb.Helper()
	eventually(s.tb, user+" reads "+strings.Join(want, ", "), func() bool {
		got := summaries(s.direct(user))
		if len(got) != len(want) {
			return false
		}
		for i := range got {
			if !strings.Contains(got[i], want[i]) {
				return false
			}
		}
		return true
	})
	return s.direct(user)
}

func TestWhatEverybodySeesOfARequestInTwoStages(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{behalf: "fay", plan: func(p *approvals.Plan) {
		p.Stages[0].Need = []approvals.ApproverSet{{From: []string{"ana", "bo"}, Approvals: 1}}
		p.Stages[0].RemindEvery, p.Stages[0].RemindBackoff = 2*time.Second, 1000
		p.Stages[0].Escalate = []approvals.Tier{{After: 4 * time.Second, To: []string{"gil"}, Mode: approvals.ModeAdd}}
		p.Stages = append(p.Stages, approvals.Stage{
			Name: "second", Need: []approvals.ApproverSet{{From: []string{"chen", "hal"}, Approvals: 1}}, Denials: 1, Direct: true,
		})
	}}).ID
	card := space.awaitTitles("stage 1 of 2")[0]
	require.Contains(t, card.Text, "for @fay")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })

	w.ask(id, "bo", "Which customer?")
	for _, user := range []string{"U0DORA", "U0FAY"} {
		asked := space.awaitDirect(user, "Question about your request")[0]
		require.Contains(t, asked.Text, "@bo asks: \n> Which customer?")
		require.Len(t, asked.Buttons, 1)
		require.Equal(t, "cs.answer", asked.Buttons[0].ActionID)
	}
	w.answer(id, "Number 42")
	for _, user := range []string{"U0DORA", "U0FAY"} {
		said := space.awaitDirect(user, "Question answered")[0]
		require.Contains(t, said.Text, "Answer: \n> Number 42")
		require.Empty(t, said.Buttons, "nothing is left to answer")
	}
	all := space.await("the reminder and the escalation", func(all []emulator.Message) bool { return len(all) == 5 })
	require.ElementsMatch(t, []string{"Approval needed", "Question", "Answer", "Reminder 1", "Escalation 1 of 1"}, firstWords(all))
	require.Contains(t, saying(t, all, "asks @dora").Text, "@bo asks @dora and @fay for details")
	require.Contains(t, saying(t, all, "Answer ·").Text, "@bo, your question has an answer from payroll-bot")
	require.Contains(t, saying(t, all, "Reminder 1").Text, "still waiting for 1 approval from @ana")
	require.Contains(t, saying(t, all, "Escalation 1").Text, "@gil, please review")
	for _, m := range all[1:] {
		require.Equal(t, card.TS, m.ThreadTS)
	}

	w.decide(id, "ana", approvals.Approve)
	for _, user := range []string{"U0CHEN", "U0HAL"} {
		second := space.awaitDirect(user, "Approval needed")[0]
		require.Contains(t, second.Text, "stage 2 of 2")
		require.NotEmpty(t, second.Buttons)
	}
	w.decide(id, "hal", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	for _, user := range []string{"U0CHEN", "U0HAL"} {
		require.Empty(t, space.awaitDirect(user, "Executed")[0].Buttons)
	}
	told := space.awaitDirect("U0FAY", "Question answered", "Your request. Executed")[1]
	require.Contains(t, told.Text, "Your request, made by payroll-bot under rule ask.")
	space.await("the end on the first card", func(all []emulator.Message) bool { return strings.HasPrefix(all[0].Text, "Executed") })
	w.settled()

	require.ElementsMatch(t, []string{"Executed", "Question", "Answer", "Reminder 1", "Escalation 1 of 1"}, firstWords(messages(space.Snapshot())))
	require.Equal(t, []string{"Question answered"}, summaries(space.direct("U0DORA")), "who owns the caller learns of success from it")
	for _, user := range []string{"U0ANA", "U0BO", "U0GIL"} {
		require.Empty(t, space.direct(user), "%s has the channel", user)
	}
	require.Empty(t, space.Snapshot().Warnings)
	w.requireWhole(id)
}

// firstWords are summaries without what follows the name of a note.
func firstWords(all []emulator.Message) []string {
	out := summaries(all)
	for i := range out {
		out[i], _, _ = strings.Cut(out[i], ". ")
	}
	return out
}

func directly(p *approvals.Plan) { p.Stages[0].Channel, p.Stages[0].Direct = "", true }

func TestPeopleAreWrittenToOneByOneWhereThereIsNoChannel(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) {
		directly(p)
		p.Stages[0].Need[0].Approvals = 2
		p.Stages[0].RemindEvery, p.Stages[0].RemindBackoff = 3*time.Second, 1000
	}}).ID
	handles := map[string]bool{}
	for _, user := range []string{"U0ANA", "U0BO", "U0CHEN"} {
		card := space.awaitDirect(user, "Approval needed")[0]
		handles[card.Buttons[0].Value] = true
		require.NotEmpty(t, space.Notifications(user))
	}
	require.Len(t, handles, 3, "each has a handle of their own")
	w.decide(id, "ana", approvals.Approve)
	for _, user := range []string{"U0BO", "U0CHEN"} {
		said := space.awaitDirect(user, "Approval needed", "Reminder 1")
		require.Contains(t, said[0].Text, "1 of 2: @ana", "every copy follows")
		require.Equal(t, said[0].TS, said[1].ThreadTS)
	}
	w.settled()
	require.Len(t, space.direct("U0ANA"), 1, "who has decided is not reminded")
	w.decide(id, "bo", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	for user, n := range map[string]int{"U0ANA": 1, "U0BO": 2, "U0CHEN": 2} {
		eventually(t, user+" sees the end", func() bool { return strings.HasPrefix(space.direct(user)[0].Text, "Executed") })
		require.Len(t, space.direct(user), n)
	}
	require.Empty(t, messages(space.Snapshot()), "and nothing in any channel")
	w.requireWhole(id)
}

func TestAnEscalationWritesToThoseItAsksWhereOthersWereWrittenTo(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) {
		directly(p)
		p.Stages[0].Need = []approvals.ApproverSet{{From: []string{"ana"}, Approvals: 1}}
		p.Stages[0].Escalate = []approvals.Tier{{After: 2 * time.Second, To: []string{"gil"}, Mode: approvals.ModeReplace}}
	}}).ID
	space.awaitDirect("U0ANA", "Approval needed")
	require.Empty(t, space.direct("U0GIL"))
	card := space.awaitDirect("U0GIL", "Approval needed")[0]
	require.NotEmpty(t, card.Buttons)
	w.settled()
	require.Len(t, space.direct("U0ANA"), 1, "who is not asked any more is not called")
	w.decide(id, "gil", approvals.Deny)
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	w.requireWhole(id)
}

func TestNobodyIsRemindedOfWhatPassedWhileSlackWasAway(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	space.SetOutage(true)
	w.run(w.withSlack(space.client()))
	open := w.submit(call{plan: func(p *approvals.Plan) {
		p.Stages[0].RemindEvery, p.Stages[0].RemindBackoff = time.Second, 1000
		p.Stages[0].Escalate = []approvals.Tier{{After: 2 * time.Second, To: []string{"gil"}, Mode: approvals.ModeAdd}}
	}}).ID
	gone := w.submit(call{}).ID
	w.decide(gone, "bo", approvals.Deny)
	w.await(open, "escalated", func(approvals.Ticket) bool { return count(w.events(open), approvals.EventEscalated) == 1 })
	eventually(t, "the notes are written down", func() bool { return w.number(`SELECT count(*) FROM slack_outbox WHERE kind = 'note'`) == 2 })
	space.SetOutage(false)
	card := space.awaitTitles("Approval needed")[0]
	require.Contains(t, card.Text, "@gil", "the card calls whoever the escalation asked")
	w.settled()
	require.Len(t, messages(space.Snapshot()), 1, "one message for what is open, none for what is over, no stale reminders")
	w.requireWhole(open)
}
