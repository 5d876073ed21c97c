package policy

import (
	"maps"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// maxDelegates bounds a chain of people who stand in for each other, as the domain does.
const maxDelegates = 10

// away decodes until when a person is not there, and who decides in their place.
func (d *decoder) away(p *personDraft) field {
	return func(n ast.Node) {
		var a awayDraft
		var until word
		d.object(n, "away", fields{"until": d.word(&until), "delegate": d.word(&a.delegate)}, "until")
		if until.text != "" {
			a.until = d.instant(until)
		}
		p.away = &a
	}
}

// instant reads a moment; a date alone is the first one of that day in UTC.
func (d *decoder) instant(w word) time.Time {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, w.text); err == nil {
			return t.UTC()
		}
	}
	d.problem(w.at, "write 2026-12-24 or 2026-12-24T09:00:00+01:00", "this is neither a date nor a time with its zone")
	return time.Time{}
}

// checkAway judges delegates: people who exist, and in the end somebody who could be there.
// Absences themselves are not judged. Whether a file loads must not depend on the day, and
// a plan that lacks those who are away is refused when a call is submitted.
func (d *decoder) checkAway() {
	people, next := d.personNames(), make(map[string]word)
	for _, p := range d.draft.people {
		if p.away == nil || p.away.delegate.text == "" {
			continue
		}
		to := p.away.delegate
		if to.text == p.name.text {
			d.problem(to.at, "", "%q cannot be their own delegate", to.text)
			continue
		}
		d.isPerson(to, people, "a delegate is one person")
		next[p.name.text] = to
	}
	d.checkChains(next)
}

// checkChains reports delegates in a circle, each circle once, and chains that are too long.
func (d *decoder) checkChains(next map[string]word) {
	circular := make(map[string]bool)
	for _, p := range d.draft.people {
		at, seen := p.name.text, map[string]bool{p.name.text: true}
		for hops := 1; next[at].text != "" && !circular[at]; hops++ {
			to := next[at]
			if seen[to.text] {
				d.problem(to.at, "", "delegates in a circle: in the end %q stands in for themself", to.text)
				maps.Copy(circular, seen)
				break
			}
			if hops > maxDelegates {
				d.problem(next[p.name.text].at, "", "the chain of delegates that begins here is longer than %d", maxDelegates)
				break
			}
			at, seen[to.text] = to.text, true
		}
	}
}

// absences are those of everybody who is away; nil for none.
func (d *decoder) absences() map[string]approvals.Absence {
	var out map[string]approvals.Absence
	for _, p := range d.draft.people {
		if p.away == nil {
			continue
		}
		if out == nil {
			out = make(map[string]approvals.Absence)
		}
		out[p.name.text] = approvals.Absence{Until: p.away.until, Delegate: p.away.delegate.text}
	}
	return out
}
