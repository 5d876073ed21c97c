package jobs_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs"
	"countersign/policy"
)

// jobless takes the jobs of all deliveries away, as if they had come when there was no room.
func (w *world) jobless() {
	w.tb.Helper()
	w.sql(`DELETE FROM river_job WHERE kind = 'deliver'`)
}

func TestABacklogAtSomeEndpointsKeepsNoOtherFromBeingWoken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	items := []string{fmt.Sprintf(`{origin: %q, concurrency: 100}`, w.receiver.url())}
	specs := []db.EndpointSpec{{Caller: callerName, Origin: w.receiver.url(), Waived: true}}
	releases := []func(){}
	for range 3 {
		hung := serve(t)
		releases = append(releases, hung.hangs())
		items = append(items, fmt.Sprintf(`{origin: %q, concurrency: 1, timeout: 30s}`, hung.url()))
		specs = append(specs, db.EndpointSpec{Caller: callerName, Origin: hung.url(), Waived: true})
	}
	w.origins(items...)
	require.NoError(t, w.store.SyncEndpoints(t.Context(), specs))
	w.sql(`UPDATE callback_endpoints SET probe_url = probe_url WHERE id = $1`, w.endpoint(w.receiver.url()).ID) // the last in the table
	for _, hung := range specs[1:] {
		for range 100 {
			w.submit(call{method: http.MethodPatch, tell: hung.Origin})
		}
	}
	id := w.submit(call{method: http.MethodPatch}).ID
	w.jobless()
	w.run(sweeping)
	for _, release := range releases {
		t.Cleanup(release)
	}
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
	require.Equal(t, 1, w.number(`SELECT count(*) FROM delivery_attempts`), "while all others hang")
}

// TestADisabledEndpointThatIsStruckOffIsOwedNothingMore: nobody could ever enable it.
func TestADisabledEndpointThatIsStruckOffIsOwedNothingMore(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(sweeping)
	e := w.endpoint(w.receiver.url())
	require.NoError(t, w.store.DisableEndpoint(t.Context(), e.ID, dora(), "for the test"))
	id := w.submit(call{method: http.MethodPatch}).ID
	w.settled()
	require.Equal(t, approvals.CallbackPending, w.ticket(id).CallbackState)
	w.reload(func(s *shape) { s.otherOrigin = true })
	w.awaitTold(id, approvals.Denied, approvals.CallbackExhausted)
	require.Empty(t, w.receiver.requests())
	w.requireWhole(id)
}

// TestACallbackThatCannotBeReadKeepsNoOtherFromBeingSent: one that was written under a key
// that is gone.
func TestACallbackThatCannotBeReadKeepsNoOtherFromBeingSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.origins(fmt.Sprintf(`{origin: %q, concurrency: 1}`, w.receiver.url()))
	broken, whole := w.submit(call{method: http.MethodPatch}).ID, w.submit(call{method: http.MethodPatch}).ID
	conn, err := pgx.Connect(t.Context(), w.url)
	require.NoError(t, err)
	defer conn.Close(t.Context()) //nolint:errcheck // going away
	_, err = conn.Exec(t.Context(), `SET session_replication_role = replica; UPDATE deliveries SET sealed = '\x00' WHERE ticket_id = '`+broken+`'`)
	require.NoError(t, err)
	w.jobless()
	w.run(sweeping)
	w.awaitTold(whole, approvals.Denied, approvals.CallbackDelivered)
	require.Equal(t, approvals.CallbackPending, w.ticket(broken).CallbackState, "held until the key is back")
	require.Zero(t, w.number(`SELECT count(*) FROM delivery_attempts WHERE ticket_id = $1`, broken))
}

// TestACallbackToAnOriginThatOnlyANewerConfigurationHasWaitsForIt: the processes of a service
// are given a new configuration one after the other.
func TestACallbackToAnOriginThatOnlyANewerConfigurationHasWaitsForIt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	patient := func(c *jobs.Config) { c.UnlistedGrace = time.Hour }
	before, added := w.config.Load(), serve(t)
	late := w.runner(sweeping, patient, func(c *jobs.Config) { c.Policy = func() *policy.Config { return before } })
	require.NoError(t, late.Start(t.Context()))
	w.origins(fmt.Sprintf("%q, %q", w.receiver.url(), added.url()))
	id := w.submit(call{method: http.MethodPatch, tell: added.url()}).ID
	eventually(t, "its job has come and gone", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE kind = 'deliver' AND state NOT IN ('available', 'running')`) > 0
	})
	require.Equal(t, approvals.CallbackPending, w.ticket(id).CallbackState)
	w.halt(late)
	w.run(sweeping, patient)
	w.awaitTold(id, approvals.Denied, approvals.CallbackDelivered)
}
