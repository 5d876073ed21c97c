package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// FixtureTime is when the calls of cases that do not say are submitted: noon of a Monday,
// UTC, far enough ahead that nobody is still away, and always the same, so that what a
// fixture says does not depend on the day it is run.
var FixtureTime = time.Date(2030, time.January, 7, 12, 0, 0, 0, time.UTC)

// Fixture is a file of cases for a policy: calls, and what is expected of each.
type Fixture struct {
	// Name is the file as it was given.
	Name  string
	Cases []Case
	// UserGroups says, for all cases, who is in Slack user groups: people by name, groups by
	// id.
	UserGroups map[string][]string

	text string // as read, for Update
}

// Case is a call and what the policy is expected to say about it. A case belongs to no
// configuration: names in it are looked up when it is run.
type Case struct {
	Name string
	// Line is where the case begins.
	Line       int
	Caller     string
	OnBehalfOf string
	Call       approvals.Call
	// At is when the call is submitted, [FixtureTime] by default.
	At        time.Time
	Decisions []CaseDecision
	// UserGroups takes the place of what the file says of these groups.
	UserGroups map[string][]string

	wants []want
	// blank is the expectation that has nothing in it yet, nil when there is something.
	blank *extent
}

// CaseDecision is a verdict on the ticket that the call would open.
type CaseDecision struct {
	Person  string
	Verdict approvals.Verdict
	Comment string
	// After is counted from the submission. Timers that are due by then fire before.
	After time.Duration
	// Refused is the code with which the decision is expected to be refused, "" when it
	// should be taken.
	Refused approvals.Code

	at pos
}

// LoadFixture reads a file of cases. The error is [Problems] when something is wrong with
// what is written, and wraps the cause when it cannot be read.
func LoadFixture(path string) (Fixture, error) {
	content, err := readFile(path)
	if err != nil {
		return Fixture{}, fmt.Errorf("fixture: %w", err)
	}
	return ParseFixture(path, content)
}

// ParseFixture reads cases from memory. Name is what problems call the file. It is decoded
// as strictly as a configuration, and every problem is reported at once.
func ParseFixture(name string, src []byte) (Fixture, error) {
	d := newDecoder(nil)
	text := plainText(src)
	d.src = newSource(name, text)
	f := Fixture{Name: name, text: text}
	body, ok := d.parse(text, len(src))
	switch {
	case !ok:
	case body == nil:
		d.problem(pos{src: d.src, line: 1, col: 1}, "begin with cases:", "the file has no cases")
	default:
		d.object(bare(body), "a fixture", fields{
			"cases": d.list("cases", d.fixtureCase(&f)), "usergroups": d.userGroups(&f.UserGroups),
		}, "cases")
	}
	f.checkNames(d)
	if len(d.problems) > 0 {
		return Fixture{}, d.problems.ordered(map[string]int{name: 0})
	}
	return f, nil
}

// plainText is a file as the decoder reads it: without a byte order mark, lines ended alike.
func plainText(src []byte) string {
	return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(src), "\ufeff"))
}

// checkNames refuses two cases of one name: a report would not say which one failed.
func (f Fixture) checkNames(d *decoder) {
	for i, c := range f.Cases {
		same := slices.IndexFunc(f.Cases[:i], func(b Case) bool { return b.Name == c.Name })
		if c.Name != "" && same >= 0 {
			d.problem(pos{src: d.src, line: c.Line, col: 1}, "", "there is a case %q already, on line %d", shorten(c.Name), f.Cases[same].Line)
		}
	}
}

// CaseResult is what came of a case.
type CaseResult struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Rule and Action are what the policy says of the call; Rule is "" when none matched.
	Rule   string           `json:"rule"`
	Action approvals.Action `json:"action"`
	// Differences are what was expected and is not so.
	Differences []Difference `json:"differences,omitempty"`
	// Walk is how the rule was found; only for a case that failed.
	Walk []Step `json:"walk,omitempty"`
}

// Difference is one field of an expectation that was not met.
type Difference struct {
	// Field is where it stands, such as "stages[0].need".
	Field string `json:"field"`
	Line  int    `json:"line"`
	Want  string `json:"want"`
	Got   string `json:"got"`

	edit edit
}

// Run tries every case on a configuration.
func (f Fixture) Run(c *Config) []CaseResult {
	out := make([]CaseResult, 0, len(f.Cases))
	for _, one := range f.Cases {
		out = append(out, f.run(c, one))
	}
	return out
}

func (f Fixture) run(c *Config, one Case) CaseResult {
	groups := maps.Clone(f.UserGroups)
	if groups == nil {
		groups = make(map[string][]string)
	}
	maps.Copy(groups, one.UserGroups)
	one.UserGroups = groups
	o := c.assume(groups).outcomeOf(one)
	out := CaseResult{File: f.Name, Line: one.Line, Name: one.Name, Rule: o.plan.Rule, Action: o.plan.Action}
	out.Differences = o.wrong
	for _, w := range one.wants {
		if !o.known {
			break
		}
		if got := w.judge(o); !got.ok {
			out.Differences = append(out.Differences, w.differs(got))
		}
	}
	if one.blank != nil && len(out.Differences) == 0 {
		out.Differences = append(out.Differences, o.blank(*one.blank))
	}
	if out.OK = len(out.Differences) == 0; !out.OK && o.known {
		out.Walk = o.config.Explain(o.caller, o.onBehalfOf, one.Call, one.At).Steps
	}
	return out
}

// Untested lists the rules of a configuration that no case has reached, in their order.
func (c *Config) Untested(results []CaseResult) []string {
	reached := make(map[string]bool)
	for _, r := range results {
		reached[r.Rule] = true
	}
	out := []string{}
	for _, r := range c.Rules {
		if !reached[r.Name] {
			out = append(out, r.Name)
		}
	}
	return out
}
