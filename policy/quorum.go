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
	}
	for _, p := range d.draft.people {
		if p.name.text != "" {
			dir.People[p.name.text] = p.person()
		}
	}
	for _, g := range d.draft.groups {
		if _, twice := dir.Groups[g.name.text]; !twice {
			dir.Groups[g.name.text] = texts(g.members)
		}
	}
	for _, c := range d.draft.callers {
		dir.Owners[c.name.text] = texts(c.owners)
	}
	return dir
}

func (p personDraft) person() approvals.Person {
	return approvals.Person{Name: p.name.text, Slack: p.slack.text, Email: p.email.text}
}

// checkQuorums reports every rule that could never be approved: by anybody, or for a caller
// whose own people are most of those who could.
func (d *decoder) checkQuorums() {
	dir := d.directory()
	for _, r := range d.draft.rules {
		if r.Action == approvals.ActionApprove && d.checkSets(r, dir) && !r.broken && d.checkPlan(r, dir, nil, "") {
			d.checkForCallers(r, dir)
		}
	}
}

// checkSets looks at each approver set by itself, where the error is easiest to place.
func (d *decoder) checkSets(r ruleDraft, dir approvals.Directory) bool {
	before := len(d.problems)
	for i, s := range r.stages {
		anybody := make(map[string]bool)
		for j, set := range s.need {
			able := eligible(r.Stages[i], j, dir)
			maps.Copy(anybody, able)
			if len(able) < set.approvals && (!r.broken || !d.strange(s, set)) {
				d.problem(set.approvalsAt, "", "%s asked for, but only %s may decide: %s",
					count(set.approvals, "approval is", "approvals are"), count(len(able), "person", "people"), some(able))
			}
		}
		if s.denials > 1 && len(anybody) < s.denials {
			d.problem(s.denialAt, "", "%d denials can never be reached: only %s may decide", s.denials, count(len(anybody), "person", "people"))
		}
	}
	return len(d.problems) == before
}

// strange reports whether nobody is asked, or somebody whom nobody knows: either has been
// reported.
func (d *decoder) strange(s stageDraft, set setDraft) bool {
	asked := slices.Clone(set.from)
	if len(asked) == 0 {
		return true
	}
	for _, t := range s.tiers {
		asked = append(asked, t.to...)
	}
	return slices.ContainsFunc(asked, func(w word) bool {
		return !slices.Contains(d.personNames(), w.text) && !slices.Contains(d.groupNames(), w.text)
	})
}

// eligible is everybody who could ever count in a set: the named and every tier.
func eligible(s approvals.Stage, set int, dir approvals.Directory) map[string]bool {
	out := dir.Members(s.Need[set].From)
	for _, t := range s.Escalate {
		maps.Copy(out, dir.Members(t.To))
	}
	return out
}

// checkPlan asks the domain whether a plan can be met without the excluded; as says for
// whom they are excluded.
func (d *decoder) checkPlan(r ruleDraft, dir approvals.Directory, excluded []string, as string) bool {
	plan := approvals.Plan{Rule: r.Name, Action: r.Action, Stages: r.Stages, Excluded: excluded}
	if plan.Check(dir) != nil {
		d.problem(r.name.at, "", "rule %q can never be approved%s: %s", r.Name, as, shortage(plan, dir))
		return false
	}
	for i, s := range r.Stages {
		for n := range s.Escalate {
			plan.Stages = []approvals.Stage{after(s, n+1)}
			if s.Escalate[n].Mode == approvals.ModeReplace && plan.Check(dir) != nil {
				d.problem(r.stages[i].tiers[n].at, "", "after this escalation stage %q can never be approved%s: %s", s.Name, as, shortage(plan, dir))
				return false
			}
		}
	}
	return true
}

// after is a stage as it stands once n tiers have fired, with no more to come.
func after(s approvals.Stage, n int) approvals.Stage {
	out := s
	out.Need, out.Escalate = slices.Clone(s.Need), nil
	for _, t := range s.Escalate[:n] {
		for i := range out.Need {
			if t.Mode == approvals.ModeReplace {
				out.Need[i].From = t.To
				continue
			}
			out.Need[i].From = slices.Concat(out.Need[i].From, t.To)
		}
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

func able(plan approvals.Plan, dir approvals.Directory) map[string]bool {
	out := make(map[string]bool)
	for _, s := range plan.Stages {
		for i := range s.Need {
			maps.Copy(out, eligible(s, i, dir))
		}
	}
	for _, name := range plan.Excluded {
		delete(out, name)
	}
	return out
}

// checkForCallers repeats the check for each caller that the rule can match and whose
// owners are among those who would decide.
func (d *decoder) checkForCallers(r ruleDraft, dir approvals.Directory) {
	people := able(approvals.Plan{Stages: r.Stages}, dir)
	for _, c := range d.callersOf(r) {
		owners := texts(c.owners)
		if !slices.ContainsFunc(owners, func(name string) bool { return people[name] }) {
			continue
		}
		as := fmt.Sprintf(" for caller %q, whose owners do not count", c.name.text)
		d.checkPlan(r, dir, owners, as)
	}
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
