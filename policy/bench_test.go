package policy_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

// manyRules is a configuration of n rules over n/100 upstreams.
func manyRules(n int) string {
	var rules strings.Builder
	for i := range n {
		fmt.Fprintf(&rules, "  - {name: r%d, match: {upstream: u%d, methods: [GET, POST], path: \"/things%d/{id}\"}, "+
			"stages: [{name: s, need: [{from: [security], approvals: 2}]}]}\n", i, i%(n/100), i)
	}
	return withUpstreams(n/100, rules.String())
}

func withUpstreams(n int, rules string) string {
	var upstreams, names strings.Builder
	for i := range n {
		fmt.Fprintf(&upstreams, "  - {name: u%d, base_url: \"https://u%d.internal\"}\n", i, i)
		fmt.Fprintf(&names, "u%d,", i)
	}
	return sections(map[string]string{
		"callers":   "callers:\n  - {name: bot, key_sha256: " + keyHash + ", owners: [ana], upstreams: [" + names.String() + "]}\n",
		"upstreams": "upstreams:\n" + upstreams.String(), "rules": "rules:\n" + rules,
	})
}

// mixedRules is a thousand rules over five upstreams and two methods, all with templates.
// Every third has a condition, and a path that all calls match.
func mixedRules() string {
	var rules strings.Builder
	whens := []string{`query.hard == "%d" && vars.id != "7"`, `headers["x-team"] == "team%d"`, `has(body.amount) && body.amount > %d000`, `caller.name == "bot%d"`}
	for i := range 1000 {
		match := fmt.Sprintf("upstream: u%d, methods: [%s], path: \"/things%d/{id}\"", i/2%5, []string{"GET", "POST"}[i%2], i)
		if i%3 == 0 {
			match = strings.Replace(match, fmt.Sprintf("things%d", i), "things", 1) + ", when: '" + fmt.Sprintf(whens[i%len(whens)], i+1) + "'"
		}
		if i == 999 {
			match = "upstream: u4, methods: [POST], path: \"/{x}/{id}\""
		}
		fmt.Fprintf(&rules, "  - {name: r%d, match: {%s}, stages: [{name: s, need: [{from: [security], approvals: 2}]}]}\n", i, match)
	}
	return withUpstreams(5, rules.String())
}

func benchmarkPlan(b *testing.B, text string, call approvals.Call) {
	b.Helper()
	c, err := policy.Parse("config.yaml", []byte(text), getenv)
	if err != nil {
		b.Fatal(err)
	}
	bot, _ := c.Caller("bot")
	if got := c.Plan(bot, "", call, noon); got.Rule != "r999" || got.Action != approvals.ActionApprove {
		b.Fatal(got)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Plan(bot, "", call, noon)
	}
}

// mixedCall is met by the last of the mixed rules, behind the 33 conditions of its upstream
// and method.
var mixedCall = approvals.Call{
	Upstream: "u4", Method: "POST", Path: "/things/42", Query: "hard=true&dry_run=no",
	Headers: []approvals.Header{{Name: "X-Team", Value: "core"}, {Name: "Content-Type", Value: "application/json"}},
	Body:    []byte(`{"amount": 12, "customer": {"id": "42", "name": "Ann"}, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}`),
}

// BenchmarkPlan: a thousand rules, a third of them with conditions. At most 50 µs are
// promised.
func BenchmarkPlan(b *testing.B) { benchmarkPlan(b, mixedRules(), mixedCall) }

func BenchmarkPlanWithAThousandRules(b *testing.B) {
	benchmarkPlan(b, manyRules(1000), approvals.Call{Upstream: "u9", Method: "GET", Path: "/things999/42"})
}

// The limit is ten times what is promised, so that a busy machine does not fail it.
func TestPlanningWithAThousandRulesIsFast(t *testing.T) {
	t.Parallel()
	const limit = 500 * time.Microsecond
	best := time.Duration(math.MaxInt64)
	for range 5 {
		result := testing.Benchmark(BenchmarkPlan)
		require.NotZero(t, result.N)
		if best = min(best, time.Duration(result.NsPerOp())); best < limit {
			break
		}
	}
	t.Logf("a plan with a thousand rules and 33 conditions to evaluate takes %s", best)
	require.Less(t, best, limit)
}

func BenchmarkParseAThousandRules(b *testing.B) {
	text := []byte(manyRules(1000))
	for b.Loop() {
		if _, err := policy.Parse("config.yaml", text, getenv); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallerByKey(b *testing.B) {
	c, err := policy.Parse("config.yaml", []byte(sections(nil)), getenv)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.CallerByKey("test", noon)
	}
}
