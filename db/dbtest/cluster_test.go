package dbtest_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

func show(t *testing.T, dsn, setting string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var got string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT current_setting($1)`, setting).Scan(&got))
	return got
}

func TestClusterIsASuperusersAndTheSameForAll(t *testing.T) {
	t.Parallel()
	dsn := dbtest.ClusterURL(t)
	require.Equal(t, dsn, dbtest.ClusterURL(t))
	require.Equal(t, "on", show(t, dsn, "is_superuser"))
}

func TestStartedClusterIsFastRoomyAndGoneAfterStop(t *testing.T) {
	t.Parallel()
	cluster, err := dbtest.StartCluster(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	dsn := cluster.URL().Reveal()
	require.Equal(t, "off", show(t, dsn, "fsync"))
	require.Equal(t, "300", show(t, dsn, "max_connections"))
	data := show(t, dsn, "data_directory")
	require.DirExists(t, data)

	require.NoError(t, cluster.Stop(t.Context()))
	require.NoDirExists(t, filepath.Dir(filepath.Dir(data)))
	_, err = pgx.Connect(t.Context(), dsn)
	require.Error(t, err)
}

// The commands are a separate process's, because they set the environment and want exit codes.
func TestTestclusterRunsACommandWithACluster(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "testcluster")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testcluster").CombinedOutput() //nolint:gosec // our own command
	require.NoError(t, err, string(build))

	for name, test := range map[string]struct {
		env, command, want string
		code               int
	}{
		"success":            {command: `echo "$TEST_DATABASE_URL"`, want: "postgres://postgres:"},
		"the command's code": {command: `exit 7`, code: 7},
		"killed":             {command: `kill -9 $$`, code: 128 + 9},
		"a cluster is given": {env: "postgres://given", command: `echo "$TEST_DATABASE_URL"`, want: "postgres://given\n"},
		"not DATABASE_URL":   {command: `test "$TEST_DATABASE_URL" != "$DATABASE_URL"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), binary, "--", "sh", "-c", test.command) //nolint:gosec // our own command
			cmd.Env = append(os.Environ(), "TEST_DATABASE_URL="+test.env, "DATABASE_URL=postgres://127.0.0.1:1/production")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, _ := cmd.Output()
			require.Equal(t, test.code, cmd.ProcessState.ExitCode(), stderr.String())
			require.True(t, strings.HasPrefix(string(out), test.want), "%s", out)
		})
	}
}

func TestFailureToGetAClusterNamesTheWaysOut(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestClusterIsASuperusersAndTheSameForAll$", "-test.v") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), "TEST_DATABASE_URL=", "EMBEDDED_PG_BIN=/nonexistent")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	for _, want := range []string{"--- FAIL", "four ways out", "TEST_DATABASE_URL", "EMBEDDED_PG_BIN"} {
		require.Contains(t, string(out), want)
	}
}
