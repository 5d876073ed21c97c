package approvals

import "slices"

// breakGlass approves in the name of one person, past every stage, and says so loudly.
func (c *change) breakGlass(d Decision, dir Directory) {
	d.Stage, d.Groups = c.ticket.Stage, nil
	for _, name := range c.ticket.Plan.BreakGlass.From {
		if c.ticket.standing(dir).Members([]string{name})[d.Person] {
			d.Groups = append(d.Groups, name)
		}
	}
	c.record(EventGlassBroken, c.ticket.State, Data{Decision: &d})
	c.notify()
	c.updateCard()
	c.approve("glass broken by " + d.Person)
}

// refuseBypass says why a person may not bypass the stages, nil when they may. Somebody
// who has said no to the call cannot, and nobody of the requester's own people.
func (t Ticket) refuseBypass(person string, dir Directory) *Error {
	switch {
	case t.self(dir)[person]:
		return refuse(CodeSelfApproval, "you count as the requester of this call and so cannot decide on it")
	case !t.mayBypass(person, t.Plan, dir):
		return refuse(CodeNotApprover, "you may not break the glass for this request")
	case t.denied(person):
		return refuse(CodeAlreadyDecided, "you have already denied this request")
	}
	return nil
}

func (t Ticket) denied(person string) bool {
	for _, d := range t.Decisions {
		if d.Person == person && d.Verdict == Deny {
			return true
		}
	}
	return false
}

// mayBypass reports whether a plan lets a person bypass its stages.
func (t Ticket) mayBypass(person string, plan Plan, dir Directory) bool {
	if plan.BreakGlass == nil {
		return false
	}
	dir = t.standing(dir)
	return dir.Members(plan.BreakGlass.From)[person] && !t.self(dir)[person] && !plan.excluded()[person]
}

// bypass returns the decision by which the stages of an approved ticket were bypassed.
// It stands no longer than the approval that came of it, and nobody decides after it.
func (t Ticket) bypass() (Decision, bool) {
	if len(t.Decisions) == 0 || t.ApprovedAt.IsZero() {
		return Decision{}, false
	}
	last := t.Decisions[len(t.Decisions)-1]
	return last, last.Verdict == GlassBroken && last.At.Equal(t.ApprovedAt)
}

// narrower is a right to bypass that both of two policies give; nil when they have no
// name in common.
func narrower(a, b *BreakGlass) *BreakGlass {
	if a == nil || b == nil {
		return nil
	}
	var both []string
	for _, name := range b.From {
		if slices.Contains(a.From, name) {
			both = append(both, name)
		}
	}
	if both == nil {
		return nil
	}
	return &BreakGlass{From: both, Announce: b.Announce}
}
