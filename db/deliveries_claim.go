package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/envelope"
	"countersign/health"
)

// Admission says whether a delivery may be sent now, and if not, why.
type Admission string

const (
	// Admitted deliveries are claimed: whoever claimed one owes a RecordAttempt or a
	// ReleaseDelivery.
	Admitted Admission = "admitted"
	// NothingDue means that there is none that is owed now.
	NothingDue Admission = "nothing_due"
	// TooEarly means that it is due later.
	TooEarly Admission = "too_early"
	// Taken means that somebody is sending it.
	Taken Admission = "taken"
	// NoRoom means that as many as may be are being sent to its endpoint.
	NoRoom Admission = "no_room"
	// Held means that its endpoint asked to be left alone for a while.
	Held Admission = "held"
	// Shut means that its endpoint is disabled, or has not agreed to be sent anything.
	Shut Admission = "shut"
	// Resting means that its endpoint's breaker is open, or it was sent as much as it takes.
	Resting Admission = "resting"
	// Unlisted means that the configuration does not allow it any more.
	Unlisted Admission = "unlisted"
	// Unreadable means that what is to be sent cannot be decrypted. It was put off, so that it
	// keeps no other from being sent: a key that is missing may come back.
	Unreadable Admission = "unreadable"
)

// Terms are what the configuration says of an endpoint.
type Terms struct {
	// Listed: callbacks of this caller may go there.
	Listed bool
	// Waived: it need not have agreed.
	Waived bool
	// Concurrency is how many may be sent to it at a time.
	Concurrency int
	// Limits are its rate and its breaker. What it said itself that it takes bounds the rate, too.
	Limits health.Limits
	// Lease is how long a claim lasts.
	Lease time.Duration
}

// limits are the endpoint's own or those of the configuration, whichever are stricter.
func (t Terms) limits(e Endpoint) health.Limits {
	own := health.Rate{N: e.AllowedRate, Per: time.Minute}
	l := t.Limits
	if own.Limited() && (!l.Rate.Limited() || int64(own.N)*int64(l.Rate.Per) < int64(l.Rate.N)*int64(own.Per)) {
		l.Rate = own
	}
	return l
}

// Wanted names a delivery that is to be sent: that of an event of a ticket, or the one that
// has waited longest at an endpoint.
type Wanted struct {
	TicketID string
	Seq      int64
	// EndpointID: the next one there, whichever it is; TicketID and Seq are empty.
	EndpointID string
}

// DeliveryClaim is what ClaimDelivery found.
type DeliveryClaim struct {
	Delivery
	Admission Admission
	// Endpoint as it was before; zero if it is not known yet.
	Endpoint Endpoint
	// Wait is how long it takes at least until there is a use in asking again; zero: that
	// depends on others.
	Wait time.Duration
	// Age is how long ago the delivery was made.
	Age time.Duration

	sealed []byte // what Payload is made of; nil in older rows
}

// claimedNow counts what is being sent to the endpoint $1.
const claimedNow = `(SELECT count(*) FROM deliveries c WHERE c.endpoint_id = $1 AND c.claimed_by IS NOT NULL AND c.claimed_until > clock_timestamp())`

// ClaimDelivery takes up a delivery, to send it, if its endpoint takes it now: it is enabled
// and has agreed, it did not ask to be left alone, its breaker is closed, fewer than it takes
// at a time are being sent to it, and there is a token. From then on until the lease ends it is
// nobody else's. All claims at one endpoint wait for each other, so that none is one too many.
//
// terms says what the configuration knows; it is called under a lock and must be quick.
func (s *Store) ClaimDelivery(ctx context.Context, w Wanted, worker string, terms func(Delivery) Terms) (DeliveryClaim, error) {
	var c DeliveryClaim
	err := retry(ctx, func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
			c, err = s.claim(ctx, tx, w, worker, terms)
			return err
		})
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return DeliveryClaim{Admission: NothingDue}, nil
	}
	if err != nil {
		return DeliveryClaim{}, classify(fmt.Errorf("claim a delivery: %w", err))
	}
	return c, nil
}

func (s *Store) claim(ctx context.Context, tx pgx.Tx, w Wanted, worker string, terms func(Delivery) Terms) (DeliveryClaim, error) {
	c, known, claimed, now, err := candidate(ctx, tx, w)
	if err != nil {
		return c, err
	}
	t := terms(c.Delivery)
	c.Age = now.Sub(c.CreatedAt)
	if c.Admission = ready(c.Delivery, now); c.Admission != Admitted {
		c.Wait = max(0, c.NextAttemptAt.Sub(now))
		return c, nil
	}
	if !t.Listed {
		c.Admission = Unlisted
		return c, nil
	}
	if !known {
		if c.Endpoint, claimed, err = introduce(ctx, tx, c.Delivery, t); err != nil {
			return c, err
		}
	}
	state, admission, wait := takes(c.Endpoint, t, claimed, now)
	if c.Admission, c.Wait = admission, wait; admission != Admitted {
		return c, nil
	}
	if c.Payload, err = s.payload(c.Delivery, c.Payload, c.sealed); errors.Is(err, envelope.ErrSealed) {
		c.Admission = Unreadable
		return c, putOff(ctx, tx, c.Delivery)
	} else if err != nil {
		return c, err
	}
	c.ClaimedBy, c.ClaimedUntil = worker, now.Add(t.Lease)
	return c, s.lease(ctx, tx, c, state, t)
}

// unreadableFor is how long a delivery is put off that cannot be read.
const unreadableFor = 5 * time.Minute

func putOff(ctx context.Context, tx pgx.Tx, d Delivery) error {
	_, err := tx.Exec(ctx, `UPDATE deliveries SET next_attempt_at = clock_timestamp() + $3::interval WHERE ticket_id = $1 AND seq = $2`,
		d.TicketID, d.Seq, unreadableFor)
	return err
}

// candidate locks the endpoint, and reads in later statements what is wanted and how much is
// being sent, as they are after the wait for the lock. What is due is so by the time of the
// statement, by which an index can be searched: much may be pending there that is not due.
func candidate(ctx context.Context, tx pgx.Tx, w Wanted) (c DeliveryClaim, known bool, claimed int, now time.Time, err error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT `+endpointColumns+` FROM callback_endpoints e
		WHERE e.id = coalesce(nullif($1, ''), (SELECT endpoint_id FROM deliveries WHERE ticket_id = $2 AND seq = $3)) FOR NO KEY UPDATE`,
		w.EndpointID, w.TicketID, w.Seq)
	wanted := `SELECT ` + deliveryColumns + `, d.payload, d.sealed, clock_timestamp(),
		(SELECT count(*) FROM deliveries c WHERE c.endpoint_id = d.endpoint_id AND c.claimed_by IS NOT NULL AND c.claimed_until > clock_timestamp())` + fromDeliveries
	if w.EndpointID == "" {
		b.Queue(wanted+`WHERE d.ticket_id = $1 AND d.seq = $2`, w.TicketID, w.Seq)
	} else {
		b.Queue(wanted+`WHERE d.endpoint_id = $1 AND d.state = 'pending' AND d.next_attempt_at <= statement_timestamp()
			AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp()) ORDER BY d.next_attempt_at LIMIT 1`, w.EndpointID)
	}
	res := tx.SendBatch(ctx, b)
	defer res.Close() //nolint:errcheck // what matters was read
	rows, err := res.Query()
	if err != nil {
		return c, false, 0, now, fmt.Errorf("lock the endpoint: %w", err)
	}
	c.Endpoint, err = pgx.CollectExactlyOneRow(rows, scanEndpoint)
	if known = err == nil; !known && !errors.Is(err, pgx.ErrNoRows) {
		return c, false, 0, now, fmt.Errorf("lock the endpoint: %w", err)
	}
	var plain []byte
	if c.Delivery, err = scanDeliveryAnd(res.QueryRow(), &plain, &c.sealed, &now, &claimed); err != nil {
		return c, false, 0, now, fmt.Errorf("read the delivery: %w", err)
	}
	c.Payload = plain
	return c, known, claimed, now.UTC(), nil
}

// ready says whether a delivery as such is to be sent now.
func ready(d Delivery, now time.Time) Admission {
	switch {
	case d.State != approvals.CallbackPending:
		return NothingDue
	case d.ClaimedBy != "" && d.ClaimedUntil.After(now):
		return Taken
	case d.NextAttemptAt.After(now):
		return TooEarly
	}
	return Admitted
}

// takes says whether an endpoint takes one more.
func takes(e Endpoint, t Terms, claimed int, now time.Time) (health.State, Admission, time.Duration) {
	switch {
	case e.Disabled() || e.Verification == Unverified:
		return e.Health, Shut, 0
	case e.HeldUntil.After(now):
		return e.Health, Held, e.HeldUntil.Sub(now)
	case claimed >= max(t.Concurrency, 1):
		return e.Health, NoRoom, 0
	}
	state, wait := e.Health.Admit(now, t.limits(e))
	if wait > 0 {
		return state, Resting, wait
	}
	return state, Admitted, 0
}

// introduce makes the row of an endpoint that the configuration has and the table has not, and
// names it in a delivery that is older than there were endpoints.
func introduce(ctx context.Context, tx pgx.Tx, d Delivery, t Terms) (Endpoint, int, error) {
	origin := originOf(d.URL)
	how := Unverified
	if t.Waived {
		how = Waived
	}
	b := &pgx.Batch{}
	b.Queue(`INSERT INTO callback_endpoints (id, caller, origin, probe_url, verification, verify_due_at)
		VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 = 'unverified' THEN clock_timestamp() END) ON CONFLICT (id) DO NOTHING`,
		d.EndpointID, d.Caller, origin, d.URL, how)
	b.Queue(`UPDATE deliveries SET endpoint_id = $3 WHERE ticket_id = $1 AND seq = $2 AND endpoint_id IS NULL`, d.TicketID, d.Seq, d.EndpointID)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return Endpoint{}, 0, fmt.Errorf("introduce the endpoint: %w", err)
	}
	e, err := lockEndpoint(ctx, tx, d.EndpointID)
	if err != nil {
		return e, 0, err
	}
	var claimed int
	err = tx.QueryRow(ctx, `SELECT `+claimedNow, d.EndpointID).Scan(&claimed)
	return e, claimed, err
}

// lease writes a claim down. A crash of the database may lose it, and then the attempt is
// made once more, as after a crash of ours: nobody need wait for the disk.
func (s *Store) lease(ctx context.Context, tx pgx.Tx, c DeliveryClaim, state health.State, t Terms) error {
	b := &pgx.Batch{}
	b.Queue(`SET LOCAL synchronous_commit TO off`)
	b.Queue(`UPDATE deliveries SET claimed_by = $3, claimed_until = $4, trigger = 'auto' WHERE ticket_id = $1 AND seq = $2`,
		c.TicketID, c.Seq, c.ClaimedBy, c.ClaimedUntil).Exec(exactlyOne)
	if l := t.limits(c.Endpoint); l.Rate.Limited() || c.Endpoint.Health.Trying(c.ClaimedUntil) {
		b.Queue(`UPDATE callback_endpoints SET health = $2 WHERE id = $1`, c.EndpointID, state)
	}
	return tx.SendBatch(ctx, b).Close()
}

// ReleaseDelivery gives a claim back: nothing was sent, or what came of it is not the
// receiver's doing. It is due again after wait, and not charged. It changes nothing when the
// claim is somebody else's by now.
func (s *Store) ReleaseDelivery(ctx context.Context, d Delivery, wait time.Duration) error {
	return s.changeEndpoint(ctx, d.EndpointID, func(tx pgx.Tx, e Endpoint) error {
		tag, err := tx.Exec(ctx, `UPDATE deliveries SET claimed_by = NULL, claimed_until = NULL, next_attempt_at = greatest(next_attempt_at, clock_timestamp() + $4::interval),
			trigger = CASE WHEN $5 = 'manual' THEN 'manual' ELSE trigger END
			WHERE ticket_id = $1 AND seq = $2 AND claimed_by = $3 AND attempts = $6`, d.TicketID, d.Seq, d.ClaimedBy, wait, d.Trigger, d.Attempts)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE callback_endpoints SET health = $2 WHERE id = $1`, d.EndpointID, e.Health.Forgo())
		return err
	})
}

// FreeDeliveries frees the claims of workers that have been silent for longer than lease, and
// returns how many.
func (s *Store) FreeDeliveries(ctx context.Context, lease time.Duration) (int64, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE deliveries d SET claimed_by = NULL, claimed_until = NULL
		WHERE d.claimed_by IS NOT NULL AND NOT EXISTS (
			SELECT FROM workers w WHERE w.id = d.claimed_by AND w.heartbeat_at >= clock_timestamp() - $1::interval)`, lease)
	return tag.RowsAffected(), classify(err)
}
