package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"countersign/approvals"
)

// directory is who exists and who belongs where, as written.
func (d *decoder) directory() approvals.Directory {
	dir := approvals.Directory{
		People: make(map[string]approvals.Person, len(d.draft.people)),
		Groups: make(map[string][]string, len(d.draft.groups)),
		Owners: make(map[string][]string, len(d.draft.callers)),
		Away:   d.absences(),
	}
	for _, p := range d.draft.people {
		if p.name.text != "" {
			dir.People[p.name.text] = p.person()
		}
	}
	for _, g := range d.draft.groups {
		if _, twice := dir.Groups[g.name.text]; twice {
			continue
		}
		dir.Groups[g.name.text] = texts(g.members)
		if g.live.text != "" {
			if dir.Live == nil {
				dir.Live = make(map[string]string)
			}
			dir.Live[g.name.text] = g.live.text
		}
	}
	for _, c := range d.draft.callers {
		dir.Owners[c.name.text] = texts(c.owners)
	}
	return dir
}

// hopeful is a directory in which every live group that a rule asks has as many people, all
// unknown, as the rule could want: how many there are is only known where Slack can be asked.
func (r ruleDraft) hopeful(dir approvals.Directory) approvals.Directory {
	var live []string
	most := 0
	note := func(from []word, approvals int) {
		most += approvals
		for _, w := range from {
			if dir.Live[w.text] != "" && !slices.Contains(live, w.text) {
				live = append(live, w.text)
			}
		}
	}
	for _, s := range r.stages {
		note(nil, s.denials)
		for _, p := range s.phases() {
			for _, set := range p.need {
				note(set.from, set.approvals)
			}
			for _, t := range p.tiers {
				note(t.to, 0)
			}
		}
	}
	if note(r.glass, 1); live == nil {
		return dir
	}
	dir.People, dir.Groups = maps.Clone(dir.People), maps.Clone(dir.Groups)
	for _, name := range live {
		for i := range most {
			who := fmt.Sprintf("somebody in %s (%d)", name, i+1)
			dir.People[who] = approvals.Person{Name: who}
			dir.Groups[name] = append(dir.Groups[name], who)
		}
	}
	return dir
}

// person lists all further accounts by which somebody can be meant.
func (p personDraft) person() approvals.Person {
	out := approvals.Person{Name: p.name.text}
	var more []string
	if len(p.slack) > 0 {
		out.Slack, more = p.slack[0].text, append(more, texts(p.slack[1:])...)
	}
	if len(p.email) > 0 {
		out.Email, more = p.email[0].text, append(more, texts(p.email[1:])...)
	}
	for _, a := range p.logins {
		more = append(more, a.subject.text)
	}
	for _, account := range more {
		if account != out.Slack && !strings.EqualFold(account, out.Email) && !slices.Contains(out.Accounts, account) {
			out.Accounts = append(out.Accounts, account)
		}
	}
	return out
}

// checkQuorums reports every rule that could never be approved: by anybody, or for a caller
// whose own people are most of those who could. Absences do not count here; see checkAway.
func (d *decoder) checkQuorums() {
	known := d.directory()
	for _, r := range d.draft.rules {
		dir := r.hopeful(known)
		if r.Action == approvals.ActionApprove && d.checkSets(r, dir) && !r.broken && d.checkPlan(r, dir, nil, "") {
			d.checkForCallers(r, dir)
		}
	}
}

// phase is a time in the life of a stage in which its approver sets are the same, but for
// whom tiers ask besides or instead.
type phase struct {
	need  []setDraft
	tiers []tierDraft
}

// phases of a stage begin with its own sets, and with those of each tier that has some.
func (s stageDraft) phases() []phase {
	out := []phase{{need: s.need}}
	for _, t := range s.tiers {
		last := &out[len(out)-1]
		if len(t.need) == 0 {
			last.tiers = append(last.tiers, t)
			continue
		}
		out = append(out, phase{need: t.need})
	}
	return out
}

// eligible is everybody who could ever count in a set: the named and those of every tier.
func (p phase) eligible(set setDraft, dir approvals.Directory) map[string]bool {
	out := dir.Members(texts(set.from))
	for _, t := range p.tiers {
		maps.Copy(out, dir.Members(texts(t.to)))
	}
	return out
}

// able is everybody who could ever decide on a stage.
func (s stageDraft) able(dir approvals.Directory) map[string]bool {
	out := make(map[string]bool)
	for _, p := range s.phases() {
		for _, set := range p.need {
			maps.Copy(out, p.eligible(set, dir))
		}
	}
	return out
}

func (r ruleDraft) able(dir approvals.Directory) map[string]bool {
	out := make(map[string]bool)
	for _, s := range r.stages {
		maps.Copy(out, s.able(dir))
	}
	return out
}

// checkSets looks at each approver set by itself, where the error is easiest to place.
func (d *decoder) checkSets(r ruleDraft, dir approvals.Directory) bool {
	before := len(d.problems)
	for _, s := range r.stages {
		for _, p := range s.phases() {
			for _, set := range p.need {
				able := p.eligible(set, dir)
				if len(able) < set.approvals && (!r.broken || !d.strange(p, set)) {
					d.problem(set.approvalsAt, "", "%s asked for, but only %s may decide: %s",
						count(set.approvals, "approval is", "approvals are"), count(len(able), "person", "people"), some(able))
				}
			}
		}
		if !r.broken || !slices.ContainsFunc(s.phases(), d.strangers) {
			d.checkDenials(s, dir, nil, "")
		}
	}
	return len(d.problems) == before
}

// checkDenials reports more denials than there are people who may deny, but for those who
// are excluded; as says for whom they are.
func (d *decoder) checkDenials(s stageDraft, dir approvals.Directory, excluded []string, as string) {
	able := s.able(dir)
	for _, name := range excluded {
		delete(able, name)
	}
	if s.denials > 1 && len(able) < s.denials {
		d.problem(s.denialAt, "", "%d denials can never be reached%s: only %s may decide", s.denials, as, count(len(able), "person", "people"))
	}
}

// strange reports whether nobody is asked, or somebody whom nobody knows: either has been
// reported.
func (d *decoder) strange(p phase, set setDraft) bool {
	asked := slices.Clone(set.from)
	if len(asked) == 0 {
		return true
	}
	for _, t := range p.tiers {
		asked = append(asked, t.to...)
	}
	known := d.approverNames()
	return slices.ContainsFunc(asked, func(w word) bool { return !slices.Contains(known, w.text) })
}

// strangers reports whether any set of a phase is strange.
func (d *decoder) strangers(p phase) bool {
	return slices.ContainsFunc(p.need, func(set setDraft) bool { return d.strange(p, set) })
}

// checkPlan asks the domain whether a plan can be met without the excluded; as says for
// whom they are excluded.
func (d *decoder) checkPlan(r ruleDraft, dir approvals.Directory, excluded []string, as string) bool {
	plan := approvals.Plan{Rule: r.Name, Action: r.Action, Stages: r.Stages, Excluded: excluded, Distinct: r.Distinct}
	for i, s := range r.Stages {
		alone := plan
		alone.Stages = []approvals.Stage{s}
		if len(r.Stages) > 1 && alone.Check(dir) != nil {
			d.problem(r.stages[i].at, "", "stage %q can never be approved%s: %s", s.Name, as, shortage(alone, dir))
			return false
		}
	}
	if plan.Check(dir) != nil {
		d.problem(r.name.at, "", "rule %q can never be approved%s: %s", r.Name, as, shortage(plan, dir))
		return false
	}
	return d.checkTakeovers(r, plan, dir, as)
}

// checkTakeovers looks at each stage as it is once a tier has taken the decision from those
// who were asked before, with whom further tiers add.
func (d *decoder) checkTakeovers(r ruleDraft, plan approvals.Plan, dir approvals.Directory, as string) bool {
	for i, s := range r.Stages {
		for n, tier := range s.Escalate {
			if tier.Mode != approvals.ModeReplace {
				continue
			}
			plan.Stages = []approvals.Stage{after(s, n+1)}
			if plan.Check(dir) != nil {
				d.problem(r.stages[i].tiers[n].at, "", "after this escalation stage %q can never be approved%s: %s", s.Name, as, shortage(plan, dir))
				return false
			}
		}
	}
	return true
}

// after is a stage as it stands once n tiers have fired, with those to come up to the next
// one that replaces.
func after(s approvals.Stage, n int) approvals.Stage {
	out := s
	out.Need, out.Escalate = slices.Clone(s.Need), nil
	for _, t := range s.Escalate[:n] {
		switch {
		case len(t.Need) > 0:
			out.Need = slices.Clone(t.Need)
		case t.Mode == approvals.ModeReplace:
			for i := range out.Need {
				out.Need[i].From = t.To
			}
		default:
			for i := range out.Need {
				out.Need[i].From = slices.Concat(out.Need[i].From, t.To)
			}
		}
	}
	for _, t := range s.Escalate[n:] {
		if t.Mode == approvals.ModeReplace {
			break
		}
		out.Escalate = append(out.Escalate, t)
	}
	return out
}

// shortage says what a plan needs and who is there.
func shortage(plan approvals.Plan, dir approvals.Directory) string {
	n, people := needed(plan.Stages), able(plan, dir)
	text := "it needs " + count(n, "approval", "approvals by distinct people")
	if len(people) < n {
		return text + ", but only these may decide: " + some(people)
	}
	return text + ", which no arrangement of those who may decide can give: " + some(people)
}

func needed(stages []approvals.Stage) (n int) {
	for _, s := range stages {
		for _, set := range s.Need {
			n += set.Approvals
		}
	}
	return n
}

// able is everybody whom a plan could ever ask, but for the excluded.
func able(plan approvals.Plan, dir approvals.Directory) map[string]bool {
	out := make(map[string]bool)
	for _, s := range plan.Stages {
		for _, set := range s.Need {
			maps.Copy(out, dir.Members(set.From))
		}
		for _, t := range s.Escalate {
			maps.Copy(out, dir.Members(t.To))
			for _, set := range t.Need {
				maps.Copy(out, dir.Members(set.From))
			}
		}
	}
	for _, name := range plan.Excluded {
		delete(out, name)
	}
	return out
}

// checkForCallers repeats the checks for each caller that the rule can match and whose
// owners are among those who would decide.
func (d *decoder) checkForCallers(r ruleDraft, dir approvals.Directory) {
	people, bypass := r.able(dir), dir.Members(texts(r.glass))
	kinds, good := r.kinds(dir), make(map[string]bool)
	for _, c := range d.callersOf(r) {
		owners := texts(c.owners)
		left := maps.Clone(bypass)
		as := fmt.Sprintf(" for caller %q, whose owners do not count", c.name.text)
		if alike := kindsOf(owners, kinds); slices.ContainsFunc(owners, func(name string) bool { return people[name] }) && !good[alike] {
			before := len(d.problems)
			if d.checkPlan(r, dir, owners, as) {
				for _, s := range r.stages {
					d.checkDenials(s, dir, owners, as)
				}
			}
			good[alike] = len(d.problems) == before
		}
		for _, name := range owners {
			delete(left, name)
		}
		if len(bypass) > 0 && len(left) == 0 {
			d.problem(r.glassAt, "", "nobody can break the glass%s: only these may: %s", as, some(bypass))
		}
	}
}

// kinds says of everybody whom a rule asks where it does. Who is asked in the same places
// can stand for each other, so that it is the same which of them does not count.
func (r ruleDraft) kinds(dir approvals.Directory) map[string]string {
	out := make(map[string]string)
	place := 0
	note := func(from []word) {
		for name := range dir.Members(texts(from)) {
			out[name] += fmt.Sprintf(" %d", place)
		}
		place++
	}
	for _, s := range r.stages {
		for _, set := range s.need {
			note(set.from)
		}
		for _, t := range s.tiers {
			note(t.to)
			for _, set := range t.need {
				note(set.from)
			}
		}
	}
	return out
}

// kindsOf says of what kinds some people are, and how many of each.
func kindsOf(names []string, kinds map[string]string) string {
	var out []string
	for _, name := range names {
		if kind := kinds[name]; kind != "" {
			out = append(out, kind)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// some shows the first few of a set of people.
func some(set map[string]bool) string {
	const most = 5
	people := approvals.Names(set)
	switch {
	case len(people) == 0:
		return "nobody"
	case len(people) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(people[:most], ", "), len(people)-most)
	}
	return strings.Join(people, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
