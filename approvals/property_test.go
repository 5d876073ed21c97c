package approvals_test

import (
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"countersign/approvals"
)

type rapidly struct{ *rapid.T }

// pick tosses coins: a number drawn from a range is so biased towards its ends that
// hardly a ticket would get as far as being executed.
func (r rapidly) pick(n int) int {
	out := 0
	for range bits.Len(uint(n-1)) + 2 {
		out <<= 1
		if rapid.Bool().Draw(r.T, "coin") {
			out++
		}
	}
	return out % n
}

func (r rapidly) fatalf(format string, args ...any) { r.Fatalf(format, args...) }

func TestEveryLifeKeepsTheInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}}
		if l.open(true) {
			l.run(60)
		}
	})
}

// expected is what a person's approval should be answered with, by the naive model.
func (l *life) expected(who string) approvals.Code {
	t := l.ticket
	seats := places(l.plan.Stages[t.Stage], l.tiers[t.Stage])
	eligible := slices.ContainsFunc(seats, func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return allowed(n, who, l.dir) })
	})
	with := append(slices.Clone(l.votes), ballot{person: who, stage: t.Stage, yes: true})
	can := func(votes []ballot) bool {
		return completable(l.plan, t.Stage, votes, t.Plan.Excluded, l.behalf, l.dir)
	}
	switch have := l.voters(t.Stage); {
	case slices.ContainsFunc(l.votes, func(b ballot) bool { return b.person == who }):
		return approvals.CodeAlreadyDecided
	case l.isAsker(who):
		return approvals.CodeSelfApproval
	case !eligible:
		return approvals.CodeNotApprover
	case most(seats, append(have, who), l.dir) == most(seats, have, l.dir):
		return approvals.CodeNotNeeded
	case t.Stage+1 < len(l.plan.Stages) && !can(with):
		return approvals.CodeNeededLater
	}
	return ""
}

// replaces reports whether the plan has tiers that take a decision away, of which the
// model knows nothing.
func (l *life) replaces() bool {
	return slices.ContainsFunc(l.plan.Stages, func(s approvals.Stage) bool {
		return slices.ContainsFunc(s.Escalate, func(t approvals.Tier) bool { return t.Mode == approvals.ModeReplace })
	})
}

// approve tries one approval and compares the answer with the model.
func (l *life) approve(who string) bool {
	before := l.ticket
	tr, err := vote(before, who, approvals.Approve, l.dir, l.now)
	if !l.replaces() {
		want := l.expected(who)
		l.require(approvals.ErrorCode(err) == want, "%s approves: %v, want %q", who, err, want)
	}
	l.take(before, tr, err)
	return err == nil
}

// TestAcceptedPlanIsNeverStuck: whatever votes are taken in whatever order, what is left
// can still be completed. Every answer is that of the brute-force model.
func TestAcceptedPlanIsNeverStuck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}, patient: true}
		if !l.open(false) || l.plan.Action != approvals.ActionApprove {
			return
		}
		l.require(completable(l.plan, 0, nil, l.ticket.Plan.Excluded, l.behalf, l.dir), "an impossible plan was accepted")
		for range l.pick(10) {
			if l.ticket.State.Open() {
				l.approve(l.someone())
			}
		}
		l.complete()
		l.require(l.ticket.State == approvals.Approved, "stuck")
		l.finish()
	})
}

// complete brings the ticket to its end with the votes there are, letting tiers fire when
// nobody's vote is taken. Time itself is no obstacle here.
func (l *life) complete() {
	for progress := true; progress && l.ticket.State.Open(); {
		progress = slices.ContainsFunc(crowd, func(who string) bool { return l.ticket.State.Open() && l.approve(who) })
		if !progress {
			progress = l.escalate()
		}
	}
}

// escalate fires the next tier, unless there is none or it takes the decision away.
func (l *life) escalate() bool {
	t, n := l.ticket, l.tiers[l.ticket.Stage]
	tiers := l.plan.Stages[t.Stage].Escalate
	if n == len(tiers) || tiers[n].Mode == approvals.ModeReplace {
		return false
	}
	due := t.StageSince.Add(tiers[n].After)
	if l.now.Before(due) {
		l.now = due
	}
	tr, err := t.Escalate(t.Stage, n+1, l.dir, l.now)
	l.require(err == nil, "escalate: %v", err)
	l.take(t, tr, err)
	return true
}

// TestReplacementThatHasNotFiredStrandsNobody: votes are not spent in the hope that a
// tier will put others in the place of those who are needed.
func TestReplacementThatHasNotFiredStrandsNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}, patient: true}
		if !l.open(true) || !l.replaces() {
			return
		}
		plain := l.ticket.Plan
		plain.Stages = slices.Clone(plain.Stages)
		for i, s := range plain.Stages {
			first := slices.IndexFunc(s.Escalate, func(t approvals.Tier) bool { return t.Mode == approvals.ModeReplace })
			plain.Stages[i].Escalate = s.Escalate[:max(first, 0)]
			if first < 0 {
				plain.Stages[i].Escalate = s.Escalate
			}
		}
		if plain.Check(l.dir) != nil {
			return // it lives by its replacements
		}
		for range l.pick(10) {
			if l.ticket.State.Open() {
				l.approve(l.someone())
			}
		}
		l.complete()
		l.require(l.ticket.State == approvals.Approved, "stuck")
	})
}

// TestPlanIsAcceptedExactlyWhenItCanBeMet compares Check with the trying of everything.
func TestPlanIsAcceptedExactlyWhenItCanBeMet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}}
		l.populate()
		plan := l.makePlan(false)
		if plan.Action != approvals.ActionApprove {
			return
		}
		err := plan.Check(l.dir)
		dir := l.dir
		dir.Owners = nil // Check judges the plan; Submit freezes the owners into it first
		can := completable(plan, 0, nil, plan.Excluded, "", dir)
		if can != (err == nil) {
			rt.Fatalf("check says %v, the model says %t\n%s\n%s", err, can, asJSON(plan), asJSON(dir))
		}
	})
}
