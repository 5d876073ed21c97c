package approvals

import "time"

// Release records that the time has come from which an approved call may be made.
// CodeConflict when there is nothing to release, CodeNotDue before that time; past the
// time to make the call it expires the ticket.
func (t Ticket) Release(now time.Time) (Transition, error) {
	if !t.held() {
		return Transition{}, refuse(CodeConflict, "the ticket is %s and not held back", t.State)
	}
	if !now.Before(t.ExecuteBy) {
		return t.Expire(now)
	}
	if now.Before(t.NotBefore) {
		return Transition{}, notDue(t.NotBefore)
	}
	c := t.change(timer, now)
	c.record(EventReleased, Approved, Data{})
	c.then(Execute{TicketID: t.ID})
	c.arm()
	return c.done(), nil
}

// held reports whether an approved ticket waits for its hour.
func (t Ticket) held() bool {
	return t.State == Approved && t.NotBefore.After(t.ApprovedAt) && t.ReleasedAt.IsZero()
}

// Supersede closes a ticket whose place another one takes. Errors as for Cancel, but a
// call that is being made is CodeConflict: it cannot be replaced any more. by is that
// ticket's id.
func (t Ticket) Supersede(actor Actor, by string, now time.Time) (Transition, error) {
	if err := checkText("the other ticket", by, MaxName); err != nil {
		return Transition{}, err
	}
	switch {
	case t.State.Final():
		return Transition{}, refuse(CodeAlreadyFinal, "the ticket to be superseded is already %s", t.State)
	case t.State == Executing:
		return Transition{}, refuse(CodeConflict, "the ticket to be superseded is being executed")
	}
	c := t.change(actor, now)
	c.record(EventCancelled, Cancelled, Data{SupersededBy: by, Problem: &Problem{
		Code: "superseded", Detail: "another ticket took its place: " + by,
	}})
	c.updateCard()
	return c.done(), nil
}
