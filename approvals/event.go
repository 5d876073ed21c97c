package approvals

import "time"

// EventType names a past fact. The words are those of the audit tables, of callbacks
// and of the event stream.
type EventType string

// The facts of a ticket's life, in about the order in which they happen.
const (
	EventCreated           EventType = "ticket.created"
	EventNotified          EventType = "ticket.notified"
	EventViewed            EventType = "ticket.viewed"
	EventDecided           EventType = "ticket.decided"
	EventGlassBroken       EventType = "ticket.glass_broken"
	EventStageCompleted    EventType = "ticket.stage_completed"
	EventApproved          EventType = "ticket.approved"
	EventDenied            EventType = "ticket.denied"
	EventQuestionAsked     EventType = "ticket.question_asked"
	EventAnswered          EventType = "ticket.answered"
	EventReminded          EventType = "ticket.reminded"
	EventEscalated         EventType = "ticket.escalated"
	EventStalled           EventType = "ticket.stalled"
	EventUnstalled         EventType = "ticket.unstalled"
	EventExpired           EventType = "ticket.expired"
	EventCancelled         EventType = "ticket.cancelled"
	EventCancelRequested   EventType = "ticket.cancel_requested"
	EventClaimed           EventType = "ticket.claimed"
	EventClaimReleased     EventType = "ticket.claim_released"
	EventReleased          EventType = "ticket.released"
	EventReopened          EventType = "ticket.reopened"
	EventTightened         EventType = "ticket.tightened"
	EventExecuting         EventType = "ticket.executing"
	EventSucceeded         EventType = "ticket.succeeded"
	EventFailed            EventType = "ticket.failed"
	EventOutcomeUnknown    EventType = "ticket.outcome_unknown"
	EventResolved          EventType = "ticket.resolved"
	EventRefused           EventType = "ticket.refused"
	EventCallbackDelivered EventType = "ticket.callback_delivered"
	EventCallbackFailed    EventType = "ticket.callback_failed"
	EventCallbackExhausted EventType = "ticket.callback_exhausted"

	EventRedeliveryRequested EventType = "ticket.redelivery_requested"
)

// EventTypes lists every type of event.
func EventTypes() []EventType {
	return []EventType{
		EventCreated, EventNotified, EventViewed, EventDecided, EventGlassBroken, EventStageCompleted, EventApproved,
		EventDenied, EventQuestionAsked, EventAnswered, EventReminded, EventEscalated, EventStalled, EventUnstalled,
		EventExpired, EventCancelled, EventCancelRequested, EventClaimed, EventClaimReleased, EventReleased,
		EventReopened, EventTightened, EventExecuting,
		EventSucceeded, EventFailed, EventOutcomeUnknown, EventResolved, EventRefused,
		EventCallbackDelivered, EventCallbackFailed, EventCallbackExhausted, EventRedeliveryRequested,
	}
}

// CallbackEvents lists the events a caller may name in callback.events. Those that end
// a ticket, ticket.resolved and ticket.stalled are always sent.
func CallbackEvents() []EventType {
	return []EventType{
		EventCreated, EventQuestionAsked, EventAnswered, EventGlassBroken, EventApproved, EventDenied, EventExpired,
		EventCancelled, EventEscalated, EventStalled, EventUnstalled, EventReopened, EventTightened, EventExecuting,
		EventSucceeded, EventFailed, EventOutcomeUnknown, EventResolved,
	}
}

// final reports whether the event ends a ticket, or replaces its end.
func (e EventType) final() bool {
	switch e { //nolint:exhaustive // the others do not end a ticket
	case EventSucceeded, EventFailed, EventOutcomeUnknown, EventResolved,
		EventDenied, EventExpired, EventCancelled:
		return true
	default:
		return false
	}
}

// ActorKind says what kind of somebody did a thing.
type ActorKind string

const (
	// ActorCaller is an authenticated client.
	ActorCaller ActorKind = "caller"
	// ActorPerson is an approver or operator known by name.
	ActorPerson ActorKind = "person"
	// ActorStranger is somebody in Slack whom the configuration does not know.
	ActorStranger ActorKind = "stranger"
	// ActorPolicy is a rule acting without a person.
	ActorPolicy ActorKind = "policy"
	// ActorTimer is a deadline, reminder or escalation coming due.
	ActorTimer ActorKind = "timer"
	// ActorWorker is a process of this service.
	ActorWorker ActorKind = "worker"
)

// Actor is who did it. It is an argument everywhere and never taken from a context.
type Actor struct {
	Kind ActorKind `json:"kind"`
	// Name of the caller, person, rule or worker.
	Name string `json:"name"`
	// Via is the door they came through: "api", "slack", "job".
	Via string `json:"via,omitempty"`
	// Ref identifies them at that door, such as "T0TEAM/U02ANA".
	Ref string `json:"ref,omitempty"`
}

// Event is one row of the audit trail. Seq is the ticket's version after it.
type Event struct {
	TicketID string    `json:"ticket_id"`
	Seq      int64     `json:"seq"`
	Type     EventType `json:"type"`
	At       time.Time `json:"at"`
	Actor    Actor     `json:"actor"`
	// State is the ticket's state after the event.
	State State `json:"state"`
	Data  Data  `json:"data"`
}

// Data holds the facts of an event; which fields are set depends on its type. Together
// the events of a ticket hold all of it but the bytes of headers and bodies, of which
// they hold digests.
type Data struct {
	// ticket.created
	Created *CreatedData `json:"created,omitempty"`
	// ticket.decided, ticket.glass_broken
	Decision *Decision `json:"decision,omitempty"`
	// ticket.decided, ticket.stage_completed: progress after it
	Tally *Tally `json:"tally,omitempty"`
	// ticket.notified
	Card *Card `json:"card,omitempty"`
	// ticket.viewed
	Viewing *Viewing `json:"viewing,omitempty"`
	// ticket.question_asked, ticket.answered
	Question *Question `json:"question,omitempty"`
	// ticket.reminded, ticket.escalated, ticket.stage_completed, ticket.reopened,
	// ticket.tightened, ticket.stalled, ticket.unstalled
	Stage *int `json:"stage,omitempty"`
	// ticket.reminded: the how-manieth; ticket.escalated: the tier, from 1
	Number int `json:"number,omitempty"`
	// ticket.escalated: the tier, the people it asks, and the plan's roster and delegates
	// with them
	Tier      *Tier               `json:"tier,omitempty"`
	Asked     []string            `json:"asked,omitempty"`
	Roster    map[string][]string `json:"roster,omitempty"`
	Delegates map[string]string   `json:"delegates,omitempty"`
	// ticket.tightened
	Amendment *Amendment `json:"amendment,omitempty"`
	// ticket.cancelled: the ticket that took this one's place
	SupersededBy string `json:"superseded_by,omitempty"`
	// ticket.approved
	ExecuteBy *time.Time `json:"execute_by,omitempty"`
	// ticket.claimed, ticket.executing, ticket.claim_released and the outcomes
	Epoch  int64  `json:"epoch,omitempty"`
	Worker string `json:"worker,omitempty"`
	// ticket.executing: what is about to be sent, recomputed
	Digest string `json:"digest,omitempty"`
	// ticket.succeeded, ticket.failed, ticket.resolved
	Result *ResultSummary `json:"result,omitempty"`
	// ticket.failed, ticket.outcome_unknown, ticket.denied, ticket.expired
	Problem *Problem `json:"problem,omitempty"`
	// ticket.refused: what was tried and why not
	Refusal *Refusal `json:"refusal,omitempty"`
	// ticket.callback_*; ticket.redelivery_requested: the attempt that was asked for
	Delivery *DeliveryAttempt `json:"delivery,omitempty"`
	// free text where a person or rule gave one
	Reason string `json:"reason,omitempty"`
}

// CreatedData is the ticket as submitted.
type CreatedData struct {
	Caller        string            `json:"caller"`
	OnBehalfOf    string            `json:"on_behalf_of,omitempty"`
	Upstream      string            `json:"upstream"`
	Method        string            `json:"method"`
	Path          string            `json:"path"`
	Query         string            `json:"query,omitempty"`
	HeaderNames   []string          `json:"header_names,omitempty"`
	BodyDigest    string            `json:"body_sha256"`
	BodyBytes     int               `json:"body_bytes"`
	Digest        string            `json:"digest"`
	Justification string            `json:"justification,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Callback      *Callback         `json:"callback,omitempty"`
	Plan          Plan              `json:"plan"`
	ExpiresAt     time.Time         `json:"expires_at"`
	NotBefore     time.Time         `json:"not_before,omitzero"`
	Supersedes    string            `json:"supersedes,omitempty"`
}

// Amendment is what a policy that became stricter demands besides what the ticket's plan
// did. Roster, Delegates, Live, Excluded and Redact replace the plan's and include them;
// Distinct, BreakGlass and Confirm replace them and allow no more than either policy.
type Amendment struct {
	Round        int                 `json:"round"`
	Rule         string              `json:"rule"`
	PolicyDigest string              `json:"policy_digest"`
	Stages       []Stage             `json:"stages"`
	Roster       map[string][]string `json:"roster,omitempty"`
	Delegates    map[string]string   `json:"delegates,omitempty"`
	Excluded     []string            `json:"excluded,omitempty"`
	Redact       []string            `json:"redact,omitempty"`
	Distinct     Distinct            `json:"distinct,omitempty"`
	BreakGlass   *BreakGlass         `json:"break_glass,omitempty"`
	Live         map[string]string   `json:"live,omitempty"`
	Confirm      Confirm             `json:"confirm,omitempty"`
}

// Stall says why nobody can complete a ticket as things stand.
type Stall struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// Refusal is what somebody tried and why it was not allowed.
type Refusal struct {
	Tried   string `json:"tried"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Last marks the last refusal recorded on this ticket; later ones are only answered.
	Last bool `json:"last,omitempty"`
}

// Problem says why a ticket ended without success.
type Problem struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}
