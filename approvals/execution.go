package approvals

import "time"

// MaxEpochs bounds how often a call to an idempotent upstream is made.
const MaxEpochs = 5

// OutcomeKind says how an attempt to make the call ended.
type OutcomeKind string

const (
	// Answered means that upstream's status is known.
	Answered OutcomeKind = "answered"
	// NotSent means that provably no byte of the request left.
	NotSent OutcomeKind = "not_sent"
	// Unknown means everything else.
	Unknown OutcomeKind = "unknown"
)

// Outcome is how an attempt ended.
type Outcome struct {
	Kind OutcomeKind
	// Success says whether an answer met the success rule.
	Success bool
	// Result is the answer, with Answered only.
	Result *Result
	// Problem explains NotSent and Unknown, and an answer outside the success set.
	Problem *Problem
}

// ResultSummary is what the audit trail keeps of an answer.
type ResultSummary struct {
	Status     int       `json:"status"`
	Size       int64     `json:"size"`
	Digest     string    `json:"digest"`
	Truncated  bool      `json:"truncated,omitempty"`
	DurationMS int64     `json:"duration_ms"`
	ExecutedAt time.Time `json:"executed_at"`
}

// Result is upstream's answer as it is stored.
type Result struct {
	ResultSummary
	Headers []Header
	Body    []byte
}

// Claim takes the ticket for a worker, still unsent. It checks that the approvals stand
// as people and groups are now, and that today, the plan that the policy in force makes of
// the same call, is met by them as well. Where they do not stand, the ticket goes back to
// people, or ends, as its rule says. CodeConflict when that happened, somebody else holds
// the ticket or it has moved on; CodeStalePolicy when today's policy demands more;
// CodeExpired when the approval has gone stale (the ticket expires with it); CodeNotDue
// before its time. A call in doubt is claimed again under the same conditions; where they
// do not hold it becomes outcome_unknown. CodeInvalid without the name of a worker.
func (t Ticket) Claim(worker string, dir Directory, today Plan, now time.Time) (Transition, error) {
	if worker == "" {
		return Transition{}, refuse(CodeInvalid, "a claim needs the name of its worker")
	}
	if !t.claimable() {
		return Transition{}, refuse(CodeConflict, "nothing to execute: the ticket is %s", t.State)
	}
	if now.Before(t.NotBefore) {
		return Transition{}, notDue(t.NotBefore)
	}
	actor := Actor{Kind: ActorWorker, Name: worker, Via: "job"}
	if tr, err := t.lapsed(actor, dir.At(now), today, now); err != nil {
		return tr, err
	}
	c := t.change(actor, now)
	c.record(EventClaimed, t.State, Data{Epoch: t.Epoch + 1, Worker: worker})
	return c.done(), nil
}

// claimable: approved and free, or in doubt with an upstream that may be asked again.
func (t Ticket) claimable() bool {
	if t.Worker != "" {
		return false
	}
	return t.State == Approved || (t.State == Executing && t.Plan.Idempotent)
}

// BeginExecution is the one-way door: once its event is committed, the call may have
// been made, and every later path that cannot show an answer owes outcome_unknown.
// digest is the request digest recomputed from what is about to be sent. A mismatch, with
// the ticket's or with a decision's, ends the ticket as failed with nothing sent.
// CodeConflict when the claim is no longer ours, or was used up unless upstream is
// idempotent; CodeExpired, CodeStalePolicy and reopening as for Claim.
func (t Ticket) BeginExecution(epoch int64, worker, digest string, dir Directory, today Plan, now time.Time) (Transition, error) {
	if !t.mayBegin(epoch, worker) {
		return Transition{}, refuse(CodeConflict, "the claim is no longer held: the ticket is %s", t.State)
	}
	actor := Actor{Kind: ActorWorker, Name: worker, Via: "job"}
	if tr, err := t.lapsed(actor, dir.At(now), today, now); err != nil {
		return tr, err
	}
	c := t.change(actor, now)
	if !t.bound(digest) {
		return c.violated(digest), refuse(CodeDigestMismatch, "what would be sent is not what was approved")
	}
	c.record(EventExecuting, Executing, Data{Epoch: epoch, Worker: worker, Digest: digest})
	// No card is rendered for this: it says "approved" already, and the outcome follows.
	return c.done(), nil
}

func (t Ticket) mayBegin(epoch int64, worker string) bool {
	if worker == "" || t.Worker != worker || t.Epoch != epoch {
		return false
	}
	return t.State == Approved || (t.State == Executing && t.Plan.Idempotent)
}

func (t Ticket) bound(digest string) bool {
	if digest != t.Digest {
		return false
	}
	for _, d := range t.Decisions {
		if d.Digest != digest {
			return false
		}
	}
	return true
}

// violated ends the ticket because what would be sent is not what was approved. A ticket
// in doubt stays in doubt: an earlier attempt may have gone out.
func (c *change) violated(digest string) Transition {
	p := &Problem{Code: "binding_violation", Detail: "the request, its upstream or the policy changed after approval; nothing was sent"}
	typ, state := EventFailed, Failed
	if c.ticket.State == Executing {
		typ, state = EventOutcomeUnknown, OutcomeUnknown
		p.Detail = "an attempt got no answer, and the request, its upstream or the policy has changed since; it was not sent again"
	}
	c.record(typ, state, Data{Epoch: c.ticket.Epoch, Digest: digest, Problem: p})
	c.updateCard()
	return c.done()
}

// FinishExecution records how the call ended. An answer that arrives after the ticket was
// given up as outcome_unknown resolves it, and one that arrives before the call is made
// again ends it, as long as it is from the same claim.
// CodeConflict when the claim is not ours or nothing is in flight.
func (t Ticket) FinishExecution(epoch int64, worker string, o Outcome, now time.Time) (Transition, error) {
	actor := Actor{Kind: ActorWorker, Name: worker, Via: "job"}
	o = o.clean()
	late := t.State == Executing && t.Worker == "" && o.Kind == Answered
	switch {
	case t.Epoch != epoch:
		return Transition{}, refuse(CodeConflict, "another claim is in force")
	case worker == "":
		return Transition{}, refuse(CodeConflict, "an outcome needs the name of its worker")
	case t.State == OutcomeUnknown && o.Kind == Answered:
		return t.resolve(actor, o, "answered after it was given up", now), nil
	case t.State != Executing || (t.Worker != worker && !late):
		return Transition{}, refuse(CodeConflict, "nothing is in flight: the ticket is %s", t.State)
	}
	c := t.change(actor, now)
	again := c.now.Add(retryPause(t.Epoch))
	if o.doubt(epoch) && t.mayTryAgain(again) {
		c.record(EventClaimReleased, Executing, Data{
			Epoch: epoch, Worker: worker, Problem: o.Problem,
			Reason: "upstream is idempotent: it will be asked again",
		})
		c.then(Execute{TicketID: t.ID, At: again})
		return c.done(), nil
	}
	c.finish(epoch, o)
	tr := c.done()
	tr.Result = o.Result
	return tr, nil
}

// clean drops what an outcome of this kind cannot have, and bounds the rest. A kind that
// is not known is Unknown: fail closed.
func (o Outcome) clean() Outcome {
	if o.Kind != Answered && o.Kind != NotSent {
		o.Kind = Unknown
	}
	if o.Kind != Answered {
		o.Success, o.Result = false, nil
	}
	if o.Problem != nil {
		o.Problem = &Problem{Code: clean(o.Problem.Code), Detail: clean(o.Problem.Detail)}
	}
	return o
}

// doubt reports whether the call may have been made without an answer: in this attempt,
// or in one before it, which this one did not clear up.
func (o Outcome) doubt(epoch int64) bool {
	return o.Kind == Unknown || (o.Kind == NotSent && epoch > 1)
}

// mayTryAgain reports whether a call in doubt may be made again at some time.
func (t Ticket) mayTryAgain(at time.Time) bool {
	return t.Plan.Idempotent && t.Epoch < MaxEpochs && at.Before(t.ExecuteBy) && t.CancelRequestedAt.IsZero()
}

func (c *change) finish(epoch int64, o Outcome) {
	typ, state := EventOutcomeUnknown, OutcomeUnknown
	switch {
	case o.Kind == Answered && o.Success:
		typ, state = EventSucceeded, Succeeded
	case o.Kind == Answered, o.Kind == NotSent && c.ticket.Epoch == 1, o.Kind == NotSent && !c.ticket.Plan.Idempotent:
		typ, state = EventFailed, Failed
	}
	data := Data{Epoch: epoch, Problem: o.Problem}
	if o.Result != nil {
		data.Result = &o.Result.ResultSummary
	}
	c.record(typ, state, data)
	c.updateCard()
}

func (t Ticket) resolve(actor Actor, o Outcome, reason string, now time.Time) Transition {
	state := Failed
	if o.Success {
		state = Succeeded
	}
	c := t.change(actor, now)
	data := Data{Epoch: t.Epoch, Problem: o.Problem, Reason: reason}
	if o.Result != nil {
		data.Result = &o.Result.ResultSummary
	}
	c.record(EventResolved, state, data)
	c.updateCard()
	tr := c.done()
	tr.Result = o.Result
	return tr
}

// Resolve records what an operator found out about a call in doubt. reason says how they
// know and must not be empty. CodeConflict unless the ticket is outcome_unknown.
func (t Ticket) Resolve(actor Actor, succeeded bool, reason string, now time.Time) (Transition, error) {
	if reason == "" {
		return Transition{}, refuse(CodeInvalid, "the reason is empty")
	}
	if err := checkText("the reason", reason, MaxComment); err != nil {
		return Transition{}, err
	}
	if t.State != OutcomeUnknown {
		return Transition{}, refuse(CodeConflict, "the outcome is not in doubt: the ticket is %s", t.State)
	}
	o := Outcome{Success: succeeded}
	if !succeeded {
		o.Problem = &Problem{Code: "resolved_as_failed", Detail: reason}
	}
	return t.resolve(actor, o, reason, now), nil
}

// Abandon gives up the claim of a worker that is gone. Unsent, the ticket is free
// again; sent, it becomes outcome_unknown, unless upstream may be asked again.
// CodeConflict when that claim is no longer in force.
func (t Ticket) Abandon(epoch int64, now time.Time) (Transition, error) {
	if t.Epoch != epoch || t.Worker == "" {
		return Transition{}, refuse(CodeConflict, "that claim is no longer in force")
	}
	c := t.change(Actor{Kind: ActorTimer, Name: "sweeper", Via: "job"}, now)
	if t.State == Approved || t.mayTryAgain(c.now) {
		c.record(EventClaimReleased, t.State, Data{Epoch: epoch, Worker: t.Worker, Reason: "its worker is gone"})
		c.then(Execute{TicketID: t.ID})
		c.arm()
		return c.done(), nil
	}
	c.record(EventOutcomeUnknown, OutcomeUnknown, Data{Epoch: epoch, Problem: &Problem{
		Code: "worker_lost", Detail: "the process making the call died before it could record an answer; the call may have happened",
	}})
	c.updateCard()
	return c.done(), nil
}

func retryPause(epoch int64) time.Duration {
	return time.Second << min(epoch-1, 5)
}
