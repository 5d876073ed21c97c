//go:build unix

package embedded_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/embedded"
)

// machine is a file system with the Postgres installations a test gives it.
type machine struct {
	root, base string
	env        map[string]string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	return machine{root: t.TempDir(), base: openDir(t), env: map[string]string{}}
}

// install puts a Postgres of that version into a directory and returns the directory.
func (m machine) install(t *testing.T, dir, version string) string {
	t.Helper()
	dir = filepath.Join(m.root, dir)
	require.NoError(t, os.MkdirAll(dir, 0o750))
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s (Debian %[2]s-1)'\n", name, version)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700)) //nolint:gosec // it is to be run
	}
	return dir
}

func (m machine) data(t *testing.T, dir, version string) string {
	t.Helper()
	dir = filepath.Join(m.base, dir, "data")
	require.NoError(t, os.MkdirAll(dir, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte(version+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "precious"), []byte("rows"), 0o600))
	return dir
}

func (m machine) config() embedded.Config {
	config := fast(m.base).WithRoot(m.root).WithRepository("http://127.0.0.1:1", "17.5.0")
	config.Getenv = func(name string) string { return m.env[name] }
	return config
}

func TestSearchPrefersTheExplicitThenTheNewest(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	expect := func(wantDir string, wantSource embedded.Source, wantMajor int) {
		t.Helper()
		dir, source, major, err := m.config().Resolve(t.Context(), m.base)
		require.NoError(t, err)
		require.Equal(t, wantSource, source)
		require.Equal(t, wantDir, dir)
		require.Equal(t, wantMajor, major)
	}
	expect("", embedded.SourceDownload, 17)

	m.install(t, "usr/lib/postgresql/13/bin", "13.9")
	expect("", embedded.SourceDownload, 17)

	cached := m.base + "/cache/18.3.0"
	require.NoError(t, os.MkdirAll(cached, 0o750))
	require.NoError(t, os.WriteFile(cached+"/.complete", nil, 0o600))
	expect(cached+"/bin", embedded.SourceCache, 18)

	m.env["PATH"] = "relative:" + m.install(t, "opt/pg/bin", "14.2")
	expect(m.env["PATH"][len("relative:"):], embedded.SourcePath, 14)

	expect(m.install(t, "opt/homebrew/opt/postgresql@16/bin", "16.1"), embedded.SourceHomebrew, 16)
	m.install(t, "usr/lib/postgresql/15/bin", "15.18")
	debian := m.install(t, "usr/lib/postgresql/17/bin", "17beta2")
	expect(debian, embedded.SourceDebian, 17)

	m.data(t, "pg15", "15")
	expect(filepath.Join(m.root, "usr/lib/postgresql/15/bin"), embedded.SourceDebian, 15)

	m.env["EMBEDDED_PG_BIN"] = m.install(t, "mine", "15.1")
	expect(m.env["EMBEDDED_PG_BIN"], embedded.SourceEnvironment, 15)
}

func TestEachStepOfTheSearchIsLogged(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	var out bytes.Buffer
	config := m.config()
	config.Logger = slog.New(slog.NewTextHandler(&out, nil))
	_, err := embedded.Start(t.Context(), config)
	require.Error(t, err)
	for _, step := range []embedded.Source{
		embedded.SourceDatabaseURL, embedded.SourceEnvironment, embedded.SourceDebian, embedded.SourceHomebrew,
		embedded.SourcePath, embedded.SourceCache, embedded.SourceDownload,
	} {
		require.Regexp(t, "source="+strconv.Quote(string(step))+"|source="+string(step), out.String())
	}
}

func TestNothingFoundNamesFourWaysOut(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	_, err := embedded.Start(t.Context(), m.config())
	require.ErrorIs(t, err, embedded.ErrNoPostgres)
	for _, way := range []string{"DATABASE_URL", "EMBEDDED_PG_BIN", "apt-get install postgresql", "downloaded"} {
		require.ErrorContains(t, err, way)
	}
}

func TestWrongExplicitBinariesAreRefusedNotReplaced(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.install(t, "usr/lib/postgresql/15/bin", "15.18")
	m.env["EMBEDDED_PG_BIN"] = m.install(t, "old", "13.1")
	_, err := embedded.Start(t.Context(), m.config())
	require.ErrorIs(t, err, embedded.ErrNoPostgres)
	require.ErrorContains(t, err, "version is 13.1, want 14 or newer")
}

func TestDataOfAnotherVersionIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]struct{ dir, version string }{
		"an older Postgres's data":       {"pg14", "14"},
		"data in the wrong place":        {"pg15", "14"},
		"a directory that is not a data": {"pg15", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.install(t, "usr/lib/postgresql/15/bin", "15.18")
			dir := m.data(t, data.dir, data.version)
			if data.version == "" {
				require.NoError(t, os.Remove(filepath.Join(dir, "PG_VERSION")))
			}
			before, err := os.ReadDir(dir)
			require.NoError(t, err)

			_, err = embedded.Start(t.Context(), m.config())
			require.ErrorIs(t, err, embedded.ErrVersion)
			require.ErrorContains(t, err, "Nothing was changed")

			after, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, after, len(before))
			text, err := os.ReadFile(filepath.Join(dir, "precious")) //nolint:gosec // our own file
			require.NoError(t, err)
			require.Equal(t, "rows", string(text))
		})
	}
}
