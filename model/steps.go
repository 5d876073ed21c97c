package model

import (
	"fmt"

	"countersign/approvals"
)

// next lists every step out of a state.
func (e *explorer) next(w world) []edge {
	e.out = e.out[:0]
	for i := range w.workers {
		e.work(w, i)
	}
	e.sweep(w)
	e.timers(w)
	e.people(w)
	if int(w.clock) < e.machine.config.Ticks {
		to := w
		to.clock++
		e.own("the clock ticks", to)
	}
	return e.out
}

func (e *explorer) own(label string, to world) { e.step(edge{label: label, to: to, own: true}) }

// step adds a step, after a look at where it leads.
func (e *explorer) step(s edge) {
	switch t := e.tickets[s.to.ticket]; {
	case s.wrong != "":
	case s.to.sends > 0 && (t.State == approvals.Cancelled || t.State == approvals.Expired || t.State == approvals.Denied || t.State == approvals.Failed):
		s.wrong = fmt.Sprintf("the ticket is %s, and the call was sent", t.State)
	case s.to.sends > 1 && !e.machine.config.Idempotent:
		s.wrong = "the call was sent twice"
	}
	e.out = append(e.out, s)
}

// after adds the step of a verb, unless it changes nothing.
func (e *explorer) after(label string, w world, got answer, own bool) {
	if got.changed {
		w.ticket = got.ticket
		e.step(edge{label: label, to: w, own: own, wrong: got.wrong})
	}
}

// work lists what a worker process may do or suffer next.
func (e *explorer) work(w world, i int) {
	p := w.workers[i]
	switch p.at {
	case idle:
		e.take(w, i)
	case claimed:
		e.door(w, i)
	case begun:
		e.send(w, i)
	case answered, unanswered, unsent:
		e.record(w, i)
	case dead:
		to := w
		to.workers[i] = process{life: p.life + 1}
		e.own(p.name(i)+" is started anew", to)
		return
	}
	if w.crashes > 0 && p.at != idle {
		to := w
		to.workers[i], to.crashes = process{at: dead, life: p.life}, w.crashes-1
		e.step(edge{label: p.name(i) + " dies", to: to})
	}
}

// take is the job of the ticket, delivered to a worker that is free: for the first time or
// once more.
func (e *explorer) take(w world, i int) {
	p, t := w.workers[i], e.tickets[w.ticket]
	if e.machine.skip && t.State == approvals.Approved && t.Worker != "" {
		to := w
		to.workers[i] = process{at: claimed, life: p.life, epoch: int8(t.Epoch)} //nolint:gosec // small
		e.own(p.name(i)+" goes on with the claim it finds", to)
	}
	got := e.advance(w, "claim", p.name(i), 0, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return e.machine.claim(t, p.name(i), s)
	})
	if !got.changed {
		return
	}
	to := w
	to.ticket = got.ticket
	if got.refused {
		e.step(edge{label: p.name(i) + " may not claim", to: to, own: true, wrong: got.wrong})
		return
	}
	if w.claims == 0 {
		return
	}
	to.claims--
	if w.faults > 0 {
		unseen := to
		unseen.faults--
		e.step(edge{label: p.name(i) + " claims, and does not learn of it", to: unseen, wrong: got.wrong})
	}
	to.workers[i] = process{at: claimed, life: p.life, epoch: int8(e.tickets[got.ticket].Epoch)} //nolint:gosec // small
	e.step(edge{label: p.name(i) + " claims", to: to, own: true, wrong: got.wrong})
}

// door is one try to commit the intent to send.
func (e *explorer) door(w world, i int) {
	p, m := w.workers[i], e.machine
	if m.early && !p.sent {
		e.call(w, i, p.name(i)+" sends before the door", claimed, true)
		return
	}
	if p.tried && e.passed(w, i) {
		to := w
		to.workers[i].at = begun
		e.own(p.name(i)+" finds that it has passed the door", to)
		return
	}
	got := e.advance(w, "begin", p.name(i), p.epoch, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return m.begin(t, int64(p.epoch), p.name(i), s)
	})
	to := w
	to.ticket = got.ticket
	if got.refused || !got.changed {
		to.workers[i] = process{life: p.life}
		e.step(edge{label: p.name(i) + " is refused at the door", to: to, own: true, wrong: got.wrong})
		return
	}
	if w.faults > 0 {
		e.uncertain(w, to, i)
	}
	to.workers[i].at, to.workers[i].passed = begun, true
	e.step(edge{label: p.name(i) + " passes the door", to: to, own: true, wrong: got.wrong})
}

// uncertain: the commit at the door is lost, or kept, and the process does not know which.
func (e *explorer) uncertain(w, kept world, i int) {
	for _, to := range []world{w, kept} {
		p := &to.workers[i]
		p.tried, p.passed = true, to == kept || p.passed
		if e.machine.hope {
			p.at = begun
		}
		to.faults--
		label := " tries the door, and nothing comes of it, unknown to it"
		if p.passed {
			label = " passes the door, and does not learn of it"
		}
		e.step(edge{label: p.name(i) + label, to: to})
	}
}

// passed is what a process can see: its own intent to send. An upstream that may be asked
// again has one from before as well, so that there the door is tried again.
func (e *explorer) passed(w world, i int) bool {
	p, t := w.workers[i], e.tickets[w.ticket]
	mine := t.State == approvals.Executing && t.Epoch == int64(p.epoch) && (t.Worker == p.name(i) || e.machine.skip)
	return mine && (!e.machine.config.Idempotent || p.epoch == 1)
}

// send is the call: answered, not answered, or provably not made.
func (e *explorer) send(w world, i int) {
	p := w.workers[i]
	e.call(w, i, p.name(i)+" sends, and is answered", answered, !p.sent)
	e.call(w, i, p.name(i)+" sends, and is not answered", unanswered, !p.sent)
	if !p.sent {
		to := w
		to.workers[i].at = unsent
		e.own(p.name(i)+" cannot reach the upstream", to)
	}
}

func (e *explorer) call(w world, i int, label string, then place, now bool) {
	p, t, wrong := w.workers[i], e.tickets[w.ticket], ""
	to := w
	to.workers[i].at, to.workers[i].sent = then, true
	if now {
		to.sends = min(w.sends+1, 2)
		if !p.passed {
			wrong = "the call was sent, and no intent to send it is recorded"
		}
		if t.State == approvals.Cancelled || t.State == approvals.Expired || t.State == approvals.Denied {
			wrong = "the call was sent after the ticket was " + string(t.State)
		}
	}
	e.step(edge{label: label, to: to, own: true, wrong: wrong})
}

// record is one try to write down what came of the call.
func (e *explorer) record(w world, i int) {
	p := w.workers[i]
	got := e.advance(w, "finish "+p.at.String(), p.name(i), p.epoch, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return e.machine.finish(t, int64(p.epoch), p.name(i), outcome(p.at), s)
	})
	to := w
	to.ticket = got.ticket
	if got.changed && w.faults > 0 {
		unseen := to
		unseen.faults--
		e.step(edge{label: p.name(i) + " records that it is " + p.at.String() + ", and does not learn of it", to: unseen, wrong: got.wrong})
	}
	to.workers[i] = process{life: p.life}
	e.step(edge{label: p.name(i) + " records that it is " + p.at.String(), to: to, own: true, wrong: got.wrong})
}

// sweep takes claims from workers that seem to be dead, rightly or wrongly. Between the
// look and the deed anything may happen.
func (e *explorer) sweep(w world) {
	t, to := e.tickets[w.ticket], w
	if w.seen == 0 {
		if t.Worker != "" && (!e.machine.blind || t.State != approvals.Executing) {
			to.seen = int8(t.Epoch) //nolint:gosec // small
			e.own("the sweeper sees a silent claim", to)
		}
		return
	}
	got := e.advance(w, "abandon", "sweeper", w.seen, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return e.machine.abandon(t, int64(w.seen), s)
	})
	to.seen, to.ticket = 0, got.ticket
	e.step(edge{label: "the sweeper takes the claim away", to: to, own: true, wrong: got.wrong})
}

// timers may fire at any time, late, early and more than once.
func (e *explorer) timers(w world) {
	for _, timer := range []struct {
		name string
		fire verb
	}{
		{"escalation", e.machine.escalate},
		{"expiry", e.machine.expire},
		{"release", func(t approvals.Ticket, s scene) (approvals.Transition, error) { return t.Release(s.now) }},
		{"a look again", func(t approvals.Ticket, s scene) (approvals.Transition, error) { return t.Reassess(s.dir, s.now) }},
	} {
		e.after("timer: "+timer.name, w, e.advance(w, timer.name, "timer", 0, timer.fire), true)
	}
}

// people decide, cancel, leave and change the policy.
func (e *explorer) people(w world) {
	for _, who := range []string{"ana", "bo", "fay"} {
		if who != "bo" || !e.machine.lost {
			e.vote(w, who, approvals.Approve)
		}
	}
	e.vote(w, "bo", approvals.Deny)
	if e.machine.config.Views {
		e.after("ana reads all of it", w, e.advance(w, "view", "ana", 0, view), false)
	}
	if e.machine.lost {
		e.lose(w)
	}
	if w.cancels > 0 {
		to := w
		to.cancels--
		e.after("the caller cancels", to, e.advance(w, "cancel", "bot", 0, e.machine.cancel), false)
	}
	if w.leaves > 0 {
		to := w
		to.gone, to.leaves = true, w.leaves-1
		e.step(edge{label: "ana leaves", to: to})
	}
	if w.reloads > 0 {
		to := w
		to.policy, to.reloads = 1, w.reloads-1
		e.step(edge{label: "the policy becomes stricter", to: to})
	}
}

func (e *explorer) vote(w world, who string, v approvals.Verdict) {
	got := e.advance(w, string(v), who, 0, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return decide(t, who, v, s)
	})
	if got.changed && !got.refused {
		e.after(who+" says "+string(v), w, got, false)
	}
}

// lose is a vote made of what was read a while ago, and written over what is there now.
func (e *explorer) lose(w world) {
	to := w
	if w.old < 0 {
		to.old = w.ticket
		e.step(edge{label: "bo's vote reads the ticket", to: to})
		return
	}
	got := e.advance(w, stale, "bo", 0, func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return decide(t, "bo", approvals.Approve, s)
	})
	to.old = -1
	e.after("bo's vote is written", to, got, false)
}
