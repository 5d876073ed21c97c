package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/audit"
)

const (
	// maxBatch is how many submits share a transaction. More gains little and makes
	// the last of them wait.
	maxBatch = 64
	// commitTimeout bounds a shared transaction.
	commitTimeout = 10 * time.Second
)

// IdempotencyKey is a caller's key for a request, with the digest of what was asked.
type IdempotencyKey struct {
	Route       string
	Key         string
	Fingerprint [32]byte
}

// SubmitRequest is a call to be opened as a ticket under a plan.
type SubmitRequest struct {
	Submission approvals.Submission
	Plan       approvals.Plan
	Directory  approvals.Directory
	Key        IdempotencyKey
	// Direct says that whoever submits makes the call at once, if it is allowed outright: its
	// ticket is opened without a job that would do so. Should that process die, the sweeper
	// finds the ticket.
	Direct bool
	// Quota is how many unfinished tickets the caller may have; a [*QuotaError] refuses what
	// would be one more. Zero: any number. A ticket that takes another's place, or is
	// refused by its rule at once, is never one more.
	Quota int
}

// SubmitResult is the ticket a submit stands for.
type SubmitResult struct {
	Ticket approvals.Ticket
	// Replayed says that the key had been used before with the same request; the ticket
	// is then as it is now.
	Replayed bool
}

type submitting struct {
	req   SubmitRequest
	call  approvals.Accepted
	ready chan struct{}
	res   SubmitResult
	err   error
}

// open opens the ticket. Of a direct one nobody else is asked to make the call.
func (p *submitting) open(now time.Time) approvals.Transition {
	tr := p.call.Open(now)
	if p.req.Direct {
		tr.Effects = slices.DeleteFunc(tr.Effects, func(e approvals.Effect) bool {
			_, executes := e.(approvals.Execute)
			return executes
		})
	}
	return tr
}

// Submit opens a ticket, or finds the one its key already stands for. It returns after
// the commit.
//
// Submits that arrive together share one transaction (a group commit): a committer
// takes whoever is waiting and never waits for more, so that a lone submit commits at
// once. When a shared transaction fails, its members are tried again one by one and a
// bad one harms nobody else. Once it is queued, a submit is carried out even if ctx ends;
// its key makes asking again safe.
//
// A submission that supersedes a ticket closes that one in the same transaction, or, when
// that ticket refuses, opens none and does not use up its key.
//
// Errors: an *approvals.Error when the domain refuses, CodeNotFound when the ticket to be
// superseded is not there for this caller; a *QuotaError; ErrKeyReused, ErrKeyInProgress, ErrOverloaded,
// ErrUnavailable.
func (s *Store) Submit(ctx context.Context, req SubmitRequest) (SubmitResult, error) {
	// The domain's answer does not depend on the hour, so a refusal costs no round trip
	// and does not use up the key.
	accepted, err := approvals.Accept(req.Submission, req.Plan, req.Directory)
	if err != nil {
		return SubmitResult{}, err
	}
	id := [3]string{req.Submission.Caller, req.Key.Route, req.Key.Key}
	if _, busy := s.inFlight.LoadOrStore(id, nil); busy {
		return SubmitResult{}, ErrKeyInProgress
	}
	p := &submitting{req: req, call: accepted, ready: make(chan struct{})}
	if err := s.enqueue(ctx, p); err != nil {
		s.inFlight.Delete(id)
		return SubmitResult{}, err
	}
	select {
	case <-p.ready:
		return p.res, p.err
	case <-ctx.Done():
		return SubmitResult{}, fmt.Errorf("submit: %w", ctx.Err())
	}
}

// enqueue hands a submit to the committers. Under the lock, so that none slips into the
// queue after Close has let the committers go.
func (s *Store) enqueue(ctx context.Context, p *submitting) error {
	s.door.RLock()
	defer s.door.RUnlock()
	if s.closed {
		return fmt.Errorf("%w: the store is closed", ErrUnavailable)
	}
	if p.req.Submission.Supersedes != "" {
		return s.commitAlone(ctx, p)
	}
	select {
	case s.submits <- p:
		return nil
	default:
		return ErrOverloaded
	}
}

// commitSubmits is one committer. At shutdown it empties the queue before it returns.
func (s *Store) commitSubmits(ctx context.Context) {
	for {
		select {
		case p := <-s.submits:
			s.commit(ctx, s.gather(p))
		case <-ctx.Done():
			for {
				select {
				case p := <-s.submits:
					s.commit(ctx, s.gather(p))
				default:
					return
				}
			}
		}
	}
}

func (s *Store) gather(first *submitting) []*submitting {
	batch := []*submitting{first}
	for len(batch) < maxBatch {
		select {
		case p := <-s.submits:
			batch = append(batch, p)
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch and tells each member what became of it. It does so even when
// the store is being closed.
func (s *Store) commit(ctx context.Context, batch []*submitting) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	err := retry(ctx, func() error {
		if batch[0].req.Submission.Supersedes != "" {
			return s.commitSuperseding(ctx, batch[0])
		}
		return s.commitTogether(ctx, batch)
	})
	switch {
	case err == nil:
	case len(batch) > 1 && !unavailable(err):
		s.log.WarnContext(ctx, "shared submit failed, members are tried singly",
			slog.Int("members", len(batch)), slog.Any("error", err))
		for _, p := range batch {
			s.commit(ctx, []*submitting{p})
		}
		return
	default:
		for _, p := range batch {
			p.res, p.err = SubmitResult{}, classify(fmt.Errorf("submit: %w", err))
		}
	}
	for _, p := range batch {
		if p.err == nil && !p.res.Replayed {
			s.watch.moved(p.res.Ticket)
			if old := p.res.Ticket.Supersedes; old != "" {
				s.watch.changed(old)
			}
		}
		s.inFlight.Delete([3]string{p.req.Submission.Caller, p.req.Key.Route, p.req.Key.Key})
		close(p.ready)
	}
}

func (s *Store) commitTogether(ctx context.Context, batch []*submitting) error {
	for _, p := range batch {
		p.res, p.err = SubmitResult{}, nil
	}
	// One order for all transactions, so that two of them cannot wait for each other.
	slices.SortFunc(batch, func(a, b *submitting) int {
		return cmp.Or(strings.Compare(a.req.Submission.Caller, b.req.Submission.Caller),
			strings.Compare(a.req.Key.Route, b.req.Key.Route), strings.Compare(a.req.Key.Key, b.req.Key.Key))
	})
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		admitted, err := s.admit(ctx, tx, batch)
		if err != nil || len(admitted) == 0 {
			return err
		}
		fresh, err := claimKeys(ctx, tx, admitted)
		if err != nil {
			return err
		}
		var open []approvals.Transition
		for _, p := range admitted {
			now, ok := fresh[p.req.Submission.ID]
			if !ok {
				p.res, p.err = replayed(ctx, tx, p.req)
				continue
			}
			tr := p.open(now)
			p.res.Ticket = tr.Ticket
			open = append(open, tr)
		}
		if len(open) == 0 {
			return nil
		}
		return s.insert(ctx, tx, open)
	})
}

// claimKeys inserts the keys and returns, for each ticket whose key is new, the
// database's clock at that moment. A key that another transaction is writing is waited
// for.
func claimKeys(ctx context.Context, tx pgx.Tx, batch []*submitting) (map[string]time.Time, error) {
	var callers, routes, keys, ids []string
	var prints [][]byte
	for _, p := range batch {
		callers = append(callers, p.req.Submission.Caller)
		routes = append(routes, p.req.Key.Route)
		keys = append(keys, p.req.Key.Key)
		ids = append(ids, p.req.Submission.ID)
		prints = append(prints, p.req.Key.Fingerprint[:])
	}
	rows, err := tx.Query(ctx, `INSERT INTO idempotency_keys (caller, route, key, fingerprint, ticket_id, created_at)
		SELECT caller, route, key, fingerprint, ticket_id, clock_timestamp()
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[]) AS u(caller, route, key, fingerprint, ticket_id)
		ON CONFLICT DO NOTHING RETURNING ticket_id, created_at`, callers, routes, keys, prints, ids)
	if err != nil {
		return nil, fmt.Errorf("claim keys: %w", err)
	}
	fresh := make(map[string]time.Time, len(batch))
	var id string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		fresh[id] = at.UTC()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("claim keys: %w", err)
	}
	return fresh, nil
}

func replayed(ctx context.Context, tx pgx.Tx, req SubmitRequest) (SubmitResult, error) {
	var fingerprint []byte
	var id string
	err := tx.QueryRow(ctx, `SELECT fingerprint, ticket_id FROM idempotency_keys WHERE caller = $1 AND route = $2 AND key = $3`,
		req.Submission.Caller, req.Key.Route, req.Key.Key).Scan(&fingerprint, &id)
	if errors.Is(err, pgx.ErrNoRows) {
		return SubmitResult{}, ErrKeyInProgress // dropped by retention between the two statements
	}
	if err != nil {
		return SubmitResult{}, fmt.Errorf("read key: %w", err)
	}
	if [32]byte(fingerprint) != req.Key.Fingerprint {
		return SubmitResult{}, ErrKeyReused
	}
	t, _, err := scanFull(tx.QueryRow(ctx, `SELECT`+fullColumns+fromTickets+`WHERE t.id = $1`, id))
	if err != nil {
		return SubmitResult{}, fmt.Errorf("read replayed ticket: %w", err)
	}
	return SubmitResult{Ticket: t, Replayed: true}, nil
}

// insert writes new tickets with multi-row statements in one round trip, and their jobs.
func (s *Store) insert(ctx context.Context, tx pgx.Tx, open []approvals.Transition) error {
	b := &pgx.Batch{}
	var effects []approvals.Effect
	var entries []audit.Entry
	var heads []audit.Hash
	for _, tr := range open {
		sealed, err := seal(audit.Genesis(tr.Ticket.ID), tr.Events)
		if err != nil {
			return err
		}
		entries = append(entries, sealed...)
		heads = append(heads, sealed[len(sealed)-1].Hash)
		effects = append(effects, tr.Effects...)
	}
	queueTickets(b, open, heads)
	queueCalls(b, open)
	queueEvents(b, entries)
	for _, tr := range open {
		if err := s.queueDeliveries(b, tr); err != nil {
			return err
		}
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("insert tickets: %w", err)
	}
	if err := s.outbox.Enqueue(ctx, tx, effects); err != nil {
		return fmt.Errorf("enqueue jobs: %w", err)
	}
	return nil
}
