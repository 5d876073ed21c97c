package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"countersign/approvals"
	"countersign/audit"
)

// ticketColumns is the whole of a ticket in one row: state, call and decisions.
const ticketColumns = `
	t.id, t.version, t.state, t.caller, t.created_at, t.updated_at, t.expires_at, t.stage, t.stage_since, t.paused_us,
	t.paused_hours_us, t.tiers, t.reminders, t.wake_at, t.question, t.questions, t.stalled, t.approved_at, t.execute_by,
	t.released_at, t.epoch, t.claimed_by, t.execution_started_at, t.finished_at, t.cancel_requested_at, t.superseded_by,
	t.result, t.problem, t.callback_state, t.callback_seq, t.refusals, t.viewers, t.head_hash,
	c.upstream, c.method, c.path, c.query, c.digest, c.on_behalf_of, c.justification, c.metadata, c.callback_url,
	c.callback_events, c.callback_payload, c.not_before, c.supersedes, coalesce(t.amended_plan, c.plan)`

const fullColumns = ticketColumns + `, c.headers, c.body,
	coalesce((SELECT json_agg(json_build_object(
		'person', d.person, 'for', d.in_place_of, 'verdict', d.verdict, 'stage', d.stage, 'comment', d.comment, 'digest', d.digest,
		'at', d.at, 'groups', d.groups, 'via', d.via, 'ref', d.ref, 'message_ts', d.message_ts,
		'channel', d.channel, 'rendered', d.rendered) ORDER BY d.seq)
		FROM decisions d WHERE d.ticket_id = t.id), '[]')`

const fromTickets = ` FROM tickets t JOIN calls c ON c.ticket_id = t.id `

// row collects what a scan needs besides the ticket itself.
type row struct {
	t                   approvals.Ticket
	head                []byte
	paused, pausedHours int64 // in microseconds
	callbackURL         *string
	callbackPayload     string
	events              []approvals.EventType
	times               [8]*time.Time
	texts               [3]*string
}

func (r *row) targets() []any {
	t := &r.t
	return []any{
		&t.ID, &t.Version, &t.State, &t.Caller, &t.CreatedAt, &t.UpdatedAt, &t.ExpiresAt, &t.Stage, &t.StageSince, &r.paused,
		&r.pausedHours, &t.Tiers, &t.Reminders, &r.times[0], &t.Question, &t.Questions, &t.Stalled, &r.times[1], &r.times[2],
		&r.times[3], &t.Epoch, &r.texts[0], &r.times[4], &r.times[5], &r.times[6], &r.texts[1],
		&t.Result, &t.Problem, &t.CallbackState, &t.CallbackSeq, &t.Refusals, &t.Viewers, &r.head,
		&t.Call.Upstream, &t.Call.Method, &t.Call.Path, &t.Call.Query, &t.Digest, &t.OnBehalfOf, &t.Justification,
		&t.Metadata, &r.callbackURL, &r.events, &r.callbackPayload, &r.times[7], &r.texts[2], &t.Plan,
	}
}

// ticket finishes what the scan began: nulls become zero values, times become UTC.
func (r *row) ticket() approvals.Ticket {
	t := r.t
	t.Paused, t.PausedHours = time.Duration(r.paused)*time.Microsecond, time.Duration(r.pausedHours)*time.Microsecond
	for i, to := range []*time.Time{
		&t.WakeAt, &t.ApprovedAt, &t.ExecuteBy, &t.ReleasedAt, &t.ExecutionStartedAt, &t.FinishedAt, &t.CancelRequestedAt,
		&t.NotBefore,
	} {
		if r.times[i] != nil {
			*to = r.times[i].UTC()
		}
	}
	for i, to := range []*string{&t.Worker, &t.SupersededBy, &t.Supersedes} {
		if r.texts[i] != nil {
			*to = *r.texts[i]
		}
	}
	t.CreatedAt, t.UpdatedAt = t.CreatedAt.UTC(), t.UpdatedAt.UTC()
	t.ExpiresAt, t.StageSince = t.ExpiresAt.UTC(), t.StageSince.UTC()
	if len(t.Metadata) == 0 {
		t.Metadata = nil
	}
	if r.callbackURL != nil {
		t.Callback = &approvals.Callback{URL: *r.callbackURL, Payload: r.callbackPayload}
		if len(r.events) > 0 {
			t.Callback.Events = r.events
		}
	}
	for i := range t.Decisions {
		t.Decisions[i].At = t.Decisions[i].At.UTC()
		if len(t.Decisions[i].Groups) == 0 {
			t.Decisions[i].Groups = nil
		}
	}
	if len(t.Decisions) == 0 {
		t.Decisions = nil
	}
	if len(t.Call.Headers) == 0 {
		t.Call.Headers = nil
	}
	if len(t.Call.Body) == 0 {
		t.Call.Body = nil
	}
	return t
}

func scanFull(r pgx.Row, more ...any) (approvals.Ticket, audit.Hash, error) {
	var x row
	targets := append(x.targets(), &x.t.Call.Headers, &x.t.Call.Body, &x.t.Decisions)
	if err := r.Scan(append(targets, more...)...); err != nil {
		return approvals.Ticket{}, audit.Hash{}, err
	}
	return x.ticket(), audit.Hash(x.head), nil
}

// lock takes the row lock first and reads in a second statement, whose snapshot and
// clock are then those of after the wait: FOR NO KEY UPDATE, so that the foreign keys
// of new events do not queue behind it.
func lock(ctx context.Context, tx pgx.Tx, ref Ref) (approvals.Ticket, audit.Hash, time.Time, error) {
	b := &pgx.Batch{}
	b.Queue(`SELECT 1 FROM tickets WHERE id = $1 AND ($2 = '' OR caller = $2) FOR NO KEY UPDATE`, ref.ID, ref.Caller)
	b.Queue(`SELECT`+fullColumns+`, clock_timestamp()`+fromTickets+`WHERE t.id = $1`, ref.ID)
	res := tx.SendBatch(ctx, b)
	defer res.Close() //nolint:errcheck // what matters was read
	var one int
	if err := res.QueryRow().Scan(&one); err != nil {
		return approvals.Ticket{}, audit.Hash{}, time.Time{}, fmt.Errorf("lock: %w", err)
	}
	var now time.Time
	t, head, err := scanFull(res.QueryRow(), &now)
	if err != nil {
		return approvals.Ticket{}, audit.Hash{}, time.Time{}, fmt.Errorf("read: %w", err)
	}
	return t, head, now.UTC(), nil
}

// queueUpdate writes the ticket as it is now, if it still has the version it had before.
func queueUpdate(b *pgx.Batch, before, t approvals.Ticket, head audit.Hash) {
	b.Queue(`UPDATE tickets SET version = $3, state = $4, updated_at = $5, stage = $6, stage_since = $7, paused_us = $8,
		tiers = $9, reminders = $10, wake_at = $11, question = $12, approved_at = $13, execute_by = $14, epoch = $15,
		claimed_by = $16, execution_started_at = $17, finished_at = $18, cancel_requested_at = $19, result = $20,
		problem = $21, callback_state = $22, callback_seq = $23, refusals = $24, head_hash = $25, paused_hours_us = $26,
		questions = $27, stalled = $28, released_at = $29, superseded_by = $30, amended_plan = coalesce($31, amended_plan),
		viewers = coalesce($32, viewers)
		WHERE id = $1 AND version = $2`,
		t.ID, before.Version, t.Version, t.State, t.UpdatedAt, t.Stage, t.StageSince, t.Paused.Microseconds(),
		t.Tiers, t.Reminders, null(t.WakeAt), optionalJSON(t.Question), null(t.ApprovedAt), null(t.ExecuteBy), t.Epoch,
		nullText(t.Worker), null(t.ExecutionStartedAt), null(t.FinishedAt), null(t.CancelRequestedAt), optionalJSON(t.Result),
		optionalJSON(t.Problem), t.CallbackState, t.CallbackSeq, t.Refusals, head[:], t.PausedHours.Microseconds(),
		t.Questions, optionalJSON(t.Stalled), null(t.ReleasedAt), nullText(t.SupersededBy), amended(before.Plan, t.Plan),
		viewers(before, t),
	).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() != 1 {
			return errVersion
		}
		return nil
	})
}

// amended is the plan after a change, when the change was to the plan, and null when it
// was not: every other update leaves that column where it lies. A roster and its delegates
// only ever grow, and stages are only ever added by a further round.
func amended(before, after approvals.Plan) *string {
	if after.Round == before.Round && after.Reopened == before.Reopened && len(after.Roster) == len(before.Roster) &&
		len(after.Delegates) == len(before.Delegates) {
		return nil
	}
	return optionalJSON(&after)
}

// viewers are those of a ticket when somebody has become one, and null when nobody has.
func viewers(before, after approvals.Ticket) *string {
	if len(after.Viewers) == len(before.Viewers) {
		return nil
	}
	return optionalJSON(&after.Viewers)
}

func queueEvent(b *pgx.Batch, entry audit.Entry) {
	e := entry.Event
	b.Queue(`INSERT INTO audit_events
		(ticket_id, seq, type, at, actor_kind, actor_name, actor_via, actor_ref, state, data, canon, prev_hash, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		e.TicketID, e.Seq, e.Type, e.At, e.Actor.Kind, e.Actor.Name, e.Actor.Via, e.Actor.Ref, e.State,
		string(entry.Data), entry.Canon, entry.Prev[:], entry.Hash[:])
}

// queueProjections writes the rows that repeat an event where people look for it.
func (s *Store) queueProjections(b *pgx.Batch, e approvals.Event, result *approvals.Result) error {
	if d := e.Data.Decision; d != nil {
		b.Queue(`INSERT INTO decisions
			(ticket_id, person, seq, stage, verdict, comment, digest, groups, via, ref, message_ts, at, in_place_of, channel, rendered)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
			e.TicketID, d.Person, e.Seq, d.Stage, d.Verdict, d.Comment, d.Digest, list(d.Groups), d.Via, d.Ref, d.MessageTS, d.At, d.For,
			d.Channel, d.Rendered)
	}
	if r := e.Data.Result; r != nil && result != nil {
		sealed, err := s.sealResult(e.TicketID, e.Seq, *result)
		if err != nil {
			return err
		}
		b.Queue(`INSERT INTO results
			(ticket_id, seq, status, headers, body, sealed, size, digest, truncated, duration_ms, executed_at)
			VALUES ($1, $2, $3, '[]', '', $4, $5, $6, $7, $8, $9)`,
			e.TicketID, e.Seq, r.Status, sealed, r.Size, r.Digest, r.Truncated, r.DurationMS, r.ExecutedAt)
	}
	if a := e.Data.Delivery; a != nil {
		queueAttempt(b, e, *a)
	}
	return nil
}

func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nullText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func headers(h []approvals.Header) []approvals.Header {
	if h == nil {
		return []approvals.Header{}
	}
	return h
}

func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
