package approvals

// maxOutlooks bounds how many combinations of escalations a plan is judged by. A plan
// with more of them is met by one of these or counts as out of reach.
const maxOutlooks = 256

// reach asks whether the stages of a plan from stage on can still be met when everybody
// in dir who may vote does.
type reach struct {
	plan  Plan
	stage int
	// tiers are those fired so far, per stage.
	tiers []int
	// votes stay where they were given, and nobody in self has one.
	votes []Decision
	self  map[string]bool
	dir   Directory
}

// shortfall reports what is missing at best under the first tries combinations of
// outlooks; the very first is the one where nobody is replaced. Nil means that the plan
// can be completed.
func (r reach) shortfall(tries int) *missing {
	options := r.options()
	chosen := make([]int, len(options))
	var best *missing
	for range tries {
		m := r.lack(options, chosen)
		if m == nil {
			return nil
		}
		if best == nil || m.needed-m.have < best.needed-best.have {
			best = m
		}
		if !turn(chosen, options) {
			break
		}
	}
	return best
}

// options lists the outlooks of each remaining stage.
func (r reach) options() [][][]ApproverSet {
	var out [][][]ApproverSet
	for i := r.stage; i < len(r.plan.Stages); i++ {
		fired := 0
		if i < len(r.tiers) {
			fired = r.tiers[i]
		}
		out = append(out, r.plan.Stages[i].outlooks(fired, r.plan.ExpiresIn))
	}
	return out
}

// turn moves on to the next combination, like the wheels of a counter.
func turn(chosen []int, options [][][]ApproverSet) bool {
	for i := range chosen {
		if chosen[i]++; chosen[i] < len(options[i]) {
			return true
		}
		chosen[i] = 0
	}
	return false
}

// lack judges one combination: all places of all its stages, and one place a person.
func (r reach) lack(options [][][]ApproverSet, chosen []int) *missing {
	var sets []ApproverSet
	var stages []int
	for i, option := range options {
		for _, set := range option[chosen[i]] {
			sets, stages = append(sets, set), append(stages, r.stage+i)
		}
	}
	a := newAssignment(sets, r.dir)
	for i, fits := range a.fits {
		for name := range r.self {
			delete(fits, name)
		}
		for _, d := range r.votes {
			if d.Verdict != Approve || d.Stage != stages[i] {
				delete(fits, d.Person) // their one vote is spent elsewhere
			}
		}
	}
	return a.fill()
}
