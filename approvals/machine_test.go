package approvals_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"countersign/approvals"
)

// chooser is where a random life takes its chances from: rapid, bytes of a fuzzer, or a
// generator of the campaign.
type chooser interface {
	// pick returns a number from 0 to n-1. n is at least 1.
	pick(n int) int
	fatalf(format string, args ...any)
}

var groups = []string{"g0", "g1", "g2"}

// life drives one ticket through a random sequence of verbs and checks after each that
// what must always be true is true.
type life struct {
	chooser
	brain                     // the second opinion, with the world as it is
	plain  bool               // everybody is there, and the deadline is far beyond every tier
	quick  bool               // leaves the dearest checks to others
	count  func(what string)  // nil: nobody counts
	plan   approvals.Plan     // as submitted
	today  approvals.Plan     // as the policy of now makes it
	before time.Time          // not_before
	ticket approvals.Ticket   //
	events []approvals.Event  //
	armed  []approvals.Effect // timers that have not fired
	jobs   int                // Execute effects that nobody has taken up
	owed   map[int64]int      // Deliver effects by event
	broken string             // who broke the glass for the present approval
	sends  int                //
	began  map[int64]bool     //
	past   []approvals.Ticket // every receiver so far, with its bytes
	bytes  [][]byte           //
}

func (l *life) oneIn(n int) bool      { return l.pick(n) == 0 }
func (l *life) someone() string       { return crowd[l.pick(len(crowd))] }
func (l *life) between(lo, n int) int { return lo + l.pick(n-lo+1) }

func (l *life) note(format string, args ...any) {
	if l.count != nil {
		l.count(fmt.Sprintf(format, args...))
	}
}

func (l *life) names(most int) []string {
	pool := append(slices.Clone(groups), crowd...)
	var out []string
	for range l.between(1, most) {
		out = append(out, pool[l.pick(len(pool))])
	}
	return out
}

func (l *life) populate() {
	l.dir = approvals.Directory{
		People: map[string]approvals.Person{}, Groups: map[string][]string{}, Owners: map[string][]string{}, Away: map[string]approvals.Absence{},
		Live: map[string]string{}, Inactive: map[string]string{},
	}
	for _, name := range crowd {
		if !l.oneIn(12) {
			l.dir.People[name] = human(name)
		}
	}
	for _, g := range groups {
		for _, name := range crowd {
			if l.oneIn(2) {
				l.dir.Groups[g] = append(l.dir.Groups[g], name)
			}
		}
	}
	if l.oneIn(2) {
		l.dir.Owners[caller] = []string{l.someone()}
	}
	if l.oneIn(3) {
		l.dir.Live[groups[l.pick(3)]] = "S1"
	}
	if l.oneIn(8) {
		l.dir.Inactive[l.someone()] = "gone"
	}
	for range l.pick(3) * l.pick(2) {
		if l.plain {
			break
		}
		l.leave(l.someone())
	}
}

func human(name string) approvals.Person {
	return approvals.Person{Name: name, Slack: "U-" + name, Email: name + "@example.com", Accounts: []string{"idp|" + name}}
}

// leave marks somebody as away for some hours, perhaps with a delegate.
func (l *life) leave(who string) {
	a := approvals.Absence{Until: start.Add(time.Duration(l.pick(48)) * time.Hour)}
	if !l.oneIn(3) {
		a.Delegate = l.someone()
	}
	l.dir.Away[who] = a
}

func (l *life) makePlan(replace bool) approvals.Plan {
	p := planOf()
	p.ExpiresIn = time.Duration(l.between(2, 40)) * time.Hour
	if l.plain {
		p.ExpiresIn = 1000 * time.Hour
	}
	p.Idempotent = l.oneIn(2)
	if l.oneIn(4) {
		p.Excluded = []string{l.someone()}
	}
	if l.oneIn(3) {
		p.Distinct = approvals.DistinctStage
	}
	if l.oneIn(6) {
		p.OnStale = approvals.StaleEnd
	}
	if l.oneIn(3) {
		p.BreakGlass = &approvals.BreakGlass{From: l.names(2)}
	}
	if l.oneIn(20) {
		p.Action = approvals.ActionAllow
		return p
	}
	for i := range l.between(1, 3) {
		p.Stages = append(p.Stages, l.makeStage(fmt.Sprint("stage-", i), replace))
	}
	return p
}

func (l *life) makeSets() (out []approvals.ApproverSet) {
	for range []int{1, 1, 2, 3}[l.pick(4)] {
		out = append(out, set([]int{1, 1, 2, 3}[l.pick(4)], l.names(3)...))
	}
	return out
}

func (l *life) makeStage(name string, replace bool) approvals.Stage {
	s := approvals.Stage{Name: name, Denials: 1, Need: l.makeSets()}
	if l.oneIn(4) {
		s.Denials = 2
	}
	if l.oneIn(4) && !l.plain {
		s.Comment = []approvals.CommentRule{approvals.CommentApprove, approvals.CommentDeny, approvals.CommentBoth}[l.pick(3)]
	}
	if l.oneIn(2) {
		s.RemindEvery = time.Duration(l.between(1, 90)) * time.Minute
		s.RemindBackoff, s.RemindMax = l.pick(4), time.Duration(l.pick(3))*time.Hour
	}
	if l.oneIn(5) && !l.plain {
		s.Hours = l.makeHours()
	}
	for after := time.Duration(0); len(s.Escalate) < 3 && l.oneIn(3); {
		after += time.Duration(l.between(1, 240)) * time.Minute
		s.Escalate = append(s.Escalate, l.makeTier(after, replace))
	}
	return s
}

func (l *life) makeTier(after time.Duration, replace bool) approvals.Tier {
	tier := approvals.Tier{After: after, To: l.names(2), Mode: approvals.ModeAdd, OffHours: l.oneIn(4)}
	if replace && l.oneIn(2) {
		tier.Mode = approvals.ModeReplace
		if l.oneIn(2) {
			tier.To, tier.Need = nil, l.makeSets()
		}
	}
	return tier
}

func (l *life) makeHours() (out []approvals.Interval) {
	at := start.Add(-time.Hour)
	for range l.between(1, 4) {
		at = at.Add(time.Duration(l.pick(300)) * time.Minute)
		out = append(out, approvals.Interval{From: at, To: at.Add(time.Duration(l.pick(300)) * time.Minute)})
		at = out[len(out)-1].To
	}
	return out
}

// open submits random plans until one is accepted, or gives up.
func (l *life) open(replace bool) bool {
	for range 8 {
		if l.tryOpen(replace) {
			return true
		}
	}
	return false
}

func (l *life) tryOpen(replace bool) bool {
	l.populate()
	l.plan, l.now, l.behalf, l.before = l.makePlan(replace), start.Add(123*time.Nanosecond), "", time.Time{}
	l.today = l.plan
	s := submission()
	if l.oneIn(4) {
		l.behalf = []string{l.someone(), l.someone() + "@Example.com", "U-" + l.someone(), "idp|" + l.someone(), "nobody"}[l.pick(5)]
		s.OnBehalfOf = l.behalf
	}
	if l.oneIn(3) {
		s.Callback = nil
	} else if l.oneIn(2) {
		s.Callback.Events = []approvals.EventType{
			approvals.EventCreated, approvals.EventApproved, approvals.EventExecuting, approvals.EventUnstalled, approvals.EventTightened,
		}
	}
	if l.oneIn(6) && !l.plain {
		l.before = start.Add(time.Duration(l.pick(600)) * time.Minute)
		s.NotBefore = l.before
	}
	tr, err := approvals.Submit(s, l.plan, l.dir, l.now)
	l.submitted()
	if err != nil {
		l.require(approvals.ErrorCode(err) == approvals.CodeUnsatisfiable, "submit: %v", err)
		l.require(l.plan.Action == approvals.ActionApprove && l.hopeless(0), "a plan that can be met was refused: %v", err)
		return false
	}
	l.require(l.plan.Action != approvals.ActionApprove || !l.hopeless(0), "an impossible plan was accepted")
	l.owed, l.began = map[int64]int{}, map[int64]bool{}
	l.take("submit", approvals.Ticket{}, tr, nil)
	return true
}

// submitted sets the model to what was submitted.
func (l *life) submitted() {
	l.end, l.expiresIn = l.now.Truncate(time.Microsecond).Add(l.plan.ExpiresIn), l.plan.ExpiresIn
	l.frozen = slices.Clone(l.plan.Excluded)
	for _, who := range crowd {
		if l.asker(who) {
			l.frozen = append(l.frozen, who)
		}
	}
	l.asked, l.deputies, l.votes, l.round, l.distinct = map[string][]string{}, map[string]string{}, nil, 0, l.plan.Distinct
	l.live = map[string]string{}
	l.steps, l.glass, l.broken = nil, nil, ""
	l.further(l.plan)
	if l.plan.BreakGlass != nil {
		l.glass = l.plan.BreakGlass.From
	}
}

// further adds the stages of a plan and asks whom they name.
func (l *life) further(p approvals.Plan) {
	var first, later []string
	for _, s := range p.Stages {
		for _, need := range s.Need {
			first = append(first, need.From...)
		}
		for _, tier := range s.Escalate {
			later = append(later, whom(tier)...)
		}
	}
	if p.BreakGlass != nil {
		first = append(first, p.BreakGlass.From...)
	}
	l.join(append(slices.Clone(first), later...))
	l.ask(first...)
	for _, s := range p.Stages {
		l.steps = append(l.steps, step{Stage: s, round: l.round})
	}
}

func (l *life) require(ok bool, format string, args ...any) {
	if !ok {
		l.fatalf(format+"\n%s", append(args, l.story())...)
	}
}

func (l *life) story() string {
	out := fmt.Sprintf("plan %s\ntoday %s\nnow %s, end %s, on behalf of %q, people %s\n", asJSON(l.plan), asJSON(l.today), l.now, l.end, l.behalf, asJSON(l.dir))
	for _, e := range l.events {
		data := string(asJSON(e.Data))
		out += fmt.Sprintf("%3d %s %-24s %-15s %s\n", e.Seq, e.At.Format(time.RFC3339Nano), e.Type, e.State, data[:min(260, len(data))])
	}
	return out
}

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// step moves the clock and tries one random verb.
func (l *life) step() {
	switch l.pick(16) {
	case 0, 1, 2, 3:
		l.now = l.now.Add(time.Duration(l.pick(64)) * time.Second)
	case 4, 5:
		if w := l.ticket.WakeAt; w.After(l.now) && (w.Before(l.end) || l.oneIn(4)) {
			l.now = w
		}
	case 6:
		l.now = l.now.Add(time.Duration(l.pick(128)) * time.Minute)
	}
	if l.oneIn(10) || (l.ticket.State == approvals.Approved && l.oneIn(4)) {
		l.reorganise()
	}
	if l.oneIn(16) || (l.ticket.State == approvals.Approved && l.oneIn(4)) {
		l.legislate()
	}
	if some := l.oneIn(6); some || !l.quick { // the same chances either way: a seed repeats a life
		l.judgePeople()
	}
	l.try(l.choose())
}

// try calls a verb, twice where there is time, and looks for what it should not touch.
func (l *life) try(name string, verb verb) {
	if l.quick {
		before := l.ticket
		tr, err := verb()
		l.take(name, before, tr, err)
		return
	}
	l.ticket.Decisions, l.ticket.Plan.Excluded = roomy(l.ticket.Decisions), roomy(l.ticket.Plan.Excluded)
	l.ticket.Plan.Stages, l.ticket.Tiers = roomy(l.ticket.Plan.Stages), roomy(l.ticket.Tiers)
	l.ticket.Viewers = roomy(l.ticket.Viewers)
	before := l.ticket
	l.past, l.bytes = append(l.past, before), append(l.bytes, asJSON(before))
	world := string(asJSON(l.dir)) + string(asJSON(l.today))
	tr, err := verb()
	first := asJSON(tr)
	tr2, err2 := verb()
	l.require(string(first) == string(asJSON(tr2)) && fmt.Sprint(err) == fmt.Sprint(err2), "%s is not deterministic", name)
	l.require(string(first) == string(asJSON(tr)), "%s shares memory between two runs", name)
	l.require(untouched(before.Decisions, func(d approvals.Decision) bool { return d.Person == "" }), "%s wrote behind the decisions", name)
	l.require(untouched(before.Plan.Excluded, func(s string) bool { return s == "" }), "%s wrote behind the excluded", name)
	l.require(untouched(before.Plan.Stages, func(s approvals.Stage) bool { return s.Name == "" }), "%s wrote behind the stages", name)
	l.require(untouched(before.Tiers, func(n int) bool { return n == 0 }), "%s wrote behind the tiers", name)
	l.require(untouched(before.Viewers, func(s string) bool { return s == "" }), "%s wrote behind the viewers", name)
	l.require(string(asJSON(l.dir))+string(asJSON(l.today)) == world, "%s changed its arguments", name)
	l.take(name, before, tr, err)
}

// roomy copies a slice and leaves room behind it, into which no verb may write.
func roomy[T any](s []T) []T {
	if s == nil {
		return nil
	}
	return append(make([]T, 0, len(s)+1), s...)
}

func untouched[T any](s []T, zero func(T) bool) bool {
	return cap(s) == len(s) || zero(s[:len(s)+1][len(s)])
}

// reorganise changes who is there and who belongs where.
func (l *life) reorganise() {
	who, g := l.someone(), groups[l.pick(3)]
	switch l.pick(13) {
	case 9:
		l.dir.Inactive[who] = "gone"
	case 10:
		delete(l.dir.Inactive, who)
	case 11:
		l.regroup(g)
	case 0, 1:
		l.dir.Groups[g] = append(slices.Clone(l.dir.Groups[g]), who)
	case 2, 3:
		l.dir.Groups[g] = slices.DeleteFunc(slices.Clone(l.dir.Groups[g]), func(m string) bool { return m == who })
	case 4:
		l.dir.Owners[caller] = []string{who}
	case 5:
		delete(l.dir.Owners, caller)
	case 6:
		delete(l.dir.People, who)
	case 7:
		l.dir.People[who] = human(who)
	case 8:
		l.leave(who)
	default:
		delete(l.dir.Away, who)
	}
	if l.oneIn(20) { // a group that vanishes, or that is called like a person
		delete(l.dir.Groups, g)
		l.dir.Groups[who] = []string{l.someone(), who}
	} else if l.oneIn(20) {
		delete(l.dir.Groups, who)
	}
}

// regroup makes a group a list of people, a user group or another one.
func (l *life) regroup(g string) {
	if delete(l.dir.Live, g); !l.oneIn(3) {
		l.dir.Live[g] = []string{"S1", "S1", "S2"}[l.pick(3)]
	}
}

// legislate puts another policy in force.
func (l *life) legislate() {
	p := l.plan
	if l.oneIn(2) {
		p = l.today
	}
	p.PolicyDigest = fmt.Sprint("policy-", l.pick(1000))
	p.Stages = slices.Clone(p.Stages)
	at := l.pick(max(len(p.Stages), 1))
	switch some := len(p.Stages) > 0; l.pick(12) {
	case 0: // nothing that matters
	case 1:
		p.Stages = append(p.Stages, l.makeStage("more", true))
		p.Action = approvals.ActionApprove
	case 2:
		p = l.makePlan(true)
		p.PolicyDigest = "policy-x"
	case 3:
		p.Excluded = append(slices.Clone(p.Excluded), l.someone())
	case 4:
		p.Action, p.Stages = approvals.ActionAllow, nil
	case 5:
		if l.oneIn(3) {
			p = approvals.Plan{Action: approvals.ActionDeny, Reason: "not any more", PolicyDigest: p.PolicyDigest}
		}
	case 6:
		p.BreakGlass = nil
		if l.oneIn(2) {
			p.BreakGlass = &approvals.BreakGlass{From: l.names(3)}
		}
	case 7:
		p.Distinct = []approvals.Distinct{approvals.DistinctTicket, approvals.DistinctStage}[l.pick(2)]
	case 8:
		p.ExecuteWithin = time.Duration(l.between(1, 20)) * time.Minute
	case 9:
		if some {
			p.Stages = slices.Delete(p.Stages, at, at+1)
		}
		if len(p.Stages) == 0 && !l.oneIn(4) { // sometimes an approval that nobody has to give
			p.Action = approvals.ActionAllow
		}
	case 10:
		if some {
			p.Stages[at].Comment = approvals.CommentBoth
		}
	default:
		if some {
			p.Stages[at] = l.makeStage("other", true)
		}
	}
	l.today = p
}

type verb = func() (approvals.Transition, error)

// advance is the verb that would bring the ticket nearer to its end.
func (l *life) advance() (string, verb) {
	t, now, dir := l.ticket, l.now, l.dir
	waiting := t.WaitingFor(dir.At(now))
	today := l.today
	switch {
	case t.State.Open() && len(waiting) > 0:
		return "approve", l.say(waiting[l.pick(len(waiting))], approvals.Approve)
	case t.State == approvals.Approved && l.before.After(now):
		l.now = l.before
		return "wake", func() (approvals.Transition, error) { return t.Wake(dir, l.now) }
	case t.Worker == "" && !t.State.Open():
		return "claim", func() (approvals.Transition, error) { return t.Claim(worker, dir, today, now) }
	case t.State == approvals.Approved || (l.oneIn(2) && !l.began[t.Epoch]):
		return "begin", func() (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch, t.Worker, t.Digest, dir, today, now)
		}
	}
	o := []approvals.Outcome{outcome(approvals.Unknown), outcome(approvals.NotSent), answer(200), answer(500)}[l.pick(4)]
	return "finish", func() (approvals.Transition, error) { return t.FinishExecution(t.Epoch, t.Worker, o, now) }
}

func (l *life) choose() (string, verb) {
	if !l.ticket.Done() && l.oneIn(3) {
		return l.advance()
	}
	t, now, dir, today := l.ticket, l.now, l.dir, l.today
	epoch := max(t.Epoch-int64(l.pick(5)/4), 0)
	who := []string{worker, worker, worker, "worker-2"}[l.pick(4)]
	what := l.pick(23)
	if t.State.Open() && what >= 11 && what <= 16 && !l.oneIn(4) {
		what = l.pick(7) // rather what may come to something
	} else if !t.State.Open() && !t.Done() && what <= 8 && !l.oneIn(4) {
		return l.advance()
	}
	switch what {
	case 0, 1, 2, 3, 4:
		return "approve", l.decision(approvals.Approve)
	case 5:
		return "deny", l.decision(approvals.Deny)
	case 6:
		p := l.someone()
		return "ask", func() (approvals.Transition, error) {
			return t.Ask(person(p), approvals.Question{Person: p, Text: "why?"}, dir, now)
		}
	case 7, 8:
		return "answer", func() (approvals.Transition, error) { return t.Answer(client(), "because", now) }
	case 9:
		return "wake", func() (approvals.Transition, error) { return t.Wake(dir, now) }
	case 10:
		if !l.oneIn(4) {
			return "notified", func() (approvals.Transition, error) {
				return t.Notified(worker, approvals.Card{Stage: t.Stage, Channel: "C", TS: "1"}, now)
			}
		}
		if l.oneIn(2) {
			return "supersede", func() (approvals.Transition, error) { return t.Supersede(client(), "tkt_other", now) }
		}
		return "cancel", func() (approvals.Transition, error) { return t.Cancel(client(), "", now) }
	case 11, 12:
		return "claim", func() (approvals.Transition, error) { return t.Claim(who, dir, today, now) }
	case 13, 14:
		digest := t.Digest
		if l.oneIn(10) {
			digest = "other"
		}
		return "begin", func() (approvals.Transition, error) { return t.BeginExecution(epoch, who, digest, dir, today, now) }
	case 15:
		o := []approvals.Outcome{answer(200), answer(500), outcome(approvals.NotSent), outcome(approvals.Unknown), outcome(approvals.Unknown)}[l.pick(5)]
		return "finish", func() (approvals.Transition, error) { return t.FinishExecution(epoch, who, o, now) }
	case 16:
		return "abandon", func() (approvals.Transition, error) { return t.Abandon(epoch, now) }
	case 17:
		return l.delivery()
	case 18:
		if l.oneIn(3) {
			return "resolve", func() (approvals.Transition, error) { return t.Resolve(person("ana"), epoch%2 == 0, "seen", now) }
		}
		return "stranger", func() (approvals.Transition, error) { return t.Stranger(person("gus"), "approve", now) }
	case 19:
		if l.oneIn(2) {
			return "break glass", l.decision(approvals.GlassBroken)
		}
		return "reassess", func() (approvals.Transition, error) { return t.Reassess(dir, now) }
	case 22:
		return "view", l.look(l.someone())
	case 20:
		return "reassess", func() (approvals.Transition, error) { return t.Reassess(dir, now) }
	}
	return l.timer()
}

// say is one person's verdict on what the ticket holds and shows, with or without a word.
func (l *life) say(who string, v approvals.Verdict) verb {
	comment := []string{"so be it", "so be it", "so be it", "", " "}[l.pick(5)]
	return l.judged(approvals.Decision{Person: who, Verdict: v, Stage: l.ticket.Stage, Digest: l.ticket.Digest, Comment: comment})
}

func (l *life) decision(v approvals.Verdict) verb {
	d := approvals.Decision{Person: l.someone(), Verdict: v, Stage: l.ticket.Stage, Digest: l.ticket.Digest, Comment: "so be it"}
	if v == approvals.GlassBroken && len(l.glass) > 0 && !l.oneIn(4) {
		d.Person = l.glass[l.pick(len(l.glass))]
		if members := l.dir.Groups[d.Person]; len(members) > 0 {
			d.Person = members[l.pick(len(members))]
		}
	}
	if l.oneIn(15) {
		d.Stage = l.pick(3)
	}
	if l.oneIn(30) {
		d.Digest = "other"
	}
	if l.oneIn(5) {
		d.Comment = ""
	}
	d.For, d.Groups, d.At = "forged", []string{"forged"}, start
	return l.judged(d)
}

// judged compares the answer to a decision with the model's.
func (l *life) judged(d approvals.Decision) verb {
	t, now, dir := l.ticket, l.now, l.dir
	want, seats := l.expected(d)
	return func() (approvals.Transition, error) {
		tr, err := t.Decide(person(d.Person), d, dir, now)
		got := approvals.ErrorCode(err)
		l.require(got == want, "%s says %s to stage %d: %v, want %q", d.Person, d.Verdict, d.Stage, err, want)
		if err == nil && d.Verdict != approvals.GlassBroken {
			given := *tr.Events[0].Data.Decision
			l.require(slices.ContainsFunc(seats, func(b ballot) bool { return b.place == place(given) }),
				"%s says %s in the place of %q, want one of %v", d.Person, d.Verdict, given.For, seats)
		}
		return tr, err
	}
}

// look is a person who is shown the whole call, and what should come of it.
func (l *life) look(who string) verb {
	t, now, dir := l.ticket, l.now, l.dir
	v := approvals.Viewing{Person: who, Digest: t.Digest, Rendered: "r", Channel: "C", Pages: 1 + l.pick(3)}
	if l.oneIn(15) {
		v.Digest = "other"
	}
	var names []string
	if !t.Done() && t.Stage < len(l.steps) {
		names = slices.Concat(places(l.steps[t.Stage].Stage, l.steps[t.Stage].fired)...)
	}
	concerned := slices.ContainsFunc(crowd, func(place string) bool { return l.in(names, place) && l.acts(who, place) })
	voted := slices.ContainsFunc(l.votes, func(b ballot) bool { return b.person == who })
	bypass := l.in(l.glass, who)
	return func() (approvals.Transition, error) {
		tr, err := t.View(person(who), v, dir, now)
		got := approvals.ErrorCode(err)
		switch {
		case t.Done():
			l.require(got == approvals.CodeAlreadyFinal, "%s views what is over: %v", who, err)
		case v.Digest != t.Digest:
			l.require(got == approvals.CodeDigestMismatch, "%s views something else: %v", who, err)
		case !l.exists(who) || (!concerned && !voted && !bypass && !l.asker(who)):
			l.require(got == approvals.CodeNotApprover || got == approvals.CodeAway, "%s views: %v", who, err)
		case l.asker(who) || voted || bypass || (t.State.Open() && len(l.seats(t.Stage, who)) > 0):
			l.require(err == nil, "%s may not view: %v", who, err)
		}
		if err == nil {
			l.require(tr.Empty() == slices.Contains(t.Viewers, who) && len(tr.Effects) == 0, "%s has viewed %v", who, t.Viewers)
		}
		return tr, err
	}
}

// place is in whose place a decision was made.
func place(d approvals.Decision) string {
	if d.For == "" {
		return d.Person
	}
	return d.For
}

// expected is the code with which a decision should be answered, and the seats from which
// it may be counted.
func (l *life) expected(d approvals.Decision) (approvals.Code, []ballot) {
	t := l.ticket
	switch {
	case t.Done():
		return approvals.CodeAlreadyFinal, nil
	case !t.State.Open():
		return approvals.CodeConflict, nil
	case !l.now.Before(l.end):
		return approvals.CodeExpired, nil
	case d.Digest != t.Digest:
		return approvals.CodeDigestMismatch, nil
	case l.dir.Inactive[d.Person] != "":
		return approvals.CodeNotApprover, nil
	case d.Stage != t.Stage && d.Verdict != approvals.GlassBroken && l.spent(t.Stage, l.votes)&bit(d.Person) == 0:
		return approvals.CodeStale, nil
	}
	return l.verdict(t.Stage, d.Person, d.Verdict, d.Comment)
}

// judgePeople asks of everybody whether they can decide, and compares the answers: those
// of Eligible and WaitingFor with what Decide would say, and that with the model.
func (l *life) judgePeople() {
	t := l.ticket
	if !t.State.Open() || !l.now.Before(l.end) {
		l.require(t.State.Open() || (t.WaitingFor(l.dir.At(l.now)) == nil && t.Eligible(l.dir.At(l.now)) == nil), "%s and waiting", t.State)
		return
	}
	listed := map[string]approvals.Eligibility{}
	for _, e := range t.Eligible(l.dir.At(l.now)) {
		listed[e.Person] = e
	}
	waiting := t.WaitingFor(l.dir.At(l.now))
	for _, who := range crowd {
		d := approvals.Decision{Person: who, Verdict: approvals.Approve, Stage: t.Stage, Digest: t.Digest, Comment: "x"}
		want, _ := l.verdict(t.Stage, who, d.Verdict, d.Comment)
		_, err := t.Decide(person(who), d, l.dir, l.now)
		l.require(approvals.ErrorCode(err) == want, "%s could approve: %v, want %q", who, err, want)
		e, is := listed[who]
		l.require(!is || (e.Can == (want == "") && e.Code == want), "%s is listed as %+v, want %q", who, e, want)
		l.require(is || want == approvals.CodeNotApprover || want == approvals.CodeSelfApproval || want == approvals.CodeAlreadyDecided,
			"%s is not listed, want %q", who, want)
		no, _ := l.verdict(t.Stage, who, approvals.Deny, "x")
		l.require(slices.Contains(waiting, who) == (no == ""), "waiting for %v, and %s could deny: %q", waiting, who, no)
	}
}

// timer lets a job come due, as early or late as it may be.
func (l *life) timer() (string, verb) {
	t, now, dir := l.ticket, l.now, l.dir
	if len(l.armed) == 0 {
		return "expire", func() (approvals.Transition, error) { return t.Expire(now) }
	}
	e := l.armed[l.pick(len(l.armed))]
	return fmt.Sprintf("%T", e), func() (approvals.Transition, error) { return fire(t, e, dir, now) }
}

func fire(t approvals.Ticket, e approvals.Effect, dir approvals.Directory, now time.Time) (approvals.Transition, error) {
	switch e := e.(type) {
	case approvals.RemindAt:
		return t.Remind(e.Stage, e.Number, now)
	case approvals.EscalateAt:
		return t.Escalate(e.Stage, e.Tier, dir, now)
	case approvals.ReleaseAt:
		return t.Release(now)
	case approvals.ExpireAt, approvals.Notify, approvals.UpdateCard, approvals.Execute, approvals.Deliver:
	}
	return t.Expire(now)
}

func (l *life) delivery() (string, verb) {
	t, now := l.ticket, l.now
	a := approvals.DeliveryAttempt{Seq: int64(l.pick(int(t.Version) + 2)), Number: 1}
	if t.CallbackSeq > 0 && l.oneIn(2) {
		a.Seq = t.CallbackSeq
	}
	if l.oneIn(4) {
		return "redelivery requested", func() (approvals.Transition, error) { return t.RequestRedelivery(person("ana"), a.Seq, 2, now) }
	}
	if l.oneIn(2) {
		return "delivered", func() (approvals.Transition, error) { return t.Delivered(worker, a, now) }
	}
	if l.oneIn(2) {
		a.NextAt = now.Add(time.Minute)
	}
	return "delivery failed", func() (approvals.Transition, error) { return t.DeliveryFailed(worker, a, now) }
}

// take accepts what a verb returned, after judging it.
func (l *life) take(name string, before approvals.Ticket, tr approvals.Transition, err error) {
	l.note("verb %s", name)
	if err != nil {
		l.note("refusal %s", approvals.ErrorCode(err))
	}
	if tr.Empty() {
		l.require(len(tr.Effects) == 0, "effects without an event")
		l.ticketHolds()
		return
	}
	l.judgeEvents(before, tr, err)
	l.judgeEffects(before, tr)
	l.ticket = tr.Ticket
	l.events = append(l.events, tr.Events...)
	l.require(l.ticket.Version == int64(len(l.events)), "version %d after %d events", l.ticket.Version, len(l.events))
	l.ticketHolds()
	if l.ticket.State.Open() && slices.ContainsFunc(tr.Events, looksAgain) || (name == "reassess" && l.ticket.State.Open()) {
		l.lookedAgain()
	}
	if !l.quick {
		l.require(string(asJSON(l.replay(l.events))) == string(asJSON(l.ticket)), "the events do not fold into the ticket")
	}
}

// looksAgain: after these events a ticket knows whether it can be completed.
func looksAgain(e approvals.Event) bool {
	return slices.Contains([]approvals.EventType{
		approvals.EventCreated, approvals.EventDecided, approvals.EventEscalated, approvals.EventReopened, approvals.EventTightened,
	}, e.Type)
}

// lookedAgain: a tier has fired where those who were asked could not complete the stage,
// and the caller knows exactly when nobody can complete the ticket.
func (l *life) lookedAgain() {
	t := l.ticket
	l.require(l.steps[t.Stage].fired == len(l.steps[t.Stage].Escalate) || !l.stuck(t.Stage), "nobody who is asked can complete the stage, and a tier waits")
	l.require((t.Stalled != nil) == l.hopeless(t.Stage), "stalled: %v, and hopeless: %t", t.Stalled, l.hopeless(t.Stage))
	l.require(!l.met(t.Stage) && !l.refused(t.Stage), "stage %d is decided, and the ticket stays there", t.Stage)
}

func (l *life) judgeEvents(before approvals.Ticket, tr approvals.Transition, err error) {
	state := before.State
	for i, e := range tr.Events {
		l.note("event %s", e.Type)
		l.require(e.Seq == before.Version+int64(i)+1 && e.TicketID == ticketID, "sequence has a gap at %d", e.Seq)
		l.require(e.At.Equal(l.now.Truncate(time.Microsecond)), "event at %s", e.At)
		l.require(e.Type == approvals.EventCreated || approvals.Legal(state, e.State), "%s to %s is not legal", state, e.State)
		if state.Final() {
			l.judgeAfterEnd(before, e)
		}
		if err != nil && i == 0 { // what a reopened ticket comes to follows from that
			l.require(slices.Contains([]approvals.EventType{
				approvals.EventRefused, approvals.EventExpired, approvals.EventReopened,
				approvals.EventFailed, approvals.EventOutcomeUnknown, approvals.EventTightened,
			}, e.Type), "%v came with %s", err, e.Type)
		}
		l.judgeEvent(before, e)
		if e.State != state {
			l.note("state %s", e.State)
		}
		state = e.State
	}
	l.require(state == tr.Ticket.State, "ticket is %s after an event of %s", tr.Ticket.State, state)
}

func (l *life) judgeAfterEnd(before approvals.Ticket, e approvals.Event) {
	ok := slices.Contains([]approvals.EventType{
		approvals.EventRefused, approvals.EventNotified, approvals.EventCallbackDelivered,
		approvals.EventCallbackFailed, approvals.EventCallbackExhausted, approvals.EventRedeliveryRequested,
	}, e.Type) && e.State == before.State
	resolved := e.Type == approvals.EventResolved && before.State == approvals.OutcomeUnknown
	l.require(ok || resolved, "%s on a ticket that is %s", e.Type, before.State)
}

// judgeEvent judges what is new by the model, and tells it.
func (l *life) judgeEvent(before approvals.Ticket, e approvals.Event) {
	inTime := l.now.Before(l.end)
	switch e.Type { //nolint:exhaustive // the others are judged by the ticket they leave
	case approvals.EventDecided:
		l.judgeVote(before, e)
	case approvals.EventGlassBroken:
		l.require(inTime && l.breaks(e.Data.Decision.Person, false) == "", "%s broke the glass", e.Data.Decision.Person)
		l.require(strings.TrimSpace(e.Data.Decision.Comment) != "", "the glass was broken without a word")
		l.remember(*e.Data.Decision)
		l.broken = e.Data.Decision.Person
	case approvals.EventStageCompleted:
		l.require(l.met(*e.Data.Stage), "stage %d was left without its quorum", *e.Data.Stage)
	case approvals.EventApproved:
		l.require(l.plan.Action == approvals.ActionAllow && before.ID == "" || l.broken != "" || l.met(len(l.steps)-1), "approved without the last quorum")
		l.require(inTime, "approved after the deadline")
	case approvals.EventReopened:
		l.broken = ""
		l.require(inTime, "reopened after the deadline")
		l.require(!l.met(*e.Data.Stage) || l.refused(*e.Data.Stage), "reopened, and stage %d stands", *e.Data.Stage)
	case approvals.EventTightened:
		l.require(inTime, "tightened after the deadline")
		l.tighten()
	case approvals.EventEscalated:
		l.judgeTier(before, e)
	case approvals.EventReminded:
		l.require(e.At.Before(before.ExpiresAt) && e.Data.Number > before.Reminders, "late or repeated reminder")
	case approvals.EventReleased:
		l.require(!l.now.Before(l.before), "released before its hour")
	case approvals.EventExecuting:
		l.judgeSend(before, e)
	}
}

// judgeTier: a tier fires when its time has come, or when those who are asked cannot
// complete the stage. Those it asks are those who can then decide.
func (l *life) judgeTier(before approvals.Ticket, e approvals.Event) {
	at := *e.Data.Stage
	s := &l.steps[at]
	l.require(l.now.Before(l.end), "escalated after the deadline")
	l.require(e.Data.Number == s.fired+1, "tier %d after %d", e.Data.Number, s.fired)
	if strings.HasPrefix(e.Data.Reason, "out of reach") {
		l.note("tier at once")
		l.require(l.stuck(at), "a tier fired at once, and those who are asked can complete the stage")
	} else {
		l.require(before.State == approvals.Pending && before.Stage == at && !l.now.Before(before.StageSince.Add(s.Escalate[s.fired].After)), "escalated early")
	}
	tier := s.Escalate[s.fired]
	s.fired++
	names := whom(tier)
	l.ask(names...)
	var asks []string
	for _, who := range crowd {
		if slices.ContainsFunc(crowd, func(place string) bool {
			return l.in(names, place) && l.acts(who, place) && !l.asker(who) && !l.asker(place)
		}) && l.exists(who) {
			asks = append(asks, who)
		}
	}
	l.require(slices.Equal(asks, e.Data.Asked), "tier asks %v, want %v", e.Data.Asked, asks)
}

// tighten tells the model of a round of today's stages.
func (l *life) tighten() {
	l.require(l.plan.OnStale != approvals.StaleEnd && l.today.OnStale != approvals.StaleEnd, "asked again, and the rule says that it ends")
	l.round++
	l.broken = ""
	for _, who := range crowd {
		if l.asker(who) {
			l.frozen = append(l.frozen, who)
		}
	}
	l.frozen = append(l.frozen, l.today.Excluded...)
	if l.today.Distinct == approvals.DistinctTicket {
		l.distinct = approvals.DistinctTicket
	}
	l.further(l.today)
	var both []string
	if l.today.BreakGlass != nil {
		for _, name := range l.today.BreakGlass.From {
			if slices.Contains(l.glass, name) {
				both = append(both, name)
			}
		}
	}
	l.glass = both
}

func (l *life) remember(d approvals.Decision) {
	l.votes = append(l.votes, ballot{d.Person, place(d), d.Stage, d.Verdict, d.Comment, d.Digest})
}

func (l *life) judgeVote(before approvals.Ticket, e approvals.Event) {
	d := *e.Data.Decision
	l.require(l.now.Before(l.end), "decided after the deadline")
	l.require(d.Digest == before.Digest, "a vote on something else was accepted")
	l.require(!l.asker(d.Person) && !l.asker(place(d)), "the requester voted")
	l.require(l.exists(d.Person) && l.acts(d.Person, place(d)), "%s cannot vote in the place of %s", d.Person, place(d))
	l.require(l.spent(d.Stage, l.votes)&(bit(d.Person)|bit(place(d))) == 0, "%s voted twice", d.Person)
	l.require(d.Stage == before.Stage && l.in(slices.Concat(places(l.steps[d.Stage].Stage, l.steps[d.Stage].fired)...), place(d)),
		"%s is no approver of stage %d", d.Person, d.Stage)
	l.require(len(d.Groups) > 0 && !slices.Contains(d.Groups, "forged"), "voted through %v", d.Groups)
	met, have := l.met(d.Stage), l.most(d.Stage, l.votes)
	l.remember(d)
	l.require(d.Verdict != approvals.Approve || met || l.most(d.Stage, l.votes) == have+1, "the vote of %s was wasted", d.Person)
}

// judgeSend is the heart of the matter: nothing is sent without every quorum, by the
// policy of then and by that of now.
func (l *life) judgeSend(before approvals.Ticket, e approvals.Event) {
	l.note("sent")
	if l.broken != "" && l.in(l.glass, l.broken) && !l.asker(l.broken) {
		l.note("sent through broken glass")
	} else { // a bypass that stands no more does no harm where the quorum stands
		for i := range l.steps {
			l.require(l.met(i) && !l.refused(i), "sent without the quorum of stage %d", i)
		}
	}
	if l.round > 0 {
		l.note("sent after a stricter policy")
	}
	l.require(l.satisfies(l.today, l.broken), "sent, and today's policy is not met")
	for _, b := range l.votes {
		l.require(b.digest == e.Data.Digest, "sent something that %s did not see", b.person)
	}
	l.require(!l.now.Before(l.before), "sent before its hour")
	l.require(l.now.Before(before.ExecuteBy), "sent after execute_by")
	within := before.ApprovedAt
	if l.before.After(within) {
		within = l.before
	}
	l.require(l.today.ExecuteWithin == 0 || l.now.Before(within.Add(l.today.ExecuteWithin)), "sent later than today's policy lets")
	l.require(before.CancelRequestedAt.IsZero(), "sent again after a cancel")
	l.require(e.Data.Worker == before.Worker && before.Worker != "", "sent without a claim")
	l.sends++
	l.require(l.sends == 1 || l.plan.Idempotent, "sent %d times", l.sends)
	l.began[e.Data.Epoch] = true
	l.require(len(l.began) <= approvals.MaxEpochs, "sent under %d epochs", len(l.began))
}

// judgeEffects keeps the book of timers, executions and deliveries.
func (l *life) judgeEffects(before approvals.Ticket, tr approvals.Transition) {
	timers, cards := 0, 0
	for _, e := range tr.Effects {
		var at time.Time
		switch e := e.(type) {
		case approvals.RemindAt:
			at = e.At
		case approvals.EscalateAt:
			at = e.At
		case approvals.ExpireAt:
			at = e.At
		case approvals.ReleaseAt:
			at = e.At
		case approvals.Execute:
			l.jobs++
			continue
		case approvals.Deliver:
			if e.At.IsZero() {
				l.owed[e.Seq]++
			}
			continue
		case approvals.UpdateCard:
			cards++
			continue
		case approvals.Notify:
			continue
		}
		timers++
		l.armed = append(l.armed, e)
		l.require(at.Equal(tr.Ticket.WakeAt), "armed for %s, due %s", at, tr.Ticket.WakeAt)
	}
	l.require(timers <= 1 && cards <= 1, "%d timers armed and %d cards rendered at once", timers, cards)
	if !tr.Ticket.WakeAt.IsZero() && !tr.Ticket.WakeAt.Equal(before.WakeAt) {
		l.require(timers == 1, "due at %s and nothing armed", tr.Ticket.WakeAt)
	}
	for _, e := range tr.Events {
		want := 0
		if tr.Ticket.Callback != nil && (slices.Contains(tr.Ticket.Callback.Events, e.Type) || told(e.Type)) {
			want = 1
		}
		l.require(l.owed[e.Seq] == want, "%d deliveries of %s, want %d", l.owed[e.Seq], e.Type, want)
		if e.Type == approvals.EventClaimed {
			l.jobs = 0
		}
	}
}

// told lists what every caller with a callback is told.
func told(e approvals.EventType) bool {
	return slices.Contains([]approvals.EventType{
		approvals.EventSucceeded, approvals.EventFailed, approvals.EventOutcomeUnknown, approvals.EventResolved,
		approvals.EventDenied, approvals.EventExpired, approvals.EventCancelled, approvals.EventStalled,
	}, e)
}

// ticketHolds checks what must be true of a ticket at rest. Most of it is also a
// constraint of the database.
func (l *life) ticketHolds() {
	t := l.ticket
	waits := t.State.Open() || t.State == approvals.Approved
	l.require(t.WakeAt.IsZero() != waits, "%s and due %s", t.State, t.WakeAt)
	l.require(t.FinishedAt.IsZero() != t.Done(), "%s and finished %s", t.State, t.FinishedAt)
	l.require(t.ApprovedAt.IsZero() == t.ExecuteBy.IsZero(), "approval is half there")
	l.require(t.ApprovedAt.IsZero() || (!t.State.Open() && t.State != approvals.Denied), "%s and approved", t.State)
	started := t.State == approvals.Executing || t.State == approvals.Succeeded || t.State == approvals.OutcomeUnknown
	l.require(!started || !t.ExecutionStartedAt.IsZero(), "%s and never started", t.State)
	l.require((t.Question != nil) == (t.State == approvals.NeedsInfo), "%s with question %v", t.State, t.Question)
	l.require(t.Worker == "" || t.State == approvals.Approved || t.State == approvals.Executing, "%s and claimed", t.State)
	l.require(t.Result == nil || t.State == approvals.Succeeded || t.State == approvals.Failed, "%s with a result", t.State)
	l.require(t.Stalled == nil || t.State.Open(), "%s and stalled", t.State)
	l.require(t.PausedHours >= 0 && t.PausedHours <= t.Paused && t.Refusals <= approvals.MaxRefusals, "bounds")
	l.require((t.CallbackState == approvals.CallbackNone) == (t.Callback == nil), "callback is %s", t.CallbackState)
	l.require(t.Plan.Round == l.round && len(t.Plan.Stages) == len(l.steps), "round %d of %d stages", t.Plan.Round, len(t.Plan.Stages))
	if waits {
		l.require(slices.ContainsFunc(l.armed, func(e approvals.Effect) bool {
			_, err := fire(t, e, l.dir, t.WakeAt)
			return err == nil
		}), "%s and no timer is running", t.State)
	}
	held := l.before.After(t.ApprovedAt) && t.ReleasedAt.IsZero()
	if t.Worker == "" && (t.State == approvals.Executing || (t.State == approvals.Approved && !held)) {
		l.require(l.jobs > 0, "%s, unclaimed and nobody will execute", t.State)
	}
	for i := range l.steps {
		tally := t.Tally(i, l.dir.At(l.now))
		l.require(tally.Have == l.most(i, l.votes) && tally.Needed == len(places(l.steps[i].Stage, l.steps[i].fired)) &&
			tally.Denials == l.denials(i), "tally of stage %d: %+v", i, tally)
	}
}

// run lives on for some steps, and only a few after the end.
func (l *life) run(steps int) {
	for late := 0; steps > 0 && late < 8; steps-- {
		l.step()
		if l.ticket.Done() {
			late++
		}
	}
	l.finish()
}

// finish checks what needs the whole life.
func (l *life) finish() {
	for i, t := range l.past {
		l.require(string(asJSON(t)) == string(l.bytes[i]), "a verb changed the ticket it was called on")
	}
	l.require(string(asJSON(l.replay(l.events))) == string(asJSON(l.ticket)), "the events do not fold into the ticket")
	if l.quick {
		return
	}
	var reread []approvals.Event
	if err := json.Unmarshal(asJSON(l.events), &reread); err != nil {
		l.fatalf("events do not survive JSON: %v", err)
	}
	if diff := cmp.Diff(l.ticket, l.replay(reread), cmpopts.EquateEmpty()); diff != "" {
		l.fatalf("the events, read back, do not fold into the ticket (-ticket +replay):\n%s\n%s", diff, l.story())
	}
}

// replay folds events and adds what they do not hold.
func (l *life) replay(events []approvals.Event) approvals.Ticket {
	got := approvals.Replay(events)
	got.Call.Headers, got.Call.Body = l.ticket.Call.Headers, l.ticket.Call.Body
	return got
}
