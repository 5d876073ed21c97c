package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
	"countersign/migrations"
)

func TestMigrateFillsAnEmptyDatabaseAndIsSafeToRepeat(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	first := command(t, nil, "migrate", "--database-url", url)
	require.Equal(t, 0, first.code, first.stderr)
	require.Equal(t, fmt.Sprintf("schema migrated from version 0 to %d\n", migrations.Latest), first.stdout.String())
	again := command(t, nil, "migrate", "--database-url", url)
	require.Equal(t, 0, again.code, again.stderr)
	require.Equal(t, fmt.Sprintf("schema is at version %d, nothing to do\n", migrations.Latest), again.stdout.String())
}

func TestMigrationsAtTheSameTimeWaitForEachOther(t *testing.T) {
	t.Parallel()
	url := dbtest.Empty(t)
	var all [3]*running
	for i := range all {
		all[i] = launch(t, nil, "migrate", "--database-url", url)
	}
	migrated := 0
	for _, r := range all {
		require.Equal(t, 0, r.end(t, commandLimit), r.stderr)
		if r.stdout.String() == fmt.Sprintf("schema migrated from version 0 to %d\n", migrations.Latest) {
			migrated++
		}
	}
	require.Equal(t, 1, migrated, "one of them did the work")
}

func TestMigrateSaysWhyItCannot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, says string }{
		"nobody listens": {"postgres://gate:hunter2@127.0.0.1:1/none", "connect to the database"},
		"malformed URL":  {"postgres://gate:hunter2@127.0.0.1:many/none", "database URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, "migrate", "--database-url", c.url)
			r.requireRefused(t, exitFailed, c.says)
			require.NotContains(t, r.stderr.String(), "hunter2", "the password stays out of it")
		})
	}
}
