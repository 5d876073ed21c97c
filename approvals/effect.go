package approvals

import "time"

// Effect is what must happen next because of a transition. The outbox turns what is due
// into jobs, in the same transaction as the events; a timer with an hour of its own waits
// in the ticket's WakeAt, committed with them, and becomes a job then. Effects carry ids
// only: whoever acts on one reads the ticket again first.
//
//sumtype:decl
type Effect interface{ effect() }

type (
	// Notify tells people about an event: a new card for a stage, or a note in its
	// thread. Seq says which event.
	Notify struct {
		TicketID string
		Seq      int64
	}
	// UpdateCard renders every card of the ticket again from its present state.
	UpdateCard struct{ TicketID string }
	// RemindAt wakes the ticket for the Number-th reminder of a stage.
	RemindAt struct {
		TicketID      string
		Stage, Number int
		At            time.Time
	}
	// EscalateAt wakes the ticket for a tier, counted from 1, of a stage.
	EscalateAt struct {
		TicketID    string
		Stage, Tier int
		At          time.Time
	}
	// ExpireAt wakes the ticket at its present deadline.
	ExpireAt struct {
		TicketID string
		At       time.Time
	}
	// ReleaseAt wakes an approved ticket when its call may be made.
	ReleaseAt struct {
		TicketID string
		At       time.Time
	}
	// Execute makes the upstream call. At is zero for now.
	Execute struct {
		TicketID string
		At       time.Time
	}
	// Deliver posts the callback for the event Seq. At is zero for now.
	Deliver struct {
		TicketID string
		Seq      int64
		At       time.Time
	}
)

func (Notify) effect()     {}
func (UpdateCard) effect() {}
func (RemindAt) effect()   {}
func (EscalateAt) effect() {}
func (ExpireAt) effect()   {}
func (ReleaseAt) effect()  {}
func (Execute) effect()    {}
func (Deliver) effect()    {}
