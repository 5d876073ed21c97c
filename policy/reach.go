package policy

import "slices"

// checkReach reports rules that can never match because an earlier one matches everything
// they do. A rule hidden only by several others together is not found.
func (d *decoder) checkReach() {
	for j, later := range d.draft.rules {
		if later.broken {
			continue
		}
		methods, callers := d.methodsOf(later), d.callersOf(later)
		for _, earlier := range d.draft.rules[:j] {
			if !earlier.broken && earlier.covers(later, methods, callers) {
				d.problem(later.name.at, "", "rule %q can never match: rule %q before it (%s) matches every call it does",
					later.Name, earlier.Name, earlier.at.from(later.at))
				break
			}
		}
	}
}

// covers reports whether a rule matches every call that a later one does, which has these
// methods and callers.
func (r ruleDraft) covers(later ruleDraft, methods []string, callers []callerDraft) bool {
	return (r.Match.Upstream == "" || r.Match.Upstream == later.Match.Upstream) &&
		r.route.covers(later.route) &&
		(len(r.Match.Methods) == 0 || includes(r.Match.Methods, methods)) &&
		(len(r.Match.Callers) == 0 || !slices.ContainsFunc(callers, func(c callerDraft) bool {
			return !slices.Contains(r.Match.Callers, c.name.text)
		}))
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
