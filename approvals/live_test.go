package approvals_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// watched is the office with a group, watch, that is a Slack user group with these people.
func watched(people ...string) approvals.Directory {
	dir := office()
	dir.Live = map[string]string{"watch": "S0WATCH"}
	dir.Groups["watch"] = people
	return dir
}

func TestWhoeverIsInALiveGroupDecides(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("watch", set(2, "watch"))), watched("ana", "bo"))
	require.Equal(t, map[string]string{"watch": "S0WATCH"}, tk.Plan.Live)
	require.Empty(t, tk.Plan.Roster, "a live group is not in the roster")
	next := watched("eve", "fay") // another shift
	_, err := vote(tk, "ana", approvals.Approve, next, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	tk = must(t)(vote(tk, "eve", approvals.Approve, next, after(time.Minute)))
	require.Equal(t, []string{"watch"}, tk.Decisions[0].Groups)
	require.Equal(t, []string{"fay"}, tk.WaitingFor(next.At(after(time.Minute))))
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "fay", approvals.Approve, next, after(2*time.Minute))).State)
}

func TestWhoHasLeftALiveGroupDoesNotCountWhenTheCallIsDue(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("watch", set(1, "watch"))), watched("ana", "bo"))
	tk = must(t)(vote(tk, "ana", approvals.Approve, watched("ana", "bo"), after(time.Minute)))
	tr, err := tk.Claim(worker, watched("bo"), now(tk.Plan), after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.Pending, tr.Ticket.State)
	require.Contains(t, tr.Events[0].Data.Reason, "that of ana")
}

func TestALiveGroupThatTurnsIntoAnotherCountsNobody(t *testing.T) {
	t.Parallel()
	live := submit(t, planOf(stage("watch", set(1, "watch"))), watched("ana"))
	static := office()
	static.Groups["watch"] = []string{"ana"}
	other := watched("ana")
	other.Live["watch"] = "S0OTHER"
	unknown := watched("ana")
	delete(unknown.Groups, "watch")
	for name, dir := range map[string]approvals.Directory{"a list": static, "another user group": other, "not known": unknown} {
		_, err := vote(live, "ana", approvals.Approve, dir, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		require.Empty(t, live.WaitingFor(dir.At(after(time.Minute))), name)
		tr, err := live.Reassess(dir, after(time.Minute))
		require.NoError(t, err)
		require.NotNil(t, tr.Ticket.Stalled, name)
	}
	listed := submit(t, planOf(stage("watch", set(1, "watch"))), static)
	_, err := vote(listed, "ana", approvals.Approve, watched("ana"), after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
}

func TestATierRecordsWhomALiveGroupStoodForWhenItFired(t *testing.T) {
	t.Parallel()
	s := stage("peer", set(1, "team"))
	s.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"watch"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(s), watched("ana"))
	require.Equal(t, "S0WATCH", tk.Plan.Live["watch"])
	tr, err := tk.Escalate(0, 1, watched("eve", "fay"), after(time.Hour))
	require.NoError(t, err)
	require.Equal(t, []string{"eve", "fay"}, tr.Events[0].Data.Asked)
	require.NotContains(t, tr.Ticket.Plan.Roster, "watch")
	tk = must(t)(vote(tr.Ticket, "gus", approvals.Approve, watched("gus"), after(2*time.Hour)))
	require.Equal(t, approvals.Approved, tk.State, "it is whoever is in it by then")
}

func TestAGroupThatIsLiveByTheTimeItsTierFiresAsksNobody(t *testing.T) {
	t.Parallel()
	dir := office()
	dir.Groups["watch"] = []string{"eve"}
	s := stage("peer", set(1, "team"))
	s.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"watch"}, Mode: approvals.ModeAdd}}
	tk := submit(t, planOf(s), dir)
	tr, err := tk.Escalate(0, 1, watched("eve"), after(time.Hour))
	require.NoError(t, err)
	require.Empty(t, tr.Events[0].Data.Asked)
	_, err = vote(tr.Ticket, "eve", approvals.Approve, watched("eve"), after(2*time.Hour))
	requireCode(t, approvals.CodeNotApprover, err)
}

func TestAPlanThatNeedsAnEmptyUserGroupIsRefusedAndNamesIt(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]approvals.Directory{
		"empty": watched(), "of strangers": watched("zoe"), "of the requester's own": watched("dee"),
	} {
		_, err := approvals.Submit(submission(), planOf(stage("watch", set(1, "watch"))), dir, start)
		requireCode(t, approvals.CodeUnsatisfiable, err)
		if name != "of the requester's own" {
			require.ErrorContains(t, err, `nobody is known to be in the Slack user group S0WATCH of "watch"`, name)
		}
	}
}

func TestTheDelegateOfSomebodyInALiveGroupIsTheOneOfThen(t *testing.T) {
	t.Parallel()
	dir := away(watched("ana", "bo"), "ana", "gus", 1000)
	tk := submit(t, planOf(stage("watch", set(1, "watch"))), dir)
	require.Equal(t, "ana", must(t)(vote(tk, "gus", approvals.Approve, dir, after(time.Minute))).Decisions[0].For)
	later := away(watched("ana", "bo"), "bo", "eve", 1000)
	_, err := vote(tk, "eve", approvals.Approve, later, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err) // bo was there when it was asked
}

func TestWhoIsInactiveCountsAsNobody(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"ana"}}
	tk := submit(t, plan, office())
	dir := office()
	dir.Inactive = map[string]string{"ana": "this Slack account is deactivated", "dee": "this Slack account is a guest"}
	require.Equal(t, []string{"bo", "chen"}, tk.WaitingFor(dir.At(after(time.Minute))))
	for _, v := range []approvals.Verdict{approvals.Approve, approvals.Deny, approvals.GlassBroken} {
		_, err := tk.Decide(person("ana"), approvals.Decision{Person: "ana", Verdict: v, Digest: tk.Digest, Comment: "x"}, dir, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		require.ErrorContains(t, err, "this Slack account is deactivated")
	}
	require.True(t, tk.MayAnswer("dee", office()))
	require.False(t, tk.MayAnswer("dee", dir))
	for _, e := range tk.Eligible(dir.At(after(time.Minute))) {
		require.Equal(t, e.Person == "bo" || e.Person == "chen", e.Can, "%+v", e)
		if e.Person == "ana" {
			require.Contains(t, e.Reason, "deactivated", "why somebody who is named cannot is said")
		}
	}
	_, err := approvals.Submit(submission(), planOf(stage("peer", set(3, "team"))), dir, start)
	requireCode(t, approvals.CodeUnsatisfiable, err)
}

func TestTheVoteOfWhoBecomesInactiveStopsCounting(t *testing.T) {
	t.Parallel()
	s := stage("peer", set(2, "team"))
	s.Escalate = []approvals.Tier{{After: time.Hour, To: []string{"oncall"}, Mode: approvals.ModeAdd}}
	plan := planOf(s)
	dir := office()
	dir.Groups["team"] = []string{"ana", "bo"}
	tk := must(t)(vote(submit(t, plan, dir), "ana", approvals.Approve, dir, after(time.Minute)))
	gone := dir
	gone.Inactive = map[string]string{"ana": "this Slack account is deactivated"}
	require.Zero(t, tk.Tally(0, gone.At(after(2*time.Minute))).Have)
	tr, err := tk.Reassess(gone, after(2*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventEscalated}, types(tr.Events), "too few are left: the next are asked at once")
	full := must(t)(vote(tk, "bo", approvals.Approve, dir, after(2*time.Minute)))
	tr, err = full.Claim(worker, gone, now(full.Plan), after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	require.Equal(t, approvals.EventReopened, tr.Events[0].Type)
}

func TestAStricterPolicyAsksUserGroupsAsTheyAreThen(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(1, "ana"))), office())
	tk = must(t)(vote(tk, "ana", approvals.Approve, office(), after(time.Minute)))
	today := now(planOf(stage("watch", set(1, "watch"))))
	today.Confirm = approvals.ConfirmModal
	tr, err := tk.Claim(worker, watched("eve"), today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	require.Equal(t, map[string]string{"watch": "S0WATCH"}, tr.Ticket.Plan.Live)
	require.Equal(t, approvals.ConfirmModal, tr.Ticket.Plan.Confirm)
	require.Equal(t, approvals.Approved, must(t)(vote(tr.Ticket, "fay", approvals.Approve, watched("fay"), after(3*time.Minute))).State)
}

func TestTheStricterConfirmationWins(t *testing.T) {
	t.Parallel()
	for i, a := range approvals.Confirms() {
		for j, b := range approvals.Confirms() {
			require.Equal(t, approvals.Confirms()[max(i, j)], a.Stricter(b))
		}
		require.Equal(t, approvals.Confirm("x"), a.Stricter("x"), "what nobody knows is not taken lightly")
		require.Equal(t, approvals.Confirm("x"), approvals.Confirm("x").Stricter(a))
	}
}

func TestAViewIsRecordedOnceAPerson(t *testing.T) {
	t.Parallel()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), office())
	v := approvals.Viewing{Person: "ana", Digest: tk.Digest, Rendered: "abc", Channel: "C1", Pages: 3}
	tr, err := tk.View(person("ana"), v, office(), after(time.Minute))
	require.NoError(t, err)
	require.Equal(t, &v, tr.Events[0].Data.Viewing)
	require.Empty(t, tr.Effects)
	require.Equal(t, []string{"ana"}, tr.Ticket.Viewers)
	again, err := tr.Ticket.View(person("ana"), v, office(), after(2*time.Minute))
	require.NoError(t, err)
	require.True(t, again.Empty())
	voted := must(t)(vote(tr.Ticket, "bo", approvals.Approve, office(), after(2*time.Minute)))
	v.Person = "bo"
	require.Equal(t, []string{"ana", "bo"}, must(t)(voted.View(person("bo"), v, office(), after(3*time.Minute))).Viewers, "who has decided may read it again")
	full := tr.Ticket
	full.Viewers = make([]string, approvals.MaxViewers)
	tr, err = full.View(person("bo"), v, office(), after(3*time.Minute))
	require.NoError(t, err)
	require.True(t, tr.Empty())
}
