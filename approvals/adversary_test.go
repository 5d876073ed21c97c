package approvals_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// away marks a person as absent for some hours from the start.
func away(dir approvals.Directory, who, delegate string, hours int) approvals.Directory {
	if dir.Away == nil {
		dir.Away = map[string]approvals.Absence{}
	}
	dir.Away[who] = approvals.Absence{Until: after(time.Duration(hours) * time.Hour), Delegate: delegate}
	return dir
}

func breakGlass(t approvals.Ticket, name string, dir approvals.Directory, now time.Time) (approvals.Transition, error) {
	return t.Decide(person(name), approvals.Decision{
		Person: name, Verdict: approvals.GlassBroken, Stage: t.Stage, Digest: t.Digest, Comment: "fire",
	}, dir, now)
}

// now is a plan as today's version of the policy makes it.
func now(p approvals.Plan) approvals.Plan {
	p.PolicyDigest = "today"
	return p
}

func TestDelegateWhoIsAMemberTakesThePlaceThatIsMissing(t *testing.T) {
	t.Parallel()
	dir := away(office(), "eve", "ana", 1000)
	plan := planOf(stage("both", set(1, "ana", "bo"), set(1, "eve")))
	tk := submit(t, plan, dir)
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, []string{"ana"}, tk.WaitingFor(dir.At(after(time.Minute))))
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	require.Equal(t, "eve", tk.Decisions[1].For)
	require.Equal(t, []string{"eve"}, tk.Decisions[1].Groups)
}

func TestDelegateIsNotSpentOnAPlaceThatOthersCanTake(t *testing.T) {
	t.Parallel()
	dir := away(office(), "eve", "ana", 1000)
	tk := submit(t, planOf(stage("both", set(1, "ana", "bo"), set(1, "eve"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, "eve", tk.Decisions[0].For, "only ana can act for eve, and bo can take the other place")
	require.Nil(t, tk.Stalled)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute))).State)
}

func TestDelegateWhoIsGoneNoLongerCounts(t *testing.T) {
	t.Parallel()
	dir := away(office(), "ana", "gus", 1000)
	tk := submit(t, planOf(stage("peer", set(1, "ana"))), dir)
	tk = must(t)(vote(tk, "gus", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	delete(dir.People, "gus")
	require.Zero(t, tk.Tally(0, dir).Have)
	_, err := tk.Claim(worker, dir, tk.Plan, after(time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestThoseWhoReturnInTimeAreCountedBesideTheirDelegates(t *testing.T) {
	t.Parallel()
	dir := away(office(), "ana", "bo", 2)
	tk := submit(t, planOf(stage("peer", set(2, "ana", "bo"))), dir)
	require.Nil(t, tk.Stalled, "ana is back in two hours, and there are 24")
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Hour)))
	require.Empty(t, tk.Decisions[0].For)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "ana", approvals.Approve, dir, after(2*time.Hour))).State)
}

func TestRoundOfAStricterPolicyKeepsItsDistinctPeople(t *testing.T) {
	t.Parallel()
	dir := office()
	loose := planOf(stage("one", set(1, "team")), stage("two", set(1, "team")))
	loose.Distinct = approvals.DistinctStage
	today := now(planOf(stage("one", set(1, "team")), stage("two", set(1, "team"))))
	tk := submit(t, loose, dir)
	for range 2 {
		tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	}
	tr, err := tk.Claim(worker, dir, today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	tk = must(t)(vote(tr.Ticket, "ana", approvals.Approve, dir, after(3*time.Minute)))
	require.Equal(t, 3, tk.Stage)
	_, err = vote(tk, "ana", approvals.Approve, dir, after(3*time.Minute))
	requireCode(t, approvals.CodeAlreadyDecided, err)
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(3*time.Minute)))
	_, err = tk.Claim(worker, dir, today, after(4*time.Minute))
	require.NoError(t, err)
}

func TestRoundOfAStricterPolicyIsNotBypassedByWhomThatDoesNotLet(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"fay", "gus"}}
	today := now(planOf(stage("peer", set(1, "security"))))
	today.BreakGlass = &approvals.BreakGlass{From: []string{"gus", "eve"}}
	tk := must(t)(vote(submit(t, plan, dir), "ana", approvals.Approve, dir, after(time.Minute)))
	tr, err := tk.Claim(worker, dir, today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	for _, name := range []string{"fay", "eve"} {
		_, err = breakGlass(tr.Ticket, name, dir, after(3*time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
	}
	tk = must(t)(breakGlass(tr.Ticket, "gus", dir, after(3*time.Minute)))
	tk = must(t)(tk.Claim(worker, dir, today, after(4*time.Minute)))
	require.NotEmpty(t, tk.Worker)
}

func TestBypassIsJudgedByTodaysPolicyWhateverItsDigestSays(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"fay"}}
	tk := must(t)(breakGlass(submit(t, plan, dir), "fay", dir, after(time.Minute)))
	_, err := tk.Claim(worker, dir, planOf(stage("peer", set(1, "team"))), after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
}

func TestVoteOfSomebodyWhomTodaysPolicyExcludesDoesNotMeetIt(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	tk := must(t)(vote(submit(t, plan, dir), "ana", approvals.Approve, dir, after(time.Minute)))
	today := now(plan)
	today.Excluded = []string{"ana"}
	tr, err := tk.Claim(worker, dir, today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	require.Equal(t, approvals.Pending, tr.Ticket.State)
	require.Equal(t, 0, tr.Ticket.Stage, "that stage is asked again first: ana's yes is not there any more")
	tk2 := must(t)(vote(tr.Ticket, "bo", approvals.Approve, dir, after(3*time.Minute)))
	require.Equal(t, 1, tk2.Stage)
	_, err = vote(tk2, "ana", approvals.Approve, dir, after(3*time.Minute))
	requireCode(t, approvals.CodeSelfApproval, err)
	today.Excluded = []string{"bo"}
	require.NotEmpty(t, must(t)(tk.Claim(worker, dir, today, after(2*time.Minute))).Worker, "bo's vote was not among them")
}

func TestBlankCommentIsNoneForTodaysPolicy(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	tk := submit(t, plan, dir)
	d := approvals.Decision{Person: "ana", Verdict: approvals.Approve, Digest: tk.Digest, Comment: " \t"}
	tk = must(t)(tk.Decide(person("ana"), d, dir, after(time.Minute)))
	today := now(planOf(stage("peer", set(1, "team"))))
	today.Stages[0].Comment = approvals.CommentApprove
	_, err := tk.Claim(worker, dir, today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
}

func TestPolicyOfTodayThatAsksNobodyIsNotMet(t *testing.T) {
	t.Parallel()
	plan := planOf()
	plan.Action = approvals.ActionAllow
	tk := submit(t, plan, office())
	broken := planOf(stage("peer", set(1, "team")))
	broken.BreakGlass = &approvals.BreakGlass{From: []string{"fay"}}
	bypassed := must(t)(breakGlass(submit(t, broken, office()), "fay", office(), start))
	broken.Stages = nil
	_, err := bypassed.Claim(worker, office(), now(broken), after(time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	for _, action := range []approvals.Action{approvals.ActionApprove, approvals.ActionDeny, "", "bogus"} {
		today := now(planOf())
		today.Action = action
		tr, err := tk.Claim(worker, office(), today, after(time.Minute))
		requireCode(t, approvals.CodeStalePolicy, err)
		require.Equal(t, approvals.Failed, tr.Ticket.State)
	}
}

func TestEmptyListsMakeNoDifferenceBetweenPolicies(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, To: []string{"fay"}, Mode: approvals.ModeReplace}}
	tk := must(t)(submit(t, plan, dir).Escalate(0, 1, dir, after(time.Hour)))
	tk = must(t)(vote(tk, "fay", approvals.Approve, dir, after(time.Hour)))
	today := now(plan)
	today.Stages = slices.Clone(today.Stages)
	today.Stages[0].Escalate = slices.Clone(today.Stages[0].Escalate)
	today.Stages[0].Escalate[0].Need = []approvals.ApproverSet{}
	require.NotEmpty(t, must(t)(tk.Claim(worker, dir, today, after(time.Hour))).Worker)
}

func TestTicketIsNotReopenedPastItsDeadline(t *testing.T) {
	t.Parallel()
	dir := office()
	s := submission()
	s.NotBefore = after(48 * time.Hour)
	plan := planOf(stage("peer", set(1, "team")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, To: []string{"ana"}, Mode: approvals.ModeAdd}}
	tk := must(t)(approvals.Submit(s, plan, dir, start))
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	dir.Groups["team"] = []string{"bo"}
	tr, err := tk.Claim(worker, dir, tk.Plan, s.NotBefore)
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, []approvals.EventType{approvals.EventFailed}, types(tr.Events))
	require.Equal(t, "approval_withdrawn", tr.Ticket.Problem.Code)
	tr, err = tk.Claim(worker, office(), stricter(plan), s.NotBefore)
	requireCode(t, approvals.CodeStalePolicy, err)
	require.Equal(t, []approvals.EventType{approvals.EventFailed}, types(tr.Events))
}

func TestGlassBreakerIsRecordedAsTheyAre(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"oncall", "bo"}}
	tk := submit(t, plan, office())
	d := approvals.Decision{
		Person: "fay", For: "ana", Verdict: approvals.GlassBroken, Stage: 7, Digest: tk.Digest, Comment: "fire",
		Groups: []string{"board"}, Via: "forged", At: start.Add(-time.Hour),
	}
	got := must(t)(tk.Decide(person("fay"), d, office(), after(time.Minute))).Decisions[0]
	require.Equal(t, approvals.Decision{
		Person: "fay", Verdict: approvals.GlassBroken, Digest: tk.Digest, Comment: "fire",
		Groups: []string{"oncall"}, Via: "slack", Ref: "T0/U-fay", At: after(time.Minute),
	}, got)
}

func TestBrokenGlassDoesNotStandForALaterApprovalOfTheSameInstant(t *testing.T) {
	t.Parallel()
	dir, same := office(), after(time.Minute)
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"oncall"}}
	tk := must(t)(breakGlass(submit(t, plan, dir), "fay", dir, same))
	dir.Groups["oncall"] = nil
	tr, err := tk.Claim(worker, dir, plan, same)
	requireCode(t, approvals.CodeConflict, err)
	tk = must(t)(vote(tr.Ticket, "ana", approvals.Approve, dir, same))
	require.Equal(t, approvals.Approved, tk.State)
	back := office()
	back.Groups["team"] = []string{"bo"}
	_, err = tk.Claim(worker, back, plan, same)
	requireCode(t, approvals.CodeConflict, err)
}

func TestStageThatIsMetByThoseWhoReturnIsLeftWhenReassessed(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "ana", "bo"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	without := office()
	delete(without.People, "ana")
	tk = must(t)(vote(tk, "bo", approvals.Approve, without, after(2*time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	require.NotNil(t, tk.Stalled)
	tk = must(t)(tk.Reassess(dir, after(3*time.Minute)))
	require.Equal(t, approvals.Approved, tk.State, "both have voted: nobody is left whose vote could end the waiting")
}

func TestStallIsToldOnceThroughStages(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("one", set(1, "team")), stage("two", set(1, "eve"))), dir)
	delete(dir.People, "eve")
	tk = must(t)(tk.Reassess(dir, after(time.Minute)))
	require.NotNil(t, tk.Stalled)
	tr, err := vote(tk, "ana", approvals.Approve, dir, after(2*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventDecided, approvals.EventStageCompleted}, types(tr.Events))
	require.Equal(t, tk.Stalled, tr.Ticket.Stalled)
	tr, err = tr.Ticket.Reassess(office(), after(3*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventUnstalled}, types(tr.Events))
}

func TestStallSeesTheRoundsThatComeLater(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := must(t)(vote(submit(t, planOf(stage("peer", set(1, "team"))), dir), "ana", approvals.Approve, dir, after(time.Minute)))
	today := now(planOf(stage("boss", set(1, "eve"))))
	tr, _ := tk.Claim(worker, dir, today, after(2*time.Minute))
	tk = must(t)(vote(tr.Ticket, "eve", approvals.Approve, dir, after(3*time.Minute)))
	dir.Groups["team"] = []string{"bo"}
	tr, _ = tk.Claim(worker, dir, today, after(4*time.Minute))
	require.Equal(t, 0, tr.Ticket.Stage, "ana has left")
	require.Nil(t, tr.Ticket.Stalled)
	delete(dir.People, "eve")
	require.NotNil(t, must(t)(tr.Ticket.Reassess(dir, after(5*time.Minute))).Stalled, "eve's yes fell, and nobody else can give it")
}

func TestEscalationNamesOnlyThoseWhoMayDecide(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team", "chen")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, To: []string{"team"}, Mode: approvals.ModeReplace}}
	tk := submit(t, plan, dir)
	dir.Groups["team"] = append(dir.Groups["team"], "gus")
	tr, err := tk.Escalate(0, 1, dir, after(time.Hour))
	require.NoError(t, err)
	require.Equal(t, []string{"ana", "bo", "chen"}, tr.Events[0].Data.Asked, "gus joined after team was asked, dee is the requester")
	require.Equal(t, tr.Events[0].Data.Asked, tr.Ticket.WaitingFor(dir))
}

func TestWaitsForRemindersNeverOverflow(t *testing.T) {
	t.Parallel()
	for _, s := range []approvals.Stage{
		{RemindEvery: time.Hour, RemindBackoff: math.MaxInt},
		{RemindEvery: math.MaxInt64, RemindBackoff: 2},
		{RemindEvery: math.MaxInt64},
		{RemindEvery: 700 * time.Hour, RemindBackoff: 3, RemindMax: math.MaxInt64},
	} {
		plan := planOf(stage("peer", set(1, "team")))
		plan.Stages[0].RemindEvery, plan.Stages[0].RemindBackoff, plan.Stages[0].RemindMax = s.RemindEvery, s.RemindBackoff, s.RemindMax
		plan.ExpiresIn = 100000 * time.Hour
		tk, last := submit(t, plan, office()), start
		for tk.WakeAt.Before(tk.ExpiresAt) {
			require.True(t, tk.WakeAt.After(last), "reminder %d of %+v at %s", tk.Reminders+1, s, tk.WakeAt)
			last = tk.WakeAt
			tk = must(t)(tk.Remind(0, tk.Reminders+1, tk.WakeAt))
		}
	}
}

func TestWaitsForRemindersGrowUpToTheirBound(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("peer", set(1, "team")))
	plan.Stages[0].RemindEvery, plan.Stages[0].RemindBackoff, plan.Stages[0].RemindMax = 10*time.Minute, 2, 35*time.Minute
	tk := submit(t, plan, office())
	var at []time.Duration
	for range 5 {
		at = append(at, tk.WakeAt.Sub(start)/time.Minute)
		tk = must(t)(tk.Remind(0, tk.Reminders+1, tk.WakeAt))
	}
	require.Equal(t, []time.Duration{10, 30, 65, 100, 135}, at)
}

func TestHoursThatOverlapOrAreEmptyCountOnce(t *testing.T) {
	t.Parallel()
	at := func(from, to int) approvals.Interval {
		return approvals.Interval{From: after(time.Duration(from) * time.Hour), To: after(time.Duration(to) * time.Hour)}
	}
	plan := planOf(stage("peer", set(2, "team")))
	plan.Stages[0].Hours = []approvals.Interval{at(-9, -8), at(1, 4), at(2, 4), at(3, 3), at(5, 4), at(6, 8)}
	plan.Stages[0].Escalate = []approvals.Tier{{After: 4 * time.Hour, To: []string{"fay"}, Mode: approvals.ModeAdd}}
	dir := office()
	tk := submit(t, plan, dir)
	require.Equal(t, after(7*time.Hour), tk.WakeAt, "three hours from one to four, and one from six")
	tk = must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "?"}, dir, after(2*time.Hour)))
	tk = must(t)(tk.Answer(client(), "!", after(210*time.Minute)))
	require.Equal(t, 90*time.Minute, tk.PausedHours)
	require.Equal(t, tk.ExpiresAt, tk.WakeAt, "the hours are over before their time has come")
}

func TestSupersededTicketTakesNoTextWithoutEnd(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	_, err := tk.Supersede(client(), string(make([]byte, 4096)), after(time.Minute))
	requireCode(t, approvals.CodeInvalid, err)
}

func TestDelegateDoesNotUseUpTwoPeopleWhereBothAreNeededLater(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "ana"), set(1, "eve")))
	plan.Stages[0].Escalate = []approvals.Tier{{
		After: time.Hour, Mode: approvals.ModeReplace, Need: []approvals.ApproverSet{set(2, "ana", "bo")},
	}}
	dir = away(dir, "ana", "bo", 2)
	tk := submit(t, plan, dir)
	delete(dir.People, "eve")
	_, err := vote(tk, "bo", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNeededLater, err)
	tk = must(t)(tk.Reassess(dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Empty(t, tk.Decisions[0].For)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "ana", approvals.Approve, dir, after(2*time.Hour))).State)
}

func TestDelegateIsNotSpentWhereOnlyTheNextTierCanHelp(t *testing.T) {
	t.Parallel()
	dir := away(office(), "fay", "bo", 1000)
	plan := planOf(stage("peer", set(1, "bo"), set(1, "chen")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, Mode: approvals.ModeReplace, To: nil, Need: []approvals.ApproverSet{set(1, "fay")}}}
	tk := submit(t, plan, dir)
	delete(dir.People, "chen")
	_, err := vote(tk, "bo", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNeededLater, err)
	tk = must(t)(tk.Reassess(dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, "fay", tk.Decisions[0].For)
	require.Equal(t, approvals.Approved, tk.State)
}
