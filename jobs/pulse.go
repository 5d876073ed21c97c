package jobs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// pulse remembers when this process was last heard by the database. One that has itself
// been silent does not judge the silence of others: after an outage of the database, or a
// pause of the whole machine, everybody looks dead for a moment.
type pulse struct {
	mu    sync.Mutex
	last  time.Time
	since time.Time // when the latest gap ended; zero: there was none
}

// heard notes a heartbeat.
func (p *pulse) heard(now time.Time, lease time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.last.IsZero() && now.Sub(p.last) > lease/2 {
		p.since = now
	}
	p.last = now
}

// steady reports whether this process has been heard without a gap for a lease, or since
// it began.
func (p *pulse) steady(now time.Time, lease time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.last) <= lease/2 && (p.since.IsZero() || now.Sub(p.since) >= lease)
}

// beat says that this process is alive, five times a lease.
func (r *Runner) beat(ctx context.Context) {
	every(ctx, r.c.Lease/5, func() {
		if err := r.heartbeat(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "heartbeat failed", slog.String("worker", r.id), slog.Any("error", err))
		}
	})
}

// heartbeat is bounded, so that one that hangs does not keep the next from being heard.
func (r *Runner) heartbeat(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, max(r.c.Lease/2, time.Second))
	defer cancel()
	if err := r.c.Store.Heartbeat(bounded, r.id); err != nil {
		return err
	}
	r.pulse.heard(r.c.Now(), r.c.Lease)
	return nil
}

func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}
