package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
)

// quiet makes calls that reach nobody.
func quiet(c *api.Config) {
	c.VerifyEndpoint = func(context.Context, string) error { return nil }
	c.TestEndpoint = func(context.Context, string, string) (api.EndpointTest, error) {
		return api.EndpointTest{Delivered: true, Status: 204}, nil
	}
}

// originOf is the configured origin of a caller.
var originOf = map[string]string{"payroll": "https://hooks.example.com:443", "other": "https://other.example.com:443"}

// endpoint writes an endpoint down and returns its id.
func (b *bundle) endpoint(t *testing.T, caller, origin string) string {
	t.Helper()
	_, err := b.store.WantVerification(t.Context(), caller, origin, origin+"/hook?token=1")
	require.NoError(t, err, "write %s down", origin)
	return db.EndpointID(caller, origin)
}

// freshEndpoint makes an endpoint of its own.
func freshEndpoint(t *testing.T, b *bundle, caller string) string {
	t.Helper()
	return b.endpoint(t, caller, "https://"+freshKey()+".example.com:443")
}

// knownEndpoint is the one that the configuration names.
func knownEndpoint(t *testing.T, b *bundle, caller string) string {
	t.Helper()
	return b.endpoint(t, caller, originOf[caller])
}

// newDelivery ends a call of a caller that wants to be told, and returns what it is owed.
func newDelivery(t *testing.T, b *bundle, caller string) string {
	t.Helper()
	knownEndpoint(t, b, caller)
	_, id := b.owed1(t, caller)
	return id
}

// owed1 returns a ticket that has ended and the delivery of its end.
func (b *bundle) owed1(t *testing.T, caller string) (ticket, id string) {
	t.Helper()
	key := map[string]string{"payroll": b.key, "other": b.other}[caller]
	address := strings.TrimSuffix(originOf[caller], ":443") + "/hook?token=1"
	body := fmt.Sprintf(`{"upstream":"billing","method":"DELETE","path":"/x","callback":{"url":%q}}`, address)
	r := b.do(t, call{method: "POST", path: "/v1/tickets", body: body, key: key, header: headers("Idempotency-Key", freshKey())})
	require.Equal(t, http.StatusAccepted, r.status, "submit: %s", r.raw)
	ticket = r.id(t)
	r = b.do(t, call{method: "POST", path: "/v1/tickets/" + ticket + "/cancel", key: key})
	require.Equal(t, http.StatusOK, r.status, "cancel: %s", r.raw)
	found, err := b.store.Deliveries(t.Context(), db.DeliveryFilter{TicketID: ticket, Limit: 10})
	require.NoError(t, err, "list deliveries")
	require.Len(t, found, 1, "deliveries of %s", ticket)
	return ticket, found[0].MessageID
}

// exhaust has a delivery given up after one attempt.
func (b *bundle) exhaust(t *testing.T, ticket, id string) {
	t.Helper()
	d, err := b.store.DeliveryByID(t.Context(), id)
	require.NoError(t, err, "read the delivery")
	_, err = b.pool.Exec(t.Context(), `INSERT INTO delivery_attempts (ticket_id, seq, number, at, status, error, duration_ms, class, address, dns_ms, connect_ms, tls_ms, first_byte_ms)
		VALUES ($1, $2, 1, now(), 503, 'the receiver answered 503', 42, 'status', '192.0.2.7:443', 1, 2, 3, 40)`, ticket, d.Seq)
	require.NoError(t, err, "write an attempt")
	b.advance(t, ticket, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.DeliveryFailed("worker-7", approvals.DeliveryAttempt{Seq: d.Seq, Number: 1, Status: 503, DurationMS: 42, Error: "the receiver answered 503"}, now)
	})
}

// serviceEvents lists what was noted about an endpoint, as "type by kind name".
func (b *bundle) serviceEvents(t *testing.T, id string) (out []string) {
	t.Helper()
	events, err := b.store.ServiceEvents(t.Context(), db.EndpointStream(id), 0, 100)
	require.NoError(t, err, "list service events")
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s by %s %s", e.Type, e.Actor.Kind, e.Actor.Name))
	}
	return out
}

func TestAnEndpointShowsHowItIsDoingAndNoSecret(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	r := b.get(t, "/v1/callback-endpoints/"+id)
	require.Equal(t, http.StatusOK, r.status, "%s", r.raw)
	require.Equal(t, "active", r.field(t, "state"), "its verification is waived")
	require.Equal(t, "https://hooks.example.com:443/hook?token=1", r.field(t, "verification", "url"))
	require.Equal(t, map[string]any{
		"payload": "auto", "signature": "hmac", "concurrency": 4.0, "rate_per_minute": 0.0, "timeout_ms": 15000.0, "schedule_s": []any{}, "disable_after_s": 432000.0,
	}, r.field(t, "settings"))
	require.NotContains(t, string(r.raw), "whsec_")
	r = b.as(t, "olaf", "GET", "/v1/callback-endpoints/"+id, "")
	require.Equal(t, "https://hooks.example.com:443", r.field(t, "verification", "url"), "people see no address beyond its origin")

	other := freshEndpoint(t, b, "payroll")
	r = b.get(t, "/v1/callback-endpoints/"+other)
	require.Equal(t, "unconfigured", r.field(t, "state"), "the configuration does not name it")
	require.Nil(t, r.field(t, "settings"))
	requireProblem(t, b.get(t, "/v1/callback-endpoints/nonsense"), http.StatusNotFound, "not_found")
}

func TestListsOfEndpointsHoldWhatOneMaySee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var mine []string
	for range 3 {
		mine = append(mine, freshEndpoint(t, b, "payroll"))
	}
	theirs := freshEndpoint(t, b, "other")
	list := func(key, query string) (ids []string, next string) {
		t.Helper()
		r := b.do(t, call{method: "GET", path: "/v1/callback-endpoints?" + query, key: key})
		require.Equal(t, http.StatusOK, r.status, "%s", r.raw)
		items, _ := r.field(t, "items").([]any)
		for _, i := range items {
			one, _ := i.(map[string]any)
			ids = append(ids, fmt.Sprint(one["id"]))
		}
		next, _ = r.field(t, "next_page_token").(string)
		return ids, next
	}
	for who, want := range map[string][]string{
		b.key: mine, b.other: {theirs}, b.people["olaf"]: mine, b.people["ana"]: append([]string{theirs}, mine...),
		b.people["vera"]: append([]string{theirs}, mine...), b.people["dora"]: append([]string{theirs}, mine...), b.people["bo"]: nil,
	} {
		got, next := list(who, "")
		require.ElementsMatch(t, want, got)
		require.Empty(t, next)
	}
	got, _ := list(b.people["olaf"], "caller=other")
	require.Empty(t, got, "of a caller that is not theirs")
	got, _ = list(b.key, "caller=other")
	require.Empty(t, got)
	first, next := list(b.key, "page_size=2")
	require.Len(t, first, 2)
	require.NotEmpty(t, next)
	second, end := list(b.key, "page_size=2&page_token="+url.QueryEscape(next))
	require.Empty(t, end)
	require.ElementsMatch(t, mine, append(first, second...), "each is on one page")
	first, next = list(b.people["olaf"], "page_size=2")
	second, end = list(b.people["olaf"], "page_size=2&page_token="+url.QueryEscape(next))
	require.Empty(t, end)
	require.ElementsMatch(t, mine, append(first, second...), "of a part of the list, too")
	for _, query := range []string{"page_token=" + url.QueryEscape(next), "disabled=true&page_token=" + url.QueryEscape(next), "page_token=nonsense"} {
		requireProblem(t, b.get(t, "/v1/callback-endpoints?"+query), http.StatusBadRequest, "bad_page_token")
	}
	requireProblem(t, b.get(t, "/v1/callback-endpoints?disabled=yes"), http.StatusBadRequest, "invalid_parameter")
}

func TestADisabledEndpointIsOwedWhatItWouldHaveBeenSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	at := "/v1/callback-endpoints/" + id
	_, delivery := b.owed1(t, "payroll")
	requireProblem(t, b.as(t, "olaf", "POST", at+"/disable", `{"reason":"  "}`), http.StatusUnprocessableEntity, "validation_failed")
	r := b.as(t, "olaf", "POST", at+"/disable", `{"reason":"the receiver is moved"}`)
	require.Equal(t, "disabled", r.field(t, "state"), "%s", r.raw)
	require.Equal(t, []any{"olaf", "the receiver is moved"}, []any{r.field(t, "disabled", "by"), r.field(t, "disabled", "reason")})
	got := b.get(t, "/v1/callback-endpoints?disabled=true")
	require.Contains(t, string(got.raw), id)

	r = b.do(t, call{method: "POST", path: "/v1/deliveries/" + delivery + "/redeliver"})
	requireProblem(t, r, http.StatusConflict, "endpoint_disabled")
	r = b.do(t, call{method: "POST", path: at + "/recover", body: `{"since":"2026-01-01T00:00:00Z","states":["pending"]}`})
	requireProblem(t, r, http.StatusConflict, "endpoint_disabled")
	r = b.do(t, call{method: "POST", path: "/v1/deliveries:bulk", body: `{"ids":["` + delivery + `"]}`})
	require.Equal(t, http.StatusAccepted, r.status)
	require.Contains(t, string(r.raw), `"code":"endpoint_disabled"`)

	r = b.do(t, call{method: "POST", path: at + "/enable"})
	require.Equal(t, "active", r.field(t, "state"), "%s", r.raw)
	require.InDelta(t, 1, r.field(t, "held"), 0, "deliveries that waited")
	require.Nil(t, r.field(t, "disabled"))
	require.Equal(t, []string{"endpoint.disabled by person olaf", "endpoint.enabled by caller payroll"}, b.serviceEvents(t, id)[:2])
}

func TestAnEndpointIsAskedWhetherItWantsCallbacksOnRequest(t *testing.T) {
	t.Parallel()
	var b *bundle
	b = setup(t, func(c *api.Config) {
		c.VerifyEndpoint = func(ctx context.Context, id string) error {
			return b.store.RecordVerification(ctx, id, db.VerificationResult{OK: true, How: "challenge", Rate: 60})
		}
	})
	id := knownEndpoint(t, b, "payroll")
	r := b.as(t, "dora", "POST", "/v1/callback-endpoints/"+id+"/verify", "")
	require.Equal(t, []any{"verified", "challenge"}, []any{r.field(t, "verification", "state"), r.field(t, "verification", "how")}, "%s", r.raw)
	require.InDelta(t, 60, r.field(t, "settings", "rate_per_minute"), 0, "what it asked for")
	require.Contains(t, b.serviceEvents(t, id), "endpoint.verification_requested by person dora")
	r = b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + freshEndpoint(t, b, "payroll") + "/verify"})
	requireProblem(t, r, http.StatusConflict, "conflict")
	r = b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + id + "/test"})
	requireProblem(t, r, http.StatusServiceUnavailable, "unavailable")
}

func TestAnEndpointIsNotAskedAsOftenAsSomebodyLikes(t *testing.T) {
	t.Parallel()
	asked := 0
	b := setup(t, func(c *api.Config) {
		c.VerifyEndpoint = func(context.Context, string) error { asked++; return nil }
		c.TestEndpoint = func(context.Context, string, string) (api.EndpointTest, error) {
			asked++
			return api.EndpointTest{}, nil
		}
	})
	id := knownEndpoint(t, b, "payroll")
	for i := range 20 {
		what := []string{"/verify", "/test"}[i%2]
		require.Equal(t, http.StatusOK, b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + id + what}).status)
	}
	for _, what := range []string{"/verify", "/test"} {
		r := b.as(t, "dora", "POST", "/v1/callback-endpoints/"+id+what, "") // whoever it is
		requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
		require.Equal(t, []any{"endpoint-asks"}, r.field(t, "violated-policies"))
		require.Equal(t, "3", r.header.Get("Retry-After"))
	}
	require.Equal(t, 20, asked, "how often it was called")
	require.Len(t, b.serviceEvents(t, id), 20, "what is kept of it")
	b.clock.move(3 * time.Second)
	require.Equal(t, http.StatusOK, b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + id + "/test"}).status)
}

func TestAnEndpointIsTestedUnderItsOriginOnly(t *testing.T) {
	t.Parallel()
	var address string
	var broken error
	b := setup(t, func(c *api.Config) {
		c.TestEndpoint = func(_ context.Context, _, at string) (api.EndpointTest, error) {
			address = at
			return api.EndpointTest{Status: 500, Error: "the receiver answered 500", Class: "status", DurationMs: 7, Response: "no\xff"}, broken
		}
	})
	id := knownEndpoint(t, b, "payroll")
	test := func(body string) reply {
		return b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + id + "/test", body: body})
	}
	r := test("")
	require.Equal(t, http.StatusOK, r.status, "%s", r.raw)
	require.Empty(t, address, "where it is asked")
	require.Equal(t, []any{false, 500.0, "status", "no\ufffd"}, []any{r.field(t, "delivered"), r.field(t, "status"), r.field(t, "class"), r.field(t, "response")})
	require.Equal(t, http.StatusOK, test(`{"url":"https://hooks.example.com/other"}`).status)
	require.Equal(t, "https://hooks.example.com/other", address)
	require.Equal(t, []string{"endpoint.tested by caller payroll", "endpoint.tested by caller payroll"}, b.serviceEvents(t, id))
	for _, url := range []string{"https://other.example.com/hook", "http://hooks.example.com/hook", "https://hooks.example.com:8443/hook", "https://169.254.169.254/"} {
		requireProblem(t, test(`{"url":"`+url+`"}`), http.StatusUnprocessableEntity, "validation_failed")
	}
	for _, gone := range []error{api.ErrEndpointGone, api.ErrEndpointUnverified} {
		broken = fmt.Errorf("test it: %w", gone)
		requireProblem(t, test(""), http.StatusConflict, "conflict")
	}
	broken = errors.New("a fault of ours")
	requireProblem(t, test(""), http.StatusInternalServerError, "internal")
	r = b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + freshEndpoint(t, b, "payroll") + "/test"})
	requireProblem(t, r, http.StatusConflict, "conflict")
}

func TestFiguresOfAnEndpointAreOfASpanOfTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	ticket, delivery := b.owed1(t, "payroll")
	b.exhaust(t, ticket, delivery)
	b.owed1(t, "payroll")
	r := b.as(t, "vera", "GET", "/v1/callback-endpoints/"+id+"/stats", "")
	require.Equal(t, []any{1.0, 1.0, 1.0, 1.0, 42.0}, []any{
		r.field(t, "pending"), r.field(t, "exhausted"), r.field(t, "attempts"), r.field(t, "failed"), r.field(t, "p99_ms"),
	}, "%s", r.raw)
	soon := url.QueryEscape(b.clock.now().Add(time.Hour).Format(time.RFC3339))
	r = b.get(t, "/v1/callback-endpoints/"+id+"/stats?since="+soon)
	require.InDelta(t, 0, r.field(t, "exhausted"), 0, "since then there was none")
	requireProblem(t, b.get(t, "/v1/callback-endpoints/"+id+"/stats?since=2026-01-01T00:00:00Z"), http.StatusBadRequest, "invalid_parameter")
}

func TestAnEndpointThatWasNeverAskedIsTestedWhereTheNewestDeliveryGoes(t *testing.T) {
	t.Parallel()
	var address string
	b := setup(t, func(c *api.Config) {
		c.TestEndpoint = func(_ context.Context, _, at string) (api.EndpointTest, error) {
			address = at
			return api.EndpointTest{Delivered: true, Status: 204}, nil
		}
	})
	require.NoError(t, b.store.SyncEndpoints(t.Context(), []db.EndpointSpec{{Caller: "payroll", Origin: originOf["payroll"], Waived: true}}))
	at := "/v1/callback-endpoints/" + db.EndpointID("payroll", originOf["payroll"]) + "/test"
	r := b.do(t, call{method: "POST", path: at})
	requireProblem(t, r, http.StatusUnprocessableEntity, "validation_failed")
	require.Contains(t, string(r.raw), `"pointer":"#/url"`, "which is to be given")
	b.owed1(t, "payroll")
	r = b.do(t, call{method: "POST", path: at})
	require.Equal(t, http.StatusOK, r.status, "%s", r.raw)
	require.Equal(t, "https://hooks.example.com/hook?token=1", address)
}

func TestAnEndpointShowsWhatStillHolds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := knownEndpoint(t, b, "payroll")
	at := "/v1/callback-endpoints/" + id
	hold := func(d time.Duration) {
		_, err := b.pool.Exec(t.Context(), `UPDATE callback_endpoints SET held_until = $2 WHERE id = $1`, id, b.clock.now().Add(d))
		require.NoError(t, err)
	}
	hold(time.Hour)
	r := b.get(t, at)
	require.Equal(t, "held", r.field(t, "state"))
	require.NotNil(t, r.field(t, "health", "held_until"))
	hold(-time.Hour)
	r = b.get(t, at)
	require.Equal(t, "active", r.field(t, "state"))
	require.Nil(t, r.field(t, "health", "held_until"), "it has passed")

	require.NoError(t, b.store.DisableEndpoint(t.Context(), id, approvals.Actor{Kind: approvals.ActorWorker, Name: "worker_7", Via: "job"}, "it said 410"))
	r = b.get(t, at)
	require.Equal(t, "Countersign", r.field(t, "disabled", "by"), "which process it was is nobody's business")
	require.NotContains(t, string(r.raw), "worker_7")
}
