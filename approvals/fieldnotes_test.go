package approvals_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// These are the bugs that other approval systems had, as far as a pure domain can have
// them. The numbers are those of the field notes.

func TestFieldNote01ReviewerInTwoGroupsLeavesNothingPendingForEver(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("both", set(1, "team", "security"), set(1, "security", "team"))), dir)
	tk = must(t)(vote(tk, "chen", approvals.Approve, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	require.True(t, approvals.Tally{Needed: 1, Have: 2}.Met(), "more than enough is enough")
	require.True(t, approvals.Tally{DenialsNeeded: 1, Denials: 2}.Refused())
}

func TestFieldNote02TwoVotesOnOneVersionCannotOverwriteEachOther(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	first, err := vote(tk, "ana", approvals.Approve, dir, after(time.Minute))
	require.NoError(t, err)
	second, err := vote(tk, "bo", approvals.Approve, dir, after(time.Minute))
	require.NoError(t, err)
	require.Equal(t, first.Events[0].Seq, second.Events[0].Seq, "both claim one row of the audit trail: only one can be committed")
	require.Len(t, first.Ticket.Decisions, 1)
	require.Len(t, second.Ticket.Decisions, 1)
	require.Equal(t, approvals.Approved, must(t)(vote(first.Ticket, "bo", approvals.Approve, dir, after(time.Minute))).State)
}

func TestFieldNote03QuorumOfNobodyNamesakesAndNestedGroupsFailClosed(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, -1} {
		requireCode(t, approvals.CodeUnsatisfiable, planOf(stage("x", set(n, "team"))).Check(office()))
	}
	dir := office()
	dir.Groups["everybody"] = []string{"team", "security"} // groups in a group are nobody
	requireCode(t, approvals.CodeUnsatisfiable, planOf(stage("x", set(1, "everybody"))).Check(dir))
	dir.Groups["other/team"] = []string{"gus"}
	tk := submit(t, planOf(stage("x", set(1, "team"))), dir)
	_, err := vote(tk, "gus", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
}

func TestFieldNote11TimersDecideNothing(t *testing.T) {
	t.Parallel()
	dir := office()
	for _, s := range situations(t) {
		if s.ticket.State == approvals.Pending {
			continue
		}
		for name, fire := range map[string]func() (approvals.Transition, error){
			"escalate": func() (approvals.Transition, error) {
				return s.ticket.Escalate(s.ticket.Stage, 1, dir, after(1000*time.Hour))
			},
			"remind": func() (approvals.Transition, error) {
				return s.ticket.Remind(s.ticket.Stage, s.ticket.Reminders+1, after(1000*time.Hour))
			},
		} {
			tr, err := fire()
			requireCode(t, approvals.CodeConflict, err)
			require.True(t, tr.Empty(), "%s on a ticket that is %s", name, s.name)
		}
		tr, _ := s.ticket.Wake(dir, after(1000*time.Hour))
		require.True(t, tr.Empty() || tr.Ticket.State == approvals.Expired, s.name)
	}
}

func TestFieldNote12EveryLimitFailsClosed(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, reminding(time.Minute), dir)
	tk.Refusals = approvals.MaxRefusals
	_, err := vote(tk, "gus", approvals.Approve, dir, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	tk.Reminders = approvals.MaxReminders
	require.Equal(t, approvals.Expired, must(t)(tk.Wake(dir, tk.ExpiresAt)).State, "nobody is reminded any more, nothing is approved")
	call := executing(t, idempotent)
	call.Epoch = approvals.MaxEpochs
	require.Equal(t, approvals.OutcomeUnknown, must(t)(call.Abandon(approvals.MaxEpochs, after(3*time.Minute))).State)
	requireCode(t, approvals.CodeUnsatisfiable, planOf(stage("x", set(approvals.MaxApprovals+1, "team"))).Check(dir))
}

func TestFieldNote13NoVerbTakesATextWithoutEnd(t *testing.T) {
	t.Parallel()
	dir, flood := office(), strings.Repeat("x", 1<<20)
	tk := submit(t, planOf(stage("peer", set(1, "team"))), dir)
	asked := must(t)(tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: "?"}, dir, start))
	doubt := must(t)(executing(t, nil).Abandon(1, after(time.Hour)))
	d := approvals.Decision{Person: "ana", Verdict: approvals.Deny, Digest: tk.Digest, Comment: flood}
	s := submission()
	s.Justification = flood
	for name, say := range map[string]func() (approvals.Transition, error){
		"Decide":   func() (approvals.Transition, error) { return tk.Decide(person("ana"), d, dir, start) },
		"Stranger": func() (approvals.Transition, error) { return tk.Stranger(person("gus"), flood, start) },
		"Ask": func() (approvals.Transition, error) {
			return tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: flood}, dir, start)
		},
		"Answer":  func() (approvals.Transition, error) { return asked.Answer(client(), flood, start) },
		"Cancel":  func() (approvals.Transition, error) { return tk.Cancel(client(), flood, start) },
		"Resolve": func() (approvals.Transition, error) { return doubt.Resolve(person("ana"), true, flood, start) },
		"Submit": func() (approvals.Transition, error) {
			return approvals.Submit(s, planOf(stage("peer", set(1, "team"))), dir, start)
		},
	} {
		tr, err := say()
		requireCode(t, approvals.CodeInvalid, err)
		require.True(t, tr.Empty(), name)
	}
}
