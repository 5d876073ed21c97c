package approvals

import "time"

// Reassess looks at an open ticket after people have come or gone: a stage that the votes
// given meet now is left, as nobody may be there to vote once more; where those who are
// asked can no longer complete it, the next tier fires at once; and where nobody can at
// all, that is recorded and its caller told. It changes nothing otherwise.
// CodeConflict when the ticket is not open; past its deadline it expires.
func (t Ticket) Reassess(dir Directory, now time.Time) (Transition, error) {
	if !t.State.Open() {
		return Transition{}, refuse(CodeConflict, "the ticket is %s", t.State)
	}
	if !now.Before(t.ExpiresAt) {
		return t.Expire(now)
	}
	c := t.change(timer, now)
	dir = dir.At(c.now)
	c.settle(dir)
	c.reassess(dir)
	return c.done(), nil
}

// reassess lets the tiers of an open ticket fire until those who are asked can complete
// its stage, and notes whether that helped.
func (c *change) reassess(dir Directory) {
	for c.ticket.State.Open() {
		missing := c.ticket.ahead(dir, true).shortfall(1)
		if missing == nil || c.ticket.tiersOf(c.ticket.Stage) >= len(c.ticket.Plan.Stages[c.ticket.Stage].Escalate) {
			c.stall(dir)
			return
		}
		c.escalate(dir, "out of reach: "+missing.String()+" by those who are asked")
		c.settle(dir)
		c.arm()
	}
}

// stall notes whether what is left of the plan can be completed by anybody.
func (c *change) stall(dir Directory) {
	t := c.ticket
	missing := t.ahead(dir.until(t.ExpiresAt.Sub(c.now)), false).shortfall(maxOutlooks)
	switch {
	case missing != nil && t.Stalled == nil:
		c.record(EventStalled, t.State, Data{Stage: &t.Stage, Reason: missing.String() + " by the people who may still decide"})
		c.notify()
		c.updateCard()
	case missing == nil && t.Stalled != nil:
		c.record(EventUnstalled, t.State, Data{Stage: &t.Stage})
		c.updateCard()
	}
}

// ahead is what is left of the plan: all of it, or the current stage as it is asked now.
func (t Ticket) ahead(dir Directory, alone bool) reach {
	return reach{
		plan: t.Plan, stage: t.Stage, tiers: t.Tiers, votes: t.Decisions, self: t.self(dir), dir: t.standing(dir), alone: alone,
	}
}
