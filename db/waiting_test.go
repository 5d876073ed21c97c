package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/health"
)

func (f fixture) woken(t *testing.T, terms func(db.Delivery) db.Terms) int {
	t.Helper()
	got, err := f.store.WaitingDeliveries(t.Context(), 0, 100, terms)
	require.NoError(t, err)
	return len(got)
}

func TestNoMoreAreWokenThanTheEndpointTakesNow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var wanted []db.Wanted
	for range 5 {
		wanted = append(wanted, f.owed(t))
	}
	two, hourly := terms(2, health.Rate{}), terms(2, health.Rate{N: 1, Per: time.Hour})
	unlisted := func(d db.Delivery) db.Terms {
		require.Equal(t, hooks, d.URL)
		return db.Terms{}
	}
	first := f.claimDelivery(t, wanted[0], "w1", hourly) // which makes the endpoint known
	require.Equal(t, db.Admitted, first.Admission)
	require.Equal(t, 1, f.woken(t, two), "the other place")
	require.Zero(t, f.woken(t, terms(1, health.Rate{})))
	require.Zero(t, f.woken(t, hourly), "there is no token")
	second := f.claimDelivery(t, wanted[1], "w1", two)
	require.Zero(t, f.woken(t, two))
	for _, c := range []db.DeliveryClaim{first, second} {
		require.NoError(t, f.store.ReleaseDelivery(t.Context(), c.Delivery, 0))
	}
	require.Equal(t, 2, f.woken(t, two))

	require.NoError(t, f.store.DisableEndpoint(t.Context(), first.EndpointID, caller(), "for the test"))
	require.Zero(t, f.woken(t, two))
	require.Equal(t, 5, f.woken(t, unlisted), "those are to be given up")
}
