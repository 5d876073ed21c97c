package policy

import "slices"

// Update returns the text of a fixture with the expectations that were not met replaced by
// what the configuration says, and the number of those replaced. What else stands in the
// file stays as it is. An expectation whose end cannot be told for sure, such as a text of
// several lines, is left alone; and where the new text would not read as the same calls,
// nothing is replaced at all.
func (f Fixture) Update(c *Config, results []CaseResult) (text []byte, replaced int) {
	var edits []edit
	for _, r := range results {
		for _, d := range r.Differences {
			edits = append(edits, d.edit)
		}
	}
	updated, made := applied(f.text, edits)
	if made == 0 {
		return []byte(f.text), 0
	}
	again, err := ParseFixture(f.Name, []byte(updated))
	if err != nil || !f.asks(again) || failures(again.Run(c)) > failures(results) {
		return []byte(f.text), 0
	}
	return []byte(updated), made
}

// asks reports whether two fixtures make the same calls and decisions in the same order.
func (f Fixture) asks(other Fixture) bool {
	return slices.EqualFunc(f.Cases, other.Cases, func(a, b Case) bool {
		return a.Name == b.Name && a.Caller == b.Caller && a.OnBehalfOf == b.OnBehalfOf && a.At.Equal(b.At) &&
			a.Call.BodyDigest() == b.Call.BodyDigest() && a.Call.Path == b.Call.Path && a.Call.Query == b.Call.Query &&
			slices.Equal(a.Call.Headers, b.Call.Headers) && len(a.Decisions) == len(b.Decisions)
	})
}

func failures(results []CaseResult) (n int) {
	for _, r := range results {
		if !r.OK {
			n++
		}
	}
	return n
}
