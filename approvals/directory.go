package approvals

import (
	"slices"
	"strings"
)

// Person is one human being with the identities that are known of them. Everything is
// counted per person, never per identity.
type Person struct {
	Name  string
	Slack string // Slack user id, "" when unknown
	Email string
}

// Directory is a snapshot of who exists and who belongs where. It is an argument of
// every verb that judges a person, so that membership is always that of the moment.
type Directory struct {
	// People by name.
	People map[string]Person
	// Groups holds the names of the members of each group.
	Groups map[string][]string
	// Owners holds, per caller, the people who count as that caller.
	Owners map[string][]string
}

// Members resolves names of people and groups to the set of people. Unknown names
// resolve to nobody: fail closed.
func (d Directory) Members(from []string) map[string]bool {
	out := make(map[string]bool)
	for _, name := range from {
		if members, ok := d.Groups[name]; ok {
			for _, m := range members {
				d.add(out, m)
			}
			continue
		}
		d.add(out, name)
	}
	return out
}

func (d Directory) add(set map[string]bool, name string) {
	if _, known := d.People[name]; known {
		set[name] = true
	}
}

// BySlack finds the person with a Slack user id. An id that two people claim finds
// nobody: fail closed.
func (d Directory) BySlack(userID string) (Person, bool) {
	if userID == "" {
		return Person{}, false
	}
	var found []Person
	for _, p := range d.People {
		if p.Slack == userID {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return Person{}, false
	}
	return found[0], true
}

// known lists the people whom a caller may mean by a name, an e-mail address or a
// Slack user id.
func (d Directory) known(who string) []string {
	if who == "" {
		return nil
	}
	var out []string
	for name, p := range d.People {
		if name == who || p.Slack == who || strings.EqualFold(p.Email, who) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Names returns the sorted names of a set of people.
func Names(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
