package approvals_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestAQuestionHoldsUpHoursOfWorkOnly(t *testing.T) {
	t.Parallel()
	hour := func(n int) time.Time { return start.Add(time.Duration(n) * time.Hour) }
	s := stage("peer", set(1, "team"))
	s.Hours = []approvals.Interval{{From: hour(0), To: hour(2)}, {From: hour(10), To: hour(12)}, {From: hour(20), To: hour(23)}}
	s.Escalate = []approvals.Tier{{After: 3 * time.Hour, To: []string{"fay"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(s), office())
	require.Equal(t, hour(11), tk.WakeAt, "two hours of the first span, one of the second")
	tk = must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, office(), hour(1)))
	tk = must(t)(tk.Answer(client(), "because", hour(11)))
	require.Equal(t, 2*time.Hour, tk.PausedHours)
	require.Equal(t, 10*time.Hour, tk.Paused)
	require.Equal(t, hour(21), tk.WakeAt, "two hours of work later than before")
}

func TestWhoSaidNoDoesNotBreakTheGlass(t *testing.T) {
	t.Parallel()
	s := stage("peer", set(1, "team"))
	s.Denials = 2
	plan := planOf(s)
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"ana"}}
	tk := submit(t, plan, office())
	tk = must(t)(vote(tk, "ana", approvals.Deny, office(), after(time.Minute)))
	_, err := breakGlass(tk, "ana", office(), after(2*time.Minute))
	requireCode(t, approvals.CodeAlreadyDecided, err)
}

func TestABypassBySomebodyWhomTodayExcludesDoesNotStand(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"fay"}}
	tk := must(t)(breakGlass(submit(t, plan, office()), "fay", office(), after(time.Minute)))
	today := now(plan)
	require.Equal(t, approvals.Approved, must(t)(tk.Claim(worker, office(), today, after(2*time.Minute))).State)
	today.Excluded = []string{"fay"}
	_, err := tk.Claim(worker, office(), today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
}

func TestATicketIsTightenedSoManyTimesAndNoMore(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "ana"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	others := []string{"bo", "chen", "eve", "fay", "gus"} // who has said yes need not say it again
	require.Len(t, others, approvals.MaxRounds)
	for round := 1; ; round++ {
		who := others[(round-1)%len(others)]
		next := planOf(stage("again "+strconv.Itoa(round), set(1, who)))
		if round > approvals.MaxRounds {
			next.Stages[0].Comment = approvals.CommentApprove // nobody has given one
		}
		next.PolicyDigest = "policy-" + strconv.Itoa(round)
		tr, err := tk.Claim(worker, dir, next, after(2*time.Minute))
		if tk = tr.Ticket; round > approvals.MaxRounds {
			requireCode(t, approvals.CodeStalePolicy, err)
			require.Equal(t, approvals.Failed, tk.State)
			return
		}
		requireCode(t, approvals.CodeStalePolicy, err)
		require.Equal(t, round, tk.Plan.Round)
		tk = must(t)(vote(tk, who, approvals.Approve, dir, after(2*time.Minute)))
	}
}

func TestSoManyQuestionsAndNoMore(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	ask := func() (approvals.Transition, error) {
		return tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "and?"}, office(), after(time.Minute))
	}
	for range approvals.MaxQuestions {
		tk = must(t)(ask())
		tk = must(t)(tk.Answer(client(), "so", after(time.Minute)))
	}
	_, err := ask()
	requireCode(t, approvals.CodeConflict, err)
}

func TestAReminderNeverWaitsLessThanTheFirst(t *testing.T) {
	t.Parallel()
	plan := reminding(time.Hour)
	plan.Stages[0].RemindBackoff, plan.Stages[0].RemindMax = 2, time.Minute
	tk := submit(t, plan, office())
	tk = must(t)(tk.Remind(0, 1, start.Add(time.Hour)))
	require.Equal(t, start.Add(2*time.Hour), tk.WakeAt)
}
