package policy

import (
	"fmt"
	"time"

	"countersign/approvals"
)

// PlanAt is [Config.Plan] of a call that is submitted now and made at notBefore at the
// earliest. With a zero notBefore, or one that is not later than now, it is Plan. Otherwise
// conditions are asked about both moments, and when they lead to another rule or action the
// plan is a denial that says so: nobody can approve by day what the policy asks for at
// night. Hours of work, and all else, are judged by now.
func (c *Config) PlanAt(caller Caller, onBehalfOf string, call approvals.Call, now, notBefore time.Time) approvals.Plan {
	plan := c.Plan(caller, onBehalfOf, call, now)
	if !notBefore.After(now) {
		return plan
	}
	then := c.Plan(caller, onBehalfOf, call, notBefore)
	if then.Rule == plan.Rule && then.Action == plan.Action {
		return plan
	}
	plan.Reason = fmt.Sprintf("the policy says something else at not_before: %s now, %s then; submit it nearer to its time",
		c.decider(plan), c.decider(then))
	plan.Action, plan.Stages, plan.BreakGlass = approvals.ActionDeny, nil, nil
	return plan
}

// decider names what decided.
func (c *Config) decider(plan approvals.Plan) string {
	if plan.Rule == "" {
		return "no rule"
	}
	for _, r := range c.Rules {
		if r.Name == plan.Rule && r.Action != plan.Action {
			return fmt.Sprintf("an error in the condition of rule %q", plan.Rule)
		}
	}
	return fmt.Sprintf("rule %q", plan.Rule)
}
