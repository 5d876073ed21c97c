package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/db/dbtest"
)

// SQLSTATEs of the refusals that are tested for.
const (
	restrictViolation     = "23001" // a guard of ours
	foreignKeyViolation   = "23503"
	uniqueViolation       = "23505"
	checkViolation        = "23514"
	insufficientPrivilege = "42501"
)

// asService connects as the service does: a session that is countersign_app and nothing else.
func asService(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn := superuser(t, url)
	exec(t, conn, `SET SESSION AUTHORIZATION `+db.AppRole)
	return conn
}

// refused asserts that Postgres refuses a statement, and tells which constraint it was.
func refused(t *testing.T, conn *pgx.Conn, code, sql string, args ...any) (constraint string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	var pg *pgconn.PgError
	require.True(t, errors.As(err, &pg), "%s: got %v, want it refused", sql, err)
	require.Equal(t, code, pg.Code, "%s: %v", sql, err)
	return pg.ConstraintName
}

// refusedAtCommit asserts that statements pass and their commit does not.
func refusedAtCommit(t *testing.T, conn *pgx.Conn, constraint string, statements ...string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	for _, sql := range statements {
		_, err := tx.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	var pg *pgconn.PgError
	err = tx.Commit(t.Context())
	require.True(t, errors.As(err, &pg), "%s: got %v, want the commit refused", statements, err)
	require.Equal(t, foreignKeyViolation, pg.Code)
	require.Equal(t, constraint, pg.ConstraintName)
}

// lived is a ticket that has left a row in every table of facts.
func lived(t *testing.T, s *db.Store) string {
	t.Helper()
	id := prepare(t, s, verb{after: []string{"Decide", "Claim", "BeginExecution", "FinishExecution"}})
	_, err := s.Advance(t.Context(), db.Ref{ID: id}, verbs["DeliveryFailed"].do)
	require.NoError(t, err)
	return id
}

func TestFactsAreNeverChanged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lived(t, f.store)
	before := contents(t, superuser(t, f.url))
	for name, conn := range map[string]*pgx.Conn{insufficientPrivilege: asService(t, f.url), restrictViolation: superuser(t, f.url)} {
		for _, table := range []string{"audit_events", "calls", "decisions", "results", "delivery_attempts"} {
			require.NotEmpty(t, before[table], "%s has a row to guard", table)
			refused(t, conn, name, `UPDATE `+table+` SET ticket_id = ticket_id`)
			refused(t, conn, name, `DELETE FROM `+table)
			refused(t, conn, name, `TRUNCATE `+table+` CASCADE`)
		}
		refused(t, conn, name, `DELETE FROM tickets`)
		refused(t, conn, name, `TRUNCATE tickets CASCADE`)
	}
	require.Equal(t, before, contents(t, superuser(t, f.url)))
}

// sessions are both who may write tickets at all.
func sessions(t *testing.T, url string) []*pgx.Conn {
	t.Helper()
	return []*pgx.Conn{asService(t, url), superuser(t, url)}
}

const (
	// step writes a version more, together with what a test appends.
	step = `UPDATE tickets SET version = version + 1`
	// event writes an event for the version after the ticket's, its bytes aside.
	event = `INSERT INTO audit_events SELECT id, version + 1, 'ticket.notified', now(), '', '', '', '', state, '{}', '', head_hash, head_hash FROM tickets`
)

func TestATicketChangesByANewVersionOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submit(t, plan(stage(1)))
	for _, conn := range sessions(t, f.url) {
		refused(t, conn, restrictViolation, `UPDATE tickets SET state = 'cancelled', finished_at = now(), wake_at = NULL`)
		refused(t, conn, restrictViolation, `UPDATE tickets SET reminders = 1`)
		refused(t, conn, restrictViolation, `UPDATE tickets SET version = version - 1`)
		refused(t, conn, restrictViolation, step+`, id = 'tkt_00000000000000000000000000'`)
		refused(t, conn, restrictViolation, step+`, caller = 'somebody-else'`)
		refused(t, conn, restrictViolation, step+`, created_at = created_at - interval '1 second'`)
		refused(t, conn, restrictViolation, step+`, expires_at = expires_at + interval '1 second'`)
	}
}

func TestNoVersionCommitsWithoutItsEvent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	for _, conn := range sessions(t, f.url) {
		before := contents(t, superuser(t, f.url))
		refusedAtCommit(t, conn, "version_has_its_event", step)
		refusedAtCommit(t, conn, "version_has_its_event", `UPDATE tickets SET version = version + 2`, event)
		refusedAtCommit(t, conn, "version_has_its_event", strings.ReplaceAll(event, "version + 1", "version + 2"), step)
		refusedAtCommit(t, conn, "version_has_its_event", `INSERT INTO tickets SELECT (jsonb_populate_record(t, '{"id": "tkt_00000000000000000000000000"}')).* FROM tickets t`)
		refusedAtCommit(t, conn, "decisions_ticket_id_seq_fkey",
			`INSERT INTO decisions VALUES ('`+id+`', 'ana', 99, 0, 'approve', '', '', '{}', '', '', '', now())`)
		require.Equal(t, "tickets_superseded_by_fkey", refused(t, conn, foreignKeyViolation,
			step+`, state = 'cancelled', finished_at = now(), wake_at = NULL, superseded_by = 'tkt_00000000000000000000000000'`))
		refusedAtCommit(t, conn, "idempotency_keys_ticket_id_fkey",
			`INSERT INTO idempotency_keys VALUES ('payroll-bot', 'r', 'k', decode(repeat('00', 32), 'hex'), 'tkt_00000000000000000000000000', now())`)
		require.Equal(t, before, contents(t, superuser(t, f.url)))
	}
	conn := asService(t, f.url)
	exec(t, conn, `BEGIN; `+step+`; `+strings.ReplaceAll(event, "version + 1", "version")+`; COMMIT`)
}

func TestAPersonDecidesOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(2))).ID
	_, err := f.decide(t, id, "ana", approvals.Approve)
	require.NoError(t, err)
	_, err = f.decide(t, id, "ana", approvals.Deny)
	require.Equal(t, approvals.CodeAlreadyDecided, approvals.ErrorCode(err), "by the domain")
	const again = `INSERT INTO decisions (ticket_id, person, in_place_of, seq, stage, verdict, comment, digest, groups, via, ref, message_ts, at)
		SELECT ticket_id, $2, $3, $4, $5, $6, 'why', digest, '{}', '', '', '', now() FROM decisions WHERE ticket_id = $1`
	for _, conn := range sessions(t, f.url) {
		for _, vote := range []struct {
			person, inPlaceOf string
			seq, stage        int
			verdict           approvals.Verdict
			constraint        string // "" for none: whether a stage more is a vote more, the plan says
		}{
			{"ana", "", 3, 0, approvals.Deny, "decisions_one_vote_a_person"},
			{"ana", "bo", 3, 0, approvals.Approve, "decisions_one_vote_a_person"},
			{"bo", "ana", 3, 0, approvals.Approve, "decisions_one_vote_a_place"},
			{"bo", "", 2, 0, approvals.Approve, "decisions_pkey"},
			{"bo", "chen", 3, 0, approvals.Approve, ""},
			{"ana", "", 3, 1, approvals.Deny, ""},
			{"ana", "", 3, 0, approvals.GlassBroken, ""},
		} {
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), again, id, vote.person, vote.inPlaceOf, vote.seq, vote.stage, vote.verdict)
			require.NoError(t, tx.Rollback(t.Context()))
			if vote.constraint == "" {
				require.NoError(t, err, "%+v", vote)
				continue
			}
			var pg *pgconn.PgError
			require.True(t, errors.As(err, &pg), "%+v: %v", vote, err)
			require.Equal(t, uniqueViolation, pg.Code, "%+v: %v", vote, err)
			require.Equal(t, vote.constraint, pg.ConstraintName, "%+v", vote)
		}
	}
}

// shape is the least that the CHECKs ask of a ticket in a state.
func shape(s approvals.State) string {
	set := map[string]string{"state": "'" + string(s) + "'"}
	null := func(column string, is bool, value string) {
		set[column] = "NULL"
		if !is {
			set[column] = "coalesce(" + column + ", " + value + ")"
		}
	}
	null("finished_at", !s.Final(), "now()")
	null("wake_at", s != approvals.Pending && s != approvals.NeedsInfo && s != approvals.Approved, "now()")
	unapproved := s == approvals.Pending || s == approvals.NeedsInfo || s == approvals.Denied
	null("approved_at", unapproved, "now()")
	null("execute_by", unapproved, "now()")
	null("execution_started_at", unapproved || s == approvals.Approved, "now()")
	null("question", s != approvals.NeedsInfo, "'{}'::jsonb")
	null("claimed_by", true, "")
	null("result", true, "")
	var out []string
	for column, value := range set {
		out = append(out, column+" = "+value)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestFinalStaysFinal tries every way out of every state from which there is none, or
// only some: those of the domain's own table.
func TestFinalStaysFinal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.submit(t, plan(stage(1)))
	conn, super := asService(t, f.url), superuser(t, f.url)
	for _, from := range approvals.States() {
		if !from.Final() && from != approvals.Executing {
			continue
		}
		exec(t, super, `BEGIN; SET LOCAL session_replication_role = replica; UPDATE tickets SET `+shape(from)+`; COMMIT`)
		for _, to := range approvals.States() {
			sql := step + `, ` + shape(to)
			if !approvals.Legal(from, to) {
				refused(t, conn, restrictViolation, sql)
				refused(t, super, restrictViolation, sql)
				continue
			}
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			for _, sql := range []string{event, sql, `SET CONSTRAINTS ALL IMMEDIATE`} {
				_, err := tx.Exec(t.Context(), sql)
				require.NoError(t, err, "%s to %s", from, to)
			}
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
}

// broken holds, for each CHECK on tickets, columns that break it and no other.
var broken = map[string]map[string]any{
	"tickets_id_check":             {"id": "tkt_0000000000000000000000000u"},
	"tickets_version_check":        {"version": 0},
	"tickets_state_check":          {"state": "blessed", "wake_at": nil},
	"tickets_check":                {"expires_at": "2000-01-01T00:00:00Z"},
	"tickets_stage_check":          {"stage": -1},
	"tickets_paused_us_check":      {"paused_us": -1},
	"tickets_reminders_check":      {"reminders": -1},
	"tickets_epoch_check":          {"epoch": -1},
	"tickets_claimed_by_check":     with(approvedRow, "claimed_by", ""),
	"tickets_callback_state_check": {"callback_state": "lost"},
	"tickets_callback_seq_check":   {"callback_seq": -1},
	"tickets_refusals_check":       {"refusals": -1},
	"tickets_head_hash_check":      {"head_hash": `\x00`},
	"final_has_finished":           {"finished_at": sometime},
	"approval_is_whole":            with(approvedRow, "execute_by", nil),
	"approved_first":               {"state": "approved"},
	"started_first":                with(approvedRow, "state", "executing", "wake_at", nil, "claimed_by", nil),
	"open_is_undecided":            {"approved_at": sometime, "execute_by": sometime},
	"waiting_has_a_timer":          {"wake_at": nil},
	"question_is_open":             {"state": "needs_info"},
	"claim_is_in_force":            {"claimed_by": "w1", "epoch": 1},
	"answer_is_final":              {"result": map[string]any{}},

	"tickets_paused_hours_us_check": {"paused_hours_us": -1},
	"tickets_questions_check":       {"questions": -1},
	"stalled_is_open":               with(approvedRow, "stalled", map[string]any{}),
	"superseded_is_cancelled":       {"superseded_by": "the template"},
	"superseded_by_another":         {"state": "cancelled", "finished_at": sometime, "wake_at": nil, "superseded_by": "itself"},
}

// brokenVotes is the same for decisions.
var brokenVotes = map[string]map[string]any{
	"decisions_stage_check":       {"stage": -1},
	"decisions_verdict_check":     {"verdict": "abstain"},
	"decisions_in_place_of_check": {"in_place_of": "chen"},
	"glass_is_broken_in_the_open": {"verdict": "break_glass", "comment": ""},
}

const sometime = "2026-01-01T00:00:00Z"

var approvedRow = map[string]any{"state": "approved", "approved_at": sometime, "execute_by": sometime, "epoch": 1, "claimed_by": "w1"}

// with returns columns with others added, given as names and values by turns.
func with(columns map[string]any, more ...any) map[string]any {
	out := maps.Clone(columns)
	for i := 0; i < len(more); i += 2 {
		out[fmt.Sprint(more[i])] = more[i+1]
	}
	return out
}

func TestEachCheckRefusesWhatItAloneForbids(t *testing.T) {
	t.Parallel()
	f := setup(t)
	template := f.submit(t, plan(stage(2))).ID
	_, err := f.decide(t, template, "ana", approvals.Approve)
	require.NoError(t, err)
	conn := superuser(t, f.url)
	for table, broken := range map[string]map[string]map[string]any{"tickets": broken, "decisions": brokenVotes} {
		rows, err := conn.Query(t.Context(), `SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'`, table)
		require.NoError(t, err)
		checks, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.ElementsMatch(t, checks, slices.Collect(maps.Keys(broken)), "every CHECK on %s has its case", table)
		for _, check := range checks {
			onlyBreaks(t, conn, table, check, another(t, table, template, broken[check]))
		}
	}
	both := another(t, "decisions", template, map[string]any{"verdict": "break_glass", "in_place_of": "bo"})
	onlyBreaks(t, conn, "decisions", "glass_is_broken_in_the_open", both)
}

// another makes a row of a table like the one there is, with keys of its own.
func another(t *testing.T, table, template string, columns map[string]any) string {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	own := map[string]any{"id": approvals.TicketID(id)}
	if table == "decisions" {
		own = map[string]any{"person": "chen", "seq": 1}
	}
	names := map[any]any{"the template": template, "itself": own["id"]}
	for k, v := range columns {
		own[k] = v
		if name, ok := v.(string); ok && names[name] != nil {
			own[k] = names[name]
		}
	}
	out, err := json.Marshal(own)
	require.NoError(t, err)
	return string(out)
}

// onlyBreaks asserts that a CHECK refuses a row, and that nothing else does.
func onlyBreaks(t *testing.T, conn *pgx.Conn, table, check, columns string) {
	t.Helper()
	insert := `INSERT INTO ` + table + ` SELECT (jsonb_populate_record(t, $1::jsonb)).* FROM ` + table + ` t`
	require.Equal(t, check, refused(t, conn, checkViolation, insert, columns), "%s", columns)
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `ALTER TABLE `+table+` DROP CONSTRAINT `+check)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), insert, columns)
	require.NoError(t, err, "%s is the only one broken by %s", check, columns)
	require.NoError(t, tx.Rollback(t.Context()))
}

// words reads the list of a CHECK (column IN (…)).
func words(t *testing.T, conn *pgx.Conn, table, check string) []string {
	t.Helper()
	var def string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = $1::text::regclass AND conname = $2`, table, check).Scan(&def))
	var out []string
	for _, m := range regexp.MustCompile(`'([^']*)'`).FindAllStringSubmatch(def, -1) {
		out = append(out, m[1])
	}
	return out
}

func texts[S ~string](list ...S) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, string(s))
	}
	return out
}

func TestTheDatabaseKnowsTheWordsOfTheDomain(t *testing.T) {
	t.Parallel()
	conn := superuser(t, dbtest.Database(t))
	require.ElementsMatch(t, texts(approvals.States()...), words(t, conn, "tickets", "tickets_state_check"))
	require.ElementsMatch(t, texts(approvals.CallbackStates()...), words(t, conn, "tickets", "tickets_callback_state_check"))
	require.ElementsMatch(t, texts(approvals.EventTypes()...), words(t, conn, "audit_events", "audit_events_type_check"))
	require.ElementsMatch(t, texts(approvals.Verdicts()...), words(t, conn, "decisions", "decisions_verdict_check"))
	require.ElementsMatch(t, texts(approvals.CallbackPending, approvals.CallbackDelivered, approvals.CallbackExhausted),
		words(t, conn, "deliveries", "deliveries_state_check"))
	require.ElementsMatch(t, []string{"", approvals.PayloadFull, approvals.PayloadThin}, words(t, conn, "calls", "calls_callback_payload_check"))
	require.ElementsMatch(t, texts(db.Auto, db.Manual), words(t, conn, "deliveries", "deliveries_trigger_check"))
	require.ElementsMatch(t, texts(db.Unverified, db.Verified, db.Waived), words(t, conn, "callback_endpoints", "callback_endpoints_verification_check"))
	final := slices.DeleteFunc(approvals.States(), func(s approvals.State) bool { return !s.Final() })
	require.ElementsMatch(t, texts(final...), words(t, conn, "tickets", "final_has_finished"))
}

// privileges is all that the service, and everybody else, may do. A new grant is a new
// line here, and somebody has to think about it.
var privileges = []string{
	"countersign_app: INSERT SELECT on audit_events",
	"countersign_app: INSERT SELECT UPDATE on callback_endpoints",
	"countersign_app: INSERT SELECT on calls",
	"countersign_app: INSERT SELECT on card_copies",
	"countersign_app: UPDATE on card_copies.attempts",
	"countersign_app: UPDATE on card_copies.desired",
	"countersign_app: UPDATE on card_copies.due_at",
	"countersign_app: UPDATE on card_copies.frozen",
	"countersign_app: UPDATE on card_copies.lease_until",
	"countersign_app: UPDATE on card_copies.shown",
	"countersign_app: INSERT SELECT on cards",
	"countersign_app: UPDATE on cards.attempts",
	"countersign_app: UPDATE on cards.channel",
	"countersign_app: UPDATE on cards.desired",
	"countersign_app: UPDATE on cards.due_at",
	"countersign_app: UPDATE on cards.frozen",
	"countersign_app: UPDATE on cards.lease_until",
	"countersign_app: UPDATE on cards.posted_to",
	"countersign_app: UPDATE on cards.rendered",
	"countersign_app: UPDATE on cards.shown",
	"countersign_app: UPDATE on cards.ts",
	"countersign_app: INSERT SELECT on decisions",
	"countersign_app: INSERT SELECT on deliveries",
	"countersign_app: UPDATE on deliveries.attempts",
	"countersign_app: UPDATE on deliveries.claimed_by",
	"countersign_app: UPDATE on deliveries.claimed_until",
	"countersign_app: UPDATE on deliveries.endpoint_id",
	"countersign_app: UPDATE on deliveries.next_attempt_at",
	"countersign_app: UPDATE on deliveries.state",
	"countersign_app: UPDATE on deliveries.trigger",
	"countersign_app: INSERT SELECT on delivery_attempts",
	"countersign_app: INSERT SELECT on encryption_check",
	"countersign_app: DELETE INSERT SELECT on idempotency_keys",
	"countersign_app: INSERT SELECT on instance_secrets",
	"countersign_app: DELETE INSERT SELECT UPDATE on lane_waiting",
	"countersign_app: INSERT SELECT on results",
	"countersign_app: DELETE INSERT SELECT UPDATE on river_job",
	"countersign_app: SELECT USAGE on river_job_id_seq",
	"countersign_app: DELETE INSERT SELECT UPDATE on river_leader",
	"countersign_app: SELECT on river_migration",
	"countersign_app: DELETE INSERT SELECT UPDATE on river_notification",
	"countersign_app: SELECT USAGE on river_notification_id_seq",
	"countersign_app: DELETE INSERT SELECT UPDATE on river_queue",
	"countersign_app: SELECT on schema_migrations",
	"countersign_app: INSERT SELECT on service_events",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_channels",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_groups",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_homes",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_inbound",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_outbox",
	"countersign_app: INSERT SELECT on slack_renderings",
	"countersign_app: INSERT SELECT on slack_reviews",
	"countersign_app: UPDATE on slack_reviews.page",
	"countersign_app: UPDATE on slack_reviews.seen",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_state",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_tokens",
	"countersign_app: DELETE INSERT SELECT UPDATE on slack_users",
	"countersign_app: INSERT SELECT UPDATE on tickets",
	"countersign_app: INSERT SELECT UPDATE on upstream_lanes",
	"countersign_app: DELETE INSERT SELECT UPDATE on workers",
	"countersign_app: USAGE on schema public",
	"PUBLIC: USAGE on schema public",
	"PUBLIC: CONNECT TEMPORARY on database",
	"PUBLIC: EXECUTE on guard_supersedes",
	"PUBLIC: EXECUTE on guard_ticket",
	"PUBLIC: EXECUTE on refuse_change",
	"PUBLIC: EXECUTE on river_job_state_in_bitmask",
}

const privilegesSQL = `
WITH ours AS (SELECT * FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
acl AS (
	SELECT relname::text AS name, a.* FROM pg_class c, aclexplode(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))) a
		WHERE relnamespace IN (SELECT oid FROM ours) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
	UNION ALL SELECT attrelid::regclass || '.' || attname, a.* FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a
		WHERE relnamespace IN (SELECT oid FROM ours)
	UNION ALL SELECT proname, a.* FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE pronamespace IN (SELECT oid FROM ours)
	UNION ALL SELECT 'schema ' || nspname, a.* FROM ours, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a
	UNION ALL SELECT 'database', a.* FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE datname = current_database()
	UNION ALL SELECT 'types', a.* FROM pg_type, aclexplode(typacl) a WHERE typnamespace IN (SELECT oid FROM ours)
	UNION ALL SELECT 'what is yet to be made', a.* FROM pg_default_acl, aclexplode(defaclacl) a
)
SELECT coalesce(rolname, 'PUBLIC') || ': ' || string_agg(privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END, ' ' ORDER BY privilege_type) || ' on ' || name
FROM acl LEFT JOIN pg_roles r ON r.oid = grantee WHERE grantee = 0 OR rolname = $1 GROUP BY rolname, name`

func TestTheServiceMayDoWhatIsListedAndNoMore(t *testing.T) {
	t.Parallel()
	conn := superuser(t, dbtest.Database(t))
	rows, err := conn.Query(t.Context(), privilegesSQL, db.AppRole)
	require.NoError(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, privileges, got)

	var owned, memberships int
	var attributes bool
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT
		(SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = r.oid AND deptype = 'o'),
		(SELECT count(*) FROM pg_auth_members WHERE member = r.oid),
		rolsuper OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication OR rolbypassrls
		FROM pg_roles r WHERE rolname = $1`, db.AppRole).Scan(&owned, &memberships, &attributes))
	require.Zero(t, owned, "things owned, in any database")
	require.Zero(t, memberships, "roles that it could become")
	require.False(t, attributes, "powers of the role itself")
}

func TestTheServiceCannotSwitchAGuardOff(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	exec(t, superuser(t, url), `CREATE SCHEMA payroll; CREATE TABLE payroll.salaries (amount int); CREATE TABLE public.salaries (amount int)`)
	conn := asService(t, url)
	for _, sql := range []string{
		`ALTER TABLE audit_events DISABLE TRIGGER ALL`, `ALTER TABLE audit_events DISABLE TRIGGER no_change`,
		`ALTER TABLE tickets DROP CONSTRAINT version_has_its_event`, `ALTER TABLE tickets ADD COLUMN x int`,
		`DROP TRIGGER guard ON tickets`, `DROP TABLE audit_events CASCADE`, `DROP FUNCTION refuse_change CASCADE`,
		`CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE sql AS 'SELECT NULL'`,
		`CREATE TRIGGER x BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION refuse_change()`,
		`CREATE RULE x AS ON INSERT TO audit_events DO INSTEAD NOTHING`, `ALTER TABLE tickets OWNER TO countersign_app`,
		`CREATE TABLE public.x (id int)`, `CREATE FUNCTION public.x() RETURNS int LANGUAGE sql AS 'SELECT 1'`, `CREATE SCHEMA x`,
		`SET session_replication_role = replica`, `SET ROLE countersign_test`,
		`CREATE ROLE x`, `ALTER ROLE countersign_app SUPERUSER`,
		`SELECT * FROM payroll.salaries`, `SELECT * FROM public.salaries`, `SELECT rolpassword FROM pg_authid`,
		`SELECT pg_read_file('/etc/passwd')`, `COPY tickets TO PROGRAM 'cat'`, `UPDATE schema_migrations SET version = 1`,
		`UPDATE instance_secrets SET value = value`, `DELETE FROM cards`, `DELETE FROM deliveries`, `TRUNCATE tickets CASCADE`,
		`INSERT INTO river_migration (line, version) VALUES ('main', 99)`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		require.True(t, errors.As(err, &pg), "%s: got %v, want it refused", sql, err)
		require.Equal(t, insufficientPrivilege, pg.Code, "%s: %v", sql, err)
	}
	exec(t, conn, `GRANT UPDATE, DELETE ON audit_events TO countersign_app`) // a warning, to Postgres
	refused(t, conn, insufficientPrivilege, `UPDATE audit_events SET seq = seq`)
	refused(t, conn, insufficientPrivilege, `DELETE FROM audit_events`)
}

// TestALoginThatIsOnlyAMemberIsEnough runs the service as production should.
func TestALoginThatIsOnlyAMemberIsEnough(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := superuser(t, f.url)
	role := "countersign_login_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	exec(t, conn, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret' IN ROLE countersign_app`)
	t.Cleanup(func() { dropRole(t, f.url, role) })
	url := regexp.MustCompile(`//[^@]*@`).ReplaceAllString(f.url, "//"+role+":secret@")
	pool := dbtest.PoolOf(t, url)
	store := dbtest.Store(t, pool, f.outbox)
	require.NoError(t, store.Ready(t.Context()))
	requireChain(t, store, lived(t, store))
	for _, sql := range []string{`RESET ROLE; DELETE FROM audit_events`, `SET SESSION AUTHORIZATION countersign_test`, `SET ROLE countersign_test`} {
		_, err := pool.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		require.True(t, errors.As(err, &pg), "%s: %v", sql, err)
		require.Equal(t, insufficientPrivilege, pg.Code, "%s: %v", sql, err)
	}
}

// TestAnEditBehindTheGuardsIsFound edits each column of the trail as somebody could who
// owns the database, and verifies what the store then reads.
func TestAnEditBehindTheGuardsIsFound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := lived(t, f.store)
	conn := superuser(t, f.url)
	exec(t, conn, `SET session_replication_role = replica`)
	exec(t, conn, `ALTER TABLE audit_events DROP CONSTRAINT audit_events_type_check, DROP CONSTRAINT audit_events_hash_check,
		DROP CONSTRAINT audit_events_prev_hash_check, DROP CONSTRAINT audit_events_seq_check`)
	edits := map[string]map[string]audit.Class{
		"ticket_id":  {`'tkt_00000000000000000000000000'`: audit.ClassSequence}, // gone from this trail
		"seq":        {`99`: audit.ClassSequence, `-3`: audit.ClassSequence},
		"type":       {`'ticket.answered'`: audit.ClassColumns, `'ticket.blessed'`: audit.ClassColumns},
		"at":         {`at - interval '1 microsecond'`: audit.ClassColumns},
		"actor_kind": {`'person' || actor_kind`: audit.ClassColumns},
		"actor_name": {`'bo'`: audit.ClassColumns},
		"actor_via":  {`'api?'`: audit.ClassColumns},
		"actor_ref":  {`'T0TEAM/U0BO'`: audit.ClassColumns},
		"state":      {`'expired'`: audit.ClassColumns},
		"data": {
			`'{}'`: audit.ClassColumns, `'null'`: audit.ClassColumns, `'[1]'`: audit.ClassColumns, `data || '{"approved_by": "ana"}'`: audit.ClassColumns,
			`data || '{"epoch": "no number"}'`: audit.ClassColumns, `replace(data::text, '"decision"', '"Decision"')::jsonb`: audit.ClassColumns,
			`jsonb_set(data, '{decision,comment}', '"all is well"')`: audit.ClassColumns,
		},
		"canon":     {`set_byte(canon, 100, get_byte(canon, 100) # 1)`: audit.ClassHash, `substr(canon, 2)`: audit.ClassCanon, `''`: audit.ClassCanon},
		"prev_hash": {`set_byte(prev_hash, 0, get_byte(prev_hash, 0) # 1)`: audit.ClassLink, `''`: audit.ClassLink},
		"hash":      {`set_byte(hash, 31, get_byte(hash, 31) # 1)`: audit.ClassHash, `'\x00'`: audit.ClassHash},
	}
	rows, err := conn.Query(t.Context(), `SELECT attname FROM pg_attribute WHERE attrelid = 'audit_events'::regclass AND attnum > 0`)
	require.NoError(t, err)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.ElementsMatch(t, columns, append(slices.Collect(maps.Keys(edits)), "tx"), "every column is edited, but that for streams, which is no part of the evidence")

	verify := func() error {
		entries, err := f.store.Entries(t.Context(), db.Ref{ID: id})
		require.NoError(t, err)
		return audit.VerifyChain(id, entries)
	}
	exec(t, conn, `CREATE TABLE kept AS SELECT * FROM audit_events`)
	for column, values := range edits {
		for value, class := range values {
			exec(t, conn, `UPDATE audit_events SET `+column+` = `+value+` WHERE ticket_id = $1 AND seq = 2`, id)
			var fault *audit.Fault
			require.True(t, errors.As(verify(), &fault), "%s = %s is not found", column, value)
			require.Equal(t, class, fault.Class, "%s = %s: %v", column, value, fault)
			exec(t, conn, `DELETE FROM audit_events`)
			exec(t, conn, `INSERT INTO audit_events SELECT * FROM kept`)
			require.NoError(t, verify(), "as it was")
		}
	}
	exec(t, conn, `DELETE FROM audit_events WHERE seq = 2`)
	require.ErrorContains(t, verify(), string(audit.ClassSequence))
	exec(t, conn, `DELETE FROM audit_events`)
	require.ErrorContains(t, verify(), string(audit.ClassSequence))
	exec(t, conn, `DELETE FROM tickets`)
	_, err = f.store.Entries(t.Context(), db.Ref{ID: id})
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err), "no trail and no ticket")
}

func TestEventsOfABrokenTrailAreNotMadeUp(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	conn := superuser(t, f.url)
	exec(t, conn, `SET session_replication_role = replica`)
	exec(t, conn, `UPDATE audit_events SET data = '{"epoch": "no number"}'`)
	_, err := f.store.Events(t.Context(), db.Ref{ID: id}, 0, 10)
	require.ErrorContains(t, err, "read the data of event "+id+"/1")
	more, err := f.store.Events(t.Context(), db.Ref{ID: id}, 1, 10)
	require.NoError(t, err)
	require.Empty(t, more, "after the last")
	_, err = f.store.Events(t.Context(), db.Ref{ID: "tkt_00000000000000000000000000"}, 0, 10)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
}

func dropRole(t *testing.T, url, role string) {
	t.Helper()
	// Not the test's context, which has ended by the time of a cleanup.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Errorf("connect to drop role %s: %v", role, err)
		return
	}
	defer conn.Close(ctx) //nolint:errcheck // going away
	if _, err := conn.Exec(ctx, `DROP ROLE `+role); err != nil {
		t.Errorf("drop role %s: %v", role, err)
	}
}
