package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachReadingOfASensitiveResultIsOnRecordBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	open := w.send(t, http.MethodGet, "/proxy/billing/customers", "")
	require.Equal(t, http.StatusOK, open.status)
	readings := func(id string) int {
		events, err := w.store.ServiceEvents(t.Context(), "ticket/"+id, 0, 10)
		require.NoError(t, err)
		for _, e := range events {
			require.Equal(t, "result.read", e.Type)
			require.Equal(t, "payroll", e.Actor.Name)
		}
		return len(events)
	}
	require.Zero(t, readings(open.header.Get("Countersign-Ticket")), "of an ordinary one")

	first := w.send(t, http.MethodGet, "/proxy/billing/secret", "")
	require.Equal(t, http.StatusOK, first.status, string(first.raw))
	id := first.header.Get("Countersign-Ticket")
	require.Equal(t, 1, readings(id), "through the front")
	require.Equal(t, http.StatusOK, w.get(t, "/v1/tickets/"+id+"/result").status)
	require.Equal(t, http.StatusOK, w.send(t, http.MethodGet, "/v1/tickets/"+id+"/result?raw=true", "").status)
	require.Equal(t, 3, readings(id))
	require.Equal(t, http.StatusOK, w.get(t, "/v1/tickets/"+id).status)
	require.Equal(t, 3, readings(id), "the ticket itself holds nothing of it")

	_, err := superuser(t, w.pool.Config().ConnString()).Exec(t.Context(), `ALTER TABLE service_events ADD CHECK (false) NOT VALID`)
	require.NoError(t, err, "let nothing be written down any more")
	require.Equal(t, http.StatusInternalServerError, w.get(t, "/v1/tickets/"+id+"/result").status, "what cannot be recorded is not answered")
}
