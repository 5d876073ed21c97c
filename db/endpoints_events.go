package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"countersign/approvals"
)

// The events of endpoints, as service_events has them.
const (
	EndpointVerified           = "endpoint.verified"
	EndpointVerificationFailed = "endpoint.verification_failed"
	EndpointDisabled           = "endpoint.disabled"
	EndpointEnabled            = "endpoint.enabled"
	EndpointTripped            = "endpoint.tripped"
	EndpointRecovered          = "endpoint.recovered"
	EndpointRedelivered        = "endpoint.redelivered"
	// EndpointDeadLetter is the first delivery that was given up since people were last told.
	EndpointDeadLetter = "endpoint.dead_letter"
)

// EndpointStream is the name under which the events of an endpoint are kept.
func EndpointStream(id string) string { return "endpoint/" + id }

// ServiceEvent is a fact that belongs to no ticket.
type ServiceEvent struct {
	ID    int64
	At    time.Time
	Type  string
	Actor approvals.Actor
	Data  json.RawMessage
}

// executor is a pool or a transaction.
type executor interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// NoteServiceEvent keeps a fact that belongs to no ticket. data is anything that can be
// written as JSON; nil is an empty object.
func (s *Store) NoteServiceEvent(ctx context.Context, stream, typ string, actor approvals.Actor, data any) error {
	return classify(noteService(ctx, s.pool, stream, typ, actor, data))
}

func noteService(ctx context.Context, to executor, stream, typ string, actor approvals.Actor, data any) error {
	text := []byte("{}")
	if data != nil {
		var err error
		if text, err = json.Marshal(data); err != nil {
			return fmt.Errorf("write the data of %s: %w", typ, err)
		}
	}
	_, err := to.Exec(ctx, `INSERT INTO service_events (stream, type, actor_kind, actor_name, actor_via, data) VALUES ($1, $2, $3, $4, $5, $6)`,
		stream, typ, actor.Kind, actor.Name, actor.Via, string(text))
	if err != nil {
		return fmt.Errorf("note %s: %w", typ, err)
	}
	return nil
}

// ServiceEvents lists the events of a stream after an id, in order.
func (s *Store) ServiceEvents(ctx context.Context, stream string, after int64, limit int) ([]ServiceEvent, error) {
	rows, err := s.pool.Query(ctx, `SELECT id, at, type, actor_kind, actor_name, actor_via, data FROM service_events
		WHERE stream = $1 AND id > $2 ORDER BY id LIMIT $3`, stream, after, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list service events: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (ServiceEvent, error) {
		var e ServiceEvent
		err := r.Scan(&e.ID, &e.At, &e.Type, &e.Actor.Kind, &e.Actor.Name, &e.Actor.Via, &e.Data)
		e.At = e.At.UTC()
		return e, err
	})
	return out, classify(err)
}

// DisableEndpoint has nothing more sent to an endpoint. What it is owed is kept. One that is
// disabled stays so for the first reason. CodeNotFound when there is none.
func (s *Store) DisableEndpoint(ctx context.Context, id string, by approvals.Actor, why string) error {
	return s.changeEndpoint(ctx, id, func(tx pgx.Tx, e Endpoint) error {
		if e.Disabled() {
			return nil
		}
		return disable(ctx, tx, id, by, why)
	})
}

func disable(ctx context.Context, tx pgx.Tx, id string, by approvals.Actor, why string) error {
	if why == "" {
		why = "no reason was given"
	}
	_, err := tx.Exec(ctx, `UPDATE callback_endpoints SET disabled_at = clock_timestamp(), disabled_by = $2, disabled_why = $3 WHERE id = $1`, id, by.Name, why)
	if err != nil {
		return err
	}
	return noteService(ctx, tx, EndpointStream(id), EndpointDisabled, by, map[string]string{"reason": why})
}

// EnableEndpoint has an endpoint sent again what it is owed, as fast as it may be sent
// anything; what it did before is forgotten. It returns how many deliveries waited, and has
// the first of them sent at once. CodeNotFound when there is none.
func (s *Store) EnableEndpoint(ctx context.Context, id string, by approvals.Actor) (held int, err error) {
	err = s.changeEndpoint(ctx, id, func(tx pgx.Tx, e Endpoint) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM deliveries WHERE endpoint_id = $1 AND state = 'pending'`, id).Scan(&held); err != nil {
			return err
		}
		if !e.Disabled() {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE callback_endpoints SET disabled_at = NULL, disabled_by = '', disabled_why = '', held_until = NULL,
			health = '{}', failures = 0, failing_since = NULL, alerted_at = NULL WHERE id = $1`, id)
		if err != nil {
			return err
		}
		if err := noteService(ctx, tx, EndpointStream(id), EndpointEnabled, by, map[string]int{"held": held}); err != nil {
			return err
		}
		return s.wake(ctx, tx, id)
	})
	return held, err
}

// wakeMost is how many deliveries of an endpoint get a job when it is sent something again:
// as many as most take at a time. Whoever finishes one takes up the next.
const wakeMost = 16

// wake has what has waited longest at an endpoint sent now. A job too many does no harm.
func (s *Store) wake(ctx context.Context, tx pgx.Tx, id string) error {
	rows, err := tx.Query(ctx, `SELECT ticket_id, seq FROM deliveries WHERE endpoint_id = $1 AND state = 'pending'
		AND next_attempt_at <= clock_timestamp() ORDER BY next_attempt_at LIMIT $2`, id, wakeMost)
	if err != nil {
		return fmt.Errorf("list what waits at %s: %w", id, err)
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Waiting])
	if err != nil || len(waiting) == 0 {
		return err
	}
	effects := make([]approvals.Effect, 0, len(waiting))
	for _, w := range waiting {
		effects = append(effects, approvals.Deliver{TicketID: w.TicketID, Seq: w.Seq})
	}
	return s.outbox.Enqueue(ctx, tx, effects)
}

// changeEndpoint does something to an endpoint that nobody else does anything to meanwhile.
func (s *Store) changeEndpoint(ctx context.Context, id string, change func(pgx.Tx, Endpoint) error) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		e, err := lockEndpoint(ctx, tx, id)
		if err != nil {
			return err
		}
		return change(tx, e)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such callback endpoint"}
	}
	return classify(err)
}

func lockEndpoint(ctx context.Context, tx pgx.Tx, id string) (Endpoint, error) {
	rows, err := tx.Query(ctx, `SELECT `+endpointColumns+` FROM callback_endpoints e WHERE e.id = $1 FOR NO KEY UPDATE`, id)
	if err != nil {
		return Endpoint{}, fmt.Errorf("lock endpoint %s: %w", id, err)
	}
	e, err := pgx.CollectExactlyOneRow(rows, scanEndpoint)
	if err != nil {
		return e, fmt.Errorf("lock endpoint %s: %w", id, err)
	}
	return e, nil
}

// AlertEndpoint reports whether people are to be told about an endpoint now, and notes that they
// were: not again within that time.
func (s *Store) AlertEndpoint(ctx context.Context, id string, within time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE callback_endpoints SET alerted_at = clock_timestamp()
		WHERE id = $1 AND (alerted_at IS NULL OR alerted_at < clock_timestamp() - $2::interval)`, id, within)
	return tag.RowsAffected() == 1, classify(err)
}

// UntoldEndpoints lists endpoints that were disabled after people were last told of them, and
// those of which a delivery was given up since, unless they were told within that time.
func (s *Store) UntoldEndpoints(ctx context.Context, within time.Duration, limit int) ([]Endpoint, error) {
	return s.endpoints(ctx, `WHERE e.disabled_at IS NOT NULL AND (e.alerted_at IS NULL OR e.alerted_at < e.disabled_at)
		OR e.dead_letter_at IS NOT NULL AND (e.alerted_at IS NULL OR e.alerted_at < clock_timestamp() - $1::interval)
		ORDER BY coalesce(e.disabled_at, e.dead_letter_at) LIMIT $2`, within, limit)
}

// ToldOfEndpoint notes that people were told about an endpoint as it is.
func (s *Store) ToldOfEndpoint(ctx context.Context, id string) error {
	_, err := s.pool.Exec(ctx, `UPDATE callback_endpoints SET alerted_at = clock_timestamp(), dead_letter_at = NULL WHERE id = $1`, id)
	return classify(err)
}

// queueDeadLetter notes at its endpoint that a delivery was given up, as an event only if it is
// the first since people were told. The endpoint is locked before the delivery, as everywhere.
func queueDeadLetter(b *pgx.Batch, e approvals.Event, a approvals.DeliveryAttempt) {
	b.Queue(`WITH first AS (
			UPDATE callback_endpoints x SET dead_letter_at = $3 FROM deliveries d
			WHERE d.ticket_id = $1 AND d.seq = $2 AND x.id = d.endpoint_id AND x.dead_letter_at IS NULL RETURNING x.id, d.message_id)
		INSERT INTO service_events (stream, type, actor_kind, actor_name, actor_via, data)
		SELECT 'endpoint/' || id, $4, $5, $6, $7, jsonb_build_object('message_id', message_id, 'ticket_id', $1::text, 'error', $8::text) FROM first`,
		e.TicketID, a.Seq, e.At, EndpointDeadLetter, e.Actor.Kind, e.Actor.Name, e.Actor.Via, a.Error)
}
