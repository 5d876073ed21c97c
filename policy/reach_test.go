package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/policy"
)

// For every pair of templates: the later rule is refused exactly when no path is its alone.
// The paths are all of up to four segments over an alphabet that holds every literal.
func TestARuleIsUnreachableExactlyWhenNoPathIsItsAlone(t *testing.T) {
	t.Parallel()
	templates := []string{
		"", "/", "/{a...}", "/{a}", "/a", "/a/", "/a/{x}", "/a/{x...}", "/{x}/a", "/a/b", "/a/b/", "/{x}/{y}", "/{x}/{y...}",
		"/a/{x}/b", "/{x}/a/{y...}", "/a/b/{x...}", "/{x}/",
	}
	paths := allPaths(4)
	for _, first := range templates {
		matched := matching(t, first, paths)
		for _, second := range templates {
			_, err := policy.Parse("config.yaml", []byte(sections(map[string]string{"rules": "rules:\n" +
				pathRule("one", first) + pathRule("two", second)})), getenv)
			alone := false
			for path := range matching(t, second, paths) {
				alone = alone || !matched[path]
			}
			require.Equal(t, alone, err == nil, "%q then %q: %v", first, second, err)
		}
	}
}

func pathRule(name, template string) string {
	if template == "" {
		return "  - {name: " + name + ", action: allow, match: {}}\n"
	}
	return "  - {name: " + name + ", action: allow, match: {path: \"" + template + "\"}}\n"
}

func matching(t *testing.T, template string, paths []string) map[string]bool {
	t.Helper()
	c := parse(t, map[string]string{"rules": "rules:\n" + pathRule("it", template)})
	out := make(map[string]bool)
	for _, path := range paths {
		if plan(t, c, "bot", "GET", path).Rule == "it" {
			out[path] = true
		}
	}
	return out
}

func allPaths(depth int) []string {
	out, last := []string{"/"}, []string{""}
	for range depth {
		var longer []string
		for _, before := range last {
			for _, segment := range []string{"a", "b", "c"} {
				longer = append(longer, before+"/"+segment)
			}
		}
		last = longer
		for _, path := range longer {
			out = append(out, path, path+"/")
		}
	}
	return out
}

func TestARuleHiddenBySeveralTogetherIsNamedWithThem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		promise string
		rules   []string
		message string // "" when the rules load
	}{
		{"methods", []string{
			"{name: a, action: allow, match: {upstream: files, methods: [GET, HEAD, OPTIONS]}}",
			"{name: b, action: deny, match: {methods: [POST, PUT, PATCH, DELETE]}}",
			"{name: z, action: allow, match: {upstream: files, path: /x}}",
		}, `rule "z" can never match: the rules "a" (line 14) and "b" (line 15) before it together match every call it does`},
		{"callers", []string{
			"{name: a, action: allow, match: {upstream: billing, caller: bot}}",
			"{name: b, action: allow, match: {upstream: billing, caller: job, path: \"/{all...}\"}}",
			"{name: z, action: deny, match: {upstream: billing}}",
		}, `rule "z" can never match: the rules "a" (line 14) and "b" (line 15) before it together match every call it does`},
		{"upstreams", []string{
			"{name: a, action: allow, match: {upstream: billing}}",
			"{name: b, action: allow, match: {upstream: files}}",
			"{name: z, action: deny, match: {}}",
		}, `rule "z" can never match: the rules "a" (line 14) and "b" (line 15) before it together match every call it does`},
		{"the one upstream that its caller may use", []string{
			"{name: a, action: allow, match: {upstream: billing}}",
			"{name: z, action: deny, match: {caller: bot}}",
		}, `rule "z" can never match: rule "a" before it (line 14) matches every call it does`},
		{"a method is left", []string{
			"{name: a, action: allow, match: {upstream: files, methods: [GET, HEAD]}}",
			"{name: b, action: deny, match: {methods: [POST, PUT, PATCH, DELETE]}}",
			"{name: z, action: allow, match: {upstream: files}}",
		}, ``},
		{"a path is left", []string{
			"{name: a, action: allow, match: {upstream: files, methods: [GET, HEAD, OPTIONS], path: \"/{x}\"}}",
			"{name: b, action: deny, match: {methods: [POST, PUT, PATCH, DELETE]}}",
			"{name: z, action: allow, match: {upstream: files}}",
		}, ``},
		{"a condition hides nothing", []string{
			"{name: a, action: allow, match: {upstream: files, when: 'query.x == \"1\"'}}",
			"{name: b, action: allow, match: {upstream: files, when: 'query.x != \"1\"'}}",
			"{name: z, action: deny, match: {upstream: files}}",
		}, ``},
		{"a condition hides another", []string{
			"{name: a, action: allow, match: {upstream: files, when: 'query.x == \"1\"'}}",
			"{name: z, action: deny, match: {upstream: files, when: 'query.x == \"2\"'}}",
		}, ``},
		{"a condition hides the same", []string{
			"{name: a, action: allow, match: {upstream: files, when: 'query.x == \"1\"'}}",
			"{name: z, action: deny, match: {upstream: files, methods: [GET], path: /a, when: 'query.x == \"1\"'}}",
		}, `rule "z" can never match: rule "a" before it (line 14) matches every call it does`},
		{"the same words about other variables", []string{
			"{name: a, action: allow, match: {upstream: files, path: \"/{x}/{y}\", when: 'vars.x == \"1\"'}}",
			"{name: z, action: deny, match: {upstream: files, path: \"/{y}/{x}\", when: 'vars.x == \"1\"'}}",
		}, ``},
		{"a rule without a condition hides one with", []string{
			"{name: a, action: allow, match: {upstream: files}}",
			"{name: z, action: deny, match: {upstream: files, when: 'query.x == \"1\"'}}",
		}, `rule "z" can never match: rule "a" before it (line 14) matches every call it does`},
	} {
		if tt.message == "" {
			ruled(t, tt.rules...)
			continue
		}
		_, err := policy.Parse("config.yaml", []byte(sections(ruledSections(tt.rules))), getenv)
		var found policy.Problems
		require.ErrorAs(t, err, &found, tt.promise)
		require.Len(t, found, 1, tt.promise)
		require.Equal(t, tt.message, found[0].Message, tt.promise)
	}
}

// A rule that is refused is the first match of no call, and without paths and conditions
// one that is the first match of no call is refused.
func TestARuleIsUnreachableExactlyWhenNoCallIsItsAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		paths := rapid.Bool().Draw(t, "paths")
		var rules []string
		for i := range rapid.IntRange(2, 6).Draw(t, "rules") {
			rules = append(rules, drawRule(t, i, paths))
		}
		last := rules[len(rules)-1]
		for rules = rules[:len(rules)-1]; len(rules) > 0; rules = rules[:len(rules)-1] {
			if _, err := policy.Parse("config.yaml", []byte(sections(ruledSections(rules))), getenv); err == nil {
				break
			}
		}
		_, refused := policy.Parse("config.yaml", []byte(sections(ruledSections(append(rules, last)))), getenv)
		before, err := policy.Parse("config.yaml", []byte(sections(ruledSections(append(rules, "{name: zz, action: deny, match: {path: /never/asked}}")))), getenv)
		if err != nil {
			return // the rules before leave no call for any other: there is nothing to compare
		}
		alone, err := policy.Parse("config.yaml", []byte(sections(ruledSections([]string{last}))), getenv)
		require.NoError(t, err)
		left := false
		for call := range everyCall() {
			left = left || alone.Plan(call.caller, "", call.Call, noon).Rule != "" && before.Plan(call.caller, "", call.Call, noon).Rule == ""
		}
		if refused != nil {
			require.False(t, left, "%v refused: %v", rules, refused)
		} else if !paths {
			require.True(t, left, "%v then %s", rules, last)
		}
	})
}

func drawRule(t *rapid.T, i int, paths bool) string {
	match := []string{}
	if upstream := rapid.SampledFrom([]string{"", "billing", "files"}).Draw(t, "upstream"); upstream != "" {
		match = append(match, "upstream: "+upstream)
	}
	if methods := rapid.SampledFrom([]string{"", "GET", "GET, POST", "HEAD, DELETE", "POST, HEAD, DELETE"}).Draw(t, "methods"); methods != "" {
		match = append(match, "methods: ["+methods+"]")
	}
	callers := []string{"", "job"}
	if len(match) == 0 || match[0] != "upstream: files" {
		callers = append(callers, "bot, job")
	}
	if caller := rapid.SampledFrom(callers).Draw(t, "callers"); caller != "" {
		match = append(match, "callers: ["+caller+"]")
	}
	if paths {
		if path := rapid.SampledFrom([]string{"", "/a", "/{x}", "/{x...}", "/a/{x}"}).Draw(t, "path"); path != "" {
			match = append(match, `path: "`+path+`"`)
		}
	}
	return fmt.Sprintf("{name: r%d, action: allow, match: {%s}}", i, strings.Join(match, ", "))
}

type callOf struct {
	approvals.Call
	caller policy.Caller
}

// everyCall goes through the calls of the callers and upstreams of ruledSections.
func everyCall() func(func(callOf) bool) {
	return func(yield func(callOf) bool) {
		for _, at := range [][2]string{{"bot", "billing"}, {"job", "billing"}, {"job", "files"}} {
			caller := policy.Caller{Name: at[0], Upstreams: []string{"billing", "files"}}
			for _, method := range policy.Methods() {
				for _, path := range []string{"/", "/a", "/b", "/a/b", "/b/a", "/a/b/c"} {
					if !yield(callOf{approvals.Call{Upstream: at[1], Method: method, Path: path}, caller}) {
						return
					}
				}
			}
		}
	}
}
