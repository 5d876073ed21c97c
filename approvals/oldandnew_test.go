package approvals_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// A call is made only if it satisfies the policy under which it was submitted and the one
// under which it is made. These are ways round that, each closed.

func TestOneVoiceIsNotCountedTwiceUnderTheStricterPolicy(t *testing.T) {
	t.Parallel()
	dir := office()
	dir.Away = map[string]approvals.Absence{"ana": {Until: after(30 * time.Minute), Delegate: "gus"}}
	p := planOf(stage("one", set(1, "ana")), stage("two", set(1, "ana")))
	p.Distinct = approvals.DistinctStage
	tk := submit(t, p, dir)
	tk = must(t)(vote(tk, "gus", approvals.Approve, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Hour)))
	require.Equal(t, approvals.Approved, tk.State)
	today := now(planOf(stage("strict", set(2, "ana", "bo"))))
	_, err := tk.Claim(worker, dir, today, after(time.Hour))
	requireCode(t, approvals.CodeStalePolicy, err)
}

func TestOneYesIsNotCountedInTwoStagesOfToday(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("one", set(1, "team"))), office())
	tk = must(t)(vote(tk, "bo", approvals.Approve, office(), after(time.Minute)))
	today := now(planOf(stage("one", set(1, "team")), stage("two", set(1, "team"))))
	today.Distinct = approvals.DistinctStage
	_, err := tk.Claim(worker, office(), today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
}

func TestATierBringsNoDelegateForWhoWasAskedBefore(t *testing.T) {
	t.Parallel()
	dir, late := office(), office()
	late.Away = map[string]approvals.Absence{"ana": {Until: after(48 * time.Hour), Delegate: "gus"}}
	one := stage("one", set(1, "bo"))
	one.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"team"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(one, stage("two", set(1, "ana"))), dir)
	tk = must(t)(tk.Escalate(0, 1, late, after(time.Hour)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, late, after(2*time.Hour)))
	_, err := vote(tk, "gus", approvals.Approve, late, after(3*time.Hour))
	requireCode(t, approvals.CodeNotApprover, err)
}

func TestAVoteOfADelegateWhoWasReplacedDoesNotStand(t *testing.T) {
	t.Parallel()
	dir := office()
	dir.Away = map[string]approvals.Absence{"ana": {Until: after(48 * time.Hour), Delegate: "gus"}}
	tk := submit(t, planOf(stage("peer", set(1, "ana"))), dir)
	tk = must(t)(vote(tk, "gus", approvals.Approve, dir, after(time.Minute)))
	back := office()
	require.Equal(t, approvals.Approved, must(t)(tk.Claim(worker, back, now(tk.Plan), after(2*time.Minute))).State, "she is back: what was done for her stands")
	other := office()
	other.Away = map[string]approvals.Absence{"ana": {Until: after(48 * time.Hour), Delegate: "bo"}}
	_, err := tk.Claim(worker, other, now(tk.Plan), after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestANoThatEndsItUnderTheStricterPolicyIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := stage("peer", set(1, "team"))
	s.Denials = 2
	tk := submit(t, planOf(s), office())
	tk = must(t)(vote(tk, "ana", approvals.Deny, office(), after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, office(), after(2*time.Minute)))
	tr, err := tk.Claim(worker, office(), now(planOf(stage("peer", set(1, "team")))), after(3*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	require.Equal(t, approvals.Failed, tr.Ticket.State)
}

func TestAnApprovalThatTodayWouldNotHaveWaitedForDoesNotStand(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "team"))), office())
	tk = must(t)(vote(tk, "bo", approvals.Approve, office(), after(20*time.Hour)))
	today := now(planOf(stage("peer", set(1, "team"))))
	today.ExpiresIn = time.Hour
	_, err := tk.Claim(worker, office(), today, after(20*time.Hour+time.Minute))
	requireCode(t, approvals.CodeExpired, err)
}

func TestANoBringsNoEscalationForward(t *testing.T) {
	t.Parallel()
	s := stage("peer", set(3, "team"))
	s.Denials = 2
	s.Escalate = []approvals.Tier{{After: 10 * time.Hour, Need: []approvals.ApproverSet{set(1, "fay")}, Mode: approvals.ModeReplace}}
	tk := submit(t, planOf(s), office())
	tk = must(t)(vote(tk, "ana", approvals.Deny, office(), after(time.Minute)))
	require.Equal(t, []int{0}, tk.Tiers)
	_, err := vote(tk, "fay", approvals.Approve, office(), after(2*time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
}

func TestATicketIsNotPassedToAndFroForEver(t *testing.T) {
	t.Parallel()
	dir, gone := office(), office()
	delete(gone.People, "bo")
	tk := submit(t, planOf(stage("peer", set(1, "team"))), dir)
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	for range approvals.MaxReopenings {
		tr, err := tk.Claim(worker, gone, now(tk.Plan), after(2*time.Minute))
		requireCode(t, approvals.CodeConflict, err)
		require.Equal(t, approvals.Pending, tr.Ticket.State)
		// A process with another directory finds the vote standing.
		tk = must(t)(tr.Ticket.Reassess(dir, after(2*time.Minute)))
		require.Equal(t, approvals.Approved, tk.State)
	}
	tr, err := tk.Claim(worker, gone, now(tk.Plan), after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.Failed, tr.Ticket.State)
	require.Equal(t, "approval_withdrawn", tr.Ticket.Problem.Code)
}
