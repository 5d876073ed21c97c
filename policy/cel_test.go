package policy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

// conditional loads one rule that denies where a condition holds, over the path
// /customers/{id}, and one that allows everything else.
func conditional(t *testing.T, when string) *policy.Config {
	t.Helper()
	return ruled(t, guarded(when), "{name: rest, action: allow, match: {}}")
}

func guarded(when string) string {
	return "{name: guard, action: deny, reason: guarded, match: {path: \"/customers/{id}\", when: " + single(when) + "}}"
}

// single writes a text between single quotation marks.
func single(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// customer is a call that the path of a conditional rule matches.
func customer() approvals.Call {
	return approvals.Call{
		Upstream: "billing", Method: "POST", Path: "/customers/a%2Fb%20c", Query: "hard=true&tag=a&tag=b&empty=&sp=a+b%21",
		Headers: []approvals.Header{{Name: "X-Team", Value: "core"}, {Name: "X-Two", Value: "1"}, {Name: "x-two", Value: "2"}},
		Body:    []byte(`{"amount": 100.5, "count": 7, "items": [{"sku": "x"}, {"sku": "y"}], "note": null, "ok": true, "name": "Ann"}`),
	}
}

const unclear = `the condition of rule "guard" cannot be evaluated: `

func TestConditionsSeeTheWholeCall(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`method == "POST"`, `path == "/customers/a%2Fb c"`, `vars.id == "a/b c"`, `vars["id"].startsWith("a")`, `"id" in vars && size(vars) == 1`,
		`query.hard == "true"`, `query["hard"] == "true"`, `query.sp == "a b!"`, `query.missing == ""`, `query.empty == ""`,
		`has(query.hard) && has(query.empty) && !has(query.missing)`, `"hard" in query && !("missing" in query)`, `"tag" in query && has(query.tag)`,
		`query_all.tag == ["a", "b"]`, `query_all.tag.exists(v, v == "b")`, `!has(query_all.missing)`, `query.exists(name, name == "hard")`,
		`size(query) == 4 && query.size() == 4`, `query.all(name, name != "tag" ? query[name] != "x" : true)`,
		`headers["x-team"] == "core"`, `headers["x-missing"] == ""`, `!("x-missing" in headers)`, `"x-two" in headers`,
		`body.amount > 100 && body.amount < 101`, `body.count == 7`, `body.count == 7.0`, `body.count >= 6.5`, `body.note == null`, `body.ok == true`,
		`body.items.exists(i, i.sku == "y")`, `size(body.items) == 2`, `body.items[1].sku == "y"`, `has(body.name) && !has(body.missing)`,
		`body.name.lowerAscii() == "ann"`, `"name" in body`, `!has(body.note.deeper)`,
		`caller.name == "bot"`, `caller.owners == ["ana"]`, `on_behalf_of in ["bo"]`, `!(on_behalf_of in caller.owners)`,
		`now == timestamp("2026-11-23T12:00:00Z")`, `now.getHours("Europe/Berlin") == 13`, `now.getHours("+05:30") == 17`, `now.getDayOfWeek() == 1`,
		`now - duration("1h") < timestamp("2026-11-23T11:30:00Z")`,
		`query.sp.matches("^a b.$")`, `"a,b".split(",")[1] == "b"`, `" x ".trim() == "x"`, `"abc".substring(1) == "bc"`,
		`query.hard == "true" || query.tag == "a"`, // what is true is true whatever the rest is
	} {
		c := conditional(t, when)
		bot, _ := c.Caller("bot")
		got := c.Plan(bot, "BO@example.com", customer(), noon)
		require.Equal(t, "guarded", got.Reason, when)
		require.Equal(t, "guard", got.Rule, when)
	}
}

func TestAFalseConditionIsNoMatch(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`query.hard == "false"`, `query.missing == "true"`, `has(query.missing)`, `headers["x-missing"] == "core"`, `body.amount > 101`,
		`vars.id == "a%2Fb c"`, `body == null`, `query.missing == "x" && query.tag == "a"`, `false`,
	} {
		require.Equal(t, "rest", conditionalPlan(t, conditional(t, when), customer()).Rule, when)
	}
}

func conditionalPlan(t *testing.T, c *policy.Config, call approvals.Call) approvals.Plan {
	t.Helper()
	bot, ok := c.Caller("bot")
	require.True(t, ok)
	return c.Plan(bot, "", call, noon)
}

// What a rule that asks or denies cannot judge is denied; what a rule that allows cannot
// judge, it does not allow.
func TestACallIsDeniedWhenAConditionCannotBeEvaluated(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ when, why string }{
		{`query.tag == "a"`, "query.tag: it is given more than once, so that servers may read it in two ways"},
		{`query["tag"] == "a"`, `query["tag"]: it is given more than once, so that servers may read it in two ways`},
		{`headers["x-two"] == "1"`, `headers["x-two"]: it is given more than once, so that servers may read it in two ways`},
		{`query_all.missing.exists(v, v == "")`, "query_all.missing: there is no such field"},
		{`body.missing == 1`, "body.missing: there is no such field"},
		{`body.items[2].sku == "z"`, "body.items[2].sku: there is no such element"},
		{`body.name > 5`, "a value is not of the type that the condition expects"},
		{`body.name && true`, "a value is not of the type that the condition expects"},
		{`body.count / 0 == 1`, "it divides by zero"},
		{`int(body.name) == 1`, "a value cannot be converted"},
		{`timestamp(body.name) < now`, "a value cannot be converted"},
		{`body.amount.getHours() == 1`, "a value is not of the type that the condition expects"},
		{`body.count.exists(x, x == 1)`, "a value is not of the type that the condition expects"},
	} {
		deny := conditionalPlan(t, conditional(t, tt.when), customer())
		require.Equal(t, unclear+tt.why, deny.Reason, tt.when)
		require.Equal(t, approvals.ActionDeny, deny.Action)
		require.Equal(t, "guard", deny.Rule)

		ask := conditionalPlan(t, ruled(t, strings.ReplaceAll(guarded(tt.when), "action: deny, reason: guarded",
			"break_glass: {from: [bo]}, stages: [{name: s, need: [{from: [bo], approvals: 1}]}]"), "{name: rest, action: allow, match: {}}"), customer())
		require.Equal(t, unclear+tt.why, ask.Reason, tt.when)
		require.Equal(t, approvals.ActionDeny, ask.Action)
		require.Empty(t, ask.Stages)
		require.Nil(t, ask.BreakGlass)

		allow := conditionalPlan(t, ruled(t, strings.ReplaceAll(guarded(tt.when), "action: deny, reason: guarded", "action: allow")), customer())
		require.Equal(t, "no rule matches this call", allow.Reason, tt.when)
		require.Equal(t, approvals.ActionDeny, allow.Action)
	}
}

func TestAReasonNeverQuotesTheBody(t *testing.T) {
	t.Parallel()
	call := customer()
	call.Body = []byte(`{"a": "canary", "canary": {}, "k": "canary", "l": ["canary"], "when": "canaryT00:00:00Z"}`)
	for _, when := range []string{
		`int(body.a) == 1`, `double(body.a) == 1.0`, `timestamp(body.when) == now`, `duration(body.a) == duration("1s")`, `body[body.k].x == 1`,
		`body.l[body.a] == 1`, `body.l[0] == 1 || body.l[0] > 1`, `body.a.matches("x") || body[body.l[0]].y`, `uint(body.a) == 1u`, `bool(body.a)`,
	} {
		got := conditionalPlan(t, conditional(t, when), call)
		require.True(t, strings.HasPrefix(got.Reason, unclear), "%s: %s", when, got.Reason)
		require.NotContains(t, got.Reason, "canary", when)
		require.LessOrEqual(t, len(got.Reason), 300)
	}
}

func TestABodyThatServersMayReadInTwoWaysIsAnError(t *testing.T) {
	t.Parallel()
	c := conditional(t, `body != "never" && vars.id == "x"`)
	is := conditional(t, `body == body`)
	for _, body := range []string{
		`{"a":1,"a":1}`, `{"a":1,"\u0061":2}`, `{"x":{"a":1,"a":2}}`, `{"a":1} {}`, `{"a":1}x`, ` `, "\ufeff{}", `{"a":"` + "\xff" + `"}`, `"\ud800"`,
		`"\ud800\u0061"`, `"\udc00\ud800"`, `01`, `-`, `1.`, `.5`, `1e`, `+1`, `NaN`, `Infinity`, `1e999`, `-1e999`, `1e-999`, `9223372036854775808`,
		`{'a':1}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{"a" 1}`, `{"a":}`, `{a:1}`, `nul`, `tru`, `"a`, `"\x41"`, `"\u12g4"`, `"\`, `"\u12`, "\"a\nb\"", "\"\\n\n\"", `[`, `{`,
		`{"a":1}` + "\x00", strings.Repeat("[", 65) + strings.Repeat("]", 65), `/**/{}`, `hard=true`,
	} {
		call := customer()
		call.Body = []byte(body)
		require.Equal(t, unclear+"the body is not strict JSON", conditionalPlan(t, is, call).Reason, body)
		require.Equal(t, "rest", conditionalPlan(t, c, call).Rule, "%s: a condition that is false whatever the body is", body)
	}
	for _, body := range []string{
		``, `{}`, `[]`, `null`, `true`, `0`, `-0`, `1.5e3`, `9223372036854775807`, `-9223372036854775808`, `0.0`, `0e5`, `"\ud83d\ude00é\"\\\/\b\f\n\r\t"`,
		" {\n\"a\" :\t[ 1 , {} ] }\r\n", strings.Repeat("[", 64) + strings.Repeat("]", 64), `{"a":1,"b":{"A":2},"":3}`,
	} {
		call := customer()
		call.Body = []byte(body)
		require.Equal(t, "guarded", conditionalPlan(t, is, call).Reason, body)
	}
	call := customer()
	call.Body = []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	require.Equal(t, unclear+"the body is too large for a condition", conditionalPlan(t, is, call).Reason)
}

func TestBodiesKeepTheirValues(t *testing.T) {
	t.Parallel()
	for body, when := range map[string]string{
		``: `body == null`, `null`: `body == null && !has(body.x)`, `[1,2.5,"\u00e9\n",[]]`: `body == [1, 2.5, "\u00e9\n", []]`,
		`{"n":9007199254740993}`: `body.n == 9007199254740993 && body.n != 9007199254740992`,
		`{"n":1e2}`:              `body.n == 100 && type(body.n) == double`,
		`"\ud83d\ude00"`:         `body == "\U0001f600" && size(body) == 1`,
		`{"a b":{"c":[true]}}`:   `body["a b"].c[0] == true`,
	} {
		call := customer()
		call.Body = []byte(body)
		require.Equal(t, "guarded", conditionalPlan(t, conditional(t, when), call).Reason, "%s: %s", body, when)
	}
}

func TestAQueryThatServersMayReadInTwoWaysIsAnError(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"hard=%zz", "a=1;hard=true", "%ff=1", "x=%", "hard=true&y=%c3%28"} {
		call := customer()
		call.Query = query
		for _, when := range []string{`query.hard == "false"`, `"hard" in query_all`, `has(query.x)`} {
			require.Equal(t, unclear+"the query can be read in more than one way", conditionalPlan(t, conditional(t, when), call).Reason, "%s: %s", query, when)
		}
	}
}

func TestNoSpellingOfAPathGetsRoundACondition(t *testing.T) {
	t.Parallel()
	c := ruled(t, `{name: guard, action: deny, match: {when: 'path.startsWith("/admin/") || path == "/admin"'}}`, "{name: rest, action: allow, match: {}}")
	for path, rule := range map[string]string{
		"/admin": "guard", "/%61dmin": "guard", "/admin/": "guard", "/adm%69n/x/y": "guard", "/admin/x/": "guard",
		"/admin%2Fx": "rest", "/admin%252Fx": "rest", "/Admin": "rest", "/": "rest",
	} {
		require.Equal(t, rule, plan(t, c, "bot", "GET", path).Rule, path)
	}
	rest := ruled(t, `{name: guard, action: deny, match: {path: "/files/{x}/{all...}", when: 'vars.all == "a/b%2Fc/d e" && vars.x == "%/z"'}}`, "{name: rest, action: allow, match: {}}")
	require.Equal(t, "guard", plan(t, rest, "bot", "GET", "/files/%25%2Fz/%61/b%2fc/d%20e").Rule)
	require.Equal(t, "rest", plan(t, rest, "bot", "GET", "/files/%25%2Fz/a/b/c/d%20e").Rule)
}

// The rule of the slash at the end of a path holds with conditions too.
func TestASlashAtTheEndNeverGetsRoundACondition(t *testing.T) {
	t.Parallel()
	ask := "stages: [{name: s, need: [{from: [bo], approvals: 1}]}]"
	c := ruled(t,
		`{name: reads, action: allow, match: {path: "/customers/{id}", when: 'method == "GET" && query.x == ""'}}`,
		`{name: one, `+ask+`, match: {path: "/customers/{id}", when: 'vars.id == "42" && query.hard == "true"'}}`,
		`{name: bare, `+ask+`, match: {when: 'path == "/customers/7"'}}`,
		"{name: rest, action: allow, match: {}}",
	)
	for _, tt := range []struct{ method, path, query, rule, action string }{
		{"POST", "/customers/42", "hard=true", "one", "approve"},
		{"POST", "/customers/42/", "hard=true", "one", "approve"},
		{"POST", "/customers/42/", "", "rest", "allow"},
		{"POST", "/customers/43/", "hard=true", "rest", "allow"},
		{"POST", "/customers/42/", "hard=true&hard=false", "one", "deny"},
		{"POST", "/customers/7/", "", "bare", "approve"},
		{"POST", "/customers/7", "", "bare", "approve"},
		{"GET", "/customers/42/", "hard=true", "rest", "allow"}, // as without the slash: it is allowed
		{"GET", "/customers/42/", "hard=true&x=1&x=2", "one", "approve"},
	} {
		bot, _ := c.Caller("bot")
		got := c.Plan(bot, "", approvals.Call{Upstream: "billing", Method: tt.method, Path: tt.path, Query: tt.query}, noon)
		require.Equal(t, tt.rule, got.Rule, "%+v", tt)
		require.Equal(t, approvals.Action(tt.action), got.Action, "%+v", tt)
	}
}

// What a condition would cost is bounded when it is evaluated, for one and for all of a
// call's together.
func TestConditionsThatCostTooMuchAreErrors(t *testing.T) {
	t.Parallel()
	call := customer()
	call.Body = []byte("[" + strings.Repeat("1,", 50_000) + "1]")
	nested := `body.exists(x, body.exists(y, x == -1 && y == -1))`
	require.Equal(t, unclear+"it costs too much to evaluate", conditionalPlan(t, conditional(t, nested), call).Reason)
	require.Equal(t, unclear+"it costs too much to evaluate", conditionalPlan(t, conditional(t, `body.all(x, body == body)`), call).Reason)
	require.Equal(t, unclear+"it costs too much to evaluate", conditionalPlan(t, conditional(t, `body.all(x, now.getHours("Europe/Berlin") < 24)`), call).Reason)

	var rules []string
	for i := range 20 {
		rules = append(rules, fmt.Sprintf(`{name: a%d, action: allow, match: {path: "/customers/{id}", when: 'body.exists(x, x == -%d)'}}`, i, i+1))
	}
	c := ruled(t, append(rules, guarded(`body[0] == 2`), "{name: rest, action: allow, match: {}}")...)
	require.Equal(t, unclear+"it costs too much to evaluate", conditionalPlan(t, c, call).Reason)
	call.Body = []byte("[1]")
	require.Equal(t, "rest", conditionalPlan(t, c, call).Rule)
}

func TestTimeConditionsAreJudgedByTheHourOfSubmission(t *testing.T) {
	t.Parallel()
	c := conditional(t, `now.getHours("Europe/Berlin") >= 18`)
	bot, _ := c.Caller("bot")
	call := customer()
	evening := noon.Add(6 * time.Hour)
	require.Equal(t, "rest", c.Plan(bot, "", call, noon).Rule)
	require.Equal(t, "guard", c.Plan(bot, "", call, evening).Rule)
	require.Equal(t, "guard", c.Plan(bot, "", call, evening.In(time.FixedZone("", -8*3600))).Rule)
	require.Equal(t, "guard", c.Today(approvals.Ticket{Caller: "bot", Call: call, CreatedAt: evening}).Rule)
}

func TestConditionsAreSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	c := ruled(t, guarded(`body.name > 5 || query.tag == "x"`), "{name: rest, action: allow, match: {}}")
	bot, _ := c.Caller("bot")
	want := c.Plan(bot, "", customer(), noon)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				if got := c.Plan(bot, "", customer(), noon); got.Reason != want.Reason {
					t.Errorf("%q, not %q", got.Reason, want.Reason)
				}
			}
		})
	}
	group.Wait()
}

func TestTheSameConditionInAnotherRuleIsAnotherCondition(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		`{name: one, action: deny, match: {path: "/a/{id}", when: 'vars.id == "x"'}}`,
		`{name: two, action: deny, match: {path: "/b/{y}/{id}", when: 'vars.id == "x"'}}`,
		"{name: rest, action: allow, match: {}}",
	)
	for path, rule := range map[string]string{"/a/x": "one", "/a/y": "rest", "/b/x/y": "rest", "/b/y/x": "two"} {
		require.Equal(t, rule, plan(t, c, "bot", "GET", path).Rule, path)
	}
}

func TestAConditionIsPartOfThePolicy(t *testing.T) {
	t.Parallel()
	one, other := conditional(t, `query.x == "1"`), conditional(t, `query.x == "2"`)
	require.NotEqual(t, one.Digest, other.Digest)
	require.Equal(t, `query.x == "1"`, one.Rules[0].Match.When)
}
