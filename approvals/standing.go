package approvals

import (
	"maps"
	"slices"
)

// standing is a directory as it counts for this ticket: nobody is there who was not there
// when they were asked, and nobody acts for another who did not then. What is in flight
// can only be tightened.
func (t Ticket) standing(dir Directory) Directory {
	if !t.Plan.frozen() {
		return dir
	}
	dir.frozen, dir.roster, dir.live, dir.delegates = true, t.Plan.Roster, t.Plan.Live, t.Plan.Delegates
	return dir
}

// Directory returns a directory as it counts for this ticket; see [Plan.Roster].
func (t Ticket) Directory(dir Directory) Directory { return t.standing(dir) }

// seat is a place in approver sets of the current stage: one's own, with principal "", or
// that of somebody who is away. sets are the names through which it is one.
type seat struct {
	principal string
	sets      []string
}

// seats lists the places from which a person can decide, their own first.
func (t Ticket) seats(person string, dir Directory) []seat {
	var out []seat
	dir = t.standing(dir)
	if !dir.away(person) {
		if sets := t.setsWith(person, dir); len(sets) > 0 {
			out = append(out, seat{"", sets})
		}
	}
	self := t.self(dir)
	for _, absent := range slices.Sorted(maps.Keys(dir.Away)) {
		if dir.delegate(absent) != person || self[absent] || t.spent(absent) {
			continue
		}
		if sets := t.setsWith(absent, dir); len(sets) > 0 {
			out = append(out, seat{absent, sets})
		}
	}
	return out
}

// choose picks the seat from which a vote counts, without taking away what can be
// completed. A no counts from any.
func (t Ticket) choose(person string, v Verdict, dir Directory) (seat, *Error) {
	seats := t.seats(person, dir)
	if len(seats) == 0 {
		return seat{}, t.unseated(person, dir)
	}
	if v == Deny {
		return seats[0], nil
	}
	why := refuse(CodeNotNeeded, "your approval is not needed: the sets you belong to have theirs; others are still missing")
	for _, s := range seats {
		vote := Decision{Person: person, For: s.principal, Verdict: Approve, Stage: t.Stage}
		switch {
		case !t.useful(vote, dir):
		case t.strands(vote, dir):
			why = refuse(CodeNeededLater, "your approval is the only one that can complete what comes later; "+
				"let somebody else approve this")
		default:
			return s, nil
		}
	}
	return seats[0], why
}

// setsWith lists the names of the current stage's sets that stand for a person.
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

// spent reports whether a person has no vote left in the current stage: they, or their
// delegate in their place, have voted where it counts.
func (t Ticket) spent(person string) bool {
	return slices.ContainsFunc(t.Decisions, func(d Decision) bool {
		return t.Plan.sameVote(d.Stage, t.Stage) && d.Verdict != GlassBroken && (d.Person == person || d.For == person)
	})
}

// sameVote reports whether a person has one vote for both stages: those of one round, or
// every stage alone where the rule says so.
func (p Plan) sameVote(a, b int) bool {
	if a < 0 || b < 0 || a >= len(p.Stages) || b >= len(p.Stages) {
		return false
	}
	return a == b || (p.Distinct == DistinctTicket && p.Stages[a].Round == p.Stages[b].Round)
}

// Eligibility says whether a person can approve the current stage now, and why not.
type Eligibility struct {
	Person string `json:"person"`
	Can    bool   `json:"can"`
	// For is in whose place they would, "" for their own.
	For string `json:"for,omitempty"`
	// Sets are the names through which they belong to the stage.
	Sets []string `json:"sets,omitempty"`
	// Code and Reason say why they cannot.
	Code   Code   `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Eligible judges everybody whom the approver sets of the current stage name, and those
// who act for them, in order of their names. Nothing while no stage is open.
func (t Ticket) Eligible(dir Directory) []Eligibility {
	if !t.State.Open() || t.Stage >= len(t.Plan.Stages) {
		return nil
	}
	named, all := make(map[string]bool), t.standing(dir)
	all.Inactive = nil // why they cannot is worth saying
	for _, set := range t.setsOf(t.Stage) {
		for person := range all.Members(set.From) {
			named[person] = true
			if to := t.standing(dir).delegate(person); to != "" {
				named[to] = true
			}
		}
	}
	var out []Eligibility
	for _, person := range Names(named) {
		out = append(out, t.eligible(person, dir))
	}
	return out
}

func (t Ticket) eligible(person string, dir Directory) Eligibility {
	place, why := t.mayDecide(Decision{Person: person, Verdict: Approve, Stage: t.Stage, Digest: t.Digest}, dir)
	if why != nil && place.sets == nil { // refused before it came to that
		place, _ = t.choose(person, Deny, dir)
	}
	out := Eligibility{Person: person, For: place.principal, Sets: place.sets}
	if why == nil {
		out.Can = true
		return out
	}
	out.Code, out.Reason = why.Code, why.Message
	return out
}
