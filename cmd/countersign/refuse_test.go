package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
)

func TestServeReportsEveryMistakeOfItsConfigurationAtOnce(t *testing.T) {
	t.Parallel()
	path := write(t, "bad.yaml", `
server: {listen: nonsense}
people:
  - {name: ana, slak: U02ANA}
groups:
  - {name: security, members: [nobody]}
upstreams:
  - {name: billing, base_url: "ftp://billing"}
rules:
  - name: r
    match: {upstream: biling, methods: [GET]}
    action: allow
`)
	r := command(t, nil, "serve", "--config", path)
	require.Equal(t, exitUsage, r.code, r.stderr)
	out := r.stderr.String()
	for _, want := range []string{":2:", ":4:", `did you mean "slack"`, ":6:", "nobody", ":8:", "base_url", ":11:", "biling"} {
		require.Contains(t, out, want, "a problem is missing in:\n%s", out)
	}
	require.GreaterOrEqual(t, strings.Count(out, "^"), 5, "each has a caret below its place:\n%s", out)
	require.Contains(t, out, path+":4:", "each names the file")
}

func TestServeSaysWhatItMisses(t *testing.T) {
	t.Parallel()
	good := settings{}.file(t)
	for name, c := range map[string]struct {
		path string
		env  map[string]string
		code int
		says []string
	}{
		"no such file":       {filepath.Join(t.TempDir(), "none.yaml"), nil, exitFailed, []string{"none.yaml", "no such file"}},
		"empty file":         {write(t, "empty.yaml", ""), nil, exitUsage, []string{"empty.yaml"}},
		"directory of none":  {t.TempDir(), nil, exitFailed, []string{"yaml"}},
		"secret not set":     {good, map[string]string{"DATABASE_URL": "postgres://x"}, exitUsage, []string{"BILLING_TOKEN", "not set"}},
		"secret in the file": {write(t, "open.yaml", "database: {url: \"postgres://gate:hunter2@db/x\"}\n"), nil, exitUsage, []string{"env:NAME"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, c.env, "serve", "--config", c.path)
			require.Equal(t, c.code, r.code, r.stderr)
			for _, w := range c.says {
				require.Contains(t, r.stderr.String(), w)
			}
			require.NotContains(t, r.stderr.String(), "hunter2", "a secret stays out of it")
			require.NotContains(t, r.stderr.String(), "goroutine", "nobody is shown a stack")
		})
	}
}

// holdPort listens on a port, so that nobody else can.
func holdPort(t *testing.T) (address, port string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err = net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return l.Addr().String(), port
}

func TestServeSaysInOneLineWhyItCannotStart(t *testing.T) {
	t.Parallel()
	taken, _ := holdPort(t)
	config := settings{}.file(t)
	for name, c := range map[string]struct {
		listen, database string
		says             []string
	}{
		"port taken":             {taken, "postgres://x@127.0.0.1:1/x", []string{taken, "taken", "--listen"}},
		"address of others":      {"192.0.2.1:80", "postgres://x@127.0.0.1:1/x", []string{"cannot listen", "192.0.2.1:80"}},
		"nobody at DATABASE_URL": {"127.0.0.1:0", "postgres://gate:hunter2@127.0.0.1:1/x", []string{"connect to the database", "127.0.0.1:1"}},
		"malformed DATABASE_URL": {"127.0.0.1:0", "postgres://gate:hunter2@127.0.0.1:many/x", []string{"database URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, servingEnv(c.database), "serve", "--config", config, "--listen", c.listen)
			r.requireRefused(t, exitFailed, c.says...)
			require.NotContains(t, r.stderr.String(), "hunter2", "the password stays out of it")
		})
	}
}

func TestServeRefusesADatabaseThatWasNotMigrated(t *testing.T) {
	t.Parallel()
	r := command(t, servingEnv(dbtest.Empty(t)), "serve", "--config", settings{}.file(t), "--listen", "127.0.0.1:0")
	r.requireRefused(t, exitFailed, "countersign migrate")
}

func TestServeCheckReadsTheConfigurationAndNothingElse(t *testing.T) {
	t.Parallel()
	path := settings{}.file(t)
	r := command(t, servingEnv("postgres://x@127.0.0.1:1/x"), "serve", "--check", "--config", path)
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, path+" is in order: rules 2, callers 1, upstreams 1, people 2\n"+
		"it has no slack section: nobody will be asked, and calls that need an approval will expire\n", r.stdout.String())
}

func TestTheConfigurationOfTheHelpTextIsInOrder(t *testing.T) {
	t.Parallel()
	_, text, found := strings.Cut(serveCmd{}.Help(), "A minimal configuration:\n")
	require.True(t, found)
	text = strings.ReplaceAll(text, "<countersign keys new>", strings.Repeat("ab", 32))
	text = strings.ReplaceAll(text, "\n  ", "\n")
	text = strings.ReplaceAll(text, "file:/run/secrets/keyset.json", "env:KEYSET") // no such file here
	env := servingEnv("")
	env["PAYROLL_CALLBACK_SECRET"] = callbackSecret
	r := command(t, env, "serve", "--check", "--config", write(t, "help.yaml", text))
	require.Equal(t, 0, r.code, r.stderr)
}

func TestFreshLeavesADirectoryAloneThatDevDidNotMake(t *testing.T) {
	t.Parallel()
	for name, files := range map[string][]string{
		"nothing of ours":      {"pgdata/PG_VERSION", "notes.txt"},
		"somebody's keys.json": {"pgdata/PG_VERSION", "pg15/data/PG_VERSION", "keys.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, f := range files {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o750))
				require.NoError(t, os.WriteFile(filepath.Join(dir, f), []byte(`{"theirs": true}`), 0o600))
			}
			r := command(t, nil, "dev", "--fresh", "--port", "0", "--dir", dir)
			r.requireRefused(t, exitUsage, "--fresh", dir)
			for _, f := range files {
				require.FileExists(t, filepath.Join(dir, f))
			}
		})
	}
}
