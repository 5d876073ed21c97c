package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/policy"
)

func explain(t *testing.T, c *policy.Config, call approvals.Call) policy.Explanation {
	t.Helper()
	who, ok := c.Caller("bot")
	require.True(t, ok)
	out := c.Explain(who, "", call, noon)
	require.Equal(t, c.Plan(who, "", call, noon), out.Plan)
	return out
}

func TestEveryRuleBeforeTheMatchSaysWhyItDoesNot(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		"{name: files, action: allow, match: {upstream: files}}",
		"{name: deletes, action: allow, match: {upstream: billing, methods: [DELETE]}}",
		"{name: reads, action: allow, match: {upstream: billing, path: \"/x/{id}\", methods: [GET, HEAD, OPTIONS]}}",
		"{name: jobs, action: allow, match: {upstream: billing, callers: [job]}}",
		"{name: customers, action: deny, match: {path: \"/customers/{id}/keys\"}}",
		"{name: slashed, action: allow, match: {path: \"/customers/{id}\"}}",
		"{name: hard, action: deny, match: {path: \"/customers/{rest...}\", when: 'query.hard == \"false\"'}}",
		"{name: odd, action: allow, match: {path: \"/customers/{rest...}\", when: 'body.hard == true'}}",
		"{name: rest, action: allow, match: {methods: [POST]}}",
		"{name: never, action: deny, match: {upstream: billing, methods: [GET], path: /never}}",
	)
	got := explain(t, c, approvals.Call{Upstream: "billing", Method: "POST", Path: "/customers/42/", Query: "hard=true", Body: []byte("{}")})
	require.Equal(t, []policy.Step{
		{Rule: "files", Why: "the upstream is billing, the rule asks for files"},
		{Rule: "deletes", Why: "the method is POST, the rule asks for DELETE"},
		{Rule: "reads", Why: "the method is POST, the rule asks for GET, HEAD or OPTIONS"},
		{Rule: "jobs", Why: "the caller is not among job"},
		{Rule: "customers", Why: "the path does not match /customers/{id}/keys"},
		{Rule: "slashed", Why: "the path does not match /customers/{id}: a rule that allows does not hold with a slash at the end"},
		{Rule: "hard", Why: "the condition is false", Condition: `query.hard == "false"`},
		{Rule: "odd", Why: "condition error: there is no such field", Condition: "body.hard"},
		{Rule: "rest", Matched: true, Why: "it is the first rule that matches"},
	}, got.Steps)
	require.Equal(t, `the condition is false: query.hard == "false"`, got.Steps[6].String())
	require.Equal(t, "condition error: body.hard: there is no such field", got.Steps[7].String())
	require.Equal(t, "it is the first rule that matches", got.Steps[8].String())
	require.Equal(t, approvals.ActionAllow, got.Plan.Action)
	require.Empty(t, got.Stages)
	require.Empty(t, got.Problem)

	text, err := json.Marshal(got)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"steps":[{"rule":"files","matched":false,"why":"the upstream is billing, the rule asks for files"}`)
	require.Contains(t, string(text), `"stages":[]`)
}

func TestAnExplanationSaysHowASlashOrAnErrorDecides(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		"{name: one, stages: [{name: s, need: [{from: [bo], approvals: 1}]}], match: {path: \"/customers/{id}\", when: 'query.x == \"\"'}}",
		"{name: rest, action: allow, match: {}}",
	)
	call := approvals.Call{Upstream: "billing", Method: "POST", Path: "/customers/42/"}
	require.Equal(t, []policy.Step{
		{Rule: "one", Matched: true, Why: "it matches without the slash at the end of the path, which many servers pass over"},
	}, explain(t, c, call).Steps)
	call.Query = "x=1&x=2"
	got := explain(t, c, call)
	require.Equal(t, []policy.Step{
		{Rule: "one", Why: "condition error: it is given more than once, so that servers may read it in two ways, so the call is denied", Condition: "query.x"},
	}, got.Steps)
	require.Empty(t, got.Stages)
}

func TestACallThatIsDeniedBeforeTheRulesHasNoSteps(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: rest, action: allow, match: {}}")
	for _, call := range []approvals.Call{
		{Upstream: "files", Method: "GET", Path: "/"}, {Upstream: "billing", Method: "PATCH", Path: "/"}, {Upstream: "billing", Method: "GET", Path: "//"}, {},
	} {
		got := explain(t, c, call)
		require.Empty(t, got.Steps)
		require.NotNil(t, got.Steps)
		require.NotEmpty(t, got.Plan.Reason)
	}
	none := explain(t, ruled(t, "{name: gets, action: allow, match: {methods: [GET]}}"), approvals.Call{Upstream: "billing", Method: "POST", Path: "/"})
	require.Equal(t, []policy.Step{{Rule: "gets", Why: "the method is POST, the rule asks for GET"}}, none.Steps)
	require.Equal(t, "no rule matches this call", none.Plan.Reason)
}

func TestEveryStageSaysWhoCouldApproveItAndWhyOthersCannot(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: all, match: {}, expires_in: 2h, stages: ["+
		"{name: peer, need: [{from: [bo, ana], approvals: 1}], escalate: [{after: 1h, to: [chen]}]}, {name: second, need: [{from: [security], approvals: 1}]}]}")
	bot, _ := c.Caller("bot")
	got := c.Explain(bot, "", approvals.Call{Upstream: "billing", Method: "GET", Path: "/"}, noon)
	require.Empty(t, got.Problem)
	require.Len(t, got.Stages, 2)
	peer, second := got.Stages[0], got.Stages[1]
	require.Equal(t, "peer", peer.Name)
	require.Equal(t, []approvals.ApproverSet{{From: []string{"bo", "ana"}, Approvals: 1}}, peer.Sets)
	require.Equal(t, []string{"ana:self_approval", "bo"}, whoCan(peer))
	require.Equal(t, []approvals.Tier{{After: got.Plan.Stages[0].Escalate[0].After, To: []string{"chen"}, Mode: approvals.ModeAdd}}, peer.Tiers)
	require.Equal(t, []string{"ana:self_approval", "bo", "chen"}, whoCan(second))
	require.Empty(t, second.Tiers)

	unmet := c.Explain(bot, "bo", approvals.Call{Upstream: "billing", Method: "GET", Path: "/"}, noon)
	require.Len(t, unmet.Stages, 2)
	require.Equal(t, []string{"ana:self_approval", "bo:self_approval"}, whoCan(unmet.Stages[0]))
	require.Equal(t, []string{"ana:self_approval", "bo:self_approval", "chen"}, whoCan(unmet.Stages[1]))
	require.Empty(t, unmet.Stages[0].Problem, "chen comes in later")
	require.Contains(t, unmet.Problem, `rule "all" cannot be satisfied`, "but has one vote for both")

	none := c.Explain(bot, "chen", approvals.Call{Upstream: "billing", Method: "GET", Path: "/"}, noon)
	require.Contains(t, none.Problem, `rule "all" cannot be satisfied`)
}

func whoCan(s policy.StageExplanation) []string {
	var out []string
	for _, e := range s.People {
		text := e.Person
		if !e.Can {
			text += ":" + string(e.Code)
		}
		out = append(out, text)
	}
	return out
}

func TestAnExplanationIsBounded(t *testing.T) {
	t.Parallel()
	var rules []string
	for i := range 1500 {
		rules = append(rules, fmt.Sprintf("{name: r%d, action: allow, match: {path: /p%d}}", i, i))
	}
	c := ruled(t, rules...)
	got := explain(t, c, approvals.Call{Upstream: "billing", Method: "GET", Path: "/p1400"})
	require.Len(t, got.Steps, 1000)
	require.Equal(t, policy.Step{
		Rule: "r1400", Matched: true, Why: "it is the first rule that matches (401 rules before it are not listed)",
	}, got.Steps[999])
	require.Len(t, explain(t, c, approvals.Call{Upstream: "billing", Method: "GET", Path: "/none"}).Steps, 999)
}

// Whatever the rules and the call are: the explanation is about the plan, its steps are the
// rules in order, exactly the last one matches, and it is the rule of the plan.
func TestExplanationsAgreeWithPlans(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := drawConfig(t)
		for range 20 {
			caller, call := drawCall(t, c)
			behalf := rapid.SampledFrom([]string{"", "bo", "U0CHEN", "nobody"}).Draw(t, "behalf")
			plan, got := c.Plan(caller, behalf, call, noon), c.Explain(caller, behalf, call, noon)
			require.Equal(t, plan, got.Plan)
			checkSteps(t, c, got)
			stages := len(plan.Stages)
			require.Len(t, got.Stages, stages)
		}
	})
}

func checkSteps(t require.TestingT, c *policy.Config, got policy.Explanation) {
	for i, step := range got.Steps {
		last := i == len(got.Steps)-1
		require.Equal(t, c.Rules[i].Name, step.Rule)
		require.NotEmpty(t, step.Why)
		if !last || got.Plan.Rule == "" {
			require.False(t, step.Matched)
			require.NotContains(t, step.Why, "it does not hold", "%+v", got)
			continue
		}
		require.Equal(t, got.Plan.Rule, step.Rule)
		require.Equal(t, strings.Contains(got.Plan.Reason, "cannot be evaluated"), !step.Matched)
		if step.Matched {
			require.Equal(t, c.Rules[i].Action, got.Plan.Action)
		}
	}
	if got.Plan.Rule != "" {
		require.NotEmpty(t, got.Steps)
	}
}

var whens = []string{
	``, `query.x == "1"`, `query.x != "1"`, `body.n > 1`, `has(body.n) && body.n > 1`, `headers["x-a"] == "b"`, `path.endsWith("a")`, `method != "GET"`,
	`"bo" == on_behalf_of`, `query_all.x.exists(v, v == "2")`, `true`, `int(query.x) == 1`, `caller.name == "bot"`,
}

func drawConfig(t *rapid.T) *policy.Config {
	var rules []string
	for i := range rapid.IntRange(1, 7).Draw(t, "rules") {
		action := rapid.SampledFrom([]string{"action: allow", "action: deny", "stages: [{name: s, need: [{from: [bo, chen], approvals: 1}]}]"}).Draw(t, "action")
		rule := strings.Replace(drawRule(t, i, true), "action: allow", action, 1)
		if when := rapid.SampledFrom(whens).Draw(t, "when"); when != "" {
			at := strings.LastIndex(rule, "}}")
			comma := ", "
			if strings.HasSuffix(rule, "{}}") {
				comma = ""
			}
			rule = rule[:at] + comma + "when: " + single(when) + "}}"
		}
		if _, err := policy.Parse("config.yaml", []byte(sections(ruledSections(append(rules, rule)))), getenv); err == nil {
			rules = append(rules, rule)
		}
	}
	if len(rules) == 0 {
		rules = []string{"{name: rest, action: allow, match: {}}"}
	}
	c, err := policy.Parse("config.yaml", []byte(sections(ruledSections(rules))), getenv)
	require.NoError(t, err)
	return c
}

func drawCall(t *rapid.T, c *policy.Config) (policy.Caller, approvals.Call) {
	caller, _ := c.Caller(rapid.SampledFrom([]string{"bot", "job"}).Draw(t, "caller"))
	call := approvals.Call{
		Upstream: rapid.SampledFrom([]string{"billing", "files"}).Draw(t, "upstream"),
		Method:   rapid.SampledFrom([]string{"GET", "HEAD", "POST", "DELETE"}).Draw(t, "method"),
		Path:     rapid.SampledFrom([]string{"/", "/a", "/a/", "/b", "/b/", "/a/b", "/a/b/", "/a//", "/%61"}).Draw(t, "path"),
		Query:    rapid.SampledFrom([]string{"", "x=1", "x=2", "x=1&x=2", "x=%", "y=1"}).Draw(t, "query"),
		Body:     []byte(rapid.SampledFrom([]string{"", `{"n":2}`, `{"n":0}`, `{}`, `{"n":"a"}`, `{`}).Draw(t, "body")),
	}
	if rapid.Bool().Draw(t, "header") {
		call.Headers = []approvals.Header{{Name: "X-A", Value: "b"}}
	}
	return caller, call
}
