package policy

import (
	"fmt"
	"iter"
	"slices"
)

// maxAtoms bounds the work of looking for rules that several others hide together. What is
// left of it when it is used up is not found; a rule that one other hides always is.
const maxAtoms = 2_000_000

// checkReach reports rules that can never match, because an earlier one matches everything
// they do, or several together. A rule with a condition hides none but those with the same.
func (d *decoder) checkReach() {
	d.checkConditions()
	left := maxAtoms
	for j := range d.draft.rules {
		later := &d.draft.rules[j]
		if later.broken {
			continue
		}
		var before []*ruleDraft // those that may hide a part of it
		for i := range d.draft.rules[:j] {
			if earlier := &d.draft.rules[i]; !earlier.broken && earlier.spans(later) {
				before = append(before, earlier)
			}
		}
		switch by := d.hidden(later, before, &left); len(by) {
		case 0:
		case 1:
			d.problem(later.name.at, "", "rule %q can never match: rule %q before it (%s) matches every call it does",
				later.Name, by[0].Name, by[0].at.from(later.at))
		default:
			d.problem(later.name.at, "", "rule %q can never match: the rules %s before it together match every call it does",
				later.Name, ruleNames(by, later.at))
		}
	}
}

// hidden returns which of the rules that span a later one hide it: one alone if there is
// such a one. Nil when they leave it a call.
func (d *decoder) hidden(later *ruleDraft, before []*ruleDraft, left *int) []*ruleDraft {
	if len(before) == 0 {
		return nil
	}
	methods, callers := d.methodsOf(*later), d.callersOf(*later)
	for _, earlier := range before {
		if earlier.covers(later, methods, callers) {
			return []*ruleDraft{earlier}
		}
	}
	return d.together(before, later, callers, left)
}

// spans reports whether a rule's path and condition match whatever those of a later rule
// do.
func (r *ruleDraft) spans(later *ruleDraft) bool {
	if !r.route.covers(later.route) {
		return false
	}
	if r.Match.When == "" {
		return true
	}
	// The same words are another condition when the path has its variables elsewhere.
	return r.Match.When == later.Match.When &&
		(r.when.condition != nil && !r.when.anyVars || r.Match.Path == later.Match.Path)
}

// covers reports whether a rule that spans a later one matches every call that it does; the
// later has these methods and callers.
func (r *ruleDraft) covers(later *ruleDraft, methods []string, callers []callerDraft) bool {
	return (r.Match.Upstream == "" || r.Match.Upstream == later.Match.Upstream) &&
		(len(r.Match.Methods) == 0 || includes(r.Match.Methods, methods)) &&
		(len(r.Match.Callers) == 0 || !slices.ContainsFunc(callers, func(c callerDraft) bool {
			return !slices.Contains(r.Match.Callers, c.name.text)
		}))
}

// atom is the smallest part of a rule that others can hide.
type atom struct{ upstream, method, caller string }

func (r *ruleDraft) has(a atom) bool {
	return (r.Match.Upstream == "" || r.Match.Upstream == a.upstream) &&
		(len(r.Match.Methods) == 0 || slices.Contains(r.Match.Methods, a.method)) &&
		(len(r.Match.Callers) == 0 || slices.Contains(r.Match.Callers, a.caller))
}

// together returns the rules that hide a later one among them, nil when they leave it a
// call, or when left, which counts the comparisons that may still be made, is used up.
func (d *decoder) together(before []*ruleDraft, later *ruleDraft, callers []callerDraft, left *int) []*ruleDraft {
	used := make(map[int]bool)
	for a := range d.atoms(later, callers) {
		by := slices.IndexFunc(before, func(r *ruleDraft) bool {
			*left--
			return r.has(a)
		})
		if by < 0 || *left < 0 {
			return nil
		}
		used[by] = true
	}
	var out []*ruleDraft
	for i, r := range before {
		if used[i] {
			out = append(out, r)
		}
	}
	return out
}

// atoms goes through the upstreams, methods and callers of the calls that a rule can match.
func (d *decoder) atoms(r *ruleDraft, callers []callerDraft) iter.Seq[atom] {
	methods := make(map[string][]string, len(d.draft.upstreams))
	for _, u := range d.draft.upstreams {
		methods[u.name.text] = u.Methods
	}
	return func(yield func(atom) bool) {
		for _, c := range callers {
			for _, u := range c.upstreams {
				if r.Match.Upstream != "" && r.Match.Upstream != u.text {
					continue
				}
				for _, method := range methods[u.text] {
					asked := len(r.Match.Methods) == 0 || slices.Contains(r.Match.Methods, method)
					if asked && !yield(atom{u.text, method, c.name.text}) {
						return
					}
				}
			}
		}
	}
}

// ruleNames lists a few rules with their places.
func ruleNames(rules []*ruleDraft, seen pos) string {
	var out []string
	for _, r := range rules {
		out = append(out, fmt.Sprintf("%q (%s)", r.Name, r.at.from(seen)))
	}
	return listed(out, "and")
}

func includes(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// methodsOf lists the methods of the calls that a rule can match.
func (d *decoder) methodsOf(r ruleDraft) []string {
	if len(r.Match.Methods) > 0 {
		return r.Match.Methods
	}
	for _, u := range d.draft.upstreams {
		if r.Match.Upstream != "" && u.name.text == r.Match.Upstream {
			return u.Methods
		}
	}
	return Methods()
}

// callersOf lists the callers whose calls a rule can match.
func (d *decoder) callersOf(r ruleDraft) []callerDraft {
	var out []callerDraft
	for _, c := range d.draft.callers {
		named := len(r.Match.Callers) == 0 || slices.Contains(r.Match.Callers, c.name.text)
		allowed := r.Match.Upstream == "" || slices.Contains(texts(c.upstreams), r.Match.Upstream)
		if named && allowed {
			out = append(out, c)
		}
	}
	return out
}
