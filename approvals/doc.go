// Package approvals is the domain of Countersign: who must say yes to a privileged
// call, who has, and what may happen next. It is pure. It imports the standard
// library only, reads no clock, opens no socket and writes no row.
//
// # The life of a ticket
//
// A caller submits a call. A rule of the policy answers with a [Plan], which is
// frozen onto the [Ticket]: stages in sequence, each with approver sets that must
// all be met, with reminders, escalation tiers and deadlines.
//
//	            ┌────────── answered ──────────┐
//	            ▼                              │
//	submit ─► pending ──── asked ─────────► needs_info
//	 │          │ ├── denied ────────────► denied
//	 │          │ ├── timer ─────────────► expired
//	 │          │ └── caller ────────────► cancelled
//	 │          ▼ quorum of the last stage
//	 └ allow ► approved ── claim + fence ─► executing ─► succeeded | failed | outcome_unknown
//	 └ deny  ► denied
//
// An approved ticket that is not begun can still be cancelled, expire, fail (what would be
// sent is not what was approved) or go back to pending (an approval no longer stands, or
// today's policy demands more). outcome_unknown becomes succeeded or failed when evidence
// comes late. See [Legal].
//
// # What was asked can only become less
//
// A plan is frozen with its roster: whom each of its names stood for when they were asked.
// From then on people can leave but nobody can join ([Ticket.Directory]); only a tier that
// fires asks others, whom it resolves in that moment. A name that stands for a Slack user
// group is the exception: it is frozen by the id of the group, and who is in it is looked up
// whenever it matters. When the call is due, the votes are
// counted again by the people of that day, and the plan that the policy of that day makes
// of the same call has to be met as well ([Ticket.Claim]): a call is made only if it
// satisfies the policy under which it was submitted and the one under which it is sent.
// A stage that those who are asked can no longer complete does not wait for its timers
// ([Ticket.Reassess]).
//
// # Verbs, events, effects
//
// Every change is a verb: a method of Ticket that takes the facts it needs (who, what,
// a [Directory] of people, and now) and returns a [Transition] or an error. Verbs never
// change their receiver. A Transition carries events (past facts, the audit trail), the
// ticket that results from applying them, and effects (what must be woken or sent
// next). Because the new ticket is always the fold of its events, [Replay] of the audit
// trail gives the ticket by construction, not by discipline.
//
// A refusal is a fact too: when somebody is turned away, the verb returns a Transition
// with a ticket.refused event together with the error. The caller of the verb commits
// the event and then reports the error.
//
// One writer, db.Store.Advance, locks the ticket, calls a verb with the database's
// clock, and commits new state, events and jobs in one transaction. Nothing else in
// the product changes a ticket.
package approvals
