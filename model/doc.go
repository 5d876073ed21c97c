// Package model explores every interleaving of those who work on one ticket: two worker
// processes that may die or stall at any point, a sweeper that takes claims from them,
// timers that fire late or twice, people who decide, a caller who cancels, a person who
// leaves and a policy that becomes stricter. It is a model checker for this one product:
// breadth first, with states remembered, within the bounds of a [Config].
//
// What changes the ticket are the real verbs of package approvals. What is modelled is what
// lies around them: db.Store.Advance as one atomic step whose commit may fail before it is
// kept or after, the steps of a worker as package jobs takes them, and time in a few ticks.
//
// In every state it is checked that
//   - a call to an upstream that is not idempotent is sent once at most;
//   - nothing is sent but what was approved, by the policy of then and of that moment, in
//     time, under a claim that is recorded and that is the sender's own;
//   - a ticket that ended as cancelled, expired, denied or failed was never sent and never
//     will be;
//   - an end is the end, but for a doubt that is resolved;
//   - the events of a ticket are numbered without a gap;
//   - whatever has happened, the machinery alone brings the ticket to an end.
//
// A checker that finds nothing proves little until it is seen to find something: [Mutants]
// lists mistakes, each of which it has to catch.
package model
