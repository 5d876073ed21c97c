package approvals

// Timer returns the effect that the ticket's next timer stands for, or nil when none is
// running. It is due at WakeAt.
func (t Ticket) Timer() Effect { return t.next() }
