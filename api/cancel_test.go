package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func refOf(id string) db.Ref { return db.Ref{ID: id} }

func (b *bundle) cancel(t *testing.T, id, body string, pairs ...string) reply {
	t.Helper()
	return b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/cancel", body: body, header: headers(pairs...)})
}

func TestCancelBeforeSendingEndsTheTicket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	for range 2 { // the second changes nothing
		r := b.cancel(t, id, `{"reason":"no longer needed"}`)
		require.Equal(t, http.StatusOK, r.status, "status: %s", r.raw)
		require.Equal(t, []any{"cancelled", true}, []any{r.field(t, "state"), r.field(t, "done")}, "state")
		require.Equal(t, `"2"`, r.header.Get("ETag"), "ETag")
	}
	dbtest.RequireTrail(t, b.store, id, approvals.EventCreated, approvals.EventCancelled)
	events, err := b.store.Events(t.Context(), refOf(id), 1, 1)
	require.NoError(t, err, "read the event")
	require.Equal(t, approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll", Via: "api", Ref: "key main"}, events[0].Actor, "who cancelled")
	require.Equal(t, "no longer needed", events[0].Data.Reason, "why")

	approved := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
	require.Equal(t, http.StatusOK, b.cancel(t, approved, "").status, "an approved ticket can be cancelled, without a body too")
}

func TestCancelWhileExecutingIsAWish(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
	b.begin(t, id)
	r := b.cancel(t, id, "")
	require.Equal(t, http.StatusAccepted, r.status, "status: %s", r.raw)
	require.Equal(t, "executing", r.field(t, "state"), "state")
	require.NotNil(t, r.field(t, "cancel_requested_at"), "cancel_requested_at")
	require.Equal(t, "/v1/tickets/"+id, r.header.Get("Location"), "Location")
	require.Equal(t, "2", r.header.Get("Retry-After"), "Retry-After")

	b.finish(t, id, http.StatusOK, "{}")
	r = b.cancel(t, id, "")
	requireProblem(t, r, http.StatusConflict, "already_final")
	require.Equal(t, "succeeded", r.field(t, "state"), "the state that is in the way")
}

func TestCancelOfTheVersionOneHasSeen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	b.approve(t, id, "bo")
	for _, old := range []string{`"1"`, `W/"2"`, `"1", "3"`} {
		r := b.cancel(t, id, "", "If-Match", old)
		requireProblem(t, r, http.StatusPreconditionFailed, "precondition_failed")
		require.Equal(t, `"2"`, r.header.Get("ETag"), "the version it is at")
	}
	requireProblem(t, b.cancel(t, id, "", "If-Match", "2"), http.StatusBadRequest, "invalid_header")
	dbtest.RequireTrail(t, b.store, id, approvals.EventCreated, approvals.EventDecided)
	require.Equal(t, http.StatusOK, b.cancel(t, id, "", "If-Match", `"1", "2"`).status, "the version it is at")
	require.Equal(t, http.StatusOK, b.cancel(t, id, "", "If-Match", "*").status, "any version")
}

func TestCancelRefusesABadBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	requireProblem(t, b.cancel(t, id, `{"raeson":"x"}`), http.StatusBadRequest, "invalid_body")
	requireProblem(t, b.cancel(t, id, `[]`), http.StatusBadRequest, "invalid_body")
	requireProblem(t, b.cancel(t, id, `{"reason":"`+strings.Repeat("x", 1001)+`"}`), http.StatusUnprocessableEntity, "validation_failed")
	requireProblem(t, b.cancel(t, id, "reason=x", "Content-Type", "application/x-www-form-urlencoded"), http.StatusUnsupportedMediaType, "unsupported_media_type")
	dbtest.RequireTrail(t, b.store, id, approvals.EventCreated)
}
