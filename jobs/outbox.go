package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"countersign/approvals"
)

// Outbox turns effects into River jobs inside the transaction that caused them.
type Outbox struct{ client *river.Client[pgx.Tx] }

// NewOutbox makes an outbox. It only inserts and needs no connection of its own.
func NewOutbox() (*Outbox, error) {
	// The cooldown decides how often an insert may wake the workers of any process.
	client, err := river.NewClient(riverpgxv5.New(nil), &river.Config{FetchCooldown: fetchCooldown})
	if err != nil {
		return nil, fmt.Errorf("make insert-only River client: %w", err)
	}
	return &Outbox{client: client}, nil
}

// fewJobs is how many are still inserted sooner by an ordinary INSERT, one round trip,
// than by a COPY, which takes three and pays off from there on.
const fewJobs = 8

// Enqueue inserts a job for each effect, many of them with River's fast bulk insert.
// Several updates of one ticket's cards become one. A timer becomes a job when it is due:
// until then it waits in its ticket's row, see [Runner.alarmForever].
func (o *Outbox) Enqueue(ctx context.Context, tx pgx.Tx, effects []approvals.Effect) error {
	params := make([]river.InsertManyParams, 0, len(effects))
	updates := make(map[string]bool)
	for _, e := range effects {
		if u, ok := e.(approvals.UpdateCard); ok {
			if updates[u.TicketID] {
				continue
			}
			updates[u.TicketID] = true
		}
		if waits(e) {
			continue
		}
		params = append(params, job(e))
	}
	if len(params) == 0 {
		return nil
	}
	if err := o.insert(ctx, tx, params); err != nil {
		return fmt.Errorf("insert %d jobs: %w", len(params), err)
	}
	return nil
}

// waits reports whether an effect is a timer with an hour of its own.
func waits(effect approvals.Effect) bool {
	switch e := effect.(type) {
	case approvals.RemindAt:
		return !e.At.IsZero()
	case approvals.EscalateAt:
		return !e.At.IsZero()
	case approvals.ExpireAt:
		return !e.At.IsZero()
	case approvals.ReleaseAt:
		return !e.At.IsZero()
	case approvals.Notify, approvals.UpdateCard, approvals.Execute, approvals.Deliver:
	}
	return false
}

// ring inserts jobs for timers that are due, unless the same job is already waiting or
// under way. One that is done does not count: had it done its work, the timer would not
// be due.
func (o *Outbox) ring(ctx context.Context, tx pgx.Tx, timers []approvals.Effect) error {
	params := make([]river.InsertManyParams, 0, len(timers))
	for _, e := range timers {
		p := job(e)
		// At once: given an hour, even a past one, River would leave it to its scheduler.
		p.InsertOpts.ScheduledAt = time.Time{}
		p.InsertOpts.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: unfinished}
		params = append(params, p)
	}
	if _, err := o.client.InsertManyTx(ctx, tx, params); err != nil {
		return fmt.Errorf("insert %d timers: %w", len(params), err)
	}
	return nil
}

// unfinished are the states of a job that has yet to be done.
var unfinished = []rivertype.JobState{
	rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
	rivertype.JobStateRunning, rivertype.JobStateScheduled,
}

func (o *Outbox) insert(ctx context.Context, tx pgx.Tx, params []river.InsertManyParams) error {
	if len(params) <= fewJobs {
		_, err := o.client.InsertManyTx(ctx, tx, params)
		return err
	}
	_, err := o.client.InsertManyFastTx(ctx, tx, params)
	return err
}

func job(effect approvals.Effect) river.InsertManyParams {
	switch e := effect.(type) {
	case approvals.Notify:
		return river.InsertManyParams{Args: NotifyArgs{TicketID: e.TicketID, Seq: e.Seq}}
	case approvals.UpdateCard:
		return river.InsertManyParams{Args: UpdateCardArgs{TicketID: e.TicketID}}
	case approvals.RemindAt:
		args := RemindArgs{TicketID: e.TicketID, Stage: e.Stage, Number: e.Number}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	case approvals.EscalateAt:
		args := EscalateArgs{TicketID: e.TicketID, Stage: e.Stage, Tier: e.Tier}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	case approvals.ExpireAt:
		args := ExpireArgs{TicketID: e.TicketID}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	case approvals.ReleaseAt:
		args := ReleaseArgs{TicketID: e.TicketID}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	case approvals.Execute:
		args := ExecuteArgs{TicketID: e.TicketID}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	case approvals.Deliver:
		args := DeliverArgs{TicketID: e.TicketID, Seq: e.Seq}
		return river.InsertManyParams{Args: args, InsertOpts: at(args.InsertOpts(), e.At)}
	}
	panic(fmt.Sprintf("jobs: an effect without a job: %T", effect)) // the linter and a test keep this unreachable
}
