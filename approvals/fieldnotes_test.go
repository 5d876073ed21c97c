package approvals_test

import (
	"bytes"
	"fmt"
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

func TestFieldNote05WhoDecidedIsNotWhatTheClickSays(t *testing.T) {
	t.Parallel()
	dir := away(office(), "ana", "bo", 1000)
	tk := submit(t, planOf(stage("peer", set(2, "team"))), dir)
	d := approvals.Decision{
		Person: "gus", For: "ana", Verdict: approvals.Approve, Digest: tk.Digest, Groups: []string{"team"}, Via: "api", Ref: "U-ana",
	}
	_, err := tk.Decide(person("gus"), d, dir, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)
	d.Person, d.For = "chen", "bo"
	got := must(t)(tk.Decide(person("chen"), d, dir, after(time.Minute))).Decisions[0]
	require.Empty(t, got.For, "chen acts for nobody, whatever is said")
	require.Equal(t, "T0/U-chen", got.Ref)
}

func TestFieldNote07ManyGroupsAreAskedAsFewAre(t *testing.T) {
	t.Parallel()
	dir := office()
	var from []string
	for i := range 40 {
		name := fmt.Sprint("group-", i)
		dir.Groups[name] = []string{"ana"}
		from = append(from, name)
	}
	dir.Groups["group-39"] = []string{"bo"}
	tk := submit(t, planOf(stage("peer", set(2, from...))), dir)
	require.Equal(t, []string{"ana", "bo"}, tk.WaitingFor(dir))
	tk = must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute)))
	tk = must(t)(vote(tk, "bo", approvals.Approve, dir, after(time.Minute)))
	require.Equal(t, []string{"group-39"}, tk.Decisions[1].Groups)
	require.Equal(t, approvals.Approved, tk.State)
}

func TestFieldNote08NamesOfGroupsMeanNothingButThemselves(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a:b", "a/b:0", "stage 1", `quo"te`, "<!channel>", "group\nwith lines", "*"} {
		dir := office()
		dir.Groups[name] = []string{"ana"}
		tk := submit(t, planOf(stage(name, set(1, name))), dir)
		_, err := vote(tk, "bo", approvals.Approve, dir, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		require.Equal(t, approvals.Approved, must(t)(vote(tk, "ana", approvals.Approve, dir, after(time.Minute))).State)
	}
}

func TestFieldNote10WhatIsDecidedOnIsRefusedRatherThanCut(t *testing.T) {
	t.Parallel()
	s, plan := submission(), planOf(stage("peer", set(1, "team")))
	s.Justification = strings.Repeat("é", approvals.MaxJustification/2)
	s.Call.Body = bytes.Repeat([]byte("x"), approvals.MaxBody)
	tk := must(t)(approvals.Submit(s, plan, office(), start))
	require.Equal(t, s.Justification, tk.Justification)
	require.Equal(t, s.Call.Body, tk.Call.Body)
	s.Justification += "!"
	_, err := approvals.Submit(s, plan, office(), start)
	requireCode(t, approvals.CodeInvalid, err)
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
	broken := d
	broken.Verdict = approvals.GlassBroken
	rendered, channel := d, d
	rendered.Comment, rendered.Rendered = "no", flood
	channel.Comment, channel.Channel = "no", flood
	s := submission()
	s.Justification = flood
	for name, say := range map[string]func() (approvals.Transition, error){
		"Decide":   func() (approvals.Transition, error) { return tk.Decide(person("ana"), d, dir, start) },
		"Stranger": func() (approvals.Transition, error) { return tk.Stranger(person("gus"), flood, start) },
		"Refuse": func() (approvals.Transition, error) {
			return tk.Refuse(person("gus"), flood, &approvals.Error{Code: approvals.CodeNotOperator}, start)
		},
		"Ask": func() (approvals.Transition, error) {
			return tk.Ask(person("ana"), approvals.Question{Person: "ana", Text: flood}, dir, start)
		},
		"View": func() (approvals.Transition, error) {
			return tk.View(person("ana"), approvals.Viewing{Person: "ana", Digest: tk.Digest, Rendered: flood}, dir, start)
		},
		"Rendered":  func() (approvals.Transition, error) { return tk.Decide(person("ana"), rendered, dir, start) },
		"Channel":   func() (approvals.Transition, error) { return tk.Decide(person("ana"), channel, dir, start) },
		"Break":     func() (approvals.Transition, error) { return tk.Decide(person("ana"), broken, dir, start) },
		"Supersede": func() (approvals.Transition, error) { return tk.Supersede(client(), flood, start) },
		"Answer":    func() (approvals.Transition, error) { return asked.Answer(client(), flood, start) },
		"Cancel":    func() (approvals.Transition, error) { return tk.Cancel(client(), flood, start) },
		"Resolve":   func() (approvals.Transition, error) { return doubt.Resolve(person("ana"), true, flood, start) },
		"Submit": func() (approvals.Transition, error) {
			return approvals.Submit(s, planOf(stage("peer", set(1, "team"))), dir, start)
		},
	} {
		tr, err := say()
		requireCode(t, approvals.CodeInvalid, err)
		require.True(t, tr.Empty(), name)
	}
}

func TestFieldNote14WhoChangesTheListsGainsNoVoteOnWhatIsInFlight(t *testing.T) {
	t.Parallel()
	dir := office()
	s := stage("peer", set(2, "team", "board"))
	s.Escalate = []approvals.Tier{
		{After: time.Hour, To: []string{"team"}, Mode: approvals.ModeAdd},
		{After: 2 * time.Hour, To: []string{"oncall"}, Mode: approvals.ModeAdd},
	}
	plan := planOf(s)
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"board"}}
	dir.Groups["board"] = []string{"chen"}
	tk := submit(t, plan, dir)

	later := office()
	later.People["hal"] = approvals.Person{Name: "hal"}
	for _, group := range []string{"team", "board", "oncall"} {
		later.Groups[group] = append(later.Groups[group], "gus", "hal")
	}
	later = away(later, "ana", "gus", 1000)
	for _, name := range []string{"gus", "hal"} {
		_, err := vote(tk, name, approvals.Approve, later, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		_, err = vote(tk, name, approvals.Deny, later, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		_, err = breakGlass(tk, name, later, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
		_, err = tk.Ask(person(name), approvals.Question{Person: name, Text: "?"}, later, after(time.Minute))
		requireCode(t, approvals.CodeNotApprover, err)
	}
	delete(later.Groups, "board")
	later.People["board"] = approvals.Person{Name: "board"} // a person called like a group that is no more
	_, err := vote(tk, "board", approvals.Approve, later, after(time.Minute))
	requireCode(t, approvals.CodeNotApprover, err)

	tk = must(t)(tk.Escalate(0, 1, later, after(time.Hour)))
	_, err = vote(tk, "gus", approvals.Approve, later, after(time.Hour))
	requireCode(t, approvals.CodeNotApprover, err) // team was asked before gus came, and is not asked anew
	tk = must(t)(tk.Escalate(0, 2, later, after(2*time.Hour)))
	require.Equal(t, "gus", must(t)(vote(tk, "gus", approvals.Approve, later, after(2*time.Hour))).Decisions[0].Person,
		"oncall is asked for the first time, and is whoever it is now")
}
