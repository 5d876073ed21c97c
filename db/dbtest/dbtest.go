package dbtest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/peterldowns/pgtestdb"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
	"countersign/db"
	"countersign/envelope"
	"countersign/migrations"
)

// Database makes a migrated database for one test, cloned from a template, and returns
// its URL with the powers of its owner. It is dropped when the test passes.
func Database(tb testing.TB) string {
	tb.Helper()
	return clone(tb, migrator{})
}

// Empty makes a database without any schema.
func Empty(tb testing.TB) string {
	tb.Helper()
	return clone(tb, pgtestdb.NoopMigrator{})
}

func clone(tb testing.TB, m pgtestdb.Migrator) string {
	tb.Helper()
	u, err := url.Parse(ClusterURL(tb))
	require.NoError(tb, err, "parse the cluster's URL")
	password, _ := u.User.Password()
	conf := pgtestdb.Custom(tb, pgtestdb.Config{
		DriverName: "pgx", Host: u.Hostname(), Port: u.Port(), User: u.User.Username(), Password: password,
		Database: u.Path[1:], Options: "sslmode=disable", ForceTerminateConnections: true,
		TestRole: &pgtestdb.Role{Username: "countersign_test", Password: "countersign_test", Capabilities: "SUPERUSER"},
	}, m)
	return conf.URL()
}

type migrator struct{}

// Hash covers every step, so that an edited migration makes a new template.
var hash = sync.OnceValues(func() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(migrations.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(migrations.FS, path)
		_, _ = fmt.Fprintf(h, "%s %d\n%s\n", path, len(b), b)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
})

func (migrator) Hash() (string, error) { return hash() }

func (migrator) Migrate(ctx context.Context, _ *sql.DB, conf pgtestdb.Config) error {
	_, _, err := db.Migrate(ctx, conf.URL())
	return err
}

// Pool connects to a fresh migrated database as the service does.
func Pool(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return PoolOf(tb, Database(tb))
}

// PoolOf connects to a database as the service does.
func PoolOf(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	pool, err := db.Open(tb.Context(), db.PoolConfig{URL: url})
	require.NoError(tb, err, "connect to the test database")
	tb.Cleanup(pool.Close)
	return pool
}

// Outbox is an outbox that keeps the effects, for tests of what lies below the jobs.
type Outbox struct {
	mu sync.Mutex
	// Fail, when set, is returned by Enqueue.
	Fail    error
	effects []approvals.Effect
}

// Enqueue keeps the effects. They are kept even if the transaction fails later.
func (o *Outbox) Enqueue(_ context.Context, _ pgx.Tx, effects []approvals.Effect) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Fail != nil {
		return o.Fail
	}
	o.effects = append(o.effects, effects...)
	return nil
}

// Take returns the effects so far and forgets them.
func (o *Outbox) Take() []approvals.Effect {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.effects
	o.effects = nil
	return out
}

// Keyset is for tests, and for the processes they start: what one has written another can
// read.
const Keyset = `{"primaryKeyId":3171921908,"key":[{"keyData":{"typeUrl":"type.googleapis.com/google.crypto.tink.AesGcmKey","value":"GiBf3xFhRvRZlk0dNQj7L2Wgen8BVhbtnu0YY25V+thsKA==","keyMaterialType":"SYMMETRIC"},"status":"ENABLED","keyId":3171921908,"outputPrefixType":"TINK"}]}`

// Box encrypts for tests.
func Box(tb testing.TB) *envelope.Box {
	tb.Helper()
	box, err := envelope.New(Keyset)
	require.NoError(tb, err, "read the keyset")
	return box
}

// Store starts a store on a pool.
func Store(tb testing.TB, pool *pgxpool.Pool, outbox db.Outbox) *db.Store {
	tb.Helper()
	s, err := db.New(db.Config{Pool: pool, Outbox: outbox, Box: Box(tb), PublicURL: "https://countersign.example.com"})
	require.NoError(tb, err, "start the store")
	tb.Cleanup(s.Close)
	return s
}

// RequireTrail asserts that a ticket's trail is whole: the chain verifies, the events
// are of the types given, in order, and folding them gives the stored ticket.
func RequireTrail(tb testing.TB, s *db.Store, id string, types ...approvals.EventType) {
	tb.Helper()
	entries, err := s.Entries(tb.Context(), db.Ref{ID: id})
	require.NoError(tb, err, "read the trail of %s", id)
	require.NoError(tb, audit.VerifyChain(id, entries), "verify the trail of %s", id)
	var got []approvals.EventType
	var events []approvals.Event
	for _, e := range entries {
		got, events = append(got, e.Event.Type), append(events, e.Event)
	}
	require.Equal(tb, types, got, "types of the events of %s", id)
	t, err := s.Ticket(tb.Context(), db.Ref{ID: id})
	require.NoError(tb, err, "read ticket %s", id)
	replayed := approvals.Replay(events)
	t.Call.Headers, t.Call.Body = nil, nil
	require.Equal(tb, t, replayed, "the stored ticket %s against the fold of its events", id)
}

// Eventually waits until check passes, failing the test after ten seconds. Prefer a
// signal where there is one.
func Eventually(tb testing.TB, what string, check func() bool) {
	tb.Helper()
	require.Eventually(tb, check, 10*time.Second, 5*time.Millisecond, what)
}
