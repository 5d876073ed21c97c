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

// approve tries one approval, whose answer is compared with the model's.
func (l *life) approve(who string) bool {
	d := approvals.Decision{Person: who, Verdict: approvals.Approve, Stage: l.ticket.Stage, Digest: l.ticket.Digest, Comment: "yes"}
	before := l.ticket
	tr, err := l.judged(d)()
	l.take("approve", before, tr, err)
	return err == nil
}

// TestAcceptedPlanIsNeverStuck: whatever votes are taken in whatever order, what is left
// can still be completed. Every answer is that of the brute-force model.
func TestAcceptedPlanIsNeverStuck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}, plain: true}
		if !l.open(false) || l.plan.Action != approvals.ActionApprove {
			return
		}
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
	t, n := l.ticket, l.steps[l.ticket.Stage].fired
	tiers := t.Plan.Stages[t.Stage].Escalate
	if n == len(tiers) || tiers[n].Mode == approvals.ModeReplace {
		return false
	}
	due := t.StageSince.Add(tiers[n].After)
	if l.now.Before(due) {
		l.now = due
	}
	tr, err := t.Escalate(t.Stage, n+1, l.dir, l.now)
	l.require(err == nil, "escalate: %v", err)
	l.take("escalate", t, tr, err)
	return true
}

// TestReplacementThatHasNotFiredStrandsNobody: votes are not spent in the hope that a
// tier will put others in the place of those who are needed.
func TestReplacementThatHasNotFiredStrandsNobody(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := &life{chooser: rapidly{rt}, plain: true}
		if !l.open(true) || !slices.ContainsFunc(l.plan.Stages, func(s approvals.Stage) bool { return replacement(s) >= 0 }) {
			return
		}
		plain := l.ticket.Plan
		plain.Stages = slices.Clone(plain.Stages)
		for i, s := range plain.Stages {
			if first := replacement(s); first >= 0 {
				plain.Stages[i].Escalate = s.Escalate[:first]
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

// replacement is the first tier that takes the decision away, negative for none.
func replacement(s approvals.Stage) int {
	return slices.IndexFunc(s.Escalate, func(t approvals.Tier) bool { return t.Mode == approvals.ModeReplace })
}
