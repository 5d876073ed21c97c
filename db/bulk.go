package db

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
	"countersign/audit"
)

// columns transposes rows for unnest: one array parameter a column.
type columns struct{ args []any }

func column[R, V any](c *columns, rows []R, value func(R) V) {
	out := make([]V, len(rows))
	for i, r := range rows {
		out[i] = value(r)
	}
	c.args = append(c.args, out)
}

// queueTickets inserts tickets that have just been opened. What every new ticket has in
// common is a constant of the statement.
func queueTickets(b *pgx.Batch, open []approvals.Transition, heads []audit.Hash) {
	c := &columns{}
	type tr = approvals.Transition
	column(c, open, func(x tr) string { return x.Ticket.ID })
	column(c, open, func(x tr) int64 { return x.Ticket.Version })
	column(c, open, func(x tr) string { return string(x.Ticket.State) })
	column(c, open, func(x tr) string { return x.Ticket.Caller })
	column(c, open, func(x tr) time.Time { return x.Ticket.CreatedAt })
	column(c, open, func(x tr) time.Time { return x.Ticket.ExpiresAt })
	column(c, open, func(x tr) string { return array(x.Ticket.Tiers) })
	column(c, open, func(x tr) *time.Time { return null(x.Ticket.WakeAt) })
	column(c, open, func(x tr) *time.Time { return null(x.Ticket.ApprovedAt) })
	column(c, open, func(x tr) *time.Time { return null(x.Ticket.ExecuteBy) })
	column(c, open, func(x tr) *time.Time { return null(x.Ticket.FinishedAt) })
	column(c, open, func(x tr) *string { return optionalJSON(x.Ticket.Problem) })
	column(c, open, func(x tr) string { return string(x.Ticket.CallbackState) })
	column(c, open, func(x tr) int64 { return x.Ticket.CallbackSeq })
	column(c, heads, func(h audit.Hash) []byte { return h[:] })
	column(c, open, func(x tr) *string { return optionalJSON(x.Ticket.Stalled) })
	column(c, open, func(x tr) *string { return amended(frozen(x), x.Ticket.Plan) })
	b.Queue(`INSERT INTO tickets
		(id, version, state, caller, created_at, updated_at, expires_at, stage, stage_since, paused_us, tiers, reminders,
		 wake_at, approved_at, execute_by, epoch, finished_at, problem, callback_state, callback_seq, refusals, head_hash,
		 stalled, amended_plan)
		SELECT id, version, state, caller, created_at, created_at, expires_at, 0, created_at, 0, tiers::int[], 0,
		 wake_at, approved_at, execute_by, 0, finished_at, problem, callback_state, callback_seq, 0, head, stalled, amended
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[],
		 $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::jsonb[], $13::text[],
		 $14::bigint[], $15::bytea[], $16::jsonb[], $17::jsonb[])
		AS u(id, version, state, caller, created_at, expires_at, tiers, wake_at, approved_at, execute_by, finished_at,
		 problem, callback_state, callback_seq, head, stalled, amended)`, c.args...)
}

// frozen is the plan as the ticket was submitted under it; those who are asked first may
// have been too few, so that others were asked at once.
func frozen(opened approvals.Transition) approvals.Plan { return opened.Events[0].Data.Created.Plan }

// array renders numbers as Postgres reads an array: unnest has no arrays of arrays.
func array(numbers []int) string {
	out := []byte("{")
	for i, n := range numbers {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(n), 10)
	}
	return string(append(out, '}'))
}

func queueCalls(b *pgx.Batch, open []approvals.Transition) {
	c := &columns{}
	type tr = approvals.Transition
	column(c, open, func(x tr) string { return x.Ticket.ID })
	column(c, open, func(x tr) string { return x.Ticket.Call.Upstream })
	column(c, open, func(x tr) string { return x.Ticket.Call.Method })
	column(c, open, func(x tr) string { return x.Ticket.Call.Path })
	column(c, open, func(x tr) string { return x.Ticket.Call.Query })
	column(c, open, func(x tr) string { return mustJSON(headers(x.Ticket.Call.Headers)) })
	column(c, open, func(x tr) []byte { return bytesOf(x.Ticket.Call.Body) })
	column(c, open, func(x tr) string { return x.Ticket.Digest })
	column(c, open, func(x tr) string { return x.Ticket.OnBehalfOf })
	column(c, open, func(x tr) string { return x.Ticket.Justification })
	column(c, open, func(x tr) string { return mustJSON(metadata(x.Ticket.Metadata)) })
	column(c, open, func(x tr) *string { return callbackURL(x.Ticket.Callback) })
	column(c, open, func(x tr) string { return callbackEvents(x.Ticket.Callback) })
	column(c, open, func(x tr) string { return mustJSON(frozen(x)) })
	column(c, open, func(x tr) *time.Time { return null(x.Ticket.NotBefore) })
	column(c, open, func(x tr) *string { return nullText(x.Ticket.Supersedes) })
	column(c, open, func(x tr) string { return callbackPayload(x.Ticket.Callback) })
	b.Queue(`INSERT INTO calls
		(ticket_id, upstream, method, path, query, headers, body, digest, on_behalf_of, justification, metadata,
		 callback_url, callback_events, plan, not_before, supersedes, callback_payload)
		SELECT id, upstream, method, path, query, headers, body, digest, on_behalf_of, justification, metadata,
		 callback_url, string_to_array(callback_events, ','), plan, not_before, supersedes, callback_payload
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::bytea[], $8::text[],
		 $9::text[], $10::text[], $11::jsonb[], $12::text[], $13::text[], $14::jsonb[], $15::timestamptz[], $16::text[], $17::text[])
		AS u(id, upstream, method, path, query, headers, body, digest, on_behalf_of, justification, metadata,
		 callback_url, callback_events, plan, not_before, supersedes, callback_payload)`, c.args...)
}

func queueEvents(b *pgx.Batch, entries []audit.Entry) {
	c := &columns{}
	type en = audit.Entry
	column(c, entries, func(x en) string { return x.Event.TicketID })
	column(c, entries, func(x en) int64 { return x.Event.Seq })
	column(c, entries, func(x en) string { return string(x.Event.Type) })
	column(c, entries, func(x en) time.Time { return x.Event.At })
	column(c, entries, func(x en) string { return string(x.Event.Actor.Kind) })
	column(c, entries, func(x en) string { return x.Event.Actor.Name })
	column(c, entries, func(x en) string { return x.Event.Actor.Via })
	column(c, entries, func(x en) string { return x.Event.Actor.Ref })
	column(c, entries, func(x en) string { return string(x.Event.State) })
	column(c, entries, func(x en) string { return string(x.Data) })
	column(c, entries, func(x en) []byte { return x.Canon })
	column(c, entries, func(x en) []byte { return x.Prev[:] })
	column(c, entries, func(x en) []byte { return x.Hash[:] })
	b.Queue(`INSERT INTO audit_events
		(ticket_id, seq, type, at, actor_kind, actor_name, actor_via, actor_ref, state, data, canon, prev_hash, hash)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
		 $8::text[], $9::text[], $10::jsonb[], $11::bytea[], $12::bytea[], $13::bytea[])`, c.args...)
}

// mustJSON renders a value of ours. One that does not marshal becomes text that is no
// JSON, which makes its statement fail.
func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "cannot marshal: " + err.Error()
	}
	return string(b)
}

func optionalJSON[T any](v *T) *string {
	if v == nil {
		return nil
	}
	s := mustJSON(v)
	return &s
}

func metadata(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func callbackURL(c *approvals.Callback) *string {
	if c == nil {
		return nil
	}
	return &c.URL
}

func callbackPayload(c *approvals.Callback) string {
	if c == nil {
		return ""
	}
	return c.Payload
}

func callbackEvents(c *approvals.Callback) string {
	if c == nil {
		return ""
	}
	out := ""
	for i, e := range c.Events {
		if i > 0 {
			out += ","
		}
		out += string(e)
	}
	return out
}
