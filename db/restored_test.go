package db_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// TestEventsOfARestoredDatabaseAreFollowed: the transactions of a dump are numbered as where it
// was made, beyond anything that the database it is restored to has reached.
func TestEventsOfARestoredDatabaseAreFollowed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	old := f.submit(t, plan(stage(1))).ID
	past(t, f)(`UPDATE audit_events SET tx = tx + 1000000000`)
	restored, err := f.store.Here(t.Context())
	require.NoError(t, err)
	require.NoError(t, f.store.Follows(t.Context(), restored), "whoever begins now")

	fresh := f.submit(t, plan(stage(1))).ID
	for name, from := range map[string]db.Mark{"from the beginning": {}, "from now on": restored} {
		dbtest.Eventually(t, name, func() bool {
			got, _ := readAll(t, f.store, "payroll-bot", from, 10)
			return len(got) > 0 && got[len(got)-1].id == fresh
		})
	}
	here, err := f.store.Here(t.Context())
	require.NoError(t, err)
	f.advance(t, old, votes("ana", approvals.Approve, directory))
	said, err := f.store.EventsOf(t.Context(), "payroll-bot", []string{old}, here.Tx, 10)
	require.NoError(t, err)
	require.NotEmpty(t, said)
	require.Greater(t, said[0].Seq, int64(1), "nothing of what was restored is news")
	dbtest.Eventually(t, "what comes after", func() bool {
		got, _ := readAll(t, f.store, "payroll-bot", here, 10)
		return len(got) > 0 && got[len(got)-1].id == old
	})
}
