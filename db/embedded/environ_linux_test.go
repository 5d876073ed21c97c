package embedded_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChildAndServerSeeNoneOfOurSecrets(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(os.Environ()), 2)
	db := start(t, fast(openDir(t)))
	allowed := []string{"PATH", "HOME", "LANG", "LC_ALL", "TZ", "COUNTERSIGN_POSTGRES_CHILD"}
	password := connect(t, db.URL.Reveal()).Config().Password
	for _, name := range environ(t, db.ChildPID(), password) {
		require.True(t, slices.Contains(allowed, name), name)
	}
	allowed = append(allowed, "PGDATA", "PG_GRANDPARENT_PID", "PGLOCALEDIR", "PGSYSCONFDIR", "PGCTLTIMEOUT", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_",
		"LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY", "LC_NUMERIC", "LC_TIME")
	for _, name := range environ(t, postmaster(t, db), password) {
		require.True(t, slices.Contains(allowed, name), name)
	}
}

func environ(t *testing.T, pid int, secret string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	require.NoError(t, err)
	require.NotContains(t, string(text), secret)
	for entry := range strings.SplitSeq(strings.Trim(string(text), "\x00"), "\x00") {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	require.NotEmpty(t, names)
	return names
}
