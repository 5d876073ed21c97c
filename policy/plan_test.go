package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func TestTheExampleOfTheDesignLoadsAndPlans(t *testing.T) {
	t.Parallel()
	c, err := policy.Load("testdata/example.yaml", getenv)
	require.NoError(t, err)
	bot, ok := c.Caller("payroll-bot")
	require.True(t, ok)
	got := c.Plan(bot, "dee@example.com", approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"}, noon)
	upstream, _ := c.Upstream("billing")
	require.Equal(t, approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: c.Digest, UpstreamDigest: upstream.Digest,
		ExpiresIn: 24 * time.Hour, ExecuteWithin: 15 * time.Minute, Excluded: []string{"ana", "dee"}, Redact: []string{"body.ssn"},
		Stages: []approvals.Stage{
			{
				Name: "peer", Denials: 1, Comment: approvals.CommentDeny, RemindEvery: 15 * time.Minute, Channel: "#billing-approvals",
				Need:     []approvals.ApproverSet{{From: []string{"billing-team"}, Approvals: 1}},
				Escalate: []approvals.Tier{{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}},
			},
			{
				Name: "security", Denials: 1, Comment: approvals.CommentDeny, Channel: "#approvals",
				Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 2}},
			},
		},
	}, got)
	require.NoError(t, got.Check(c.Directory()))
	require.Equal(t, []string{"ana"}, c.Directory().Owners["payroll-bot"])
}

// ruled loads rules over two upstreams and two callers.
func ruled(t *testing.T, rules ...string) *policy.Config {
	t.Helper()
	return parse(t, ruledSections(rules))
}

func ruledSections(rules []string) map[string]string {
	return map[string]string{
		"callers": "callers:\n" +
			"  - {name: bot, key_sha256: " + keyHash + ", owners: [ana], upstreams: [billing]}\n" +
			"  - {name: job, key_sha256: " + otherHash + ", upstreams: [billing, files]}\n",
		"upstreams": upstream("methods: [GET, HEAD, POST, DELETE], idempotent: true") +
			"  - {name: files, base_url: \"https://files.internal\"}\n",
		"rules": "rules:\n  - " + strings.Join(rules, "\n  - ") + "\n",
	}
}

func TestTheFirstMatchingRuleWins(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		"{name: admin, action: deny, reason: not even with approval, match: {path: \"/admin/{rest...}\"}}",
		"{name: job-reads, action: allow, match: {upstream: billing, caller: job, methods: [GET]}}",
		"{name: one-customer, stages: [{name: s, need: [{from: [bo], approvals: 1}]}], match: {upstream: billing, methods: [GET, DELETE], path: \"/customers/{id}\"}}",
		"{name: reads, action: allow, match: {methods: [GET, HEAD]}}",
		"{name: bot-posts, action: allow, match: {upstream: billing, methods: [POST], callers: [bot]}}",
	)
	for _, tt := range []struct{ caller, method, path, rule string }{
		{"bot", "GET", "/admin/users", "admin"},
		{"job", "GET", "/admin/users", "admin"},
		{"job", "GET", "/customers/42", "job-reads"},
		{"bot", "GET", "/customers/42", "one-customer"},
		{"bot", "DELETE", "/customers/42", "one-customer"},
		{"bot", "GET", "/customers", "reads"},
		{"bot", "GET", "/admin", "reads"},
		{"bot", "HEAD", "/customers/42", "reads"},
		{"bot", "POST", "/customers", "bot-posts"},
		{"job", "POST", "/customers", ""},
		{"bot", "DELETE", "/customers", ""},
	} {
		got := plan(t, c, tt.caller, tt.method, tt.path)
		require.Equal(t, tt.rule, got.Rule, "%+v", tt)
		require.Equal(t, c.Digest, got.PolicyDigest)
		require.True(t, got.Idempotent)
		if tt.rule == "" {
			require.Equal(t, approvals.ActionDeny, got.Action)
			require.Equal(t, "no rule matches this call", got.Reason)
		}
	}
	require.Equal(t, "not even with approval", plan(t, c, "bot", "GET", "/admin/users").Reason)
}

func TestARuleForAnyUpstreamKeepsItsPlaceInTheOrder(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		"{name: first, action: deny, match: {methods: [GET], path: /a}}",
		"{name: second, action: allow, match: {upstream: files, path: \"/{x}\"}}",
		"{name: third, action: deny, match: {}}",
	)
	job, _ := c.Caller("job")
	for path, rule := range map[string]string{"/a": "first", "/b": "second", "/b/c": "third"} {
		require.Equal(t, rule, c.Plan(job, "", approvals.Call{Upstream: "files", Method: "GET", Path: path}, noon).Rule, path)
	}
}

func TestWhatTheServiceRefusesIsDeniedWhateverTheRulesSay(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: everything, action: allow, match: {}}")
	bot, _ := c.Caller("bot")
	for _, tt := range []struct{ upstream, method, path, reason string }{
		{"files", "GET", "/", "this caller may not use this upstream"},
		{"unknown", "GET", "/", "this caller may not use this upstream"},
		{"", "GET", "/", "this caller may not use this upstream"},
		{"billing", "PATCH", "/", "this upstream does not allow this method"},
		{"billing", "get", "/", "this upstream does not allow this method"},
		{"billing", "", "/", "this upstream does not allow this method"},
		{"billing", "GET", "", "the path can be read in more than one way"},
		{"billing", "GET", "a", "the path can be read in more than one way"},
		{"billing", "GET", "https://evil.example.com/", "the path can be read in more than one way"},
	} {
		got := c.Plan(bot, "", approvals.Call{Upstream: tt.upstream, Method: tt.method, Path: tt.path}, noon)
		require.Equal(t, approvals.ActionDeny, got.Action, "%+v", tt)
		require.Equal(t, tt.reason, got.Reason, "%+v", tt)
		require.Empty(t, got.Rule)
		require.Equal(t, []string{"ana"}, got.Excluded)
	}
}

func TestPathsMatchBySegment(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		template string
		yes, no  []string
	}{
		{"/", []string{"/"}, []string{"/a", "/a/"}},
		{"/customers", []string{"/customers", "/custo%6Ders"}, []string{"/customers/", "/Customers", "/customers2", "/"}},
		{"/customers/", []string{"/customers/"}, []string{"/customers", "/customers/1"}},
		{
			"/customers/{id}",
			[]string{"/customers/1", "/customers/a%20b", "/customers/a%2Fb", "/customers/%C3%A9", "/customers/a;b=c", "/customers/..a"},
			[]string{"/customers", "/customers/", "/customers/1/", "/customers/1/2", "/customer/1"},
		},
		{"/customers/{x}/{y}", []string{"/customers/a/b"}, []string{"/customers/a%2Fb", "/customers/a%2fb", "/customers/a/b/c"}},
		{"/files/{path...}", []string{"/files/a", "/files/a/b/c", "/files/", "/files/a/"}, []string{"/files", "/file/a", "/"}},
		{"/{all...}", []string{"/", "/a", "/a/b/"}, nil},
		{"/{x}/keys/{rest...}", []string{"/a/keys/b", "/a/keys/"}, []string{"/a/keys", "/a/lock/b", "/keys/b"}},
		{"/a%20b/{x}", []string{"/a%20b/c"}, []string{"/a+b/c", "/a%2520b/c"}},
		{"/%7Bid%7D", []string{"/%7Bid%7D", "/{id}"}, []string{"/x"}},
	} {
		c := ruled(t, "{name: it, action: allow, match: {upstream: billing, path: \""+tt.template+"\"}}", "{name: rest, action: deny, match: {}}")
		if tt.template == "/{all...}" {
			c = ruled(t, "{name: it, action: allow, match: {upstream: billing, path: \""+tt.template+"\"}}")
		}
		for _, path := range tt.yes {
			require.Equal(t, "it", plan(t, c, "bot", "GET", path).Rule, "%s must match %s", tt.template, path)
		}
		for _, path := range tt.no {
			require.Equal(t, "rest", plan(t, c, "bot", "GET", path).Rule, "%s must not match %s", tt.template, path)
		}
	}
}

func TestNoSpellingOfAPathGetsRoundARule(t *testing.T) {
	t.Parallel()
	c := ruled(t,
		"{name: admin, action: deny, match: {path: \"/admin/{rest...}\"}}",
		"{name: everything, action: allow, match: {}}",
	)
	for _, path := range []string{
		"/x/../admin/users", "/x/%2e%2e/admin/users", "/x/.%2E/admin/users", "/./admin/users", "/%2e/admin/users",
		"//admin/users", "/admin//users", "/x%2F..%2Fadmin/users", "/x%2f%2e%2e%2fadmin", "/x%2F%2Fadmin", "/%2Fadmin/users",
		"/x\\..\\admin/users", "/x%5C..%5Cadmin/users", "/admin%00/users", "/admin/users%0a", "/admin%zz/users", "/admin/%",
		"/admin/users?x", "/admin/users#x", "/..", "/.", "admin/users", "/x%2F.",
	} {
		got := plan(t, c, "bot", "GET", path)
		require.Equal(t, approvals.ActionDeny, got.Action, path)
		require.Equal(t, "the path can be read in more than one way", got.Reason, path)
	}
	for _, path := range []string{"/admin/users", "/%61dmin/users", "/admin/", "/ad%6Din/x/y"} {
		require.Equal(t, "admin", plan(t, c, "bot", "GET", path).Rule, path)
	}
}

func TestASlashAtTheEndNeverGetsRoundARuleThatAsksOrDenies(t *testing.T) {
	t.Parallel()
	ask := "stages: [{name: s, need: [{from: [bo], approvals: 1}]}]"
	c := ruled(t,
		"{name: ping, action: allow, match: {path: /ping}}",
		"{name: one, "+ask+", match: {path: \"/customers/{id}\"}}",
		"{name: list, "+ask+", match: {path: /customers}}",
		"{name: admin, action: deny, match: {path: \"/admin/{rest...}\"}}",
		"{name: rest, action: allow, match: {methods: [GET]}}",
	)
	for path, want := range map[string]string{
		"/customers/42": "one", "/customers/42/": "one", "/customers": "list", "/customers/": "list",
		"/admin/": "admin", "/admin/users/": "admin", "/ping": "ping", "/ping/": "rest", "/": "rest", "/a/": "rest",
	} {
		require.Equal(t, want, plan(t, c, "bot", "GET", path).Rule, path)
	}
	require.Empty(t, plan(t, c, "bot", "DELETE", "/ping/").Rule, "what no rule allows is not allowed by its other spelling")
	require.Empty(t, plan(t, c, "bot", "DELETE", "/customers/42/7/").Rule)
}

func TestOwnersAndThePersonBehindTheCallAreExcluded(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: all, stages: [{name: s, need: [{from: [bo], approvals: 1}]}], match: {}}")
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/"}
	for behalf, want := range map[string][]string{
		"": {"ana"}, "ana": {"ana"}, "bo": {"ana", "bo"}, "BO": {"ana", "bo"}, "U0BO": {"ana", "bo"},
		"Bo@Example.com": {"ana", "bo"}, "nobody": {"ana", "nobody"},
	} {
		got := c.Plan(bot, behalf, call, noon)
		require.Equal(t, want, got.Excluded, behalf)
		if slices.Contains(want, "bo") {
			require.Error(t, got.Check(c.Directory()), "bo is the only approver and acts for themself")
		}
	}
	require.Equal(t, []string{"ana"}, bot.Owners, "the caller is not changed by planning")
}

func TestAPlanIsTheCallersToKeep(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: all, redact: [body.x], stages: [{name: s, need: [{from: [bo], approvals: 1}]}], match: {}}")
	first := plan(t, c, "bot", "GET", "/")
	first.Stages[0].Channel, first.Redact[0], first.Excluded[0] = "changed", "changed", "changed"
	second := plan(t, c, "bot", "GET", "/")
	require.Empty(t, second.Stages[0].Channel)
	require.Equal(t, []string{"body.x"}, second.Redact)
	require.Equal(t, []string{"ana"}, second.Excluded)
}
