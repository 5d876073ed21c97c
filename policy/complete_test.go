package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func complete(t *testing.T) (*policy.Config, string) {
	t.Helper()
	text, err := os.ReadFile("testdata/complete.yaml")
	require.NoError(t, err)
	c, err := policy.Load("testdata/complete.yaml", getenv)
	require.NoError(t, err)
	return c, string(text)
}

func TestTheCompleteExampleLoads(t *testing.T) {
	t.Parallel()
	c, _ := complete(t)
	bot, ok := c.Caller("cleanup-job")
	require.True(t, ok)
	got := c.Plan(bot, "", approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42", Query: "hard=true"}, noon)
	require.Equal(t, "hard-delete", got.Rule)
	require.Equal(t, approvals.DistinctStage, got.Distinct)
	require.Equal(t, approvals.StaleEnd, got.OnStale)
	require.Equal(t, &approvals.BreakGlass{From: []string{"oncall"}, Announce: "#security-alerts"}, got.BreakGlass)
	require.Len(t, got.Stages, 2)
	peer, security := got.Stages[0], got.Stages[1]
	require.Equal(t, approvals.CommentBoth, peer.Comment)
	require.Equal(t, 30*time.Minute, peer.RemindEvery)
	require.Equal(t, 2, peer.RemindBackoff)
	require.Equal(t, 4*time.Hour, peer.RemindMax)
	require.Equal(t, times(t, "2026-11-23 08:00", "2026-11-23 16:30", "2026-11-24 08:00", "2026-11-24 16:30", "2026-11-25 08:00", "2026-11-25 16:30", "2026-11-26 08:00", "2026-11-26 16:30"), peer.Hours)
	require.Equal(t, []approvals.Tier{
		{After: 2 * time.Hour, To: []string{"fay", "dee"}, Mode: approvals.ModeAdd},
		{After: 24 * time.Hour, To: []string{"oncall"}, Mode: approvals.ModeReplace, OffHours: true},
	}, peer.Escalate)
	require.Equal(t, approvals.CommentDeny, security.Comment)
	require.Nil(t, security.Hours)
	require.Equal(t, []approvals.Tier{{
		After: time.Hour, Mode: approvals.ModeReplace, Need: []approvals.ApproverSet{{From: []string{"security", "oncall"}, Approvals: 3}},
	}}, security.Escalate)
	require.NoError(t, got.Check(c.Directory().At(noon)))
}

// Whoever adds a field adds it here.
func TestTheCompleteExampleHasEveryField(t *testing.T) {
	t.Parallel()
	_, text := complete(t)
	for _, name := range fieldNames(t) {
		require.Regexp(t, `(?m)(^|[\s{,-])`+regexp.QuoteMeta(name)+`:(\s|$)`, text)
	}
}

func TestTheReferencePrintsTheCompleteExample(t *testing.T) {
	t.Parallel()
	_, text := complete(t)
	reference, err := os.ReadFile("../docs/policy.md")
	require.NoError(t, err)
	require.Contains(t, string(reference), "```yaml\n"+text+"```\n", "docs/policy.md must hold testdata/complete.yaml as it is")
	for _, name := range fieldNames(t) {
		require.True(t, strings.Contains(string(reference), "`"+name+"`") || strings.Contains(string(reference), "."+name+"`"), "%s is not explained", name)
	}
}

// fieldNames are all that a configuration can have, as the decoder's sources list them.
// Files of fixtures are another language.
func fieldNames(t *testing.T) []string {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	names := make(map[string]bool)
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "fixture") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			known, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if kind, ok := known.Type.(*ast.Ident); !ok || kind.Name != "fields" {
				return true
			}
			for _, entry := range known.Elts {
				name, err := strconv.Unquote(entry.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value)
				require.NoError(t, err)
				names[name] = true
			}
			return true
		})
	}
	require.Greater(t, len(names), 80)
	return slices.Sorted(maps.Keys(names))
}

// What docs/policy.md says of conditions is so.
func TestConditionsAreAsTheReferenceSays(t *testing.T) {
	t.Parallel()
	body := func(text string) approvals.Call { return approvals.Call{Body: []byte(text)} }
	for _, tt := range []struct {
		when string
		call approvals.Call
		want string
	}{
		{`body.amount > 1000 || vars.id == '1'`, body(`{"amount": 2000}`), "true"},
		{`body.amount > 1000 || vars.id == '1'`, body(`{}`), "true"}, // the other side says enough
		{`body.amount > 1000 || vars.id == '2'`, body(`{}`), "error"},
		{`has(body.amount) && body.amount > 1000.5`, body(`{}`), "false"},
		{`has(body.amount) && body.amount > 1000.5`, body(`{"amount": 1001}`), "true"},
		{`body.items.size() > 1`, body(`{"items": [1, 2]}`), "true"},
		{`body == null`, approvals.Call{}, "true"},
		{`body == null`, body(`{"a": 1, "a": 2}`), "error"},
		{`query.hard == "true"`, approvals.Call{Query: "hard=true"}, "true"},
		{`query.hard == "true"`, approvals.Call{}, "false"},
		{`query.hard == "true"`, approvals.Call{Query: "hard=true&hard=false"}, "error"},
		{`"hard" in query && has(query.hard)`, approvals.Call{Query: "hard"}, "true"},
		{`query_all.tag.all(t, t != "prod")`, approvals.Call{Query: "tag=a&tag=b"}, "true"},
		{`query_all.tag.all(t, t != "prod")`, approvals.Call{}, "error"},
		{`"tag" in query_all && query_all.tag.all(t, t != "prod")`, approvals.Call{}, "false"},
		{`headers["x-reason"] == "drill"`, approvals.Call{Headers: []approvals.Header{{Name: "X-Reason", Value: "drill"}}}, "true"},
		{`headers["x-reason"] == ""`, approvals.Call{}, "true"},
		{`caller.name == "bot" && "ana" in caller.owners`, approvals.Call{}, "true"},
		{`on_behalf_of == "bo" && method == "GET" && path == "/a/1"`, approvals.Call{}, "true"},
		{`now.getHours("Europe/Berlin") == 13`, approvals.Call{}, "true"},
	} {
		c := parse(t, map[string]string{"rules": "rules:\n  - name: it\n    action: deny\n    match:\n      path: /a/{id}\n      when: |-\n        " + tt.when + "\n"})
		bot, _ := c.Caller("bot")
		call := tt.call
		call.Upstream, call.Method, call.Path = "billing", "GET", "/a/1"
		got := c.Plan(bot, "bo@example.com", call, noon)
		switch {
		case got.Rule == "":
			require.Equal(t, tt.want, "false", tt.when)
		case strings.Contains(got.Reason, "cannot be evaluated"):
			require.Equal(t, tt.want, "error", "%s: %s", tt.when, got.Reason)
		default:
			require.Equal(t, tt.want, "true", tt.when)
		}
	}
}
