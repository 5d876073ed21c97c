package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

// with is a call under another key.
func (c call) with(key string) call {
	c.header = c.header.Clone()
	c.header.Set("Idempotency-Key", key)
	return c
}

// requireReplay asserts that an answer is that of a ticket there is already.
func requireReplay(t *testing.T, first, again reply) {
	t.Helper()
	require.Equal(t, http.StatusAccepted, again.status, "again: %s", again.raw)
	require.Equal(t, []string{"true", first.header.Get("Location")},
		[]string{again.header.Get("Idempotent-Replayed"), again.header.Get("Location")}, "a replay of the first")
	require.Equal(t, first.id(t), again.id(t), "the ticket")
}

// TestContractIdempotency has a row for each case of an Idempotency-Key.
func TestContractIdempotency(t *testing.T) {
	t.Parallel()
	b := setup(t)
	accepted := func(t *testing.T, b *bundle, c call) reply {
		t.Helper()
		r := b.do(t, c)
		require.Equal(t, http.StatusAccepted, r.status, "%s %s: %s", c.method, c.path, r.raw)
		require.Empty(t, r.header.Get("Idempotent-Replayed"), "it is a new one")
		return r
	}
	front := func(method, path, body string) call {
		return call{method: method, path: "/proxy/" + path, body: body, header: make(http.Header)}
	}
	t.Run("key missing", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := call{method: "POST", path: "/v1/tickets", body: deletion}
		r := b.do(t, c)
		requireWhole(t, c, r, 400, "idempotency_key_missing")
		require.Equal(t, `</openapi.yaml>; rel="describedby"; type="application/yaml"`, r.header.Get("Link"), "where it is documented")
		require.Contains(t, string(b.do(t, call{method: "GET", path: "/openapi.yaml", key: "-"}).raw), "### Idempotency", "the documentation")
	})
	t.Run("a replay finds its ticket although the call would be refused by now", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		c := post(deletion)
		first := accepted(t, b, c)
		text := b.text(t, "", "")
		until := "away: {until: " + b.clock.now().AddDate(0, 1, 0).Format(time.DateOnly) + "}, "
		for what, changed := range map[string]string{
			"the upstream is closed for it": replaceOnce(t, text, `{name: billing, `, `{name: billing, methods: [GET, HEAD, POST, PUT, PATCH, OPTIONS], `),
			"nobody is left to approve it":  replaceOnce(t, replaceOnce(t, text, "{name: bo, ", "{name: bo, "+until), "{name: chen, ", "{name: chen, "+until),
		} {
			b.config = parseConfig(t, changed)
			requireReplay(t, first, b.do(t, c))
			fresh := b.do(t, post(deletion))
			require.GreaterOrEqual(t, fresh.status, 400, "a new one is refused: %s", what)
			other := post(strings.Replace(deletion, "42", "43", 1)).with(c.header.Get("Idempotency-Key"))
			require.GreaterOrEqual(t, b.do(t, other).status, 400, "the key is of use for the very same submit only: %s", what)
		}
		require.Equal(t, 1, b.tickets(t), "nothing was opened besides")
	})
	t.Run("same key, same fingerprint, ticket committed", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := post(deletion)
		first := accepted(t, b, c)
		b.decide(t, first.id(t), "bo", approvals.Deny)
		again := b.do(t, c)
		requireReplay(t, first, again)
		now := b.get(t, "/v1/tickets/"+first.id(t))
		require.JSONEq(t, string(now.raw), string(again.raw), "the current ticket")
		require.Equal(t, now.header.Get("ETag"), again.header.Get("ETag"), "its version")
		require.Empty(t, again.header.Get("Retry-After"), "there is nothing to wait for")
	})
	t.Run("same key, original insert still running", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		tx, err := b.pool.Begin(t.Context())
		require.NoError(t, err, "begin")
		defer tx.Rollback(t.Context()) //nolint:errcheck // the end of the test
		_, err = tx.Exec(t.Context(), `LOCK TABLE idempotency_keys IN SHARE MODE`)
		require.NoError(t, err, "hold up the first")
		c := post(deletion)
		first := b.inBackground(t, c)
		eventually(t, "the first to be held up", func() bool {
			var waiting int
			err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'idempotency_keys'::regclass
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&waiting)
			return err == nil && waiting == 1
		})
		r := b.do(t, c)
		requireWhole(t, c, r, 409, "idempotency_in_progress")
		require.Equal(t, "1", r.header.Get("Retry-After"), "Retry-After")
		require.NoError(t, tx.Rollback(t.Context()), "let the first go on")
		requireReplay(t, receive(t, first), b.do(t, c))
	})
	t.Run("same key, different fingerprint", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := post(deletion)
		first := accepted(t, b, c)
		other := c
		other.body = strings.Replace(deletion, "991", "992", 1)
		requireWhole(t, other, b.do(t, other), 422, "idempotency_key_reused")
		requireReplay(t, first, b.do(t, c))
	})
	t.Run("validation failure, 401, 429: key not used up", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		b.limit(policy.Limits{Submit: policy.Rate{N: 5, Per: time.Hour}})
		good := post(deletion)
		try := func(status int, c call) {
			t.Helper()
			require.Equal(t, status, b.do(t, c).status, "status")
		}
		bad := func(body string) call { c := good; c.body = body; return c }
		stranger := good
		stranger.key = "csk_wrong"
		try(401, stranger)
		try(400, bad("{"))
		try(422, bad(strings.Replace(deletion, "42", "../x", 1)))
		try(403, bad(strings.Replace(deletion, "billing", "vault", 1)))
		try(422, bad(`{"upstream":"billing","method":"PUT","path":"/x","on_behalf_of":"bo"}`))
		try(413, bad(strings.Replace(deletion, "case 991", strings.Repeat("x", 1<<20), 1))) // the limit is in front of the quota
		try(202, post(deletion))
		try(429, good)
		b.clock.move(time.Hour)
		r := b.do(t, good)
		require.Equal(t, http.StatusAccepted, r.status, "%s", r.raw)
		require.Empty(t, r.header.Get("Idempotent-Replayed"), "nothing was there under the key")
		require.Equal(t, 2, b.tickets(t), "tickets")
	})
	t.Run("scope: caller, method and route template, key", func(t *testing.T) {
		t.Parallel()
		proves(t)
		key, ids := freshKey(), make(map[string]bool)
		theirs := post(deletion)
		theirs.key = b.other
		calls := []call{post(deletion), theirs, front("PUT", "billing/x", ""), front("POST", "billing/x", ""), front("DELETE", "billing/x", "")}
		for _, c := range calls {
			ids[accepted(t, b, c.with(key)).id(t)] = true
		}
		require.Len(t, ids, len(calls), "each has a ticket of its own")
		elsewhere := front("PUT", "billing/y", "").with(key)
		requireWhole(t, elsewhere, b.do(t, elsewhere), 422, "idempotency_key_reused") // the template is the same
	})
	t.Run("fingerprint: canonical JSON of the body, without Prefer and trace headers", func(t *testing.T) {
		t.Parallel()
		proves(t)
		c := post(`{"upstream":"billing","method":"POST","path":"/x","body":{"a":1,"b":"é"}}`)
		first := accepted(t, b, c)
		c.body = "{ \"path\":\"/x\",\n\"method\":\"POST\", \"body\":{\"b\":\"\\u00e9\",\"a\":1.0}, \"upstream\":\"billing\" }"
		for _, pairs := range [][]string{
			{"Prefer", "respond-async"},
			{"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate", "a=b"},
			{"User-Agent", "another", "X-Request-Id", "another", "Accept", "application/json"},
		} {
			again := c.with(c.header.Get("Idempotency-Key"))
			for i := 0; i < len(pairs); i += 2 {
				again.header.Set(pairs[i], pairs[i+1])
			}
			requireReplay(t, first, b.do(t, again))
		}
	})
	t.Run("fingerprint on the front: method, upstream, path, query, raw body", func(t *testing.T) {
		t.Parallel()
		proves(t)
		key := freshKey()
		c := front("POST", "billing/x?a=1", `{"a":1}`).with(key)
		first := accepted(t, b, c)
		c.header.Set("Prefer", "wait=0")
		c.header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		requireReplay(t, first, b.do(t, c))
		for name, other := range map[string]call{
			"upstream": front("POST", "crm/x?a=1", `{"a":1}`), "path": front("POST", "billing/y?a=1", `{"a":1}`),
			"query": front("POST", "billing/x?a=2", `{"a":1}`), "raw body": front("POST", "billing/x?a=1", `{"a": 1}`),
		} {
			r := b.do(t, other.with(key))
			require.Equal(t, "idempotency_key_reused", r.field(t, "code"), "another %s: %s", name, r.raw)
		}
	})
	t.Run("a replay opens nothing: no quota of open tickets is in its way", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		b.limit(policy.Limits{Open: 1})
		c := post(deletion)
		first := accepted(t, b, c)
		more := post(deletion)
		requireWhole(t, more, b.do(t, more), 429, "quota_exceeded")
		requireReplay(t, first, b.do(t, c))
	})
	t.Run("a replay of a submit that superseded finds its ticket", func(t *testing.T) {
		t.Parallel()
		proves(t)
		old := b.submit(t, deletion).id(t)
		c := post(strings.Replace(deletion, "{", `{"supersedes":"`+old+`",`, 1))
		first := accepted(t, b, c)
		b.requirePoll(t, old, approvals.Cancelled)
		requireReplay(t, first, b.do(t, c))
	})
	t.Run("retention is published", func(t *testing.T) {
		t.Parallel()
		proves(t)
		words := strings.Join(strings.Fields(string(b.do(t, call{method: "GET", path: "/openapi.yaml", key: "-"}).raw)), " ")
		require.Contains(t, words, "Keys are kept for at least 24 hours after submit and 24 hours after the final state", "the policy")
	})
}
