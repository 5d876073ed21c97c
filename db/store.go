package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/approvals"
	"countersign/audit"
	"countersign/envelope"
)

// Outbox turns effects into jobs inside the transaction that caused them. It is an
// interface to keep this package below the one that knows River.
type Outbox interface {
	Enqueue(ctx context.Context, tx pgx.Tx, effects []approvals.Effect) error
}

// Config says what a Store works with.
type Config struct {
	// Pool connects to a migrated database. Required.
	Pool *pgxpool.Pool
	// Outbox takes the effects. Required.
	Outbox Outbox
	// Box encrypts results and callbacks. Required.
	Box *envelope.Box
	// PublicURL opens the links in callbacks, without a slash at the end.
	PublicURL string
	// Logger: nil means slog.Default().
	Logger *slog.Logger
	// Committers is how many transactions of submits run at once; 0 means 2.
	Committers int
	// Queue is how many submits may wait for a committer, and how many that supersede a
	// ticket for that one; 0 means 1024. A submit that finds it full is answered
	// ErrOverloaded.
	Queue int
}

// Store reads and writes tickets. It is safe for concurrent use. Close it when done.
type Store struct {
	pool      *pgxpool.Pool
	outbox    Outbox
	box       *envelope.Box
	publicURL string
	log       *slog.Logger
	submits   chan *submitting
	alone     chan struct{} // a place for each submit that is committed by itself
	door      sync.RWMutex  // guards closed and, with it, who may still send to submits
	closed    bool
	inFlight  sync.Map // keys being committed by this process
	quotas    *quotas
	watch     *watch
	versions  *together[Change]
	tickets   *together[approvals.Ticket]
	stop      context.CancelFunc
	running   sync.WaitGroup
}

// New starts a store. The committers run until Close.
func New(c Config) (*Store, error) {
	if c.Pool == nil || c.Outbox == nil || c.Box == nil {
		return nil, errors.New("db.New: Pool, Outbox and Box are required")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Committers == 0 {
		c.Committers = 2
	}
	if c.Queue == 0 {
		c.Queue = 1024
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Store{
		pool: c.Pool, outbox: c.Outbox, box: c.Box, publicURL: c.PublicURL, log: c.Logger,
		submits: make(chan *submitting, c.Queue), alone: make(chan struct{}, c.Queue), quotas: newQuotas(), watch: newWatch(), stop: stop,
	}
	for range c.Committers {
		s.running.Go(func() { s.commitSubmits(ctx) })
	}
	s.startReaders(ctx)
	s.running.Go(func() { s.announce(ctx) })
	s.running.Go(func() { s.feed(ctx) })
	s.running.Go(func() { s.patrol(ctx) })
	s.running.Go(func() { s.quotas.forget(ctx) })
	return s, nil
}

// Close wakes everybody who waits and stops the committers. Submits under way are
// finished first; later ones are answered ErrUnavailable.
func (s *Store) Close() {
	s.door.Lock()
	s.closed = true
	s.door.Unlock()
	s.watch.close()
	s.stop()
	s.running.Wait()
}

// Ref names a ticket. Caller, when set, makes a ticket of any other caller look like a
// missing one.
type Ref struct{ ID, Caller string }

// Decide is what a verb of the domain looks like to Advance. now is the database's
// clock, read after the ticket was locked.
type Decide func(t approvals.Ticket, now time.Time) (approvals.Transition, error)

// Advance is the only way a ticket changes. It locks the ticket, calls decide, and
// commits the resulting state, its audit events and its jobs in one transaction.
//
// It returns the ticket as it is afterwards. When decide refuses, its error is
// returned; if it came with a Transition (a refusal that is to be recorded), that is
// committed first. A deadlock or serialization failure is tried again, so decide may be
// called more than once and must have no effects of its own.
//
// Errors: an *approvals.Error from decide; one with CodeNotFound when there is no such
// ticket; ErrUnavailable when the database cannot be reached.
func (s *Store) Advance(ctx context.Context, ref Ref, decide Decide) (approvals.Ticket, error) {
	return s.advance(ctx, ref, decide, func(context.Context, pgx.Tx, approvals.Transition, error) error { return nil })
}

// besides is what else is written in the transaction of an Advance. It is called whatever
// came of decide, and an error of its own undoes everything; errLeave undoes the transition only.
type besides func(ctx context.Context, tx pgx.Tx, tr approvals.Transition, refusal error) error

func (s *Store) advance(ctx context.Context, ref Ref, decide Decide, also besides) (approvals.Ticket, error) {
	return s.advanceAfter(ctx, ref, func(context.Context, pgx.Tx) error { return nil }, decide, also)
}

// advanceAfter is advance that reads, and locks, something first: once the ticket is locked
// and before decide is called.
func (s *Store) advanceAfter(ctx context.Context, ref Ref, first func(context.Context, pgx.Tx) error, decide Decide, also besides) (approvals.Ticket, error) {
	var (
		after   approvals.Ticket
		refusal error
	)
	err := retry(ctx, func() error {
		refusal = nil
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			before, head, now, err := lock(ctx, tx, ref)
			if err != nil {
				return err
			}
			if err := first(ctx, tx); err != nil {
				return err
			}
			var tr approvals.Transition
			// A refusal leaves through the variable: an error returned here would roll
			// back the very event that records it.
			tr, refusal = decide(before, now)
			after = before
			if err := also(ctx, tx, tr, refusal); err != nil || tr.Empty() {
				return unlessLeft(err)
			}
			after = tr.Ticket
			return s.write(ctx, tx, before, head, tr)
		})
	})
	if err != nil {
		return approvals.Ticket{}, classify(fmt.Errorf("advance ticket %s: %w", ref.ID, err))
	}
	s.watch.moved(after)
	return after, refusal
}

// unlessLeft has what was written besides committed where the ticket is left as it is.
func unlessLeft(err error) error {
	if errors.Is(err, errLeave) {
		return nil
	}
	return err
}

// write commits a transition to the tables: the guarded update of the state, each event
// with the rows that project it, and the jobs.
func (s *Store) write(ctx context.Context, tx pgx.Tx, before approvals.Ticket, head audit.Hash, tr approvals.Transition) error {
	entries, err := seal(head, tr.Events)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	queueUpdate(b, before, tr.Ticket, entries[len(entries)-1].Hash)
	for _, entry := range entries {
		queueEvent(b, entry)
		if err := s.queueProjections(b, entry.Event, tr.Result); err != nil {
			return err
		}
	}
	if err := s.queueDeliveries(b, tr); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write transition to %s: %w", tr.Ticket.State, err)
	}
	if err := s.outbox.Enqueue(ctx, tx, tr.Effects); err != nil {
		return fmt.Errorf("enqueue jobs: %w", err)
	}
	return nil
}

func seal(head audit.Hash, events []approvals.Event) ([]audit.Entry, error) {
	entries := make([]audit.Entry, 0, len(events))
	for _, e := range events {
		entry, err := audit.Seal(e, head)
		if err != nil {
			return nil, err
		}
		entries, head = append(entries, entry), entry.Hash
	}
	return entries, nil
}
