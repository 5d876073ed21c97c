package db_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/db/dbtest"
)

// saboteur makes statements fail from inside the database.
type saboteur struct{ conn *pgx.Conn }

// armory holds a trigger on every table we write. A row in armed sets one off; the
// count of serialization failures is a sequence, which no rollback takes back.
const armory = `
CREATE SCHEMA faults;
CREATE TABLE faults.armed (tbl text, moment text, how text);
CREATE SEQUENCE faults.fired;
CREATE FUNCTION faults.fire() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$
DECLARE what text;
BEGIN
	SELECT how INTO what FROM faults.armed WHERE tbl = TG_TABLE_NAME AND moment = TG_ARGV[0];
	IF what = 'raise' THEN
		RAISE EXCEPTION 'injected into %', TG_TABLE_NAME;
	ELSIF what = 'terminate' THEN
		PERFORM pg_terminate_backend(pg_backend_pid());
		PERFORM pg_sleep(60);
	ELSIF what = 'twice' THEN
		IF nextval('faults.fired') <= 2 THEN
			RAISE EXCEPTION 'injected' USING ERRCODE = 'serialization_failure';
		END IF;
	END IF;
	RETURN NEW;
END $$;
DO $$
DECLARE t text;
BEGIN
	FOREACH t IN ARRAY ARRAY['tickets', 'calls', 'audit_events', 'decisions', 'results', 'idempotency_keys', 'deliveries', 'delivery_attempts'] LOOP
		EXECUTE format('CREATE TRIGGER fault BEFORE INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION faults.fire(''statement'')', t);
		EXECUTE format('CREATE TRIGGER fault_in_update BEFORE UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION faults.fire(''update'')', t);
		EXECUTE format('CREATE CONSTRAINT TRIGGER fault_at_commit AFTER INSERT OR UPDATE ON %I DEFERRABLE INITIALLY DEFERRED
			FOR EACH ROW EXECUTE FUNCTION faults.fire(''commit'')', t);
	END LOOP;
END $$`

func sabotage(t *testing.T, url string) saboteur {
	t.Helper()
	s := saboteur{conn: superuser(t, url)}
	exec(t, s.conn, armory)
	return s
}

// arm sets off how ("raise", "terminate", "twice") in a table at a moment ("statement",
// "update", "commit"), disarm nothing any more.
func (s saboteur) arm(t *testing.T, table, moment, how string) {
	t.Helper()
	exec(t, s.conn, `INSERT INTO faults.armed VALUES ($1, $2, $3)`, table, moment, how)
}

func (s saboteur) disarm(t *testing.T) {
	t.Helper()
	exec(t, s.conn, `DELETE FROM faults.armed`)
}

// written are the tables that the two doors write.
var written = []string{
	"tickets", "calls", "audit_events", "decisions", "results", "idempotency_keys", "deliveries", "delivery_attempts",
}

// contents tells what all tables hold, so that two moments can be compared.
func contents(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, table := range written {
		var text string
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(x::text, E'\n' ORDER BY x::text), '') FROM `+
			pgx.Identifier{table}.Sanitize()+` x`).Scan(&text))
		out[table] = text
	}
	return out
}

// kill ends a backend and waits until it is gone.
func (s saboteur) kill(ctx context.Context, where string, args ...any) error {
	var killed int
	err := s.conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 10000))
		FROM pg_stat_activity WHERE datname = current_database() AND `+where, args...).Scan(&killed)
	if err == nil && killed != 1 {
		err = fmt.Errorf("killed %d backends, want 1", killed)
	}
	return err
}

// hook is an outbox that does what a test wants inside the transaction.
type hook struct {
	mu sync.Mutex
	f  func(ctx context.Context, tx pgx.Tx) error
}

func (h *hook) Enqueue(ctx context.Context, tx pgx.Tx, _ []approvals.Effect) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		return nil
	}
	return h.f(ctx, tx)
}

func (h *hook) set(f func(ctx context.Context, tx pgx.Tx) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

// verb is one of the domain's verbs and how a ticket comes to where it applies: what is
// special about its submission, and the verbs before it.
type verb struct {
	with  func(t *testing.T, s *db.Store, r *db.SubmitRequest)
	after []string
	do    db.Decide
}

// eventful is a plan with a place for every verb.
func eventful() approvals.Plan {
	s := stage(1)
	s.RemindEvery = time.Minute
	s.Escalate = []approvals.Tier{{After: 2 * time.Minute, To: []string{"bo"}, Mode: approvals.ModeAdd}}
	return plan(s)
}

// verbs has every verb of the domain; a test compares it with the methods there are.
var verbs = map[string]verb{
	"Decide": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Decide(person("ana"), approvals.Decision{
			Person: "ana", Verdict: approvals.Approve, Digest: x.Digest, Channel: "C0X", Rendered: "abc",
		}, directory, now)
	}},
	"Stranger": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		tr, _ := x.Stranger(approvals.Actor{Kind: approvals.ActorStranger, Name: "U0EVE", Via: "slack"}, "approve", now)
		return tr, nil // recorded, and not an error to these tests
	}},
	"Refuse": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		tr, _ := x.Refuse(person("bo"), "resolve", &approvals.Error{Code: approvals.CodeNotOperator, Message: "no"}, now)
		return tr, nil // recorded, and not an error to these tests
	}},
	"View": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.View(person("ana"), approvals.Viewing{Person: "ana", Digest: x.Digest, Rendered: "abc", Channel: "C0X", Pages: 2}, directory, now)
	}},
	"Ask": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Ask(person("ana"), approvals.Question{Person: "ana", Text: "why?"}, directory, now)
	}},
	"Answer": {after: []string{"Ask"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Answer(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, "because", now)
	}},
	"Remind": {do: func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return x.Remind(0, 1, x.CreatedAt.Add(time.Minute))
	}},
	"Escalate": {do: func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return x.Escalate(0, 1, directory, x.CreatedAt.Add(2*time.Minute))
	}},
	"Expire": {do: func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) { return x.Expire(x.ExpiresAt) }},
	"Wake": {do: func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return x.Wake(directory, x.WakeAt)
	}},
	"Cancel": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, "no longer needed", now)
	}},
	"Release": {with: scheduled, after: []string{"Decide"}, do: func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return x.Release(x.NotBefore)
	}},
	"Supersede": {with: replaced, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Supersede(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, x.Metadata["by"], now)
	}},
	"Reassess": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Reassess(approvals.Directory{}, now)
	}},
	"Claim": {after: []string{"Decide"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Claim("w1", directory, x.Plan, now)
	}},
	"BeginExecution": {after: []string{"Decide", "Claim"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.BeginExecution(x.Epoch, "w1", x.Binding("u").Digest(), directory, x.Plan, now)
	}},
	"FinishExecution": {after: []string{"Decide", "Claim", "BeginExecution"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.FinishExecution(x.Epoch, "w1", approvals.Outcome{Kind: approvals.Answered, Success: true, Result: &approvals.Result{
			ResultSummary: approvals.ResultSummary{Status: 200, Size: 2, Digest: "d", ExecutedAt: now}, Body: []byte("{}"),
		}}, now)
	}},
	"Abandon": {after: []string{"Decide", "Claim", "BeginExecution"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Abandon(x.Epoch, now)
	}},
	"Resolve": {after: []string{"Decide", "Claim", "BeginExecution", "Abandon"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Resolve(person("ana"), true, "seen in the books", now)
	}},
	"Notified": {do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Notified("w1", approvals.Card{Channel: "C0X", TS: "1.2"}, now)
	}},
	"DeliveryFailed": {after: []string{"Cancel"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.DeliveryFailed("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 1, Status: 500, NextAt: now.Add(time.Second)}, now)
	}},
	"RequestRedelivery": {after: []string{"Cancel", "DeliveryFailed"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.RequestRedelivery(person("ana"), x.CallbackSeq, 2, now)
	}},
	"Delivered": {after: []string{"Cancel", "DeliveryFailed"}, do: func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Delivered("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 2, Status: 204}, now)
	}},
}

// scheduled calls may be made in a minute.
func scheduled(t *testing.T, s *db.Store, r *db.SubmitRequest) {
	t.Helper()
	probe, err := s.Submit(t.Context(), request(t, eventful())) // the database's clock
	require.NoError(t, err)
	r.Submission.NotBefore = probe.Ticket.CreatedAt.Add(time.Minute)
}

// replaced tickets know another one that exists.
func replaced(t *testing.T, s *db.Store, r *db.SubmitRequest) {
	t.Helper()
	other, err := s.Submit(t.Context(), request(t, eventful()))
	require.NoError(t, err)
	r.Submission.Metadata = map[string]string{"by": other.Ticket.ID}
}

func person(name string) approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorPerson, Name: name, Via: "slack", Ref: "T0TEAM/U0" + name}
}

// prepare opens a ticket and brings it to where a verb applies.
func prepare(t *testing.T, s *db.Store, v verb) string {
	t.Helper()
	req := request(t, eventful())
	if v.with != nil {
		v.with(t, s, &req)
	}
	res, err := s.Submit(t.Context(), req)
	require.NoError(t, err)
	for _, name := range v.after {
		_, err := s.Advance(t.Context(), db.Ref{ID: res.Ticket.ID}, verbs[name].do)
		require.NoError(t, err, name)
	}
	return res.Ticket.ID
}

func requireChain(t *testing.T, s *db.Store, id string) {
	t.Helper()
	entries, err := s.Entries(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.NoError(t, audit.VerifyChain(id, entries))
	x, err := s.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.EqualValues(t, len(entries), x.Version)
}

func TestTheVerbsTestedAreAllThereAre(t *testing.T) {
	t.Parallel()
	var want []string
	typ := reflect.TypeFor[approvals.Ticket]()
	for i := range typ.NumMethod() {
		f := typ.Method(i).Type
		if f.NumOut() == 2 && f.Out(0) == reflect.TypeFor[approvals.Transition]() {
			want = append(want, typ.Method(i).Name)
		}
	}
	require.ElementsMatch(t, want, slices.Collect(maps.Keys(verbs)))
}

// TestEveryVerbIsAllOrNothing fails each statement of each verb in turn, the audit
// insert among them: the tables a verb writes are found out by watching it.
func TestEveryVerbIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	saboteur := sabotage(t, f.url)
	seen := make(map[string]bool)
	for name, v := range verbs {
		probe := prepare(t, f.store, v)
		before := contents(t, saboteur.conn)
		_, err := f.store.Advance(t.Context(), db.Ref{ID: probe}, v.do)
		require.NoError(t, err, name)
		after := contents(t, saboteur.conn)

		id := prepare(t, f.store, v)
		for _, table := range written {
			if before[table] == after[table] {
				continue
			}
			seen[table] = true
			failsWithoutTrace(t, f, saboteur, id, v.do, "injected into "+table, func() { saboteur.arm(t, table, "statement", "raise") })
			failsWithoutTrace(t, f, saboteur, id, v.do, "injected into "+table, func() { saboteur.arm(t, table, "commit", "raise") })
		}
		require.NotEqual(t, before["audit_events"], after["audit_events"], "%s has an event", name)
		require.NotEqual(t, before["tickets"], after["tickets"], "%s makes a version", name)
		failsWithoutTrace(t, f, saboteur, id, v.do, "outbox down", func() { f.outbox.Fail = errors.New("outbox down") })
		_, err = f.store.Advance(t.Context(), db.Ref{ID: id}, v.do)
		require.NoError(t, err, "%s once the faults are gone", name)
		requireChain(t, f.store, id)
	}
	require.ElementsMatch(t, []string{"tickets", "audit_events", "decisions", "results", "deliveries", "delivery_attempts"},
		slices.Collect(maps.Keys(seen)), "tables that verbs write")
}

func failsWithoutTrace(t *testing.T, f fixture, s saboteur, id string, do db.Decide, want string, arm func()) {
	t.Helper()
	before := contents(t, s.conn)
	arm()
	_, err := f.store.Advance(t.Context(), db.Ref{ID: id}, do)
	s.disarm(t)
	f.outbox.Fail = nil
	require.ErrorContains(t, err, want)
	require.NotErrorIs(t, err, db.ErrUnavailable)
	require.Empty(t, approvals.ErrorCode(err), "not a refusal")
	require.Equal(t, before, contents(t, s.conn))
}

func TestSubmitIsAllOrNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := sabotage(t, f.url)
	empty := contents(t, s.conn)
	req := request(t, plan(stage(1)))
	req.Submission.Callback.Events = []approvals.EventType{approvals.EventCreated}
	fails := func(want string) {
		t.Helper()
		_, err := f.store.Submit(t.Context(), req)
		s.disarm(t)
		f.outbox.Fail = nil
		require.ErrorContains(t, err, want)
		require.NotErrorIs(t, err, db.ErrUnavailable)
		require.Equal(t, empty, contents(t, s.conn))
	}
	tables := []string{"idempotency_keys", "tickets", "calls", "audit_events", "deliveries"}
	for _, table := range tables {
		for _, moment := range []string{"statement", "commit"} {
			s.arm(t, table, moment, "raise")
			fails("injected into " + table)
		}
	}
	f.outbox.Fail = errors.New("outbox down")
	fails("outbox down")
	res, err := f.store.Submit(t.Context(), req)
	require.NoError(t, err)
	require.False(t, res.Replayed, "the failures did not use up the key")
	requireChain(t, f.store, res.Ticket.ID)
	for table, text := range contents(t, s.conn) {
		require.Equal(t, slices.Contains(tables, table), text != "", "%s is written by a submit", table)
	}
}

// TestALostConnectionIsUnavailableAndLeavesNothing ends the backend at each step.
func TestALostConnectionIsUnavailableAndLeavesNothing(t *testing.T) {
	t.Parallel()
	url, outbox := dbtest.Database(t), &hook{}
	store := dbtest.Store(t, dbtest.PoolOf(t, url), outbox)
	s := sabotage(t, url)
	id := prepare(t, store, verb{})
	decide := verbs["Decide"].do
	inOutbox := func(ctx context.Context, tx pgx.Tx) error {
		return s.kill(ctx, "pid = $1", tx.Conn().PgConn().PID())
	}
	idle := func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = 1`); err != nil {
			return err
		}
		return tx.Conn().PgConn().WaitForNotification(ctx) // none will come but the end
	}
	statement := func(table, moment string) func() {
		return func() { s.arm(t, table, moment, "terminate") }
	}
	advances := map[string]func(){
		"the update":     statement("tickets", "statement"),
		"the event":      statement("audit_events", "statement"),
		"the projection": statement("decisions", "statement"),
		"the commit":     statement("tickets", "commit"),
		"the jobs":       func() { outbox.set(inOutbox) },
		"idling":         func() { outbox.set(idle) },
	}
	submits := map[string]func(){
		"the key":    statement("idempotency_keys", "statement"),
		"the ticket": statement("tickets", "statement"),
		"the commit": statement("tickets", "commit"),
		"the jobs":   func() { outbox.set(inOutbox) },
		"idling":     func() { outbox.set(idle) },
	}
	fails := func(doing string, arm func(), call func() error) {
		t.Helper()
		before := contents(t, s.conn)
		arm()
		err := call()
		s.disarm(t)
		outbox.set(nil)
		require.ErrorIs(t, err, db.ErrUnavailable, doing)
		require.Equal(t, before, contents(t, s.conn), doing)
	}
	for doing, arm := range advances {
		fails("advance, "+doing, arm, func() error {
			_, err := store.Advance(t.Context(), db.Ref{ID: id}, decide)
			return err
		})
	}
	fails("advance, while deciding", func() {}, func() error {
		_, err := store.Advance(t.Context(), db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
			if err := s.kill(t.Context(), "application_name = 'countersign' AND state = 'idle in transaction'"); err != nil {
				return approvals.Transition{}, err
			}
			return decide(x, now)
		})
		return err
	})
	_, err := store.Advance(t.Context(), db.Ref{ID: id}, decide)
	require.NoError(t, err, "the next advance")
	requireChain(t, store, id)

	req := request(t, eventful())
	for doing, arm := range submits {
		fails("submit, "+doing, arm, func() error {
			_, err := store.Submit(t.Context(), req)
			return err
		})
	}
	res, err := store.Submit(t.Context(), req)
	require.NoError(t, err, "the next submit, with the same key")
	require.False(t, res.Replayed)
	again, err := store.Submit(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, res.Ticket.ID, again.Ticket.ID, "one ticket")
	requireChain(t, store, res.Ticket.ID)
}

func TestASerializationFailureIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := sabotage(t, f.url)
	s.arm(t, "tickets", "commit", "twice")
	res, err := f.store.Submit(t.Context(), request(t, plan(stage(1))))
	require.NoError(t, err)
	require.False(t, res.Replayed)
	exec(t, s.conn, `ALTER SEQUENCE faults.fired RESTART`)
	tries := 0
	_, err = f.store.Advance(t.Context(), db.Ref{ID: res.Ticket.ID}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		tries++
		return verbs["Decide"].do(x, now)
	})
	require.NoError(t, err)
	require.Equal(t, 3, tries)
	requireChain(t, f.store, res.Ticket.ID)
}

// lossy stands between a client and Postgres. Once armed, it carries the next COMMIT
// through and loses the answer: done, yet failed for all that the client knows.
type lossy struct {
	armed atomic.Bool
	lost  chan struct{}
}

// between returns a URL that leads through a lossy connection.
func between(t *testing.T, dsn string) (*lossy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	target := u.Host
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	l := &lossy{lost: make(chan struct{}, 1)}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go l.carry(t.Context(), client, target)
		}
	}()
	u.Host = ln.Addr().String()
	return l, u.String()
}

func (l *lossy) carry(ctx context.Context, client net.Conn, target string) {
	defer client.Close() //nolint:errcheck // as intended
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // likewise
	var doomed atomic.Bool
	go func() {
		defer server.Close() //nolint:errcheck // the client has gone
		_ = pump(server, client, func(b []byte) bool {
			if bytes.Contains(b, []byte("commit\x00")) && l.armed.CompareAndSwap(true, false) {
				doomed.Store(true)
			}
			return true
		})
	}()
	_ = pump(client, server, func(b []byte) bool {
		if doomed.Load() && bytes.Contains(b, []byte("COMMIT\x00")) {
			l.lost <- struct{}{}
			return false
		}
		return true
	})
}

func pump(to io.Writer, from io.Reader, pass func([]byte) bool) error {
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil || !pass(b[:n]) {
			return err
		}
		if _, err := to.Write(b[:n]); err != nil {
			return err
		}
	}
}

func TestACommitWhoseAnswerIsLostHappenedOnce(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Database(t)
	wire, through := between(t, dsn)
	store := dbtest.Store(t, dbtest.PoolOf(t, through), &dbtest.Outbox{})
	conn := superuser(t, dsn)

	req := request(t, plan(stage(2)))
	wire.armed.Store(true)
	_, err := store.Submit(t.Context(), req)
	require.ErrorIs(t, err, db.ErrUnavailable)
	<-wire.lost
	before := contents(t, conn)
	require.NotEmpty(t, before["tickets"], "the commit happened")
	res, err := store.Submit(t.Context(), req)
	require.NoError(t, err)
	require.True(t, res.Replayed, "the key finds the ticket")
	require.Equal(t, req.Submission.ID, res.Ticket.ID)
	require.Equal(t, before, contents(t, conn), "and nothing was written again")

	wire.armed.Store(true)
	_, err = store.Advance(t.Context(), db.Ref{ID: res.Ticket.ID}, verbs["Decide"].do)
	require.ErrorIs(t, err, db.ErrUnavailable)
	<-wire.lost
	_, err = store.Advance(t.Context(), db.Ref{ID: res.Ticket.ID}, verbs["Decide"].do)
	require.Equal(t, approvals.CodeAlreadyDecided, approvals.ErrorCode(err), "the vote counted once: %v", err)
	dbtest.RequireTrail(t, store, res.Ticket.ID, approvals.EventCreated, approvals.EventDecided, approvals.EventRefused)
}

// holdSubmits makes every submit of a database wait, until release.
func holdSubmits(t *testing.T, url string) (release func()) {
	t.Helper()
	tx, err := superuser(t, url).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE idempotency_keys IN EXCLUSIVE MODE`)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

// small is a store with one committer, which waits for a lock with a first submit, and
// with room for two more behind it.
type small struct {
	fixture
	first    db.SubmitRequest
	forget   context.CancelFunc // makes the first caller go away
	answered chan error         // what the first caller is told
	release  func()             // lets the committer go on
}

func setupSmall(t *testing.T) small {
	t.Helper()
	s := small{first: request(t, plan(stage(1))), answered: make(chan error, 1)}
	s.url, s.outbox = dbtest.Database(t), &dbtest.Outbox{}
	var err error
	s.store, err = db.New(db.Config{Pool: dbtest.PoolOf(t, s.url), Outbox: s.outbox, Box: dbtest.Box(t), Committers: 1, Queue: 2})
	require.NoError(t, err)
	t.Cleanup(s.store.Close)
	s.release = holdSubmits(t, s.url)
	var ctx context.Context
	ctx, s.forget = context.WithCancel(t.Context())
	go func() {
		_, err := s.store.Submit(ctx, s.first)
		s.answered <- err
	}()
	conn := superuser(t, s.url)
	dbtest.Eventually(t, "the committer to wait", func() bool {
		var waiting int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'idempotency_keys'::regclass
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting)
		return err == nil && waiting == 1
	})
	return s
}

// leave submits and goes away at once.
func (f fixture) leave(t *testing.T, req db.SubmitRequest) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.store.Submit(ctx, req)
	require.ErrorIs(t, err, context.Canceled)
}

func TestAFullQueueIsSaidSoAndUsesUpNoKey(t *testing.T) {
	t.Parallel()
	f := setupSmall(t)
	second, third, fourth := request(t, plan(stage(1))), request(t, plan(stage(1))), request(t, plan(stage(1)))
	f.leave(t, second)
	f.leave(t, third)
	_, err := f.store.Submit(t.Context(), fourth)
	require.ErrorIs(t, err, db.ErrOverloaded)
	f.release()
	require.NoError(t, <-f.answered)
	var res db.SubmitResult
	dbtest.Eventually(t, "room in the queue", func() bool {
		res, err = f.store.Submit(t.Context(), fourth)
		return !errors.Is(err, db.ErrOverloaded)
	})
	require.NoError(t, err)
	require.False(t, res.Replayed)
	f.store.Close()
	for _, req := range []db.SubmitRequest{f.first, second, third, fourth} {
		requireChain(t, f.store, req.Submission.ID)
	}
}

func TestASubmitKeepsThePromiseOfItsKeyWhenItsCallerLeaves(t *testing.T) {
	t.Parallel()
	f := setupSmall(t)
	f.forget()
	require.ErrorIs(t, <-f.answered, context.Canceled)
	again := request(t, plan(stage(1)))
	again.Key = f.first.Key
	_, err := f.store.Submit(t.Context(), again)
	require.ErrorIs(t, err, db.ErrKeyInProgress)
	f.release()
	var res db.SubmitResult
	dbtest.Eventually(t, "the key to be answered", func() bool {
		res, err = f.store.Submit(t.Context(), again)
		return !errors.Is(err, db.ErrKeyInProgress)
	})
	require.NoError(t, err)
	require.True(t, res.Replayed)
	require.Equal(t, f.first.Submission.ID, res.Ticket.ID)
	requireChain(t, f.store, f.first.Submission.ID)
}

func TestCloseFinishesWhatIsQueuedAndTakesNoMore(t *testing.T) {
	t.Parallel()
	f := setupSmall(t)
	second := request(t, plan(stage(1)))
	f.leave(t, second)
	closed := make(chan struct{})
	go func() {
		f.store.Close()
		close(closed)
	}()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var err error
	dbtest.Eventually(t, "the door to be shut", func() bool {
		_, err = f.store.Submit(gone, request(t, plan(stage(1))))
		return errors.Is(err, db.ErrUnavailable)
	})
	select {
	case <-closed:
		t.Fatal("closed with submits in the queue")
	default:
	}
	f.release()
	<-closed
	require.NoError(t, <-f.answered)
	requireChain(t, f.store, f.first.Submission.ID)
	requireChain(t, f.store, second.Submission.ID)
	f.store.Close() // again, harmlessly
}
