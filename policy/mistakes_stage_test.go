package policy_test

import (
	"fmt"
	"strings"
)

// chain is n people who are all away, each with the next as delegate, and the last there;
// the mark stands where the first names theirs.
func chain(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("{name: p%d, slack: U0P%d, away: {until: 2026-12-24, delegate: p%d}}", i, i, i+1))
	}
	out[0] = strings.Replace(out[0], "delegate: ", "delegate: ➤", 1)
	return strings.Join(append(out, fmt.Sprintf("{name: p%d, slack: U0P%d}", n, n)), "\n  - ")
}

func providers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  - {issuer: \"https://i%d.example.com\", audience: gate}\n", i)
	}
	return b.String()
}

// scattered is n groups that work an hour a day, never at the same time.
func scattered(n int) string {
	text := "groups:\n"
	for i := range n {
		text += fmt.Sprintf("  - {name: g%d, members: [bo], hours: {timezone: UTC, days: [mon, tue, wed, thu, fri, sat, sun], from: \"%02d:00\", to: \"%02d:00\"}}\n", i, 2*i, 2*i+1)
	}
	return text
}

// mistakesOfStages are about what stages ask for besides approvals, and when.
func mistakesOfStages() []mistake {
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "rules", text: stage("need: [{from: [bo], approvals: 1}], " + text), message: message}
	}
	return []mistake{
		of("comment at another time", "comment: ➤always", `comment must be never, approve, deny or both`),
		of("comment misspelt", "comment: ➤aprove", `comment must be never, approve, deny or both (did you mean "approve"?)`),
		of("comment as a switch", "comment: ➤true", `comment must be text, not true or false (put it in quotes)`),
		of("backoff of nothing", "remind: {every: 1h, backoff: ➤0}", `backoff must be between 1 and 10`),
		of("backoff of too much", "remind: {every: 1h, backoff: ➤11}", `backoff must be between 1 and 10`),
		of("bound without backoff", "remind: {every: 1h, at_most: ➤2h}", `at_most bounds what backoff makes longer, and there is none (set backoff)`),
		of("bound below the first wait", "remind: {every: 1h, backoff: 2, at_most: ➤30m}", `at_most must not be less than every: 1h`),
		of("escalation to nobody", "escalate: [➤{after: 1h}]", `an escalation needs the field "to", or "need" with mode: replace`),
		of("escalation in two ways", "escalate: [➤{after: 1h, mode: replace, to: [chen], need: [{from: [chen], approvals: 1}]}]", `an escalation has "to" or "need", not both`),
		of("escalation that adds sets", "escalate: [➤{after: 1h, need: [{from: [chen], approvals: 1}]}]", `need stands in the place of the stage's own sets, so the mode must be replace (add mode: replace, or use "to")`),
		of("escalation to sets that name nobody", "escalate: [{after: 1h, mode: replace, need: [{from: [➤chem], approvals: 1}]}]", `unknown person or group "chem" (did you mean "chen"?)`),
		of("escalation to a quorum of nothing", "escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: ➤0}]}]", `approvals must be between 1 and 100`),
		of("off hours at times", "escalate: [{after: 1h, to: [chen], off_hours: ➤always}]", `off_hours must be true or false, not text`),
		of("escalation to too few", "escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: ➤2}]}]", `2 approvals are asked for, but only 1 person may decide: chen`),
		of("escalation to sets that compete", "escalate: [➤{after: 1h, mode: replace, need: [{from: [chen], approvals: 1}, {from: [chen], approvals: 1}]}]", `after this escalation stage "one" can never be approved: it needs 2 approvals by distinct people, but only these may decide: chen`),
		of("escalation to owners", "escalate: [➤{after: 1h, mode: replace, need: [{from: [ana], approvals: 1}]}]", `after this escalation stage "one" can never be approved for caller "bot", whose owners do not count: it needs 1 approval, but only these may decide: nobody`),
		of("more denials than people of all sets", "denials: ➤3, escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: 1}]}]", `3 denials can never be reached: only 2 people may decide`),
		of("denials by owners", "denials: ➤2, escalate: [{after: 1h, to: [ana]}]", `2 denials can never be reached for caller "bot", whose owners do not count: only 1 person may decide`),
		{promise: "quorum that only other sets could meet", section: "rules", text: stage("need: [{from: [bo], approvals: ➤2}], escalate: [{after: 1h, mode: replace, need: [{from: [security], approvals: 2}]}]"), message: `2 approvals are asked for, but only 1 person may decide: bo`},
		{promise: "one stage of two that cannot be met", section: "rules", text: rule("stages: [{name: one, need: [{from: [bo], approvals: 1}]}, ➤{name: two, need: [{from: [chen], approvals: 1}, {from: [chen], approvals: 1}]}]"), message: `stage "two" can never be approved: it needs 2 approvals by distinct people, but only these may decide: chen`},
		{promise: "stage that cannot be met even with votes of its own", section: "rules", text: rule("distinct: stage, stages: [➤{name: one, need: [{from: [ana], approvals: 1}]}, {name: two, need: [{from: [bo], approvals: 1}]}]"), message: `stage "one" can never be approved for caller "bot", whose owners do not count: it needs 1 approval, but only these may decide: nobody`},
	}
}

// mistakesOfBypass are about votes that count twice, and rules that are gone around.
func mistakesOfBypass() []mistake {
	ask := "stages: [{name: one, need: [{from: [bo], approvals: 1}]}]"
	of := func(promise, text, message string) mistake {
		return mistake{promise: promise, section: "rules", text: rule(text), message: message}
	}
	return []mistake{
		of("votes that count otherwise", "distinct: ➤never, "+ask, `distinct must be ticket or stage`),
		of("votes where there are none", "distinct: ➤stage, action: allow", `distinct is for rules with stages`),
		of("stale approvals otherwise", "on_stale: ➤reopn, "+ask, `on_stale must be reopen or end (did you mean "reopen"?)`),
		of("stale denials", "on_stale: ➤end, action: deny", `on_stale is for rules that let calls through`),
		of("bypass of nothing", "break_glass: ➤{from: [bo]}, action: allow", `break_glass is for rules with stages`),
		of("bypass by nobody", "break_glass: ➤{announce: C0X}, "+ask, `break_glass needs the field "from"`),
		of("bypass by an empty list", "break_glass: {from: ➤[]}, "+ask, `from is an empty list (remove the field or give it a value)`),
		of("bypass by somebody unknown", "break_glass: {from: [➤boo]}, "+ask, `unknown person or group "boo" (did you mean "bo"?)`),
		of("bypass by owners", "break_glass: ➤{from: [ana]}, "+ask, `nobody can break the glass for caller "bot", whose owners do not count: only these may: ana`),
		of("bypass announced nowhere", "break_glass: {from: [bo], announce: ➤everybody}, "+ask, `a channel is "#name" in lower case, quoted, or an id such as C0123ABCD`),
		of("bypass with a comment", "break_glass: {from: [bo], ➤comment: never}, "+ask, `unknown field "comment" in break_glass`),
	}
}
