package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"countersign/policy"
)

type policyTestCmd struct {
	policyFlags
	Update          bool     `help:"Write what the policy says into the fixtures, where they expect something else."`
	RequireCoverage bool     `help:"Fail when a rule has no case."`
	JSON            bool     `help:"Print one JSON object."`
	Fixture         []string `arg:"" help:"Files of cases."`
}

// Help is shown below the flags.
func (policyTestCmd) Help() string {
	return `A fixture is a YAML file of cases. Only what is written in expect is compared:

  cases:
    - name: deleting a customer takes a peer and two of security
      call: {caller: payroll-bot, upstream: billing, method: DELETE, path: /customers/42}
      expect:
        rule: delete-customer
        action: approve
        can_approve: [dora]
        verdict: approved
      decisions:
        - {person: dora, verdict: approve, after: 10m}
        - {person: bo, verdict: approve, after: 20m}
        - {person: chen, verdict: approve, after: 30m}

With expect: {} and --update, what the policy says is filled in, to be read and kept.
No secret is read: env: and file: references need not resolve.

Exit code 0: all is as expected. 1: something is not. 2: a file is broken.`
}

// testReport is what --json prints.
type testReport struct {
	Cases            []policy.CaseResult `json:"cases"`
	Total            int                 `json:"total"`
	OK               int                 `json:"ok"`
	Failed           int                 `json:"failed"`
	Updated          int                 `json:"updated,omitempty"`
	RulesWithoutCase []string            `json:"rules_without_case"`
}

// Run tests the policy.
func (c policyTestCmd) Run(env environment) error {
	config, err := c.load(env)
	if err != nil {
		return err
	}
	fixtures, err := loadFixtures(c.Fixture)
	if err != nil {
		return usageError{err}
	}
	report := testReport{Cases: []policy.CaseResult{}}
	for _, f := range fixtures {
		results := f.Run(config)
		if c.Update {
			if results, err = update(f, config, results, &report.Updated); err != nil {
				return err
			}
		}
		report.Cases = append(report.Cases, results...)
	}
	report.count(config)
	if err := c.print(env, config, report); err != nil {
		return err
	}
	return c.judge(report)
}

// loadFixtures reads all files, so that every broken one is reported.
func loadFixtures(paths []string) (out []policy.Fixture, err error) {
	for _, path := range paths {
		f, broken := policy.LoadFixture(path)
		out, err = append(out, f), errors.Join(err, broken)
	}
	return out, err
}

// update writes a fixture anew and runs it again.
func update(f policy.Fixture, config *policy.Config, results []policy.CaseResult, updated *int) ([]policy.CaseResult, error) {
	text, n := f.Update(config, results)
	if n == 0 {
		return results, nil
	}
	again, err := policy.ParseFixture(f.Name, text)
	if err == nil {
		err = os.WriteFile(f.Name, text, 0o600) // a file that is there keeps its mode
	}
	if err != nil {
		return nil, fmt.Errorf("update the fixture: %w", err)
	}
	*updated += n
	return again.Run(config), nil
}

func (r *testReport) count(config *policy.Config) {
	r.Total, r.RulesWithoutCase = len(r.Cases), config.Untested(r.Cases)
	for _, one := range r.Cases {
		if one.OK {
			r.OK++
		}
	}
	r.Failed = r.Total - r.OK
}

// judge says what makes the command fail.
func (c policyTestCmd) judge(r testReport) error {
	var wrong []string
	if r.Failed > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %s failed", r.Failed, plural(r.Total, "case", "cases")))
	}
	if n := len(r.RulesWithoutCase); c.RequireCoverage && n > 0 {
		wrong = append(wrong, plural(n, "rule has", "rules have")+" no case")
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

func (c policyTestCmd) print(env environment, config *policy.Config, r testReport) error {
	if c.JSON {
		return json.NewEncoder(env.stdout).Encode(r)
	}
	p := painter(env)
	var b strings.Builder
	for i, one := range r.Cases {
		if len(c.Fixture) > 1 && (i == 0 || r.Cases[i-1].File != one.File) {
			b.WriteString(p.bold(one.File) + "\n")
		}
		b.WriteString(p.caseLine(one))
		b.WriteString(p.differences(one))
		b.WriteString(p.walk(config, one))
	}
	fmt.Fprintf(&b, "%s: %d ok, %d failed\n", plural(r.Total, "case", "cases"), r.OK, r.Failed)
	if r.Updated > 0 {
		fmt.Fprintf(&b, "updated: %s\n", plural(r.Updated, "expectation", "expectations"))
	}
	if len(r.RulesWithoutCase) > 0 {
		fmt.Fprintf(&b, "rules without a case: %s\n", strings.Join(r.RulesWithoutCase, ", "))
	}
	_, err := io.WriteString(env.stdout, b.String())
	return err
}

func (p paint) caseLine(r policy.CaseResult) string {
	if r.OK {
		return p.good("ok") + "    " + r.Name + "\n"
	}
	return p.bad("FAIL") + "  " + p.bold(r.Name) + p.dim(fmt.Sprintf("  %s:%d", r.File, r.Line)) + "\n"
}

// differences shows what was wanted above what was got.
func (p paint) differences(r policy.CaseResult) string {
	var rows [][]string
	for _, d := range r.Differences {
		rows = append(rows, []string{d.Field, "want", d.Want}, []string{"", "got", d.Got})
	}
	return columns("      ", rows, func(row, column int, text string) string {
		switch {
		case column == 0:
			return p.bold(text)
		case column == 2 && row%2 == 1:
			return p.alert(text)
		}
		return text
	})
}

// maxWalk is how many rules of a walk are shown, the last ones.
const maxWalk = 12

// walk shows how the rule of a failed case was found, and what kept the rule away that
// was expected.
func (p paint) walk(config *policy.Config, r policy.CaseResult) string {
	steps := r.Walk
	if len(steps) == 0 {
		return ""
	}
	wanted := ""
	for _, d := range r.Differences {
		if d.Field == "rule" {
			wanted = d.Want
		}
	}
	before := max(len(steps)-maxWalk, 0)
	var rows [][]string
	for i, s := range steps {
		if i >= before || s.Rule == wanted {
			rows = append(rows, step(i, s))
		}
	}
	known := slices.IndexFunc(config.Rules, func(rule policy.Rule) bool { return rule.Name == wanted })
	if !slices.ContainsFunc(steps, func(s policy.Step) bool { return s.Rule == wanted }) && known >= 0 {
		rows = append(rows, []string{"", fmt.Sprint(known + 1), wanted, "was not asked: a rule before it matches"})
	}
	title := "the walk to rule " + r.Rule
	if r.Rule == "" {
		title = "the walk, which ends without a rule"
	}
	return "      " + p.dim(title) + "\n" + columns("      ", rows, nil)
}

// step is a row of a walk.
func step(i int, s policy.Step) []string {
	mark := " "
	if s.Matched {
		mark = "→"
	}
	return []string{mark, fmt.Sprint(i + 1), s.Rule, s.String()}
}
