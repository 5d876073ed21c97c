package approvals_test

import (
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
)

// This file is a second, naive opinion of who counts and what can still be completed. It
// knows nothing of matching or of paths: it tries every way to fill every place, as sets
// of sets of people. It shares the words of the domain and none of its code.

var crowd = []string{"ana", "bo", "chen", "dee", "eve", "fay"}

// ballot is one accepted vote as the model remembers it. place is in whose place it was
// given, often the person's own.
type ballot struct {
	person, place   string
	stage           int
	verdict         approvals.Verdict
	comment, digest string
}

// step is a stage with the tiers that have fired in it.
type step struct {
	approvals.Stage
	fired, round int
}

// brain is all that the model knows of a ticket and the world around it.
type brain struct {
	dir       approvals.Directory
	now, end  time.Time
	expiresIn time.Duration
	behalf    string
	frozen    []string            // who counted as the requester when it was asked
	asked     map[string][]string // whom each name stood for when it was asked
	deputies  map[string]string   // who acted for whom then; nil: whoever does now
	live      map[string]string   // the user groups that names stood for when they were asked
	steps     []step
	round     int
	distinct  approvals.Distinct
	glass     []string // the names that every policy so far lets bypass
	votes     []ballot
}

// people is a set of them.
type people uint8

// everyone is one more than the largest set.
const everyone = 1 << 7

func bit(who string) people {
	if i := slices.Index(crowd, who); i >= 0 {
		return 1 << i
	}
	return 1 << len(crowd) // nobody of ours
}

func (b *brain) exists(who string) bool {
	_, ok := b.dir.People[who]
	return ok && b.dir.Inactive[who] == ""
}

func (b *brain) away(who string) bool {
	a, ok := b.dir.Away[who]
	return ok && b.now.Before(a.Until)
}

// deputy is who acts for somebody away, by the directory alone.
func (b *brain) deputy(who string) string {
	to, seen := who, map[string]bool{}
	for b.away(to) {
		if seen[to] {
			return ""
		}
		seen[to] = true
		to = b.dir.Away[to].Delegate
	}
	if to == who || !b.exists(to) {
		return ""
	}
	return to
}

// acts reports whether one person may act in the place of another for this ticket.
func (b *brain) acts(who, place string) bool {
	if who == place {
		return !b.away(who)
	}
	return b.deputy(place) == who && (b.deputies == nil || b.deputies[place] == who)
}

func (b *brain) meant(name, who string) bool {
	members, group := b.dir.Groups[name]
	return b.exists(who) && ((group && slices.Contains(members, who)) || (!group && name == who))
}

// ask remembers whom names stand for, and who acts for those who are away. Whoever is in a
// user group by the time it matters is asked then.
func (b *brain) ask(names ...string) {
	known := map[string]bool{} // who was asked before keeps the deputy they had, or none
	for _, who := range crowd {
		known[who] = b.deputies[who] != "" || slices.ContainsFunc(b.names(), func(name string) bool {
			return b.live[name] != "" && b.counts(name, who)
		})
	}
	for _, members := range b.asked {
		for _, who := range members {
			known[who] = true
		}
	}
	for _, name := range names {
		if _, done := b.asked[name]; done {
			continue
		}
		if b.live[name] == "" {
			b.asked[name] = []string{}
		}
		for _, who := range crowd {
			if !b.meant(name, who) || b.dir.Live[name] != b.live[name] {
				continue
			}
			if b.live[name] == "" {
				b.asked[name] = append(b.asked[name], who)
			}
			if to := b.deputy(who); to != "" && !known[who] {
				b.deputies[who] = to
			}
		}
	}
}

// names lists whom the stages so far ask from their beginning, and who may break the glass.
func (b *brain) names() []string {
	out := slices.Clone(b.glass)
	for _, s := range b.steps {
		for _, need := range s.Need {
			out = append(out, need.From...)
		}
	}
	return out
}

// join remembers which of the names of a plan are user groups, by which id.
func (b *brain) join(names []string) {
	for _, name := range names {
		_, asked := b.asked[name]
		if id := b.dir.Live[name]; id != "" && !asked && b.live[name] == "" {
			b.live[name] = id
		}
	}
}

func (b *brain) counts(name, who string) bool {
	then, asked := b.asked[name]
	id, live := b.live[name]
	switch {
	case live:
		return b.dir.Live[name] == id && b.meant(name, who)
	case asked:
		return b.dir.Live[name] == "" && b.meant(name, who) && slices.Contains(then, who)
	}
	return b.meant(name, who)
}

func (b *brain) in(names []string, who string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return b.counts(n, who) })
}

// asker reports whether a person counts as the requester.
func (b *brain) asker(who string) bool {
	p, exists := b.dir.People[who]
	mine := exists && b.behalf != "" && (who == b.behalf || strings.EqualFold(p.Email, b.behalf) || p.Slack == b.behalf ||
		slices.ContainsFunc(p.Accounts, func(a string) bool { return strings.EqualFold(a, b.behalf) }))
	return mine || slices.Contains(b.frozen, who) || slices.Contains(b.dir.Owners[caller], who)
}

func (b *brain) mine(v ballot) bool { return b.asker(v.person) || b.asker(v.place) }

// places spells out every single place of a stage after k tiers: who may fill it.
func places(s approvals.Stage, k int) [][]string {
	spell := func(need []approvals.ApproverSet) (out [][]string) {
		for _, n := range need {
			for range n.Approvals {
				out = append(out, n.From)
			}
		}
		return out
	}
	out := spell(s.Need)
	for _, tier := range s.Escalate[:k] {
		if len(tier.Need) > 0 {
			out = spell(tier.Need)
			continue
		}
		for i := range out {
			if tier.Mode == approvals.ModeReplace {
				out[i] = nil
			}
			out[i] = append(slices.Clone(out[i]), tier.To...)
		}
	}
	return out
}

// fits reports whether a yes can take a place.
func (b *brain) fits(v ballot, names []string) bool {
	return v.verdict == approvals.Approve && b.exists(v.person) && !b.mine(v) && b.in(names, v.place) && b.represents(v)
}

// represents reports whether a vote given for somebody else may stand: they are back, or
// would be represented by the same person today.
func (b *brain) represents(v ballot) bool {
	for at, steps := v.place, 0; steps <= len(crowd); steps++ {
		if at == v.person {
			return true
		}
		if !b.away(at) {
			return at == v.place
		}
		at = b.dir.Away[at].Delegate
	}
	return false
}

// most is how many places the votes on a stage fill at best: of every set of places that
// some of them can fill, the largest.
func (b *brain) most(stage int, votes []ballot) int {
	return b.fill(places(b.steps[stage].Stage, b.steps[stage].fired), slices.DeleteFunc(slices.Clone(votes), func(v ballot) bool { return v.stage != stage }))
}

func (b *brain) fill(seats [][]string, votes []ballot) (best int) {
	filled := make([]bool, 1<<len(seats))
	filled[0] = true
	for _, v := range votes {
		for taken := len(filled) - 1; taken >= 0; taken-- { // downwards: one place a vote
			for i, names := range seats {
				if filled[taken] && taken&(1<<i) == 0 && b.fits(v, names) {
					filled[taken|1<<i] = true
				}
			}
		}
	}
	for taken, can := range filled {
		if can {
			best = max(best, bits.OnesCount(uint(taken)))
		}
	}
	return best
}

func (b *brain) met(stage int) bool {
	s := b.steps[stage]
	return b.most(stage, b.votes) == len(places(s.Stage, s.fired))
}

func (b *brain) denials(stage int) (n int) {
	for _, v := range b.votes {
		if v.stage == stage && v.verdict == approvals.Deny && !b.mine(v) {
			n++
		}
	}
	return n
}

func (b *brain) refused(stage int) bool { return b.denials(stage) >= b.steps[stage].Denials }

// shares reports whether a person has one vote for both stages.
func (b *brain) shares(i, j int) bool {
	return i == j || (b.distinct == approvals.DistinctTicket && b.steps[i].round == b.steps[j].round)
}

// spent is everybody whose vote for a stage is used up.
func (b *brain) spent(stage int, votes []ballot) (used people) {
	for _, v := range votes {
		if v.verdict != approvals.GlassBroken && b.shares(v.stage, stage) {
			used |= bit(v.person) | bit(v.place)
		}
	}
	return used
}

// when says by when people must be there to count.
type when int

const (
	atOnce when = iota
	byTheEnd
)

// voters lists who could still vote on a stage, and in whose place.
func (b *brain) voters(stage int, votes []ballot, by when) (out []ballot) {
	used := b.spent(stage, votes)
	for _, place := range crowd {
		for _, who := range crowd {
			later := who == place && by == byTheEnd && b.dir.Away[who].Until.Before(b.end)
			v := ballot{person: who, place: place, stage: stage, verdict: approvals.Approve}
			if (b.acts(who, place) || later) && b.exists(who) && !b.mine(v) && used&(bit(who)|bit(place)) == 0 {
				out = append(out, v)
			}
		}
	}
	return out
}

// fillable reports whether every place of some stages, which share votes, can be filled;
// tiers says how many have fired in each. Sets of those who are used up are remembered, as
// long as there is a way to fill the places so far with exactly them.
func (b *brain) fillable(stages, tiers []int, votes []ballot, by when) bool {
	ways := [everyone]bool{true}
	for i, stage := range stages {
		all := b.voters(stage, votes, by)
		all = append(all, slices.DeleteFunc(slices.Clone(votes), func(v ballot) bool { return v.stage != stage })...)
		for _, names := range places(b.steps[stage].Stage, tiers[i]) {
			ways = filled(ways, all, func(v ballot) bool { return b.fits(v, names) }, func(v ballot) people { return bit(v.person) | bit(v.place) })
			if ways == ([everyone]bool{}) {
				return false
			}
		}
	}
	return true
}

// filled is the ways to fill one place more: ways are the sets of people who may be used
// up so far.
func filled(ways [everyone]bool, votes []ballot, fits func(ballot) bool, who func(ballot) people) (next [everyone]bool) {
	for _, v := range votes {
		if !fits(v) {
			continue
		}
		for used, can := range ways {
			if can && people(used)&who(v) == 0 {
				next[people(used)|who(v)] = true
			}
		}
	}
	return next
}

// completable tries every number of tiers for each of some stages. Where patience is asked
// for nobody may be replaced.
func (b *brain) completable(stages []int, votes []ballot, patient bool) bool {
	var try func(tiers []int) bool
	try = func(tiers []int) bool {
		if len(tiers) == len(stages) {
			return b.asking(stages, tiers).fillable(stages, tiers, votes, byTheEnd)
		}
		s := b.steps[stages[len(tiers)]]
		for k := s.fired; k <= len(s.Escalate); k++ {
			if k > s.fired && (s.Escalate[k-1].After >= b.expiresIn || (patient && s.Escalate[k-1].Mode == approvals.ModeReplace)) {
				break
			}
			if try(append(slices.Clone(tiers), k)) {
				return true
			}
		}
		return false
	}
	return try(nil)
}

// asking is the model once so many tiers have fired in some stages, and asked their people.
func (b *brain) asking(stages, tiers []int) *brain {
	next := *b
	next.asked, next.deputies = maps.Clone(b.asked), maps.Clone(b.deputies)
	for i, stage := range stages {
		for k := b.steps[stage].fired; k < tiers[i]; k++ {
			next.ask(whom(b.steps[stage].Escalate[k])...)
		}
	}
	return &next
}

// whom lists the names a tier asks.
func whom(t approvals.Tier) []string {
	out := slices.Clone(t.To)
	for _, need := range t.Need {
		out = append(out, need.From...)
	}
	return out
}

// together lists the stages from one on that share its votes.
func (b *brain) together(stage int) (out []int) {
	for i := stage; i < len(b.steps); i++ {
		if b.shares(stage, i) {
			out = append(out, i)
		}
	}
	return out
}

// hopeless reports whether nobody can complete what is left from a stage on.
func (b *brain) hopeless(stage int) bool {
	judged := map[int]bool{}
	for i := stage; i < len(b.steps); i++ {
		if judged[i] {
			continue
		}
		group := b.together(i)
		for _, j := range group {
			judged[j] = true
		}
		if !b.completable(group, b.votes, false) {
			return true
		}
	}
	return false
}

// stuck reports whether those who are asked could not complete a stage as things are now,
// even if nobody had said no.
func (b *brain) stuck(stage int) bool {
	others := slices.DeleteFunc(slices.Clone(b.votes), func(v ballot) bool { return v.verdict == approvals.Deny })
	return !b.fillable([]int{stage}, []int{b.steps[stage].fired}, others, atOnce)
}

// seats lists the places from which a person can decide on a stage now.
func (b *brain) seats(stage int, who string) (out []ballot) {
	names := slices.Concat(places(b.steps[stage].Stage, b.steps[stage].fired)...)
	for _, v := range b.voters(stage, b.votes, atOnce) {
		if v.person == who && b.in(names, v.place) {
			out = append(out, v)
		}
	}
	return out
}

// verdict is what a decision on the present stage should be answered with, and from which
// seats it may then be counted.
func (b *brain) verdict(stage int, who string, v approvals.Verdict, comment string) (approvals.Code, []ballot) {
	blank := strings.TrimSpace(comment) == ""
	if b.dir.Inactive[who] != "" {
		return approvals.CodeNotApprover, nil
	}
	if v == approvals.GlassBroken {
		return b.breaks(who, blank), nil
	}
	s := b.steps[stage]
	switch names := slices.Concat(places(s.Stage, s.fired)...); {
	case b.spent(stage, b.votes)&bit(who) != 0:
		return approvals.CodeAlreadyDecided, nil
	case b.asker(who):
		return approvals.CodeSelfApproval, nil
	case len(b.seats(stage, who)) == 0 && b.in(names, who):
		return approvals.CodeAway, nil
	case len(b.seats(stage, who)) == 0:
		return approvals.CodeNotApprover, nil
	}
	code, from := approvals.Code(""), b.seats(stage, who)
	if v == approvals.Approve {
		code, from = b.approves(stage, from)
	}
	if both := s.Comment == approvals.CommentBoth; code == "" && blank && (both || string(s.Comment) == string(v)) {
		code = approvals.CodeCommentRequired
	}
	return code, from
}

func (b *brain) breaks(who string, blank bool) approvals.Code {
	no := slices.ContainsFunc(b.votes, func(x ballot) bool { return x.person == who && x.verdict == approvals.Deny })
	switch {
	case b.asker(who):
		return approvals.CodeSelfApproval
	case !b.in(b.glass, who):
		return approvals.CodeNotApprover
	case no:
		return approvals.CodeAlreadyDecided
	case blank:
		return approvals.CodeCommentRequired
	}
	return ""
}

// approves drops the seats from which a yes would be wasted, or would leave too few.
func (b *brain) approves(stage int, seats []ballot) (approvals.Code, []ballot) {
	code, group := approvals.CodeNotNeeded, b.together(stage)
	var good []ballot
	for _, v := range seats {
		with := append(slices.Clone(b.votes), v)
		if !b.met(stage) && b.most(stage, with) == b.most(stage, b.votes) {
			continue
		}
		before, after := b.completable(group, b.votes, true), b.completable(group, with, true)
		if !before {
			before, after = b.completable(group, b.votes, false), b.completable(group, with, false)
		}
		if before && !after {
			code = approvals.CodeNeededLater
			continue
		}
		good = append(good, v)
	}
	if len(good) > 0 {
		code = ""
	}
	return code, good
}

// satisfies reports whether the votes that stand meet another plan, the policy's of today.
// broken is who broke the glass for the approval, if anybody did.
func (b *brain) satisfies(today approvals.Plan, broken string) bool {
	switch {
	case today.Action == approvals.ActionAllow:
		return true
	case today.Action != approvals.ActionApprove || len(today.Stages) == 0:
		return false
	}
	other := *b
	other.frozen = slices.Concat(b.frozen, today.Excluded)
	if broken != "" && today.BreakGlass != nil && other.in(today.BreakGlass.From, broken) && !other.asker(broken) {
		return true
	}
	return broken == "" && other.standsAs(today) || other.pool(today)
}

// standsAs reports whether the last round asks what a plan asks, and stands.
func (b *brain) standsAs(today approvals.Plan) bool {
	last := slices.IndexFunc(b.steps, func(s step) bool { return s.round == b.round })
	if last < 0 || len(b.steps)-last != len(today.Stages) {
		return false
	}
	for i, s := range today.Stages {
		have := b.steps[last+i]
		ask := func(s approvals.Stage) string {
			return string(asJSON([]any{s.Need, s.Denials, s.Comment, s.Escalate}))
		}
		if ask(s) != ask(have.Stage) || !b.met(last+i) || b.refused(last+i) {
			return false
		}
	}
	return today.Distinct == b.distinct || b.distinct == approvals.DistinctTicket
}

// pool reports whether people who said yes, to whatever stage, fill every place of a plan,
// one place each, and nobody said no.
func (b *brain) pool(today approvals.Plan) bool {
	if slices.ContainsFunc(b.votes, func(v ballot) bool { return v.verdict == approvals.Deny }) {
		return false
	}
	ways := [everyone]bool{true}
	for _, s := range today.Stages {
		silent := s.Comment == approvals.CommentApprove || s.Comment == approvals.CommentBoth
		for _, names := range places(s, 0) {
			ways = filled(ways, b.votes, func(v ballot) bool {
				return b.fits(v, names) && (!silent || strings.TrimSpace(v.comment) != "")
			}, func(v ballot) people { return bit(v.person) | bit(v.place) })
		}
		if ways == ([everyone]bool{}) {
			return false
		}
	}
	return true
}
