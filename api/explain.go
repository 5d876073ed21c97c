package api

import (
	"context"
	"slices"
	"time"

	"countersign/approvals"
	"countersign/policy"
)

// ExplainCall says what the policy in force makes of a call, and who could approve it.
// Nothing is written.
func (o operations) ExplainCall(ctx context.Context, r ExplainCallRequestObject) (ExplainCallResponseObject, error) {
	x, body := exchangeOf(ctx), r.Body
	caller, err := x.explained(body.Caller)
	if err != nil {
		return nil, err
	}
	submit := SubmitRequest{
		Upstream: body.Upstream, Method: body.Method, Path: body.Path, Query: body.Query, Headers: body.Headers,
		Body: body.Body, BodyBase64: body.BodyBase64, OnBehalfOf: body.OnBehalfOf, Justification: body.Justification,
		Metadata: body.Metadata, Callback: body.Callback, NotBefore: body.NotBefore, Supersedes: body.Supersedes,
	}
	call, err := o.call(x.config, caller, submit)
	if err != nil {
		return nil, err
	}
	if err := x.mayCall(call); err != nil {
		return nil, err
	}
	person, err := o.tryWords(x, caller, submit)
	if err != nil {
		return nil, err
	}
	e := x.config.Explain(caller, person, call, o.now())
	if !x.operator() {
		e.Steps = openSteps(x.config, caller, e.Steps)
	}
	return private(explanation(caller.Name, e)), nil
}

// tryWords checks what a submit would say besides the call, as far as that takes no look at
// the database, and finds the person whom it is for.
func (o operations) tryWords(x *exchange, caller policy.Caller, body SubmitRequest) (person string, err error) {
	if err := x.maySupersede(body.Supersedes); err != nil {
		return "", err
	}
	if _, _, err := o.callbackOf(caller, body.Callback); err != nil {
		return "", err
	}
	earliest, err := o.schedule(body)
	switch {
	case err != nil:
		return "", err
	case !earliest.IsZero() && !earliest.After(o.now()):
		return "", tooLate()
	}
	return checkWords(x.config.Directory(), body)
}

// explained is the caller whose call is to be explained: itself, any for an operator, and
// for other people those they own. Whether another one exists is nobody's business.
func (x *exchange) explained(name string) (policy.Caller, error) {
	if x.person.Name == "" {
		if name != "" && name != x.caller.Name {
			return policy.Caller{}, fail(codeCallerNotOpen, "a caller may ask about its own calls only")
		}
		return x.caller, nil
	}
	if name == "" {
		return policy.Caller{}, failItems(codeValidationFailed, []ProblemItem{{
			Pointer: "#/caller", Detail: "people must say whose call it would be",
		}})
	}
	caller, exists := x.config.Caller(name)
	switch {
	case x.operator() && !exists:
		return policy.Caller{}, failItems(codeValidationFailed, []ProblemItem{{Pointer: "#/caller", Detail: "there is no such caller"}})
	case !x.operator() && (!exists || !slices.Contains(caller.Owners, x.person.Name)):
		return policy.Caller{}, fail(codeCallerNotOpen, "operators may ask about every caller, other people about those they own")
	}
	return caller, nil
}

// openSteps leaves out the rules that can never be about this caller, which would tell the
// names of others, and of upstreams it may not use, and what stands in conditions.
func openSteps(config *policy.Config, caller policy.Caller, steps []policy.Step) []policy.Step {
	closed := make(map[string]bool)
	for _, r := range config.Rules {
		m := r.Match
		closed[r.Name] = (len(m.Callers) > 0 && !slices.Contains(m.Callers, caller.Name)) ||
			(m.Upstream != "" && !config.MayUse(caller, m.Upstream))
	}
	out := slices.DeleteFunc(slices.Clone(steps), func(s policy.Step) bool { return closed[s.Rule] })
	for i := range out {
		out[i].Condition = ""
	}
	return out
}

func explanation(caller string, e policy.Explanation) Explanation {
	out := Explanation{
		Caller: caller, Rule: e.Plan.Rule, Action: e.Plan.Action, Reason: e.Plan.Reason, Problem: e.Problem,
		Steps: make([]ExplanationStep, 0, len(e.Steps)), Stages: make([]ExplanationStage, 0, len(e.Stages)),
	}
	for _, s := range e.Steps {
		out.Steps = append(out.Steps, ExplanationStep{Rule: s.Rule, Matched: s.Matched, Why: s.String()})
	}
	for _, s := range e.Stages {
		out.Stages = append(out.Stages, explanationStage(s))
	}
	return out
}

func explanationStage(s policy.StageExplanation) ExplanationStage {
	out := ExplanationStage{
		Name: s.Name, Need: approverSets(s.Sets), Problem: s.Problem, People: make([]Eligibility, 0, len(s.People)),
	}
	for _, p := range s.People {
		out.People = append(out.People, Eligibility{
			Person: p.Person, Can: p.Can, For: p.For, Sets: p.Sets, Code: string(p.Code), Reason: p.Reason,
		})
	}
	for _, t := range s.Tiers {
		tier := Escalation{AfterSeconds: int64(t.After / time.Second), Mode: t.Mode, To: t.To}
		if len(t.Need) > 0 {
			tier.Need = approverSets(t.Need)
		}
		out.Escalate = append(out.Escalate, tier)
	}
	return out
}

func approverSets(sets []approvals.ApproverSet) []ApproverSet {
	out := make([]ApproverSet, 0, len(sets))
	for _, s := range sets {
		out = append(out, ApproverSet{From: orEmpty(s.From), Approvals: s.Approvals})
	}
	return out
}
