package db_test

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/migrations"
)

// before is the schema that knows nothing of the policies of 013.
const before = 12

// past lives are those that a release of that schema has written: its plans have no
// roster, and none of the later events happens in them.
type pastLife struct {
	ticket approvals.Ticket
	events []approvals.Event
}

func live(t *testing.T, at time.Time, steps ...db.Decide) pastLife {
	t.Helper()
	req := request(t, eventful())
	tr, err := approvals.Submit(req.Submission, req.Plan, directory, at)
	require.NoError(t, err)
	tr.Events[0].Data.Created.Plan.Roster = nil
	life := pastLife{events: tr.Events}
	for _, do := range steps {
		at = at.Add(time.Second)
		x := approvals.Replay(life.events)
		x.Call.Headers, x.Call.Body = req.Submission.Call.Headers, req.Submission.Call.Body
		tr, err := do(x, at)
		require.NoError(t, err)
		life.events = append(life.events, tr.Events...)
	}
	life.ticket = approvals.Replay(life.events)
	life.ticket.Call.Headers, life.ticket.Call.Body = req.Submission.Call.Headers, req.Submission.Call.Body
	return life
}

// row inserts a row of a table as it is at that schema; what is not given is null.
func row(t *testing.T, tx pgx.Tx, table string, columns map[string]any) {
	t.Helper()
	text, err := json.Marshal(columns)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO `+table+` SELECT (jsonb_populate_record(NULL::`+table+`, $1::jsonb)).*`, string(text))
	require.NoError(t, err, "%s: %s", table, text)
}

func octets(b []byte) string { return `\x` + hex.EncodeToString(b) }

func orNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// store writes the life as that release did.
func (l pastLife) store(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	head := audit.Genesis(l.ticket.ID)
	for _, e := range l.events {
		entry, err := audit.Seal(e, head)
		require.NoError(t, err)
		row(t, tx, "audit_events", map[string]any{
			"ticket_id": e.TicketID, "seq": e.Seq, "type": e.Type, "at": e.At, "actor_kind": e.Actor.Kind, "actor_name": e.Actor.Name,
			"actor_via": e.Actor.Via, "actor_ref": e.Actor.Ref, "state": e.State, "data": entry.Data, "canon": octets(entry.Canon),
			"prev_hash": octets(entry.Prev[:]), "hash": octets(entry.Hash[:]),
		})
		head = entry.Hash
	}
	x := l.ticket
	columns := map[string]any{
		"id": x.ID, "version": x.Version, "state": x.State, "caller": x.Caller, "created_at": x.CreatedAt, "updated_at": x.UpdatedAt,
		"expires_at": x.ExpiresAt, "stage": x.Stage, "stage_since": x.StageSince, "paused_us": x.Paused.Microseconds(), "tiers": x.Tiers,
		"reminders": x.Reminders, "wake_at": orNull(x.WakeAt), "approved_at": orNull(x.ApprovedAt), "execute_by": orNull(x.ExecuteBy),
		"epoch": x.Epoch, "execution_started_at": orNull(x.ExecutionStartedAt), "finished_at": orNull(x.FinishedAt),
		"callback_state": x.CallbackState, "callback_seq": x.CallbackSeq, "refusals": x.Refusals, "head_hash": octets(head[:]),
	}
	if x.Question != nil {
		columns["question"] = x.Question
	}
	if x.Worker != "" {
		columns["claimed_by"] = x.Worker
	}
	if x.Result != nil {
		columns["result"] = x.Result
	}
	if x.Problem != nil {
		columns["problem"] = x.Problem
	}
	row(t, tx, "tickets", columns)
	row(t, tx, "calls", map[string]any{
		"ticket_id": x.ID, "upstream": x.Call.Upstream, "method": x.Call.Method, "path": x.Call.Path, "query": x.Call.Query,
		"headers": x.Call.Headers, "body": octets(x.Call.Body), "digest": x.Digest, "on_behalf_of": "", "justification": x.Justification,
		"metadata": x.Metadata, "callback_url": x.Callback.URL, "callback_events": x.Callback.Events, "plan": x.Plan,
	})
	for _, e := range l.events {
		if d := e.Data.Decision; d != nil {
			row(t, tx, "decisions", map[string]any{
				"ticket_id": x.ID, "person": d.Person, "seq": e.Seq, "stage": d.Stage, "verdict": d.Verdict, "comment": d.Comment,
				"digest": d.Digest, "groups": d.Groups, "via": d.Via, "ref": d.Ref, "message_ts": d.MessageTS, "at": d.At,
			})
		}
	}
	require.NoError(t, tx.Commit(t.Context()))
}

// pastLives are in every state that a ticket may be found in.
func pastLives(t *testing.T, at time.Time) map[string]pastLife {
	t.Helper()
	ask, answer, decide := verbs["Ask"].do, verbs["Answer"].do, decideOnce
	claim, begin, finish := verbs["Claim"].do, verbs["BeginExecution"].do, verbs["FinishExecution"].do
	return map[string]pastLife{
		"pending":    live(t, at, ask, answer, ask, answer),
		"needs_info": live(t, at, ask, answer, ask),
		"escalated":  live(t, at.Add(-10*time.Minute), verbs["Remind"].do, verbs["Escalate"].do),
		"approved":   live(t, at, ask, decide),
		"executing":  live(t, at, decide, claim, begin),
		"succeeded":  live(t, at, ask, answer, decide, claim, begin, finish),
		"cancelled":  live(t, at, ask, verbs["Cancel"].do),
	}
}

func TestTicketsFromBeforeAreReadAndGoOn(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	migrateTo(t, url, before, 0, before)
	conn := superuser(t, url)
	var now time.Time
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT now()`).Scan(&now))
	lives := pastLives(t, now.UTC().Add(-time.Minute))
	for _, life := range lives {
		life.store(t, conn)
	}
	for range 2 { // nothing is lost on the way back and up again
		migrateTo(t, url, migrations.Latest, before, migrations.Latest)
		s := dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{})
		for name, life := range lives {
			requireAsLived(t, s, name, life)
		}
		migrateTo(t, url, before, migrations.Latest, before)
	}
	migrateTo(t, url, migrations.Latest, before, migrations.Latest)
	s := dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{})
	for name, verb := range map[string]string{
		"pending": "Decide", "needs_info": "Answer", "escalated": "Decide", "approved": "Claim", "executing": "FinishExecution",
	} {
		id := lives[name].ticket.ID
		_, err := s.Advance(t.Context(), db.Ref{ID: id}, verbs[verb].do)
		require.NoError(t, err, name)
		requireFold(t, s, id)
	}
}

func requireAsLived(t *testing.T, s *db.Store, name string, life pastLife) {
	t.Helper()
	got, err := s.Ticket(t.Context(), db.Ref{ID: life.ticket.ID})
	require.NoError(t, err, name)
	require.Equal(t, life.ticket, got, name)
	requireFold(t, s, life.ticket.ID)
}

// requireFold asserts what RequireTrail does, of whatever events there are.
func requireFold(t *testing.T, s *db.Store, id string) {
	t.Helper()
	entries, err := s.Entries(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	var types []approvals.EventType
	for _, e := range entries {
		types = append(types, e.Event.Type)
	}
	dbtest.RequireTrail(t, s, id, types...)
}

// decideOnce is a decision as there was before the schema held what people were shown.
func decideOnce(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
	return x.Decide(person("ana"), approvals.Decision{Person: "ana", Verdict: approvals.Approve, Digest: x.Digest}, directory, now)
}

// TestAnUpgradeThatStopsHalfwayIsTakenUpAgain stops step 013 in each of its parts that read
// the tables, by a row that cannot be.
func TestAnUpgradeThatStopsHalfwayIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	fresh := schemaOf(t, dbtest.Database(t))
	for doing, stop := range map[string]struct{ sabotage, mend, want string }{
		"an index": {
			`INSERT INTO decisions SELECT ticket_id, 'bo', seq, stage, verdict, comment, digest, groups, via, ref, message_ts, at FROM decisions`,
			`DELETE FROM decisions WHERE person = 'bo'`, `could not create unique index "decisions_seq"`,
		},
		"a proof": {
			`ALTER TABLE audit_events DROP CONSTRAINT audit_events_type_check; UPDATE audit_events SET type = 'ticket.blessed' WHERE seq = 2`,
			`UPDATE audit_events SET type = 'ticket.decided' WHERE seq = 2`, `check constraint "audit_events_type_check"`,
		},
	} {
		url := dbtest.Empty(t)
		migrateTo(t, url, before, 0, before)
		conn := superuser(t, url)
		life := live(t, time.Now().UTC().Truncate(time.Microsecond), decideOnce) //nolint:forbidigo // any time will do
		life.store(t, conn)
		exec(t, conn, `SET session_replication_role = replica`)
		exec(t, conn, stop.sabotage)
		_, _, err := db.Migrate(t.Context(), url)
		require.ErrorContains(t, err, stop.want, doing)
		require.Less(t, len(err.Error()), 400, "the error repeats the whole step: %v", err)
		_, _, err = db.Migrate(t.Context(), url)
		advice := regexp.MustCompile(`run "(.*)"`).FindStringSubmatch(err.Error())
		require.NotNil(t, advice, err)
		exec(t, conn, stop.mend)
		exec(t, conn, advice[1])
		migrateTo(t, url, migrations.Latest, before, migrations.Latest)
		require.Equal(t, fresh, schemaOf(t, url), doing)
		requireAsLived(t, dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{}), doing, life)
	}
}

// TestTheWayBackIsRefusedForWhatTheSchemaBeforeCannotHold: it would be lost, or the call
// made too early or by a weaker plan.
func TestTheWayBackIsRefusedForWhatTheSchemaBeforeCannotHold(t *testing.T) {
	t.Parallel()
	for doing, c := range map[string]struct {
		step  int
		lives func(t *testing.T, f fixture)
		want  string
	}{
		"a call that waits for its hour": {13, func(t *testing.T, f fixture) {
			t.Helper()
			prepare(t, f.store, verb{with: scheduled})
		}, "they have to end first"},
		"an amended plan": {13, func(t *testing.T, f fixture) {
			t.Helper()
			f.advance(t, f.submit(t, eventful()).ID, reassesses(leaving(directory, "ana", "bo", "chen")))
		}, "they have to end first"},
		"an event of a later kind": {13, func(t *testing.T, f fixture) {
			t.Helper()
			f.advance(t, f.submit(t, plan(stage(1))).ID, reassesses(leaving(directory, "ana", "bo", "chen")))
		}, "audit_events_type_check"},
		"two votes of one person": {13, func(t *testing.T, f fixture) {
			t.Helper()
			p := plan(stage(1), stage(1))
			p.Distinct = approvals.DistinctStage
			f.advance(t, f.submit(t, p).ID, votes("ana", approvals.Approve, directory), votes("ana", approvals.Approve, directory))
		}, "decisions_pkey"},
		"somebody who was shown the call": {14, func(t *testing.T, f fixture) {
			t.Helper()
			f.advance(t, f.submit(t, plan(stage(1))).ID, verbs["View"].do)
		}, "only this schema can hold"},
		"what somebody was shown who decided": {14, func(t *testing.T, f fixture) {
			t.Helper()
			f.advance(t, f.submit(t, plan(stage(1))).ID, verbs["Decide"].do)
		}, "only this schema can hold"},
		"an encrypted callback": {15, func(t *testing.T, f fixture) {
			t.Helper()
			prepare(t, f.store, verb{after: []string{"Cancel"}})
		}, "only this schema can hold"},
		"a redelivery": {15, func(t *testing.T, f fixture) {
			t.Helper()
			prepare(t, f.store, verb{after: []string{"Cancel", "DeliveryFailed", "RequestRedelivery"}})
			unsealed(t, f)
		}, "only this schema can hold"},
		"what an endpoint did": {15, func(t *testing.T, f fixture) {
			t.Helper()
			require.NoError(t, f.store.NoteServiceEvent(t.Context(), db.EndpointStream("end_1"), db.EndpointEnabled, caller(), nil))
		}, "only this schema can hold"},
	} {
		f := setup(t)
		c.lives(t, f)
		if c.step < 15 {
			unsealed(t, f) // as releases did that encrypted nothing
		}
		if c.step < migrations.Latest {
			migrateTo(t, f.url, c.step, migrations.Latest, c.step)
		}
		before := schemaOf(t, f.url)
		rows := contents(t, superuser(t, f.url))
		_, _, err := db.MigrateTo(t.Context(), f.url, c.step-1)
		require.ErrorContains(t, err, c.want, doing)
		require.Equal(t, before, schemaOf(t, f.url), doing)
		require.Equal(t, rows, contents(t, superuser(t, f.url)), doing)
		if c.step < migrations.Latest {
			migrateTo(t, f.url, migrations.Latest, c.step, migrations.Latest)
		}
		require.NoError(t, f.store.Ready(t.Context()), "%s: it goes on as it was", doing)
	}
}

// unsealed leaves nothing encrypted.
func unsealed(t *testing.T, f fixture) {
	t.Helper()
	back := past(t, f)
	back(`UPDATE deliveries SET payload = '{}', sealed = NULL`)
	back(`UPDATE results SET sealed = NULL`)
}

// TestTheServiceOfBeforeWorksOnTheSchemaOfNow writes as a release did that knows nothing
// of the new columns: the two may be deployed in either order.
func TestTheServiceOfBeforeWorksOnTheSchemaOfNow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := superuser(t, f.url)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO tickets (id, version, state, caller, created_at, updated_at, expires_at, stage, stage_since, paused_us,
		tiers, reminders, wake_at, epoch, callback_state, callback_seq, refusals, head_hash)
		VALUES ($1, 1, 'pending', 'payroll-bot', now(), now(), now() + interval '1 hour', 0, now(), 0, '{0}', 0, now() + interval '1 hour',
		0, 'none', 0, 0, decode(repeat('00', 32), 'hex'))`, approvals.TicketID(uuid.Max))
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO calls (ticket_id, upstream, method, path, query, headers, body, digest, on_behalf_of, justification,
		metadata, callback_events, plan) VALUES ($1, 'billing', 'GET', '/', '', '[]', '', repeat('0', 64), '', '', '{}', '{}', '{}')`,
		approvals.TicketID(uuid.Max))
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO decisions (ticket_id, person, seq, stage, verdict, comment, digest, groups, via, ref, message_ts, at)
		VALUES ($1, 'ana', 1, 0, 'approve', '', '', '{}', '', '', '', now())`, approvals.TicketID(uuid.Max))
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO audit_events SELECT id, 1, 'ticket.created', now(), '', '', '', '', state, '{}', '', head_hash, head_hash FROM tickets`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	x, err := f.store.Ticket(t.Context(), db.Ref{ID: approvals.TicketID(uuid.Max)})
	require.NoError(t, err)
	require.Zero(t, x.Questions)
	require.Empty(t, x.Decisions[0].For)
}
