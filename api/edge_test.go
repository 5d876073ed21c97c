package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/policy"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{MaxBody: -1})
	for _, name := range []string{"Store", "Policy", "CheckCall", "CheckCallbackURL", "Now", "MaxBody"} {
		require.ErrorContains(t, err, "api.New: "+name+" is", "what is missing or wrong")
	}
}

func TestOnlyAValidKeyOpensTheAPI(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, h := range map[string]http.Header{
		"none":             {},
		"empty":            {"Authorization": {""}},
		"another scheme":   {"Authorization": {"Basic " + b.key}},
		"no scheme":        {"Authorization": {b.key}},
		"cut":              {"Authorization": {"Bearer " + b.key[:len(b.key)-1]}},
		"two":              {"Authorization": {"Bearer " + b.key, "Bearer " + b.key}},
		"another header":   {"X-Api-Key": {b.key}},
		"no key at all":    {"Authorization": {"Bearer "}},
		"far too long one": {"Authorization": {"Bearer " + strings.Repeat("x", 4096)}},
	} {
		r := b.do(t, call{method: "GET", path: "/v1/tickets", key: "-", header: h})
		requireProblem(t, r, http.StatusUnauthorized, "unauthenticated")
		require.Contains(t, r.header.Get("Www-Authenticate"), `Bearer realm="countersign"`, "challenge for %s", name)
	}
	r := b.do(t, call{method: "GET", path: "/v1/tickets", key: "-", header: headers("Authorization", "bearer "+b.key)})
	require.Equal(t, http.StatusOK, r.status, "the scheme is not case-sensitive")
	require.NotContains(t, b.logs.String(), b.key[8:], "keys are in no log")
}

func TestFailedAuthenticationsAreSlowedDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wrong := call{method: "GET", path: "/v1/tickets", key: "csk_wrong", header: headers("X-Forwarded-For", "203.0.113.9")}
	for range 10 {
		requireProblem(t, b.do(t, wrong), http.StatusUnauthorized, "unauthenticated")
	}
	wrong.header.Set("X-Forwarded-For", "203.0.113.10") // whoever it claims to be
	wrong.header.Set("X-Real-Ip", "203.0.113.11")
	r := b.do(t, wrong)
	requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
	require.Equal(t, "6", r.header.Get("Retry-After"), "Retry-After")
	require.Equal(t, []any{"auth-failures"}, r.field(t, "violated-policies"), "violated-policies")
	require.Equal(t, http.StatusOK, b.get(t, "/v1/tickets").status, "a valid key is not held up")
	b.clock.move(6 * time.Second)
	requireProblem(t, b.do(t, wrong), http.StatusUnauthorized, "unauthenticated")
}

func TestThrottleCountsPerNetworkInBoundedMemory(t *testing.T) {
	t.Parallel()
	got := api.Throttled([]string{"192.0.2.1", "::ffff:192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"}, 20)
	require.Equal(t, 10, got["192.0.2.1"], "an IPv4 address has its own")
	require.Equal(t, 10, got["::ffff:192.0.2.2"], "so has another")
	require.Equal(t, 10, got["2001:db8::1"]+got["2001:db8::2"], "an IPv6 /64 shares one")
	require.Equal(t, 10, got["2001:db8:0:1::1"], "the next /64 has its own")
	require.LessOrEqual(t, api.Remembered(20_000), 8192, "addresses remembered")
}

func TestAddressesAndMethodsThatDoNotExistAreProblems(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	for _, path := range []string{"/", "/v1", "/v1/ticketz", "/v1/tickets/", "/v1/tickets/x/y", "/slack/interactions", "/metrics", "/debug/pprof/"} {
		requireProblem(t, b.do(t, call{method: "GET", path: path, key: "-"}), http.StatusNotFound, "not_found")
	}
	requireProblem(t, b.do(t, call{method: "POST", path: "/slack/interactions", key: "-", body: "{}"}), http.StatusNotFound, "not_found")
	r := b.do(t, call{method: "DELETE", path: "/v1/tickets", key: "-"})
	requireProblem(t, r, http.StatusMethodNotAllowed, "method_not_allowed")
	require.Contains(t, r.header.Get("Allow"), "POST", "Allow")
	long := b.do(t, call{method: "GET", path: "/" + strings.Repeat("x", 5000), key: "-"})
	require.Less(t, len(long.raw), 1000, "what is repeated is bounded")
}

func TestSlackHasItsOwnDoor(t *testing.T) {
	t.Parallel()
	var seen []byte
	b := setupOn(t, broken{}, func(c *api.Config) {
		c.MaxBody = 10
		c.Slack = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusOK)
		})
	})
	req := b.request(t, call{method: "POST", path: "/slack/interactions", key: "-", body: "payload=%7B%7D&signed=exactly"})
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "post as Slack does")
	defer res.Body.Close() //nolint:errcheck // only the status matters
	require.Equal(t, http.StatusOK, res.StatusCode, "status")
	require.Equal(t, "payload=%7B%7D&signed=exactly", string(seen), "the raw bytes, which are signed")
}

func TestPanicIsAnInternalProblemWithoutDetail(t *testing.T) {
	t.Parallel()
	for name, thrown := range map[string]any{
		"an error":         errors.New("secret detail"),
		"a polite refusal": &approvals.Error{Code: approvals.CodeNotFound, Message: "secret detail"},
		"a text":           "secret detail",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupOn(t, broken{}, func(c *api.Config) {
				c.CheckCall = func(string, string, []approvals.Header) error { panic(thrown) }
			})
			r := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "k")})
			requireProblem(t, r, http.StatusInternalServerError, "internal")
			require.NotContains(t, string(r.raw), "secret detail", "the answer")
			require.Contains(t, b.logs.String(), "secret detail", "the log has the cause")
			require.Contains(t, b.logs.String(), "edge_test.go", "and the stack")
		})
	}
}

func TestOneLineIsLoggedPerRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.do(t, call{
		method: "POST", path: "/v1/tickets", body: strings.Replace(deletion, "case 991", "canary", 1),
		header: headers("Idempotency-Key", "canary", "X-Request-Id", "req-1"),
	})
	b.get(t, "/v1/tickets?page_token=canary")
	var lines []map[string]any
	eventually(t, "both lines", func() bool { // a line is written after its answer
		lines = lines[:0]
		for line := range strings.Lines(b.logs.String()) {
			var m map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &m), "decode %s", line)
			lines = append(lines, m)
		}
		return len(lines) == 2
	})
	for name, want := range map[string]any{
		"msg": "request", "level": "INFO", "request_id": "req-1", "method": "POST", "route": "/v1/tickets",
		"status": 202.0, "caller": "payroll", "ticket_id": r.id(t), "remote_ip": "127.0.0.1",
	} {
		require.Equal(t, want, lines[0][name], "attribute %s", name)
	}
	require.Equal(t, "bad_page_token", lines[1]["problem"], "the problem that was answered")
	require.NotContains(t, b.logs.String(), "canary", "bodies, keys and queries are not logged")
}

func TestRequestIDsAreTakenOverOnlyWhenClean(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	health := func(pairs ...string) string {
		return b.do(t, call{method: "GET", path: "/healthz", key: "-", header: headers(pairs...)}).header.Get("X-Request-Id")
	}
	require.Equal(t, "trace-1.A_b", health("X-Request-Id", "trace-1.A_b"), "a clean one")
	for _, bad := range []string{"a b", "<script>", strings.Repeat("x", 65), "é", ""} {
		require.Regexp(t, `^[0-9a-z]{26}$`, health("X-Request-Id", bad), "in place of %q", bad)
	}
	require.Regexp(t, `^[0-9a-z]{26}$`, health("X-Request-Id", "a", "X-Request-Id", "b"), "in place of two")
}

func TestAnswersCarrySafeHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, r := range []reply{b.get(t, "/v1/tickets"), b.get(t, "/v1/nothing"), b.submit(t, deletion)} {
		require.Equal(t, "nosniff", r.header.Get("X-Content-Type-Options"), "X-Content-Type-Options")
		require.Contains(t, r.header.Get("Content-Security-Policy"), "default-src 'none'", "Content-Security-Policy")
		require.Empty(t, r.header.Get("Access-Control-Allow-Origin"), "no other site may read it")
		require.Empty(t, r.header.Get("Server"), "nobody needs to know")
	}
	problem := b.get(t, "/v1/tickets?x=1")
	require.Equal(t, "no-store", problem.header.Get("Cache-Control"), "problems are not kept")
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.do(t, call{method: "GET", path: "/readyz", key: "-"})
	require.Equal(t, http.StatusOK, r.status, "with a database")
	require.JSONEq(t, `{"status":"ready","version":"test"}`, string(r.raw), "body")
	_, err := b.pool.Exec(t.Context(), `RESET ROLE; UPDATE schema_migrations SET version = 1`)
	require.NoError(t, err, "pretend an old schema")
	requireProblem(t, b.do(t, call{method: "GET", path: "/readyz", key: "-"}), http.StatusServiceUnavailable, "not_ready")
}

func TestSlowStoreIsCutOff(t *testing.T) {
	t.Parallel()
	b, _ := setupBehindWire(t)
	id := b.submit(t, deletion).id(t)
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err, "begin")
	defer tx.Rollback(t.Context()) //nolint:errcheck // the end of the test
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE`, id)
	require.NoError(t, err, "hold the ticket")
	hasty := setupOn(t, b.store, func(c *api.Config) { c.RequestTimeout = 100 * time.Millisecond })
	r := hasty.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/cancel"})
	requireProblem(t, r, http.StatusServiceUnavailable, "unavailable")
}

func TestConfigurationThatIsNotThereIsNotReady(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{}, func(c *api.Config) { c.Policy = func() *policy.Config { return nil } })
	requireProblem(t, b.get(t, "/v1/tickets"), http.StatusServiceUnavailable, "not_ready")
}
