package approvals_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func reminding(every time.Duration, tiers ...approvals.Tier) approvals.Plan {
	s := stage("peer", set(2, "team"))
	s.RemindEvery, s.Escalate = every, tiers
	return planOf(s)
}

func dueAt(t *testing.T, err error) time.Time {
	t.Helper()
	requireCode(t, approvals.CodeNotDue, err)
	var e *approvals.Error
	require.ErrorAs(t, err, &e)
	return e.DueAt
}

func TestRemindersAreNumberedAndArmOneAnother(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(15*time.Minute), office())
	for n := 1; n <= 3; n++ {
		due := after(time.Duration(n) * 15 * time.Minute)
		require.Equal(t, due, tk.WakeAt)
		_, err := tk.Remind(0, n, due.Add(-1))
		require.Equal(t, due, dueAt(t, err))
		tr, err := tk.Remind(0, n, due)
		require.NoError(t, err)
		require.Equal(t, n, tr.Events[0].Data.Number)
		require.Equal(t, []approvals.Effect{
			approvals.Notify{TicketID: ticketID, Seq: tr.Ticket.Version},
			approvals.RemindAt{TicketID: ticketID, Stage: 0, Number: n + 1, At: due.Add(15 * time.Minute)},
		}, tr.Effects)
		_, err = tr.Ticket.Remind(0, n, due)
		requireCode(t, approvals.CodeConflict, err)
		tk = tr.Ticket
	}
}

func TestRemindersStopAtTheirLimit(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(time.Minute), office())
	for n := 1; n <= approvals.MaxReminders; n++ {
		tk = must(t)(tk.Remind(0, n, tk.WakeAt))
	}
	require.Equal(t, tk.ExpiresAt, tk.WakeAt)
	_, err := tk.Remind(0, approvals.MaxReminders+1, after(time.Hour))
	requireCode(t, approvals.CodeConflict, err)
}

func TestOutageIsMadeUpForByOneReminder(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(15*time.Minute), office())
	tk = must(t)(tk.Remind(0, 1, after(100*time.Minute)))
	require.Equal(t, 6, tk.Reminders)
	require.Equal(t, after(105*time.Minute), tk.WakeAt)
	tk = must(t)(tk.Remind(0, 7, after(20*time.Hour)))
	require.Equal(t, approvals.MaxReminders, tk.Reminders)
}

func TestEscalationAddsPeople(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(0, approvals.Tier{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	_, err := vote(tk, "fay", approvals.Approve, dir, after(2*time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	_, err = tk.Escalate(0, 1, dir, after(29*time.Minute))
	require.Equal(t, after(30*time.Minute), dueAt(t, err))
	tr, err := tk.Escalate(0, 1, dir, after(30*time.Minute))
	require.NoError(t, err)
	require.Equal(t, 1, tr.Events[0].Data.Number)
	require.Equal(t, []string{"oncall"}, tr.Events[0].Data.Tier.To)
	_, err = tr.Ticket.Escalate(0, 1, dir, after(31*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = tr.Ticket.Escalate(0, 2, dir, after(31*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.Approved, must(t)(vote(tr.Ticket, "fay", approvals.Approve, dir, after(31*time.Minute))).State)
}

func TestEscalationReplacesPeople(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeReplace}}
	tk := submit(t, plan, dir)
	tk = must(t)(tk.Escalate(0, 1, dir, after(30*time.Minute)))
	require.Equal(t, []string{"fay"}, tk.WaitingFor(dir))
	_, err := vote(tk, "ana", approvals.Approve, dir, after(31*time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "fay", approvals.Approve, dir, after(31*time.Minute))).State)
}

func TestTiersFireOneAfterTheOther(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(20*time.Minute,
		approvals.Tier{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd},
		approvals.Tier{After: 60 * time.Minute, To: []string{"security"}, Mode: approvals.ModeAdd}), dir)
	var order []approvals.EventType
	for tk.State == approvals.Pending && len(order) < 6 {
		tr, err := tk.Wake(dir, tk.WakeAt)
		require.NoError(t, err)
		order, tk = append(order, types(tr.Events)...), tr.Ticket
	}
	require.Equal(t, []approvals.EventType{
		approvals.EventReminded, approvals.EventEscalated, approvals.EventReminded,
		approvals.EventEscalated, approvals.EventReminded, approvals.EventReminded, // at 60 minutes the tier goes first
	}, order)
	require.Equal(t, []int{2}, tk.Tiers)
}

func TestTierMayMakeVotesCountThatDidNot(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(0, approvals.Tier{After: 30 * time.Minute, To: []string{"ana"}, Mode: approvals.ModeAdd}), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	dir.Groups["team"] = []string{"bo", "chen"}
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	tr, err := tk.Escalate(0, 1, dir, after(30*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventEscalated, approvals.EventApproved}, types(tr.Events))
}

func TestTimerThatComesAfterTheDeadlineExpiresTheTicket(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(15*time.Minute, approvals.Tier{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}), dir)
	for name, fire := range map[string]func() (approvals.Transition, error){
		"remind":   func() (approvals.Transition, error) { return tk.Remind(0, 1, tk.ExpiresAt) },
		"escalate": func() (approvals.Transition, error) { return tk.Escalate(0, 1, dir, tk.ExpiresAt) },
		"expire":   func() (approvals.Transition, error) { return tk.Expire(tk.ExpiresAt) },
		"wake":     func() (approvals.Transition, error) { return tk.Wake(dir, tk.ExpiresAt) },
	} {
		tr, err := fire()
		require.NoError(t, err, name)
		require.Equal(t, []approvals.EventType{approvals.EventExpired}, types(tr.Events), name)
	}
}

func TestNoTimerIsArmedAtOrPastTheDeadline(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(24*time.Hour, approvals.Tier{After: 24 * time.Hour, To: []string{"oncall"}, Mode: approvals.ModeAdd}), office())
	_, err := tk.Wake(office(), tk.WakeAt.Add(-1))
	require.Equal(t, tk.ExpiresAt, dueAt(t, err))
	require.Equal(t, approvals.Expired, must(t)(tk.Wake(office(), tk.WakeAt)).State)
}

func TestRemindWithoutAPlannedReminderIsAConflict(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(0), office())
	_, err := tk.Remind(0, 1, after(time.Hour))
	requireCode(t, approvals.CodeConflict, err)
	_, err = tk.Escalate(0, 1, office(), after(time.Hour))
	requireCode(t, approvals.CodeConflict, err)
}

func TestQuestionPausesRemindersAndEscalationButNotTheDeadline(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(15*time.Minute, approvals.Tier{After: 40 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}), dir)
	tr, err := tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?", Answer: "forged"}, dir, after(10*time.Minute))
	require.NoError(t, err)
	asked := tr.Ticket
	require.Equal(t, approvals.NeedsInfo, asked.State)
	require.Empty(t, asked.Question.Answer)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.ExpireAt{TicketID: ticketID, At: tk.ExpiresAt}))
	_, err = asked.Remind(0, 1, after(15*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = asked.Escalate(0, 1, dir, after(40*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.Expired, must(t)(asked.Expire(tk.ExpiresAt)).State)

	tr, err = asked.Answer(client(), "because", after(70*time.Minute))
	require.NoError(t, err)
	require.Equal(t, "because", tr.Events[0].Data.Question.Answer)
	require.Equal(t, time.Hour, tr.Ticket.Paused)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.RemindAt{TicketID: ticketID, Number: 1, At: after(75 * time.Minute)}))
	_, err = tr.Ticket.Escalate(0, 1, dir, after(99*time.Minute))
	require.Equal(t, after(100*time.Minute), dueAt(t, err), "escalation has moved by the hour as well")
	require.Equal(t, tk.ExpiresAt, tr.Ticket.ExpiresAt)
}

func TestPausesAddUpWithinAStageOnly(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")), stage("security", set(1, "security")))
	tk := submit(t, plan, dir)
	for i := range 2 {
		at := after(time.Duration(i) * time.Hour)
		tk = must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, dir, at))
		tk = must(t)(tk.Answer(client(), "because", at.Add(10*time.Minute)))
	}
	require.Equal(t, 20*time.Minute, tk.Paused)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(3*time.Hour)))
	require.Zero(t, tk.Paused)
}

func TestPauseIsNeverNegativeWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	tk := submit(t, reminding(15*time.Minute), office())
	tk = must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, office(), after(10*time.Minute)))
	require.Zero(t, must(t)(tk.Answer(client(), "because", after(time.Minute))).Paused)
}

func TestVoteThatCompletesTheQuorumMakesTheQuestionMoot(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tk = must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(2*time.Minute)))
	require.Equal(t, approvals.NeedsInfo, tk.State)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(2*time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	require.Nil(t, tk.Question)
	_, err := tk.Answer(client(), "because", after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestApprovalGoesStaleWhenNotBegunInTime(t *testing.T) {
	t.Parallel()
	tk := approved(t, nil)
	_, err := tk.Expire(tk.ExecuteBy.Add(-1))
	require.Equal(t, tk.ExecuteBy, dueAt(t, err))
	for _, late := range []func() (approvals.Transition, error){
		func() (approvals.Transition, error) { return tk.Expire(tk.ExecuteBy) },
		func() (approvals.Transition, error) { return tk.Wake(office(), tk.ExecuteBy) },
	} {
		got := must(t)(late())
		require.Equal(t, approvals.Expired, got.State)
		require.Equal(t, "approval_stale", got.Problem.Code)
	}
	tr, err := tk.Claim(worker, office(), tk.Plan, tk.ExecuteBy)
	requireCode(t, approvals.CodeExpired, err)
	require.Equal(t, approvals.Expired, tr.Ticket.State)
}

func TestCancelTable(t *testing.T) {
	t.Parallel()
	for _, s := range situations(t) {
		tr, err := s.ticket.Cancel(client(), "never mind", s.now)
		switch s.ticket.State {
		case approvals.Pending, approvals.NeedsInfo, approvals.Approved:
			require.NoError(t, err, s.name)
			require.Equal(t, approvals.Cancelled, tr.Ticket.State, s.name)
			require.Empty(t, tr.Ticket.Worker, "no claim outlives the ticket")
		case approvals.Executing:
			require.NoError(t, err, s.name)
			require.Equal(t, approvals.Executing, tr.Ticket.State, s.name)
			require.False(t, tr.Ticket.CancelRequestedAt.IsZero())
			again, err := tr.Ticket.Cancel(client(), "", s.now.Add(time.Minute))
			require.NoError(t, err)
			require.True(t, again.Empty(), "the first request is the one that counts")
		case approvals.Cancelled:
			require.NoError(t, err, s.name)
			require.True(t, tr.Empty())
		case approvals.Succeeded, approvals.Failed, approvals.OutcomeUnknown, approvals.Denied, approvals.Expired:
			requireCode(t, approvals.CodeAlreadyFinal, err)
			require.True(t, tr.Empty())
		}
	}
}

func TestEveryTextHasALimit(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), dir)
	asked := must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, dir, start))
	doubt := must(t)(executing(t, nil).Abandon(1, after(time.Hour)))
	for name, c := range map[string]struct {
		limit int
		empty bool // whether it may be
		say   func(string) error
	}{
		"comment": {approvals.MaxComment, true, func(s string) error {
			_, err := tk.Decide(person("ana"), approvals.Decision{Person: "ana", Verdict: approvals.Approve, Digest: tk.Digest, Comment: s}, dir, start)
			return err
		}},
		"question": {approvals.MaxQuestion, false, func(s string) error {
			_, err := tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: s}, dir, start)
			return err
		}},
		"answer": {approvals.MaxAnswer, false, func(s string) error {
			_, err := asked.Answer(client(), s, start)
			return err
		}},
		"cancel reason": {approvals.MaxComment, true, func(s string) error {
			_, err := tk.Cancel(client(), s, start)
			return err
		}},
		"resolve reason": {approvals.MaxComment, false, func(s string) error {
			_, err := doubt.Resolve(person("ana"), true, s, after(time.Hour))
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, c.say(strings.Repeat("x", c.limit)))
			requireCode(t, approvals.CodeInvalid, c.say(strings.Repeat("x", c.limit+1)))
			requireCode(t, approvals.CodeInvalid, c.say("a\x00b"))
			requireCode(t, approvals.CodeInvalid, c.say("a\xffb"))
			require.Equal(t, c.empty, c.say("") == nil)
		})
	}
}
