// Package audit makes the trail of a ticket provable: exact bytes for every event, and
// a hash chain per ticket through those bytes. It is pure: no network, no database, no
// clock. Whoever has the rows of audit_events can verify them with this package alone.
package audit
