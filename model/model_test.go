package model_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/model"
)

// small bounds are for every test run, large ones for MODEL=full.
func bounds() model.Config {
	if os.Getenv("MODEL") == "full" {
		return model.Config{Ticks: 6, Claims: 2, Crashes: 1, Faults: 1, Cancels: 1, Leaves: 1, Reloads: 1}
	}
	return model.Config{Ticks: 6, Claims: 2, Faults: 1, Cancels: 1}
}

func TestReadingTheCallChangesNothingElse(t *testing.T) {
	t.Parallel()
	c := model.Config{Ticks: 6, Claims: 2, Leaves: 1, Views: true}
	r := explore(t, c)
	require.Empty(t, r.Wrong, "after:\n%s", strings.Join(r.Trace, "\n"))
	c.Views = false
	for end, n := range explore(t, c).Ends {
		require.Equal(t, 2*n, r.Ends[end], "%s: every end once read and once not, and no other", end)
	}
}

func explore(t *testing.T, c model.Config) model.Report {
	t.Helper()
	began := time.Now() //nolint:forbidigo // how long it took is told
	r, err := model.Explore(c)
	require.NoError(t, err)
	t.Logf("%d states, %d tickets, %d steps, depth %d, %.1f seconds", r.States, r.Tickets, r.Steps, r.Depth, time.Since(began).Seconds()) //nolint:forbidigo // as above
	return r
}

func TestNoInterleavingBreaksAPromise(t *testing.T) {
	t.Parallel()
	once, again, delayed := bounds(), bounds(), bounds()
	again.Idempotent, delayed.Delayed = true, true
	again.Faults, again.Reloads, again.Crashes = 0, 0, 1
	for name, c := range map[string]model.Config{"sent once": once, "may be asked again": again, "scheduled": delayed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := explore(t, c)
			require.Empty(t, r.Wrong, "after:\n%s", strings.Join(r.Trace, "\n"))
			for _, end := range []approvals.State{
				approvals.Succeeded, approvals.Failed, approvals.OutcomeUnknown, approvals.Denied, approvals.Expired, approvals.Cancelled,
			} {
				require.Positive(t, r.Ends[end], "no way leads to %s: the model does not live", end)
			}
		})
	}
}

func TestEveryMutantIsCaught(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(model.Mutants()), 8)
	for _, m := range model.Mutants() {
		t.Run(strings.ReplaceAll(m.Name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			r := explore(t, m.Config())
			require.NotEmpty(t, r.Wrong, "not caught: %s", m.Name)
			t.Logf("%s: CAUGHT in %d steps: %s\n  %s", m.Name, len(r.Trace)-1, r.Wrong, strings.Join(r.Trace, "\n  "))
		})
	}
}
