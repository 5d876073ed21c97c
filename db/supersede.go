package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// commitAlone commits a submit that takes another ticket's place, in a transaction of its
// own beside the committers. It has to wait for the lock of that ticket, which a click or
// a worker may hold, and a refusal takes back all that was written: strangers who share a
// group commit are to have neither. As many of them wait as may wait for a committer.
//
// Called under the door's lock, so that Close waits for it.
func (s *Store) commitAlone(ctx context.Context, p *submitting) error {
	select {
	case s.alone <- struct{}{}:
	default:
		return ErrOverloaded
	}
	s.running.Go(func() {
		defer func() { <-s.alone }()
		s.commit(ctx, []*submitting{p})
	})
	return nil
}

// commitSuperseding opens a ticket and closes the one whose place it takes, or does
// neither. Locks are taken in one order, the key before the ticket, and one of each: group
// commits take no ticket and [Store.Advance] no key, so that nobody waits in a circle.
func (s *Store) commitSuperseding(ctx context.Context, p *submitting) error {
	p.res, p.err = SubmitResult{}, nil
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		fresh, err := claimKeys(ctx, tx, []*submitting{p})
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			p.res, p.err = replayed(ctx, tx, p.req)
			return nil
		}
		return s.supersede(ctx, tx, p)
	})
}

// supersede does both under one now: that of after the wait for the lock.
func (s *Store) supersede(ctx context.Context, tx pgx.Tx, p *submitting) error {
	sub := p.req.Submission
	old, head, now, err := lock(ctx, tx, Ref{ID: sub.Supersedes, Caller: sub.Caller})
	if errors.Is(err, pgx.ErrNoRows) {
		return &approvals.Error{Code: approvals.CodeNotFound, Message: "supersedes names a ticket that does not exist"}
	}
	if err != nil {
		return fmt.Errorf("supersede ticket %s: %w", sub.Supersedes, err)
	}
	opened := p.open(now)
	closed, err := old.Supersede(opened.Events[0].Actor, opened.Ticket.ID, now)
	if err != nil {
		return err // and the key is free again
	}
	if err := s.insert(ctx, tx, []approvals.Transition{opened}); err != nil {
		return err
	}
	p.res.Ticket = opened.Ticket
	return s.write(ctx, tx, old, head, closed)
}
