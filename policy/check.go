package policy

import (
	"fmt"
	"slices"
	"strings"
)

// check judges what can only be judged once everything is read: names and what they refer
// to. Quorums and unreachable rules come after it.
func (d *decoder) check() {
	d.finishServer()
	d.finishSlack()
	d.checkPeople()
	d.checkLogins()
	d.checkAway()
	d.checkGroups()
	d.checkOperators()
	d.checkUpstreams()
	d.checkCallers()
	d.checkRules()
	d.checkQuorums()
	d.checkReach()
}

// registry finds two things of one name. Names that differ in case only are one name:
// people would not tell them apart.
type registry map[string]word

// add reports a name that is taken; what says by what kind of thing.
func (d *decoder) add(r registry, what string, w word) {
	if w.text == "" {
		return
	}
	key := strings.ToLower(w.text)
	before, taken := r[key]
	switch {
	case !taken:
		r[key] = w
	case before.text != w.text:
		d.problem(w.at, "", "%s %q differs only in case from %q (%s)", what, w.text, before.text, before.at.from(w.at))
	default:
		d.problem(w.at, "", "%s %q is already defined (%s)", what, w.text, before.at.from(w.at))
	}
}

// from says where p is, seen from another place.
func (p pos) from(other pos) string {
	if p.src == nil || other.src == nil || p.src.name == other.src.name {
		return fmt.Sprintf("line %d", p.line)
	}
	return fmt.Sprintf("%s, line %d", p.src.name, p.line)
}

func (d *decoder) checkPeople() {
	people, slack, email, login := registry{}, registry{}, registry{}, registry{}
	for _, p := range d.draft.people {
		d.add(people, "the person", p.name)
		for _, w := range p.slack {
			d.add(slack, "the Slack id", w)
		}
		for _, w := range p.email {
			d.add(email, "the e-mail address", w)
		}
		for _, a := range p.logins {
			if a.issuer.text != "" && a.subject.text != "" {
				d.add(login, "the login", word{text: a.issuer.text + " " + a.subject.text, at: a.subject.at})
			}
		}
	}
	for _, p := range d.draft.people {
		d.checkSubjects(p, email)
	}
	d.checkKeys()
}

// checkSubjects compares a person's login subjects with what names others. Callers may
// name people by any of them, and a click in Slack finds its person by what looks like the
// id of a member.
func (d *decoder) checkSubjects(p personDraft, email registry) {
	for _, a := range p.logins {
		if userPattern.MatchString(a.subject.text) && !p.owns(p.slack, a.subject.text) {
			d.problem(a.subject.at, "", "the subject looks like the Slack id of a member: if it is one, list it under slack too")
			continue
		}
		if other, taken := email[strings.ToLower(a.subject.text)]; taken && !p.owns(p.email, a.subject.text) {
			d.problem(a.subject.at, "", "the subject %q is the e-mail address of another person (%s)", a.subject.text, other.at.from(a.subject.at))
		}
	}
}

func (p personDraft) owns(accounts []word, text string) bool {
	return slices.ContainsFunc(accounts, func(w word) bool { return strings.EqualFold(w.text, text) })
}

// checkKeys reports keys that two have.
func (d *decoder) checkKeys() {
	holders := make(map[[32]byte]string)
	check := func(hash [32]byte, at pos, holder string) {
		before, taken := holders[hash]
		switch {
		case at.src == nil:
		case taken:
			d.problem(at, "", "%s and %s have the same key", before, holder)
		default:
			holders[hash] = holder
		}
	}
	for _, c := range d.draft.callers {
		for _, k := range c.keys {
			check(k.Hash, k.at, fmt.Sprintf("the caller %q", c.name.text))
		}
	}
	for _, p := range d.draft.people {
		for _, k := range p.keys {
			check(k.Hash, k.at, fmt.Sprintf("the person %q", p.name.text))
		}
	}
}

func (d *decoder) checkGroups() {
	people, groups := d.personNames(), registry{}
	for _, g := range d.draft.groups {
		d.add(groups, "the group", g.name)
		for _, p := range d.draft.people {
			if p.name.text != "" && strings.EqualFold(p.name.text, g.name.text) {
				d.problem(g.name.at, "", "%q is both a person and a group (%s)", g.name.text, p.name.at.from(g.name.at))
				break
			}
		}
		for _, m := range g.members {
			d.isPerson(m, people, "members are people: a group cannot hold another")
		}
		if g.live.text != "" && !d.draft.slack.present {
			d.problem(g.live.at, `add the section "slack"`, "who is in a Slack user group cannot be asked without Slack")
		}
	}
}

func (d *decoder) checkOperators() {
	known := d.approverNames()
	for _, w := range slices.Concat(d.draft.operators, d.draft.auditors) {
		d.known("person or group", w, known)
	}
}

// approverNames lists everybody who can be asked: people and groups.
func (d *decoder) approverNames() []string { return append(d.personNames(), d.groupNames()...) }

// isPerson reports a name that is no person's.
func (d *decoder) isPerson(w word, people []string, notGroup string) {
	switch {
	case slices.Contains(people, w.text):
	case slices.Contains(d.groupNames(), w.text):
		d.problem(w.at, notGroup, "%q is a group, not a person", w.text)
	default:
		d.problem(w.at, didYouMean(w.text, people), "unknown person %q", shorten(w.text))
	}
}

func (d *decoder) personNames() []string {
	var out []string
	for _, p := range d.draft.people {
		out = append(out, p.name.text)
	}
	return out
}

func (d *decoder) groupNames() []string {
	var out []string
	for _, g := range d.draft.groups {
		out = append(out, g.name.text)
	}
	return out
}

func (d *decoder) upstreamNames() []string {
	var out []string
	for _, u := range d.draft.upstreams {
		out = append(out, u.name.text)
	}
	return out
}

func (d *decoder) callerNames() []string {
	var out []string
	for _, c := range d.draft.callers {
		out = append(out, c.name.text)
	}
	return out
}

func (d *decoder) checkUpstreams() {
	upstreams := registry{}
	for _, u := range d.draft.upstreams {
		d.add(upstreams, "the upstream", u.name)
	}
	d.needSection("upstreams", "there is nothing to call")
}

func (d *decoder) checkCallers() {
	callers, people, upstreams := registry{}, d.personNames(), d.upstreamNames()
	for i := range d.draft.callers {
		c := &d.draft.callers[i]
		d.add(callers, "the caller", c.name)
		for _, w := range c.owners {
			d.isPerson(w, people, "owners are people; list the group's members")
		}
		for _, w := range c.upstreams {
			d.known("upstream", w, upstreams)
		}
		for _, k := range c.keys {
			d.checkKeyUpstreams(k, c)
		}
		d.checkEndpoints(c)
	}
	d.needSection("callers", "nobody could submit a call")
}

// checkKeyUpstreams reports a key for an upstream that its caller may not use: nothing could
// be done with it.
func (d *decoder) checkKeyUpstreams(k keyDraft, c *callerDraft) {
	for _, w := range k.upstreams {
		if !slices.Contains(texts(c.upstreams), w.text) {
			d.problem(w.at, didYouMean(w.text, texts(c.upstreams)), "the caller %q may not use upstream %q", c.name.text, shorten(w.text))
		}
	}
}

func (d *decoder) known(what string, w word, names []string) bool {
	if w.text == "" || slices.Contains(names, w.text) {
		return true
	}
	d.problem(w.at, didYouMean(w.text, names), "unknown %s %q", what, shorten(w.text))
	return false
}

// needSection reports that a section is missing from all files. One that is there but
// empty or broken has been reported.
func (d *decoder) needSection(section, why string) {
	if !d.sections[section] {
		d.problem(d.whole, "", "the section %q is missing: %s", section, why)
	}
}

func (d *decoder) checkRules() {
	rules := registry{}
	upstreams, callers := d.upstreamNames(), d.callerNames()
	approvers, hours, told := d.approverNames(), d.groupHours(), d.reachable()
	for i := range d.draft.rules {
		r, before := &d.draft.rules[i], len(d.problems)
		d.add(rules, "the rule", r.name)
		if d.known("upstream", r.upstream, upstreams) {
			d.checkMethods(*r)
		}
		for _, w := range r.callers {
			if d.known("caller", w, callers) {
				d.checkAccess(*r, w)
			}
		}
		for _, s := range r.stages {
			d.checkStage(s, approvers, hours)
			d.checkDirect(s, approvers, told)
		}
		for _, w := range r.glass {
			d.known("person or group", w, approvers)
		}
		r.broken = r.broken || len(d.problems) > before
	}
	d.needSection("rules", "every call would be denied")
}

// checkMethods reports a rule that asks for none of its upstream's methods.
func (d *decoder) checkMethods(r ruleDraft) {
	for _, u := range d.draft.upstreams {
		if u.name.text != r.upstream.text || len(r.Match.Methods) == 0 {
			continue
		}
		if !slices.ContainsFunc(r.Match.Methods, func(m string) bool { return slices.Contains(u.Methods, m) }) {
			d.problem(r.methods[0].at, "", "the rule can never match: upstream %q allows none of these methods", u.name.text)
		}
	}
}

// checkAccess reports a caller that may not use the rule's upstream.
func (d *decoder) checkAccess(r ruleDraft, w word) {
	for _, c := range d.draft.callers {
		if c.name.text == w.text && r.upstream.text != "" && !slices.Contains(texts(c.upstreams), r.upstream.text) {
			d.problem(w.at, "", "the rule can never match: caller %q may not use upstream %q", w.text, r.upstream.text)
		}
	}
}

func (d *decoder) checkStage(s stageDraft, approvers []string, hours map[string]*Hours) {
	for _, set := range s.need {
		for _, w := range set.from {
			d.known("person or group", w, approvers)
		}
	}
	for _, t := range s.tiers {
		for _, w := range t.asked() {
			d.known("person or group", w, approvers)
		}
	}
	d.checkHours(s, hours)
}

// reachable are the names behind which there is, or may be, somebody to whom a direct
// message can be sent.
func (d *decoder) reachable() map[string]bool {
	out := make(map[string]bool)
	for _, p := range d.draft.people {
		out[p.name.text] = len(p.slack) > 0 || d.draft.slack.MatchEmail && len(p.email) > 0
	}
	for _, g := range d.draft.groups {
		out[g.name.text] = g.live.text != "" || slices.ContainsFunc(g.members, func(w word) bool { return out[w.text] })
	}
	return out
}

// checkDirect reports a stage that can be asked neither in a channel nor directly.
func (d *decoder) checkDirect(s stageDraft, approvers []string, told map[string]bool) {
	slack := d.draft.slack
	if !slack.present || slack.channel.at.src != nil || s.channel.at.src != nil || s.fallback.text != "" || slack.fallback.text != "" {
		return
	}
	for _, set := range s.need {
		for _, w := range set.from {
			if told[w.text] || !slices.Contains(approvers, w.text) {
				return
			}
		}
	}
	d.problem(s.at, "set notify.channel, or slack.channel for all", "the stage has no channel to ask in, and nobody it asks has a Slack id")
}
