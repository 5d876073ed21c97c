package api

import (
	"context"

	"countersign/approvals"
	"countersign/db"
)

// Store is what the handlers need of *db.Store, whose methods document it. It is born to
// break the build order: handlers and store are written against it at the same time.
type Store interface {
	Submit(ctx context.Context, r db.SubmitRequest) (db.SubmitResult, error)
	Advance(ctx context.Context, ref db.Ref, decide db.Decide) (approvals.Ticket, error)
	Ticket(ctx context.Context, ref db.Ref) (approvals.Ticket, error)
	Version(ctx context.Context, ref db.Ref) (int64, approvals.State, error)
	Tickets(ctx context.Context, f db.Filter) ([]approvals.Ticket, error)
	Events(ctx context.Context, ref db.Ref, after int64, limit int) ([]approvals.Event, error)
	Result(ctx context.Context, ref db.Ref) (approvals.Result, error)
	Notified(ctx context.Context, ticketID string, stage int) (db.Notified, error)
	Wait(ctx context.Context, id string, version int64) error
	Ready(ctx context.Context) error
	Secret(ctx context.Context, name string) ([]byte, error)
}
