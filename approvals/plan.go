package approvals

import (
	"slices"
	"time"
)

// Action is what a rule says about a call it matches.
type Action string

const (
	// ActionApprove asks people: the plan has at least one stage.
	ActionApprove Action = "approve"
	// ActionAllow lets the call through without anybody's approval.
	ActionAllow Action = "allow"
	// ActionDeny refuses the call outright. It is also what happens without a match.
	ActionDeny Action = "deny"
)

// Plan is what a rule demanded of a call, frozen onto the ticket at submit. A later
// change of configuration never loosens it.
type Plan struct {
	// Rule is the name of the rule that matched, "" when none did.
	Rule   string `json:"rule"`
	Action Action `json:"action"`
	// Reason is shown to the caller with ActionDeny.
	Reason string `json:"reason,omitempty"`
	// PolicyDigest identifies the configuration that made this plan.
	PolicyDigest string `json:"policy_digest"`
	// UpstreamDigest identifies the upstream's configuration; see [Binding].
	UpstreamDigest string `json:"upstream_digest"`
	// Stages are met one after the other.
	Stages []Stage `json:"stages,omitempty"`
	// ExpiresIn bounds the time for all decisions together.
	ExpiresIn time.Duration `json:"expires_in"`
	// ExecuteWithin bounds the time between the last approval and the call.
	ExecuteWithin time.Duration `json:"execute_within"`
	// Idempotent says that upstream may be sent the same call again, with the same
	// Idempotency-Key, when an outcome is unknown.
	Idempotent bool `json:"idempotent,omitempty"`
	// Excluded are the people who may not decide: owners of the caller, and the person
	// on whose behalf it acts.
	Excluded []string `json:"excluded,omitempty"`
	// Redact lists what people are not shown, such as "headers.x-token" or "body.ssn".
	Redact []string `json:"redact,omitempty"`
}

// Stage is one step of a plan. All its approver sets must be met.
type Stage struct {
	Name string        `json:"name"`
	Need []ApproverSet `json:"need"`
	// Denials is how many people must deny to end the ticket. At least 1. A person who
	// denies has used their vote, so above 1 a minority of denials can leave too few to approve.
	Denials int `json:"denials"`
	// RemindEvery is the time between reminders; 0 means none.
	RemindEvery time.Duration `json:"remind_every,omitempty"`
	// Escalate lists the tiers in order of After.
	Escalate []Tier `json:"escalate,omitempty"`
	// Channel is where the card goes: a Slack channel name or id.
	Channel string `json:"channel,omitempty"`
}

// ApproverSet asks for a number of approvals from people and groups. Names inside From
// are alternatives; sets of one stage are all demanded.
type ApproverSet struct {
	From      []string `json:"from"`
	Approvals int      `json:"approvals"`
}

// Mode says what an escalation tier does to the approver sets of its stage.
type Mode string

const (
	// ModeAdd lets more people decide.
	ModeAdd Mode = "add"
	// ModeReplace takes the decision away from those who did not answer.
	ModeReplace Mode = "replace"
)

// Tier is one escalation: it fires After the stage began, unless decided by then.
type Tier struct {
	After time.Duration `json:"after"`
	To    []string      `json:"to"`
	Mode  Mode          `json:"mode"`
}

// sets returns the approver sets of a stage after the first n tiers have fired.
func (s Stage) sets(n int) []ApproverSet {
	out := make([]ApproverSet, len(s.Need))
	copy(out, s.Need)
	for _, tier := range s.Escalate[:min(n, len(s.Escalate))] {
		for i := range out {
			out[i].From = tier.widen(out[i].From)
		}
	}
	return out
}

func (t Tier) widen(from []string) []string {
	if t.Mode == ModeReplace {
		return t.To
	}
	return append(append(make([]string, 0, len(from)+len(t.To)), from...), t.To...)
}

// outlooks returns the approver sets under which a stage may yet be met, after fired
// tiers: one with everybody added before the next tier that replaces, and one after each
// that does. Those who are replaced and those who replace them never count together.
// Tiers at or after within never fire; zero means that all do.
func (s Stage) outlooks(fired int, within time.Duration) [][]ApproverSet {
	var out [][]ApproverSet
	for ; fired < len(s.Escalate); fired++ {
		tier := s.Escalate[fired]
		if within > 0 && tier.After >= within {
			break
		}
		if tier.Mode == ModeReplace {
			out = append(out, s.sets(fired))
		}
	}
	return append(out, s.sets(fired))
}

// Check reports why a plan cannot be accepted: a quorum below one, no stage, or more
// approvals than there are people who may give them. Nil means that it can be met by
// the people in dir. It fails closed: what it does not understand is refused.
func (p Plan) Check(dir Directory) error {
	switch p.Action {
	case ActionDeny:
		return nil
	case ActionAllow:
		if len(p.Stages) > 0 {
			return refuse(CodeUnsatisfiable, "rule %q allows the call outright, and yet names stages", p.Rule)
		}
		return nil
	case ActionApprove:
		return p.checkStages(dir)
	}
	return refuse(CodeUnsatisfiable, "rule %q has an unknown action %q", p.Rule, p.Action)
}

func (p Plan) checkStages(dir Directory) error {
	if len(p.Stages) == 0 {
		return refuse(CodeUnsatisfiable, "rule %q asks for approval but names no stage", p.Rule)
	}
	for _, s := range p.Stages {
		if err := s.check(); err != nil {
			return err
		}
	}
	if missing := (reach{plan: p, self: p.excluded(), dir: dir}).shortfall(maxOutlooks); missing != nil {
		return refuse(CodeUnsatisfiable, "rule %q cannot be satisfied: it needs %d distinct approvals and "+
			"the people who may decide can give %d (the requester's own people do not count)",
			p.Rule, missing.needed, missing.have)
	}
	return nil
}

func (s Stage) check() error {
	if len(s.Need) == 0 {
		return refuse(CodeUnsatisfiable, "stage %q has no approver set", s.Name)
	}
	if s.Denials < 1 {
		return refuse(CodeUnsatisfiable, "stage %q has a deny threshold below 1", s.Name)
	}
	for _, set := range s.Need {
		if set.Approvals < 1 || len(set.From) == 0 {
			return refuse(CodeUnsatisfiable, "stage %q has an approver set that nobody has to meet", s.Name)
		}
		if set.Approvals > MaxApprovals {
			return refuse(CodeUnsatisfiable, "stage %q asks for %d approvals, at most %d are allowed",
				s.Name, set.Approvals, MaxApprovals)
		}
	}
	for _, tier := range s.Escalate {
		if (tier.Mode != ModeAdd && tier.Mode != ModeReplace) || len(tier.To) == 0 {
			return refuse(CodeUnsatisfiable, "stage %q has an escalation tier that neither adds nor replaces anybody", s.Name)
		}
	}
	return nil
}

// MaxApprovals bounds the approvals that one approver set may ask for.
const MaxApprovals = 1000

// checkTimes refuses a plan whose ticket would be over before anybody could act on it.
func (p Plan) checkTimes() error {
	if p.Action == ActionApprove && p.ExpiresIn <= 0 {
		return refuse(CodeUnsatisfiable, "rule %q leaves no time to decide", p.Rule)
	}
	if p.Action != ActionDeny && p.ExecuteWithin <= 0 {
		return refuse(CodeUnsatisfiable, "rule %q leaves no time to make the call", p.Rule)
	}
	return nil
}

// excluded merges the people frozen into the plan with others (today's owners).
func (p Plan) excluded(more ...[]string) map[string]bool {
	out := make(map[string]bool, len(p.Excluded))
	for _, names := range append(more, p.Excluded) {
		for _, name := range names {
			out[name] = true
		}
	}
	return out
}

// freeze adds people to the excluded ones, so that they stay excluded whatever the
// directory says later.
func (p Plan) freeze(more ...[]string) Plan {
	known := p.excluded()
	p.Excluded = slices.Clone(p.Excluded)
	for _, name := range slices.Concat(more...) {
		if !known[name] {
			known[name] = true
			p.Excluded = append(p.Excluded, name)
		}
	}
	return p
}
