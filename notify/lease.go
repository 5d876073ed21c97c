package notify

import (
	"context"
	"log/slog"
	"time"
)

// keepLease asks for the task of the sender, and prolongs it, until ctx ends.
func (s *Sender) keepLease(ctx context.Context) {
	tick := time.NewTicker(s.c.Lease / 3)
	defer tick.Stop()
	for {
		s.prolong(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prolong counts from before the question: whenever the database answered, its lease ends no
// sooner than ours.
func (s *Sender) prolong(ctx context.Context) {
	asked := s.c.Now()
	bounded, cancel := context.WithTimeout(ctx, s.c.Lease/2)
	defer cancel()
	mine, err := s.c.Store.HoldSender(bounded, s.c.Name, s.c.Lease)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "the lease of the sender cannot be prolonged", slog.Any("error", err))
		}
		return // what is held ends by itself
	}
	before := s.leads()
	s.mu.Lock()
	s.held = time.Time{}
	if mine {
		s.held = asked.Add(s.c.Lease)
	}
	s.mu.Unlock()
	if mine == before {
		return
	}
	if mine {
		s.log.InfoContext(ctx, "this process sends to slack", slog.String("name", s.c.Name))
		s.publish(ctx)
		signal(s.woken)
		return
	}
	s.log.WarnContext(ctx, "another process sends to slack", slog.String("name", s.c.Name))
}

// leads reports whether this process is the sender. From when it is not, nothing is begun.
func (s *Sender) leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.Now().Before(s.held)
}

// leaveTimeout bounds what is done when ctx has ended.
const leaveTimeout = 2 * time.Second

func (s *Sender) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := s.c.Store.LeaveSender(ctx, s.c.Name); err != nil {
		s.log.WarnContext(ctx, "the lease of the sender cannot be given back", slog.Any("error", err))
	}
}

// publish shows the breaker's state to the other processes.
func (s *Sender) publish(ctx context.Context) {
	if err := s.c.Store.PutSenderStatus(ctx, s.c.Name, s.breaker.is()); err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "the state of the sender cannot be noted", slog.Any("error", err))
	}
}
