package model

import (
	"fmt"
	"strings"
	"time"

	"countersign/approvals"
)

// tick is one step of the clock.
const tick = time.Hour

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func at(clock int8) time.Time { return start.Add(time.Duration(clock) * tick) }

// people: ana and bo are the team, a user group in Slack, fay is on call. Once ana is gone
// her account there is deactivated, and she counts no more.
func people(gone bool) approvals.Directory {
	dir := approvals.Directory{
		People: map[string]approvals.Person{},
		Groups: map[string][]string{"team": {"ana", "bo"}, "oncall": {"fay"}},
		Owners: map[string][]string{"bot": {"dee"}},
		Live:   map[string]string{"team": "S0TEAM"},
	}
	for _, name := range []string{"ana", "bo", "dee", "fay"} {
		dir.People[name] = approvals.Person{Name: name}
	}
	if gone {
		dir.Inactive = map[string]string{"ana": "this Slack account is deactivated"}
	}
	return dir
}

// plan asks two of the team, and fay as well from the first tick on.
func plan(c Config) approvals.Plan {
	return approvals.Plan{
		Rule: "rule", Action: approvals.ActionApprove, PolicyDigest: "then", UpstreamDigest: "upstream",
		ExpiresIn: 3 * tick, ExecuteWithin: 2 * tick, Idempotent: c.Idempotent,
		Stages: []approvals.Stage{{
			Name: "peer", Need: []approvals.ApproverSet{{From: []string{"team"}, Approvals: 2}}, Denials: 1,
			Escalate: []approvals.Tier{{After: tick, To: []string{"oncall"}, Mode: approvals.ModeAdd}},
		}},
	}
}

// today is the plan of the policy in force: the one of then, or one that asks fay.
func today(c Config, policy int8) approvals.Plan {
	p := plan(c)
	if policy > 0 {
		p.PolicyDigest = "now"
		p.Stages = []approvals.Stage{{Name: "boss", Need: []approvals.ApproverSet{{From: []string{"fay"}, Approvals: 1}}, Denials: 1}}
	}
	return p
}

// submitted is the ticket everything begins with.
func submitted(c Config) (approvals.Ticket, error) {
	s := approvals.Submission{
		ID: "tkt_01kmkc3e8q2h5v7n4c6d0x1r7q", Caller: "bot",
		Call: approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42"},
	}
	if c.Delayed {
		s.NotBefore = at(1)
	}
	tr, err := approvals.Submit(s, plan(c), people(false), start)
	return tr.Ticket, err
}

// essence is all of a ticket that its verbs look at, so that two with the same essence
// have the same future. Numbers of events are not in it.
func essence(t approvals.Ticket) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %v %d %q %t", t.State, t.Stage, t.Tiers, t.Epoch, t.Worker, t.Stalled != nil)
	for _, when := range []time.Time{t.StageSince, t.ApprovedAt, t.ExecuteBy, t.ReleasedAt, t.ExecutionStartedAt, t.CancelRequestedAt} {
		if when.IsZero() {
			b.WriteString(" -")
		} else {
			fmt.Fprintf(&b, " %d", when.Sub(start)/tick)
		}
	}
	fmt.Fprintf(&b, " %d %d %d %d", t.Plan.Round, t.Plan.Reopened, len(t.Plan.Stages), len(t.Viewers))
	for _, d := range t.Decisions {
		fmt.Fprintf(&b, " %s:%s:%d", d.Person, d.Verdict, d.Stage)
	}
	return b.String()
}

// lacks says whose yes is missing for a call to be made, by nothing but the names on the
// ticket. "" when none is.
func lacks(t approvals.Ticket, policy int8, gone bool) string {
	yes, boss := map[string]bool{}, false
	for _, d := range t.Decisions {
		switch {
		case d.Verdict != approvals.Approve:
			return d.Person + " said no"
		case d.Person == "ana" && gone, d.Person == "fay" && d.Stage == 0 && t.Tiers[0] == 0:
		case d.Stage == 0:
			yes[d.Person] = true
		}
		boss = boss || d.Person == "fay"
	}
	switch {
	case len(yes) < 2:
		return fmt.Sprintf("only %d of 2 said yes", len(yes))
	case (policy > 0 || t.Plan.Round > 0) && !boss:
		return "fay, whom the stricter policy asks, did not say yes"
	}
	return ""
}
