package approvals_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestApprovalIsMetAtTheQuorumNotBefore(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tr, err := vote(tk, "ana", approvals.Approve, dir, after(time.Minute))
	require.NoError(t, err)
	require.Equal(t, approvals.Pending, tr.Ticket.State)
	require.Equal(t, 1, tr.Events[0].Data.Tally.Have)
	require.Equal(t, 2, tr.Events[0].Data.Tally.Needed)
	tr, err = vote(tr.Ticket, "bo", approvals.Approve, dir, after(2*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventDecided, approvals.EventApproved}, types(tr.Events))
	require.Equal(t, after(17*time.Minute), tr.Ticket.ExecuteBy)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.Execute{TicketID: ticketID}))
}

func TestDecisionRecordsWhoWhereAndThroughWhichGroups(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("both", set(1, "team", "chen"), set(1, "security", "team"))), dir)
	d := approvals.Decision{
		Person: "chen", Verdict: approvals.Approve, Digest: tk.Digest, Comment: "fine", MessageTS: "1.2",
		Via: "forged", Ref: "forged", Groups: []string{"forged"}, At: start.Add(-time.Hour),
	}
	got := must(t)(tk.Decide(person("chen"), d, dir, after(time.Minute))).Decisions[0]
	require.Equal(t, approvals.Decision{
		Person: "chen", Verdict: approvals.Approve, Digest: tk.Digest, Comment: "fine", MessageTS: "1.2",
		Via: "slack", Ref: "T0/U-chen", Groups: []string{"team", "chen", "security"}, At: after(time.Minute),
	}, got)
}

func TestOneDenialEndsTheTicket(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	tr, err := tk.Decide(person("bo"), approvals.Decision{Person: "bo", Verdict: approvals.Deny, Digest: tk.Digest, Comment: "no way"}, dir, after(2*time.Minute))
	require.NoError(t, err)
	require.Equal(t, approvals.Denied, tr.Ticket.State)
	require.Equal(t, &approvals.Problem{Code: "denied", Detail: "denied by bo"}, tr.Ticket.Problem)
	require.Equal(t, "no way", tr.Events[1].Data.Reason)
}

func TestDenialThresholdCountsPeople(t *testing.T) {
	t.Parallel()
	dir := office()
	s := stage("peer", set(1, "team"))
	s.Denials = 2
	tk := submit(t, planOf(s), dir)
	tk = must(t)(vote(tk, "ana", approvals.Deny, dir, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	_, err := vote(tk, "ana", approvals.Deny, dir, after(time.Minute))
	requireCode(t, approvals.CodeAlreadyDecided, err)
	tk = must(t)(vote(tk, "bo", approvals.Deny, dir, after(time.Minute)))
	require.Equal(t, approvals.Denied, tk.State)
	require.Equal(t, "denied by ana, bo", tk.Problem.Detail)
}

func TestDenyBeatsApproveAtTheSameInstant(t *testing.T) {
	t.Parallel()
	dir, owned := office(), office()
	owned.Owners[caller] = []string{"ana", "dee"}
	s := stage("peer", set(1, "team"))
	s.Denials = 2
	tk := submit(t, planOf(s), dir)
	tk = must(t)(vote(tk, "ana", approvals.Deny, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Deny, owned, after(2*time.Minute)))
	require.Equal(t, approvals.Pending, tk.State, "ana's denial does not count while she owns the caller")
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(3*time.Minute)))
	require.Equal(t, approvals.Denied, tk.State, "one approval meets the quorum, two denials the threshold")
}

func TestDenyBeatsApproveWhenATierFires(t *testing.T) {
	t.Parallel()
	dir, owned := office(), office()
	owned.Owners[caller] = []string{"ana", "dee"}
	s := stage("peer", set(1, "team"))
	s.Denials = 2
	s.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"fay"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(s), dir)
	tk = must(t)(vote(tk, "ana", approvals.Deny, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Deny, owned, after(2*time.Minute)))
	require.Equal(t, []int{0}, tk.Tiers, "chen can still complete the stage, so its tier waits")
	tk = must(t)(tk.Escalate(0, 1, dir, after(time.Hour)))
	require.Equal(t, approvals.Denied, tk.State)
}

func TestApprovalThatADenialOutweighsIsNotExecuted(t *testing.T) {
	t.Parallel()
	dir, owned := office(), office()
	owned.Owners[caller] = []string{"ana", "bo", "dee"}
	s := stage("peer", set(1, "team"))
	s.Denials = 1
	tk := submit(t, planOf(s), dir)
	s.Denials = 2
	tk.Plan.Stages = []approvals.Stage{s}
	tk = must(t)(vote(tk, "ana", approvals.Deny, dir, after(time.Minute)))
	tk.Plan.Stages[0].Denials = 1
	tk = must(t)(vote(tk, "chen", approvals.Approve, owned, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	tr, err := tk.Claim(worker, dir, tk.Plan, after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.Pending, tr.Ticket.State)
}

func TestSomebodyInTwoGroupsCountsOnce(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("both", set(1, "team"), set(1, "security"))), dir)
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	require.Equal(t, 1, tk.Tally(0, dir).Have)
	_, err := vote(tk, "chen", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeAlreadyDecided, err)
}

func TestMatchingMovesAPersonToWhereTheyHelp(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("both", set(1, "team"), set(1, "security"))), dir)
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, []string{"chen"}, tk.Tally(0, dir).Sets[0].By)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State, "chen moves to security, ana takes the team's place")
	tally := tk.Tally(0, dir)
	require.Equal(t, []string{"ana"}, tally.Sets[0].By)
	require.Equal(t, []string{"chen"}, tally.Sets[1].By)
}

func TestApprovalThatWouldNotBeCountedIsRefused(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("both", set(1, "team"), set(1, "eve", "fay"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	_, err := vote(tk, "bo", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNotNeeded, err)
	require.Equal(t, approvals.Denied, must(t)(vote(tk, "bo", approvals.Deny, dir, after(time.Minute))).State, "a no is always taken")
}

func TestPersonNeededByALaterStageIsNotSpentEarly(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team")), stage("boss", set(1, "chen"))), dir)
	tr, err := vote(tk, "chen", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNeededLater, err)
	require.Equal(t, approvals.CodeNeededLater, tr.Events[0].Data.Refusal.Code)
	tk = must(t)(vote(tr.Ticket, "bo", approvals.Approve, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
}

func TestPersonNeededLaterIsFreeOnceTheLaterStageIsOutOfReachAnyway(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team")), stage("boss", set(2, "security"))), dir)
	dir.Groups["security"] = []string{"chen"}
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, 1, tk.Stage, "nobody is blamed for what others made impossible")
}

func TestPersonNeededLaterIsFreeWhenTheLaterStageHasEscalation(t *testing.T) {
	t.Parallel()
	dir := office()
	boss := stage("boss", set(1, "chen"))
	boss.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"fay"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(stage("peer", set(1, "team")), boss), dir)
	require.Equal(t, 1, must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute))).Stage)
}

func TestPersonNeededLaterIsNotSpentInTheHopeOfAReplacement(t *testing.T) {
	t.Parallel()
	dir := office()
	boss := stage("boss", set(1, "chen"))
	boss.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"fay"}, Mode: approvals.ModeReplace}}
	tk := submit(t, planOf(stage("peer", set(1, "team")), boss), dir)
	_, err := vote(tk, "chen", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNeededLater, err)
}

func TestRequesterCannotDecide(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		who  string
		edit func(*approvals.Submission, *approvals.Plan, *approvals.Directory)
		late func(*approvals.Directory)
	}{
		"owner of the caller":  {who: "dee"},
		"excluded by the plan": {who: "ana", edit: func(_ *approvals.Submission, p *approvals.Plan, _ *approvals.Directory) { p.Excluded = []string{"ana"} }},
		"on behalf of a name":  {who: "ana", edit: func(s *approvals.Submission, _ *approvals.Plan, _ *approvals.Directory) { s.OnBehalfOf = "ana" }},
		"on behalf of an address": {who: "ana", edit: func(s *approvals.Submission, _ *approvals.Plan, _ *approvals.Directory) {
			s.OnBehalfOf = "Ana@Example.com"
		}},
		"on behalf of a Slack user":   {who: "ana", edit: func(s *approvals.Submission, _ *approvals.Plan, _ *approvals.Directory) { s.OnBehalfOf = "U-ana" }},
		"became an owner since":       {who: "ana", late: func(d *approvals.Directory) { d.Owners[caller] = []string{"ana"} }},
		"was an owner at submit only": {who: "dee", late: func(d *approvals.Directory) { d.Owners = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, sub, plan := office(), submission(), planOf(stage("peer", set(1, "team")))
			if s.edit != nil {
				s.edit(&sub, &plan, &dir)
			}
			tr, err := approvals.Submit(sub, plan, dir, start)
			require.NoError(t, err)
			if s.late != nil {
				s.late(&dir)
			}
			for _, v := range []approvals.Verdict{approvals.Approve, approvals.Deny} {
				got, err := vote(tr.Ticket, s.who, v, dir, after(time.Minute))
				requireCode(t, approvals.CodeSelfApproval, err)
				require.Equal(t, []approvals.EventType{approvals.EventRefused}, types(got.Events))
			}
			_, err = tr.Ticket.Ask(person(s.who), approvals.Question{Person: s.who, Text: "?"}, dir, after(time.Minute))
			requireCode(t, approvals.CodeSelfApproval, err)
			require.NotContains(t, tr.Ticket.WaitingFor(dir), s.who)
		})
	}
}

func TestRequesterIsKnownEvenWhenTheyBecomeKnownLater(t *testing.T) {
	t.Parallel()
	dir, sub := office(), submission()
	sub.OnBehalfOf = "zoe@example.com"
	tr, err := approvals.Submit(sub, planOf(stage("peer", set(1, "team"))), dir, start)
	require.NoError(t, err)
	dir.People["zoe"] = approvals.Person{Name: "zoe", Email: "zoe@example.com"}
	dir.Groups["team"] = append(dir.Groups["team"], "zoe")
	_, err = vote(tr.Ticket, "zoe", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeSelfApproval, err)
}

func TestApproverWhoBecomesAnOwnerNoLongerCounts(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	dir.Owners[caller] = []string{"ana"}
	require.Equal(t, 0, tk.Tally(0, dir).Have)
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
}

func TestApproverWhoLeavesTheGroupNoLongerCounts(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	dir.Groups["team"] = []string{"bo", "chen"}
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute))).State)
}

func TestStageThatMembershipHasMetIsLeftAtTheNextVote(t *testing.T) {
	t.Parallel()
	dir, without := office(), office()
	without.Groups["team"] = []string{"bo", "chen"}
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, without, after(time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State, "ana is back, so chen's vote is one too many and not to be refused")
}

func TestLateDecisionExpiresTheTicketAndSaysSo(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), dir)
	for name, late := range map[string]func() (approvals.Transition, error){
		"decide": func() (approvals.Transition, error) { return vote(tk, "ana", approvals.Approve, dir, tk.ExpiresAt) },
		"deny":   func() (approvals.Transition, error) { return vote(tk, "ana", approvals.Deny, dir, tk.ExpiresAt) },
		"ask": func() (approvals.Transition, error) {
			return tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "?"}, dir, tk.ExpiresAt)
		},
	} {
		tr, err := late()
		requireCode(t, approvals.CodeExpired, err)
		require.Equal(t, []approvals.EventType{approvals.EventExpired}, types(tr.Events), name)
		require.Equal(t, "expired", tr.Ticket.Problem.Code)
		require.Empty(t, tr.Ticket.Decisions)
	}
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "ana", approvals.Approve, dir, tk.ExpiresAt.Add(-1))).State)
}

func TestRefusalsAreRecordedUpToALimit(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), dir)
	for i := range approvals.MaxRefusals {
		tr, err := vote(tk, "gus", approvals.Approve, dir, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		require.Equal(t, i == approvals.MaxRefusals-1, tr.Events[0].Data.Refusal.Last)
		require.Equal(t, "approve", tr.Events[0].Data.Refusal.Tried)
		require.Equal(t, "gus", tr.Events[0].Actor.Name)
		tk = tr.Ticket
	}
	tr, err := vote(tk, "gus", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	require.True(t, tr.Empty(), "answered, no longer recorded")
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute))).State)
}

func TestStrangerIsTurnedAwayAndRecorded(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	who := approvals.Actor{Kind: approvals.ActorStranger, Name: "U666", Via: "slack"}
	tr, err := tk.Stranger(who, "approve", after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	require.Equal(t, who, tr.Events[0].Actor)
	require.Equal(t, approvals.Pending, tr.Ticket.State)
	_, err = tk.Stranger(who, strings.Repeat("x", 65), after(time.Minute))
	requireCode(t, approvals.CodeInvalid, err)
}

func TestVerdictIsApproveOrDeny(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	for _, v := range []approvals.Verdict{"", "Approve", "yes"} {
		tr, err := vote(tk, "ana", v, office(), after(time.Minute))
		requireCode(t, approvals.CodeInvalid, err)
		require.True(t, tr.Empty())
	}
}

func TestWaitingForNamesWhoMayStillDecide(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	require.Equal(t, []string{"ana", "bo", "chen"}, tk.WaitingFor(dir))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, []string{"ana", "chen"}, tk.WaitingFor(dir))
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	require.Empty(t, tk.WaitingFor(dir))
}

func TestTallyOfAStageThatDoesNotExistIsNeitherMetNorRefused(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	for _, i := range []int{-1, 1, 99} {
		require.False(t, tk.Tally(i, office()).Met())
		require.False(t, tk.Tally(i, office()).Refused())
	}
}
