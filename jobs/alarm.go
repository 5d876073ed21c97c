package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

const (
	// alarmBatch is how many due timers become jobs at one look.
	alarmBatch = 500
	// alarmTimeout bounds one look.
	alarmTimeout = 10 * time.Second
)

// alarmForever turns timers into jobs when they are due. Until then a timer is a column
// of its ticket, not a row in River's table: a million waiting tickets cost nobody
// anything, a submit inserts one job instead of two, and a timer fires within a
// fraction of a second, where River's scheduler looks every five. One process does it
// at a time; when that one dies, its lock goes with its connection and the next look is
// somebody else's.
func (r *Runner) alarmForever(ctx context.Context) {
	every(ctx, r.c.AlarmEvery, func() {
		bounded, cancel := context.WithTimeout(ctx, alarmTimeout)
		defer cancel()
		if err := r.c.Store.Exclusively(bounded, "alarm", r.ring); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot look for due timers", slog.Any("error", err))
		}
	})
}

// ring makes a job for every timer that is due. A timer is found due until its job is
// done; that one job stands for all of these findings.
func (r *Runner) ring(ctx context.Context) error {
	due, err := r.c.Store.Due(ctx, alarmBatch)
	if err != nil || len(due) == 0 {
		return err
	}
	effects := make([]approvals.Effect, 0, len(due))
	for _, t := range due {
		if e := t.Timer(); e != nil {
			effects = append(effects, e)
		}
	}
	return pgx.BeginFunc(ctx, r.c.Pool, func(tx pgx.Tx) error { return r.c.Outbox.ring(ctx, tx, effects) })
}
