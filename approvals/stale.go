package approvals

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxReopenings is how often a ticket goes back to people because an approval no longer
// stands. Processes with different configurations could otherwise pass it to and fro.
const MaxReopenings = 10

// MaxRounds is how often a policy that became stricter may send a ticket back to people.
const MaxRounds = 5

// fallen returns the first stage whose quorum no longer stands. A bypass stands in for
// all of them, as long as its person may bypass.
func (t Ticket) fallen(dir Directory) (int, bool) {
	if d, ok := t.bypass(); ok && t.mayBypass(d.Person, t.Plan, dir) {
		return 0, false
	}
	for i := range t.Plan.Stages {
		if !t.Tally(i, dir).stands() {
			return i, true
		}
	}
	return 0, false
}

// lapsed ends or reopens a ticket whose approvals do not allow a call now, be it the
// first or one that is made again: every byte that is sent needs a yes that stands, under
// the policy of then and under that of today.
func (t Ticket) lapsed(actor Actor, dir Directory, today Plan, now time.Time) (Transition, error) {
	stage, fallen := t.fallen(dir)
	more := t.demandsMore(today, dir)
	switch late := t.late(today, now); {
	case late && t.State == Approved:
		return t.stale(now), refuse(CodeExpired, "this request has expired")
	case late:
		return t.giveUp(actor, "approval_stale", "an attempt got no answer, and the time to make another is over", now),
			refuse(CodeExpired, "the time to make the call again is over")
	case fallen && t.State == Approved:
		return t.withdrawn(actor, stage, dir, now), refuse(CodeConflict, "stage %d is no longer met", stage+1)
	case fallen:
		return t.giveUp(actor, "approval_withdrawn", "an attempt got no answer, and the approvals for another no longer stand", now),
			refuse(CodeConflict, "stage %d is no longer met", stage+1)
	case more != "" && t.State == Approved:
		return t.tighten(actor, today, more, dir, now), refuse(CodeStalePolicy, "%s", more)
	case more != "":
		return t.giveUp(actor, string(CodeStalePolicy), "an attempt got no answer, and today's policy does not allow another: "+more, now),
			refuse(CodeStalePolicy, "%s", more)
	case !t.CancelRequestedAt.IsZero():
		return t.giveUp(actor, "cancelled", "an attempt got no answer, and no other is made after a cancel", now),
			refuse(CodeConflict, "the call was cancelled while in doubt")
	}
	return Transition{}, nil
}

// late reports whether the time to make the call is over, by the plan or by today's, or the
// approval came later than today's would have waited.
func (t Ticket) late(today Plan, now time.Time) bool {
	from := later(t.ApprovedAt, t.NotBefore)
	if today.Action == ActionApprove && today.ExpiresIn > 0 && t.ApprovedAt.After(t.CreatedAt.Add(today.ExpiresIn)) {
		return true
	}
	return !now.Before(t.ExecuteBy) || (today.ExecuteWithin > 0 && !now.Before(from.Add(today.ExecuteWithin)))
}

// stale closes a ticket whose approval was not used in time.
func (t Ticket) stale(now time.Time) Transition {
	c := t.change(timer, now)
	c.record(EventExpired, Expired, Data{Problem: &Problem{Code: "approval_stale", Detail: "approved, but not begun in time"}})
	c.updateCard()
	return c.done()
}

// demandsMore says what today's policy demands of the call that the ticket has not met. "" when
// it has met all of it.
func (t Ticket) demandsMore(today Plan, dir Directory) string {
	switch {
	case today.Action == ActionAllow:
		return ""
	case today.Action != ActionApprove || len(today.Stages) == 0: // an approval that nobody has to give is none
		return "today's policy denies this call: " + clean(today.Reason)
	}
	if d, ok := t.bypass(); ok { // which may be in a round whose digest is today's
		if !t.mayBypass(d.Person, today, dir) && !t.pooled(today, dir) {
			return "today's policy does not let " + d.Person + " bypass its stages"
		}
		return ""
	}
	if t.meets(today, dir) || t.pooled(today, dir) {
		return ""
	}
	return fmt.Sprintf("the policy has changed: rule %q now demands more than was approved", today.Rule)
}

// meets reports whether the stages asked last are those of today, and stand without those
// whom today's plan excludes.
func (t Ticket) meets(today Plan, dir Directory) bool {
	first := 0
	for first < len(t.Plan.Stages) && t.Plan.Stages[first].Round != t.Plan.Round {
		first++
	}
	asked := t.Plan.Stages[first:]
	if len(asked) == 0 || !slices.EqualFunc(asked, today.Stages, Stage.asksTheSame) ||
		(today.Distinct == DistinctTicket && t.Plan.Distinct != DistinctTicket) {
		return false
	}
	self := today.excluded(Names(t.self(dir)))
	for i := range asked {
		if !t.tally(first+i, dir, self).stands() {
			return false
		}
	}
	return true
}

// asksTheSame compares what two stages demand, not when and where they ask.
func (s Stage) asksTheSame(other Stage) bool {
	return sameSets(s.Need, other.Need) && max(s.Denials, 1) == max(other.Denials, 1) && s.Comment == other.Comment &&
		slices.EqualFunc(s.Escalate, other.Escalate, func(a, b Tier) bool {
			return a.After == b.After && a.Mode == b.Mode && a.OffHours == b.OffHours && slices.Equal(a.To, b.To) && sameSets(a.Need, b.Need)
		})
}

func sameSets(a, b []ApproverSet) bool {
	return slices.EqualFunc(a, b, func(a, b ApproverSet) bool { return a.Approvals == b.Approvals && slices.Equal(a.From, b.From) })
}

// pooled reports whether the approvals given so far, in whatever stage, would meet today's
// plan as well. One person counts once in all of it, whatever today's plan says: a yes that
// was given once was not given to two of its stages.
func (t Ticket) pooled(today Plan, dir Directory) bool {
	self := today.excluded(Names(t.self(dir)))
	dir = t.standing(dir)
	a := &assignment{}
	for _, s := range today.Stages {
		a.add(s.Need, dir)
	}
	t.placeAll(a, today, self, dir)
	return len(a.room) > 0 && a.have() >= a.needed() && t.Denied() == 0
}

// placeAll seats everybody who approved. A yes without the comment that today's plan asks
// for is none.
func (t Ticket) placeAll(a *assignment, today Plan, self map[string]bool, dir Directory) {
	comment := slices.ContainsFunc(today.Stages, func(s Stage) bool { return s.Comment.demands(Approve) })
	seated := make(map[string]bool)
	for _, d := range t.Decisions {
		if d.Verdict != Approve || self[d.Person] || self[d.For] || seated[d.Person] || seated[d.principal()] || (comment && strings.TrimSpace(d.Comment) == "") {
			continue
		}
		seated[d.Person], seated[d.principal()] = true, true
		a.speak(d, dir)
		a.place(d.Person)
	}
}

// Denied counts the people who said no, in whatever stage.
func (t Ticket) Denied() int {
	no := make(map[string]bool)
	for _, d := range t.Decisions {
		if d.Verdict == Deny {
			no[d.Person] = true
		}
	}
	return len(no)
}

// withdrawn reopens a ticket at a stage that is no longer met, or ends it, as its rule
// says. Past the deadline nobody could be asked any more.
func (t Ticket) withdrawn(actor Actor, stage int, dir Directory, now time.Time) Transition {
	reason := "an approval no longer stands" + t.missed(stage, dir)
	if t.Plan.OnStale == StaleEnd || t.Plan.Reopened >= MaxReopenings || !now.Before(t.ExpiresAt) {
		return t.failed(actor, "approval_withdrawn", reason+"; nothing was sent", now)
	}
	c := t.change(actor, now)
	c.record(EventReopened, Pending, Data{Stage: &stage, Reason: reason})
	c.notify()
	c.updateCard()
	c.reassess(dir.At(c.now))
	c.arm()
	return c.done()
}

// missed names those whose yes does not count any more.
func (t Ticket) missed(stage int, dir Directory) string {
	counted := make(map[string]bool)
	for _, set := range t.Tally(stage, dir).Sets {
		for _, person := range set.By {
			counted[person] = true
		}
	}
	var gone []string
	for _, d := range t.Decisions {
		if d.Stage == stage && d.Verdict != Deny && !counted[d.Person] {
			gone = append(gone, d.Person)
		}
	}
	if len(gone) == 0 {
		return ""
	}
	return ": that of " + strings.Join(gone, ", ")
}

// tighten sends a ticket back to people with the stages of today's policy, or ends it.
func (t Ticket) tighten(actor Actor, today Plan, why string, dir Directory, now time.Time) Transition {
	dir = dir.At(now)
	amendment, ok := t.amendment(today, dir)
	if !ok {
		why += ", and those who may decide could not give it, or were asked too often"
	}
	if !ok || t.Plan.OnStale == StaleEnd || today.OnStale == StaleEnd || !now.Before(t.ExpiresAt) {
		return t.failed(actor, string(CodeStalePolicy), why+"; nothing was sent", now)
	}
	c := t.change(actor, now)
	next := t.amended(amendment)
	next.ApprovedAt = time.Time{} // a bypass that is not enough stands for nothing
	first, _ := next.fallen(dir)
	c.record(EventTightened, Pending, Data{Stage: &first, Amendment: &amendment, Reason: why})
	c.notify()
	c.updateCard()
	c.reassess(dir)
	c.arm()
	return c.done()
}

// refused reports whether so many denials end a ticket in some stage of a plan.
func (p Plan) refused(denials int) bool {
	return slices.ContainsFunc(p.Stages, func(s Stage) bool { return denials >= max(s.Denials, 1) })
}

// amendment makes a further round of today's stages. False when they cannot be met by
// those who were asked before and are still there, or there have been too many rounds.
func (t Ticket) amendment(today Plan, dir Directory) (Amendment, bool) {
	if today.Action != ActionApprove || t.Plan.Round >= MaxRounds || today.refused(t.Denied()) {
		return Amendment{}, false
	}
	merged := t.Plan
	merged.Excluded = Names(today.excluded(Names(t.self(dir))))
	merged.Live = t.Plan.alive(dir, today.Asks())
	merged.Roster, merged.Delegates = t.Plan.enrol(dir, today.asked(), merged.Live)
	stages := slices.Clone(today.Stages)
	for i := range stages {
		stages[i].Round = t.Plan.Round + 1
	}
	distinct := t.Plan.Distinct
	if today.Distinct == DistinctTicket {
		distinct = DistinctTicket
	}
	asked := Plan{Rule: today.Rule, Action: ActionApprove, Stages: stages, Excluded: merged.Excluded, ExpiresIn: t.ExpiresAt.Sub(dir.moment), Distinct: distinct}
	if asked.Check((Ticket{Plan: merged}).standing(dir)) != nil {
		return Amendment{}, false
	}
	redact := slices.Clone(t.Plan.Redact)
	for _, r := range today.Redact {
		if !slices.Contains(redact, r) {
			redact = append(redact, r)
		}
	}
	return Amendment{
		Round: t.Plan.Round + 1, Rule: today.Rule, PolicyDigest: today.PolicyDigest, Stages: stages,
		Roster: merged.Roster, Delegates: merged.Delegates, Excluded: merged.Excluded, Redact: redact,
		Distinct: distinct, BreakGlass: narrower(t.Plan.BreakGlass, today.BreakGlass),
		Live: merged.Live, Confirm: t.Plan.Confirm.Stricter(today.Confirm),
	}, true
}

// failed ends an approved ticket with nothing sent.
func (t Ticket) failed(actor Actor, code, detail string, now time.Time) Transition {
	c := t.change(actor, now)
	c.record(EventFailed, Failed, Data{Epoch: t.Epoch, Problem: &Problem{Code: code, Detail: clean(detail)}})
	c.updateCard()
	return c.done()
}

// giveUp leaves a call in doubt that may not be made again.
func (t Ticket) giveUp(actor Actor, code, detail string, now time.Time) Transition {
	c := t.change(actor, now)
	c.record(EventOutcomeUnknown, OutcomeUnknown, Data{Epoch: t.Epoch, Problem: &Problem{Code: code, Detail: clean(detail)}})
	c.updateCard()
	return c.done()
}
