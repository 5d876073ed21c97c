package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// The reasons of plans that no rule made. They are shown to the caller.
const (
	noRule   = "no rule matches this call"
	noCaller = "its caller is not in the configuration any more"
	noAccess = "this caller may not use this upstream"
	noMethod = "this upstream does not allow this method"
	badPath  = "the path can be read in more than one way"
)

// Plan says what is demanded of a call: what the first rule that matches it says, and
// [approvals.ActionDeny] when none does. OnBehalfOf is the person for whom the caller acts,
// by name, Slack id or e-mail address, "" for nobody; like the caller's owners they may not
// decide. It also denies what the service refuses before it asks: an upstream the caller
// may not use, a method the upstream does not allow, a path with two readings. Now is when
// the call was submitted; conditions and hours of work are judged by it.
func (c *Config) Plan(caller Caller, onBehalfOf string, call approvals.Call, now time.Time) approvals.Plan {
	return c.plan(c.ask(caller, onBehalfOf, call, now))
}

// plan is [Config.Plan] of a question.
func (c *Config) plan(q *question) approvals.Plan {
	caller, onBehalfOf, call, now := q.caller, q.onBehalfOf, q.call, q.now
	plan := approvals.Plan{
		Action: approvals.ActionDeny, PolicyDigest: c.Digest, Excluded: c.excluded(caller, onBehalfOf),
		ExpiresIn: defaultExpires, ExecuteWithin: defaultExecute,
	}
	upstream, known := c.Upstream(call.Upstream)
	plan.UpstreamDigest, plan.Idempotent = upstream.Digest, upstream.Idempotent
	path, plain := segments(call.Path)
	switch {
	case !known || !c.MayUse(caller, call.Upstream):
		plan.Reason = noAccess
	case !slices.Contains(upstream.Methods, call.Method):
		plan.Reason = noMethod
	case !plain:
		plan.Reason = badPath
	default:
		i, err := c.ruleFor(q, path)
		c.fill(&plan, i, now)
		if err != nil {
			c.refuse(&plan, i, err)
		}
	}
	return plan
}

// ask makes of a call what conditions are asked about.
func (c *Config) ask(caller Caller, onBehalfOf string, call approvals.Call, now time.Time) *question {
	return &question{config: c, caller: caller, onBehalfOf: onBehalfOf, call: call, now: now}
}

// refuse turns a plan into a denial, because nobody can say whether its rule is about the
// call.
func (c *Config) refuse(plan *approvals.Plan, i int, err error) {
	plan.Action, plan.Stages, plan.BreakGlass = approvals.ActionDeny, nil, nil
	plan.Reason = fmt.Sprintf("the condition of rule %q cannot be evaluated: %s", plan.Rule, c.rules.when[i].why(err))
}

// Today is what this configuration demands of the call of a ticket that was submitted under
// another, perhaps: [approvals.ActionDeny] when its caller is gone. Time conditions are
// judged by the hour of its submission and by its not_before, as by [Config.PlanAt], so that
// the same policy always says the same.
func (c *Config) Today(t approvals.Ticket) approvals.Plan {
	caller, ok := c.Caller(t.Caller)
	if !ok {
		return approvals.Plan{Action: approvals.ActionDeny, Reason: noCaller, PolicyDigest: c.Digest}
	}
	return c.PlanAt(caller, t.OnBehalfOf, t.Call, t.CreatedAt, t.NotBefore)
}

// ruleFor returns the index of the rule that a call meets, negative for none, and why its
// condition cannot be evaluated, if so. To many servers /customers/42/ is /customers/42, so
// a rule that asks people or denies also holds for its paths with a slash at their end,
// where a later rule would let them pass. A rule that allows holds for what it says only.
func (c *Config) ruleFor(q *question, path []string) (int, error) {
	exact, err := c.rules.first(q, path)
	shorter, slashed := withoutSlash(path)
	if !slashed {
		return exact, err
	}
	without, unclear := c.rules.first(q, shorter)
	if without >= 0 && without < exact && c.Rules[without].Action != approvals.ActionAllow {
		return without, unclear
	}
	return exact, err
}

// withoutSlash is a path without the slash at its end, if it has one.
func withoutSlash(path []string) ([]string, bool) {
	last := len(path) - 1
	if last == 0 || path[last] != "" {
		return path, false
	}
	return path[:last], true
}

// fill copies what a rule demands into a plan; i is its index, negative for none.
func (c *Config) fill(plan *approvals.Plan, i int, now time.Time) {
	if i < 0 {
		plan.Reason = noRule
		return
	}
	r := c.Rules[i]
	plan.Rule, plan.Action, plan.Reason = r.Name, r.Action, r.Reason
	plan.ExpiresIn, plan.ExecuteWithin = r.ExpiresIn, r.ExecuteWithin
	plan.Redact, plan.Stages = slices.Clone(r.Redact), slices.Clone(r.Stages)
	plan.Distinct, plan.OnStale, plan.BreakGlass, plan.Confirm = r.Distinct, r.OnStale, r.BreakGlass, r.Confirm
	plan.Sensitive = r.Sensitive
	for _, s := range r.Success {
		plan.Success = append(plan.Success, approvals.StatusRange(s))
	}
	for i := range plan.Stages {
		s := &plan.Stages[i]
		s.Hours = c.hoursOf(*s, now, now.Add(r.ExpiresIn))
		s.Channel, s.Fallback = cmp.Or(s.Channel, c.Slack.Channel), cmp.Or(s.Fallback, c.Slack.FallbackChannel)
		s.Direct = s.Direct || s.Channel == "" && c.Slack.Configured()
	}
}

// excluded is who counts as the requester: the caller's owners and whoever it acts for.
func (c *Config) excluded(caller Caller, onBehalfOf string) []string {
	out := slices.Clone(caller.Owners)
	if onBehalfOf != "" {
		out = append(out, c.peopleNamed(onBehalfOf)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// peopleNamed returns the names of those with this name, Slack id, e-mail address or other
// account, in whatever case, and the text itself when there is nobody.
func (c *Config) peopleNamed(text string) []string {
	var out []string
	for _, p := range c.People {
		names := append([]string{p.Name, p.Email, p.Slack}, p.Accounts...)
		if slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, text) }) {
			out = append(out, p.Name)
		}
	}
	if len(out) == 0 {
		return []string{text}
	}
	return out
}

// ruleIndex finds the first rule that matches. Rules are kept per upstream and method, in
// order, those for any upstream apart; only their callers, paths and conditions are left
// to compare.
type ruleIndex struct {
	named map[ruleKey][]route
	any   map[string][]route // by method
	paths []template         // by rule
	when  []*condition       // by rule, nil: always
}

type ruleKey struct{ upstream, method string }

// route is what the index does not answer of a rule.
type route struct {
	rule    int
	callers map[string]bool // nil: all
	path    template
	when    *condition // nil: always
	allows  bool
}

func newRuleIndex(rules []ruleDraft) ruleIndex {
	x := ruleIndex{named: make(map[ruleKey][]route), any: make(map[string][]route)}
	for i, r := range rules {
		entry := route{rule: i, path: r.route, when: r.when.condition, allows: r.Action == approvals.ActionAllow}
		x.paths, x.when = append(x.paths, entry.path), append(x.when, entry.when)
		for _, name := range r.Match.Callers {
			if entry.callers == nil {
				entry.callers = make(map[string]bool, len(r.Match.Callers))
			}
			entry.callers[name] = true
		}
		methods := r.Match.Methods
		if len(methods) == 0 {
			methods = Methods()
		}
		for _, method := range methods {
			if r.Match.Upstream == "" {
				x.any[method] = append(x.any[method], entry)
				continue
			}
			key := ruleKey{r.Match.Upstream, method}
			x.named[key] = append(x.named[key], entry)
		}
	}
	return x
}

// first returns the index of the first rule that matches, -1 when none does. With an error
// it is a rule that asks people or denies, and whose condition cannot be evaluated.
// Conditions come last, and none behind the first match is evaluated.
func (x ruleIndex) first(q *question, path []string) (int, error) {
	named, other := x.named[ruleKey{q.call.Upstream, q.call.Method}], x.any[q.call.Method]
	for len(named)+len(other) > 0 {
		var r *route
		if len(other) == 0 || len(named) > 0 && named[0].rule < other[0].rule {
			r, named = &named[0], named[1:]
		} else {
			r, other = &other[0], other[1:]
		}
		if yes, err := r.matches(q, path); yes || err != nil {
			return r.rule, err
		}
	}
	return -1, nil
}

// matches reports whether a route of the call's upstream and method matches. A rule that
// allows does not when its condition cannot be evaluated; with others that is an error.
func (r *route) matches(q *question, path []string) (bool, error) {
	if r.callers != nil && !r.callers[q.caller.Name] || !r.path.matches(path) {
		return false, nil
	}
	if r.when == nil {
		return true, nil
	}
	yes, err := r.when.holds(q, r.rule, &r.path, path)
	if err != nil && r.allows {
		return false, nil
	}
	return yes, err
}
