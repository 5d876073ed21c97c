package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// outcome is what a configuration says of the call of a case, and what becomes of the
// ticket.
type outcome struct {
	config     *Config
	caller     Caller
	onBehalfOf string
	// known is false when the caller is not: then there is nothing to say.
	known bool
	plan  approvals.Plan
	// why is why the submission would be refused, "" when it would not.
	why string
	// asked are those whom the first stage asks when it opens.
	asked   []approvals.Eligibility
	decided []decided
	verdict string
	// wrong is what the configuration does not know, or the API would not let through.
	wrong []Difference
}

// decided is what came of one decision: nothing but zeros when it was taken.
type decided struct {
	code    approvals.Code
	message string
}

func (c *Config) outcomeOf(one Case) *outcome {
	o := &outcome{config: c}
	o.caller, o.known = c.Caller(one.Caller)
	if !o.known {
		o.unknown("call.caller", one.Caller, names(c.callers), one.Line)
		return o
	}
	o.checkCall(one)
	o.plan = c.Plan(o.caller, o.onBehalfOf, one.Call, one.At)
	o.checkGroups(one)
	submission := approvals.Submission{ID: trialID, Caller: one.Caller, OnBehalfOf: o.onBehalfOf, Call: one.Call}
	x, err := try(c.Directory(), submission, o.plan, one.At)
	if err != nil {
		o.why, o.verdict = words(err), verdictRefused
		return o
	}
	o.asked = x.ticket.Eligible(c.Directory().At(one.At))
	for _, d := range one.Decisions {
		o.decided = append(o.decided, x.decide(approvals.Decision{Person: d.Person, Verdict: d.Verdict, Comment: d.Comment}, one.At.Add(d.After)))
	}
	o.verdict = string(x.ticket.State)
	return o
}

// checkCall looks for what the API would refuse before any rule is asked: a case for a
// call that cannot be made proves nothing.
func (o *outcome) checkCall(one Case) {
	people := o.config.directory.People
	for _, id := range slices.Sorted(maps.Keys(one.UserGroups)) {
		if len(o.config.userGroup(id)) == 0 {
			o.unknown("usergroups", id, o.config.UserGroups(), one.Line)
		}
		for _, person := range one.UserGroups[id] {
			if _, ok := people[person]; !ok {
				o.unknown("usergroups."+id, person, names(people), one.Line)
			}
		}
	}
	if one.OnBehalfOf != "" {
		o.onBehalfOf = o.config.peopleNamed(one.OnBehalfOf)[0]
		if _, ok := people[o.onBehalfOf]; !ok {
			o.unknown("call.on_behalf_of", one.OnBehalfOf, names(people), one.Line)
		}
	}
	for i, d := range one.Decisions {
		if _, ok := people[d.Person]; !ok {
			o.unknown(fmt.Sprintf("decisions[%d].person", i), d.Person, names(people), d.at.line)
		}
	}
	upstream, ok := o.config.Upstream(one.Call.Upstream)
	if !ok {
		o.unknown("call.upstream", one.Call.Upstream, names(o.config.upstreams), one.Line)
		return
	}
	for _, h := range one.Call.Headers {
		if h.Name != contentType && !slices.Contains(upstream.RequestHeaders, strings.ToLower(h.Name)) {
			o.wrong = append(o.wrong, Difference{
				Field: "call.headers." + h.Name, Line: one.Line, Want: "a header that callers may set",
				Got: "upstream " + upstream.Name + " takes " + strings.Join(upstream.RequestHeaders, ", "),
			})
		}
	}
}

// checkGroups looks for user groups of which the fixture does not say who is in them, where
// the case depends on it: what it would say of people would be a guess.
func (o *outcome) checkGroups(one Case) {
	about := len(one.Decisions) > 0 || one.blank != nil || slices.ContainsFunc(one.wants, func(w want) bool {
		return w.field == "can_approve" || w.field == "verdict" || strings.HasPrefix(w.field, "cannot_approve")
	})
	if unknown := o.config.unknown(o.plan); about && len(unknown) > 0 {
		o.wrong = append(o.wrong, Difference{
			Field: "usergroups", Line: one.Line, Want: "who is in " + listed(unknown, "and"), Got: "nothing: write usergroups: {ID: [NAME]}",
		})
	}
}

func (o *outcome) unknown(field, name string, known []string, line int) {
	o.wrong = append(o.wrong, Difference{Field: field, Line: line, Want: yamlText(name), Got: noSuchName(name, known)})
}

func noSuchName(name string, known []string) string {
	out := "the configuration has no such name"
	if hint := didYouMean(name, known); hint != "" {
		out += ": " + hint
	}
	return out
}

func (o *outcome) canApprove() []string {
	out := []string{}
	for _, e := range o.asked {
		if e.Can {
			out = append(out, e.Person)
		}
	}
	slices.Sort(out)
	return out
}

func (o *outcome) cannotApprove(person, code string) verdict {
	if o.why != "" {
		return verdict{text: o.why}
	}
	if _, ok := o.config.directory.People[person]; !ok {
		return verdict{text: noSuchName(person, names(o.config.directory.People))}
	}
	for _, e := range o.asked {
		switch {
		case e.Person != person:
		case e.Can:
			return verdict{text: person + " can approve"}
		default:
			return plainly(string(e.Code) == code, string(e.Code))
		}
	}
	return plainly(code == string(approvals.CodeNotApprover), string(approvals.CodeNotApprover))
}

// blank is the difference between an expectation with nothing in it and one that says all
// there is to say, so that nothing of it can be loosened unseen.
func (o *outcome) blank(where extent) Difference {
	parts := []string{"rule: " + yamlText(o.plan.Rule), "action: " + string(o.plan.Action)}
	if o.plan.Action == approvals.ActionApprove {
		parts = append(parts, "stages: "+yamlStages(o.plan.Stages), "can_approve: "+yamlList(o.canApprove()),
			"expires_in: "+showDuration(o.plan.ExpiresIn), "execute_within: "+showDuration(o.plan.ExecuteWithin),
			"distinct: "+yamlDistinct(o.plan), "on_stale: "+yamlOnStale(o.plan), "confirm: "+yamlConfirm(o.plan), "break_glass: "+yamlList(bypassers(o.plan)))
	}
	if o.why != "" || len(o.decided) > 0 {
		parts = append(parts, "verdict: "+o.verdict)
	}
	yaml := "{" + strings.Join(parts, ", ") + "}"
	return Difference{
		Field: "expect", Line: where.from.line, Want: "something: an empty expectation tests nothing (--update fills it in)",
		Got: yaml, edit: edit{where: where, yaml: yaml},
	}
}

// trialID is the id of tickets that are never stored.
const trialID = "tkt_00000000000000000000000000"

// trial is a ticket that is only imagined, under the verbs of the domain.
type trial struct {
	dir    approvals.Directory
	ticket approvals.Ticket
}

func try(dir approvals.Directory, s approvals.Submission, plan approvals.Plan, now time.Time) (*trial, error) {
	tr, err := approvals.Submit(s, plan, dir, now)
	if err != nil {
		return nil, err
	}
	return &trial{dir: dir, ticket: tr.Ticket}, nil
}

// maxTimers bounds the timers that fire between two decisions.
const maxTimers = 1000

// wait lets the timers fire that are due by a moment.
func (x *trial) wait(until time.Time) {
	for range maxTimers {
		due := x.ticket.WakeAt
		if !x.ticket.State.Open() || due.IsZero() || due.After(until) {
			return
		}
		tr, err := x.ticket.Wake(x.dir, due)
		if err != nil || tr.Empty() {
			return
		}
		x.ticket = tr.Ticket
	}
}

// decide carries out a decision on the stage the ticket is in by then.
func (x *trial) decide(d approvals.Decision, at time.Time) decided {
	x.wait(at)
	d.Stage, d.Digest = x.ticket.Stage, x.ticket.Digest
	actor := approvals.Actor{Kind: approvals.ActorPerson, Name: d.Person, Via: "test"}
	tr, err := x.ticket.Decide(actor, d, x.dir, at)
	if !tr.Empty() {
		x.ticket = tr.Ticket
	}
	if err != nil {
		return decided{code: approvals.ErrorCode(err), message: words(err)}
	}
	return decided{}
}

// without is a directory in which somebody does not exist.
func without(dir approvals.Directory, person string) approvals.Directory {
	dir.People = maps.Clone(dir.People)
	delete(dir.People, person)
	return dir
}
