package policy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func fixturePolicy(t *testing.T) *policy.Config {
	t.Helper()
	c, err := policy.LoadUnresolved("testdata/fixtures/policy.yaml")
	require.NoError(t, err)
	return c
}

func fixture(t *testing.T, name string) policy.Fixture {
	t.Helper()
	f, err := policy.LoadFixture(filepath.Join("testdata", "fixtures", name))
	require.NoError(t, err)
	return f
}

func show(results []policy.CaseResult) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%d %s ok=%t rule=%q action=%s\n", r.Line, r.Name, r.OK, r.Rule, r.Action)
		for _, d := range r.Differences {
			fmt.Fprintf(&b, "  %d %s\n    want %s\n    got  %s\n", d.Line, d.Field, d.Want, d.Got)
		}
	}
	return b.String()
}

func TestFixtureCasesHoldWhatThePolicySays(t *testing.T) {
	t.Parallel()
	c := fixturePolicy(t)
	results := fixture(t, "cases.yaml").Run(c)
	require.Len(t, results, 7)
	for _, r := range results {
		require.True(t, r.OK, "%s", show([]policy.CaseResult{r}))
		require.Empty(t, r.Walk, "what is right needs no explanation")
	}
	require.Empty(t, c.Untested(results), "every rule has a case")
	require.Equal(t, []string{"delete-customer", "refund", "close-account"}, c.Untested(results[:1]))
}

func TestFixtureCasesReachConditionsAbsencesCommentsAndBypasses(t *testing.T) {
	t.Parallel()
	c, err := policy.LoadUnresolved("testdata/fixtures/engine.yaml")
	require.NoError(t, err)
	results := fixture(t, "engine-cases.yaml").Run(c)
	require.Len(t, results, 6)
	for _, r := range results {
		require.True(t, r.OK, "%s", show([]policy.CaseResult{r}))
	}
	require.Empty(t, c.Untested(results))
}

func TestFixtureFailuresNameEveryFieldThatDiffers(t *testing.T) {
	t.Parallel()
	results := fixture(t, "failing.yaml").Run(fixturePolicy(t))
	for _, r := range results {
		require.False(t, r.OK, r.Name)
	}
	golden(t, "testdata/fixtures/failing.golden", show(results))
	require.Equal(t, "delete-customer", results[0].Walk[len(results[0].Walk)-1].Rule, "the walk ends with the rule")
	require.True(t, results[0].Walk[len(results[0].Walk)-1].Matched)
}

func TestFixtureFilesAreReadStrictlyAndEveryMistakeIsShown(t *testing.T) {
	t.Parallel()
	_, err := policy.LoadFixture("testdata/fixtures/broken.yaml")
	var problems policy.Problems
	require.ErrorAs(t, err, &problems)
	golden(t, "testdata/fixtures/broken.golden", problems.Error()+"\n")
}

func TestFixtureFilesThatHoldNothingAreMistakes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "no cases": "cases: []\n", "a list": "- name: a\n", "no YAML": "cases: [\n", "only a comment": "# cases\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.ParseFixture("f.yaml", []byte(text))
			var problems policy.Problems
			require.ErrorAs(t, err, &problems)
		})
	}
}

func TestFixtureOfTheDocumentationIsInOrder(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/policy-testing.md")
	require.NoError(t, err)
	_, example, found := strings.Cut(string(text), "```yaml\n")
	require.True(t, found)
	example, rest, found := strings.Cut(example, "```")
	require.True(t, found)
	_, groups, found := strings.Cut(rest, "```yaml\n")
	require.True(t, found)
	groups, _, _ = strings.Cut(groups, "```")
	about, err := policy.ParseFixture("groups.yaml", []byte(groups))
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"S0ONCALL": {"ana", "bo"}}, about.UserGroups)
	f, err := policy.ParseFixture("docs.yaml", []byte(example))
	require.NoError(t, err)
	require.Len(t, f.Cases, 1)
	require.Len(t, f.Cases[0].Decisions, 4)
}

func TestFixtureUpdateWritesWhatThePolicySaysAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	c, f := fixturePolicy(t), fixture(t, "failing.yaml")
	text, replaced := f.Update(c, f.Run(c))
	require.Positive(t, replaced)
	golden(t, "testdata/fixtures/updated.golden", string(text))
	again, err := policy.ParseFixture("failing.yaml", text)
	require.NoError(t, err)
	golden(t, "testdata/fixtures/left.golden", show(again.Run(c)))
	_, replaced = again.Update(c, again.Run(c))
	require.Zero(t, replaced, "what can be replaced has been")
}

func TestFixtureUpdateOfWhatHoldsChangesNothing(t *testing.T) {
	t.Parallel()
	c, f := fixturePolicy(t), fixture(t, "cases.yaml")
	text, replaced := f.Update(c, f.Run(c))
	require.Zero(t, replaced)
	written, err := os.ReadFile("testdata/fixtures/cases.yaml")
	require.NoError(t, err)
	require.Equal(t, string(written), string(text))
}

func TestFixtureCallsAreThoseTheAPIWouldMake(t *testing.T) {
	t.Parallel()
	f, err := policy.ParseFixture("f.yaml", []byte(`cases:
  - name: mapping
    call:
      {caller: ci, upstream: billing, method: POST, path: /x, query: {b: "1 2", a: [x, "y&z"]}, headers: {prefer: wait, accept: text/plain},
       body: {n: 1.10, big: 12345678901234567890123, s: "ü<", l: [1, null, true, {}], "yes": yes}}
    expect: {action: deny}
  - name: raw
    call: {caller: ci, upstream: billing, method: POST, path: /x, query: "?b=1&a=2", headers: {content-type: text/plain}, body_base64: "AAEC"}
    expect: {action: deny}
  - name: text
    call:
      caller: ci
      upstream: billing
      method: POST
      path: /x
      body: |
        two
        lines
    expect: {action: deny}
`))
	require.NoError(t, err)
	require.Equal(t, "a=x&a=y%26z&b=1%202", f.Cases[0].Call.Query)
	require.Equal(t, []approvals.Header{
		{Name: "Accept", Value: "text/plain"}, {Name: "Content-Type", Value: "application/json"}, {Name: "Prefer", Value: "wait"},
	}, f.Cases[0].Call.Headers)
	require.Contains(t, string(f.Cases[0].Call.Body), `{"n":1.10,`)
	require.JSONEq(t, `{"n":1.1,"big":12345678901234567890123,"s":"ü<","l":[1,null,true,{}],"yes":"yes"}`, string(f.Cases[0].Call.Body))
	require.Equal(t, "b=1&a=2", f.Cases[1].Call.Query, "a raw query stays as it is")
	require.Equal(t, []byte{0, 1, 2}, f.Cases[1].Call.Body)
	require.Equal(t, []approvals.Header{{Name: "Content-Type", Value: "text/plain"}}, f.Cases[1].Call.Headers)
	require.Equal(t, `"two\nlines\n"`, string(f.Cases[2].Call.Body))
}

func TestFixtureConfigurationsNeedNoSecretAndKeepTheirDigests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/fixtures/policy.yaml")
	require.NoError(t, err)
	resolvable := strings.NewReplacer("file:/nowhere/", "file:"+dir+"/", "file:secrets/", "file:"+dir+"/").Replace(string(text))
	for name, value := range map[string]string{"old-signing-secret": "old", "payroll.sha256": keyHash, "billing": "Bearer x"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(value), 0o600))
	}
	known := func(name string) string {
		if name == "CI_KEY_SHA256" {
			return otherHash
		}
		return getenv(name)
	}
	resolved, err := policy.Parse("p.yaml", []byte(resolvable), known)
	require.NoError(t, err)
	offline, err := policy.ParseUnresolved("p.yaml", []byte(resolvable))
	require.NoError(t, err)
	require.Equal(t, resolved.Digest, offline.Digest)
	require.Equal(t, resolved.Upstreams[0].Digest, offline.Upstreams[0].Digest)
	require.NotEqual(t, resolved.Upstreams[0].Credentials[0].Value.Reveal(), offline.Upstreams[0].Credentials[0].Value.Reveal(), "the secret was not read")
	require.Equal(t, "file:"+dir+"/billing", offline.Upstreams[0].Credentials[0].Value.Ref())
}

func TestFixtureConfigurationsMayUseEveryField(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"testdata/complete.yaml", "testdata/example.yaml"} {
		_, err := policy.LoadUnresolved(name)
		require.NoError(t, err, name)
	}
}

func TestFixtureConfigurationsAreOtherwiseJudgedAsEver(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"not a reference":   sections(map[string]string{"upstreams": "upstreams: [{name: billing, base_url: \"https://b.internal\", credentials: {header: Authorization, value: hunter2}}]\n"}),
		"a bad reference":   sections(map[string]string{"upstreams": "upstreams: [{name: billing, base_url: \"https://b.internal\", credentials: {header: Authorization, value: \"env:not a name\"}}]\n"}),
		"a misspelled name": sections(map[string]string{"groups": "groups: [{name: security, members: [anna, bo, chen]}]\n"}),
		"not YAML":          "rules: [\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, want := policy.Parse("config.yaml", []byte(text), getenv)
			_, got := policy.ParseUnresolved("config.yaml", []byte(text))
			require.Error(t, want)
			require.EqualError(t, got, want.Error())
			require.NotContains(t, got.Error(), "hunter2")
		})
	}
}

func TestFixtureConfigurationsMayBeDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/fixtures/policy.yaml")
	require.NoError(t, err)
	head, rules, found := strings.Cut(string(text), "\nrules:\n")
	require.True(t, found)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(head+"\n"), 0o600))        //nolint:gosec // of this test
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.yaml"), []byte("rules:\n"+rules), 0o600)) //nolint:gosec // of this test
	c, err := policy.LoadUnresolved(dir)
	require.NoError(t, err)
	require.Equal(t, fixturePolicy(t).Rules, c.Rules)
	_, err = policy.LoadUnresolved(filepath.Join(dir, "none.yaml"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestFixtureResultsAreJSONInSnakeCase(t *testing.T) {
	t.Parallel()
	results := fixture(t, "failing.yaml").Run(fixturePolicy(t))
	out, err := json.Marshal(results[1])
	require.NoError(t, err)
	require.Contains(t, string(out), `"differences":[{"field":"stages"`)
	require.Contains(t, string(out), `"walk":[{"rule":"read-only","matched":false`)
}

func FuzzFixture(f *testing.F) {
	for _, name := range []string{"cases.yaml", "failing.yaml", "broken.yaml", "engine-cases.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", "fixtures", name)) //nolint:gosec // our own testdata
		require.NoError(f, err)
		f.Add(string(text))
	}
	f.Add("cases: [{name: a, call: {caller: ci, upstream: billing, method: GET, path: /}, expect: {}}]")
	c, err := policy.LoadUnresolved("testdata/fixtures/policy.yaml")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		fixture, err := policy.ParseFixture("f.yaml", []byte(text))
		if err != nil {
			return
		}
		results := fixture.Run(c)
		updated, _ := fixture.Update(c, results)
		_, err = policy.ParseFixture("f.yaml", updated)
		require.NoError(t, err, "an update never breaks a file")
	})
}

// TestFixtureSeesEveryLoosening: what --update has filled in notices when any part of its
// rule is loosened.
func TestFixtureSeesEveryLoosening(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/fixtures/engine.yaml")
	require.NoError(t, err)
	strict := strings.Replace(string(text), "distinct: stage", "on_stale: end\n    execute_within: 5m\n    redact: [body.iban]", 1)
	strict = strings.Replace(strict, "comment: approve, need: [{from: [finance], approvals: 2}]",
		"comment: both, need: [{from: [finance], approvals: 2}], escalate: [{after: 2h, to: [oncall]}]", 1)
	load := func(text string) *policy.Config {
		c, err := policy.ParseUnresolved("engine.yaml", []byte(text))
		require.NoError(t, err, "%s", text)
		return c
	}
	f, err := policy.ParseFixture("f.yaml", []byte("cases:\n  - name: large\n    at: \"2030-01-07T12:00:00Z\"\n"+
		"    call: {caller: shop, upstream: billing, method: POST, path: /refunds, body: {amount: 2000}}\n    expect: {}\n"))
	require.NoError(t, err)
	filled, _ := f.Update(load(strict), f.Run(load(strict)))
	f, err = policy.ParseFixture("f.yaml", filled)
	require.NoError(t, err, "%s", filled)
	require.True(t, f.Run(load(strict))[0].OK, "%s", filled)
	for from, to := range map[string]string{
		"on_stale: end": "on_stale: reopen", "execute_within: 5m": "execute_within: 1h",
		"comment: both": "comment: never", "from: [oncall], announce": "from: [oncall, dora], announce", "after: 2h": "after: 1h",
		"approvals: 2": "approvals: 1", "name: finance, comment": "name: finance, denials: 2, comment",
	} {
		loose := strings.Replace(strict, from, to, 1)
		require.NotEqual(t, strict, loose, from)
		require.False(t, f.Run(load(loose))[0].OK, "%s became %s\n%s", from, to, filled)
	}
}

func TestAFixtureSaysWhoIsInAUserGroup(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(""))
	run := func(text string) policy.CaseResult {
		f, err := policy.ParseFixture("f.yaml", []byte(text))
		require.NoError(t, err)
		return f.Run(c)[0]
	}
	call := "call: {caller: bot, upstream: billing, method: GET, path: /x}"
	got := run("usergroups: {S0ONCALL: [chen]}\ncases:\n  - name: known\n    " + call + "\n    expect: {rule: r, confirm: dialog, can_approve: [bo, chen, dee]}\n")
	require.True(t, got.OK, "%+v", got)
	got = run("usergroups: {S0ONCALL: [chen]}\ncases:\n  - name: of this case\n    usergroups: {S0ONCALL: []}\n    " + call + "\n    expect: {can_approve: [bo, dee]}\n")
	require.True(t, got.OK, "%+v", got)
	got = run("cases:\n  - name: not about people\n    " + call + "\n    expect: {rule: r, stages: [{need: [{from: [oncall, security], approvals: 1}]}]}\n")
	require.True(t, got.OK, "%+v", got)
	for _, expect := range []string{"{can_approve: [bo, dee]}", "{cannot_approve: {chen: not_approver}}", "{verdict: pending}", "{}"} {
		got = run("cases:\n  - name: not known\n    " + call + "\n    expect: " + expect + "\n")
		require.False(t, got.OK, "what would be said of people is a guess")
		require.Equal(t, "usergroups", got.Differences[0].Field)
		require.Equal(t, "who is in oncall (Slack user group S0ONCALL)", got.Differences[0].Want)
	}
	got = run("cases:\n  - name: nobody has heard of\n    usergroups: {S0ONCALL: [zoe], S0NIGHT: [bo]}\n    " + call + "\n    expect: {rule: r}\n")
	require.Len(t, got.Differences, 2)
	_, err := policy.ParseFixture("f.yaml", []byte("usergroups: {oncall: [bo]}\ncases:\n  - {name: x, "+call+", expect: {rule: r}}\n"))
	require.ErrorContains(t, err, "usergroups are named by their id, such as S0123ABCD")
}
