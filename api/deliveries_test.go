package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// listed reads the ids of a list, and the token of the next page.
func (b *bundle) listed(t *testing.T, key, path string) (ids []string, next string) {
	t.Helper()
	r := b.do(t, call{method: "GET", path: path, key: key})
	require.Equal(t, http.StatusOK, r.status, "list %s: %s", path, r.raw)
	items, _ := r.field(t, "items").([]any)
	for _, i := range items {
		one, _ := i.(map[string]any)
		ids = append(ids, fmt.Sprint(one["id"]))
	}
	next, _ = r.field(t, "next_page_token").(string)
	return ids, next
}

func TestADeliveryShowsItsAttemptsAndNothingOfWhatItCarries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	ticket, delivery := b.owed1(t, "payroll")
	b.exhaust(t, ticket, delivery)
	r := b.get(t, "/v1/deliveries/"+delivery)
	require.Equal(t, http.StatusOK, r.status, "%s", r.raw)
	require.Equal(t, []any{ticket, id, "ticket.cancelled", "exhausted", "https://hooks.example.com/hook?token=1"}, []any{
		r.field(t, "ticket_id"), r.field(t, "endpoint_id"), r.field(t, "type"), r.field(t, "state"), r.field(t, "url"),
	})
	log, _ := r.field(t, "attempt_log").([]any)
	require.Len(t, log, 1)
	attempt, _ := log[0].(map[string]any)
	require.Equal(t, map[string]any{"dns_ms": 1.0, "connect_ms": 2.0, "tls_ms": 3.0, "first_byte_ms": 40.0}, attempt["timing"])
	require.Equal(t, []any{503.0, "status", "the receiver answered 503", 42.0}, []any{attempt["status"], attempt["class"], attempt["error"], attempt["duration_ms"]})
	require.NotContains(t, string(r.raw), "192.0.2.7", "callers see no address")

	r = b.as(t, "olaf", "GET", "/v1/deliveries/"+delivery, "")
	require.Equal(t, "https://hooks.example.com", r.field(t, "url"), "people see the origin only")
	require.NotContains(t, string(r.raw), "192.0.2.7")
	for _, overseer := range []string{"vera", "dora"} {
		require.Contains(t, string(b.as(t, overseer, "GET", "/v1/deliveries/"+delivery, "").raw), "192.0.2.7:443")
	}
	requireProblem(t, b.do(t, call{method: "GET", path: "/v1/deliveries/" + delivery, key: b.other}), http.StatusNotFound, "not_found")
	requireProblem(t, b.as(t, "bo", "GET", "/v1/deliveries/"+delivery, ""), http.StatusNotFound, "not_found")
	requireProblem(t, b.get(t, "/v1/deliveries/nonsense"), http.StatusNotFound, "not_found")
}

func TestDeliveriesAreListedByWhatTheyAreAbout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	theirs := newDelivery(t, b, "other")
	first, gone := b.owed1(t, "payroll")
	b.exhaust(t, first, gone)
	_, second := b.owed1(t, "payroll")
	both := []string{second, gone}
	for path, want := range map[string][]string{
		"/v1/deliveries": both, "/v1/deliveries?state=exhausted": {gone}, "/v1/deliveries?state=pending": {second},
		"/v1/deliveries?ticket=" + first: {gone}, "/v1/deliveries?endpoint=" + id: both, "/v1/callback-endpoints/" + id + "/deliveries": both,
		"/v1/callback-endpoints/" + id + "/deliveries?state=exhausted": {gone}, "/v1/deliveries?caller=other": nil, "/v1/deliveries?ticket=nonsense": nil,
		"/v1/deliveries?endpoint=nonsense": nil, "/v1/deliveries?endpoint=" + db.EndpointID("other", originOf["other"]): nil,
		"/v1/deliveries?until=2026-01-01T00:00:00Z": nil, "/v1/deliveries?since=2026-01-01T00:00:00Z": both,
	} {
		got, next := b.listed(t, b.key, path)
		require.Equal(t, want, got, path)
		require.Empty(t, next)
	}
	got, _ := b.listed(t, b.people["dora"], "/v1/deliveries")
	require.Equal(t, append(both, theirs), got, "operators see all, newest first")
	got, _ = b.listed(t, b.people["olaf"], "/v1/deliveries")
	require.Equal(t, both, got)
	got, _ = b.listed(t, b.people["bo"], "/v1/deliveries")
	require.Empty(t, got)

	page, next := b.listed(t, b.key, "/v1/deliveries?page_size=1")
	require.Equal(t, both[:1], page)
	rest, end := b.listed(t, b.key, "/v1/deliveries?page_size=1&page_token="+url.QueryEscape(next))
	require.Equal(t, both[1:], rest)
	require.Empty(t, end)
	for _, path := range []string{"/v1/deliveries?state=pending&page_token=" + url.QueryEscape(next), "/v1/callback-endpoints/" + id + "/deliveries?page_token=" + url.QueryEscape(next)} {
		requireProblem(t, b.get(t, path), http.StatusBadRequest, "bad_page_token")
	}
	for _, path := range []string{"/v1/deliveries?state=lost", "/v1/deliveries?since=today", "/v1/deliveries?page_size=-1"} {
		requireProblem(t, b.get(t, path), http.StatusBadRequest, "invalid_parameter")
	}
}

func TestADeliveryIsSentAgainUnderItsOwnID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	knownEndpoint(t, b, "payroll")
	ticket, delivery := b.owed1(t, "payroll")
	b.exhaust(t, ticket, delivery)
	before := b.stored(t, ticket).Version
	r := b.as(t, "olaf", "POST", "/v1/deliveries/"+delivery+"/redeliver", "")
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.raw)
	require.Equal(t, []any{delivery, "pending", "manual", 1.0}, []any{r.field(t, "id"), r.field(t, "state"), r.field(t, "trigger"), r.field(t, "attempts")})
	require.Equal(t, publicURL+"/v1/deliveries/"+delivery, r.header.Get("Location"))
	after := b.stored(t, ticket)
	require.Equal(t, before+1, after.Version)
	require.Equal(t, approvals.CallbackPending, after.CallbackState)
	events, err := b.store.Events(t.Context(), db.Ref{ID: ticket}, before, 10)
	require.NoError(t, err)
	require.Equal(t, approvals.EventRedeliveryRequested, events[0].Type)
	require.Equal(t, "olaf", events[0].Actor.Name)
	require.Contains(t, string(b.get(t, "/v1/tickets/"+ticket+"/events").raw), `"ticket.redelivery_requested"`)
	require.Equal(t, http.StatusAccepted, b.as(t, "olaf", "POST", "/v1/deliveries/"+delivery+"/redeliver", "").status)
	require.Equal(t, after.Version, b.stored(t, ticket).Version, "asking twice is asking once")
}

func TestWhatAnEndpointMissedIsSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	var missed []string
	for range 3 {
		ticket, delivery := b.owed1(t, "payroll")
		b.exhaust(t, ticket, delivery)
		missed = append(missed, delivery)
	}
	at := "/v1/callback-endpoints/" + id + "/recover"
	recent := b.clock.now().Add(-time.Hour).Format(time.RFC3339)
	for body, status := range map[string]int{
		`{}`: http.StatusBadRequest, `{"since":"yesterday"}`: http.StatusUnprocessableEntity, `{"since":"` + recent + `","states":["lost"]}`: http.StatusUnprocessableEntity,
		`{"since":"` + recent + `","until":"2026-01-01T00:00:00Z"}`: http.StatusUnprocessableEntity,
	} {
		require.Equal(t, status, b.do(t, call{method: "POST", path: at, body: body}).status, body)
	}
	until := b.clock.now().Add(time.Hour).Format(time.RFC3339)
	r := b.do(t, call{method: "POST", path: at, body: `{"since":"` + recent + `","until":"` + until + `"}`})
	require.JSONEq(t, `{"count":3,"complete":true}`, string(r.raw))
	require.Equal(t, http.StatusAccepted, r.status)
	got, _ := b.listed(t, b.key, "/v1/deliveries?state=pending")
	require.ElementsMatch(t, missed, got)
	require.Contains(t, b.serviceEvents(t, id), "endpoint.redelivered by caller payroll")
	r = b.do(t, call{method: "POST", path: at, body: `{"since":"` + recent + `","until":"` + until + `"}`})
	require.JSONEq(t, `{"count":0,"complete":true}`, string(r.raw), "nothing is left")
}

func TestSeveralDeliveriesAreSentAgainAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	theirs := newDelivery(t, b, "other")
	ticket, delivery := b.owed1(t, "payroll")
	b.exhaust(t, ticket, delivery)
	bulk := func(body string) reply {
		return b.do(t, call{method: "POST", path: "/v1/deliveries:bulk", body: body})
	}
	r := bulk(`{"ids":["` + delivery + `","` + theirs + `","nonsense"]}`)
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.raw)
	require.InDelta(t, 1, r.field(t, "count"), 0)
	problems, _ := r.field(t, "problems").([]any)
	require.Len(t, problems, 2)
	for _, p := range problems {
		one, _ := p.(map[string]any)
		require.Equal(t, "not_found", one["code"], "another's is as if it were not there")
	}
	second, exhausted := b.owed1(t, "payroll")
	b.exhaust(t, second, exhausted)
	later := `,"until":"` + b.clock.now().Add(time.Hour).Format(time.RFC3339) + `"`
	require.JSONEq(t, `{"count":1,"complete":true,"problems":[]}`, string(bulk(`{"ticket":"`+second+`"`+later+`}`).raw))
	require.JSONEq(t, `{"count":2,"complete":true,"problems":[]}`, string(bulk(`{"endpoint":"`+id+`","since":"2026-01-01T00:00:00Z","states":["pending"]`+later+`}`).raw))
	require.JSONEq(t, `{"count":0,"complete":true,"problems":[]}`, string(bulk(`{"ticket":"`+noTicketID+`"}`).raw))
	for _, body := range []string{
		`{}`, `{"ids":[]}`, `{"ids":["a"],"ticket":"b"}`, `{"ids":["a"],"states":["pending"]}`, `{"endpoint":"` + id + `"}`, `{"ticket":"` + ticket + `","states":["none"]}`,
	} {
		requireProblem(t, bulk(body), http.StatusUnprocessableEntity, "validation_failed")
	}
	requireProblem(t, bulk(`{"endpoint":"end_00000000000000000000000000","since":"2026-01-01T00:00:00Z"}`), http.StatusNotFound, "not_found")
}

const told = `{"upstream":"billing","method":"DELETE","path":"/x","callback":{"url":"https://hooks.example.com/hook?token=1"}}`

func TestASubmitNamesAnOriginThatHasAgreed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	strict := func(endpoint string) {
		b.config = parseConfig(t, replaceOnce(t, b.text(t, "", ""), `{verification: waived, origins: ["https://hooks.example.com"]`, `{origins: [`+endpoint+`]`))
	}
	submit := func() reply {
		return b.do(t, call{method: "POST", path: "/v1/tickets", body: told, header: headers("Idempotency-Key", freshKey())})
	}
	strict(`"https://hooks.example.com"`)
	r := submit()
	requireProblem(t, r, http.StatusUnprocessableEntity, "callback_unverified")
	require.Contains(t, string(r.raw), "#/callback/url")
	require.Contains(t, string(r.raw), "It is being asked now")
	require.Zero(t, b.tickets(t), "nothing was done")
	id := db.EndpointID("payroll", originOf["payroll"])
	e, err := b.store.EndpointByID(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "https://hooks.example.com/hook?token=1", e.ProbeURL, "it is asked where the submit said")
	require.False(t, e.VerifyDueAt.IsZero(), "soon")

	require.NoError(t, b.store.RecordVerification(t.Context(), id, db.VerificationResult{Err: "it answered 404"}))
	require.Contains(t, string(submit().raw), "it answered 404")
	_, err = superuser(t, b.pool.Config().ConnString()).Exec(t.Context(), `UPDATE callback_endpoints SET verify_due_at = now() + interval '1 day', verify_asked_at = now() + interval '1 hour'`)
	require.NoError(t, err)
	require.Regexp(t, `It is asked again in 3[56]\d\d s`, string(submit().raw), "not within ten seconds after another time")
	require.NoError(t, b.store.RecordVerification(t.Context(), id, db.VerificationResult{OK: true, How: "challenge"}))
	r = submit()
	require.Equal(t, http.StatusAccepted, r.status, "%s", r.raw)

	_, err = superuser(t, b.pool.Config().ConnString()).Exec(t.Context(), `UPDATE callback_endpoints SET verification = 'unverified', verified_at = NULL, verified_how = ''`)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, submit().status, "for a minute it is believed")
	b.clock.move(time.Minute)
	requireProblem(t, submit(), http.StatusUnprocessableEntity, "callback_unverified")
	strict(`{origin: "https://hooks.example.com", verification: waived, payload: thin}`)
	r = submit()
	require.Equal(t, http.StatusAccepted, r.status, "it need not be asked: %s", r.raw)
	require.Equal(t, approvals.PayloadThin, b.stored(t, r.id(t)).Callback.Payload, "how much it is told is fixed with the submit")
}

func TestAnEndpointIsAskedAtItsConfiguredPath(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.config = parseConfig(t, replaceOnce(t, b.text(t, "", ""), `{verification: waived, origins: ["https://hooks.example.com"]`, `{origins: [{origin: "https://hooks.example.com", verify: /verify}]`))
	requireProblem(t, b.do(t, call{method: "POST", path: "/v1/tickets", body: told, header: headers("Idempotency-Key", freshKey())}), http.StatusUnprocessableEntity, "callback_unverified")
	e, err := b.store.Endpoint(t.Context(), "payroll", originOf["payroll"])
	require.NoError(t, err)
	require.Equal(t, "https://hooks.example.com:443/verify", e.ProbeURL)
}

func replaceOnce(t *testing.T, text, before, after string) string {
	t.Helper()
	require.Equal(t, 1, strings.Count(text, before), "how often %q is there", before)
	return strings.Replace(text, before, after, 1)
}
