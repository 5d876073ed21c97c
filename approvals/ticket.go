package approvals

import (
	"maps"
	"slices"
	"time"
)

// Ticket is one privileged call and its life. The zero time stands for "not yet".
// Tickets are values: verbs return what comes next and leave their receiver alone.
type Ticket struct {
	ID            string
	Caller        string
	OnBehalfOf    string
	Call          Call
	Digest        string
	Justification string
	Metadata      map[string]string
	Callback      *Callback
	// Plan is what must be met: as frozen at submit, with whom later tiers asked and what a
	// stricter policy has added since.
	Plan      Plan
	CreatedAt time.Time
	ExpiresAt time.Time
	// NotBefore is when the call may be made at the earliest; zero: at once.
	NotBefore time.Time
	// Supersedes is the ticket that this one took the place of, SupersededBy the one that
	// took the place of this one.
	Supersedes   string
	SupersededBy string

	// Version counts the events; it is the Seq of the latest.
	Version   int64
	State     State
	UpdatedAt time.Time
	// Stage is the index of the current stage, Tiers the number of escalation tiers
	// fired per stage, Reminders the number of the latest in the current stage.
	Stage      int
	StageSince time.Time
	// Paused is how long questions have held up the current stage's timers; PausedHours
	// counts only the stage's hours of work.
	Paused      time.Duration
	PausedHours time.Duration
	Tiers       []int
	Reminders   int
	// WakeAt is when the next timer is due, zero when none is.
	WakeAt    time.Time
	Decisions []Decision
	Question  *Question
	// Questions counts those asked so far.
	Questions int
	// Stalled says why nobody can complete the ticket as things stand; nil when they can.
	Stalled *Stall

	ApprovedAt time.Time
	ExecuteBy  time.Time
	// ReleasedAt is when NotBefore was found to have come.
	ReleasedAt time.Time
	// Epoch counts claims. Worker holds the current one, "" when unclaimed.
	Epoch              int64
	Worker             string
	ExecutionStartedAt time.Time
	FinishedAt         time.Time
	CancelRequestedAt  time.Time
	Result             *ResultSummary
	Problem            *Problem

	CallbackState CallbackState
	// CallbackSeq is the event whose delivery CallbackState speaks of.
	CallbackSeq int64
	Refusals    int
	// Viewers are the people who have been shown the whole call, in the order in which they
	// were; at most [MaxViewers].
	Viewers []string
}

// Transition is what a verb decided: the events, the ticket after them, and what must
// happen next. The zero Transition changes nothing and is not committed.
type Transition struct {
	Ticket  Ticket
	Events  []Event
	Effects []Effect
	// Result carries the upstream's answer to be stored beside the ticket.
	Result *Result
}

// Empty reports whether there is nothing to commit.
func (tr Transition) Empty() bool { return len(tr.Events) == 0 }

// change collects events while a verb runs; each is applied at once, so that later
// steps of the verb see its consequences.
type change struct {
	ticket  Ticket
	actor   Actor
	now     time.Time
	events  []Event
	effects []Effect
	// armed says that the ticket's timer has to be set again, once, when the verb is done.
	armed bool
}

func (t Ticket) change(actor Actor, now time.Time) *change {
	return &change{ticket: t, actor: actor, now: instant(now)}
}

// instant is a time as the database keeps it. A finer one would come back different and
// change the digest.
func instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// record appends an event and folds it into the ticket. A callback that asked for the
// event is scheduled with it.
func (c *change) record(typ EventType, state State, data Data) {
	e := Event{
		TicketID: c.ticket.ID, Seq: c.ticket.Version + 1, Type: typ,
		At: c.now, Actor: c.actor, State: state, Data: data,
	}
	c.ticket = c.ticket.apply(e)
	c.events = append(c.events, e)
	if c.ticket.Callback.wants(typ) {
		c.then(Deliver{TicketID: c.ticket.ID, Seq: e.Seq})
	}
}

func (c *change) then(effects ...Effect) { c.effects = append(c.effects, effects...) }

// notify tells people about the latest event.
func (c *change) notify() { c.then(Notify{TicketID: c.ticket.ID, Seq: c.ticket.Version}) }

// updateCard renders the cards again, once however much the verb has changed.
func (c *change) updateCard() {
	if e := (UpdateCard{TicketID: c.ticket.ID}); !slices.Contains(c.effects, Effect(e)) {
		c.then(e)
	}
}

func (c *change) done() Transition {
	if e := c.ticket.next(); c.armed && e != nil {
		c.then(e)
	}
	return Transition{Ticket: c.ticket, Events: c.events, Effects: c.effects}
}

// apply folds one event into the ticket. It is the only code that changes a ticket and
// must not depend on anything but the two.
func (t Ticket) apply(e Event) Ticket {
	t.Version, t.State, t.UpdatedAt = e.Seq, e.State, e.At
	if e.Type.final() && t.Callback != nil {
		t.CallbackState, t.CallbackSeq = CallbackPending, e.Seq
	}
	if e.State.Final() && t.FinishedAt.IsZero() {
		t.FinishedAt = e.At
	}
	switch e.Type {
	case EventCreated:
		t = t.applyCreated(e)
	case EventDecided:
		t.Decisions = append(slices.Clone(t.Decisions), *e.Data.Decision)
	case EventGlassBroken:
		t.Decisions = append(slices.Clone(t.Decisions), *e.Data.Decision)
	case EventStageCompleted:
		t = t.enterStage(*e.Data.Stage+1, e.At)
	case EventApproved:
		t.ApprovedAt, t.ExecuteBy, t.Question, t.Stalled = e.At, *e.Data.ExecuteBy, nil, nil
	case EventReopened:
		t = t.enterStage(*e.Data.Stage, e.At)
		t.ApprovedAt, t.ExecuteBy, t.Worker = time.Time{}, time.Time{}, ""
		t.Plan.Reopened++
	case EventTightened:
		t = t.applyTightened(e)
	case EventReleased:
		t.ReleasedAt = e.At
	case EventQuestionAsked:
		t.Question = e.Data.Question
		t.Questions++
	case EventAnswered:
		t.Paused += span(nil, t.Question.AskedAt, e.At)
		t.PausedHours += span(t.Plan.Stages[t.Stage].Hours, t.Question.AskedAt, e.At)
		t.Question = nil
	case EventReminded:
		t.Reminders = e.Data.Number
	case EventEscalated:
		t = t.applyEscalated(e)
	case EventStalled:
		t.Stalled = &Stall{Reason: e.Data.Reason, Since: e.At}
	case EventUnstalled:
		t.Stalled = nil
	case EventClaimed:
		t.Epoch, t.Worker = e.Data.Epoch, e.Data.Worker
	case EventClaimReleased:
		t.Worker = ""
	case EventExecuting:
		t.ExecutionStartedAt = e.At
	case EventSucceeded, EventFailed, EventOutcomeUnknown, EventResolved:
		t.Worker, t.Result, t.Problem = "", e.Data.Result, e.Data.Problem
	case EventDenied, EventExpired, EventCancelled:
		t.Worker, t.Problem, t.Question, t.Stalled = "", e.Data.Problem, nil, nil
		t.SupersededBy = e.Data.SupersededBy
	case EventCancelRequested:
		t.CancelRequestedAt = e.At
	case EventRefused:
		t.Refusals++
	case EventCallbackDelivered, EventCallbackFailed, EventCallbackExhausted:
		t = t.applyDelivery(e)
	case EventRedeliveryRequested:
		if e.Data.Delivery.Seq == t.CallbackSeq {
			t.CallbackState = CallbackPending
		}
	case EventViewed:
		t.Viewers = append(slices.Clone(t.Viewers), e.Data.Viewing.Person)
	case EventNotified:
	}
	t.WakeAt = t.wakeAt()
	return t
}

func (t Ticket) applyCreated(e Event) Ticket {
	c := e.Data.Created
	t.ID, t.CreatedAt = e.TicketID, e.At
	t.Caller, t.OnBehalfOf, t.Digest = c.Caller, c.OnBehalfOf, c.Digest
	t.Justification, t.Metadata, t.Callback = c.Justification, maps.Clone(c.Metadata), c.Callback
	t.Call.Upstream, t.Call.Method, t.Call.Path, t.Call.Query = c.Upstream, c.Method, c.Path, c.Query
	t.Plan, t.ExpiresAt, t.NotBefore, t.Supersedes = c.Plan, c.ExpiresAt, c.NotBefore, c.Supersedes
	t.Tiers = make([]int, len(c.Plan.Stages))
	t.CallbackState = CallbackNone
	if c.Callback != nil {
		t.CallbackState = CallbackPending
	}
	return t.enterStage(0, e.At)
}

// applyEscalated counts the tier, and adds those it asks to the roster.
func (t Ticket) applyEscalated(e Event) Ticket {
	t.Tiers = slices.Clone(t.Tiers)
	t.Tiers[*e.Data.Stage] = e.Data.Number
	if e.Data.Roster != nil || e.Data.Delegates != nil {
		t.Plan.Roster, t.Plan.Delegates = e.Data.Roster, e.Data.Delegates
	}
	return t
}

// applyTightened appends what today's policy demands besides.
func (t Ticket) applyTightened(e Event) Ticket {
	t = t.amended(*e.Data.Amendment)
	t.ApprovedAt, t.ExecuteBy, t.Worker = time.Time{}, time.Time{}, ""
	return t.enterStage(*e.Data.Stage, e.At)
}

func (t Ticket) amended(a Amendment) Ticket {
	t.Plan.Stages = append(slices.Clone(t.Plan.Stages), a.Stages...)
	t.Plan.Round, t.Plan.Roster, t.Plan.Delegates = a.Round, a.Roster, a.Delegates
	t.Plan.Excluded, t.Plan.Redact = a.Excluded, a.Redact
	t.Plan.Distinct, t.Plan.BreakGlass = a.Distinct, a.BreakGlass
	t.Plan.Live, t.Plan.Confirm = a.Live, a.Confirm
	t.Plan.PolicyDigest = a.PolicyDigest
	t.Tiers = append(slices.Clone(t.Tiers), make([]int, len(a.Stages))...)
	return t
}

func (t Ticket) enterStage(n int, at time.Time) Ticket {
	t.Stage, t.StageSince, t.Paused, t.PausedHours, t.Reminders, t.Question = n, at, 0, 0, 0, nil
	return t
}

func (t Ticket) tiersOf(stage int) int {
	if stage >= len(t.Tiers) {
		return 0
	}
	return t.Tiers[stage]
}

// Done reports whether the ticket is final.
func (t Ticket) Done() bool { return t.State.Final() }

// refused records a refusal, if there is room for one more, and returns it as the
// error. The number is bounded so that nobody can grow a ticket by knocking.
func (t Ticket) refused(actor Actor, tried string, why *Error, now time.Time) (Transition, error) {
	if t.Refusals >= MaxRefusals {
		return Transition{}, why
	}
	c := t.change(actor, now)
	c.record(EventRefused, t.State, Data{Refusal: &Refusal{
		Tried: tried, Code: why.Code, Message: why.Message, Last: t.Refusals == MaxRefusals-1,
	}})
	return c.done(), why
}

// MaxRefusals is how many refusals a ticket records.
const MaxRefusals = 100

// Replay folds events, in order, into a ticket. It is what an auditor does; the bytes
// of headers and bodies are not in the events and stay empty.
func Replay(events []Event) Ticket {
	var t Ticket
	for _, e := range events {
		t = t.apply(e)
	}
	return t
}
