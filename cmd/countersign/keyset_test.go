package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
	"countersign/envelope"
	"countersign/policy"
)

func TestWithADatabaseOfOnesOwnThereIsNoServiceWithoutKeys(t *testing.T) {
	t.Parallel()
	without := settings{keyless: true}.file(t)
	for _, flags := range [][]string{{"--check"}, nil} {
		r := command(t, servingEnv(dbtest.Database(t)), append([]string{"serve", "--config", without, "--listen", "127.0.0.1:0"}, flags...)...)
		require.Equal(t, exitUsage, r.code, "flags %v", flags)
		require.Contains(t, r.stderr.String(), "countersign keys encryption > keyset.json")
	}
}

func TestOtherKeysThanBeforeAreRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	require.NoError(t, dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{}).CheckKeys(t.Context()), "an earlier start")
	env := servingEnv(url)
	other, err := envelope.NewKeyset()
	require.NoError(t, err)
	env["KEYSET"] = other
	r := command(t, env, "serve", "--config", settings{}.file(t), "--listen", "127.0.0.1:0")
	require.NotEqual(t, 0, r.code)
	require.Contains(t, r.stderr.String(), "not the one that this database was written with")
}

func TestAnEmbeddedDatabaseMakesItsKeysOnceForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := boxOf(&policy.Config{}, dir)
	require.NoError(t, err)
	sealed, err := first.Seal([]byte("kept"), "place")
	require.NoError(t, err)
	info, err := os.Stat(filepath.Join(dir, keysetFile))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	second, err := boxOf(&policy.Config{}, dir)
	require.NoError(t, err)
	plain, err := second.Open(sealed, "place")
	require.NoError(t, err, "the next start has the same keys")
	require.Equal(t, "kept", string(plain))
	require.NoError(t, os.WriteFile(filepath.Join(dir, keysetFile), []byte("hunter2"), 0o600))
	_, err = boxOf(&policy.Config{}, dir)
	require.ErrorIs(t, err, envelope.ErrKeyset, "never silently new ones")
	require.NotContains(t, err.Error(), "hunter2")
}
