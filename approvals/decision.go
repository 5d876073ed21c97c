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
	// GlassBroken is a yes that bypasses everybody else's; see [BreakGlass].
	GlassBroken Verdict = "break_glass"
)

// Verdicts lists every verdict.
func Verdicts() []Verdict { return []Verdict{Approve, Deny, GlassBroken} }

// Decision is one verdict of one person on one stage, bound to the request digest.
type Decision struct {
	Person string `json:"person"`
	// For is in whose place they decided, who was away; "" for their own.
	For     string    `json:"for,omitempty"`
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
	// Channel is the Slack conversation it was made in, "" for none. Rendered is the hex
	// SHA-256 of what the person was shown, "" where that was nothing of ours.
	Channel  string `json:"channel,omitempty"`
	Rendered string `json:"rendered,omitempty"`
}

// principal is whose place in an approver set the vote takes.
func (d Decision) principal() string {
	if d.For != "" {
		return d.For
	}
	return d.Person
}

// Decide records a verdict. d.Stage and d.Digest say what the person was looking at.
//
// Errors: CodeExpired when the deadline has passed (the ticket expires with it),
// CodeAlreadyFinal or CodeConflict when the ticket has moved on, CodeStale for another
// stage, CodeDigestMismatch, CodeSelfApproval, CodeNotApprover, CodeAway,
// CodeAlreadyDecided, CodeNotNeeded, CodeNeededLater, CodeCommentRequired, CodeInvalid.
// Every one of them but the last two is recorded.
func (t Ticket) Decide(actor Actor, d Decision, dir Directory, now time.Time) (Transition, error) {
	if !slices.Contains(Verdicts(), d.Verdict) {
		return Transition{}, refuse(CodeInvalid, "a decision is approve, deny or break_glass, not %q", d.Verdict)
	}
	dir, d.For = dir.At(now), ""
	for _, f := range []struct {
		what, text string
		limit      int
	}{
		{"the comment", d.Comment, MaxComment},
		{"the channel", d.Channel, MaxName},
		{"what was shown", d.Rendered, MaxName},
	} {
		if err := checkText(f.what, f.text, f.limit); err != nil {
			return Transition{}, err
		}
	}
	if t.State.Open() && !now.Before(t.ExpiresAt) {
		return t.expireLate(now)
	}
	place, why := t.mayDecide(d, dir)
	if why != nil {
		return t.refused(actor, string(d.Verdict), why, now)
	}
	if strings.TrimSpace(d.Comment) == "" && (d.Verdict == GlassBroken || t.Plan.Stages[t.Stage].Comment.demands(d.Verdict)) {
		return Transition{}, refuse(CodeCommentRequired, "this rule asks for a comment with that decision")
	}
	c := t.change(actor, now)
	d.At, d.Via, d.Ref = c.now, actor.Via, actor.Ref
	if d.Verdict == GlassBroken {
		c.breakGlass(d, dir)
		return c.done(), nil
	}
	d.For, d.Groups = place.principal, place.sets
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

// Refuse records that somebody was turned away for a reason that whoever calls the verbs
// judges: who they are at their door, or what they were looking at. It returns why as its
// error.
func (t Ticket) Refuse(actor Actor, tried string, why *Error, now time.Time) (Transition, error) {
	if err := checkText("what was tried", tried, MaxMetadataKey); err != nil {
		return Transition{}, err
	}
	return t.refused(actor, tried, refuse(why.Code, "%s", clean(why.Message)), now)
}

// vote records the decision and what follows from it.
func (c *change) vote(d Decision, dir Directory) {
	after := c.ticket
	after.Decisions = append(slices.Clone(after.Decisions), d)
	tally := after.Tally(d.Stage, dir)
	c.record(EventDecided, c.ticket.State, Data{Decision: &d, Tally: &tally})
	c.updateCard()
	c.settle(dir)
	c.reassess(dir) // a no has used up a vote; a stage that begins may lack its people
}

// settle draws the consequences of the votes as they count now. Denials are judged first:
// at the same instant a no beats a yes. It goes on through stages that were met before the
// ticket was reopened, whose people have voted already and could not be asked again.
func (c *change) settle(dir Directory) {
	for moved := false; c.ticket.State.Open(); moved = true {
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
			return
		case stage+1 < len(c.ticket.Plan.Stages):
			c.record(EventStageCompleted, Pending, Data{Stage: &stage, Tally: &tally})
		default:
			c.approve("quorum of the last stage")
		}
	}
}

// deny ends the ticket in the name of everybody whose denial counts.
func (c *change) deny(stage int, dir Directory) {
	var names []string
	var reason string
	self := c.ticket.self(dir)
	for _, d := range c.ticket.Decisions {
		if d.Stage == stage && d.Verdict == Deny && !self[d.Person] && !self[d.For] {
			names, reason = append(names, d.Person), d.Comment
		}
	}
	c.record(EventDenied, Denied, Data{
		Reason:  reason,
		Problem: &Problem{Code: "denied", Detail: "denied by " + strings.Join(names, ", ")},
	})
}

func (c *change) approve(reason string) {
	by := later(c.now, c.ticket.NotBefore).Add(c.ticket.Plan.ExecuteWithin)
	c.record(EventApproved, Approved, Data{ExecuteBy: &by, Reason: reason})
	if !c.ticket.held() {
		c.then(Execute{TicketID: c.ticket.ID})
	}
	c.arm()
}

// mayDecide says why a verdict is not taken, or from which seat it is given.
func (t Ticket) mayDecide(d Decision, dir Directory) (seat, *Error) {
	switch {
	case t.State.Final():
		return seat{}, refuse(CodeAlreadyFinal, "this request is already closed: %s", t.State)
	case !t.State.Open():
		return seat{}, refuse(CodeConflict, "this request is already decided: %s", t.State)
	case d.Digest != t.Digest:
		return seat{}, refuse(CodeDigestMismatch, "what you decided on is not what this request holds")
	case dir.Inactive[d.Person] != "":
		return seat{}, inactive(d.Person, dir)
	case d.Verdict == GlassBroken:
		return seat{}, t.refuseBypass(d.Person, dir)
	case t.spent(d.Person):
		return seat{}, refuse(CodeAlreadyDecided, "you have already decided on this request; one person counts once")
	case d.Stage != t.Stage:
		return seat{}, refuse(CodeStale, "the request is in stage %d of %d now, and only that can be decided on", t.Stage+1, len(t.Plan.Stages))
	case t.self(dir)[d.Person]:
		return seat{}, refuse(CodeSelfApproval, "you count as the requester of this call and so cannot decide on it")
	}
	return t.choose(d.Person, d.Verdict, dir)
}

// inactive says why somebody counts as nobody.
func inactive(person string, dir Directory) *Error {
	return refuse(CodeNotApprover, "you count as nobody at the moment, and so cannot decide: %s", clean(dir.Inactive[person]))
}

// unseated says why a person has no place in the current stage.
func (t Ticket) unseated(person string, dir Directory) *Error {
	standing := t.standing(dir)
	switch {
	case len(t.setsWith(person, standing)) > 0:
		return refuse(CodeAway, "you are marked as away until %s, and do not decide until then", standing.Away[person].Until.UTC().Format(time.RFC3339))
	case len(t.setsWith(person, dir)) > 0:
		return refuse(CodeNotApprover, "you became an approver after this was asked; you can decide on what is asked from now on")
	}
	return refuse(CodeNotApprover, "you are not an approver of this stage")
}

// useful reports whether one more approval would be counted. A vote that could not be
// would be wasted, and its giver lost to later stages. Where membership has changed so
// that the stage is met already, any approver may say so.
func (t Ticket) useful(vote Decision, dir Directory) bool {
	before := t.Tally(t.Stage, dir)
	t.Decisions = append(slices.Clone(t.Decisions), vote)
	return before.Met() || t.Tally(t.Stage, dir).Have > before.Have
}

// strands reports whether spending this person's one vote so would leave the rest of the
// plan without enough people, although it has enough as things stand. What can be
// completed without taking the decision away from anybody is to stay so. In the last stage
// that matters only where people are away, who need somebody else's vote.
func (t Ticket) strands(vote Decision, dir Directory) bool {
	if t.Stage+1 >= len(t.Plan.Stages) && len(dir.Away) == 0 {
		return false
	}
	r := t.ahead(dir.until(t.ExpiresAt.Sub(dir.moment)), false)
	after := r
	after.votes = append(slices.Clone(r.votes), vote)
	for _, tries := range []int{1, maxOutlooks} {
		if r.together(tries) == nil {
			return after.together(tries) != nil
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
