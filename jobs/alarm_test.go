package jobs_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
)

// TestTimersFireSoonAfterTheyAreDue, by the database's clock: sooner than River's scheduler
// would even look, on a machine that is busy with other tests.
func TestTimersFireSoonAfterTheyAreDue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	const tickets = 20
	ids := make([]string, 0, tickets)
	for range tickets {
		ids = append(ids, w.submit(call{plan: func(p *approvals.Plan) { p.ExpiresIn = 700 * time.Millisecond }}).ID)
	}
	for _, id := range ids {
		w.await(id, "expired", func(x approvals.Ticket) bool {
			if x.State != approvals.Expired {
				return false
			}
			require.Less(t, x.FinishedAt.Sub(x.ExpiresAt), 2*time.Second, "how late it fired")
			return true
		})
	}
}

// TestADueTimerIsOneJobHoweverOftenItIsFound holds the ticket, so that its timer stays due
// while the alarm looks again and again.
func TestADueTimerIsOneJobHoweverOftenItIsFound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.submit(call{plan: func(p *approvals.Plan) { p.ExpiresIn = 50 * time.Millisecond }}).ID
	tx, err := w.pool.BeginTx(t.Context(), pgx.TxOptions{})
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE`, id)
	require.NoError(t, err)

	w.run(func(c *jobs.Config) { c.AlarmEvery = 5 * time.Millisecond })
	eventually(t, "the timer has become a job", func() bool { return w.number(`SELECT count(*) FROM river_job WHERE kind = 'expire'`) > 0 })
	for range 40 { // each question waits as long as two looks take
		w.number(`SELECT count(*) FROM pg_sleep(0.01)`)
		require.Equal(t, 1, w.number(`SELECT count(*) FROM river_job WHERE kind = 'expire'`))
	}
	require.NoError(t, tx.Rollback(t.Context()))
	w.await(id, "expired once it is free", func(x approvals.Ticket) bool { return x.State == approvals.Expired })
	w.requireWhole(id)
}
