package api_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/policy"
)

const (
	typeQuota   = "https://iana.org/assignments/http-problem-types#quota-exceeded"
	typeReduced = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
)

// requireWhole asserts that an answer is a problem document with every member there is, and
// the header that goes with it.
func requireWhole(t *testing.T, c call, r reply, status int, code string) {
	t.Helper()
	requireProblem(t, r, status, code)
	typ := "/problems/" + strings.ReplaceAll(code, "_", "-")
	switch status {
	case http.StatusTooManyRequests:
		typ = typeQuota
	case http.StatusServiceUnavailable:
		typ = typeReduced
	}
	path, _, _ := strings.Cut(c.path, "?")
	require.Equal(t, []any{typ, path}, []any{r.field(t, "type"), r.field(t, "instance")}, "type and instance of %s", r.raw)
	for _, name := range []string{"title", "detail", "request_id"} {
		require.NotEmpty(t, r.field(t, name), "%s of %s", name, r.raw)
	}
	require.Equal(t, []string{"no-store", "nosniff"}, []string{r.header.Get("Cache-Control"), r.header.Get("X-Content-Type-Options")}, "header of %s", r.raw)
	items, _ := r.json(t)["errors"].([]any)
	for _, item := range items {
		m, _ := item.(map[string]any)
		require.NotEmpty(t, m["detail"], "detail of each place in %s", r.raw)
		if pointer, given := m["pointer"]; given { // RFC 6901 as a URI fragment
			require.Regexp(t, `^#(/[^/]*)*$`, pointer, "place in %s", r.raw)
		}
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		require.Positive(t, retryAfterOf(t, r), "Retry-After of %s", r.raw)
	}
}

func retryAfterOf(t *testing.T, r reply) int {
	t.Helper()
	n, err := strconv.Atoi(r.header.Get("Retry-After"))
	require.NoError(t, err, "Retry-After is whole seconds")
	return n
}

// item is one of a Structured Fields List whose items are Strings (RFC 9651 section 3.1).
type item struct {
	name   string
	params map[string]string // as they are written
}

var (
	itemForm  = regexp.MustCompile(`^"((?:[ !#-\[\]-~]|\\["\\])*)"((?:;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:-?[0-9]{1,15}|"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:))?)*)`)
	paramForm = regexp.MustCompile(`;[ ]*([a-z*][a-z0-9_.*-]*)(?:=(-?[0-9]{1,15}|"[^"]*"|:[^:]*:))?`)
)

// parseList reads such a List strictly: what it cannot read is an error, as RFC 9651 section
// 4.2 has it.
func parseList(text string) (out []item, err error) {
	for rest := text; ; {
		found := itemForm.FindStringSubmatch(rest)
		if found == nil {
			return nil, fmt.Errorf("no item at %q", rest)
		}
		next := item{name: found[1], params: make(map[string]string)}
		for _, p := range paramForm.FindAllStringSubmatch(found[2], -1) {
			next.params[p[1]] = p[2]
		}
		out = append(out, next)
		if rest = strings.TrimLeft(rest[len(found[0]):], " \t"); rest == "" {
			return out, nil
		}
		if rest[0] != ',' {
			return nil, fmt.Errorf("no comma at %q", rest)
		}
		rest = strings.TrimLeft(rest[1:], " \t")
	}
}

func TestListsOfStructuredFieldsAreReadStrictly(t *testing.T) {
	t.Parallel()
	got, err := parseList(`"permin";q=50;w=60, "perhr";q=1000;w=3600;qu="requests";pk=:AQI=:`)
	require.NoError(t, err, "read a list")
	require.Equal(t, []item{
		{"permin", map[string]string{"q": "50", "w": "60"}},
		{"perhr", map[string]string{"q": "1000", "w": "3600", "qu": `"requests"`, "pk": ":AQI=:"}},
	}, got, "the list")
	for _, bad := range []string{"", `submit;q=1`, `"a";q=1,`, `"a" "b"`, `"a";Q=1`, `"a";q=1.5x`, `"a`, `"a";q=`} {
		_, err := parseList(bad)
		require.Error(t, err, "read %s", bad)
	}
}

// requireRateLimit asserts that the RateLimit fields of an answer are those of
// draft-ietf-httpapi-ratelimit-headers, about one policy, and returns what is left.
func requireRateLimit(t *testing.T, r reply, name string) (left int) {
	t.Helper()
	number := func(i item, param string) int {
		n, err := strconv.Atoi(i.params[param])
		require.NoError(t, err, "%s of %s", param, i.name)
		require.GreaterOrEqual(t, n, 0, "%s of %s", param, i.name)
		return n
	}
	policies, err := parseList(strings.Join(r.header["Ratelimit-Policy"], ", "))
	require.NoError(t, err, "RateLimit-Policy")
	limits, err := parseList(strings.Join(r.header["Ratelimit"], ", "))
	require.NoError(t, err, "RateLimit")
	require.Equal(t, []any{1, name, 1, name}, []any{len(policies), policies[0].name, len(limits), limits[0].name}, "policies")
	require.Positive(t, number(policies[0], "q"), "q is required")
	if unit, given := policies[0].params["qu"]; given {
		require.Contains(t, []string{`"requests"`, `"content-bytes"`, `"concurrent-requests"`}, unit, "qu")
	}
	if _, given := limits[0].params["t"]; given && r.status == http.StatusTooManyRequests {
		require.GreaterOrEqual(t, retryAfterOf(t, r), number(limits[0], "t"), "Retry-After is no earlier than the reset")
	}
	for name := range r.header {
		require.False(t, strings.HasPrefix(name, "X-Ratelimit"), "%s means something else to everybody", name)
	}
	return number(limits[0], "r")
}

func post(body string, pairs ...string) call {
	return call{method: "POST", path: "/v1/tickets", body: body, header: headers(append([]string{"Idempotency-Key", freshKey()}, pairs...)...)}
}

// TestContractProblems has a row for each status and each reason for it.
func TestContractProblems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended := b.submit(t, deletion).id(t)
	b.decide(t, ended, "bo", approvals.Deny)
	open := b.submit(t, deletion).id(t)
	for name, c := range map[string]struct {
		call   call
		status int
		code   string
		place  string // of the first error, after its kind
	}{
		"400 malformed JSON":             {post(`{"upstream":`), 400, "malformed_json", ""},
		"400 malformed header":           {call{method: "GET", path: "/v1/tickets/" + open, header: headers("If-None-Match", "1")}, 400, "invalid_header", "header:If-None-Match"},
		"400 malformed query":            {call{method: "GET", path: "/v1/tickets?page_size=x"}, 400, "invalid_parameter", "parameter:page_size"},
		"400 missing Idempotency-Key":    {call{method: "POST", path: "/v1/tickets", body: deletion}, 400, "idempotency_key_missing", ""},
		"400 bad page token":             {call{method: "GET", path: "/v1/tickets?page_token=forged"}, 400, "bad_page_token", "parameter:page_token"},
		"401 no credentials":             {call{method: "GET", path: "/v1/tickets", key: "-"}, 401, "unauthenticated", ""},
		"403 upstream not allowed":       {post(strings.Replace(deletion, "billing", "vault", 1)), 403, "upstream_not_allowed", "pointer:#/upstream"},
		"403 method not allowed":         {post(`{"upstream":"crm","method":"DELETE","path":"/x"}`), 403, "upstream_method_not_allowed", "pointer:#/method"},
		"403 key without the scope":      {call{method: "POST", path: "/v1/tickets/" + open + "/cancel", key: b.people["readkey"]}, 403, "scope_missing", ""},
		"404 unknown":                    {call{method: "GET", path: "/v1/tickets/" + noTicketID}, 404, "not_found", ""},
		"406 representation":             {call{method: "GET", path: "/v1/tickets/" + open, header: headers("Accept", "text/html")}, 406, "not_acceptable", ""},
		"415 representation":             {post(deletion, "Content-Type", "text/plain"), 415, "unsupported_media_type", ""},
		"409 already final":              {call{method: "POST", path: "/v1/tickets/" + ended + "/cancel"}, 409, "already_final", ""},
		"409 no result":                  {call{method: "GET", path: "/v1/tickets/" + ended + "/result"}, 409, "no_result", ""},
		"412 If-Match failed":            {call{method: "POST", path: "/v1/tickets/" + open + "/cancel", header: headers("If-Match", `"9"`)}, 412, "precondition_failed", ""},
		"422 semantically invalid":       {post(strings.Replace(deletion, "/customers/42", "customers", 1)), 422, "call_invalid", "pointer:#/path"},
		"422 callback URL refused":       {post(strings.Replace(deletion, "{", `{"callback":{"url":"https://evil.example/x"},`, 1)), 422, "callback_refused", "pointer:#/callback/url"},
		"405 method, with Allow":         {call{method: "PATCH", path: "/v1/tickets/" + open}, 405, "method_not_allowed", ""},
		"404 an address that is nowhere": {call{method: "GET", path: "/v1/nowhere"}, 404, "not_found", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			r := b.do(t, c.call)
			requireWhole(t, c.call, r, c.status, c.code)
			if c.place != "" {
				kind, want, _ := strings.Cut(c.place, ":")
				items, _ := r.field(t, "errors").([]any)
				require.NotEmpty(t, items, "places of %s", r.raw)
				first, _ := items[0].(map[string]any)
				require.Equal(t, want, first[kind], "place in %s", r.raw)
			}
			switch c.status {
			case http.StatusUnauthorized:
				require.Equal(t, `Bearer realm="countersign"`, r.header.Get("Www-Authenticate"), "a challenge (RFC 9110 section 15.5.2)")
			case http.StatusMethodNotAllowed:
				require.Equal(t, "OPTIONS, GET", r.header.Get("Allow"), "Allow")
			case http.StatusPreconditionFailed:
				require.Equal(t, `"1"`, r.header.Get("ETag"), "the version it is at")
			case http.StatusConflict:
				require.Equal(t, "denied", r.field(t, "state"), "the state that is the reason")
			}
		})
	}
	t.Run("409 endpoint disabled", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := newDelivery(t, b, "other")
		endpoint := b.endpoint(t, "other", originOf["other"])
		require.Equal(t, 200, b.do(t, call{method: "POST", path: "/v1/callback-endpoints/" + endpoint + "/disable", key: b.other, body: `{"reason":"moved"}`}).status, "disable")
		c := call{method: "POST", path: "/v1/deliveries/" + id + "/redeliver", key: b.other}
		requireWhole(t, c, b.do(t, c), 409, "endpoint_disabled")
	})
	t.Run("422 key reused", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := post(deletion)
		require.Equal(t, http.StatusAccepted, b.do(t, c).status, "the first")
		c.body = strings.Replace(deletion, "991", "992", 1)
		requireWhole(t, c, b.do(t, c), 422, "idempotency_key_reused")
	})
	t.Run("413 body over the published limit", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := post(strings.Replace(deletion, "case 991", strings.Repeat("x", 1<<20), 1)) // what openapi.yaml says
		requireWhole(t, c, b.do(t, c), 413, "body_too_large")
		require.Contains(t, string(b.do(t, call{method: "GET", path: "/openapi.yaml", key: "-"}).raw), "1 MiB", "the limit is published")
	})
	t.Run("problem type is one that IANA registers, or has a page", func(t *testing.T) {
		t.Parallel()
		proves(t)
		r := b.get(t, "/v1/tickets/"+noTicketID)
		page, _ := r.field(t, "type").(string)
		require.Equal(t, http.StatusOK, b.do(t, call{method: "GET", path: page, key: "-", header: headers("Accept", "application/json")}).status, "the page of %s", page)
	})
	t.Run("404 says the same of what is not there and what is another's", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for _, path := range []string{"", "/result", "/events"} {
			say := func(id string) string {
				r := b.do(t, call{method: "GET", path: "/v1/tickets/" + id + path, key: b.other, header: headers("X-Request-Id", "same")})
				require.Equal(t, http.StatusNotFound, r.status, "status")
				return strings.ReplaceAll(string(r.raw), id, "ID")
			}
			require.Equal(t, say(noTicketID), say(open), "the body at %s", path)
		}
	})
}

// TestContractQuotas has a row for each quota that is answered by 429.
func TestContractQuotas(t *testing.T) {
	t.Parallel()
	limited := func(t *testing.T, limits policy.Limits, change ...func(*api.Config)) *bundle {
		t.Helper()
		b := setup(t, change...)
		b.limit(limits)
		return b
	}
	refused := func(t *testing.T, b *bundle, c call, name string) {
		t.Helper()
		r := b.do(t, c)
		requireWhole(t, c, r, 429, "quota_exceeded")
		require.Equal(t, []any{name}, r.field(t, "violated-policies"), "violated-policies")
		require.Zero(t, requireRateLimit(t, r, name), "what is left")
	}
	read := call{method: "GET", path: "/v1/tickets"}
	t.Run("429 too many submits", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := limited(t, policy.Limits{Submit: policy.Rate{N: 1, Per: time.Hour}})
		require.Zero(t, requireRateLimit(t, b.submit(t, deletion), "submit"), "what is left after the first")
		refused(t, b, post(deletion), "submit")
		refused(t, b, call{method: "PUT", path: "/proxy/billing/x"}, "submit")
	})
	t.Run("429 too many reads", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := limited(t, policy.Limits{Read: policy.Rate{N: 2, Per: time.Minute}})
		require.Equal(t, 1, requireRateLimit(t, b.do(t, read), "read"), "what is left after the first")
		require.Zero(t, requireRateLimit(t, b.do(t, read), "read"), "what is left after the second")
		refused(t, b, read, "read")
	})
	t.Run("429 too many open tickets", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := limited(t, policy.Limits{Open: 1})
		b.submit(t, deletion)
		refused(t, b, post(deletion), "open-tickets")
	})
	t.Run("429 too many who wait", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := limited(t, policy.Limits{Waiting: 1})
		path := "/v1/tickets/" + b.submit(t, deletion).id(t)
		first := b.inBackground(t, call{method: "GET", path: path + "?wait=50s"})
		eventually(t, "the first to wait", func() bool { return api.Waiting(b.server) == 1 })
		refused(t, b, call{method: "GET", path: path + "?wait=50s"}, "waiting")
		b.server.Drain()
		require.Equal(t, http.StatusOK, receive(t, first).status, "the first is answered")
	})
	t.Run("429 too many failed authentications", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := limited(t, policy.Limits{})
		wrong := call{method: "GET", path: "/v1/tickets", key: "csk_wrong"}
		for range 10 {
			requireWhole(t, wrong, b.do(t, wrong), 401, "unauthenticated")
		}
		refused(t, b, wrong, "auth-failures")
	})
}

// TestContractOutages has a row for each reason to be answered by 503.
func TestContractOutages(t *testing.T) {
	t.Parallel()
	t.Run("503 database down", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b, cut := setupBehindWire(t)
		cut()
		for _, c := range []call{post(deletion), {method: "GET", path: "/v1/tickets"}, {method: "PUT", path: "/proxy/billing/x"}} {
			requireWhole(t, c, b.do(t, c), 503, "unavailable")
		}
		ready := call{method: "GET", path: "/readyz", key: "-"}
		requireWhole(t, ready, b.do(t, ready), 503, "not_ready")
	})
	t.Run("503 shutting down", func(t *testing.T) {
		t.Parallel()
		proves(t)
		pool := dbtest.Pool(t)
		store := dbtest.Store(t, pool, &dbtest.Outbox{})
		b := setupOn(t, store)
		b.server.Drain()
		ready := call{method: "GET", path: "/readyz", key: "-"}
		requireWhole(t, ready, b.do(t, ready), 503, "not_ready")
		store.Close()
		for _, c := range []call{post(deletion), {method: "PUT", path: "/proxy/billing/x"}} {
			requireWhole(t, c, b.do(t, c), 503, "unavailable")
		}
	})
}
