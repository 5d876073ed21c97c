package model

import (
	"fmt"
	"time"

	"countersign/approvals"
)

// machine is what works on the ticket. Its fields are the verbs and habits that a mutant
// may get wrong.
type machine struct {
	config Config
	// today's plan and people at the moment of a verb.
	claim    func(t approvals.Ticket, worker string, s scene) (approvals.Transition, error)
	begin    func(t approvals.Ticket, epoch int64, worker string, s scene) (approvals.Transition, error)
	finish   func(t approvals.Ticket, epoch int64, worker string, o approvals.Outcome, s scene) (approvals.Transition, error)
	abandon  func(t approvals.Ticket, epoch int64, s scene) (approvals.Transition, error)
	escalate func(t approvals.Ticket, s scene) (approvals.Transition, error)
	expire   func(t approvals.Ticket, s scene) (approvals.Transition, error)
	cancel   func(t approvals.Ticket, s scene) (approvals.Transition, error)
	// store is what Advance keeps of a transition.
	store func(before approvals.Ticket, tr approvals.Transition) approvals.Transition
	// early: the call is sent before the door is tried.
	early bool
	// skip: a job that is delivered again goes on with the claim it finds.
	skip bool
	// hope: a commit at the door whose fate is unknown counts as done.
	hope bool
	// lost: bo's verdict is made of what was read before, and written without looking.
	lost bool
	// blind: the sweeper does not see the claims of those who have begun.
	blind bool
}

// scene is when, and under which policy and people, a verb is called.
type scene struct {
	now   time.Time
	dir   approvals.Directory
	today approvals.Plan
}

func newMachine(c Config) *machine {
	m := &machine{config: c}
	m.claim = func(t approvals.Ticket, worker string, s scene) (approvals.Transition, error) {
		return t.Claim(worker, s.dir, s.today, s.now)
	}
	m.begin = func(t approvals.Ticket, epoch int64, worker string, s scene) (approvals.Transition, error) {
		return t.BeginExecution(epoch, worker, t.Digest, s.dir, s.today, s.now)
	}
	m.finish = func(t approvals.Ticket, epoch int64, worker string, o approvals.Outcome, s scene) (approvals.Transition, error) {
		return t.FinishExecution(epoch, worker, o, s.now)
	}
	m.abandon = func(t approvals.Ticket, epoch int64, s scene) (approvals.Transition, error) {
		return t.Abandon(epoch, s.now)
	}
	m.escalate = func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return t.Escalate(0, 1, s.dir, s.now)
	}
	m.expire = func(t approvals.Ticket, s scene) (approvals.Transition, error) { return t.Expire(s.now) }
	m.cancel = func(t approvals.Ticket, s scene) (approvals.Transition, error) {
		return t.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "bot"}, "", s.now)
	}
	m.store = func(_ approvals.Ticket, tr approvals.Transition) approvals.Transition { return tr }
	if c.Mutant != nil {
		c.Mutant.apply(m)
	}
	return m
}

func decide(t approvals.Ticket, who string, v approvals.Verdict, s scene) (approvals.Transition, error) {
	return t.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: who}, approvals.Decision{
		Person: who, Verdict: v, Stage: t.Stage, Digest: t.Digest, Comment: "so be it",
	}, s.dir, s.now)
}

// view is ana being shown the whole call.
func view(t approvals.Ticket, s scene) (approvals.Transition, error) {
	return t.View(approvals.Actor{Kind: approvals.ActorPerson, Name: "ana"}, approvals.Viewing{
		Person: "ana", Digest: t.Digest, Pages: 1,
	}, s.dir, s.now)
}

func outcome(p place) approvals.Outcome {
	switch p { //nolint:exhaustive // only these three are outcomes
	case answered:
		return approvals.Outcome{Kind: approvals.Answered, Success: true, Result: &approvals.Result{}}
	case unsent:
		return approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{Code: "unreachable"}}
	}
	return approvals.Outcome{Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "no_answer"}}
}

// gaps says what is wrong with the numbers of the events of a transition, "" when nothing.
func gaps(before approvals.Ticket, tr approvals.Transition) string {
	next := before.Version
	for _, e := range tr.Events {
		if next++; e.Seq != next {
			return fmt.Sprintf("event %d is written where %d was due", e.Seq, next)
		}
	}
	if tr.Ticket.Version != next {
		return fmt.Sprintf("the ticket is at version %d after event %d", tr.Ticket.Version, next)
	}
	return ""
}
