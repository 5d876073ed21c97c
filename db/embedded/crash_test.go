//go:build unix

package embedded_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestKilledParentLeavesNoServerAndLosesNothing(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent, dsn := startParent(t, dir)
	exe(t, connect(t, dsn), `CREATE TABLE kept AS SELECT 42 AS answer`)

	require.NoError(t, parent.Process.Kill())
	eventually(t, "postgres ends with its parent", func() bool { return refusesConnections(t, dsn) })

	db := start(t, fast(dir))
	require.False(t, db.FirstStart)
	require.Equal(t, 42, query[int](t, connect(t, db.URL.Reveal()), `SELECT answer FROM kept`))
}

func TestStartRightAfterAKillWaitsForTheOldServer(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent, _ := startParent(t, dir)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	start(t, fast(dir))
}

func TestThrowawayDataIsDeletedEvenAfterAKill(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent, _ := startParent(t, dir, "EMBEDDED_TEST_THROWAWAY=1")
	require.NoError(t, parent.Process.Kill())
	eventually(t, "the data is deleted", func() bool {
		left, err := filepath.Glob(filepath.Join(dir, "pg*", "*"))
		return err == nil && len(left) == 0
	})
}

func TestInterruptFromTheTerminalLeavesTheDatabaseRunning(t *testing.T) {
	t.Parallel()
	parent, dsn := startParent(t, openDir(t))
	require.NoError(t, syscall.Kill(-parent.Process.Pid, syscall.SIGINT))
	conn := connect(t, dsn)
	require.Equal(t, 1, query[int](t, conn, `SELECT 1`))
}

func TestServerOfAKilledChildIsStoppedAtTheNextStart(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	db := start(t, config)
	exe(t, connect(t, db.URL.Reveal()), `CREATE TABLE kept AS SELECT 42 AS answer`)
	require.NoError(t, syscall.Kill(db.ChildPID(), syscall.SIGKILL))
	<-db.Done()
	require.False(t, refusesConnections(t, db.URL.Reveal()), "the orphan still runs")
	require.Error(t, db.Stop(t.Context()))

	again := start(t, config)
	require.True(t, refusesConnections(t, db.URL.Reveal()), "the orphan is gone")
	require.Equal(t, 42, query[int](t, connect(t, again.URL.Reveal()), `SELECT answer FROM kept`))
}

func TestDoneTellsThatPostgresDied(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	db := start(t, config)
	require.NoError(t, syscall.Kill(postmaster(t, db), syscall.SIGKILL))
	select {
	case <-db.Done():
	case <-time.After(patience): //nolint:forbidigo // the limit of a wait
		require.Fail(t, "still not done")
	}
	require.Error(t, db.Stop(t.Context()))
	start(t, config)
}

func TestStaleFileThatNamesAnotherProcessDoesNoHarm(t *testing.T) {
	t.Parallel()
	config := fast(openDir(t))
	db := start(t, config)
	require.NoError(t, db.Stop(t.Context()))

	stale := filepath.Join(instance(db), "data", "postmaster.pid")
	text := fmt.Sprintf("%d\n%s\n1\n5432\n\n127.0.0.1\n\nready\n", os.Getpid(), filepath.Dir(stale))
	require.NoError(t, os.WriteFile(stale, []byte(text), 0o600))
	owner, err := os.Stat(instance(db))
	require.NoError(t, err)
	stat := owner.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Chown(stale, int(stat.Uid), int(stat.Gid)))

	start(t, config)
}

func TestServerWhoseDataWasDeletedStillEnds(t *testing.T) {
	t.Parallel()
	db := start(t, fast(openDir(t)))
	require.NoError(t, os.RemoveAll(filepath.Join(instance(db), "data")))
	require.Error(t, db.Stop(t.Context()))
	require.True(t, refusesConnections(t, db.URL.Reveal()))
}
