package policy

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"countersign/approvals"
)

// Recorded is a call that was submitted once, with what the policy of that day demanded
// and what became of it.
type Recorded struct {
	TicketID   string
	CreatedAt  time.Time
	Caller     string
	OnBehalfOf string
	Call       approvals.Call
	Plan       approvals.Plan
	State      approvals.State
	Decisions  []approvals.Decision
}

// BacktestConfig says what is compared.
type BacktestConfig struct {
	// Candidate is the policy that is tried. Required.
	Candidate *Config
	// Current is what it is compared with; nil means with what was demanded of each call
	// when it was submitted.
	Current *Config
}

// Backtest tries a policy on recorded calls. It keeps counts and a few examples, never the
// calls. It is not safe for concurrent use.
type Backtest struct {
	candidate, current *Config
	report             BacktestReport
	changes            map[changeKey]*Change
	impossible         map[[2]string]*Impossible
	reached            map[string]bool
	loads              map[string]*Workload
	demands            map[demandKey]demand
}

// BacktestReport is what came of it.
type BacktestReport struct {
	Calls int `json:"calls"`
	// Earliest and Latest are when the first and the last of them was submitted.
	Earliest time.Time `json:"earliest,omitzero"`
	Latest   time.Time `json:"latest,omitzero"`
	// Same are those of which the candidate demands the same, under whatever rule.
	Same    int      `json:"same"`
	Changes []Change `json:"changes"`
	Votes   Votes    `json:"votes"`
	// Approvals says what the candidate would ask of each person.
	Approvals []Workload `json:"approvals"`
	// Impossible are calls that would be refused because nobody could approve them.
	Impossible []Impossible `json:"impossible"`
	// Unreached are the rules of the candidate that no call met.
	Unreached []string `json:"unreached_rules"`
	// Unknown are the groups of the candidate of which nobody knows who is in them: Slack
	// user groups. Unjudged is how many calls would ask them; whether people could approve
	// those, and what that would ask of whom, is not judged.
	Unknown  []string `json:"unknown_groups,omitempty"`
	Unjudged int      `json:"unjudged,omitempty"`
}

// Demand is what a policy says of a call.
type Demand struct {
	Action approvals.Action `json:"action"`
	// Rule is "" when none matched.
	Rule string `json:"rule"`
	// Approvals is how many are needed, over all stages.
	Approvals int `json:"approvals,omitempty"`
}

// Direction says how a demand has changed.
type Direction string

const (
	// Looser means that less is demanded: allowed instead of asked, asked instead of denied,
	// fewer approvals.
	Looser Direction = "looser"
	// Stricter is the contrary.
	Stricter Direction = "stricter"
	// Different means as many approvals, but others: by other people, or in another way.
	Different Direction = "different"
)

// Change is a group of calls of which the candidate demands something else.
type Change struct {
	Before    Demand    `json:"before"`
	After     Demand    `json:"after"`
	Direction Direction `json:"direction"`
	Calls     int       `json:"calls"`
	// Sent are those that were made, with whatever result.
	Sent int `json:"sent"`
	// Examples are the first few tickets.
	Examples []string `json:"examples"`
}

// Votes says what the approvals that were given would be worth. Of calls that people had
// approved and that the candidate asks people about as well, they would be enough for
// some.
type Votes struct {
	Approved int      `json:"approved"`
	Enough   int      `json:"enough"`
	Examples []string `json:"not_enough_examples"`
}

// Impossible is a group of calls that nobody could approve.
type Impossible struct {
	Rule     string   `json:"rule"`
	Problem  string   `json:"problem"`
	Calls    int      `json:"calls"`
	Examples []string `json:"examples"`
}

// maxExamples bounds the tickets that are named of a group.
const maxExamples = 3

func example(to []string, ticketID string) []string {
	if len(to) < maxExamples {
		return append(to, ticketID)
	}
	return to
}

type changeKey struct {
	before, after Demand
	direction     Direction
}

// NewBacktest starts a comparison.
func NewBacktest(c BacktestConfig) *Backtest {
	return &Backtest{
		candidate: c.Candidate, current: c.Current,
		changes: make(map[changeKey]*Change), impossible: make(map[[2]string]*Impossible),
		reached: make(map[string]bool), loads: make(map[string]*Workload), demands: make(map[demandKey]demand),
	}
}

// Add tries one call.
func (b *Backtest) Add(r Recorded) {
	before, after := r.Plan, b.candidate.planThen(r)
	if b.current != nil {
		before = b.current.planThen(r)
	}
	b.count(r)
	b.reached[after.Rule] = true
	if unknown := b.candidate.unknown(after); len(unknown) > 0 {
		b.report.Unjudged++
		b.report.Unknown = slices.Compact(slices.Sorted(slices.Values(append(b.report.Unknown, unknown...))))
		b.compare(r, before, after, demand{})
		b.load(r, demand{})
		return
	}
	d := b.demand(r, after)
	b.compare(r, before, after, d)
	b.votes(r, after, d)
	b.load(r, d)
}

// planThen is what a configuration would have demanded when a call was submitted.
func (c *Config) planThen(r Recorded) approvals.Plan {
	return c.Today(approvals.Ticket{Caller: r.Caller, OnBehalfOf: r.OnBehalfOf, Call: r.Call, CreatedAt: r.CreatedAt})
}

func (b *Backtest) count(r Recorded) {
	b.report.Calls++
	if b.report.Earliest.IsZero() || r.CreatedAt.Before(b.report.Earliest) {
		b.report.Earliest = r.CreatedAt
	}
	if r.CreatedAt.After(b.report.Latest) {
		b.report.Latest = r.CreatedAt
	}
}

func (b *Backtest) compare(r Recorded, before, after approvals.Plan, d demand) {
	if d.problem != "" {
		b.refused(r, after, d)
	}
	direction, differs := b.direction(before, after)
	if !differs {
		b.report.Same++
		return
	}
	key := changeKey{before: demandIn(before), after: demandIn(after), direction: direction}
	c := b.changes[key]
	if c == nil {
		c = &Change{Before: key.before, After: key.after, Direction: direction}
		b.changes[key] = c
	}
	c.Calls++
	c.Examples = example(c.Examples, r.TicketID)
	if sent(r.State) {
		c.Sent++
	}
}

func sent(s approvals.State) bool {
	return s == approvals.Succeeded || s == approvals.Failed || s == approvals.OutcomeUnknown || s == approvals.Executing
}

func demandIn(p approvals.Plan) Demand {
	out := Demand{Action: p.Action, Rule: p.Rule}
	for _, s := range p.Stages {
		for _, set := range s.Need {
			out.Approvals += set.Approvals
		}
	}
	return out
}

var rank = map[approvals.Action]int{approvals.ActionAllow: 0, approvals.ActionApprove: 1, approvals.ActionDeny: 2}

// direction compares two plans for one call. False when they demand the same.
func (b *Backtest) direction(before, after approvals.Plan) (Direction, bool) {
	more := cmp.Or(cmp.Compare(rank[after.Action], rank[before.Action]), cmp.Compare(demandIn(after).Approvals, demandIn(before).Approvals))
	switch {
	case more > 0:
		return Stricter, true
	case more < 0:
		return Looser, true
	case asks(before) != asks(after), !b.samePeople(before, after):
		return Different, true
	}
	return "", false
}

// asks is what a plan demands of people, without the names of rule and stages and without
// its times, in a form that can be compared.
func asks(p approvals.Plan) string {
	type stage struct {
		Need     []approvals.ApproverSet
		Denials  int
		Comment  approvals.CommentRule
		Escalate []approvals.Tier
	}
	var stages []stage
	for _, s := range p.Stages {
		one := stage{Need: sortedSets(s.Need), Denials: max(s.Denials, 1), Comment: s.Comment}
		for _, tier := range s.Escalate {
			tier.After, tier.OffHours, tier.Need, tier.To = 0, false, sortedSets(tier.Need), sorted(tier.To)
			one.Escalate = append(one.Escalate, tier)
		}
		stages = append(stages, one)
	}
	var bypass []string
	if p.BreakGlass != nil {
		bypass = sorted(p.BreakGlass.From)
	}
	text, err := json.Marshal([]any{stages, p.Distinct, bypass})
	if err != nil {
		panic(err) // nothing in it that JSON cannot hold
	}
	return string(text)
}

func sortedSets(sets []approvals.ApproverSet) []approvals.ApproverSet {
	var out []approvals.ApproverSet
	for _, s := range sets {
		out = append(out, approvals.ApproverSet{From: sorted(s.From), Approvals: s.Approvals})
	}
	return out
}

// samePeople reports whether the names in two plans stand for the same people. Of a
// recorded plan that is in its roster; one that has none is taken to agree.
func (b *Backtest) samePeople(before, after approvals.Plan) bool {
	was, live := before.Roster, before.Live
	if b.current != nil {
		was, live = b.current.rosterOf(before), b.current.directory.Live
	}
	if was == nil && live == nil {
		return true
	}
	for name, members := range b.candidate.rosterOf(after) {
		then, listed := was[name]
		group, is := live[name]
		if now := b.candidate.directory.Live[name]; (listed || is) && group != now || group == "" && listed && !slices.Equal(then, members) {
			return false
		}
	}
	return true
}

// rosterOf says whom each name that a plan asks first stands for.
func (c *Config) rosterOf(p approvals.Plan) map[string][]string {
	out := make(map[string][]string)
	for _, s := range p.Stages {
		for _, set := range s.Need {
			for _, name := range set.From {
				out[name] = approvals.Names(c.directory.Members([]string{name}))
			}
		}
	}
	return out
}

func (b *Backtest) refused(r Recorded, after approvals.Plan, d demand) {
	key := [2]string{after.Rule, d.problem}
	one := b.impossible[key]
	if one == nil {
		one = &Impossible{Rule: after.Rule, Problem: d.problem}
		b.impossible[key] = one
	}
	one.Calls++
	one.Examples = example(one.Examples, r.TicketID)
}

// votes tries whether the approvals that were given would be enough.
func (b *Backtest) votes(r Recorded, after approvals.Plan, d demand) {
	asked := r.Plan.Action == approvals.ActionApprove && after.Action == approvals.ActionApprove
	if approved := sent(r.State) || r.State == approvals.Approved; !asked || !approved {
		return
	}
	b.report.Votes.Approved++
	if d.problem == "" && b.enough(r, after) {
		b.report.Votes.Enough++
		return
	}
	b.report.Votes.Examples = example(b.report.Votes.Examples, r.TicketID)
}

// enough repeats the decisions of a ticket under another plan, each at its time.
func (b *Backtest) enough(r Recorded, plan approvals.Plan) bool {
	x, err := try(b.candidate.Directory(), bareSubmission(r), plan, r.CreatedAt)
	if err != nil {
		return false
	}
	for _, d := range r.Decisions {
		x.decide(approvals.Decision{Person: d.Person, Verdict: d.Verdict, Comment: d.Comment}, d.At)
	}
	return x.ticket.State == approvals.Approved
}

// bareSubmission is a submission as far as it matters to who may decide.
func bareSubmission(r Recorded) approvals.Submission {
	return approvals.Submission{ID: trialID, Caller: r.Caller, OnBehalfOf: r.OnBehalfOf}
}

// Report sums up what has been added.
func (b *Backtest) Report() BacktestReport {
	out := b.report
	out.Changes, out.Impossible, out.Approvals, out.Unreached = []Change{}, []Impossible{}, []Workload{}, []string{}
	for _, c := range b.changes {
		out.Changes = append(out.Changes, *c)
	}
	order := map[Direction]int{Looser: 0, Different: 1, Stricter: 2}
	slices.SortFunc(out.Changes, func(x, y Change) int {
		return cmp.Or(order[x.Direction]-order[y.Direction], y.Calls-x.Calls, cmp.Compare(x.Before.Rule, y.Before.Rule),
			cmp.Compare(x.After.Rule, y.After.Rule), cmp.Compare(x.Before.Action, y.Before.Action),
			x.Before.Approvals-y.Before.Approvals, x.After.Approvals-y.After.Approvals)
	})
	for _, one := range b.impossible {
		out.Impossible = append(out.Impossible, *one)
	}
	slices.SortFunc(out.Impossible, func(x, y Impossible) int {
		return cmp.Or(y.Calls-x.Calls, cmp.Compare(x.Rule, y.Rule), cmp.Compare(x.Problem, y.Problem))
	})
	for _, person := range slices.Sorted(maps.Keys(b.loads)) {
		out.Approvals = append(out.Approvals, *b.loads[person])
	}
	slices.SortStableFunc(out.Approvals, func(x, y Workload) int { return cmp.Compare(y.Share, x.Share) })
	for _, r := range b.candidate.Rules {
		if !b.reached[r.Name] {
			out.Unreached = append(out.Unreached, r.Name)
		}
	}
	if out.Votes.Examples == nil {
		out.Votes.Examples = []string{}
	}
	return out
}
