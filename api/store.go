package api

import (
	"context"
	"time"

	"countersign/approvals"
	"countersign/db"
)

// Store is what the handlers need of *db.Store, whose methods document it. It is born to
// break the build order: handlers and store are written against it at the same time.
type Store interface {
	Submit(ctx context.Context, r db.SubmitRequest) (db.SubmitResult, error)
	Keyed(ctx context.Context, caller string, key db.IdempotencyKey) (approvals.Ticket, error)
	Advance(ctx context.Context, ref db.Ref, decide db.Decide) (approvals.Ticket, error)
	Ticket(ctx context.Context, ref db.Ref) (approvals.Ticket, error)
	Version(ctx context.Context, ref db.Ref) (int64, approvals.State, error)
	Tickets(ctx context.Context, f db.Filter) ([]approvals.Ticket, error)
	Events(ctx context.Context, ref db.Ref, after int64, limit int) ([]approvals.Event, error)
	Result(ctx context.Context, ref db.Ref) (approvals.Result, error)
	Notified(ctx context.Context, ticketID string, stage int) (db.Notified, error)
	Validators(ctx context.Context, f db.Filter) ([]db.Seen, error)
	Subscribe(t db.Topic) *db.Subscription
	Closed() <-chan struct{}
	Here(ctx context.Context) (db.Mark, error)
	Follows(ctx context.Context, m db.Mark) error
	EventsAfter(ctx context.Context, caller string, after db.Mark, limit int) ([]db.Written, db.Mark, bool, error)
	EventsOf(ctx context.Context, caller string, ids []string, tx int64, limit int) ([]db.Written, error)
	NoteServiceEvent(ctx context.Context, stream, typ string, actor approvals.Actor, data any) error
	Endpoint(ctx context.Context, caller, origin string) (db.Endpoint, error)
	EndpointByID(ctx context.Context, id string) (db.Endpoint, error)
	Endpoints(ctx context.Context, f db.EndpointFilter) ([]db.Endpoint, error)
	EndpointStats(ctx context.Context, id string, since time.Time) (db.EndpointStats, error)
	EnableEndpoint(ctx context.Context, id string, by approvals.Actor) (held int, err error)
	DisableEndpoint(ctx context.Context, id string, by approvals.Actor, why string) error
	WantVerification(ctx context.Context, caller, origin, probeURL string) (wait time.Duration, err error)
	Deliveries(ctx context.Context, f db.DeliveryFilter) ([]db.Delivery, error)
	DeliveryByID(ctx context.Context, messageID string) (db.Delivery, error)
	Attempts(ctx context.Context, messageID string) ([]db.Attempt, error)
	Redeliver(ctx context.Context, messageID string, actor approvals.Actor) (db.Delivery, error)
	Recover(ctx context.Context, endpointID string, since, until time.Time, states []approvals.CallbackState, actor approvals.Actor) (count int, err error)
	Ready(ctx context.Context) error
	Secret(ctx context.Context, name string) ([]byte, error)
}
