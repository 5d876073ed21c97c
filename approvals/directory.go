package approvals

import (
	"slices"
	"strings"
	"time"
)

// Person is one human being with the identities that are known of them. Everything is
// counted per person, never per identity.
type Person struct {
	Name  string
	Slack string // Slack user id, "" when unknown
	Email string
	// Accounts are all further Slack user ids, e-mail addresses and login subjects that
	// are the same human being.
	Accounts []string `json:",omitempty"`
}

// is reports whether a text names the person, by any of their identities.
func (p Person) is(who string) bool {
	return p.Name == who || p.Slack == who || strings.EqualFold(p.Email, who) ||
		slices.ContainsFunc(p.Accounts, func(a string) bool { return strings.EqualFold(a, who) })
}

// Absence says that a person is away.
type Absence struct {
	// Until is when they are back.
	Until time.Time
	// Delegate decides in their place; "" for nobody.
	Delegate string
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
	// Away holds those who are not there. Nil: all are.
	Away map[string]Absence
	// Live are the groups whose members are those of a Slack user group, by its id. Groups
	// has them too, with nobody in them as long as their members are not known.
	Live map[string]string
	// Inactive says of people why they count as nobody: they are members of nothing, and may
	// neither decide nor answer. Nil: everybody is active.
	Inactive map[string]string

	// moment is when absences are judged; the zero time means that nobody is away. By the
	// time back, those who return are counted as there.
	moment, back time.Time
	// frozen says that roster and live bound what names stand for, and delegates who acts
	// for whom; see [Plan].
	frozen    bool
	roster    map[string][]string
	live      map[string]string
	delegates map[string]string
}

// At returns the directory as it stands at a moment: who is away then, and who acts for
// them. Verbs do this themselves with the time they are given.
func (d Directory) At(now time.Time) Directory {
	d.moment = instant(now)
	return d
}

// until counts those as there who are back within some time.
func (d Directory) until(within time.Duration) Directory {
	if !d.moment.IsZero() {
		d.back = d.moment.Add(within)
	}
	return d
}

// away reports whether somebody cannot decide now.
func (d Directory) away(person string) bool {
	absent, ok := d.Away[person]
	return ok && !d.moment.IsZero() && d.moment.Before(absent.Until)
}

// maxDelegates bounds a chain of people who are all away.
const maxDelegates = 10

// delegate is who decides in the place of somebody who is away: the first on the chain of
// delegates who is there. "" when the person is there, or nobody is. A delegation that is
// not among the frozen ones is none: who is asked must not grow while a ticket waits.
func (d Directory) delegate(person string) string {
	to := person
	for range maxDelegates {
		if !d.away(to) {
			break
		}
		to = d.Away[to].Delegate
	}
	if to == person || !d.counts(to) || d.away(to) {
		return ""
	}
	if d.frozen && d.delegates[person] != to {
		return ""
	}
	return to
}

// acts reports whether a vote that a person gave in the place of somebody who was away may
// stand: that one is back since, or would still be represented by that person.
func (d Directory) acts(person, absent string) bool {
	to := absent
	for range maxDelegates {
		if to == person || !d.away(to) {
			break
		}
		to = d.Away[to].Delegate
	}
	return to == person || !d.away(absent)
}

// body is who takes somebody's place in an approver set: they themselves, if need be once
// they are back, or else their delegate, who may have a place of their own besides. "" for
// nobody.
func (d Directory) body(person string) string {
	if !d.away(person) || d.Away[person].Until.Before(d.back) {
		return person
	}
	return d.delegate(person)
}

// bodies are those who can take the places of the people from names stand for. Nobody in
// self has a place, and so none to lend; nor has anybody whose vote is spent.
func (d Directory) bodies(from []string, self, spent map[string]bool) map[string]bool {
	out := make(map[string]bool)
	for person := range d.Members(from) {
		to := d.body(person)
		if to != "" && !self[person] && !self[to] && !spent[person] && !spent[to] {
			out[to] = true
		}
	}
	return out
}

// Members resolves names of people and groups to the set of people. Unknown names
// resolve to nobody: fail closed.
func (d Directory) Members(from []string) map[string]bool {
	out := make(map[string]bool)
	for _, name := range from {
		frozen, bounded := d.roster[name]
		for _, m := range d.behind(name) {
			if d.counts(m) && (!bounded || slices.Contains(frozen, m)) {
				out[m] = true
			}
		}
	}
	return out
}

// behind lists whom a name stands for, known or not. A live group stands for somebody only
// for a plan that asked it as the very same user group: neither one that was a list of
// people then nor one that is another user group now lets anybody in.
func (d Directory) behind(name string) []string {
	id, live := d.Live[name]
	if asked, ok := d.live[name]; ok && asked != id {
		return nil
	}
	if _, listed := d.roster[name]; listed && live {
		return nil
	}
	members, isGroup := d.Groups[name]
	if !isGroup && !live {
		return []string{name}
	}
	return members
}

// counts reports whether somebody of that name exists and counts as themself.
func (d Directory) counts(person string) bool {
	_, known := d.People[person]
	return known && d.Inactive[person] == ""
}

// BySlack finds the person with a Slack user id. An id that two people claim finds
// nobody: fail closed.
func (d Directory) BySlack(userID string) (Person, bool) {
	if userID == "" {
		return Person{}, false
	}
	var found []Person
	for _, p := range d.People {
		if p.Slack == userID || slices.Contains(p.Accounts, userID) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return Person{}, false
	}
	return found[0], true
}

// known lists the people whom a caller may mean by a name, an e-mail address, a Slack user
// id or a login subject, or by the name of another caller that they own.
func (d Directory) known(who string) []string {
	if who == "" {
		return nil
	}
	var out []string
	for name, p := range d.People {
		if name == who || p.is(who) {
			out = append(out, name)
		}
	}
	// What is called by the name of a caller is its owners.
	out = append(out, d.Owners[who]...)
	slices.Sort(out)
	return slices.Compact(out)
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
