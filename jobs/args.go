package jobs

import (
	"time"

	"github.com/riverqueue/river"
)

// Every kind has a queue of its own name, so that a slow kind delays no other and
// pausing "execute" is the kill switch.
const (
	kindNotify     = "notify"
	kindUpdateCard = "update_card"
	kindRemind     = "remind"
	kindEscalate   = "escalate"
	kindExpire     = "expire"
	kindRelease    = "release"
	kindExecute    = "execute"
	kindDeliver    = "deliver"
)

// NotifyArgs asks to tell people about an event.
type NotifyArgs struct {
	TicketID string `json:"ticket_id"`
	Seq      int64  `json:"seq"`
}

// UpdateCardArgs asks to render a ticket's cards again.
type UpdateCardArgs struct {
	TicketID string `json:"ticket_id"`
}

// RemindArgs wakes a ticket for the Number-th reminder of a stage.
type RemindArgs struct {
	TicketID string `json:"ticket_id"`
	Stage    int    `json:"stage"`
	Number   int    `json:"number"`
}

// EscalateArgs wakes a ticket for a tier, from 1, of a stage.
type EscalateArgs struct {
	TicketID string `json:"ticket_id"`
	Stage    int    `json:"stage"`
	Tier     int    `json:"tier"`
}

// ExpireArgs wakes a ticket at its deadline.
type ExpireArgs struct {
	TicketID string `json:"ticket_id"`
}

// ReleaseArgs wakes an approved ticket when its call may be made.
type ReleaseArgs struct {
	TicketID string `json:"ticket_id"`
}

// ExecuteArgs asks to make the upstream call of an approved ticket.
type ExecuteArgs struct {
	TicketID string `json:"ticket_id"`
}

// DeliverArgs asks to post the callback for an event.
type DeliverArgs struct {
	TicketID string `json:"ticket_id"`
	Seq      int64  `json:"seq"`
}

// Kind names the job and its queue.
func (NotifyArgs) Kind() string { return kindNotify }

// Kind names the job and its queue.
func (UpdateCardArgs) Kind() string { return kindUpdateCard }

// Kind names the job and its queue.
func (RemindArgs) Kind() string { return kindRemind }

// Kind names the job and its queue.
func (EscalateArgs) Kind() string { return kindEscalate }

// Kind names the job and its queue.
func (ExpireArgs) Kind() string { return kindExpire }

// Kind names the job and its queue.
func (ReleaseArgs) Kind() string { return kindRelease }

// Kind names the job and its queue.
func (ExecuteArgs) Kind() string { return kindExecute }

// Kind names the job and its queue.
func (DeliverArgs) Kind() string { return kindDeliver }

// notifyTries outlast some hours without a database; see NextRetry of the workers.
const notifyTries = 100

// InsertOpts says where the job goes and how often it is tried.
func (NotifyArgs) InsertOpts() river.InsertOpts { return opts(kindNotify, notifyTries) }

// InsertOpts says where the job goes and how often it is tried.
func (UpdateCardArgs) InsertOpts() river.InsertOpts { return opts(kindUpdateCard, notifyTries) }

// InsertOpts says where the job goes and how often it is tried.
func (RemindArgs) InsertOpts() river.InsertOpts { return opts(kindRemind, 12) }

// InsertOpts says where the job goes and how often it is tried.
func (EscalateArgs) InsertOpts() river.InsertOpts { return opts(kindEscalate, 12) }

// InsertOpts says where the job goes and how often it is tried.
func (ExpireArgs) InsertOpts() river.InsertOpts { return opts(kindExpire, 12) }

// InsertOpts says where the job goes and how often it is tried.
func (ReleaseArgs) InsertOpts() river.InsertOpts { return opts(kindRelease, 12) }

// InsertOpts says where the job goes and how often it is tried. Trying again is
// harmless: the claim in the ticket's row refuses a second execution.
func (ExecuteArgs) InsertOpts() river.InsertOpts { return opts(kindExecute, 5) }

// InsertOpts says where the job goes and how often it is tried. The delivery keeps its
// own schedule; River's attempts are for a database that does not answer.
func (DeliverArgs) InsertOpts() river.InsertOpts { return opts(kindDeliver, 5) }

func opts(queue string, attempts int) river.InsertOpts {
	return river.InsertOpts{Queue: queue, MaxAttempts: attempts}
}

func at(opts river.InsertOpts, t time.Time) *river.InsertOpts {
	opts.ScheduledAt = t // zero means now
	return &opts
}
