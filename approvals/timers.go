package approvals

import "time"

// MaxReminders bounds the reminders of one stage.
const MaxReminders = 20

// next returns the one timer that is due first, or nil. Only the first is ever armed;
// when it fires it arms the one after it, so that a ticket waits on one time however
// many tiers it has.
func (t Ticket) next() Effect {
	switch t.State { //nolint:exhaustive // final tickets and those being executed have no timer
	case Pending:
		return t.nextPending()
	case NeedsInfo:
		return ExpireAt{TicketID: t.ID, At: t.ExpiresAt}
	case Approved:
		if t.held() {
			return ReleaseAt{TicketID: t.ID, At: t.NotBefore}
		}
		return ExpireAt{TicketID: t.ID, At: t.ExecuteBy}
	default:
		return nil
	}
}

func (t Ticket) nextPending() Effect {
	var first Effect = ExpireAt{TicketID: t.ID, At: t.ExpiresAt}
	at := t.ExpiresAt
	if t.Stage >= len(t.Plan.Stages) {
		return first
	}
	if due, ok := t.remindDue(); ok && due.Before(at) {
		first, at = RemindAt{TicketID: t.ID, Stage: t.Stage, Number: t.Reminders + 1, At: due}, due
	}
	if due, ok := t.escalateDue(); ok && due.Before(t.ExpiresAt) && !due.After(at) {
		first = EscalateAt{TicketID: t.ID, Stage: t.Stage, Tier: t.tiersOf(t.Stage) + 1, At: due}
	}
	return first
}

// due is when the current stage has waited so long, questions not counted: in its hours of
// work, or by the clock on the wall.
func (t Ticket) due(after time.Duration, wall bool) (time.Time, bool) {
	if hours := t.Plan.Stages[t.Stage].Hours; len(hours) > 0 && !wall {
		return reached(hours, t.StageSince, t.PausedHours+after)
	}
	return t.StageSince.Add(t.Paused + after), true
}

func (t Ticket) remindDue() (time.Time, bool) { return t.reminderDue(t.Reminders + 1) }

// reminderDue is when the number-th reminder of the current stage is due.
func (t Ticket) reminderDue(number int) (time.Time, bool) {
	s := t.Plan.Stages[t.Stage]
	if s.RemindEvery <= 0 || number > MaxReminders {
		return time.Time{}, false
	}
	return t.due(s.remindAfter(number), false)
}

// longest bounds a wait for a reminder where its rule does not: beyond the life of any
// ticket, and small enough for sums of it to be times.
const longest = 1000 * time.Hour

// remindAfter is how long after the beginning of the stage the number-th reminder comes:
// after waits each of which is the backoff times the one before, up to the longest.
func (s Stage) remindAfter(number int) (sum time.Duration) {
	wait, most := min(s.RemindEvery, longest), longest
	if s.RemindMax > 0 {
		most = max(min(most, s.RemindMax), wait)
	}
	backoff := time.Duration(max(s.RemindBackoff, 1))
	for range number {
		sum += wait
		if wait > most/backoff { // multiplied it could be beyond all numbers
			wait = most
		} else {
			wait *= backoff
		}
	}
	return sum
}

// remindersDue is how many reminders of the current stage are due by now.
func (t Ticket) remindersDue(now time.Time) int {
	n := t.Reminders
	for {
		due, ok := t.reminderDue(n + 1)
		if !ok || now.Before(due) {
			return n
		}
		n++
	}
}

func (t Ticket) escalateDue() (time.Time, bool) {
	tiers := t.Plan.Stages[t.Stage].Escalate
	fired := t.tiersOf(t.Stage)
	if fired >= len(tiers) {
		return time.Time{}, false
	}
	return t.due(tiers[fired].After, tiers[fired].OffHours)
}

func (t Ticket) wakeAt() time.Time {
	switch e := t.next().(type) {
	case RemindAt:
		return e.At
	case EscalateAt:
		return e.At
	case ExpireAt:
		return e.At
	case ReleaseAt:
		return e.At
	case nil, Notify, UpdateCard, Execute, Deliver:
	}
	return time.Time{}
}

// arm schedules the ticket's next timer: the one that is next when the verb is done.
func (c *change) arm() { c.armed = true }

var timer = Actor{Kind: ActorTimer, Name: "timer", Via: "job"}

// Remind records the number-th reminder of a stage, or a later one when that is due as
// well: an outage is made up for by one reminder, not by a burst. A reminder for what
// has moved on is CodeConflict and changes nothing; one that comes early is CodeNotDue;
// one that comes after the deadline expires the ticket.
func (t Ticket) Remind(stage, number int, now time.Time) (Transition, error) {
	if t.State != Pending || t.Stage != stage || t.Reminders+1 != number {
		return Transition{}, refuse(CodeConflict, "the reminder is no longer needed")
	}
	due, ok := t.remindDue()
	if !ok {
		return Transition{}, refuse(CodeConflict, "no reminder is planned")
	}
	if !now.Before(t.ExpiresAt) {
		return t.Expire(now)
	}
	if now.Before(due) {
		return Transition{}, notDue(due)
	}
	c := t.change(timer, now)
	c.record(EventReminded, Pending, Data{Stage: &stage, Number: t.remindersDue(now)})
	c.notify()
	c.arm()
	return c.done(), nil
}

// Escalate fires a tier, counted from 1, of a stage: the people it names may now decide
// as well, or instead. Errors as for Remind.
func (t Ticket) Escalate(stage, tier int, dir Directory, now time.Time) (Transition, error) {
	if t.State != Pending || t.Stage != stage || t.tiersOf(stage)+1 != tier {
		return Transition{}, refuse(CodeConflict, "the escalation is no longer needed")
	}
	due, ok := t.escalateDue()
	if !ok {
		return Transition{}, refuse(CodeConflict, "no escalation is planned")
	}
	if !now.Before(t.ExpiresAt) {
		return t.Expire(now)
	}
	if now.Before(due) {
		return Transition{}, notDue(due)
	}
	c := t.change(timer, now)
	fired := t.Plan.Stages[stage].Escalate[tier-1]
	dir = dir.At(c.now)
	c.escalate(dir, "no decision after "+fired.After.String())
	c.settle(dir) // votes that did not count before may count now
	c.reassess(dir)
	c.arm()
	return c.done(), nil
}

// escalate fires the next tier of the current stage, whose names are resolved now.
func (c *change) escalate(dir Directory, reason string) {
	stage := c.ticket.Stage
	tier := c.ticket.tiersOf(stage) + 1
	fired := c.ticket.Plan.Stages[stage].Escalate[tier-1]
	data := Data{Stage: &stage, Number: tier, Tier: &fired, Reason: reason}
	asks := c.ticket
	if asks.Plan.frozen() {
		data.Roster, data.Delegates = asks.Plan.enrol(dir, fired.names(), asks.Plan.Live)
		asks.Plan.Roster, asks.Plan.Delegates = data.Roster, data.Delegates
	}
	data.Asked = Names(asks.standing(dir).bodies(fired.names(), asks.self(dir), nil))
	c.record(EventEscalated, c.ticket.State, data)
	c.notify()
	c.updateCard()
}

// Expire closes a ticket whose deadline has passed: undecided, or approved and not
// begun. A ticket that has moved on is CodeConflict, an early timer CodeNotDue.
func (t Ticket) Expire(now time.Time) (Transition, error) {
	deadline, problem := t.ExpiresAt, Problem{Code: "expired", Detail: "nobody decided in time"}
	switch {
	case t.State == Approved:
		deadline, problem = t.ExecuteBy, Problem{Code: "approval_stale", Detail: "approved, but not begun in time"}
	case !t.State.Open():
		return Transition{}, refuse(CodeConflict, "the ticket is %s", t.State)
	}
	if now.Before(deadline) {
		return Transition{}, notDue(deadline)
	}
	c := t.change(timer, now)
	c.record(EventExpired, Expired, Data{Problem: &problem})
	c.updateCard()
	return c.done(), nil
}

// Wake does whatever timer is due, for a sweeper that finds a ticket overdue because
// its job was lost. CodeConflict when the ticket has no timer, CodeNotDue when it has
// one that is not due.
func (t Ticket) Wake(dir Directory, now time.Time) (Transition, error) {
	if (t.State.Open() && !now.Before(t.ExpiresAt)) || (t.State == Approved && !t.held()) {
		return t.Expire(now)
	}
	switch e := t.next().(type) {
	case RemindAt:
		return t.Remind(e.Stage, e.Number, now)
	case EscalateAt:
		return t.Escalate(e.Stage, e.Tier, dir, now)
	case ExpireAt:
		return t.Expire(now)
	case ReleaseAt:
		return t.Release(now)
	case nil, Notify, UpdateCard, Execute, Deliver:
	}
	return Transition{}, refuse(CodeConflict, "no timer is running")
}

// Cancel withdraws the call. Before anything was sent it ends the ticket, even when a
// worker has claimed it; while executing it is noted and the ticket ends as what really
// happened; a second cancel changes nothing. CodeAlreadyFinal otherwise.
func (t Ticket) Cancel(actor Actor, reason string, now time.Time) (Transition, error) {
	if err := checkText("the reason", reason, MaxComment); err != nil {
		return Transition{}, err
	}
	c := t.change(actor, now)
	switch t.State {
	case Pending, NeedsInfo, Approved:
		c.record(EventCancelled, Cancelled, Data{Reason: reason, Problem: &Problem{Code: "cancelled", Detail: withdrawn(reason)}})
		c.updateCard()
	case Executing:
		if t.CancelRequestedAt.IsZero() {
			c.record(EventCancelRequested, Executing, Data{Reason: reason})
		}
	case Cancelled:
	case Succeeded, Failed, OutcomeUnknown, Denied, Expired:
		return Transition{}, refuse(CodeAlreadyFinal, "the ticket is already %s", t.State)
	}
	return c.done(), nil
}

// withdrawn says how a call that was cancelled ended, and why where that was said.
func withdrawn(reason string) string {
	if reason == "" {
		return "withdrawn by the caller"
	}
	return "withdrawn by the caller: " + reason
}

func notDue(at time.Time) *Error {
	e := refuse(CodeNotDue, "not due before %s", at.UTC().Format(time.RFC3339Nano))
	e.DueAt = at
	return e
}
