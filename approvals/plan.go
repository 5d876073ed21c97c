package approvals

import (
	"fmt"
	"maps"
	"slices"
	"strings"
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
	// Distinct says how often one person counts. Zero: once a ticket.
	Distinct Distinct `json:"distinct,omitempty"`
	// OnStale says what becomes of an approval that no longer stands when the call is
	// due. Zero: people are asked again.
	OnStale OnStale `json:"on_stale,omitempty"`
	// BreakGlass names who may bypass all stages. Nil: nobody.
	BreakGlass *BreakGlass `json:"break_glass,omitempty"`
	// Roster is whom each name in an approver set stood for when it was asked: at submit,
	// or when its tier fired. Nobody who is not in it can decide, whatever the directory
	// says later. Nil in plans made before there were rosters.
	Roster map[string][]string `json:"roster,omitempty"`
	// Delegates are those who were away then, with those who decide in their place.
	Delegates map[string]string `json:"delegates,omitempty"`
	// Round counts how often a policy that became stricter has added stages, Reopened how
	// often an approval did not stand any more.
	Round    int `json:"round,omitempty"`
	Reopened int `json:"reopened,omitempty"`
	// Confirm is how deliberate an approval in Slack has to be. Zero: the button asks back.
	Confirm Confirm `json:"confirm,omitempty"`
	// Live are the names among the approvers that stand for a Slack user group, by its id,
	// as they did at submit. They are not in the roster: who is in the group is looked up
	// whenever it matters, and it is nobody unless the directory has the same id for the
	// name.
	Live map[string]string `json:"live,omitempty"`
	// Success are the statuses of an answer that count as success. Nil: those that the
	// upstream's configuration names when the call is made.
	Success []StatusRange `json:"success,omitempty"`
	// Sensitive says that callbacks never carry the result, so that each reading of it is
	// recorded.
	Sensitive bool `json:"sensitive,omitempty"`
}

// StatusRange is a range of HTTP statuses, ends included.
type StatusRange struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// Succeeded reports whether a status counts as success. Other are the ranges that count where
// the plan names none.
func (p Plan) Succeeded(status int, other []StatusRange) bool {
	ranges := p.Success
	if ranges == nil {
		ranges = other
	}
	return slices.ContainsFunc(ranges, func(r StatusRange) bool { return r.From <= status && status <= r.To })
}

// Distinct says how often one person's vote may count.
type Distinct string

const (
	// DistinctTicket is the default: one person counts once a ticket.
	DistinctTicket Distinct = ""
	// DistinctStage lets a person decide once in every stage.
	DistinctStage Distinct = "stage"
)

// OnStale says what becomes of an approval that does not stand any more.
type OnStale string

const (
	// StaleReopen is the default: the ticket is pending again.
	StaleReopen OnStale = ""
	// StaleEnd ends the ticket as failed, nothing sent.
	StaleEnd OnStale = "end"
)

// BreakGlass lets somebody approve alone, in the open: with a comment, recorded and
// announced as a bypass. The requester's own people cannot.
type BreakGlass struct {
	// From are people and groups.
	From []string `json:"from"`
	// Announce is a channel that is told besides the one of the stage; "" for none.
	Announce string `json:"announce,omitempty"`
}

// CommentRule says which verdicts need a comment.
type CommentRule string

const (
	// CommentNever asks for none. It is what the zero value means.
	CommentNever CommentRule = ""
	// CommentApprove asks for one with a yes.
	CommentApprove CommentRule = "approve"
	// CommentDeny asks for one with a no.
	CommentDeny CommentRule = "deny"
	// CommentBoth asks for one with either.
	CommentBoth CommentRule = "both"
)

// demands reports whether a verdict needs a comment.
func (r CommentRule) demands(v Verdict) bool {
	return r == CommentBoth || (r == CommentApprove && v == Approve) || (r == CommentDeny && v == Deny)
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
	// Channel is where the card goes: a Slack channel name or id. Fallback is where it goes
	// when it cannot be posted there; "" for nowhere.
	Channel  string `json:"channel,omitempty"`
	Fallback string `json:"fallback,omitempty"`
	// Direct says that everybody whom the stage asks is sent a card of their own, besides the
	// channel or, without one, instead.
	Direct bool `json:"direct,omitempty"`
	// Comment says which verdicts need a comment.
	Comment CommentRule `json:"comment,omitempty"`
	// RemindBackoff multiplies each wait for a reminder into the next; 0 and 1 mean that
	// all are alike. RemindMax bounds such a wait; 0 means that nothing does.
	RemindBackoff int           `json:"remind_backoff,omitempty"`
	RemindMax     time.Duration `json:"remind_max,omitempty"`
	// Hours are when the people of the stage are at work, in order and apart, worked out
	// in advance for as long as the ticket may wait. Reminders and escalation count this
	// time only. Nil: they are always at work.
	Hours []Interval `json:"hours,omitempty"`
	// Round is the [Plan.Round] that added the stage.
	Round int `json:"round,omitempty"`
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
	// To are people and groups, resolved when the tier fires.
	To   []string `json:"to,omitempty"`
	Mode Mode     `json:"mode"`
	// Need are the approver sets of the stage from then on, with [ModeReplace] and
	// instead of To. Nil: the sets stay, and To is whom they ask.
	Need []ApproverSet `json:"need,omitempty"`
	// OffHours counts After by the clock on the wall, whatever the stage's Hours are.
	OffHours bool `json:"off_hours,omitempty"`
}

// names lists whom a tier asks.
func (t Tier) names() []string {
	out := slices.Clone(t.To)
	for _, set := range t.Need {
		out = append(out, set.From...)
	}
	return out
}

// sets returns the approver sets of a stage after the first n tiers have fired.
func (s Stage) sets(n int) []ApproverSet {
	out := make([]ApproverSet, len(s.Need))
	copy(out, s.Need)
	for _, tier := range s.Escalate[:min(n, len(s.Escalate))] {
		if len(tier.Need) > 0 {
			out = slices.Clone(tier.Need)
			continue
		}
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

// outlook is a way in which a stage may yet be met: its approver sets by then, and the
// names that have been asked on the way there.
type outlook struct {
	sets  []ApproverSet
	asked []string
}

// outlooks returns the ways in which a stage may yet be met after fired tiers: one with
// everybody added before the next tier that replaces, and one after each that does. Those
// who are replaced and those who replace them never count together. Tiers at or after
// within never fire; zero means that all do.
func (s Stage) outlooks(fired int, within time.Duration) []outlook {
	var out []outlook
	var asked []string
	for ; fired < len(s.Escalate); fired++ {
		tier := s.Escalate[fired]
		if within > 0 && tier.After >= within {
			break
		}
		if tier.Mode == ModeReplace {
			out = append(out, outlook{s.sets(fired), slices.Clone(asked)})
		}
		asked = append(asked, tier.names()...)
	}
	return append(out, outlook{s.sets(fired), asked})
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
	if missing := (reach{plan: p, self: p.excluded(), dir: dir.until(p.ExpiresIn)}).shortfall(maxOutlooks); missing != nil {
		return refuse(CodeUnsatisfiable, "rule %q cannot be satisfied: it needs %d distinct approvals and "+
			"the people who may decide can give %d (the requester's own people do not count)%s",
			p.Rule, missing.needed, missing.have, p.vacant(dir))
	}
	return nil
}

// vacant names the user groups that a plan asks and that nobody is in.
func (p Plan) vacant(dir Directory) string {
	var out []string
	for _, name := range p.Asks() {
		id, live := dir.Live[name]
		text := fmt.Sprintf("; nobody is known to be in the Slack user group %s of %q", id, name)
		if live && !slices.Contains(out, text) && len(dir.Members([]string{name})) == 0 {
			out = append(out, text)
		}
	}
	return strings.Join(out, "")
}

// short reports whether those who are asked first cannot complete the first stage.
func (p Plan) short(dir Directory) bool {
	return p.Action == ActionApprove && (reach{plan: p, self: p.excluded(), dir: dir, alone: true}).shortfall(1) != nil
}

func (s Stage) check() error {
	if len(s.Need) == 0 {
		return refuse(CodeUnsatisfiable, "stage %q has no approver set", s.Name)
	}
	if s.Denials < 1 {
		return refuse(CodeUnsatisfiable, "stage %q has a deny threshold below 1", s.Name)
	}
	if err := s.checkSets(s.Need); err != nil {
		return err
	}
	for _, tier := range s.Escalate {
		if !tier.plain() {
			return refuse(CodeUnsatisfiable, "stage %q has an escalation tier that neither adds nor replaces anybody", s.Name)
		}
		if err := s.checkSets(tier.Need); err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether a tier says whom it asks, in one way only.
func (t Tier) plain() bool {
	switch t.Mode {
	case ModeAdd:
		return len(t.To) > 0 && len(t.Need) == 0
	case ModeReplace:
		return (len(t.To) > 0) != (len(t.Need) > 0)
	}
	return false
}

func (s Stage) checkSets(sets []ApproverSet) error {
	for _, set := range sets {
		if set.Approvals < 1 || len(set.From) == 0 {
			return refuse(CodeUnsatisfiable, "stage %q has an approver set that nobody has to meet", s.Name)
		}
		if set.Approvals > MaxApprovals {
			return refuse(CodeUnsatisfiable, "stage %q asks for %d approvals, at most %d are allowed",
				s.Name, set.Approvals, MaxApprovals)
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

// freeze fixes what may only become less from here on: who is excluded, whom each name
// stands for, and who decides for those who are away.
func (p Plan) freeze(dir Directory, excluded ...[]string) Plan {
	known := p.excluded()
	p.Excluded = slices.Clone(p.Excluded)
	for _, name := range slices.Concat(excluded...) {
		if !known[name] {
			known[name] = true
			p.Excluded = append(p.Excluded, name)
		}
	}
	live := p.alive(dir, p.Asks())
	p.Roster, p.Delegates = p.enrol(dir, p.asked(), live)
	p.Live = live
	return p
}

// frozen reports whether the plan says whom its names stood for. Plans made before there
// were rosters do not.
func (p Plan) frozen() bool { return p.Roster != nil || p.Live != nil }

// alive returns the live names of a plan with those of further ones. What a name stands for
// already it keeps, be it people or a user group.
func (p Plan) alive(dir Directory, names []string) map[string]string {
	out := maps.Clone(p.Live)
	for _, name := range names {
		_, listed := p.Roster[name]
		_, known := out[name]
		if id, live := dir.Live[name]; live && !listed && !known {
			if out == nil {
				out = make(map[string]string)
			}
			out[name] = id
		}
	}
	return out
}

// Asks lists the names of everybody whom a plan asks, or may come to ask.
func (p Plan) Asks() []string {
	out := p.asked()
	for _, s := range p.Stages {
		for _, tier := range s.Escalate {
			out = append(out, tier.names()...)
		}
	}
	return out
}

// asked lists the names that a plan asks before any tier fires.
func (p Plan) asked() []string {
	var out []string
	for _, s := range p.Stages {
		for _, set := range s.Need {
			out = append(out, set.From...)
		}
	}
	if p.BreakGlass != nil {
		out = append(out, p.BreakGlass.From...)
	}
	return out
}

// enrol returns the roster and the delegates with those of further names, of which live
// ones are looked up whenever it matters and so are not in it. What a name stands for
// already it keeps, and one that has become live since the plan was made stands for nobody.
func (p Plan) enrol(dir Directory, asked []string, live map[string]string) (roster map[string][]string, delegates map[string]string) {
	roster, delegates = maps.Clone(p.Roster), maps.Clone(p.Delegates)
	before := p.before(dir)
	for _, name := range asked {
		if _, known := roster[name]; known {
			continue
		}
		people := []string{}
		if dir.Live[name] == live[name] {
			people = Names(dir.Members([]string{name}))
		}
		if live[name] == "" {
			if roster == nil {
				roster = make(map[string][]string)
			}
			roster[name] = people
		}
		for _, person := range people {
			// Who was asked before keeps deciding alone, or through whom they had then.
			if to := dir.delegate(person); to != "" && !before[person] {
				if delegates == nil {
					delegates = make(map[string]string)
				}
				delegates[person] = to
			}
		}
	}
	return roster, delegates
}

// before is everybody whom a plan has asked already.
func (p Plan) before(dir Directory) map[string]bool {
	out := make(map[string]bool)
	for _, people := range p.Roster {
		for _, person := range people {
			out[person] = true
		}
	}
	for person := range p.Delegates {
		out[person] = true
	}
	if len(p.Live) == 0 {
		return out
	}
	for _, name := range p.asked() {
		if p.Live[name] != "" && p.Live[name] == dir.Live[name] {
			maps.Copy(out, dir.Members([]string{name}))
		}
	}
	return out
}
