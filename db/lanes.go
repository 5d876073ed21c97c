package db

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/health"
)

// Lane is what calls have to pass together: those to one upstream, or those of one caller.
// What it admits is the same for all processes.
type Lane struct {
	// Upstream or Caller names it; exactly one of them is set.
	Upstream, Caller string
	// Slots is how many calls may be claimed at a time. Zero: not bounded.
	Slots int
	// Limits are its rate and its circuit breaker. Zero: none.
	Limits health.Limits
}

// Name tells lanes apart, as upstream/billing or caller/payroll-bot.
func (l Lane) Name() string {
	if l.Upstream != "" {
		return "upstream/" + l.Upstream
	}
	return "caller/" + l.Caller
}

// NoRoomError says that a call has to wait for others. Nothing was recorded about its ticket,
// but it stands in line in the lane that had no room; see [Store.TakeWaiting].
type NoRoomError struct {
	// Lane is the name of the one without room.
	Lane string
	// Wait is how long its rate or its breaker admits nobody. Zero: all slots are taken.
	Wait time.Duration
	// Open says that the breaker is open.
	Open bool
}

// Error says which lane it is.
func (e *NoRoomError) Error() string { return e.Lane + " has no room for another call" }

// errLeave has an Advance commit what was written besides, and leave the ticket alone.
var errLeave = errors.New("the ticket is left as it is")

// Claim is Advance for the verb that claims a ticket for a call, which then has to find room
// in all of the lanes given for it. They are locked, whole, after the ticket, so that of two
// claims for one place only one succeeds. No lanes cost nothing.
//
// Errors as for Advance, and a *NoRoomError.
func (s *Store) Claim(ctx context.Context, id string, lanes func(approvals.Ticket) []Lane, claim Decide) (approvals.Ticket, error) {
	var full *NoRoomError
	t, err := s.advance(ctx, Ref{ID: id}, claim, func(ctx context.Context, tx pgx.Tx, tr approvals.Transition, refusal error) error {
		full = nil
		if refusal != nil || tr.Empty() {
			return nil //nolint:nilerr // the refusal goes its own way
		}
		var err error
		if full, err = admit(ctx, tx, lanes(tr.Ticket)); err != nil || full == nil {
			return err
		}
		if err := standInLine(ctx, tx, tr.Ticket, full.Lane); err != nil {
			return err
		}
		return errLeave
	})
	if err == nil && full != nil {
		return t, full
	}
	return t, err
}

// admit takes a place in every lane, or says which of them has none.
func admit(ctx context.Context, tx pgx.Tx, lanes []Lane) (*NoRoomError, error) {
	if len(lanes) == 0 {
		return nil, nil
	}
	known, err := lockLanes(ctx, tx, lanes)
	if err != nil {
		return nil, err
	}
	b := &pgx.Batch{}
	for _, l := range lanes {
		state := known.health[l.Name()]
		if l.Slots > 0 && known.claimed(l) >= l.Slots {
			return &NoRoomError{Lane: l.Name()}, nil
		}
		after, wait := state.Admit(known.now, l.Limits)
		if wait > 0 {
			return &NoRoomError{Lane: l.Name(), Wait: wait, Open: state.Open(known.now)}, nil
		}
		if err := queueHealth(b, l, state, after); err != nil {
			return nil, err
		}
	}
	if b.Len() == 0 {
		return nil, nil
	}
	return nil, tx.SendBatch(ctx, b).Close()
}

func standInLine(ctx context.Context, tx pgx.Tx, t approvals.Ticket, lane string) error {
	_, err := tx.Exec(ctx, `INSERT INTO lane_waiting (ticket_id, lane, caller, since, until) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (ticket_id) DO UPDATE SET lane = excluded.lane`, t.ID, lane, t.Caller, t.ApprovedAt, t.ExecuteBy)
	return err
}

// traffic is what is known of lanes at one moment.
type traffic struct {
	now    time.Time
	health map[string]health.State
	calls  []claimedCalls
}

// claimedCalls are the claimed calls of a caller to an upstream.
type claimedCalls struct {
	Upstream, Caller string
	N                int
}

func (k traffic) claimed(l Lane) (n int) {
	for _, c := range k.calls {
		if c.Upstream == l.Upstream || l.Upstream == "" && c.Caller == l.Caller {
			n += c.N
		}
	}
	return n
}

const claimedByLane = `SELECT c.upstream, t.caller, count(*) FROM tickets t JOIN calls c ON c.ticket_id = t.id
	WHERE t.claimed_by IS NOT NULL`

// lockLanes locks lanes in the order of their names and counts what is claimed in them, in
// one batch: what is counted is what was committed before the locks were had.
func lockLanes(ctx context.Context, tx pgx.Tx, lanes []Lane) (traffic, error) {
	names := make([]string, 0, len(lanes))
	counted := false
	for _, l := range lanes {
		names = append(names, l.Name())
		counted = counted || l.Slots > 0
	}
	slices.Sort(names)
	for {
		known, err := tryLanes(ctx, tx, names, lanes, counted)
		if err != nil || len(known.health) == len(names) {
			return known, err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO upstream_lanes (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING`, names); err != nil {
			return traffic{}, fmt.Errorf("open lanes: %w", err)
		}
	}
}

func tryLanes(ctx context.Context, tx pgx.Tx, names []string, lanes []Lane, counted bool) (traffic, error) {
	known := traffic{health: make(map[string]health.State, len(names))}
	b := &pgx.Batch{}
	b.Queue(`SELECT name, health FROM upstream_lanes WHERE name = ANY($1) ORDER BY name FOR UPDATE`, names).Query(known.readHealth)
	if counted {
		upstream, caller := "", ""
		for _, l := range lanes {
			upstream, caller = cmp.Or(upstream, l.Upstream), cmp.Or(caller, l.Caller)
		}
		b.Queue(claimedByLane+` AND (c.upstream = $1 OR t.caller = $2) GROUP BY 1, 2`, upstream, caller).Query(known.readCalls)
	}
	b.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&known.now) })
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return traffic{}, fmt.Errorf("lock lanes: %w", err)
	}
	return known, nil
}

func (k *traffic) readHealth(rows pgx.Rows) error {
	var name string
	var state health.State
	_, err := pgx.ForEachRow(rows, []any{&name, &state}, func() error {
		k.health[name] = state
		state = health.State{}
		return nil
	})
	return err
}

func (k *traffic) readCalls(rows pgx.Rows) (err error) {
	k.calls, err = pgx.CollectRows(rows, pgx.RowToStructByPos[claimedCalls])
	return err
}

// queueHealth writes what is known of a lane, if that is another than before.
func queueHealth(b *pgx.Batch, l Lane, before, after health.State) error {
	old, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("encode health: %w", err)
	}
	now, err := json.Marshal(after)
	if err != nil {
		return fmt.Errorf("encode health: %w", err)
	}
	if string(old) != string(now) {
		b.Queue(`UPDATE upstream_lanes SET health = $2, updated_at = clock_timestamp() WHERE name = $1`, l.Name(), string(now))
	}
	return nil
}

// Verdict is what a call that was admitted says of its lane.
type Verdict string

const (
	// Well means that the upstream did its part, whatever it answered.
	Well Verdict = "well"
	// Unwell means that it did not.
	Unwell Verdict = "unwell"
	// Nothing means that the call says nothing of the upstream: it was not made, or went
	// wrong on our side.
	Nothing Verdict = "nothing"
)

func (v Verdict) note(state health.State, now time.Time, l health.Limits) health.State {
	if v == Nothing {
		return state.Forgo()
	}
	return state.Done(v == Well, now, l)
}

// EndCall is Advance for the verb that ends a claimed call, and notes in the lanes with a
// breaker what the call says of them. Where there is none it costs what Advance does.
func (s *Store) EndCall(ctx context.Context, id string, lanes []Lane, v Verdict, verb Decide) (approvals.Ticket, error) {
	watched := slices.DeleteFunc(slices.Clone(lanes), func(l Lane) bool { return l.Limits.Breaker.Failures == 0 && l.Limits.Breaker.Percent == 0 })
	return s.advance(ctx, Ref{ID: id}, verb, func(ctx context.Context, tx pgx.Tx, _ approvals.Transition, refusal error) error {
		if len(watched) == 0 || refusal != nil {
			return nil //nolint:nilerr // the refusal goes its own way
		}
		return noteVerdict(ctx, tx, watched, v)
	})
}

func noteVerdict(ctx context.Context, tx pgx.Tx, lanes []Lane, v Verdict) error {
	for i := range lanes {
		lanes[i].Slots = 0 // nobody is counted
	}
	known, err := lockLanes(ctx, tx, lanes)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	for _, l := range lanes {
		state := known.health[l.Name()]
		if err := queueHealth(b, l, state, v.note(state, known.now, l.Limits)); err != nil {
			return err
		}
	}
	if b.Len() == 0 {
		return nil
	}
	return tx.SendBatch(ctx, b).Close()
}

// TakeWaiting takes up to n tickets out of the line of a lane, in the order in which they are
// to go: of the caller with the fewest claimed calls first, then whoever was approved first.
// Whoever takes them owes each of them a job or a claim; should that get lost, the sweeper
// finds the ticket as one that never was in line.
func (s *Store) TakeWaiting(ctx context.Context, lane string, n int) ([]string, error) {
	var out []string
	b := &pgx.Batch{} // one transaction: whoever was told that there is no room is in line by now
	b.Queue(`SELECT 1 FROM upstream_lanes WHERE name = $1 FOR UPDATE`, lane)
	b.Queue(takeWaiting, lane, n).Query(func(rows pgx.Rows) (err error) {
		out, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return out, classify(s.pool.SendBatch(ctx, b).Close())
}

// TakeOverdue takes up to n tickets out of all lines whose time to execute is over: their claim
// ends them, room or no room. As for TakeWaiting they are owed a job.
func (s *Store) TakeOverdue(ctx context.Context, n int) ([]string, error) {
	return s.ids(ctx, `DELETE FROM lane_waiting WHERE ticket_id IN (
		SELECT ticket_id FROM lane_waiting WHERE until < clock_timestamp() ORDER BY until LIMIT $1) RETURNING ticket_id`, n)
}

// takeWaiting looks at the first of each caller only, however long the lines are.
const takeWaiting = `
	WITH RECURSIVE callers (name) AS (
		(SELECT caller FROM lane_waiting WHERE lane = $1 ORDER BY caller LIMIT 1)
		UNION ALL
		SELECT (SELECT caller FROM lane_waiting WHERE lane = $1 AND caller > name ORDER BY caller LIMIT 1) FROM callers WHERE name IS NOT NULL
	), busy AS (
		SELECT t.caller, count(*) AS n FROM tickets t JOIN calls c ON c.ticket_id = t.id
		WHERE t.claimed_by IS NOT NULL AND $1 IN ('upstream/' || c.upstream, 'caller/' || t.caller) GROUP BY 1
	), first AS (
		SELECT w.ticket_id, w.since, coalesce(b.n, 0) + row_number() OVER (PARTITION BY w.caller ORDER BY w.since, w.ticket_id) AS turn
		FROM callers CROSS JOIN LATERAL (
			SELECT * FROM lane_waiting WHERE lane = $1 AND caller = callers.name ORDER BY since, ticket_id LIMIT $2) w
		LEFT JOIN busy b ON b.caller = w.caller
	), taken AS (
		DELETE FROM lane_waiting WHERE ticket_id IN (SELECT ticket_id FROM first ORDER BY turn, since, ticket_id LIMIT $2) RETURNING ticket_id
	)
	SELECT ticket_id FROM taken JOIN first USING (ticket_id) ORDER BY turn, since, ticket_id`

// Line is the line in front of a lane.
type Line struct {
	// Lane is its name, Waiting how many stand there, Claimed how many calls are in the lane.
	Lane             string
	Waiting, Claimed int
	// Health is what is known of the lane.
	Health health.State
}

// Room is how many of those in line could go now, at most most, and how long it takes until
// another one can; zero when that is not known.
func (l Line) Room(lane Lane, now time.Time, most int) (n int, wait time.Duration) {
	most = min(most, l.Waiting)
	for state := l.Health; n < most; n++ {
		if lane.Slots > 0 && l.Claimed+n >= lane.Slots {
			return n, 0
		}
		if state, wait = state.Admit(now, lane.Limits); wait > 0 {
			return n, wait
		}
	}
	return n, 0
}

// Lines lists the lanes in front of which somebody waits, and the time by the database.
func (s *Store) Lines(ctx context.Context) (out []Line, now time.Time, err error) {
	known := traffic{}
	b := &pgx.Batch{}
	b.Queue(`SELECT w.lane, w.n, 0, coalesce(l.health, '{}') FROM (SELECT lane, count(*) AS n FROM lane_waiting GROUP BY lane) w
		LEFT JOIN upstream_lanes l ON l.name = w.lane ORDER BY w.lane`).Query(func(rows pgx.Rows) (err error) {
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Line])
		return err
	})
	b.Queue(claimedByLane + ` AND EXISTS (SELECT FROM lane_waiting) GROUP BY 1, 2`).Query(known.readCalls)
	b.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, time.Time{}, classify(fmt.Errorf("list who waits for a lane: %w", err))
	}
	for i, l := range out {
		for _, c := range known.calls {
			if l.Lane == (Lane{Upstream: c.Upstream}).Name() || l.Lane == (Lane{Caller: c.Caller}).Name() {
				out[i].Claimed += c.N
			}
		}
	}
	return out, now, nil
}

// ForgetWaiting strikes those from the lines who wait for nothing any more.
func (s *Store) ForgetWaiting(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM lane_waiting w USING tickets t
		WHERE t.id = w.ticket_id AND (t.state NOT IN ('approved', 'executing') OR t.claimed_by IS NOT NULL)`)
	return classify(err)
}
