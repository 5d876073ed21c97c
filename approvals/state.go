package approvals

// State says where a ticket is in its life, and so whose move it is.
type State string

const (
	// Pending waits for approvers. Reminders and escalation tiers are running.
	Pending State = "pending"
	// NeedsInfo waits for the requester to answer a question. Reminders and
	// escalation rest; the absolute deadline does not. Decisions are still accepted.
	NeedsInfo State = "needs_info"
	// Approved has its quorum (or an allow rule) and waits for a worker. A claim may be
	// held in this state: claimed, but provably not sent.
	Approved State = "approved"
	// Executing means that the intent to send is committed. From here on the call may
	// have happened, and nothing resends it without being told that this is harmless.
	Executing State = "executing"
	// Succeeded is final: upstream answered within the success set.
	Succeeded State = "succeeded"
	// Failed is final: upstream answered otherwise, or provably was never reached.
	Failed State = "failed"
	// OutcomeUnknown is final until late evidence or an operator resolves it: the call
	// was sent, or may have been, and no answer was recorded.
	OutcomeUnknown State = "outcome_unknown"
	// Denied is final: an approver or a rule refused.
	Denied State = "denied"
	// Expired is final: nobody decided in time, or the approval went stale unused.
	Expired State = "expired"
	// Cancelled is final: withdrawn by its caller before anything was sent.
	Cancelled State = "cancelled"
)

// States lists every state in the order of a ticket's life. The database's CHECK
// constraint and the API document are compared with it in tests.
func States() []State {
	return []State{
		Pending, NeedsInfo, Approved, Executing,
		Succeeded, Failed, OutcomeUnknown, Denied, Expired, Cancelled,
	}
}

// Final reports whether the ticket is done. Only [OutcomeUnknown] may still change,
// and only to [Succeeded] or [Failed].
func (s State) Final() bool {
	switch s {
	case Succeeded, Failed, OutcomeUnknown, Denied, Expired, Cancelled:
		return true
	case Pending, NeedsInfo, Approved, Executing:
		return false
	}
	return false
}

// Open reports whether approvers may still decide.
func (s State) Open() bool { return s == Pending || s == NeedsInfo }

// legal is the whole transition table. Staying in a state (a vote short of the quorum,
// a reminder, a delivery attempt) is always legal and not listed.
var legal = map[State][]State{
	Pending:        {NeedsInfo, Approved, Denied, Expired, Cancelled},
	NeedsInfo:      {Pending, Approved, Denied, Expired, Cancelled},
	Approved:       {Pending, Executing, Failed, Expired, Cancelled},
	Executing:      {Succeeded, Failed, OutcomeUnknown},
	OutcomeUnknown: {Succeeded, Failed},
}

// Legal reports whether a ticket may go from one state to another in one event.
func Legal(from, to State) bool {
	if from == to {
		return true
	}
	for _, s := range legal[from] {
		if s == to {
			return true
		}
	}
	return false
}

// CallbackState is the second, separate machine: the delivery of the latest final
// event. It never changes the outcome.
type CallbackState string

const (
	// CallbackNone means that no callback was asked for.
	CallbackNone CallbackState = "none"
	// CallbackPending means that the final event is not due yet or is being retried.
	CallbackPending CallbackState = "pending"
	// CallbackDelivered means that the receiver answered 2xx.
	CallbackDelivered CallbackState = "delivered"
	// CallbackExhausted is the dead letter: attempts used up, stopped by the receiver,
	// or refused by egress policy.
	CallbackExhausted CallbackState = "exhausted"
)

// CallbackStates lists every callback state.
func CallbackStates() []CallbackState {
	return []CallbackState{CallbackNone, CallbackPending, CallbackDelivered, CallbackExhausted}
}
