package db_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5" //nolint:depguard // our copy of River's schema against River's own
	"github.com/riverqueue/river/rivermigrate"           //nolint:depguard // likewise
	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
	"countersign/migrations"
)

// rivers is the last of River's steps; the ones after it are ours.
const rivers = 8

// schemaSQL renders what a database holds, one line a thing, but rows and owners.
// Names come first, so that the lines of an object can be told by its name.
const schemaSQL = `
WITH ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
rel AS (SELECT c.*, o.nspname FROM pg_class c JOIN ours o ON o.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f'))
SELECT format('%s relation %s %s %s', relname, relkind, relpersistence, reloptions) FROM rel
UNION ALL SELECT format('%s comment %s', relname, obj_description(oid, 'pg_class')) FROM rel WHERE obj_description(oid, 'pg_class') IS NOT NULL
UNION ALL SELECT format('%s column %s %s, collation %s, not null %s, default %s, identity %s, generated %s', r.relname, a.attname,
	format_type(a.atttypid, a.atttypmod), (SELECT collname FROM pg_collation l WHERE l.oid = a.attcollation), a.attnotnull,
	pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated)
	FROM rel r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum WHERE r.relkind <> 'S'
UNION ALL SELECT format('%s constraint %s %s, validated %s', r.relname, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
	FROM rel r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL SELECT format('%s index %s, valid %s', r.relname, pg_get_indexdef(i.indexrelid), i.indisvalid)
	FROM rel r JOIN pg_index i ON i.indrelid = r.oid
UNION ALL SELECT format('%s trigger %s, enabled %s', r.relname, pg_get_triggerdef(t.oid), t.tgenabled)
	FROM rel r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
UNION ALL SELECT format('%s sequence %s %s from %s by %s, cycle %s', r.relname, format_type(s.seqtypid, NULL), s.seqmax, s.seqstart, s.seqincrement, s.seqcycle)
	FROM rel r JOIN pg_sequence s ON s.seqrelid = r.oid
UNION ALL SELECT format('%s function %s', p.proname, pg_get_functiondef(p.oid)) FROM pg_proc p JOIN ours o ON o.oid = p.pronamespace
UNION ALL SELECT format('%s enum %s', t.typname, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder))
	FROM pg_type t JOIN ours o ON o.oid = t.typnamespace JOIN pg_enum e ON e.enumtypid = t.oid GROUP BY t.oid, t.typname
UNION ALL SELECT format('%s grant %s to %s, by way of %s', x.name, x.privilege_type, coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC'), x.kind) FROM (
	SELECT relname AS name, 'relation' AS kind, a.* FROM rel, aclexplode(relacl) a WHERE a.grantee <> relowner
	UNION ALL SELECT r.relname || '.' || t.attname, 'column', a.* FROM rel r JOIN pg_attribute t ON t.attrelid = r.oid, aclexplode(t.attacl) a
	UNION ALL SELECT proname, 'function', a.* FROM pg_proc p JOIN ours o ON o.oid = p.pronamespace, aclexplode(proacl) a
	UNION ALL SELECT o.nspname, 'schema', a.* FROM ours o JOIN pg_namespace n ON n.oid = o.oid, aclexplode(n.nspacl) a WHERE a.grantee <> n.nspowner
) x
ORDER BY 1`

func schemaOf(t *testing.T, url string) []string {
	t.Helper()
	rows, err := superuser(t, url).Query(t.Context(), schemaSQL)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, "dump the schema")
	return out
}

// without drops the lines that match.
func without(lines []string, pattern string) []string {
	re := regexp.MustCompile(pattern)
	return slices.DeleteFunc(slices.Clone(lines), re.MatchString)
}

func migrateTo(t *testing.T, url string, version, from, to int) {
	t.Helper()
	gotFrom, gotTo, err := db.MigrateTo(t.Context(), url, version)
	require.NoError(t, err, "migrate to %d", version)
	require.Equal(t, []int{from, to}, []int{gotFrom, gotTo}, "versions before and after migrating to %d", version)
}

func TestEveryStepHasItsWayBackAndLatestIsTheHighest(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^(\d{3})_([a-z0-9_]+)\.(up|down)\.sql$`)
	steps := map[string][]string{}
	files, err := fs.ReadDir(migrations.FS, ".")
	require.NoError(t, err)
	for _, f := range files {
		m := name.FindStringSubmatch(f.Name())
		require.NotNil(t, m, "%s is not named NNN_name.up.sql or NNN_name.down.sql", f.Name())
		steps[m[1]] = append(steps[m[1]], m[2]+" "+m[3])
	}
	require.Len(t, steps, migrations.Latest, "steps from 1 to Latest without a gap")
	require.Contains(t, steps, fmt.Sprintf("%03d", migrations.Latest))
	for n, pair := range steps {
		what, _, _ := strings.Cut(pair[0], " ")
		require.ElementsMatch(t, []string{what + " up", what + " down"}, pair, "step %s", n)
	}
}

func TestUpDownAndUpAgainGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	empty := schemaOf(t, url)
	migrateTo(t, url, migrations.Latest, 0, migrations.Latest)
	first := schemaOf(t, url)
	require.Greater(t, len(first), 200, "lines of the dump")
	migrateTo(t, url, 0, migrations.Latest, 0)
	require.Equal(t, without(empty, "^public grant"), without(schemaOf(t, url), "^schema_migrations|^public grant"), "down to nothing")
	migrateTo(t, url, migrations.Latest, 0, migrations.Latest)
	require.Equal(t, first, schemaOf(t, url), "up again")
	for version := migrations.Latest - 1; version >= rivers; version-- { // and each step of ours by itself
		migrateTo(t, url, version, version+1, version)
		before := schemaOf(t, url)
		migrateTo(t, url, version+1, version, version+1)
		migrateTo(t, url, version, version+1, version)
		require.Equal(t, before, schemaOf(t, url), "step %d up and down", version+1)
	}
	migrateTo(t, url, migrations.Latest, rivers, migrations.Latest)
	require.Equal(t, first, schemaOf(t, url), "up after single steps")
}

func TestMigratingTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	before := schemaOf(t, url)
	from, to, err := db.Migrate(t.Context(), url)
	require.NoError(t, err)
	require.Equal(t, []int{migrations.Latest, migrations.Latest}, []int{from, to})
	require.Equal(t, before, schemaOf(t, url))
}

// None may take the mark of a step that another one is about for a failure.
func TestMigratorsAtTheSameTimeAllSucceed(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	const migrators = 8
	errs := make(chan error, migrators)
	for range migrators {
		go func() {
			_, to, err := db.Migrate(t.Context(), url)
			if err == nil && to != migrations.Latest {
				err = fmt.Errorf("migrated to %d", to)
			}
			errs <- err
		}()
	}
	for range migrators {
		require.NoError(t, <-errs)
	}
	require.Equal(t, schemaOf(t, dbtest.Database(t)), schemaOf(t, url))
}

// TestWhoeverMigratesWaitsForTheOthersBeforeItLooks: a look without the lock may see the
// mark of a step that is under way.
func TestWhoeverMigratesWaitsForTheOthersBeforeItLooks(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	other := superuser(t, url)
	exec(t, other, `SELECT pg_advisory_lock(hashtextextended('countersign/migrate', 0))`)
	done := make(chan error, 1)
	go func() {
		_, _, err := db.Migrate(t.Context(), url)
		done <- err
	}()
	conn := superuser(t, url)
	dbtest.Eventually(t, "the migrator to wait", func() bool {
		var waiting bool
		err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory')`).Scan(&waiting)
		return err == nil && waiting
	})
	require.Empty(t, without(schemaOf(t, url), "^public grant"), "nothing is done before its turn")
	exec(t, other, `SELECT pg_advisory_unlock_all()`)
	require.NoError(t, <-done)

	ctx, cancel := context.WithCancel(t.Context())
	exec(t, other, `SELECT pg_advisory_lock(hashtextextended('countersign/migrate', 0))`)
	cancel()
	_, _, err := db.Migrate(ctx, url)
	require.ErrorIs(t, err, context.Canceled, "waiting ends with the context")
}

func TestAFailedMigrationSaysWhatIsWrongAndHowToGoOn(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	migrateTo(t, url, rivers, 0, rivers)
	conn := superuser(t, url)
	exec(t, conn, `CREATE TABLE cards (id int)`)
	before := schemaOf(t, url)
	_, _, err := db.Migrate(t.Context(), url)
	require.ErrorContains(t, err, "migrate from 8 to")
	require.ErrorContains(t, err, `relation "cards" already exists`)
	require.Less(t, len(err.Error()), 300, "the error repeats the whole step: %v", err)
	require.Equal(t, before, schemaOf(t, url), "a failed step leaves nothing behind")
	_, _, err = db.Migrate(t.Context(), url)
	require.ErrorContains(t, err, "the schema is marked dirty at version 9")
	advice := regexp.MustCompile(`run "(.*)"`).FindStringSubmatch(err.Error())
	require.NotNil(t, advice, err)
	exec(t, conn, `DROP TABLE cards`)
	exec(t, conn, advice[1])
	migrateTo(t, url, migrations.Latest, rivers, migrations.Latest)
	require.Equal(t, schemaOf(t, dbtest.Database(t)), schemaOf(t, url))
}

func TestTheFirstMigrationMayFailToo(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	conn := superuser(t, url)
	exec(t, conn, `CREATE TABLE river_migration (id int)`)
	_, _, err := db.Migrate(t.Context(), url)
	require.ErrorContains(t, err, `relation "river_migration" already exists`)
	_, _, err = db.Migrate(t.Context(), url)
	require.ErrorContains(t, err, `run "DELETE FROM schema_migrations"`)
	exec(t, conn, `DROP TABLE river_migration`)
	exec(t, conn, `DELETE FROM schema_migrations`)
	migrateTo(t, url, migrations.Latest, 0, migrations.Latest)
}

func TestMigrateNeedsADatabase(t *testing.T) {
	t.Parallel()
	_, _, err := db.Migrate(t.Context(), "postgres://nobody@127.0.0.1:1/nowhere?connect_timeout=1")
	require.ErrorContains(t, err, "connect to the database")
	_, _, err = db.Migrate(t.Context(), "postgres://%zz")
	require.ErrorContains(t, err, "parse the database URL")
}

func TestReadySaysWhetherTheSchemaIsThisBuilds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	conn := superuser(t, f.url)
	require.NoError(t, f.store.Ready(t.Context()))
	exec(t, conn, `UPDATE schema_migrations SET dirty = true`)
	require.ErrorContains(t, f.store.Ready(t.Context()), "dirty: true")
	exec(t, conn, `UPDATE schema_migrations SET dirty = false, version = version - 1`)
	require.ErrorContains(t, f.store.Ready(t.Context()), "countersign migrate")
	exec(t, conn, `UPDATE schema_migrations SET version = version + 2`)
	require.NoError(t, f.store.Ready(t.Context()), "a newer schema serves an older build")
	exec(t, conn, `DROP TABLE schema_migrations`)
	require.ErrorContains(t, f.store.Ready(t.Context()), "run countersign migrate")
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// TestRiversPartIsRiversOwn: the only differences are that countersign_app may use it, and
// that two indexes nobody uses here are gone (012_tuning).
func TestRiversPartIsRiversOwn(t *testing.T) {
	t.Parallel()
	theirs, ours := dbtest.Empty(t), dbtest.Database(t)
	_, err := river(t, theirs).Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	require.Empty(t, without(schemaOf(t, theirs), "^river_|^public grant"), "River makes nothing else")
	const dropped = `^river_job index .* river_job_(args|metadata)_index `
	granted := `^river_\S+ grant \w+ to countersign_app, by way of relation$`
	require.Equal(t, riversOwn(without(schemaOf(t, theirs), dropped)), riversOwn(without(schemaOf(t, ours), granted)))
	require.Equal(t, riverVersions(t, theirs), riverVersions(t, ours))
}

func TestRiverAcceptsOurSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	res, err := river(t, url).Validate(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, res.OK, res.Messages)
	up, err := river(t, url).Migrate(t.Context(), rivermigrate.DirectionUp, nil)
	require.NoError(t, err)
	require.Empty(t, up.Versions, "River has nothing to add")
}

func riversOwn(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "river_") })
}

func river(t *testing.T, url string) *rivermigrate.Migrator[pgx.Tx] {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return m
}

func riverVersions(t *testing.T, url string) []string {
	t.Helper()
	rows, err := superuser(t, url).Query(t.Context(), `SELECT line || ' ' || version FROM river_migration ORDER BY 1`)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return out
}
