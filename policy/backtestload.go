package policy

import (
	"math"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// Workload is what the candidate would ask of one person, over all calls. Nobody can know who
// would have been at hand, so these are bounds, and what an even spread comes to:
type Workload struct {
	Person string `json:"person"`
	// AtLeast counts approvals that nobody else could give in their place: without them the
	// call could not be approved, not even after every escalation.
	AtLeast int `json:"at_least"`
	// AtMost counts approvals they could give: as one of those who are asked when a stage
	// opens. Escalations are not counted.
	AtMost int `json:"at_most"`
	// Share is what they would give if the approvals of each set were spread evenly over all
	// who can give them: the sum, over all sets, of approvals by people.
	Share float64 `json:"even_share"`
	// Gave counts the approvals they have given to these calls.
	Gave int `json:"gave"`
}

// demand is what one call asks of people.
type demand struct {
	// problem is why nobody could approve it.
	problem string
	people  map[string]Workload
	// narrowest is the least number of people who can give the approvals of a set.
	narrowest int
}

// demandKey is all that a demand depends on: what a rule asks is the same for each of its
// calls.
type demandKey struct{ rule, caller, onBehalfOf, away string }

// maxDemands bounds the demands that are remembered.
const maxDemands = 10_000

func (b *Backtest) demand(r Recorded, plan approvals.Plan) demand {
	if plan.Action != approvals.ActionApprove {
		return demand{}
	}
	key := demandKey{plan.Rule, r.Caller, r.OnBehalfOf, b.candidate.awayAt(r.CreatedAt)}
	if known, ok := b.demands[key]; ok {
		return known
	}
	if len(b.demands) >= maxDemands {
		clear(b.demands)
	}
	d := b.candidate.demandOf(bareSubmission(r), plan, r.CreatedAt)
	b.demands[key] = d
	return d
}

func (c *Config) awayAt(now time.Time) string {
	var out []string
	for person, absence := range c.directory.Away {
		if now.Before(absence.Until) {
			out = append(out, person)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (c *Config) demandOf(s approvals.Submission, plan approvals.Plan, now time.Time) demand {
	dir := c.Directory()
	x, err := try(dir, s, plan, now)
	if err != nil {
		return demand{problem: words(err)}
	}
	d := demand{people: make(map[string]Workload), narrowest: math.MaxInt}
	for stage := range x.ticket.Plan.Stages {
		d.addStage(x.ticket, stage, dir.At(now))
	}
	if d.narrowest > demandIn(plan).Approvals {
		return d // whoever is not there, every set has people enough for the whole plan
	}
	for person, load := range d.people {
		load.AtLeast = c.leastOf(person, s, plan, now)
		d.people[person] = load
	}
	return d
}

// addStage counts those who can approve a stage when it opens.
func (d *demand) addStage(t approvals.Ticket, stage int, dir approvals.Directory) {
	t.Stage = stage
	able := slices.DeleteFunc(t.Eligible(dir), func(e approvals.Eligibility) bool { return !e.Can })
	for _, set := range t.Tally(stage, dir).Sets {
		var members []string
		for _, e := range able {
			if slices.ContainsFunc(e.Sets, func(name string) bool { return slices.Contains(set.From, name) }) {
				members = append(members, e.Person)
			}
		}
		d.narrowest = min(d.narrowest, len(members))
		for _, person := range members {
			load := d.people[person]
			load.Share += min(1, float64(set.Approvals)/float64(len(members)))
			d.people[person] = load
		}
	}
	for _, e := range able {
		load := d.people[e.Person]
		if load.AtMost++; t.Plan.Distinct == approvals.DistinctTicket {
			load.AtMost = 1
		}
		d.people[e.Person] = load
	}
}

// leastOf counts the approvals that only this person can give.
func (c *Config) leastOf(person string, s approvals.Submission, plan approvals.Plan, now time.Time) int {
	dir := without(c.Directory(), person)
	if plan.Distinct == approvals.DistinctTicket {
		if _, err := try(dir, s, plan, now); err != nil {
			return 1
		}
		return 0
	}
	n := 0
	for _, stage := range plan.Stages {
		alone := plan
		alone.Stages = []approvals.Stage{stage}
		if _, err := try(dir, s, alone, now); err != nil {
			n++
		}
	}
	return n
}

// load adds what a call asks to what has been asked before.
func (b *Backtest) load(r Recorded, d demand) {
	for person, one := range d.people {
		sum := b.loadOf(person)
		sum.AtLeast, sum.AtMost, sum.Share = sum.AtLeast+one.AtLeast, sum.AtMost+one.AtMost, sum.Share+one.Share
	}
	for _, one := range r.Decisions {
		if one.Verdict != approvals.Deny {
			b.loadOf(one.Person).Gave++
		}
	}
}

func (b *Backtest) loadOf(person string) *Workload {
	sum := b.loads[person]
	if sum == nil {
		sum = &Workload{Person: person}
		b.loads[person] = sum
	}
	return sum
}
