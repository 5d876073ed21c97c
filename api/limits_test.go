package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/policy"
)

// limit puts limits on the caller payroll.
func (b *bundle) limit(limits policy.Limits) {
	changed := *b.config
	changed.Callers = slices.Clone(changed.Callers)
	for i := range changed.Callers {
		if changed.Callers[i].Name == "payroll" {
			changed.Callers[i].Limits = limits
		}
	}
	b.config = &changed
}

func rateLimits(r reply) (policy, left string) {
	return strings.Join(r.header["Ratelimit-Policy"], "|"), strings.Join(r.header["Ratelimit"], "|")
}

func TestNothingIsSaidOfLimitsWhereThereAreNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, r := range []reply{b.submit(t, deletion), b.get(t, "/v1/tickets"), b.do(t, call{method: "GET", path: "/healthz", key: "-"})} {
		policy, left := rateLimits(r)
		require.Empty(t, policy+left, "RateLimit fields of %s", r.raw)
	}
}

func TestEveryAnswerOfALimitedOperationSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.limit(policy.Limits{Submit: policy.Rate{N: 3, Per: time.Minute}, Read: policy.Rate{N: 4, Per: time.Hour}})
	submit := func(key, body string) reply {
		return b.do(t, call{method: "POST", path: "/v1/tickets", body: body, header: headers("Idempotency-Key", key)})
	}
	step := func(r reply, status int, wantPolicy, wantLeft string) {
		t.Helper()
		policy, left := rateLimits(r)
		require.Equal(t, []any{status, wantPolicy, wantLeft}, []any{r.status, policy, left}, "%s", r.raw)
	}
	first := submit("a", deletion)
	step(first, 202, `"submit";q=3;w=60`, `"submit";r=2;t=20`)
	step(submit("b", `{"upstream":"none","method":"GET","path":"/"}`), 403, `"submit";q=3;w=60`, `"submit";r=1;t=40`)
	step(submit("a", deletion), 202, `"submit";q=3;w=60`, `"submit";r=0;t=20`)
	b.clock.move(time.Second)
	refused := submit("c", `not even read`)
	step(refused, 429, `"submit";q=3;w=60`, `"submit";r=0;t=19`)
	requireProblem(t, refused, http.StatusTooManyRequests, "quota_exceeded")
	require.Equal(t, "19", refused.header.Get("Retry-After"), "no earlier than the reset")
	require.Equal(t, "https://iana.org/assignments/http-problem-types#quota-exceeded", refused.field(t, "type"), "type")
	require.Equal(t, []any{"submit"}, refused.field(t, "violated-policies"), "violated policies")
	require.Equal(t, 1, b.tickets(t), "tickets")

	ticket := "/v1/tickets/" + first.id(t)
	step(b.get(t, ticket), 200, `"read";q=4;w=3600`, `"read";r=3;t=900`)
	step(b.get(t, ticket, "If-None-Match", first.header.Get("ETag")), 304, `"read";q=4;w=3600`, `"read";r=2;t=1800`)
	step(b.get(t, "/v1/tickets/"+noTicketID), 404, `"read";q=4;w=3600`, `"read";r=1;t=2700`)
	step(b.do(t, call{method: "POST", path: ticket + "/decisions"}), 403, `"read";q=4;w=3600`, `"read";r=0;t=900`)
	step(b.get(t, ticket), 429, `"read";q=4;w=3600`, `"read";r=0;t=900`)
	require.Equal(t, 202, b.do(t, call{
		method: "POST", path: "/v1/tickets", body: deletion, key: b.other, header: headers("Idempotency-Key", "a"),
	}).status, "other callers have limits of their own")

	b.clock.move(19 * time.Second)
	again := submit("c", deletion)
	step(again, 202, `"submit";q=3;w=60`, `"submit";r=0;t=20`)
	require.Empty(t, again.header.Get("Idempotent-Replayed"), "the refused request did not use up its key")
	step(b.as(t, "bo", "GET", "/v1/tickets", ""), 200, `"person";q=1200;w=60`, `"person";r=1199;t=1`)
}

func TestALimitIsOfTheCallerAndNotOfAKeyOrAnAddress(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.limit(policy.Limits{Read: policy.Rate{N: 2, Per: time.Minute}})
	for i, want := range []int{200, 200, 429, 429} {
		r := b.do(t, call{
			method: "GET", path: "/v1/tickets", key: []string{b.key, b.people["readkey"]}[i%2],
			header: headers("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i), "Forwarded", fmt.Sprintf("for=203.0.113.%d", i)),
		})
		require.Equal(t, want, r.status, "request %d", i)
	}
}

// TestARequestOverTheLimitIsRefusedBeforeItsBodyIsSent announces a body and sends none.
func TestARequestOverTheLimitIsRefusedBeforeItsBodyIsSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.limit(policy.Limits{Submit: policy.Rate{N: 1, Per: time.Hour}})
	b.submit(t, deletion)
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(b.url, "http://"))
	require.NoError(t, err, "connect")
	defer conn.Close() //nolint:errcheck // nothing more is said
	require.NoError(t, conn.SetDeadline(wallClock().Add(patience)), "bound the wait")
	_, err = fmt.Fprintf(conn, "POST /v1/tickets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nIdempotency-Key: k\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", b.key)
	require.NoError(t, err, "send the head")
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err, "read the answer")
	require.Equal(t, "HTTP/1.1 429 Too Many Requests\r\n", line, "answer")
}

func TestALimitGrantsItsRateAndNoMore(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit policy.Rate
		every time.Duration // how often somebody tries
		over  time.Duration
		want  int
	}{
		"slower than the limit":  {policy.Rate{N: 60, Per: time.Minute}, time.Second, time.Hour, 3600},
		"ten times as fast":      {policy.Rate{N: 60, Per: time.Minute}, 100 * time.Millisecond, time.Hour, 3600 + 59},
		"all at once":            {policy.Rate{N: 100, Per: time.Hour}, time.Millisecond, time.Second, 100},
		"one a second":           {policy.Rate{N: 1, Per: time.Second}, 10 * time.Millisecond, 10 * time.Second, 10},
		"not a divisor":          {policy.Rate{N: 7, Per: time.Second}, time.Millisecond, 10 * time.Second, 70 + 6},
		"more than the clock is": {policy.Rate{N: 9_999_999, Per: time.Second}, time.Millisecond, time.Second, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			granted := api.Granted(c.limit, c.every, int(c.over/c.every))
			require.Equal(t, c.want, granted)
		})
	}
}

func TestALimiterForgetsThoseWhoHaveNotComeForLong(t *testing.T) {
	t.Parallel()
	require.Less(t, api.Buckets(100_000), 10_000, "buckets that are kept")
}

func TestAClockThatGoesBackHoldsNobodyUpForLongerThanTheLimitSays(t *testing.T) {
	t.Parallel()
	wait := api.AfterClockWentBack(policy.Rate{N: 10, Per: time.Minute}, 24*time.Hour)
	require.Equal(t, 6*time.Second, wait)
}

func TestACallerWithTooManyOpenTicketsIsToldSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.limit(policy.Limits{Open: 2})
	first := b.submit(t, deletion).id(t)
	b.submit(t, deletion)
	submit := func(body string) reply {
		return b.do(t, call{method: "POST", path: "/v1/tickets", body: body, header: headers("Idempotency-Key", "one-more")})
	}
	r := submit(deletion)
	requireProblem(t, r, http.StatusTooManyRequests, "quota_exceeded")
	require.Equal(t, []any{"open-tickets"}, r.field(t, "violated-policies"), "violated policies")
	require.NotEmpty(t, r.header.Get("Retry-After"), "Retry-After")
	require.Contains(t, r.field(t, "detail"), "2 tickets", "detail")
	policy, left := rateLimits(r)
	require.Equal(t, []string{`"open-tickets";q=2`, `"open-tickets";r=0`}, []string{policy, left}, "RateLimit fields")
	require.Equal(t, 2, b.tickets(t), "tickets")
	require.Equal(t, 200, b.do(t, call{method: "POST", path: "/v1/tickets/" + first + "/cancel"}).status, "cancel one")
	eventually(t, "there is room, and the key is free", func() bool { return submit(deletion).status == http.StatusAccepted })
}
