package policy

import (
	"slices"
	"strings"

	"countersign/approvals"
)

// The reasons of plans that no rule made. They are shown to the caller.
const (
	noRule   = "no rule matches this call"
	noAccess = "this caller may not use this upstream"
	noMethod = "this upstream does not allow this method"
	badPath  = "the path can be read in more than one way"
)

// Plan says what is demanded of a call: what the first rule that matches it says, and
// [approvals.ActionDeny] when none does. OnBehalfOf is the person for whom the caller acts,
// by name, Slack id or e-mail address, "" for nobody; like the caller's owners they may not
// decide. It also denies what the service refuses before it asks: an upstream the caller
// may not use, a method the upstream does not allow, a path with two readings.
func (c *Config) Plan(caller Caller, onBehalfOf string, call approvals.Call) approvals.Plan {
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
		c.fill(&plan, c.ruleFor(call, caller, path))
	}
	return plan
}

// ruleFor returns the index of the rule that a call meets, negative for none. To many
// servers /customers/42/ is /customers/42, so a rule that asks people or denies also holds
// for its paths with a slash at their end, where a later rule would let them pass. A rule
// that allows holds for what it says only.
func (c *Config) ruleFor(call approvals.Call, caller Caller, path []string) int {
	exact, last := c.rules.first(call.Upstream, call.Method, caller.Name, path), len(path)-1
	if last == 0 || path[last] != "" {
		return exact
	}
	without := c.rules.first(call.Upstream, call.Method, caller.Name, path[:last])
	if without >= 0 && without < exact && c.Rules[without].Action != approvals.ActionAllow {
		return without
	}
	return exact
}

// fill copies what a rule demands into a plan; i is its index, negative for none.
func (c *Config) fill(plan *approvals.Plan, i int) {
	if i < 0 {
		plan.Reason = noRule
		return
	}
	r := c.Rules[i]
	plan.Rule, plan.Action, plan.Reason = r.Name, r.Action, r.Reason
	plan.ExpiresIn, plan.ExecuteWithin = r.ExpiresIn, r.ExecuteWithin
	plan.Redact, plan.Stages = slices.Clone(r.Redact), slices.Clone(r.Stages)
	for i := range plan.Stages {
		if plan.Stages[i].Channel == "" {
			plan.Stages[i].Channel = c.Slack.Channel
		}
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

// peopleNamed returns the names of those with this name, Slack id or e-mail address, in
// whatever case, and the text itself when there is nobody.
func (c *Config) peopleNamed(text string) []string {
	var out []string
	for _, p := range c.People {
		if strings.EqualFold(p.Name, text) || strings.EqualFold(p.Email, text) || strings.EqualFold(p.Slack, text) {
			out = append(out, p.Name)
		}
	}
	if len(out) == 0 {
		return []string{text}
	}
	return out
}

// ruleIndex finds the first rule that matches. Rules are kept per upstream and method, in
// order, those for any upstream apart; only their callers and paths are left to compare.
type ruleIndex struct {
	named map[ruleKey][]route
	any   map[string][]route // by method
}

type ruleKey struct{ upstream, method string }

// route is what the index does not answer of a rule.
type route struct {
	rule    int
	callers map[string]bool // nil: all
	path    template
}

func newRuleIndex(rules []ruleDraft) ruleIndex {
	x := ruleIndex{named: make(map[ruleKey][]route), any: make(map[string][]route)}
	for i, r := range rules {
		entry := route{rule: i, path: r.route}
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

// first returns the index of the first rule that matches, -1 when none does.
func (x ruleIndex) first(upstream, method, caller string, path []string) int {
	named := firstOf(x.named[ruleKey{upstream, method}], caller, path)
	other := firstOf(x.any[method], caller, path)
	if named < 0 || other >= 0 && other < named {
		return other
	}
	return named
}

func firstOf(routes []route, caller string, path []string) int {
	for i := range routes {
		r := &routes[i]
		if (r.callers == nil || r.callers[caller]) && r.path.matches(path) {
			return r.rule
		}
	}
	return -1
}
