package db

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"countersign/approvals"
)

// Trigger says why an attempt is made.
type Trigger string

const (
	// Auto is by the schedule.
	Auto Trigger = "auto"
	// Manual is because somebody asked.
	Manual Trigger = "manual"
)

// Delivery is a callback that is owed, or was.
type Delivery struct {
	TicketID string
	Seq      int64
	// MessageID is the same for all attempts.
	MessageID string
	EventType approvals.EventType
	Caller    string
	URL       string
	// EndpointID is where it goes.
	EndpointID string
	// Payload is what is sent. Lists leave it out.
	Payload  []byte
	State    approvals.CallbackState
	Attempts int
	// Trigger of the next attempt.
	Trigger Trigger
	// NextAttemptAt is when it is due; zero unless pending.
	NextAttemptAt time.Time
	// ClaimedBy sends it until ClaimedUntil; empty: nobody does.
	ClaimedBy    string
	ClaimedUntil time.Time
	CreatedAt    time.Time
}

// deliveryColumns are all but the payload.
const deliveryColumns = `d.ticket_id, d.seq, d.message_id, d.event_type, t.caller, d.url, coalesce(d.endpoint_id, ''), d.state, d.attempts, d.trigger,
	d.next_attempt_at, coalesce(d.claimed_by, ''), d.claimed_until, d.created_at`

const fromDeliveries = ` FROM deliveries d JOIN tickets t ON t.id = d.ticket_id `

func scanDelivery(r pgx.CollectableRow) (Delivery, error) { return scanDeliveryAnd(r) }

func scanDeliveryAnd(r pgx.Row, more ...any) (Delivery, error) {
	var d Delivery
	var next, until *time.Time
	targets := []any{
		&d.TicketID, &d.Seq, &d.MessageID, &d.EventType, &d.Caller, &d.URL, &d.EndpointID, &d.State, &d.Attempts, &d.Trigger,
		&next, &d.ClaimedBy, &until, &d.CreatedAt,
	}
	err := r.Scan(append(targets, more...)...)
	d.NextAttemptAt, d.ClaimedUntil, d.CreatedAt = utc(next), utc(until), d.CreatedAt.UTC()
	if d.EndpointID == "" { // an older row
		d.EndpointID = endpointOf(d.Caller, d.URL)
	}
	return d, err
}

// Delivery reads a delivery with the bytes to send. CodeNotFound when there is none.
func (s *Store) Delivery(ctx context.Context, ticketID string, seq int64) (Delivery, error) {
	return s.delivery(ctx, `WHERE d.ticket_id = $1 AND d.seq = $2`, ticketID, seq)
}

// DeliveryByID is [Store.Delivery] by the id of the message.
func (s *Store) DeliveryByID(ctx context.Context, messageID string) (Delivery, error) {
	return s.delivery(ctx, `WHERE d.message_id = $1`, messageID)
}

func (s *Store) delivery(ctx context.Context, which string, args ...any) (Delivery, error) {
	var plain, sealed []byte
	d, err := scanDeliveryAnd(s.pool.QueryRow(ctx, `SELECT `+deliveryColumns+`, d.payload, d.sealed`+fromDeliveries+which, args...), &plain, &sealed)
	if err != nil {
		return Delivery{}, classify(err)
	}
	d.Payload, err = s.payload(d, plain, sealed)
	return d, err
}

// payload is what is sent of a delivery. Older rows hold it as it is.
func (s *Store) payload(d Delivery, plain, sealed []byte) ([]byte, error) {
	if sealed == nil {
		return plain, nil
	}
	return s.open(sealed, d.TicketID, fieldPayload, d.Seq)
}

// DeliveryFilter selects deliveries, newest first. Empty fields select everything.
type DeliveryFilter struct {
	Caller, EndpointID, TicketID string
	State                        approvals.CallbackState
	// Since and Until bound when a delivery was made, Since included.
	Since, Until time.Time
	// After is the message id of the last one of the page before, Limit the length of a page.
	After string
	Limit int
}

// Deliveries lists deliveries without what they send. Their message ids begin with the time.
func (s *Store) Deliveries(ctx context.Context, f DeliveryFilter) ([]Delivery, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+deliveryColumns+fromDeliveries+`
		WHERE ($1 = '' OR t.caller = $1) AND ($2 = '' OR d.endpoint_id = $2) AND ($3 = '' OR d.ticket_id = $3) AND ($4 = '' OR d.state = $4)
		AND ($5::timestamptz IS NULL OR d.created_at >= $5) AND ($6::timestamptz IS NULL OR d.created_at < $6)
		AND d.message_id < coalesce(nullif($7, ''), 'n') -- behind every id
		ORDER BY d.message_id DESC LIMIT $8`,
		f.Caller, f.EndpointID, f.TicketID, string(f.State), null(f.Since), null(f.Until), f.After, f.Limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list deliveries: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanDelivery)
	return out, classify(err)
}

// Attempt is one try to post a delivery and what came of it.
type Attempt struct {
	Number  int
	At      time.Time
	Trigger Trigger
	// Status is zero if no answer came, Error a constant sentence; empty: it was taken.
	Status int
	Error  string
	// Class is what kind of failure it was, such as "dns", "tls", "timeout" or "status".
	Class string
	// Address that was connected to. Not for callers.
	Address string
	// Duration of the whole attempt, and its phases; what did not happen is zero.
	Duration, DNS, Connect, TLS, FirstByte time.Duration
	// NextAt is when it was to be tried again; zero: not.
	NextAt time.Time
	// Snippet is the beginning of the answer, of verified endpoints only.
	Snippet []byte
}

const fieldSnippet = "snippet"

// Attempts lists the attempts of a message, in order. None when there is no such message.
func (s *Store) Attempts(ctx context.Context, messageID string) ([]Attempt, error) {
	rows, err := s.pool.Query(ctx, `SELECT a.ticket_id, a.seq, a.number, a.at, a.trigger, a.status, a.error, a.class, a.address, a.duration_ms,
		coalesce(a.dns_ms, 0), coalesce(a.connect_ms, 0), coalesce(a.tls_ms, 0), coalesce(a.first_byte_ms, 0), a.next_at, a.snippet
		FROM deliveries d JOIN delivery_attempts a USING (ticket_id, seq) WHERE d.message_id = $1 ORDER BY a.number`, messageID)
	if err != nil {
		return nil, classify(fmt.Errorf("list attempts: %w", err))
	}
	out, err := pgx.CollectRows(rows, s.scanAttempt)
	return out, classify(err)
}

func (s *Store) scanAttempt(r pgx.CollectableRow) (Attempt, error) {
	var a Attempt
	var ticketID string
	var seq int64
	var ms [5]int64
	var next *time.Time
	var sealed []byte
	err := r.Scan(&ticketID, &seq, &a.Number, &a.At, &a.Trigger, &a.Status, &a.Error, &a.Class, &a.Address,
		&ms[0], &ms[1], &ms[2], &ms[3], &ms[4], &next, &sealed)
	for i, to := range []*time.Duration{&a.Duration, &a.DNS, &a.Connect, &a.TLS, &a.FirstByte} {
		*to = time.Duration(ms[i]) * time.Millisecond
	}
	a.At, a.NextAt = a.At.UTC(), utc(next)
	if err == nil && sealed != nil {
		a.Snippet, err = s.open(sealed, ticketID, snippetField(a.Number), seq)
	}
	return a, err
}

func snippetField(number int) string { return fmt.Sprintf("%s/%d", fieldSnippet, number) }

// queueDeliveries persists the bytes of each callback that the transition's events owe.
func (s *Store) queueDeliveries(b *pgx.Batch, tr approvals.Transition) error {
	first := tr.Events[0].Seq
	for _, effect := range tr.Effects {
		d, ok := effect.(approvals.Deliver)
		if !ok || d.Seq < first {
			continue // not a delivery, or a retry of one made before
		}
		e := tr.Events[d.Seq-first]
		payload, err := approvals.CallbackPayload(tr.Ticket, e, tr.Result, s.publicURL)
		if err != nil {
			return fmt.Errorf("render callback for event %d: %w", e.Seq, err)
		}
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make message id: %w", err)
		}
		sealed, err := s.seal(payload, tr.Ticket.ID, fieldPayload, e.Seq)
		if err != nil {
			return err
		}
		to := tr.Ticket.Callback.URL
		b.Queue(`INSERT INTO deliveries
			(ticket_id, seq, message_id, event_type, url, endpoint_id, payload, sealed, state, attempts, next_attempt_at, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, '', $7, 'pending', 0, $8, $8)`,
			tr.Ticket.ID, e.Seq, approvals.MessageID(id), e.Type, to, endpointOf(tr.Ticket.Caller, to), sealed, e.At)
	}
	return nil
}

// queueAttempt repeats an event about an attempt in the delivery's row, which is free again
// then. The attempt's own row may be there already, with more than the event says.
func queueAttempt(b *pgx.Batch, e approvals.Event, a approvals.DeliveryAttempt) {
	if e.Type == approvals.EventRedeliveryRequested {
		b.Queue(`UPDATE deliveries SET state = 'pending', next_attempt_at = $3, trigger = 'manual' WHERE ticket_id = $1 AND seq = $2`,
			e.TicketID, a.Seq, e.At).Exec(exactlyOne)
		return
	}
	if e.Type == approvals.EventCallbackExhausted {
		queueDeadLetter(b, e, a)
	}
	state := map[approvals.EventType]string{
		approvals.EventCallbackDelivered: "delivered", approvals.EventCallbackExhausted: "exhausted",
		approvals.EventCallbackFailed: "pending",
	}[e.Type]
	b.Queue(`UPDATE deliveries SET state = $3, attempts = $4, next_attempt_at = $5, claimed_by = NULL, claimed_until = NULL
		WHERE ticket_id = $1 AND seq = $2 AND attempts = $4 - 1`,
		e.TicketID, a.Seq, state, a.Number, null(a.NextAt)).Exec(exactlyOne)
	b.Queue(`INSERT INTO delivery_attempts (ticket_id, seq, number, at, status, error, duration_ms, next_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (ticket_id, seq, number) DO NOTHING`,
		e.TicketID, a.Seq, a.Number, e.At, a.Status, a.Error, a.DurationMS, null(a.NextAt))
}

// exactlyOne is the guard of an update.
func exactlyOne(tag pgconn.CommandTag) error {
	if tag.RowsAffected() != 1 {
		return errVersion
	}
	return nil
}
