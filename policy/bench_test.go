package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"countersign/approvals"
	"countersign/policy"
)

// manyRules is a configuration of n rules over n/100 upstreams.
func manyRules(n int) string {
	var upstreams, names, rules strings.Builder
	for i := range n / 100 {
		fmt.Fprintf(&upstreams, "  - {name: u%d, base_url: \"https://u%d.internal\"}\n", i, i)
		fmt.Fprintf(&names, "u%d,", i)
	}
	for i := range n {
		fmt.Fprintf(&rules, "  - {name: r%d, match: {upstream: u%d, methods: [GET, POST], path: \"/things%d/{id}\"}, "+
			"stages: [{name: s, need: [{from: [security], approvals: 2}]}]}\n", i, i%(n/100), i)
	}
	return sections(map[string]string{
		"callers":   "callers:\n  - {name: bot, key_sha256: " + keyHash + ", owners: [ana], upstreams: [" + names.String() + "]}\n",
		"upstreams": "upstreams:\n" + upstreams.String(), "rules": "rules:\n" + rules.String(),
	})
}

func BenchmarkPlanWithAThousandRules(b *testing.B) {
	c, err := policy.Parse("config.yaml", []byte(manyRules(1000)), getenv)
	if err != nil {
		b.Fatal(err)
	}
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "u9", Method: "GET", Path: "/things999/42"}
	if got := c.Plan(bot, "", call); got.Rule != "r999" {
		b.Fatal(got)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Plan(bot, "", call)
	}
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
		c.CallerByKey("test")
	}
}
