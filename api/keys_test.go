package api_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/policy"
)

// keysOf replaces the keys of the caller payroll.
func (b *bundle) keysOf(t *testing.T, list string) {
	t.Helper()
	from := strings.Index(configuration, "    keys:\n")
	to := strings.Index(configuration, "    login: [")
	text := configuration[:from] + list + configuration[to:]
	for who, key := range b.people {
		text = strings.ReplaceAll(text, "KEY_"+who, hashOf(key))
	}
	b.config = parseConfig(t, text)
}

func (b *bundle) statusFor(t *testing.T, key string) int {
	t.Helper()
	return b.do(t, call{method: "GET", path: "/v1/tickets", key: key}).status
}

func TestKeysOverlapWhileOneIsRotatedAndThenTheOldOneIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	newKey, hash, err := policy.NewKey()
	require.NoError(t, err, "make a key")
	until := b.clock.now().Add(time.Hour).UTC().Format(time.RFC3339)
	b.keysOf(t, "    keys:\n      - {name: new, sha256: "+hash+"}\n      - {name: old, sha256: KEY_payroll, expires: "+until+"}\n")
	require.Equal(t, []int{200, 200}, []int{b.statusFor(t, newKey), b.statusFor(t, b.key)}, "both keys")
	b.clock.move(time.Hour)
	r := b.do(t, call{method: "GET", path: "/v1/tickets", key: b.key})
	requireProblem(t, r, http.StatusUnauthorized, "unauthenticated")
	require.Equal(t, 200, b.statusFor(t, newKey), "the new key goes on")
}

func TestARemovedKeyIsRefusedWithTheNextRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 200, b.statusFor(t, b.key), "before")
	_, hash, err := policy.NewKey()
	require.NoError(t, err, "make a key")
	b.keysOf(t, "    key_sha256: "+hash+"\n")
	require.Equal(t, 401, b.statusFor(t, b.key), "after")
}

func TestAKeyOutOfScopeIsToldWhichScopeItLacks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	for path, scope := range map[string]string{
		"POST /v1/tickets": "submit", "GET /v1/tickets": "read", "GET /v1/tickets/" + id: "read",
		"POST /v1/tickets/" + id + "/cancel": "cancel", "POST /v1/tickets/" + id + "/answers": "answer",
	} {
		method, at, _ := strings.Cut(path, " ")
		key := b.people["callbackskey"]
		r := b.do(t, call{method: method, path: at, key: key, header: headers("Idempotency-Key", freshKey())})
		requireProblem(t, r, http.StatusForbidden, "scope_missing")
		require.Contains(t, r.field(t, "detail"), `"`+scope+`"`, "the scope for %s", path)
	}
}

func TestAKeyThatMayNotCancelCannotSupersedeThroughEitherDoor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old := b.submit(t, deletion).id(t)
	for name, c := range map[string]call{
		"a submit":  {method: "POST", path: "/v1/tickets", body: strings.Replace(deletion, "{", `{"supersedes":"`+old+`",`, 1)},
		"the front": {method: "DELETE", path: "/proxy/billing/customers/42", header: headers("Countersign-Supersedes", old)},
	} {
		c.key = b.people["submitkey"]
		if c.header == nil {
			c.header = make(http.Header)
		}
		c.header.Set("Idempotency-Key", freshKey())
		r := b.do(t, c)
		requireProblem(t, r, http.StatusForbidden, "scope_missing")
		require.Contains(t, r.field(t, "detail"), `"cancel"`, "%s names the scope", name)
		require.Equal(t, "pending", b.get(t, "/v1/tickets/"+old).field(t, "state"), "after %s", name)
	}
	require.Equal(t, 1, b.tickets(t), "tickets")
}

func TestANarrowKeyAsksForItsUpstreamsAndMethodsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, key := b.submit(t, deletion).id(t), b.people["narrowkey"]
	with := func(path, body string) reply {
		return b.do(t, call{method: "POST", path: path, body: body, key: key, header: headers("Idempotency-Key", freshKey())})
	}
	for _, path := range []string{"/v1/tickets", "/v1/explain"} {
		r := with(path, `{"upstream":"billing","method":"GET","path":"/x"}`)
		requireProblem(t, r, http.StatusForbidden, "upstream_not_allowed")
		require.Equal(t, []any{"crm"}, r.field(t, "allowed"), "what it is for")
		r = with(path, `{"upstream":"crm","method":"POST","path":"/x"}`)
		requireProblem(t, r, http.StatusForbidden, "upstream_method_not_allowed")
		require.Equal(t, []any{"GET"}, r.field(t, "allowed"), "what it is for")
		require.Less(t, with(path, `{"upstream":"crm","method":"GET","path":"/x"}`).status, 300, "%s with what it is for", path)
	}
	require.Equal(t, 2, b.tickets(t), "tickets")
	require.Equal(t, 200, b.do(t, call{method: "GET", path: "/v1/tickets/" + id, key: key}).status, "it reads all of its caller's")
}

func TestAKeyFromElsewhereIsAnsweredLikeAnUnknownOneAndToldToOperatorsOnceAMinute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	elsewhere := func(key string) reply {
		b.clock.move(6 * time.Second) // failed authentications are slowed down
		return b.do(t, call{method: "GET", path: "/v1/tickets", key: key, header: headers("X-Forwarded-For", "10.1.2.3")})
	}
	problem := func(r reply) map[string]any {
		out := r.json(t)
		delete(out, "request_id")
		return out
	}
	unknown := problem(elsewhere("csk_wrong"))
	const said = "a valid key was used from where it may not be, and refused"
	for range 5 {
		r := elsewhere(b.people["elsewherekey"])
		requireProblem(t, r, http.StatusUnauthorized, "unauthenticated")
		require.Equal(t, unknown, problem(r), "as an unknown key")
	}
	require.Equal(t, 1, strings.Count(b.logs.String(), said), "said once")
	b.clock.move(time.Minute)
	elsewhere(b.people["elsewherekey"])
	require.Equal(t, 2, strings.Count(b.logs.String(), said), "and again after a minute")
	require.Contains(t, b.logs.String(), `"key":"elsewhere"`, "by its name")
	var n int
	err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM service_events WHERE stream = 'key/payroll/elsewhere'
		AND type = 'key.astray' AND actor_name = 'payroll' AND data->>'remote_ip' = '127.0.0.1'`).Scan(&n)
	require.NoError(t, err, "read the service events")
	require.Equal(t, 2, n, "service events")
	require.NotContains(t, b.logs.String(), b.people["elsewherekey"][4:], "and not itself")
}

func TestTheTrailSaysWhichKeyItWasAndAnswersDoNot(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	r := b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/cancel", key: b.people["cancelkey"]})
	require.Equal(t, http.StatusOK, r.status, "cancel: %s", r.raw)
	events, err := b.store.Events(t.Context(), db.Ref{ID: id}, 0, 10)
	require.NoError(t, err, "read the events")
	require.Equal(t, []string{"payroll", "key main"}, []string{events[0].Actor.Name, events[0].Actor.Ref}, "who submitted")
	last := events[len(events)-1]
	require.Equal(t, []string{"payroll", "key cancels"}, []string{last.Actor.Name, last.Actor.Ref}, "who cancelled")
	require.NotContains(t, string(b.get(t, "/v1/tickets/"+id+"/events").raw), "cancels", "which key is not shown")
}

// TestADumpOfTheDatabaseAuthenticatesNothing tries all that could be a key or token.
func TestADumpOfTheDatabaseAuthenticatesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com/x"},`, 1)).id(t)
	require.Equal(t, 200, b.post(t, "bo", id, "decisions", b.verdict(t, id, "approve", "seen")).status, "approve")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, `{"gone":true}`)
	b.get(t, "/v1/tickets?page_size=1")
	dump := b.dump(t)
	require.Contains(t, dump, id, "the dump")
	for who, key := range b.people {
		require.NotContains(t, dump, key[4:], "the key of %s", who)
		require.NotContains(t, dump, hashOf(key), "the hash of the key of %s", who)
	}
	words := regexp.MustCompile(`[A-Za-z0-9_.=+/-]{16,256}`).FindAllString(dump, -1)
	slices.Sort(words)
	words = slices.Compact(words)
	require.Greater(t, len(words), 10, "words to try")
	for _, word := range words {
		for _, key := range []string{word, "csk_" + word, "csp_" + word} {
			b.clock.move(6 * time.Second) // failed authentications are slowed down
			require.Equal(t, http.StatusUnauthorized, b.statusFor(t, key), "as a key: %s", key)
		}
	}
	t.Logf("%d words tried as keys, %d bytes of dump", len(words), len(dump))
}

// dump is the whole database as JSON.
func (b *bundle) dump(t *testing.T) string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), `SELECT quote_ident(table_name::text) FROM information_schema.tables
		WHERE table_schema = 'public' AND table_type = 'BASE TABLE'`)
	require.NoError(t, err, "list the tables")
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, "list the tables")
	var out strings.Builder
	for _, table := range tables {
		rows, err := b.pool.Query(t.Context(), `SELECT row_to_json(t)::text FROM `+table+` t`)
		require.NoError(t, err, "dump %s", table)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			continue // not ours to read, and so not to be lost by us
		}
		require.True(t, len(lines) == 0 || json.Valid([]byte(lines[0])), "a dump of %s", table)
		out.WriteString(strings.Join(lines, "\n") + "\n")
	}
	return out.String()
}
