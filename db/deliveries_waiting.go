package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Waiting is a delivery that nobody is sending though its endpoint may take it.
type Waiting struct {
	TicketID string
	Seq      int64
}

// mostWoken is how many deliveries of one endpoint are woken at a time.
const mostWoken = 100

// WaitingDeliveries lists deliveries that have been due for longer than grace, that nobody is
// sending, and that their endpoint takes now: as many of each as it has room, and the first of
// every endpoint before the second of any, so that none keeps another from being heard. Those of
// endpoints that the configuration does not have any more are listed as well, whatever became
// of the endpoint: there is nobody to wait for.
//
// terms says what the configuration knows of an endpoint, by the caller and the address of a
// delivery.
func (s *Store) WaitingDeliveries(ctx context.Context, grace time.Duration, limit int, terms func(Delivery) Terms) ([]Waiting, error) {
	owing, err := s.owing(ctx, grace)
	if err != nil {
		return nil, classify(fmt.Errorf("list endpoints that are owed something: %w", err))
	}
	ids, rooms := []string{}, []int{}
	for _, o := range owing {
		if n := o.room(terms(Delivery{Caller: o.endpoint.Caller, URL: o.endpoint.Origin})); n > 0 {
			ids, rooms = append(ids, o.endpoint.ID), append(rooms, n)
		}
	}
	rows, err := s.pool.Query(ctx, `SELECT ticket_id, seq FROM (
			SELECT d.ticket_id, d.seq, d.next_attempt_at, row_number() OVER (PARTITION BY r.id ORDER BY d.next_attempt_at) AS turn
			FROM unnest($2::text[], $3::integer[]) AS r(id, room)
			CROSS JOIN LATERAL (SELECT * FROM deliveries d WHERE d.endpoint_id = r.id AND `+unsent+` ORDER BY d.next_attempt_at LIMIT r.room) d
			UNION ALL
			(SELECT d.ticket_id, d.seq, d.next_attempt_at, row_number() OVER (ORDER BY d.next_attempt_at)
			FROM deliveries d WHERE d.endpoint_id IS NULL AND `+unsent+` ORDER BY d.next_attempt_at LIMIT $4) -- older ones
		) w ORDER BY turn, next_attempt_at LIMIT $4`, grace, ids, rooms, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list waiting deliveries: %w", err))
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Waiting])
	return out, classify(err)
}

// unsent says of a delivery d that it has been due for longer than $1 and nobody is sending it.
// The time is that of the statement, by which an index can be searched.
const unsent = `d.state = 'pending' AND d.next_attempt_at <= statement_timestamp() - $1::interval
	AND (d.claimed_until IS NULL OR d.claimed_until <= statement_timestamp())`

// owingEndpoint is an endpoint for which something waits.
type owingEndpoint struct {
	endpoint Endpoint
	sending  int
	now      time.Time
}

func (s *Store) owing(ctx context.Context, grace time.Duration) ([]owingEndpoint, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+endpointColumns+`, (SELECT count(*) FROM deliveries c
			WHERE c.endpoint_id = e.id AND c.claimed_by IS NOT NULL AND c.claimed_until > statement_timestamp()), statement_timestamp()
		FROM callback_endpoints e WHERE EXISTS (SELECT FROM deliveries d WHERE d.endpoint_id = e.id AND `+unsent+`)`, grace)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (o owingEndpoint, err error) {
		o.endpoint, err = scanEndpointAnd(r, &o.sending, &o.now)
		return o, err
	})
}

// room is how many more the endpoint takes now.
func (o owingEndpoint) room(t Terms) (n int) {
	if !t.Listed {
		return mostWoken // to be given up
	}
	for e := o.endpoint; n < mostWoken; n++ {
		state, admission, _ := takes(e, t, o.sending+n, o.now)
		if admission != Admitted {
			return n
		}
		e.Health = state
	}
	return n
}
