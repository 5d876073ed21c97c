package approvals

import "time"

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
	// Denials is how many people must deny to end the ticket. At least 1.
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

// reach returns the approver sets of a stage with everybody who could ever be asked:
// the named and every tier.
func (s Stage) reach() []ApproverSet {
	out := make([]ApproverSet, len(s.Need))
	for i, set := range s.Need {
		from := append([]string{}, set.From...)
		for _, tier := range s.Escalate {
			from = append(from, tier.To...)
		}
		out[i] = ApproverSet{From: from, Approvals: set.Approvals}
	}
	return out
}

// Check reports why a plan cannot be accepted: a quorum below one, no stage, or more
// approvals than there are people who may give them. Nil means that it can be met by
// the people in dir. It fails closed: what it does not understand is refused.
func (p Plan) Check(dir Directory) error {
	if p.Action != ActionApprove {
		return nil
	}
	if len(p.Stages) == 0 {
		return refuse(CodeUnsatisfiable, "rule %q asks for approval but names no stage", p.Rule)
	}
	var sets []ApproverSet
	for _, s := range p.Stages {
		if err := s.check(); err != nil {
			return err
		}
		sets = append(sets, s.reach()...)
	}
	if missing := shortfall(sets, dir, p.excluded(nil)); missing != nil {
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
	}
	return nil
}

// excluded merges the people frozen into the plan with others (today's owners).
func (p Plan) excluded(more []string) map[string]bool {
	out := make(map[string]bool, len(p.Excluded)+len(more))
	for _, name := range p.Excluded {
		out[name] = true
	}
	for _, name := range more {
		out[name] = true
	}
	return out
}
