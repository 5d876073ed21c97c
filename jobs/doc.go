// Package jobs does what tickets are waiting for: telling people, reminders, escalations, expiry,
// the upstream call, callbacks. It is the only importer of River.
//
// River is an alarm clock and nothing more. Arguments are ids; every worker reads the
// ticket again, picks a verb of the domain and calls db.Store.Advance. A job that comes
// twice, late, or for a ticket that has moved on is a quiet no-op. What must not happen
// twice is guarded by the ticket's own row, not by River's attempt counts; and a sweeper
// finds what a lost job left behind.
package jobs
