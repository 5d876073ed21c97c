package approvals

import "time"

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
	return t.refused(actor, tried, refuse(CodeNotApprover,
		"you are not known to Countersign, so you cannot decide on this request"), now)
}

// vote records the decision and what follows from it. Denials are judged first: at the
// same instant a no beats a yes.
func (c *change) vote(d Decision, dir Directory) {
	state := c.ticket.State
	after := c.ticket
	after.Decisions = append(append([]Decision{}, after.Decisions...), d)
	tally := after.Tally(d.Stage, dir)
	c.record(EventDecided, state, Data{Decision: &d, Tally: &tally})
	c.updateCard()
	switch {
	case tally.Refused():
		c.record(EventDenied, Denied, Data{
			Reason:  d.Comment,
			Problem: &Problem{Code: "denied", Detail: "denied by " + d.Person},
		})
	case tally.Met():
		c.advance(tally)
	}
}

// advance leaves a completed stage: into the next one, or out of the plan.
func (c *change) advance(tally Tally) {
	stage := c.ticket.Stage
	if stage+1 < len(c.ticket.Plan.Stages) {
		c.record(EventStageCompleted, Pending, Data{Stage: &stage, Tally: &tally})
		c.notify()
		c.arm()
		return
	}
	c.approve("quorum of the last stage")
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
			if dir.Members([]string{name})[person] {
				out = append(out, name)
			}
		}
	}
	return out
}

// useful reports whether one more approval by this person would be counted. A vote that
// could not be would be wasted, and its giver lost to later stages.
func (t Ticket) useful(person string, dir Directory) bool {
	before := t.Tally(t.Stage, dir).Have
	t.Decisions = append(append([]Decision{}, t.Decisions...), Decision{Person: person, Verdict: Approve, Stage: t.Stage})
	return t.Tally(t.Stage, dir).Have > before
}

// neededLater reports whether spending this person's one vote now would leave the rest
// of the plan without enough people, although it has enough as things stand.
func (t Ticket) neededLater(person string, dir Directory) bool {
	if t.Stage+1 >= len(t.Plan.Stages) {
		return false
	}
	if t.remaining(nil, dir) != nil {
		return false // out of reach anyway: do not blame this vote
	}
	return t.remaining([]string{person}, dir) != nil
}

// remaining is the shortfall of everything still to be met, when the votes given so far
// and those of more are spent on the current stage.
func (t Ticket) remaining(more []string, dir Directory) *missing {
	sets := t.Plan.Stages[t.Stage].reach()
	first := len(sets)
	for _, s := range t.Plan.Stages[t.Stage+1:] {
		sets = append(sets, s.reach()...)
	}
	a := newAssignment(sets, dir)
	now := newAssignment(sets[:first], dir)
	spent := t.self(dir)
	for _, d := range t.Decisions {
		if d.Stage == t.Stage && d.Verdict == Approve && !spent[d.Person] {
			now.place(d.Person)
		}
		spent[d.Person] = true
	}
	for _, p := range more {
		now.place(p)
		spent[p] = true
	}
	copy(a.taken, now.taken)
	a.pin(first)
	for _, p := range Names(a.everybody()) {
		if !spent[p] {
			a.place(p)
		}
	}
	if a.have() < a.needed() {
		return &missing{needed: a.needed(), have: a.have()}
	}
	return nil
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
