package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
)

func TestAPausedQueueStopsDirectCallsToo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.started()
	pause := func(at string) {
		t.Helper()
		_, err := w.pool.Exec(t.Context(), `INSERT INTO river_queue (name, created_at, updated_at) VALUES ('execute', now(), now()) ON CONFLICT DO NOTHING`)
		require.NoError(t, err)
		_, err = w.pool.Exec(t.Context(), `UPDATE river_queue SET paused_at = `+at+` WHERE name = 'execute'`)
		require.NoError(t, err)
	}
	pause("now()")
	halted := w.submit(outright).ID
	require.ErrorIs(t, r.Direct(t.Context(), halted, newSink()), jobs.ErrNotDirect)
	require.Zero(t, w.upstream.callsOf(halted))
	require.Equal(t, approvals.Approved, w.ticket(halted).State, "it waits, like what has a job")
	pause("null")
	eventually(t, "direct calls to be made again", func() bool {
		return r.Direct(t.Context(), w.submit(outright).ID, newSink()) == nil
	})
}
