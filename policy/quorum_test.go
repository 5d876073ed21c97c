package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What is close to a mistake and is none.
func TestAQuorumThatCanBeMetSomehowLoads(t *testing.T) {
	t.Parallel()
	const one = "need: [{from: [bo], approvals: 1}]"
	for promise, text := range map[string]string{
		"a person for each of two stages, one at a time": rule("distinct: stage, stages: [{name: one, " + one + "}, {name: two, " + one + "}]"),
		"too few at first, and more are added":           stage("need: [{from: [bo], approvals: 2}], escalate: [{after: 1h, to: [chen]}]"),
		"too few after a takeover, and more are added":   stage("need: [{from: [bo, chen], approvals: 2}], escalate: [{after: 1h, to: [bo], mode: replace}, {after: 2h, to: [chen]}]"),
		"new sets that ask more of more":                 stage(one + ", escalate: [{after: 1h, mode: replace, need: [{from: [security], approvals: 2}]}]"),
		"new sets that are added to":                     stage(one + ", escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: 2}]}, {after: 2h, to: [bo]}]"),
		"new sets that ask less":                         stage("need: [{from: [bo, chen], approvals: 2}], escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: 1}]}]"),
		"denials by those of all sets":                   stage(one + ", denials: 2, escalate: [{after: 1h, mode: replace, need: [{from: [chen], approvals: 1}]}]"),
		"a bypass by an owner and another":               rule("break_glass: {from: [ana, bo]}, stages: [{name: one, " + one + "}]"),
		"a bypass by those who are asked":                rule("break_glass: {from: [bo]}, stages: [{name: one, " + one + "}]"),
	} {
		t.Run(promise, func(t *testing.T) {
			t.Parallel()
			c := parse(t, map[string]string{"rules": text})
			require.NoError(t, plan(t, c, "bot", "GET", "/a").Check(c.Directory()))
		})
	}
}
