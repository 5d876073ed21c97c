// Package jobs does what tickets are waiting for: telling people, reminders, escalations, expiry,
// the upstream call, callbacks. It is the only importer of River.
//
// River is an alarm clock and nothing more. Arguments are ids; every worker reads the
// ticket again, picks a verb of the domain and calls db.Store.Advance. A job that comes
// twice, late, or for a ticket that has moved on is a quiet no-op. What must not happen
// twice is guarded by the ticket's own row, not by River's attempt counts; and a sweeper
// finds what a lost job left behind.
//
// An upstream call is made at most once for a claim, by a job or, for whoever waits for the
// answer, directly; see [Runner.Direct]. Where an upstream or a caller has limits, a claim has
// to find room in its lane as well, which all processes share. Who finds none waits without a
// job and without an event: whoever finishes a call hands on its place, and the sweeper looks
// after the rest. An answer ends a call, whatever it says: a 429 or 503 is not tried again, since
// only people or callers can say whether that is wanted. It may open the lane's breaker.
package jobs
