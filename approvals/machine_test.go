package approvals_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"countersign/approvals"
)

// chooser is where a random life takes its chances from: rapid, or bytes of a fuzzer.
type chooser interface {
	// pick returns a number from 0 to n-1. n is at least 1.
	pick(n int) int
	fatalf(format string, args ...any)
}

var crowd = []string{"ana", "bo", "chen", "dee", "eve", "fay"}

// life drives one ticket through a random sequence of verbs and checks after each that
// what must always be true is true.
type life struct {
	chooser
	dir      approvals.Directory
	plan     approvals.Plan
	patient  bool // the deadline is far beyond every tier
	behalf   string
	now      time.Time
	ticket   approvals.Ticket
	events   []approvals.Event
	armed    []approvals.Effect // timers that have not fired
	jobs     int                // Execute effects that nobody has taken up
	owed     map[int64]int      // Deliver effects by event
	votes    []ballot
	tiers    []int // as the escalated events tell
	sends    int
	began    map[int64]bool
	past     []approvals.Ticket // every receiver so far, with its bytes
	pastJSON [][]byte
}

func (l *life) oneIn(n int) bool      { return l.pick(n) == 0 }
func (l *life) someone() string       { return crowd[l.pick(len(crowd))] }
func (l *life) between(lo, n int) int { return lo + l.pick(n-lo+1) }

func (l *life) names(most int) []string {
	pool := append([]string{"g0", "g1", "g2"}, crowd...)
	var out []string
	for range l.between(1, most) {
		out = append(out, pool[l.pick(len(pool))])
	}
	return out
}

func (l *life) populate() {
	l.dir = approvals.Directory{
		People: map[string]approvals.Person{}, Groups: map[string][]string{}, Owners: map[string][]string{},
	}
	for _, name := range crowd {
		if !l.oneIn(12) {
			l.dir.People[name] = approvals.Person{Name: name, Slack: "U-" + name, Email: name + "@example.com"}
		}
	}
	for _, g := range []string{"g0", "g1", "g2"} {
		for _, name := range crowd {
			if l.oneIn(2) {
				l.dir.Groups[g] = append(l.dir.Groups[g], name)
			}
		}
	}
	if l.oneIn(2) {
		l.dir.Owners[caller] = []string{l.someone()}
	}
}

func (l *life) makePlan(replace bool) approvals.Plan {
	p := planOf()
	p.ExpiresIn = time.Duration(l.between(2, 40)) * time.Hour
	if l.patient {
		p.ExpiresIn = 1000 * time.Hour
	}
	p.Idempotent = l.oneIn(2)
	if l.oneIn(4) {
		p.Excluded = []string{l.someone()}
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

func (l *life) makeStage(name string, replace bool) approvals.Stage {
	s := approvals.Stage{Name: name, Denials: 1}
	if l.oneIn(5) {
		s.Denials = 2
	}
	for range []int{1, 1, 2, 3}[l.pick(4)] {
		s.Need = append(s.Need, set([]int{1, 1, 2, 3}[l.pick(4)], l.names(3)...))
	}
	if l.oneIn(2) {
		s.RemindEvery = time.Duration(l.between(1, 90)) * time.Minute
	}
	for after := time.Duration(0); len(s.Escalate) < 4 && l.oneIn(3); {
		after += time.Duration(l.between(1, 240)) * time.Minute
		tier := approvals.Tier{After: after, To: l.names(2), Mode: approvals.ModeAdd}
		if replace && l.oneIn(2) {
			tier.Mode = approvals.ModeReplace
		}
		s.Escalate = append(s.Escalate, tier)
	}
	return s
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
	l.behalf = ""
	l.plan, l.now = l.makePlan(replace), start.Add(123*time.Nanosecond)
	s := submission()
	if l.oneIn(4) {
		l.behalf = []string{l.someone(), l.someone() + "@example.com", "U-" + l.someone(), "nobody"}[l.pick(4)]
		s.OnBehalfOf = l.behalf
	}
	if l.oneIn(3) {
		s.Callback = nil
	} else if l.oneIn(2) {
		s.Callback.Events = []approvals.EventType{approvals.EventCreated, approvals.EventApproved, approvals.EventExecuting}
	}
	tr, err := approvals.Submit(s, l.plan, l.dir, l.now)
	if err != nil {
		l.require(approvals.ErrorCode(err) == approvals.CodeUnsatisfiable, "submit: %v", err)
		return false
	}
	l.tiers, l.owed, l.began = make([]int, len(l.plan.Stages)), map[int64]int{}, map[int64]bool{}
	l.take(approvals.Ticket{}, tr, nil)
	return true
}

func (l *life) require(ok bool, format string, args ...any) {
	if !ok {
		l.fatalf(format+"\n%s", append(args, l.story())...)
	}
}

func (l *life) story() string {
	out := fmt.Sprintf("plan %s\nnow %s, people %s\n", asJSON(l.plan), l.now, asJSON(l.dir))
	for _, e := range l.events {
		out += fmt.Sprintf("%3d %s %-24s %-15s %s\n", e.Seq, e.At.Format(time.RFC3339Nano), e.Type, e.State, asJSON(e.Data)[:min(160, len(asJSON(e.Data)))])
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
		if w := l.ticket.WakeAt; w.After(l.now) {
			l.now = w
		}
	case 6:
		l.now = l.now.Add(time.Duration(l.pick(128)) * time.Minute)
	}
	if l.oneIn(10) || (l.ticket.State == approvals.Approved && l.oneIn(4)) {
		l.reorganise()
	}
	l.ticket.Decisions, l.ticket.Plan.Excluded = roomy(l.ticket.Decisions), roomy(l.ticket.Plan.Excluded)
	name, verb := l.choose()
	before := l.ticket
	l.past, l.pastJSON = append(l.past, before), append(l.pastJSON, asJSON(before))
	tr, err := verb()
	first := asJSON(tr)
	tr2, err2 := verb()
	l.require(string(first) == string(asJSON(tr2)) && fmt.Sprint(err) == fmt.Sprint(err2), "%s is not deterministic", name)
	l.require(string(first) == string(asJSON(tr)), "%s shares memory between two runs", name)
	l.require(untouched(before.Decisions, func(d approvals.Decision) bool { return d.Person == "" }), "%s wrote behind the decisions", name)
	l.require(untouched(before.Plan.Excluded, func(s string) bool { return s == "" }), "%s wrote behind the excluded", name)
	l.take(before, tr, err)
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

// reorganise changes who belongs where.
func (l *life) reorganise() {
	who, g := l.someone(), []string{"g0", "g1", "g2"}[l.pick(3)]
	switch l.pick(4) {
	case 0:
		l.dir.Groups[g] = append(slices.Clone(l.dir.Groups[g]), who)
	case 1:
		l.dir.Groups[g] = slices.DeleteFunc(slices.Clone(l.dir.Groups[g]), func(m string) bool { return m == who })
	case 2:
		l.dir.Owners[caller] = []string{who}
	default:
		delete(l.dir.Owners, caller)
	}
}

type verb = func() (approvals.Transition, error)

// advance is the verb that would bring the ticket nearer to its end.
func (l *life) advance() (string, verb) {
	t, now, dir := l.ticket, l.now, l.dir
	waiting := t.WaitingFor(dir)
	switch {
	case t.State.Open() && len(waiting) > 0:
		d := approvals.Decision{
			Person: waiting[l.pick(len(waiting))], Verdict: approvals.Approve, Stage: t.Stage, Digest: t.Digest,
		}
		return "approve", func() (approvals.Transition, error) { return t.Decide(person(d.Person), d, dir, now) }
	case t.Worker == "" && !t.State.Open():
		return "claim", func() (approvals.Transition, error) { return t.Claim(worker, dir, now) }
	case t.State == approvals.Approved || (l.oneIn(2) && !l.began[t.Epoch]):
		return "begin", func() (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch, t.Worker, t.Digest, dir, now)
		}
	}
	o := []approvals.Outcome{outcome(approvals.Unknown), outcome(approvals.NotSent), answer(200), answer(500)}[l.pick(4)]
	return "finish", func() (approvals.Transition, error) { return t.FinishExecution(t.Epoch, t.Worker, o, now) }
}

func (l *life) choose() (string, verb) {
	if !l.ticket.Done() && l.oneIn(3) {
		return l.advance()
	}
	t, now, dir := l.ticket, l.now, l.dir
	epoch := max(t.Epoch-int64(l.pick(5)/4), 0)
	who := []string{worker, worker, worker, "worker-2"}[l.pick(4)]
	switch l.pick(20) {
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
		return "cancel", func() (approvals.Transition, error) { return t.Cancel(client(), "", now) }
	case 11, 12:
		return "claim", func() (approvals.Transition, error) { return t.Claim(who, dir, now) }
	case 13, 14:
		digest := t.Digest
		if l.oneIn(10) {
			digest = "other"
		}
		return "begin", func() (approvals.Transition, error) { return t.BeginExecution(epoch, who, digest, dir, now) }
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
	}
	return l.timer()
}

func (l *life) decision(v approvals.Verdict) verb {
	t, now, dir := l.ticket, l.now, l.dir
	d := approvals.Decision{Person: l.someone(), Verdict: v, Stage: t.Stage, Digest: t.Digest, Comment: "so be it"}
	if l.oneIn(15) {
		d.Stage = l.pick(3)
	}
	if l.oneIn(30) {
		d.Digest = "other"
	}
	return func() (approvals.Transition, error) { return t.Decide(person(d.Person), d, dir, now) }
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
	if e, ok := e.(approvals.RemindAt); ok {
		return t.Remind(e.Stage, e.Number, now)
	}
	if e, ok := e.(approvals.EscalateAt); ok {
		return t.Escalate(e.Stage, e.Tier, dir, now)
	}
	return t.Expire(now)
}

func (l *life) delivery() (string, verb) {
	t, now := l.ticket, l.now
	a := approvals.DeliveryAttempt{Seq: int64(l.pick(int(t.Version) + 2)), Number: 1}
	if t.CallbackSeq > 0 && l.oneIn(2) {
		a.Seq = t.CallbackSeq
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
func (l *life) take(before approvals.Ticket, tr approvals.Transition, err error) {
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
}

func (l *life) judgeEvents(before approvals.Ticket, tr approvals.Transition, err error) {
	state := before.State
	for i, e := range tr.Events {
		l.require(e.Seq == before.Version+int64(i)+1 && e.TicketID == ticketID, "sequence has a gap at %d", e.Seq)
		l.require(e.At.Equal(l.now.Truncate(time.Microsecond)), "event at %s", e.At)
		l.require(e.Type == approvals.EventCreated || approvals.Legal(state, e.State), "%s to %s is not legal", state, e.State)
		if state.Final() {
			l.judgeAfterEnd(before, e)
		}
		if err != nil {
			l.require(slices.Contains([]approvals.EventType{
				approvals.EventRefused, approvals.EventExpired, approvals.EventReopened,
				approvals.EventFailed, approvals.EventOutcomeUnknown,
			}, e.Type), "%v came with %s", err, e.Type)
		}
		l.judgeEvent(before, e)
		state = e.State
	}
	l.require(state == tr.Ticket.State, "ticket is %s after an event of %s", tr.Ticket.State, state)
}

func (l *life) judgeAfterEnd(before approvals.Ticket, e approvals.Event) {
	ok := slices.Contains([]approvals.EventType{
		approvals.EventRefused, approvals.EventNotified, approvals.EventCallbackDelivered,
		approvals.EventCallbackFailed, approvals.EventCallbackExhausted,
	}, e.Type) && e.State == before.State
	resolved := e.Type == approvals.EventResolved && before.State == approvals.OutcomeUnknown
	l.require(ok || resolved, "%s on a ticket that is %s", e.Type, before.State)
}

func (l *life) judgeEvent(before approvals.Ticket, e approvals.Event) {
	switch e.Type { //nolint:exhaustive // the others are judged by the ticket they leave
	case approvals.EventDecided:
		l.judgeVote(before, e)
	case approvals.EventStageCompleted:
		l.require(l.met(*e.Data.Stage), "stage %d was left without its quorum", *e.Data.Stage)
	case approvals.EventApproved:
		l.require(l.plan.Action == approvals.ActionAllow || l.met(len(l.plan.Stages)-1), "approved without the last quorum")
		l.require(e.At.Before(before.ExpiresAt) || before.ID == "", "approved after the deadline")
	case approvals.EventEscalated:
		l.tiers[*e.Data.Stage] = e.Data.Number
		l.require(e.At.Before(before.ExpiresAt), "escalated after the deadline")
	case approvals.EventReminded:
		l.require(e.At.Before(before.ExpiresAt) && e.Data.Number > before.Reminders, "late or repeated reminder")
	case approvals.EventExecuting:
		l.judgeSend(before, e)
	}
}

func (l *life) judgeVote(before approvals.Ticket, e approvals.Event) {
	d := *e.Data.Decision
	l.require(l.now.Before(before.ExpiresAt), "decided after the deadline")
	l.require(d.Digest == before.Digest, "a vote on something else was accepted")
	l.require(!l.isAsker(d.Person), "the requester voted")
	l.require(!slices.ContainsFunc(l.votes, func(b ballot) bool { return b.person == d.Person }), "%s voted twice", d.Person)
	eligible := slices.ContainsFunc(places(l.plan.Stages[d.Stage], l.tiers[d.Stage]), func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return allowed(n, d.Person, l.dir) })
	})
	l.require(eligible && d.Stage == before.Stage, "%s is no approver of stage %d", d.Person, d.Stage)
	have := before.Tally(d.Stage, l.dir)
	l.votes = append(l.votes, ballot{person: d.Person, stage: d.Stage, yes: d.Verdict == approvals.Approve, digest: d.Digest})
	if d.Verdict == approvals.Approve && !have.Met() {
		l.require(e.Data.Tally.Have == have.Have+1, "the vote of %s was wasted: %d after %d", d.Person, e.Data.Tally.Have, have.Have)
	}
}

// judgeSend is the heart of the matter: nothing is sent without every quorum.
func (l *life) judgeSend(before approvals.Ticket, e approvals.Event) {
	for i := range l.plan.Stages {
		l.require(l.met(i), "sent without the quorum of stage %d", i)
	}
	for _, b := range l.votes {
		l.require(b.digest == e.Data.Digest, "sent something that %s did not see", b.person)
	}
	l.require(l.now.Before(before.ExecuteBy), "sent after execute_by")
	l.require(before.CancelRequestedAt.IsZero(), "sent again after a cancel")
	l.require(e.Data.Worker == before.Worker && before.Worker != "", "sent without a claim")
	l.sends++
	l.require(l.sends == 1 || l.plan.Idempotent, "sent %d times", l.sends)
	l.began[e.Data.Epoch] = true
	l.require(len(l.began) <= approvals.MaxEpochs, "sent under %d epochs", len(l.began))
}

func (l *life) isAsker(who string) bool { return asker(who, l.behalf, l.ticketPlan().Excluded, l.dir) }

func (l *life) ticketPlan() approvals.Plan {
	if l.ticket.ID == "" {
		return l.plan
	}
	return l.ticket.Plan
}

// voters are those whose yes counts for a stage today.
func (l *life) voters(stage int) []string {
	var out []string
	for _, b := range l.votes {
		if b.stage == stage && b.yes && !l.isAsker(b.person) {
			out = append(out, b.person)
		}
	}
	return out
}

func (l *life) met(stage int) bool {
	seats := places(l.plan.Stages[stage], l.tiers[stage])
	return most(seats, l.voters(stage), l.dir) == len(seats)
}

// judgeEffects keeps the book of timers, executions and deliveries.
func (l *life) judgeEffects(before approvals.Ticket, tr approvals.Transition) {
	timers := 0
	for _, e := range tr.Effects {
		var at time.Time
		switch e := e.(type) {
		case approvals.RemindAt:
			at = e.At
		case approvals.EscalateAt:
			at = e.At
		case approvals.ExpireAt:
			at = e.At
		case approvals.Execute:
			l.jobs++
			continue
		case approvals.Deliver:
			if e.At.IsZero() {
				l.owed[e.Seq]++
			}
			continue
		default:
			continue
		}
		timers++
		l.armed = append(l.armed, e)
		l.require(at.Equal(tr.Ticket.WakeAt), "armed for %s, due %s", at, tr.Ticket.WakeAt)
	}
	l.require(timers <= 1, "%d timers armed at once", timers)
	if !tr.Ticket.WakeAt.IsZero() && !tr.Ticket.WakeAt.Equal(before.WakeAt) {
		l.require(timers == 1, "due at %s and nothing armed", tr.Ticket.WakeAt)
	}
	for _, e := range tr.Events {
		want := 0
		if tr.Ticket.Callback != nil && (slices.Contains(tr.Ticket.Callback.Events, e.Type) || ends(e.Type)) {
			want = 1
		}
		l.require(l.owed[e.Seq] == want, "%d deliveries of %s, want %d", l.owed[e.Seq], e.Type, want)
		if e.Type == approvals.EventClaimed {
			l.jobs = 0
		}
	}
}

func ends(e approvals.EventType) bool {
	return slices.Contains([]approvals.EventType{
		approvals.EventSucceeded, approvals.EventFailed, approvals.EventOutcomeUnknown, approvals.EventResolved,
		approvals.EventDenied, approvals.EventExpired, approvals.EventCancelled,
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
	l.require(t.Paused >= 0 && t.Refusals <= approvals.MaxRefusals, "bounds")
	l.require((t.CallbackState == approvals.CallbackNone) == (t.Callback == nil), "callback is %s", t.CallbackState)
	if waits {
		l.require(slices.ContainsFunc(l.armed, func(e approvals.Effect) bool {
			_, err := fire(t, e, l.dir, t.WakeAt)
			return err == nil
		}), "%s and no timer is running", t.State)
	}
	if t.Worker == "" && (t.State == approvals.Approved || t.State == approvals.Executing) {
		l.require(l.jobs > 0, "%s, unclaimed and nobody will execute", t.State)
	}
	for i := range l.plan.Stages {
		seats := places(l.plan.Stages[i], l.tiers[i])
		tally := t.Tally(i, l.dir)
		l.require(tally.Have == most(seats, l.voters(i), l.dir) && tally.Needed == len(seats), "tally of stage %d: %+v", i, tally)
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
		l.require(string(asJSON(t)) == string(l.pastJSON[i]), "a verb changed the ticket it was called on")
	}
	var reread []approvals.Event
	if err := json.Unmarshal(asJSON(l.events), &reread); err != nil {
		l.fatalf("events do not survive JSON: %v", err)
	}
	l.require(string(asJSON(l.replay(l.events))) == string(asJSON(l.ticket)), "the events do not fold into the ticket")
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
