//go:build unix

package embedded_test

import (
	"context"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/embedded"
)

func TestDataAndPasswordSurviveARestart(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	config.Fast = false

	db := start(t, config)
	require.True(t, db.FirstStart)
	require.GreaterOrEqual(t, db.Major, 14)
	conn := connect(t, db.URL.Reveal())
	require.Equal(t, "on", query[string](t, conn, `SHOW fsync`))
	require.Equal(t, "on", query[string](t, conn, `SHOW synchronous_commit`))
	require.Equal(t, "on", query[string](t, conn, `SHOW data_checksums`))
	require.Equal(t, "127.0.0.1", query[string](t, conn, `SHOW listen_addresses`))
	require.Equal(t, "100", query[string](t, conn, `SHOW max_connections`))
	require.Equal(t, "countersign", query[string](t, conn, `SELECT current_database()`))
	require.Equal(t, "C UTF8", query[string](t, conn, `SELECT datcollate || ' ' || pg_encoding_to_char(encoding)
		FROM pg_database WHERE datname = current_database()`))
	exe(t, conn, `CREATE TABLE kept AS SELECT 42 AS answer`)
	password := conn.Config().Password
	require.NoError(t, db.Stop(t.Context()))
	require.NoError(t, db.Stop(t.Context()), "stopping twice")
	require.True(t, refusesConnections(t, db.URL.Reveal()))

	again := start(t, config)
	require.False(t, again.FirstStart)
	conn = connect(t, again.URL.Reveal())
	require.Equal(t, 42, query[int](t, conn, `SELECT answer FROM kept`))
	require.Equal(t, password, conn.Config().Password)
	exe(t, conn, `CREATE TABLE more (n int)`)
	require.NoError(t, again.Stop(t.Context()))
}

func TestPasswordIsRandomPrivateAndDemanded(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	config.TemplateDir = ""
	db := start(t, config)

	info, err := os.Stat(filepath.Join(instance(db), "password"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
	info, err = os.Stat(instance(db))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())

	conn := connect(t, db.URL.Reveal())
	require.GreaterOrEqual(t, len(conn.Config().Password), 26)
	require.Equal(t, int64(0), query[int64](t, conn, `SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'`))
}

func TestServerIsNotReachableFromTheNetwork(t *testing.T) {
	t.Parallel()
	db := start(t, fast(openDir(t)))
	port := connect(t, db.URL.Reveal()).Config().Port
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range addresses {
		ip := address.(*net.IPNet).IP
		if !ip.IsGlobalUnicast() {
			continue
		}
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", (&net.TCPAddr{IP: ip, Port: int(port)}).String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED, "%v %s", conn, ip)
	}
}

func TestSecondStartOnTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	db := start(t, config)

	_, err := embedded.Start(t.Context(), config)
	require.ErrorIs(t, err, embedded.ErrInUse)
	require.ErrorContains(t, err, "another countersign uses "+db.Dir)
	require.False(t, refusesConnections(t, db.URL.Reveal()), "the first is left alone")

	require.NoError(t, db.Stop(t.Context()))
	start(t, config)
}

func TestConnectionLimitIsConfigured(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	config.MaxConnections = 23
	require.Equal(t, "23", query[string](t, connect(t, start(t, config).URL.Reveal()), `SHOW max_connections`))

	config.MaxConnections = 10_001
	_, err := embedded.Start(t.Context(), config)
	require.ErrorContains(t, err, "MaxConnections")
}

func TestFastTurnsDurabilityOff(t *testing.T) {
	t.Parallel()
	conn := connect(t, start(t, fast(openDir(t))).URL.Reveal())
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		require.Equal(t, "off", query[string](t, conn, `SHOW `+setting), setting)
	}
}

func TestLongDirectoryStillHasASocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), strings.Repeat("long-", 20))
	db := start(t, fast(dir))
	sockets := query[string](t, connect(t, db.URL.Reveal()), `SHOW unix_socket_directories`)
	require.NotContains(t, sockets, "long-")
	require.DirExists(t, sockets)
	require.NoError(t, db.Stop(t.Context()))
	require.NoDirExists(t, sockets)
}

func TestDirectoryPostgresCannotBeGivenIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{`a"b`, "a$b", "a`b", "a,b", "a\nb"} {
		_, err := embedded.Start(t.Context(), fast(filepath.Join(openDir(t), name)))
		require.ErrorContains(t, err, "cannot be passed to Postgres", "%q", name)
	}
}

func TestDirectoryThatCannotBeEnteredIsExplained(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(openDir(t), "shut")
	require.NoError(t, os.Mkdir(parent, 0o700))
	if os.Geteuid() != 0 {
		require.NoError(t, os.Chmod(parent, 0))
	}
	_, err := embedded.Start(t.Context(), fast(filepath.Join(parent, "db")))
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, filepath.Join(parent, "db"))
}

func TestStartCancelledDuringTheSearchDownloadsNothing(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := embedded.Start(ctx, config)
	require.ErrorIs(t, err, context.Canceled)
	left, err := filepath.Glob(filepath.Join(config.Dir, "pg*"))
	require.NoError(t, err)
	require.Empty(t, left)
	start(t, config)
}

func TestDatabaseURLIsHandedBack(t *testing.T) {
	t.Parallel()
	const dsn = "postgres://me:secret@db.example.com:5433/prod?sslmode=require" //nolint:gosec // of nobody
	config := fast("/nonexistent")
	config.Getenv = func(name string) string { return map[string]string{"DATABASE_URL": dsn}[name] }
	db := start(t, config)
	require.Equal(t, dsn, db.URL.Reveal())
	require.Equal(t, embedded.SourceDatabaseURL, db.Source)
	require.Nil(t, db.Done())
	require.NoError(t, db.Stop(t.Context()))
}

func TestStartCancelledHalfwayLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	config.TemplateDir = "" // initdb leaves time to cancel in
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := embedded.Start(ctx, config)
		failed <- err
	}()
	eventually(t, "the child is at work", func() bool {
		started, err := filepath.Glob(filepath.Join(config.Dir, "pg*", "data.new"))
		return err == nil && len(started) == 1
	})
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	running, err := filepath.Glob(filepath.Join(config.Dir, "pg*", "data", "postmaster.pid"))
	require.NoError(t, err)
	require.Empty(t, running)
	start(t, config)
}

func TestFreshDropsTheDataAndOnlyThat(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	fresh := config
	fresh.Fresh = true
	require.NoError(t, start(t, config).Stop(t.Context()))
	theirs := filepath.Join(config.Dir, "pgdata")
	require.NoError(t, os.MkdirAll(theirs, 0o750), "somebody's own directory")

	again := start(t, fresh)
	require.True(t, again.FirstStart, "the data was dropped")
	require.DirExists(t, theirs)
	_, err := embedded.Start(t.Context(), fresh)
	require.ErrorIs(t, err, embedded.ErrInUse, "never under a running server")
	require.NoError(t, again.Stop(t.Context()))

	require.False(t, start(t, config).FirstStart, "the refused start dropped nothing")
}
