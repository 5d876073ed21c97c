package policy_test

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"countersign/approvals"
	"countersign/policy"
)

// FuzzParse: never a panic, never both or neither of a configuration and an error, and
// every problem has its place in the file. What loads can plan, and what it plans can be met.
func FuzzParse(f *testing.F) {
	for _, path := range []string{"testdata/example.yaml", "testdata/complete.yaml", "testdata/mistakes.yaml"} {
		text, err := os.ReadFile(path) //nolint:gosec // a path of this test
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(sections(nil))
	for _, m := range slices.Concat(mistakesOfForm(), mistakesOfIdentity(), mistakesOfHours(), mistakesOfStages(), mistakesOfBypass()) {
		replace := map[string]string{m.section: m.text}
		maps.Copy(replace, m.also)
		f.Add(strings.ReplaceAll(sections(replace), "➤", ""))
	}
	for _, odd := range []string{
		"", "---", "...", "? a\n: b", "<<: *x", "- a", "a: [env:X, b:c:d]", "{a: [b:c]}", "%YAML 1.2\n---\na: 1", "a: |\n", "a: &a *a",
		"rules: [{name: a, match: {path: /{x...}}, stages: [{need: [{from: [a]}]}]}]", "callers: [{key_sha256: 1e5}]", "!!", "\t", "'",
	} {
		f.Add(odd)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := policy.Parse("config.yaml", []byte(text), getenv)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if c != nil {
			for _, caller := range c.Callers {
				p := c.Plan(caller, "", approvals.Call{Upstream: caller.Upstreams[0], Method: "GET", Path: "/a"}, noon)
				if err := p.Check(c.Directory()); err != nil {
					t.Fatalf("a rule that loads cannot be met by everybody: %v", err)
				}
				_ = c.Plan(caller, "x", approvals.Call{Upstream: caller.Upstreams[0], Method: "GET", Path: "/a"}, noon)
			}
			return
		}
		var found policy.Problems
		if !errors.As(err, &found) || len(found) == 0 {
			t.Fatalf("no problems in %v", err)
		}
		for _, p := range found {
			if p.Message == "" || p.File != "config.yaml" || strings.Contains(err.Error(), "canary") && !strings.Contains(text, "canary") {
				t.Fatalf("bad problem %#v", p)
			}
		}
	})
}
