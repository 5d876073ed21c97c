package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

var policyUpdate = flag.Bool("update-golden", false, "write the golden files of the policy commands")

// The policy that the commands are tried on, with its fixtures.
const (
	policyFixtures = "../../policy/testdata/fixtures/"
	policyConfig   = policyFixtures + "policy.yaml"
)

// requireGolden compares an output with a file of testdata/policy.
func requireGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "policy", name)
	if *policyUpdate {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // our own testdata
	require.NoError(t, err)
	require.Equal(t, string(want), got, "against %s", path)
}

// devPolicy renders the configuration of the demo.
func devPolicy(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	addresses := devAddresses{
		Listen: "127.0.0.1:1", API: "http://127.0.0.1:1", Slack: "http://127.0.0.1:2", Upstream: "http://127.0.0.1:3", Callback: "http://127.0.0.1:4",
	}
	require.NoError(t, template.Must(template.New("dev.yaml").Parse(devConfig)).Execute(&b, addresses))
	return write(t, "dev.yaml", b.String())
}

func TestPolicyOfTheDemoHoldsWhatItsFixtureSays(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "policy", "test", "--config", devPolicy(t), "--require-coverage", "testdata/dev.policytest.yaml")
	require.Equal(t, 0, r.code, "%s%s", r.stdout, r.stderr)
	require.Empty(t, r.stderr.String())
	require.Contains(t, r.stdout.String(), "10 cases: 10 ok, 0 failed\n")
	require.NotContains(t, r.stdout.String(), "rules without a case")
}

func TestPolicyTestShowsWhatDiffersAndTheWalkThatLedThere(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "policy", "test", "--config", policyConfig, policyFixtures+"failing.yaml")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, "countersign: 7 of 7 cases failed\n", r.stderr.String())
	requireGolden(t, "failing.golden", r.stdout.String())
	require.NotContains(t, r.stdout.String(), "\x1b", "no colours where nobody sees them")
}

func TestPolicyTestOfSeveralFilesNamesThem(t *testing.T) {
	t.Parallel()
	r := command(t, map[string]string{"COUNTERSIGN_CONFIG": policyConfig}, "policy", "test", policyFixtures+"cases.yaml", "testdata/dev.policytest.yaml")
	require.Equal(t, exitFailed, r.code, "one of them is about another policy")
	require.Contains(t, r.stdout.String(), policyFixtures+"cases.yaml\nok    reading is free\n")
	require.Contains(t, r.stdout.String(), "\ntestdata/dev.policytest.yaml\nFAIL  ")
	require.Contains(t, r.stdout.String(), "17 cases: 7 ok, 10 failed\n")
}

func TestPolicyTestCountsRulesWithoutACase(t *testing.T) {
	t.Parallel()
	fixture := write(t, "one.yaml", "cases: [{name: one, call: {caller: ci, upstream: billing, method: GET, path: /x}, expect: {action: allow}}]\n")
	r := command(t, nil, "policy", "test", "--config", policyConfig, fixture)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "rules without a case: delete-customer, refund, close-account\n")
	r = command(t, nil, "policy", "test", "--config", policyConfig, "--require-coverage", fixture)
	r.requireRefused(t, exitFailed, "3 rules have no case")
}

func TestPolicyTestAsJSONIsOneObject(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "policy", "test", "--config", policyConfig, "--json", policyFixtures+"failing.yaml")
	require.Equal(t, exitFailed, r.code)
	var got struct {
		Cases []struct {
			File, Name, Rule string
			Line             int
			OK               bool
			Differences      []map[string]any
			Walk             []map[string]any
		}
		Total, OK, Failed int
		RulesWithoutCase  []string `json:"rules_without_case"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout.String()), &got))
	require.Equal(t, []int{7, 0, 7}, []int{got.Total, got.OK, got.Failed})
	require.Equal(t, []string{"close-account"}, got.RulesWithoutCase)
	require.Equal(t, "delete-customer", got.Cases[0].Rule)
	require.Equal(t, map[string]any{"field": "rule", "line": 5.0, "want": "refund", "got": "delete-customer"}, got.Cases[0].Differences[0])
	require.Len(t, got.Cases[0].Walk, 2)
}

func TestPolicyTestUpdateFillsInWhatThePolicySays(t *testing.T) {
	t.Parallel()
	fixture := write(t, "new.yaml", `cases:
  # kept
  - name: refund
    call: {caller: ci, upstream: billing, method: POST, path: /refunds}
    expect: {} # filled in
  - name: read
    call: {caller: ci, upstream: billing, method: GET, path: /x}
    expect: {action: deny}
`)
	r := command(t, nil, "policy", "test", "--config", policyConfig, "--update", fixture)
	require.Equal(t, 0, r.code, "%s%s", r.stdout, r.stderr)
	require.Contains(t, r.stdout.String(), "updated: 2 expectations\n")
	text, err := os.ReadFile(fixture) //nolint:gosec // of this test
	require.NoError(t, err)
	require.Equal(t, `cases:
  # kept
  - name: refund
    call: {caller: ci, upstream: billing, method: POST, path: /refunds}
    expect: {rule: refund, action: approve, stages: [{name: security, need: [{from: [oncall, security], approvals: 1}], denials: 2, comment: deny, escalate: []}], can_approve: [bo, chen, eva], expires_in: 1d, execute_within: 15m, distinct: ticket, on_stale: reopen, confirm: dialog, break_glass: []} # filled in
  - name: read
    call: {caller: ci, upstream: billing, method: GET, path: /x}
    expect: {action: allow}
`, string(text))
}

func TestPolicyCommandsSayWhatIsBrokenWithExitCode2(t *testing.T) {
	t.Parallel()
	bad := write(t, "bad.yaml", "rules: [{name: x, mach: {}}]\n")
	for args, words := range map[string]string{
		"policy":                             "test",
		"policy test":                        "fixture",
		"policy test f.yaml":                 "--config",
		"policy test --config f.yaml f.yaml": "f.yaml",
		"policy test --config " + bad + " " + policyFixtures + "cases.yaml":                         "mach",
		"policy test --config " + policyConfig + " none.yaml":                                       "none.yaml",
		"policy test --config " + policyConfig + " " + policyFixtures + "broken.yaml":               `did you mean "cases"?`,
		"policy explain --config " + policyConfig + " --caller cy GET billing /":                    "payroll-bot, ci",
		"policy explain --config " + policyConfig + " GET billing /":                                "--caller",
		"policy explain --config " + policyConfig + " --caller ci FETCH billing /":                  "FETCH",
		"policy explain --config " + policyConfig + " --caller ci GET biling /":                     "biling",
		"policy explain --config " + policyConfig + " --caller ci GET billing x":                    "slash",
		"policy explain --config " + policyConfig + " --caller ci --at noon GET billing /":          "--at",
		"policy explain --config " + policyConfig + " --caller ci --on-behalf-of zoe GET billing /": "zoe",
		"policy explain --config " + policyConfig + " --caller ci --header nonsense GET billing /":  "--header",
		"policy explain --config " + policyConfig + " --caller ci --data @none.json GET billing /":  "none.json",
		"policy explain --caller ci GET billing /":                                                  "--config",
		"policy backtest":                                                                        "new.yaml",
		"policy backtest " + policyConfig:                                                        "--database",
		"policy backtest --since soon " + policyConfig:                                           "--since",
		"policy backtest --since 1h --until 2h " + policyConfig:                                  "not before",
		"policy backtest --limit -1 " + policyConfig:                                             "--limit",
		"policy backtest --database postgres://127.0.0.1:1/x none.yaml":                          "none.yaml",
		"policy backtest --database postgres://127.0.0.1:1/x --config none.yaml " + policyConfig: "none.yaml",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, strings.Fields(args)...)
			require.Equal(t, exitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr.String(), words)
			require.Empty(t, r.stdout.String())
		})
	}
}

func TestPolicyCommandsHaveHelpAndExplainTheirFlags(t *testing.T) {
	t.Parallel()
	for name, words := range map[string][]string{
		"":         {"test", "explain", "backtest"},
		"test":     {"--config", "--update", "--require-coverage", "--json", "cases:", "Exit code"},
		"explain":  {"--caller", "--on-behalf-of", "--at", "--header", "--data", "--json"},
		"backtest": {"--since", "--until", "--config", "--database", "--limit", "--json", "DATABASE_URL", "30d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, append(strings.Fields("policy "+name), "--help")...)
			require.Equal(t, 0, r.code, r.stderr)
			for _, w := range words {
				require.Contains(t, r.stdout.String(), w)
			}
			for line := range strings.Lines(r.stdout.String()) {
				if f := strings.Fields(line); len(f) > 0 && strings.HasPrefix(f[0], "-") && f[0] != "-" {
					require.Greater(t, len(f), 2, "the flag is explained: %q", line)
				}
			}
		})
	}
}

func TestPolicyTestHelpShowsAFixtureThatIsInOrder(t *testing.T) {
	t.Parallel()
	_, text, found := strings.Cut(policyTestCmd{}.Help(), "is compared:\n\n")
	require.True(t, found)
	text, _, found = strings.Cut(text, "\n\nWith expect")
	require.True(t, found)
	f, err := policy.ParseFixture("help.yaml", []byte(strings.ReplaceAll("\n"+text, "\n  ", "\n")))
	require.NoError(t, err)
	c, err := policy.LoadUnresolved(policyConfig)
	require.NoError(t, err)
	results := f.Run(c)
	require.Len(t, results, 1)
	require.True(t, results[0].OK, "%v", results[0].Differences)
}

func TestPolicyExplainShowsTheWalkThePlanAndThePeople(t *testing.T) {
	t.Parallel()
	body := write(t, "body.json", `{"amount": 5}`)
	for name, args := range map[string]string{
		"asked":    "--caller payroll-bot delete billing /customers/42?hard=true",
		"allowed":  "--caller ci --header If-Match:a,b --header X-Odd:1 GET billing /customers",
		"denied":   "--caller ci DELETE billing /accounts/7",
		"unknown":  "--caller ci PUT billing /customers/42",
		"stuck":    "--caller payroll-bot --on-behalf-of CHEN DELETE billing /customers/42",
		"odd-path": "--caller ci GET billing /a/../b",
		"data":     "--caller ci --data @" + body + " POST billing /refunds",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, append([]string{"policy", "explain", "--config", policyConfig, "--at", "2026-11-23T13:00:00+01:00"}, strings.Fields(args)...)...)
			require.Equal(t, 0, r.code, r.stderr)
			requireGolden(t, "explain-"+name+".golden", r.stdout.String())
		})
	}
}

func TestPolicyExplainAsJSONIsTheExplanation(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "policy", "explain", "--config", policyConfig, "--caller", "payroll-bot", "--json", "DELETE", "billing", "/customers/42")
	require.Equal(t, 0, r.code, r.stderr)
	var got struct {
		Steps  []map[string]any
		Plan   struct{ Rule, Action string }
		Stages []struct {
			Name   string
			People []struct {
				Person string
				Can    bool
				Code   string
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout.String()), &got))
	require.Len(t, got.Steps, 2)
	require.Equal(t, "delete-customer", got.Plan.Rule)
	require.Equal(t, "peer", got.Stages[0].Name)
	require.Equal(t, "self_approval", got.Stages[0].People[0].Code)
	require.True(t, got.Stages[0].People[1].Can)
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestPolicyCommandsSayTheSameInColour(t *testing.T) {
	t.Parallel()
	config, err := policy.LoadUnresolved(policyConfig)
	require.NoError(t, err)
	f, err := policy.LoadFixture(policyFixtures + "failing.yaml")
	require.NoError(t, err)
	for _, r := range f.Run(config) {
		render := func(p paint) string { return p.caseLine(r) + p.differences(r) + p.walk(config, r) }
		require.Contains(t, render(true), "\x1b[")
		require.Equal(t, render(false), escapes.ReplaceAllString(render(true), ""))
	}
	caller, _ := config.Caller("payroll-bot")
	q := question{caller: caller, call: approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"}, at: policy.FixtureTime}
	render := func(p paint) string {
		return explanation{p, config, q, config.Explain(q.caller, "", q.call, q.at)}.text()
	}
	require.Contains(t, render(true), "\x1b[")
	require.Equal(t, render(false), escapes.ReplaceAllString(render(true), ""))
}
