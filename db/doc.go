// Package db keeps tickets in Postgres and is the only writer of them.
//
// There are two doors. [Store.Submit] opens a ticket: idempotency key, ticket, call,
// first events and first jobs in one transaction, shared with whoever submits at the
// same moment; a ticket whose place the new one takes is closed in that transaction too.
// [Store.Advance] changes one: it locks the row, asks a pure verb of the domain what
// happens, and commits new state, audit events and jobs together. Everything else here
// reads.
package db
