package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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
