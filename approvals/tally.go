package approvals

import "fmt"

// Tally is how far a stage has come.
type Tally struct {
	// Needed and Have count approvals over all sets of the stage.
	Needed int `json:"needed"`
	Have   int `json:"have"`
	// Sets is the same per approver set, after the assignment that wastes no vote.
	Sets []SetTally `json:"sets"`
	// Denials counts people who denied, DenialsNeeded how many end the ticket.
	Denials       int `json:"denials"`
	DenialsNeeded int `json:"denials_needed"`
}

// SetTally is the progress of one approver set.
type SetTally struct {
	From      []string `json:"from"`
	Approvals int      `json:"approvals"`
	// By are the people whose approval is counted here.
	By []string `json:"by,omitempty"`
}

// Met reports whether every set of the stage has its approvals: at least as many,
// never exactly as many. A tally that needs nothing, such as the zero Tally, is not met.
func (t Tally) Met() bool { return t.Needed > 0 && t.Have >= t.Needed }

// Refused reports whether enough people denied. The zero Tally is not refused.
func (t Tally) Refused() bool { return t.DenialsNeeded > 0 && t.Denials >= t.DenialsNeeded }

// stands reports whether the stage lets the call through: a no beats a yes.
func (t Tally) stands() bool { return t.Met() && !t.Refused() }

// assignment matches people to the places of approver sets: a bipartite matching found
// by augmenting paths (Kuhn), so that a person who fits several sets is counted where
// it helps most and nobody's vote is wasted.
type assignment struct {
	fits  []map[string]bool // per set: who may take a place there
	room  []int             // per set: number of places
	taken [][]string        // per set: who holds a place
}

// add adds the places of approver sets.
func (a *assignment) add(sets []ApproverSet, dir Directory) {
	for _, set := range sets {
		a.fits = append(a.fits, dir.Members(set.From))
		a.room = append(a.room, set.Approvals)
		a.taken = append(a.taken, nil)
	}
}

// speak lets the giver of a vote take the places of the one they gave it for, as long as
// both are there.
func (a *assignment) speak(d Decision, dir Directory) {
	if d.For == "" {
		return
	}
	for i := range a.fits {
		a.fits[i][d.Person] = dir.counts(d.Person) && dir.acts(d.Person, d.For) && a.fits[i][d.For]
	}
}

// place gives a person one place if any arrangement has room for them, moving others
// when that makes room.
func (a *assignment) place(person string) { a.try(person, make([]bool, len(a.fits))) }

func (a *assignment) try(person string, visited []bool) bool {
	for i := range a.fits {
		if visited[i] || !a.fits[i][person] {
			continue
		}
		visited[i] = true
		if len(a.taken[i]) < a.room[i] {
			a.taken[i] = append(a.taken[i], person)
			return true
		}
		for j, holder := range a.taken[i] {
			if a.try(holder, visited) {
				a.taken[i][j] = person
				return true
			}
		}
	}
	return false
}

func (a *assignment) have() (n int) {
	for _, t := range a.taken {
		n += len(t)
	}
	return n
}

func (a *assignment) needed() (n int) {
	for _, r := range a.room {
		n += r
	}
	return n
}

func (a *assignment) everybody() map[string]bool {
	out := make(map[string]bool)
	for _, fits := range a.fits {
		for name := range fits {
			out[name] = true
		}
	}
	return out
}

type missing struct{ needed, have int }

func (m *missing) String() string {
	return fmt.Sprintf("of %d needed approvals only %d can be given", m.needed, m.have)
}

// fill places as many people as fit and reports what is still missing. Nil means that
// every place is filled.
func (a *assignment) fill() *missing {
	for _, name := range Names(a.everybody()) {
		a.place(name)
	}
	if a.have() < a.needed() {
		return &missing{needed: a.needed(), have: a.have()}
	}
	return nil
}

// Tally counts the decisions on a stage by the people in dir as they are now: the yes of who
// has left a group since does not count, nor anything of who has become an owner of the
// caller. A no stays one, whoever leaves.
func (t Ticket) Tally(stage int, dir Directory) Tally { return t.tally(stage, dir, t.self(dir)) }

// tally is Tally with other people who count as the requester.
func (t Ticket) tally(stage int, dir Directory, self map[string]bool) Tally {
	if stage < 0 || stage >= len(t.Plan.Stages) {
		return Tally{}
	}
	s := t.Plan.Stages[stage]
	a := &assignment{}
	a.add(t.setsOf(stage), t.standing(dir))
	out := Tally{DenialsNeeded: max(s.Denials, 1), Needed: a.needed()}
	for _, d := range t.Decisions {
		if d.Stage != stage || self[d.Person] || self[d.For] {
			continue
		}
		switch d.Verdict {
		case Approve:
			a.speak(d, dir)
			a.place(d.Person)
		case Deny:
			out.Denials++
		case GlassBroken:
		}
	}
	out.Have = a.have()
	for i, set := range t.setsOf(stage) {
		out.Sets = append(out.Sets, SetTally{From: set.From, Approvals: set.Approvals, By: a.taken[i]})
	}
	return out
}

// setsOf returns the approver sets of a stage with the tiers that have fired in it.
func (t Ticket) setsOf(stage int) []ApproverSet {
	return t.Plan.Stages[stage].sets(t.tiersOf(stage))
}

// self is everybody who counts as the requester: frozen at submit, owner today, or the
// person the call is made for.
func (t Ticket) self(dir Directory) map[string]bool {
	return t.Plan.excluded(dir.Owners[t.Caller], dir.known(t.OnBehalfOf))
}

// WaitingFor lists the people who could still decide on the current stage. All may deny;
// an approval by some of them may turn out not to be needed.
func (t Ticket) WaitingFor(dir Directory) []string {
	if !t.State.Open() || t.Stage >= len(t.Plan.Stages) {
		return nil
	}
	out := make(map[string]bool)
	self := t.self(dir)
	for _, set := range t.setsOf(t.Stage) {
		for name := range t.standing(dir).bodies(set.From, self, nil) {
			if len(t.seats(name, dir)) > 0 && !t.spent(name) {
				out[name] = true
			}
		}
	}
	return Names(out)
}
