package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// Explanation says how a configuration comes to its plan for a call, and who could approve
// it.
type Explanation struct {
	// Steps are the rules in order, up to the one that decides. Empty when the call is
	// denied before the rules are asked.
	Steps []Step `json:"steps"`
	// Plan is what [Config.Plan] says of the call.
	Plan approvals.Plan `json:"plan"`
	// Stages are those of the plan.
	Stages []StageExplanation `json:"stages"`
	// Problem is why a ticket with this plan could not be opened, such as that nobody could
	// ever approve it. "" when it could.
	Problem string `json:"problem,omitempty"`
	// Unknown are the groups that the plan asks and of which nobody knows who is in them:
	// Slack user groups, where Slack has not been asked. They count as empty here.
	Unknown []string `json:"unknown,omitempty"`
}

// Step is one rule on the way to a plan.
type Step struct {
	Rule string `json:"rule"`
	// Matched is set for the rule that matches, which is the last one. The last is not
	// matched when its condition cannot be evaluated and the call is denied for it.
	Matched bool `json:"matched"`
	// Why says in plain words why the rule does, or does not, match, without a word of its
	// condition.
	Why string `json:"why"`
	// Condition is the text of the condition that is false, or the part of it that cannot be
	// evaluated. "" when the condition does not matter. It is for those who may read the
	// policy.
	Condition string `json:"condition,omitempty"`
}

// The beginnings of what a step says of a condition.
const (
	isFalse = "the condition is false"
	isError = "condition error: "
)

// String says why the rule does, or does not, match, and quotes its condition.
func (s Step) String() string {
	reason, unclear := strings.CutPrefix(s.Why, isError)
	switch {
	case s.Condition == "":
		return s.Why
	case unclear:
		return isError + s.Condition + ": " + reason
	}
	return s.Why + ": " + s.Condition
}

// StageExplanation says what a stage asks for, and of whom.
type StageExplanation struct {
	Name string `json:"name"`
	// Sets are all demanded. They are as they stand when the stage begins.
	Sets []approvals.ApproverSet `json:"sets"`
	// People are everybody the stage asks then, who can approve, and why others cannot, as
	// if nobody had decided anything before.
	People []approvals.Eligibility `json:"people"`
	// Tiers are the escalations to come.
	Tiers []approvals.Tier `json:"tiers,omitempty"`
	// Problem is why nobody could ever complete the stage, even if there were no other. ""
	// when they can.
	Problem string `json:"problem,omitempty"`
}

// maxSteps bounds the steps of an explanation.
const maxSteps = 1000

// Explain says what [Config.Plan] says of a call, how it comes to that, and who could
// approve the call now.
func (c *Config) Explain(caller Caller, onBehalfOf string, call approvals.Call, now time.Time) Explanation {
	q := c.ask(caller, onBehalfOf, call, now)
	q.answers = make(map[asked]answer)
	out := Explanation{Steps: []Step{}, Plan: c.plan(q), Stages: []StageExplanation{}}
	path, plain := segments(call.Path)
	u, known := c.Upstream(call.Upstream)
	if known && plain && c.MayUse(caller, call.Upstream) && slices.Contains(u.Methods, call.Method) {
		out.Steps = c.walk(q, path)
	}
	out.Unknown = c.unknown(out.Plan)
	if out.Plan.Action != approvals.ActionDeny {
		c.explainStages(&out, approvals.Submission{Caller: caller.Name, OnBehalfOf: onBehalfOf, Call: call}, now)
	}
	return out
}

// walk goes through the rules like [Config.Plan] and notes what it meets.
func (c *Config) walk(q *question, path []string) []Step {
	decides, unclear := c.ruleFor(q, path)
	rules := c.Rules
	if decides >= 0 {
		rules = rules[:decides]
	}
	out := []Step{}
	for i := range rules {
		if len(out) == maxSteps-1 {
			break
		}
		why, condition := c.whyNot(i, q, path)
		out = append(out, Step{Rule: rules[i].Name, Why: why, Condition: condition})
	}
	if decides < 0 {
		return out
	}
	last := Step{Rule: c.Rules[decides].Name, Matched: true, Why: c.why(decides, path)}
	if unclear != nil {
		last.Matched = false
		part, words := c.rules.when[decides].split(unclear)
		last.Why, last.Condition = isError+words+", so the call is denied", part
	}
	if skipped := decides - len(out); skipped > 0 {
		last.Why += fmt.Sprintf(" (%d rules before it are not listed)", skipped)
	}
	return append(out, last)
}

// why says why a rule matches.
func (c *Config) why(i int, path []string) string {
	if shorter, slashed := withoutSlash(path); slashed && !c.rules.paths[i].matches(path) && c.rules.paths[i].matches(shorter) {
		return "it matches without the slash at the end of the path, which many servers pass over"
	}
	return "it is the first rule that matches"
}

// whyNot says why a rule before the one that decides does not match, and what of its
// condition matters for it.
func (c *Config) whyNot(i int, q *question, path []string) (why, condition string) {
	m, template := c.Rules[i].Match, &c.rules.paths[i]
	switch {
	case m.Upstream != "" && m.Upstream != q.call.Upstream:
		return fmt.Sprintf("the upstream is %s, the rule asks for %s", q.call.Upstream, m.Upstream), ""
	case len(m.Methods) > 0 && !slices.Contains(m.Methods, q.call.Method):
		return fmt.Sprintf("the method is %s, the rule asks for %s", q.call.Method, listed(m.Methods, "or")), ""
	case len(m.Callers) > 0 && !slices.Contains(m.Callers, q.caller.Name):
		return "the caller is not among " + listed(m.Callers, "and"), ""
	case !template.matches(path):
		shorter, slashed := withoutSlash(path)
		if slashed && c.Rules[i].Action == approvals.ActionAllow && template.matches(shorter) {
			return fmt.Sprintf("the path does not match %s: a rule that allows does not hold with a slash at the end", m.Path), ""
		}
		return "the path does not match " + m.Path, ""
	}
	return c.whyFalse(i, q, template, path)
}

// whyFalse says what a condition said, and what of it matters.
func (c *Config) whyFalse(i int, q *question, template *template, path []string) (why, condition string) {
	when := c.rules.when[i]
	if when == nil {
		return "it does not hold for this path", ""
	}
	yes, err := when.holds(q, i, template, path)
	switch {
	case err != nil:
		part, words := when.split(err)
		return isError + words, part
	case yes:
		return "it does not hold for this path", ""
	}
	return isFalse, oneLine(when.text)
}

// maxListed bounds the names in a sentence.
const maxListed = 5

// listed names a few things: "a, b or c".
func listed(names []string, word string) string {
	if len(names) > maxListed {
		return fmt.Sprintf("%s %s %d more", strings.Join(names[:maxListed], ", "), word, len(names)-maxListed)
	}
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " " + word + " " + names[last]
}

// explainStages says who could approve each stage, by a ticket that is never stored.
func (c *Config) explainStages(out *Explanation, s approvals.Submission, now time.Time) {
	dir := c.Directory().At(now)
	ticket := approvals.Ticket{
		Caller: s.Caller, OnBehalfOf: s.OnBehalfOf, Call: s.Call, Plan: out.Plan, State: approvals.Pending,
	}
	accepted, err := approvals.Accept(s, out.Plan, dir)
	if err == nil {
		ticket = accepted.Open(now).Ticket
	}
	out.Problem = words(err)
	if out.Plan.Action != approvals.ActionApprove {
		return
	}
	for i := range out.Plan.Stages {
		ticket.Stage = i
		e := explainStage(ticket, dir)
		alone := out.Plan
		alone.Stages = alone.Stages[i : i+1]
		_, err := approvals.Accept(s, alone, dir)
		e.Problem = words(err)
		out.Stages = append(out.Stages, e)
	}
}

// explainStage explains the current stage of a ticket.
func explainStage(t approvals.Ticket, dir approvals.Directory) StageExplanation {
	stage, fired := t.Plan.Stages[t.Stage], 0
	if t.Stage < len(t.Tiers) {
		fired = t.Tiers[t.Stage]
	}
	out := StageExplanation{Name: stage.Name, Sets: []approvals.ApproverSet{}, People: []approvals.Eligibility{}}
	for _, set := range t.Tally(t.Stage, dir).Sets {
		out.Sets = append(out.Sets, approvals.ApproverSet{From: set.From, Approvals: set.Approvals})
	}
	out.People = append(out.People, t.Eligible(dir)...)
	out.Tiers = stage.Escalate[min(fired, len(stage.Escalate)):]
	return out
}

// words are those of a refusal, without its code. "" without one.
func words(err error) string {
	var refused *approvals.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Message
	}
	return err.Error()
}
