package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/policy"
)

// judge says what a condition makes of a call, by a rule that denies and one that allows:
// they agree, except that what cannot be evaluated is denied by the one and not allowed by
// the other.
func judge(t require.TestingT, when string, call approvals.Call) (verdict string) {
	plan := func(action string, rest ...string) approvals.Plan {
		rule := strings.Replace(guarded(when), "action: deny, reason: guarded", action, 1)
		c, err := policy.Parse("config.yaml", []byte(sections(ruledSections(append([]string{rule}, rest...)))), getenv)
		require.NoError(t, err)
		bot, _ := c.Caller("bot")
		return c.Plan(bot, "", call, noon)
	}
	everything := "{name: rest, action: allow, match: {}}"
	deny, allow := plan("action: deny, reason: guarded", everything), plan("action: allow")
	ask := plan("stages: [{name: s, need: [{from: [bo], approvals: 1}]}]", everything)
	require.Equal(t, deny.Rule, ask.Rule)
	switch {
	case strings.Contains(deny.Reason, "cannot be evaluated"):
		require.Equal(t, approvals.ActionDeny, deny.Action)
		require.Equal(t, approvals.ActionDeny, ask.Action)
		require.Equal(t, approvals.ActionDeny, allow.Action, "an allow decision out of an error: %s", deny.Reason)
		require.Empty(t, allow.Rule)
		require.LessOrEqual(t, len(deny.Reason), 400)
		return "error"
	case deny.Rule == "guard":
		require.Equal(t, approvals.ActionDeny, deny.Action)
		require.Equal(t, approvals.ActionApprove, ask.Action)
		require.Equal(t, approvals.ActionAllow, allow.Action)
		return "true"
	}
	require.Equal(t, "rest", deny.Rule)
	require.Equal(t, approvals.ActionDeny, allow.Action)
	return "false"
}

// FuzzConditions: no text and no call panics, a mistake is a problem, and no allow decision
// comes out of a condition that cannot be evaluated.
func FuzzConditions(f *testing.F) {
	for _, when := range append(whens[1:],
		`body.items.all(i, i.sku.matches("^[a-z]+$") && i.n in [1, 2.0, "3"])`, `vars.id == "a" || query.hard == "true"`, `now.getHours("Europe/Berlin") > 18`,
		`body`, `[[[[1]]]] == body`, `{"a": 1}.a == body.a`, `size(body) > 3`, `query.exists(k, query[k] == "")`, `b"a" == bytes(body.x)`, `duration(query.x) < duration("1h")`,
		`dyn(1) == "a"`, `"`, `(`, `a.b.c`, `cel.bind(x, 1, x)`, `optional.of(1)`, `body.?x`, `type(body) == map`, `1 / 0 == 1`, `!(`, "\x00", "true &&\n  false",
	) {
		f.Add(when, "x=1&x=2", `{"n": 2, "items": [{"sku": "a", "n": 1}], "x": "y"}`)
	}
	f.Add(`body == body`, "%zz", `{"a":1,"a":2}`)
	f.Add(`body.x > 1`, "", "\xff")
	f.Fuzz(func(t *testing.T, when, query, body string) {
		rule := guarded(when)
		c, err := policy.Parse("config.yaml", []byte(sections(ruledSections([]string{rule}))), getenv)
		if err != nil || c.Rules[0].Match.When != when {
			return // YAML took it apart, or it is no condition
		}
		call := customer()
		call.Query, call.Body = query, []byte(body)
		judge(t, when, call)
	})
}

// The same, with conditions that often fail: put together from parts that do.
func TestNoAllowDecisionComesOutOfAnErringCondition(t *testing.T) {
	t.Parallel()
	parts := []string{
		"true", "false", `query.x == "1"`, `query.x != "1"`, `body.n > 1`, `body.n == "a"`, `1 / body.n == 1`, `headers["x-two"] == "1"`, `int(query.x) == 1`,
		`body.l.all(i, i > 0)`, `body.l.exists(i, i.x == 1)`, `has(body.n)`, `body == null`, `query_all.x[1] == "2"`,
	}
	seen := make(map[string]int)
	var expression func(t *rapid.T, depth int) string
	expression = func(t *rapid.T, depth int) string {
		kind := rapid.IntRange(0, 4).Draw(t, "kind")
		if depth == 0 || kind == 0 {
			return rapid.SampledFrom(parts).Draw(t, "part")
		}
		a, b := expression(t, depth-1), expression(t, depth-1)
		return []string{"", a + " && " + b, "(" + a + " || " + b + ")", "!(" + a + ")", "(" + a + " ? " + b + " : " + a + ")"}[kind]
	}
	rapid.Check(t, func(t *rapid.T) {
		call := customer()
		call.Query = rapid.SampledFrom([]string{"", "x=1", "x=1&x=2", "x=%", "x=a"}).Draw(t, "query")
		call.Body = []byte(rapid.SampledFrom([]string{"", "{}", `{"n":0}`, `{"n":2,"l":[1,-1]}`, `{"n":"a","l":[{"x":1},1]}`, "{", `{"n":1,"n":1}`}).Draw(t, "body"))
		seen[judge(t, expression(t, 3), call)]++
	})
	for _, verdict := range []string{"true", "false", "error"} {
		require.NotZero(t, seen[verdict], verdict)
	}
}
