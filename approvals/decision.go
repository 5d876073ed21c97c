package approvals

import (
	"slices"
	"strings"
	"time"
)

// Verdict is what an approver says.
type Verdict string

const (
	// Approve is a yes.
	Approve Verdict = "approve"
	// Deny is a no.
	Deny Verdict = "deny"
)

// Decision is one verdict of one person on one stage, bound to the request digest.
type Decision struct {
	Person  string    `json:"person"`
	Verdict Verdict   `json:"verdict"`
	Stage   int       `json:"stage"`
	Comment string    `json:"comment,omitempty"`
	Digest  string    `json:"digest"`
	At      time.Time `json:"at"`
	// Groups are the sets of the stage the person belonged to at that moment.
	Groups []string `json:"groups,omitempty"`
	// Via and Ref repeat the actor's door and identity there, with MessageTS when the
	// door was a Slack message.
	Via       string `json:"via,omitempty"`
	Ref       string `json:"ref,omitempty"`
	MessageTS string `json:"message_ts,omitempty"`
}

// Decide records a verdict. d.Stage and d.Digest say what the person was looking at.
//
// Errors: CodeExpired when the deadline has passed (the ticket expires with it),
// CodeAlreadyFinal or CodeConflict when the ticket has moved on, CodeStale for an earlier
// stage, CodeDigestMismatch, CodeSelfApproval, CodeNotApprover, CodeAlreadyDecided,
// CodeNotNeeded, CodeNeededLater, CodeInvalid. Every one of them but CodeInvalid is recorded.
func (t Ticket) Decide(actor Actor, d Decision, dir Directory, now time.Time) (Transition, error) {
	if d.Verdict != Approve && d.Verdict != Deny {
		return Transition{}, refuse(CodeInvalid, "a decision is approve or deny, not %q", d.Verdict)
	}
	if err := checkText("the comment", d.Comment, MaxComment); err != nil {
		return Transition{}, err
	}
	if t.State.Open() && !now.Before(t.ExpiresAt) {
		return t.expireLate(now)
	}
	if why := t.mayDecide(d, dir); why != nil {
		return t.refused(actor, string(d.Verdict), why, now)
	}
	c := t.change(actor, now)
	d.At, d.Via, d.Ref = c.now, actor.Via, actor.Ref
	d.Groups = t.setsWith(d.Person, dir)
	c.vote(d, dir)
	return c.done(), nil
}

// Stranger records that somebody whom the configuration does not know tried to decide.
func (t Ticket) Stranger(actor Actor, tried string, now time.Time) (Transition, error) {
	if err := checkText("what was tried", tried, MaxMetadataKey); err != nil {
		return Transition{}, err
	}
	return t.refused(actor, tried, refuse(CodeNotApprover,
		"you are not known to Countersign, so you cannot decide on this request"), now)
}

// vote records the decision and what follows from it.
func (c *change) vote(d Decision, dir Directory) {
	after := c.ticket
	after.Decisions = append(slices.Clone(after.Decisions), d)
	tally := after.Tally(d.Stage, dir)
	c.record(EventDecided, c.ticket.State, Data{Decision: &d, Tally: &tally})
	c.updateCard()
	c.settle(dir)
}

// settle draws the consequences of the votes as they count now, and reports whether
// there were any. Denials are judged first: at the same instant a no beats a yes. It
// goes on through stages that were met before the ticket was reopened, whose people have
// voted already and could not be asked again.
func (c *change) settle(dir Directory) (moved bool) {
	for c.ticket.State.Open() {
		stage := c.ticket.Stage
		tally := c.ticket.Tally(stage, dir)
		switch {
		case tally.Refused():
			c.deny(stage, dir)
		case !tally.Met():
			if moved {
				c.notify()
				c.arm()
			}
			return moved
		case stage+1 < len(c.ticket.Plan.Stages):
			c.record(EventStageCompleted, Pending, Data{Stage: &stage, Tally: &tally})
		default:
			c.approve("quorum of the last stage")
		}
		moved = true
	}
	return moved
}

// deny ends the ticket in the name of everybody whose denial counts.
func (c *change) deny(stage int, dir Directory) {
	var names []string
	var reason string
	self := c.ticket.self(dir)
	for _, d := range c.ticket.Decisions {
		if d.Stage == stage && d.Verdict == Deny && !self[d.Person] {
			names, reason = append(names, d.Person), d.Comment
		}
	}
	c.record(EventDenied, Denied, Data{
		Reason:  reason,
		Problem: &Problem{Code: "denied", Detail: "denied by " + strings.Join(names, ", ")},
	})
}

func (c *change) approve(reason string) {
	by := c.now.Add(c.ticket.Plan.ExecuteWithin)
	c.record(EventApproved, Approved, Data{ExecuteBy: &by, Reason: reason})
	c.then(Execute{TicketID: c.ticket.ID})
	c.arm()
}

func (t Ticket) mayDecide(d Decision, dir Directory) *Error {
	switch {
	case t.State.Final():
		return refuse(CodeAlreadyFinal, "this request is already closed: %s", t.State)
	case !t.State.Open():
		return refuse(CodeConflict, "this request is already decided: %s", t.State)
	case d.Digest != t.Digest:
		return refuse(CodeDigestMismatch, "what you decided on is not what this request holds")
	case t.decided(d.Person):
		return refuse(CodeAlreadyDecided, "you have already decided on this request; one person counts once")
	case d.Stage != t.Stage:
		return refuse(CodeStale, "that stage is over; the request is now in stage %d of %d", t.Stage+1, len(t.Plan.Stages))
	case t.self(dir)[d.Person]:
		return refuse(CodeSelfApproval, "you count as the requester of this call and so cannot decide on it")
	case len(t.setsWith(d.Person, dir)) == 0:
		return refuse(CodeNotApprover, "you are not an approver of this stage")
	case d.Verdict == Approve && !t.useful(d.Person, dir):
		return refuse(CodeNotNeeded, "your approval is not needed: the sets you belong to have theirs; others are still missing")
	case d.Verdict == Approve && t.neededLater(d.Person, dir):
		return refuse(CodeNeededLater, "your approval is the only one that can complete a later stage; "+
			"let somebody else approve this one")
	}
	return nil
}

func (t Ticket) decided(person string) bool {
	for _, d := range t.Decisions {
		if d.Person == person {
			return true
		}
	}
	return false
}

// setsWith lists the From names of the current stage's sets through which a person is
// eligible.
func (t Ticket) setsWith(person string, dir Directory) []string {
	var out []string
	for _, set := range t.setsOf(t.Stage) {
		for _, name := range set.From {
			if !slices.Contains(out, name) && dir.Members([]string{name})[person] {
				out = append(out, name)
			}
		}
	}
	return out
}

// useful reports whether one more approval by this person would be counted. A vote that
// could not be would be wasted, and its giver lost to later stages. Where membership has
// changed so that the stage is met already, any approver may say so.
func (t Ticket) useful(person string, dir Directory) bool {
	before := t.Tally(t.Stage, dir)
	t.Decisions = append(slices.Clone(t.Decisions), Decision{Person: person, Verdict: Approve, Stage: t.Stage})
	return before.Met() || t.Tally(t.Stage, dir).Have > before.Have
}

// neededLater reports whether spending this person's one vote now would leave the rest
// of the plan without enough people, although it has enough as things stand. What can be
// completed without taking the decision away from anybody is to stay so.
func (t Ticket) neededLater(person string, dir Directory) bool {
	if t.Stage+1 >= len(t.Plan.Stages) {
		return false
	}
	r := reach{plan: t.Plan, stage: t.Stage, tiers: t.Tiers, votes: t.Decisions, self: t.self(dir), dir: dir}
	after := r
	after.votes = append(slices.Clone(r.votes), Decision{Person: person, Verdict: Approve, Stage: t.Stage})
	for _, tries := range []int{1, maxOutlooks} {
		if r.shortfall(tries) == nil {
			return after.shortfall(tries) != nil
		}
	}
	return false // out of reach anyway: do not blame this vote
}

// expireLate closes a ticket whose deadline passed before its timer came, and tells the
// person so.
func (t Ticket) expireLate(now time.Time) (Transition, error) {
	tr, err := t.Expire(now)
	if err != nil {
		return tr, err
	}
	return tr, refuse(CodeExpired, "this request has expired")
}
