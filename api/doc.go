// Package api is the HTTP front of Countersign: submit, poll, long poll, cancel and the
// lists, as openapi.yaml has them, and the door for Slack.
//
// A request passes a fixed chain (request id, one log line, recovery, limits, caller), is
// bound strictly, and reaches a handler that picks a verb of the domain and renders the
// ticket. Handlers decide nothing about approvals and call nobody but the [Store].
// Everything that goes wrong becomes a problem document in errors.go, the only place that
// knows HTTP statuses of errors.
package api
