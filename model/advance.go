package model

import (
	"fmt"

	"countersign/approvals"
)

// call is a verb in a scene. Verbs are pure, so that the answer to each is needed once.
type call struct {
	verb        string
	ticket, old int32
	who         string
	epoch       int8
	clock       int8
	policy      int8
	gone        bool
}

// answer is what Advance made of a call: the ticket after it, if it was changed, and
// whether the verb was refused.
type answer struct {
	ticket  int32
	changed bool
	refused bool
	wrong   string
}

// stale is the verb of a mutant, which is called on what was read before.
const stale = "a stale approve"

type verb func(t approvals.Ticket, s scene) (approvals.Transition, error)

// advance is what db.Store.Advance does: it locks the ticket, calls the verb and commits what it
// returns, all in one step.
func (e *explorer) advance(w world, name, who string, epoch int8, do verb) answer {
	key := call{name, w.ticket, w.old, who, epoch, w.clock, w.policy, w.gone}
	if got, known := e.memory[key]; known {
		return got
	}
	got := e.commit(w, name, who, epoch, do)
	if got.wrong != "" {
		got.wrong = name + ": " + got.wrong
	}
	e.memory[key] = got
	return got
}

func (e *explorer) commit(w world, name, who string, epoch int8, do verb) answer {
	before := e.tickets[w.ticket]
	read := before
	if name == stale {
		read = e.tickets[w.old]
	}
	c := e.machine.config
	tr, err := do(read, scene{at(w.clock), people(w.gone), today(c, w.policy)})
	if tr.Empty() {
		return answer{ticket: w.ticket, refused: err != nil}
	}
	tr = e.machine.store(before, tr)
	wrong := gaps(before, tr)
	if wrong == "" {
		wrong = judge(w, before, tr, who, epoch)
	}
	return answer{ticket: e.number(tr.Ticket), changed: true, refused: err != nil, wrong: wrong}
}

// judge says what is wrong with a change of the ticket, "" when nothing is.
func judge(w world, before approvals.Ticket, tr approvals.Transition, who string, epoch int8) string {
	after := tr.Ticket
	doubt := before.State == approvals.OutcomeUnknown && (after.State == approvals.Succeeded || after.State == approvals.Failed)
	// Whether those who said yes are still there is for the claim and the door to ask.
	switch missing := lacks(after, 0, false); {
	case before.State.Final() && after.State != before.State && !doubt:
		return fmt.Sprintf("an end that was %s is now %s", before.State, after.State)
	case after.State == approvals.Approved && before.State.Open() && missing != "":
		return "approved, and " + missing
	}
	for _, event := range tr.Events {
		if wrong := judgeEvent(w, before, event, who, epoch); wrong != "" {
			return wrong
		}
	}
	return ""
}

func judgeEvent(w world, before approvals.Ticket, e approvals.Event, who string, epoch int8) string {
	switch e.Type { //nolint:exhaustive // those that say what a worker does
	case approvals.EventExecuting:
		if missing := lacks(before, w.policy, w.gone); missing != "" {
			return "the door opened, and " + missing
		}
		if now := at(w.clock); !now.Before(before.ExecuteBy) || now.Before(before.NotBefore) {
			return "the door opened too late or too early"
		}
	case approvals.EventSucceeded, approvals.EventClaimReleased, approvals.EventResolved:
		if who == "sweeper" {
			return ""
		}
	default:
		return ""
	}
	if e.Actor.Name != who || e.Data.Epoch != 0 && e.Data.Epoch != int64(epoch) {
		return fmt.Sprintf("%s is recorded for %s under claim %d, and %s did it under claim %d", e.Type, e.Actor.Name, e.Data.Epoch, who, epoch)
	}
	return ""
}
