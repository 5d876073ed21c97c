package approvals

import "slices"

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
	// alone judges the first stage only, with the tiers that have fired and no others.
	alone bool
}

// shortfall reports what is missing at best under the first tries combinations of
// outlooks; the very first is the one where nobody is replaced. Nil means that the plan
// can be completed.
func (r reach) shortfall(tries int) *missing {
	for _, stages := range r.groups() {
		if m := r.lacking(stages, tries); m != nil {
			return m
		}
	}
	return nil
}

// together is the shortfall of the stages only that share votes with the first.
func (r reach) together(tries int) *missing { return r.lacking(r.groups()[0], tries) }

// groups are the stages from stage on, those together in which a person has one vote.
func (r reach) groups() [][]int {
	out := [][]int{{r.stage}}
	for i := r.stage + 1; i < len(r.plan.Stages) && !r.alone; i++ {
		if last := len(out) - 1; r.plan.sameVote(out[last][0], i) {
			out[last] = append(out[last], i)
		} else {
			out = append(out, []int{i})
		}
	}
	return out
}

func (r reach) lacking(stages []int, tries int) *missing {
	options := r.options(stages)
	chosen := make([]int, len(options))
	var best *missing
	for range tries {
		m := r.lack(stages, options, chosen)
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

// options lists the outlooks of each stage.
func (r reach) options(stages []int) [][]outlook {
	var out [][]outlook
	for _, i := range stages {
		fired := 0
		if i < len(r.tiers) {
			fired = r.tiers[i]
		}
		if s := r.plan.Stages[i]; r.alone {
			out = append(out, []outlook{{sets: s.sets(fired)}})
		} else {
			out = append(out, s.outlooks(fired, r.plan.ExpiresIn))
		}
	}
	return out
}

// turn moves on to the next combination, like the wheels of a counter.
func turn(chosen []int, options [][]outlook) bool {
	for i := range chosen {
		if chosen[i]++; chosen[i] < len(options[i]) {
			return true
		}
		chosen[i] = 0
	}
	return false
}

// lack judges one combination: all places of all its stages, and one place a person.
func (r reach) lack(stages []int, options [][]outlook, chosen []int) *missing {
	a := &assignment{}
	dir := r.enrolled(options, chosen)
	for i, option := range options {
		for _, set := range option[chosen[i]].sets {
			a.room = append(a.room, set.Approvals)
			a.fits = append(a.fits, r.fit(set, stages[i], dir))
			a.taken = append(a.taken, nil)
		}
	}
	return a.fill()
}

// enrolled is the directory as it will count once everybody has been asked whom a
// combination asks.
func (r reach) enrolled(options [][]outlook, chosen []int) Directory {
	dir := r.dir
	if !dir.frozen {
		return dir
	}
	var names []string
	for i, option := range options {
		names = append(names, option[chosen[i]].asked...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { _, asked := dir.roster[name]; return asked })
	if len(names) > 0 {
		dir.frozen, dir.roster, dir.live, dir.delegates = false, nil, nil, nil
		before := Plan{Stages: r.plan.Stages, BreakGlass: r.plan.BreakGlass, Roster: r.dir.roster, Delegates: r.dir.delegates, Live: r.dir.live}
		roster, delegates := before.enrol(dir, names, before.Live)
		dir.frozen, dir.roster, dir.live, dir.delegates = true, roster, before.Live, delegates
	}
	return dir
}

// fit is who may take a place in a set of a stage: those who approved it, and those who
// have a vote left.
func (r reach) fit(set ApproverSet, stage int, dir Directory) map[string]bool {
	spent := make(map[string]bool)
	for _, d := range r.votes {
		if r.alone && d.Verdict == Deny {
			continue // a no is no reason to ask others sooner
		}
		if d.Verdict != GlassBroken && r.plan.sameVote(d.Stage, stage) {
			spent[d.Person], spent[d.For] = true, true
		}
	}
	out := dir.bodies(set.From, r.self, spent)
	members := dir.Members(set.From)
	for _, d := range r.votes {
		known := dir.counts(d.Person) && (d.For == "" || dir.acts(d.Person, d.For))
		if d.Verdict == Approve && d.Stage == stage && known && members[d.principal()] && !r.self[d.Person] && !r.self[d.For] {
			out[d.Person] = true
		}
	}
	return out
}
