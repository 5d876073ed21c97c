package main

import (
	"fmt"
	"log/slog"
	"reflect"
	"strings"

	"countersign/approvals"
	"countersign/egress"
	"countersign/policy"
)

// change is what became of the named things of one kind.
type change struct {
	kind                    string
	added, removed, changed []string
}

// changes is what a new configuration makes different, by name.
type changes struct {
	kinds []change
	// reordered says that rules which stayed changed places: the first that matches decides.
	reordered bool
}

func changesOf(before, after *policy.Config) changes {
	return changes{
		kinds: []change{
			named("rules", before.Rules, after.Rules, func(r policy.Rule) string { return r.Name }),
			named("people", before.People, after.People, func(p approvals.Person) string { return p.Name }),
			named("groups", before.Groups, after.Groups, func(g policy.Group) string { return g.Name }),
			named("callers", before.Callers, after.Callers, func(c policy.Caller) string { return c.Name }),
			named("upstreams", before.Upstreams, after.Upstreams, func(u policy.Upstream) string { return u.Name }),
			absences(before, after),
			named("operators", having(before, before.Operator), having(after, after.Operator), strings.Clone),
			named("auditors", having(before, before.Auditor), having(after, after.Auditor), strings.Clone),
			named("logins", before.Logins(), after.Logins(), func(l policy.Login) string { return l.Issuer }),
			named("signing_keys", publicKeys(before), publicKeys(after), strings.Clone),
		},
		reordered: reordered(before.Rules, after.Rules),
	}
}

// named compares two lists of things that have names.
func named[T any](kind string, before, after []T, name func(T) string) change {
	out := change{kind: kind}
	old := make(map[string]T, len(before))
	for _, x := range before {
		old[name(x)] = x
	}
	for _, x := range after {
		was, known := old[name(x)]
		delete(old, name(x))
		switch {
		case !known:
			out.added = append(out.added, name(x))
		case !reflect.DeepEqual(was, x):
			out.changed = append(out.changed, name(x))
		}
	}
	for _, x := range before {
		if _, left := old[name(x)]; left {
			out.removed = append(out.removed, name(x))
		}
	}
	return out
}

// absences compares who is away.
func absences(before, after *policy.Config) change {
	list := func(c *policy.Config) (out []absence) {
		away := c.Directory().Away
		for _, p := range c.People {
			if a, ok := away[p.Name]; ok {
				out = append(out, absence{p.Name, a})
			}
		}
		return out
	}
	return named("absences", list(before), list(after), func(a absence) string { return a.person })
}

type absence struct {
	person string
	approvals.Absence
}

// having lists the people of a configuration who are something in it.
func having(c *policy.Config, role func(person string) bool) (out []string) {
	for _, p := range c.People {
		if role(p.Name) {
			out = append(out, p.Name)
		}
	}
	return out
}

// publicKeys are the public halves of the keys that callbacks are signed with: those of a private
// one that cannot be read are left out, as a configuration with such a key is refused.
func publicKeys(c *policy.Config) (out []string) {
	for _, text := range c.Signing.Keys {
		if key, err := egress.ParseSigningKey(text.Reveal()); err == nil {
			out = append(out, key.PublicKey().String())
		}
	}
	return out
}

func reordered(before, after []policy.Rule) bool {
	place := make(map[string]int, len(before))
	for i, r := range before {
		place[r.Name] = i
	}
	last := -1
	for _, r := range after {
		if i, stayed := place[r.Name]; stayed {
			if i < last {
				return true
			}
			last = i
		}
	}
	return false
}

// maxNamed bounds how many names a log line lists of a kind.
const maxNamed = 20

func bounded(names []string) []string {
	if len(names) <= maxNamed {
		return names
	}
	return append(names[:maxNamed:maxNamed], fmt.Sprintf("and %d more", len(names)-maxNamed))
}

// attrs are the changes as fields of a log line; nothing for kinds that stayed as they were.
func (c changes) attrs() (out []slog.Attr) {
	for _, k := range c.kinds {
		for _, part := range []struct {
			what  string
			names []string
		}{{"added", k.added}, {"removed", k.removed}, {"changed", k.changed}} {
			if len(part.names) > 0 {
				out = append(out, slog.Any(k.kind+"_"+part.what, bounded(part.names)))
			}
		}
	}
	if c.reordered {
		out = append(out, slog.Bool("rules_reordered", true))
	}
	return out
}

// String says the changes in one line.
func (c changes) String() string {
	var out []string
	for _, a := range c.attrs() {
		words := strings.ReplaceAll(a.Key, "_", " ")
		if names, ok := a.Value.Any().([]string); ok {
			words += ": " + strings.Join(names, ", ")
		}
		out = append(out, words)
	}
	if len(out) == 0 {
		return "nothing that decides has changed"
	}
	return strings.Join(out, "; ")
}
