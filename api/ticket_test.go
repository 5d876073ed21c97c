package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db/dbtest"
)

// patience is longer than any test may take: a wait that lasts so long has not been ended.
const patience = 20 * time.Second

func TestPollFollowsATicketThroughItsLife(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	path := "/v1/tickets/" + id

	b.approve(t, id, "bo")
	r := b.get(t, path)
	require.Equal(t, http.StatusOK, r.status, "status")
	require.Equal(t, map[string]any{"name": "both", "index": 1.0, "of": 1.0, "needed": 2.0, "have": 1.0, "round": 0.0}, r.field(t, "stage"), "progress")
	require.Equal(t, []any{"chen"}, r.field(t, "waiting_for"), "who is left")
	decisions, _ := r.field(t, "decisions").([]any)
	require.Len(t, decisions, 1, "decisions")
	first, _ := decisions[0].(map[string]any)
	require.Equal(t, []any{"bo", "approve", 1.0, "looks right", "slack"},
		[]any{first["person"], first["verdict"], first["stage"], first["comment"], first["via"]}, "the decision")
	require.NotContains(t, string(r.raw), "U-secret", "Slack identities stay inside")

	b.approve(t, id, "chen")
	r = b.get(t, path)
	require.Equal(t, "approved", r.field(t, "state"), "state after the quorum")
	require.NotNil(t, r.field(t, "execute_by"), "execute_by")
	require.Equal(t, "2", r.header.Get("Retry-After"), "Retry-After while approved")

	b.begin(t, id)
	r = b.get(t, path)
	require.Equal(t, "executing", r.field(t, "state"), "state while executing")
	require.NotNil(t, r.field(t, "execution_started_at"), "execution_started_at")

	b.finish(t, id, http.StatusBadGateway, `{"oops":true}`)
	r = b.get(t, path)
	require.Equal(t, http.StatusOK, r.status, "reading a failed ticket is 200")
	require.Equal(t, []any{"failed", true}, []any{r.field(t, "state"), r.field(t, "done")}, "state at the end")
	require.Equal(t, "upstream_status", r.field(t, "error", "code"), "the reason")
	require.NotNil(t, r.field(t, "finished_at"), "finished_at")
	require.Empty(t, r.header.Get("Retry-After"), "no Retry-After at the end")
}

func TestDenialIsShownWithItsReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	b.decide(t, id, "bo", approvals.Deny)
	r := b.get(t, "/v1/tickets/"+id)
	require.Equal(t, "denied", r.field(t, "state"), "state")
	require.Equal(t, "/problems/denied", r.field(t, "error", "type"), "type of the error")
	require.Contains(t, r.field(t, "error", "detail"), "bo", "who denied")
}

func TestRetryAfterGrowsWithTheAgeOfATicket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t)
	for _, c := range []struct {
		move time.Duration
		want string
	}{{0, "5"}, {10*time.Minute + 30*time.Second, "15"}, {time.Hour, "30"}} {
		b.clock.move(c.move)
		require.Equal(t, c.want, b.get(t, path).header.Get("Retry-After"), "Retry-After of a ticket")
		r := b.get(t, path, "If-None-Match", `"1"`)
		require.Equal(t, http.StatusNotModified, r.status, "status")
		require.Equal(t, c.want, r.header.Get("Retry-After"), "Retry-After of a 304")
	}
}

func TestIfNoneMatchSparesTheBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	path := "/v1/tickets/" + id
	for _, known := range []string{`"1"`, `W/"1"`, `"7", "1"`, "*"} {
		r := b.get(t, path, "If-None-Match", known)
		require.Equal(t, http.StatusNotModified, r.status, "status for %s", known)
		require.Empty(t, r.raw, "body for %s", known)
		require.Equal(t, `"1"`, r.header.Get("ETag"), "ETag for %s", known)
		require.Equal(t, "private, no-cache", r.header.Get("Cache-Control"), "Cache-Control for %s", known)
	}
	require.Equal(t, http.StatusOK, b.get(t, path, "If-None-Match", `"2"`).status, "another version")
	requireProblem(t, b.get(t, path, "If-None-Match", "1"), http.StatusBadRequest, "invalid_header")
	b.approve(t, id, "bo")
	r := b.get(t, path, "If-None-Match", `"1"`)
	require.Equal(t, http.StatusOK, r.status, "after a change")
	require.NotEqual(t, `"1"`, r.header.Get("ETag"), "ETag after a change")
}

func TestTicketOfAnotherCallerLooksLikeNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := b.submit(t, deletion).id(t)
	missing := "tkt_" + strings.Repeat("0", 26)
	malformed := "tkt_nope"
	for _, c := range []call{
		{method: "GET", path: ""},
		{method: "GET", path: "?wait=5s"},
		{method: "GET", path: "", header: headers("If-None-Match", `"1"`)},
		{method: "GET", path: "/result"},
		{method: "GET", path: "/events"},
		{method: "POST", path: "/cancel"},
		{method: "POST", path: "/cancel", header: headers("If-Match", `"9"`)},
	} {
		ask := func(id string) string {
			at := call{method: c.method, path: "/v1/tickets/" + id + c.path, key: b.other, header: headers("X-Request-Id", "same")}
			for name, values := range c.header {
				at.header[name] = values
			}
			r := b.do(t, at)
			requireProblem(t, r, http.StatusNotFound, "not_found")
			r.header.Del("Date")
			var all strings.Builder
			require.NoError(t, r.header.Write(&all), "write the header")
			return strings.ReplaceAll(all.String()+string(r.raw), id, "ID")
		}
		require.Equal(t, ask(missing), ask(theirs), "%s %s: another's ticket against none", c.method, c.path)
		_ = ask(malformed) // a problem of the same kind
	}
	dbtest.RequireTrail(t, b.store, theirs, approvals.EventCreated) // nothing was written on it
}

func TestLongPollAnswersWhenTheTicketIsDone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		query   string
		header  http.Header
		applied string
	}{
		"by query":          {"?wait=50s", nil, ""},
		"by bare query":     {"?wait=50", nil, ""},
		"by preference":     {"", headers("Prefer", "wait=50"), "wait=50"},
		"among others":      {"", headers("Prefer", `respond-async, WAIT="40"; x=y`), "wait=40"},
		"clamped":           {"", headers("Prefer", "wait=600"), "wait=60"},
		"in two lines":      {"", headers("Prefer", "respond-async", "Prefer", "wait=30"), "wait=30"},
		"the query wins":    {"?wait=50s", headers("Prefer", "wait=1"), ""},
		"clamped by query":  {"?wait=999999999s", nil, ""},
		"however far ahead": {"?wait=60", headers("Prefer", "nonsense,,=;"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := b.submit(t, deletion).id(t)
			answer := b.inBackground(t, call{method: "GET", path: "/v1/tickets/" + id + c.query, header: c.header})
			b.approve(t, id, "bo") // not yet the end
			b.begin(t, id)
			b.finish(t, id, http.StatusOK, "{}")
			r := receive(t, answer)
			require.Equal(t, http.StatusOK, r.status, "status: %s", r.raw)
			require.Equal(t, "succeeded", r.field(t, "state"), "state")
			require.Equal(t, c.applied, r.header.Get("Preference-Applied"), "Preference-Applied")
			require.Equal(t, "Prefer", r.header.Get("Vary"), "Vary")
		})
	}
}

func TestLongPollWithAVersionAnswersAtTheNextOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	path := "/v1/tickets/" + id + "?wait=50s"
	answer := b.inBackground(t, call{method: "GET", path: path, header: headers("If-None-Match", `"1"`)})
	b.approve(t, id, "bo")
	r := receive(t, answer)
	require.Equal(t, http.StatusOK, r.status, "status")
	require.Equal(t, "pending", r.field(t, "state"), "changed, but not done")
	require.Equal(t, `"2"`, r.header.Get("ETag"), "ETag")

	// A version that is already old is answered at once.
	require.Equal(t, http.StatusOK, b.get(t, path, "If-None-Match", `"1"`).status, "status for an old version")
}

func TestLongPollEndsWithWhatItWouldHaveBeenWithoutWaiting(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t)
	r := b.get(t, path, "Prefer", "wait=1")
	require.Equal(t, []any{http.StatusOK, "pending"}, []any{r.status, r.field(t, "state")}, "without a version: the ticket")
	require.Equal(t, "wait=1", r.header.Get("Preference-Applied"), "Preference-Applied")
	r = b.get(t, path+"?wait=1s", "If-None-Match", `"1"`)
	require.Equal(t, http.StatusNotModified, r.status, "with one: 304")
	require.Equal(t, `"1"`, r.header.Get("ETag"), "ETag")
}

func TestLongPollOutlivesTheReadTimeoutOfTheServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t) + "?wait=1s"
	impatient := httptest.NewUnstartedServer(b.server.Handler())
	impatient.Config.ReadTimeout = 500 * time.Millisecond
	impatient.Start()
	t.Cleanup(impatient.Close)
	b.url = impatient.URL
	r := b.get(t, path)
	require.Equal(t, []any{http.StatusOK, "pending"}, []any{r.status, r.field(t, "state")}, "the ticket, after the wait")
}

func TestMalformedWaitIsRefusedInTheQueryOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t)
	for _, wait := range []string{"x", "-1", "1.5s", "1m", "30ss", "9999999999", "%201"} {
		r := b.get(t, path+"?wait="+wait)
		requireProblem(t, r, http.StatusBadRequest, "invalid_parameter")
	}
	r := b.get(t, path, "Prefer", "wait=soon")
	require.Equal(t, http.StatusOK, r.status, "a preference that cannot be read is ignored (RFC 7240)")
	require.Empty(t, r.header.Get("Preference-Applied"), "Preference-Applied")
}

func TestSubmitMayWait(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := call{method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "w", "Prefer", "wait=50")}
	answer := b.inBackground(t, c)
	var id string
	eventually(t, "the ticket to be opened", func() bool {
		err := b.pool.QueryRow(t.Context(), `SELECT id FROM tickets`).Scan(&id)
		return err == nil
	})
	b.decide(t, id, "bo", approvals.Deny)
	r := receive(t, answer)
	require.Equal(t, http.StatusAccepted, r.status, "202 although it is final")
	require.Equal(t, []any{id, "denied", true}, []any{r.id(t), r.field(t, "state"), r.field(t, "done")}, "the ticket")
	require.Equal(t, "wait=50", r.header.Get("Preference-Applied"), "Preference-Applied")
	require.Equal(t, "/v1/tickets/"+id, r.header.Get("Location"), "Location")
}

func TestDrainAnswersEveryWaiter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t) + "?wait=50s"
	waiting := make([]<-chan reply, 0, 5)
	for range 5 {
		waiting = append(waiting, b.inBackground(t, call{method: "GET", path: path}))
	}
	eventually(t, "all to wait", func() bool { return api.Waiting(b.server) == 5 })
	b.server.Drain()
	for _, answer := range waiting {
		r := receive(t, answer)
		require.Equal(t, []any{http.StatusOK, "pending"}, []any{r.status, r.field(t, "state")}, "the ticket as it is")
	}
	require.Equal(t, http.StatusOK, b.get(t, path).status, "a late waiter is answered at once")
	requireProblem(t, b.do(t, call{method: "GET", path: "/readyz", key: "-"}), http.StatusServiceUnavailable, "not_ready")
	require.Equal(t, 0, api.Waiting(b.server), "nobody is left")
}

func TestWaitersOfOneCallerAreCapped(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.MaxWaitersPerCaller = 1 })
	id := b.submit(t, deletion).id(t)
	path := "/v1/tickets/" + id + "?wait=50s"
	first := b.inBackground(t, call{method: "GET", path: path})
	eventually(t, "the first to wait", func() bool { return api.Waiting(b.server) == 1 })

	r := b.get(t, path)
	requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
	require.Equal(t, "https://iana.org/assignments/http-problem-types#quota-exceeded", r.field(t, "type"), "type")
	require.Equal(t, []any{"waiting"}, r.field(t, "violated-policies"), "violated-policies")
	require.Equal(t, `"waiting";q=1;qu="concurrent-requests"`, r.header.Get("Ratelimit-Policy"), "RateLimit-Policy")
	require.NotEmpty(t, r.header.Get("Retry-After"), "Retry-After")

	// A submit that cannot wait has still been made.
	submitted := b.do(t, call{
		method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "w", "Prefer", "wait=50"),
	})
	require.Equal(t, http.StatusAccepted, submitted.status, "submit: %s", submitted.raw)
	require.Empty(t, submitted.header.Get("Preference-Applied"), "the preference was not applied")

	b.decide(t, id, "bo", approvals.Deny)
	require.Equal(t, "denied", receive(t, first).field(t, "state"), "the first is answered")
	eventually(t, "the place to be free", func() bool { return api.Waiting(b.server) == 0 })
	require.Equal(t, http.StatusOK, b.get(t, path).status, "the next may wait")
}

func TestWaiterThatLeavesFreesItsPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t) + "?wait=50s"
	ctx, leave := contextOf(t)
	req := b.request(t, call{method: "GET", path: path}).WithContext(ctx)
	gone := make(chan error, 1)
	go func() {
		res, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			_ = res.Body.Close()
		}
		gone <- err
	}()
	eventually(t, "it to wait", func() bool { return api.Waiting(b.server) == 1 })
	leave()
	require.Error(t, <-gone, "the client has left")
	eventually(t, "its place to be free", func() bool { return api.Waiting(b.server) == 0 })
	eventually(t, "its line in the log", func() bool { return strings.Contains(b.logs.String(), `"client_gone":true`) })
	require.NotContains(t, b.logs.String(), `"level":"ERROR"`, "a client that leaves is no fault")
}
