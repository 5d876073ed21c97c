package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/policy"
)

const (
	// openPage is how many open tickets are read at once, reassessFor how long one turn
	// may take. What is left then is the next turn's.
	openPage    = 50
	reassessFor = 20 * time.Second
	// settleFor is how long after a change a submit may still be judged by the policy before
	// it, here or in a process that has yet to see the change. One more pass finds those.
	settleFor = time.Minute
)

// PolicyChanged says that another configuration is in force, or that Slack says something
// else of the people in it, so that open tickets are looked at without delay. Without it that
// is noticed at the next sweep.
func (r *Runner) PolicyChanged() {
	select {
	case r.changed <- struct{}{}:
	default: // somebody said so already
	}
}

// pass is one look at every open ticket. It outlives the turns in which it is made: where
// one ends, for want of time or of a database, the next goes on.
type pass struct {
	config  *policy.Config
	over    bool
	after   string    // the last ticket looked at
	began   time.Time // by the clock of this process, as all others but next
	settle  time.Time // when a pass is due once more because of a change; zero: it is not
	next    time.Time // when the next is due, by the database's clock; zero: when the policy changes
	skew    time.Duration
	looked  int
	changed int
	failed  int
}

// reassessForever looks at the open tickets whenever the answer to who may decide has
// changed without anything having happened to them: at the start, with a configuration,
// when somebody's absence ends. Every process does so for its own configuration, one at a
// time; a pass over tickets that need nothing writes nothing.
func (r *Runner) reassessForever(ctx context.Context) {
	tick := time.NewTicker(r.c.SweepEvery)
	defer tick.Stop()
	p := &pass{over: true}
	for {
		if err := r.reassessInTurn(ctx, p); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "looking at open tickets again was interrupted", slog.Int("looked", p.looked), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-tick.C:
		}
	}
}

// reassessInTurn goes on with a pass, or begins one that is due, unless another process is
// at it.
func (r *Runner) reassessInTurn(ctx context.Context, p *pass) error {
	p.begin(r.c.Policy(), r.c.Now())
	if p.over {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	return r.c.Store.Exclusively(bounded, "reassess", func(ctx context.Context) error { return r.reassess(ctx, p) })
}

// begin starts over for another configuration, or when the hour has come.
func (p *pass) begin(config *policy.Config, now time.Time) {
	changed := p.config != config // what Slack says of people is in it too, and not in its digest
	due := p.over && (reached(p.next, now.Add(p.skew)) || reached(p.settle, now))
	p.config = config
	if !changed && !due {
		return
	}
	settle := time.Time{}
	if changed {
		settle = now.Add(settleFor)
	} else if !reached(p.settle, now) {
		settle = p.settle
	}
	*p = pass{config: config, began: now, settle: settle, skew: p.skew}
}

func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// reassess is one turn.
func (r *Runner) reassess(ctx context.Context, p *pass) error {
	for turn := r.c.Now(); r.c.Now().Sub(turn) < reassessFor && r.c.Policy() == p.config; {
		page, err := r.c.Store.Open(ctx, p.after, openPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			r.passed(ctx, p)
			return nil
		}
		if err := r.reassessPage(ctx, p, page); err != nil {
			return err
		}
		if p.looked%(50*openPage) == 0 {
			r.log.InfoContext(ctx, "looking at open tickets again", slog.Int("looked", p.looked), slog.Int("changed", p.changed))
		}
	}
	return nil
}

// passed ends a pass and says when the next one is due.
func (r *Runner) passed(ctx context.Context, p *pass) {
	now := r.c.Now()
	p.over, p.next = true, nextReturn(p.config.Directory(), p.began.Add(p.skew))
	r.log.InfoContext(ctx, "looked at open tickets again", slog.String("policy", p.config.Digest), slog.Int("looked", p.looked),
		slog.Int("changed", p.changed), slog.Int("failed", p.failed), slog.Duration("took", now.Sub(p.began)))
}

// nextReturn is when the next of those who are away is back; zero when nobody is away.
func nextReturn(dir approvals.Directory, after time.Time) (next time.Time) {
	for _, absent := range dir.Away {
		if absent.Until.After(after) && (next.IsZero() || absent.Until.Before(next)) {
			next = absent.Until
		}
	}
	return next
}

// reassessPage looks at some tickets. One that cannot be written is passed over and said; a
// database that is not there ends the turn.
func (r *Runner) reassessPage(ctx context.Context, p *pass, page []approvals.Ticket) error {
	now, err := r.moment(ctx, page[0].ID)
	if err != nil {
		return err
	}
	p.skew = now.Sub(r.c.Now())
	for _, t := range page {
		changed, err := r.reassessOne(ctx, p.config, t, now)
		switch {
		case errors.Is(err, db.ErrUnavailable) || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case err != nil:
			p.failed++
			r.log.ErrorContext(ctx, "cannot look at an open ticket again", slog.String("ticket_id", t.ID), slog.Any("error", err))
		case changed:
			p.changed++
		}
		p.looked++
		p.after = t.ID
	}
	return nil
}

// moment is the database's time, which decides who is away. A verb that does nothing is
// how it is asked for.
func (r *Runner) moment(ctx context.Context, id string) (now time.Time, err error) {
	_, err = r.advance(ctx, id, func(_ approvals.Ticket, at time.Time) (approvals.Transition, error) {
		now = at
		return approvals.Transition{}, nil
	})
	return now, err
}

// reassessOne tries the verb on what was read, and locks the ticket only where that
// changes something.
func (r *Runner) reassessOne(ctx context.Context, config *policy.Config, t approvals.Ticket, now time.Time) (changed bool, err error) {
	tried, err := t.Reassess(config.Directory(), now)
	if err != nil || tried.Empty() {
		return false, unlessRefused(err)
	}
	_, err = r.advance(ctx, t.ID, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		tried, err = t.Reassess(r.c.Policy().Directory(), now)
		return tried, err
	})
	if err != nil || tried.Empty() {
		return false, unlessRefused(err)
	}
	events := make([]string, 0, len(tried.Events))
	for _, e := range tried.Events {
		events = append(events, string(e.Type))
	}
	r.log.InfoContext(ctx, "an open ticket is affected by who is there", slog.String("ticket_id", t.ID), slog.Any("events", events))
	return true, nil
}
