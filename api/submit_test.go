package api_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func TestSubmitAnswersWithATicketAndWhereToPollIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.submit(t, `{"upstream":"billing","method":"DELETE","path":"/customers/42","query":{"force":"true","tag":["b","a b"]},
		"headers":{"Accept":"application/json"},"body":{"reason":"gdpr"},"justification":"case 991",
		"callback":{"url":"https://hooks.example.com/countersign","events":["ticket.approved"]},"metadata":{"case":"991"}}`)
	id := r.id(t)
	require.Equal(t, "/v1/tickets/"+id, r.header.Get("Location"), "Location")
	require.Equal(t, publicURL+"/v1/tickets/"+id, r.header.Get("Operation-Location"), "Operation-Location")
	require.Equal(t, "5", r.header.Get("Retry-After"), "Retry-After")
	require.Equal(t, `"1"`, r.header.Get("ETag"), "ETag")
	require.Equal(t, "private, no-cache", r.header.Get("Cache-Control"), "Cache-Control")
	require.Equal(t, "Prefer", r.header.Get("Vary"), "Vary")
	require.Empty(t, r.header.Get("Idempotent-Replayed"), "not a replay")

	got := r.json(t)
	for name, want := range map[string]any{
		"state": "pending", "done": false, "version": 1.0, "caller": "payroll", "on_behalf_of": "",
		"upstream": "billing", "method": "DELETE", "path": "/customers/42", "raw_query": "force=true&tag=b&tag=a%20b",
		"justification": "case 991", "metadata": map[string]any{"case": "991"}, "rule": "change", "error": nil,
		"approved_at": nil, "execution_started_at": nil, "finished_at": nil, "cancel_requested_at": nil, "question": nil,
		"callback": map[string]any{
			"url": "https://hooks.example.com/countersign", "events": []any{"ticket.approved"}, "state": "pending",
		},
		"stage":       map[string]any{"name": "peer", "index": 1.0, "of": 1.0, "needed": 1.0, "have": 0.0, "round": 0.0},
		"waiting_for": []any{"bo", "chen"}, "decisions": []any{},
	} {
		require.Equal(t, want, got[name], "field %s", name)
	}
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, got["created_at"], "times are RFC 3339, UTC, milliseconds")
	require.Equal(t, publicURL+"/v1/tickets/"+id+"/cancel", r.field(t, "links", "cancel"), "link to cancel")

	stored, err := b.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "read the ticket")
	require.JSONEq(t, `{"reason":"gdpr"}`, string(stored.Call.Body), "body")
	require.Equal(t, []approvals.Header{
		{Name: "Accept", Value: "application/json"}, {Name: "Content-Type", Value: "application/json"},
	}, stored.Call.Headers, "header fields")
	dbtest.RequireTrail(t, b.store, id, approvals.EventCreated)
}

func TestSubmitKeepsTheBytesOfTheBody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct{ field, want, contentType string }{
		"JSON as written":         {`"body":{ "n" : 1.0,  "a":[1 ,2] }`, `{ "n" : 1.0,  "a":[1 ,2] }`, "application/json"},
		"a JSON string":           {`"body":"x\u0041"`, `"x\u0041"`, "application/json"},
		"a large number":          {`"body":12345678901234567890`, "12345678901234567890", "application/json"},
		"bytes":                   {`"body_base64":"AP8="`, "\x00\xff", ""},
		"no bytes":                {`"body_base64":""`, "", ""},
		"null is none":            {`"body":null`, "", ""},
		"false is one":            {`"body":false`, "false", "application/json"},
		"a content type is kept":  {`"body":{},"headers":{"content-type":"application/merge-patch+json"}`, "{}", "application/merge-patch+json"},
		"nothing said, none sent": {`"justification":"x"`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := b.submit(t, `{"upstream":"billing","method":"POST","path":"/x",`+c.field+`}`)
			stored, err := b.store.Ticket(t.Context(), db.Ref{ID: r.id(t)})
			require.NoError(t, err, "read the ticket")
			require.Equal(t, c.want, string(stored.Call.Body), "bytes of the body")
			var contentType string
			for _, h := range stored.Call.Headers {
				contentType = h.Value
			}
			require.Equal(t, c.contentType, contentType, "Content-Type")
		})
	}
}

func TestRulesMayAllowOrDenyAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	allowed := b.submit(t, `{"upstream":"billing","method":"GET","path":"/customers"}`)
	require.Equal(t, "approved", allowed.field(t, "state"), "state under an allow rule")
	require.Equal(t, "2", allowed.header.Get("Retry-After"), "Retry-After of an approved ticket")
	require.Nil(t, allowed.field(t, "stage"), "nobody was asked")

	denied := b.submit(t, `{"upstream":"billing","method":"OPTIONS","path":"/customers"}`)
	require.Equal(t, "denied", denied.field(t, "state"), "state under a deny rule")
	require.Equal(t, true, denied.field(t, "done"), "done")
	require.Empty(t, denied.header.Get("Retry-After"), "there is nothing to wait for")
	require.Equal(t, map[string]any{
		"type": "/problems/denied-by-policy", "title": "The policy refuses the call",
		"code": "denied_by_policy", "detail": "nobody needs this",
	}, denied.field(t, "error"), "error")
}

func TestOnBehalfOfExcludesThatPerson(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.submit(t, strings.Replace(deletion, "{", `{"on_behalf_of":"BO@example.com",`, 1))
	require.Equal(t, "bo", r.field(t, "on_behalf_of"), "the person found by e-mail address")
	require.Equal(t, []any{"chen"}, r.field(t, "waiting_for"), "bo cannot approve it")
}

func TestReplayAnswersWithTheTicketAsItIsNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := call{method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", `"replayed"`)}
	first := b.do(t, c)
	require.Equal(t, http.StatusAccepted, first.status, "first: %s", first.raw)
	b.approve(t, first.id(t), "bo")

	// The bare form, other white space and another order of names are the same request.
	c.header = headers("Idempotency-Key", "replayed", "Prefer", "respond-async")
	c.body = `{ "path":"/customers\/42", "method":"DELETE","justification":"case 991", "upstream":"billing"}`
	again := b.do(t, c)
	require.Equal(t, http.StatusAccepted, again.status, "again: %s", again.raw)
	require.Equal(t, "true", again.header.Get("Idempotent-Replayed"), "Idempotent-Replayed")
	require.Equal(t, first.id(t), again.id(t), "the same ticket")
	require.Equal(t, first.header.Get("Location"), again.header.Get("Location"), "the same Location")
	require.Equal(t, "approved", again.field(t, "state"), "the state of now")
	require.Equal(t, 1, b.tickets(t), "tickets")

	// Another caller's keys are their own.
	c.key = b.other
	theirs := b.do(t, c)
	require.Equal(t, http.StatusAccepted, theirs.status, "theirs: %s", theirs.raw)
	require.NotEqual(t, first.id(t), theirs.id(t), "another ticket")
}

func TestReusedKeyIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, pair := range map[string][2]string{
		"another path":             {deletion, strings.Replace(deletion, "42", "43", 1)},
		"another number":           {withBody(`{"a":1}`), withBody(`{"a":2}`)},
		"the last of many digits":  {withBody(`{"a":9007199254740993}`), withBody(`{"a":9007199254740992}`)},
		"a far too large exponent": {withBody(`{"a":1e400}`), withBody(`{"a":1e401}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := call{method: "POST", path: "/v1/tickets", body: pair[0], header: headers("Idempotency-Key", freshKey())}
			require.Equal(t, http.StatusAccepted, b.do(t, c).status, "first")
			c.body = pair[1]
			requireProblem(t, b.do(t, c), http.StatusUnprocessableEntity, "idempotency_key_reused")
		})
	}
}

func withBody(body string) string {
	return `{"upstream":"billing","method":"POST","path":"/x","body":` + body + `}`
}

func TestConcurrentSubmitsWithOneKeyOpenOneTicket(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all sync.WaitGroup
	replies := make([]reply, 16)
	for i := range replies {
		all.Go(func() {
			replies[i] = b.do(t, call{
				method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "together"),
			})
		})
	}
	all.Wait()
	ids := make(map[string]bool)
	for _, r := range replies {
		if r.status == http.StatusAccepted {
			ids[r.id(t)] = true
			continue
		}
		requireProblem(t, r, http.StatusConflict, "idempotency_in_progress")
		require.Equal(t, "1", r.header.Get("Retry-After"), "Retry-After")
	}
	require.Len(t, ids, 1, "tickets answered with")
	require.Equal(t, 1, b.tickets(t), "tickets written")
}

func TestCallbackURLMayCarryUnicodeEscapes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.submit(t, strings.Replace(deletion, "{", `{"callback":{"url":"https:\/\/HOOKS.example.com:443\u002fx","events":["ticket.created","ticket.created"]},`, 1))
	require.Equal(t, "https://HOOKS.example.com:443/x", r.field(t, "callback", "url"), "compared as an origin, kept as given")
	require.Equal(t, []any{"ticket.created"}, r.field(t, "callback", "events"), "each event once")
}

// refusals are submits that must be refused, and what the refusal says.
var refusals = map[string]struct {
	body    string
	header  http.Header
	status  int
	code    string
	pointer string // of the first error
	detail  string // a part of it
}{
	"no body":             {"", nil, 400, "malformed_json", "", "empty"},
	"not JSON":            {`{"upstream"`, nil, 400, "malformed_json", "", "unexpected end"},
	"trailing data":       {deletion + `{}`, nil, 400, "malformed_json", "", "after top-level value"},
	"trailing comma":      {`{"upstream":"billing",}`, nil, 400, "malformed_json", "", "invalid character"},
	"invalid UTF-8":       {"{\"upstream\":\"\xff\"}", nil, 400, "malformed_json", "", "UTF-8"},
	"half a surrogate":    {`{"upstream":"\ud800"}`, nil, 400, "malformed_json", "#/upstream", "surrogate"},
	"half in a name":      {`{"\udc00":1}`, nil, 400, "malformed_json", "#/\ufffd", "surrogate"},
	"an array":            {`[]`, nil, 400, "invalid_body", "#", "must be an object, not an array"},
	"null":                {`null`, nil, 400, "invalid_body", "#", "must be an object, not null"},
	"duplicate name":      {`{"upstream":"crm","upstream":"billing"}`, nil, 400, "malformed_json", "#/upstream", "duplicate"},
	"duplicate in body":   {withBody(`{"a":{"b":1,"b":2}}`), nil, 400, "malformed_json", "#/body/a/b", "duplicate"},
	"hidden duplicate":    {`{"upstream":"crm","upstre\u0061m":"billing"}`, nil, 400, "malformed_json", "#/upstream", "duplicate"},
	"too deep":            {withBody(strings.Repeat("[", 64) + strings.Repeat("]", 64)), nil, 400, "malformed_json", "", "deeper than 64"},
	"unknown field":       {strings.Replace(deletion, "justification", "justifcation", 1), nil, 400, "invalid_body", "#/justifcation", `did you mean "justification"?`},
	"other case":          {strings.Replace(deletion, "upstream", "Upstream", 1), nil, 400, "invalid_body", "#/Upstream", "unknown field"},
	"a column as a field": {strings.Replace(deletion, "{", `{"state":"approved",`, 1), nil, 400, "invalid_body", "#/state", "unknown field"},
	"unknown inside":      {strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com","event":[]},`, 1), nil, 400, "invalid_body", "#/callback/event", `did you mean "events"?`},
	"missing field":       {`{"upstream":"billing","method":"DELETE"}`, nil, 400, "invalid_body", "#", `missing field "path"`},
	"missing inside":      {strings.Replace(deletion, "{", `{"callback":{},`, 1), nil, 400, "invalid_body", "#/callback", `missing field "url"`},
	"wrong type":          {strings.Replace(deletion, `"case 991"`, `991`, 1), nil, 400, "invalid_body", "#/justification", "must be a string, not a whole number"},
	"null for a string":   {strings.Replace(deletion, `"case 991"`, `null`, 1), nil, 400, "invalid_body", "#/justification", "must be a string, not null"},
	"wrong type inside":   {strings.Replace(deletion, "{", `{"metadata":{"a/b":true},`, 1), nil, 400, "invalid_body", "#/metadata/a~1b", "must be a string, not true or false"},
	"wrong query":         {strings.Replace(deletion, "{", `{"query":{"a":[1]},`, 1), nil, 400, "invalid_body", "#/query/a/0", "must be a string"},
	"query of objects":    {strings.Replace(deletion, "{", `{"query":{"a":{}},`, 1), nil, 400, "invalid_body", "#/query/a", "a string or an array of strings"},

	"no key":            {deletion, headers("X", "y"), 400, "idempotency_key_missing", "", "needs an Idempotency-Key"},
	"empty key":         {deletion, headers("Idempotency-Key", `""`), 400, "idempotency_key_invalid", "", "is empty"},
	"long key":          {deletion, headers("Idempotency-Key", strings.Repeat("k", 256)), 400, "idempotency_key_invalid", "", "255"},
	"two keys":          {deletion, headers("Idempotency-Key", "a", "Idempotency-Key", "b"), 400, "idempotency_key_invalid", "", "more than once"},
	"half quoted key":   {deletion, headers("Idempotency-Key", `"abc`), 400, "idempotency_key_invalid", "", "printable ASCII"},
	"key with a comma":  {deletion, headers("Idempotency-Key", "a,b"), 400, "idempotency_key_invalid", "", "printable ASCII"},
	"query on a submit": {deletion, headers("Query", "?wait=3"), 400, "invalid_parameter", "", "unknown parameter"},
	"not to be had":     {deletion, headers("Accept", "text/html"), 406, "not_acceptable", "", "application/json"},

	"no content type":   {deletion, headers("Content-Type", ""), 415, "unsupported_media_type", "", "application/json"},
	"a form":            {deletion, headers("Content-Type", "application/x-www-form-urlencoded"), 415, "unsupported_media_type", "", "application/json"},
	"text/json":         {deletion, headers("Content-Type", "text/json"), 415, "unsupported_media_type", "", "application/json"},
	"another charset":   {deletion, headers("Content-Type", "application/json; charset=utf-16"), 415, "unsupported_media_type", "", "UTF-8"},
	"a compressed body": {deletion, headers("Content-Encoding", "gzip"), 415, "unsupported_media_type", "", "content coding"},

	"unknown upstream":         {strings.Replace(deletion, "billing", "payments", 1), nil, 403, "upstream_not_allowed", "#/upstream", "no upstream of this name"},
	"another's upstream":       {strings.Replace(deletion, "billing", "vault", 1), nil, 403, "upstream_not_allowed", "#/upstream", "no upstream of this name"},
	"method not open":          {`{"upstream":"crm","method":"DELETE","path":"/x"}`, nil, 403, "upstream_method_not_allowed", "#/method", "GET, POST"},
	"method in lower case":     {`{"upstream":"crm","method":"get","path":"/x"}`, nil, 403, "upstream_method_not_allowed", "#/method", "GET, POST"},
	"path without a slash":     {strings.Replace(deletion, "/customers/42", "customers", 1), nil, 422, "call_invalid", "#/path", "slash"},
	"path that climbs":         {strings.Replace(deletion, "/customers/42", "/a/../../admin", 1), nil, 422, "call_invalid", "#/path", ""},
	"path that climbs encoded": {strings.Replace(deletion, "/customers/42", "/a/%2e%2e/admin", 1), nil, 422, "call_invalid", "#/path", ""},
	"path with a host":         {strings.Replace(deletion, "/customers/42", "//evil.example/x", 1), nil, 422, "call_invalid", "#/path", ""},
	"path with a query":        {strings.Replace(deletion, "/customers/42", "/x?y=1", 1), nil, 422, "call_invalid", "#/path", ""},
	"two bodies":               {`{"upstream":"billing","method":"POST","path":"/x","body":{},"body_base64":"e30="}`, nil, 422, "call_invalid", "#/body_base64", "exclude"},
	"bad base64":               {`{"upstream":"billing","method":"POST","path":"/x","body_base64":"e30"}`, nil, 422, "call_invalid", "#/body_base64", "padding"},
	"own credentials":          {strings.Replace(deletion, "{", `{"headers":{"Authorization":"Bearer x"},`, 1), nil, 422, "call_invalid", "#/headers/Authorization", ""},
	"framing":                  {strings.Replace(deletion, "{", `{"headers":{"Transfer-Encoding":"chunked"},`, 1), nil, 422, "call_invalid", "#/headers/Transfer-Encoding", ""},
	"a line break":             {strings.Replace(deletion, "{", `{"headers":{"Accept":"a\r\nHost: b"},`, 1), nil, 422, "call_invalid", "#/headers/Accept", ""},
	"field not open":           {`{"upstream":"crm","method":"GET","path":"/x","headers":{"If-Match":"\"1\""}}`, nil, 422, "call_invalid", "#/headers/If-Match", "takes: accept"},
	"field twice":              {strings.Replace(deletion, "{", `{"headers":{"accept":"a/b","Accept":"c/d"},`, 1), nil, 422, "call_invalid", "#/headers/accept", "more than once"},

	"callback elsewhere":     {strings.Replace(deletion, "{", `{"callback":{"url":"https://evil.example/x"},`, 1), nil, 422, "callback_refused", "#/callback/url", "callback origin"},
	"callback by prefix":     {strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com.evil.example"},`, 1), nil, 422, "callback_refused", "#/callback/url", "callback origin"},
	"callback on a port":     {strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com:8443/"},`, 1), nil, 422, "callback_refused", "#/callback/url", "callback origin"},
	"callback without TLS":   {strings.Replace(deletion, "{", `{"callback":{"url":"http://hooks.example.com/"},`, 1), nil, 422, "callback_refused", "#/callback/url", "https"},
	"callback with a user":   {strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com@evil.example/"},`, 1), nil, 422, "callback_refused", "#/callback/url", "user"},
	"callback to an address": {strings.Replace(deletion, "{", `{"callback":{"url":"https://127.0.0.1/"},`, 1), nil, 422, "callback_refused", "#/callback/url", ""},
	"unknown event":          {strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com","events":["ticket.aproved"]},`, 1), nil, 422, "validation_failed", "#/callback/events/0", `did you mean "ticket.approved"?`},

	"long justification":   {strings.Replace(deletion, "case 991", strings.Repeat("x", 4097), 1), nil, 422, "validation_failed", "#/justification", "at most 4096"},
	"NUL in text":          {strings.Replace(deletion, "case 991", `a\u0000b`, 1), nil, 422, "validation_failed", "#/justification", "NUL"},
	"long metadata":        {strings.Replace(deletion, "{", `{"metadata":{"k":"`+strings.Repeat("x", 513)+`"},`, 1), nil, 422, "validation_failed", "#/metadata/k", "at most 512"},
	"much metadata":        {strings.Replace(deletion, "{", `{"metadata":{`+strings.TrimSuffix(manyKeys(33), ",")+`},`, 1), nil, 422, "validation_failed", "#/metadata", "at most 32"},
	"on nobody's behalf":   {strings.Replace(deletion, "{", `{"on_behalf_of":"mallory",`, 1), nil, 422, "validation_failed", "#/on_behalf_of", "configured person"},
	"nobody could approve": {`{"upstream":"billing","method":"PUT","path":"/x","on_behalf_of":"bo"}`, nil, 422, "plan_unsatisfiable", "", "needs 2 distinct approvals"},
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`"k` + strings.Repeat("i", i) + `":"v",`)
	}
	return b.String()
}

func TestBadSubmitsAreRefusedAndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		t.Cleanup(func() { require.Equal(t, 0, b.tickets(t), "tickets written by refused submits") })
		for name, c := range refusals {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := headers("Idempotency-Key", freshKey())
				path := "/v1/tickets"
				for name, values := range c.header {
					switch name {
					case "X":
						delete(h, "Idempotency-Key")
					case "Query":
						path += values[0]
					default:
						h[name] = values
					}
				}
				r := b.do(t, call{method: "POST", path: path, body: c.body, header: h})
				requireProblem(t, r, c.status, c.code)
				require.Contains(t, string(r.raw), "/problems/"+strings.ReplaceAll(c.code, "_", "-"), "type")
				var said any
				require.NoError(t, json.Unmarshal(r.raw, &said), "decode the problem")
				require.Contains(t, fmt.Sprint(said), c.detail, "detail")
				if c.pointer != "" {
					items, _ := r.field(t, "errors").([]any)
					require.NotEmpty(t, items, "places in %s", r.raw)
					first, _ := items[0].(map[string]any)
					require.Equal(t, c.pointer, first["pointer"], "place in %s", r.raw)
				}
			})
		}
	})
}

func TestRefusedSubmitDoesNotUseUpItsKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, wrong := range []string{"{", strings.Replace(deletion, "42", "../x", 1), `{"upstream":"billing","method":"PUT","path":"/x","on_behalf_of":"bo"}`} {
		key := headers("Idempotency-Key", freshKey())
		refused := b.do(t, call{method: "POST", path: "/v1/tickets", body: wrong, header: key})
		require.GreaterOrEqual(t, refused.status, 400, "refused: %s", refused.raw)
		right := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, header: key})
		require.Equal(t, http.StatusAccepted, right.status, "corrected: %s", right.raw)
		require.Empty(t, right.header.Get("Idempotent-Replayed"), "not a replay")
	}
}

func TestEveryMistakeIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	r := b.do(t, call{
		method: "POST", path: "/v1/tickets", header: headers("Idempotency-Key", "k"),
		body: `{"upstrem":"billing","method":1,"query":{"a":{"b":[{}]}},"callback":{"url":[],"x":1}}`,
	})
	requireProblem(t, r, http.StatusBadRequest, "invalid_body")
	var places []any
	items, _ := r.field(t, "errors").([]any)
	for _, i := range items {
		m, _ := i.(map[string]any)
		places = append(places, m["pointer"])
	}
	require.Equal(t, []any{"#/upstrem", "#/method", "#/query/a", "#/callback/url", "#/callback/x", "#", "#"}, places, "places")
}

func TestUpstreamOfAnotherCallerLooksLikeNone(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{})
	ask := func(upstream string) reply {
		return b.do(t, call{
			method: "POST", path: "/v1/tickets", body: strings.Replace(deletion, "billing", upstream, 1),
			header: headers("Idempotency-Key", "k", "X-Request-Id", "same"),
		})
	}
	require.Equal(t, string(ask("nowhere").raw), string(ask("vault").raw), "answers for no upstream and for one of others")
	require.Equal(t, []any{"billing", "crm"}, ask("vault").field(t, "allowed"), "what the caller may use")
}

func TestBodyOverTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	b := setupOn(t, broken{}, func(c *api.Config) { c.MaxBody = 1000 })
	big := strings.Replace(deletion, "case 991", strings.Repeat("x", 1000), 1)
	key := headers("Idempotency-Key", "k")
	requireProblem(t, b.do(t, call{method: "POST", path: "/v1/tickets", body: big, header: key}), http.StatusRequestEntityTooLarge, "body_too_large")

	// Without a Content-Length the limit is found while reading.
	req := b.request(t, call{method: "POST", path: "/v1/tickets", body: big, header: key})
	req.ContentLength, req.Body = -1, readCloser(big)
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err, "post in chunks")
	defer res.Body.Close() //nolint:errcheck // only the status matters
	require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode, "status in chunks")
}

func TestDatabaseDownIs503(t *testing.T) {
	t.Parallel()
	b, cut := setupBehindWire(t)
	id := b.submit(t, deletion).id(t)
	cut()
	for _, c := range []call{
		{method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "k")},
		{method: "GET", path: "/v1/tickets"},
		{method: "GET", path: "/v1/tickets/" + id},
		{method: "GET", path: "/v1/tickets/" + id, header: headers("If-None-Match", `"1"`)},
		{method: "GET", path: "/v1/tickets/" + id + "/result"},
		{method: "GET", path: "/v1/tickets/" + id + "/events"},
		{method: "POST", path: "/v1/tickets/" + id + "/cancel"},
	} {
		r := b.do(t, c)
		requireProblem(t, r, http.StatusServiceUnavailable, "unavailable")
		require.Equal(t, "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", r.field(t, "type"), "type")
		require.Equal(t, "5", r.header.Get("Retry-After"), "Retry-After of %s %s", c.method, c.path)
	}
	requireProblem(t, b.do(t, call{method: "GET", path: "/readyz", key: "-"}), http.StatusServiceUnavailable, "not_ready")
	require.Equal(t, http.StatusOK, b.do(t, call{method: "GET", path: "/healthz", key: "-"}).status, "the process is alive all the same")
	require.NotContains(t, b.logs.String(), b.key, "the key is in no log")
}

func TestOtherRefusalsOfTheStore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
		after  string
	}{
		{db.ErrOverloaded, 503, "overloaded", "1"},
		{db.ErrKeyInProgress, 409, "idempotency_in_progress", "1"},
		{http.ErrBodyNotAllowed, 500, "internal", ""},
	} {
		b := setupOn(t, failing{err: c.err})
		r := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, header: headers("Idempotency-Key", "k")})
		requireProblem(t, r, c.status, c.code)
		require.Equal(t, c.after, r.header.Get("Retry-After"), "Retry-After of %s", c.code)
		require.NotContains(t, string(r.raw), http.ErrBodyNotAllowed.Error(), "causes are for the log")
	}
}

func TestBase64IsTheStandardOne(t *testing.T) {
	t.Parallel()
	b := setup(t)
	raw := []byte{0xfb, 0xff, 0xfe}
	r := b.submit(t, `{"upstream":"billing","method":"POST","path":"/x","body_base64":"`+base64.StdEncoding.EncodeToString(raw)+`"}`)
	stored, err := b.store.Ticket(t.Context(), db.Ref{ID: r.id(t)})
	require.NoError(t, err, "read the ticket")
	require.Equal(t, raw, stored.Call.Body, "bytes")
}

func (b *bundle) trySubmit(t *testing.T, key, body string) reply {
	t.Helper()
	return b.do(t, call{method: "POST", path: "/v1/tickets", body: body, key: key, header: headers("Idempotency-Key", freshKey())})
}

func TestCallsCanBeScheduled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := func(d time.Duration) string { return b.clock.now().Add(d).UTC().Format(time.RFC3339Nano) }
	scheduled := func(when string) string { return strings.Replace(deletion, "{", `{"not_before":"`+when+`",`, 1) }
	r := b.submit(t, scheduled(at(time.Hour)))
	require.Equal(t, b.clock.now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000Z"), r.field(t, "not_before"), "not_before")
	b.approve(t, r.id(t), "bo")
	r = b.get(t, "/v1/tickets/"+r.id(t))
	require.Equal(t, "approved", r.field(t, "state"), "approved ahead of time")
	require.Greater(t, r.field(t, "execute_by"), r.field(t, "not_before"), "execute_by counts from then on")
	for name, when := range map[string]string{
		"now": at(0), "in the past": at(-time.Second), "too far ahead": at(30*24*time.Hour + time.Second), "a date": "2030-01-02",
		"words": "tomorrow", "without a zone": "2030-01-02T03:04:05", "a year of its own": "99999-01-01T00:00:00Z",
		"the zero time": "0001-01-01T00:00:00Z",
	} {
		r := b.trySubmit(t, "", scheduled(when))
		requireProblem(t, r, http.StatusUnprocessableEntity, "validation_failed")
		require.Contains(t, string(r.raw), `"#/not_before"`, "the place of %s", name)
	}
	require.Equal(t, http.StatusAccepted, b.trySubmit(t, "", scheduled(at(30*24*time.Hour))).status, "30 days ahead")
	require.Nil(t, b.submit(t, deletion).field(t, "not_before"), "unscheduled")
}

func TestRetryFindsItsTicketAfterItsTimeHasCome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	when := b.clock.now().Add(time.Hour).UTC().Format(time.RFC3339)
	c := call{
		method: "POST", path: "/v1/tickets", header: headers("Idempotency-Key", "scheduled"),
		body: strings.Replace(deletion, "{", `{"not_before":"`+when+`",`, 1),
	}
	first := b.do(t, c)
	require.Equal(t, http.StatusAccepted, first.status, "first: %s", first.raw)
	b.clock.move(2 * time.Hour)
	again := b.do(t, c)
	require.Equal(t, http.StatusAccepted, again.status, "again: %s", again.raw)
	require.Equal(t, []string{first.id(t), "true"}, []string{again.id(t), again.header.Get("Idempotent-Replayed")}, "the same ticket")
	requireProblem(t, b.trySubmit(t, "", c.body), http.StatusUnprocessableEntity, "validation_failed")
	c.body = strings.Replace(c.body, "991", "992", 1)
	requireProblem(t, b.do(t, c), http.StatusUnprocessableEntity, "idempotency_key_reused")
	require.Equal(t, 1, b.tickets(t), "tickets")
	require.Equal(t, "pending", b.get(t, "/v1/tickets/"+first.id(t)).field(t, "state"), "nothing was closed")
}

func TestATicketTakesThePlaceOfAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	superseding := func(id string) string { return strings.Replace(deletion, "{", `{"supersedes":"`+id+`",`, 1) }
	old := b.submit(t, deletion).id(t)
	r := b.submit(t, superseding(old))
	require.Equal(t, old, r.field(t, "supersedes"), "the new one names the old one")
	gone := b.get(t, "/v1/tickets/"+old)
	require.Equal(t, []any{"cancelled", r.id(t), "superseded", "Another ticket took this one's place"}, []any{
		gone.field(t, "state"), gone.field(t, "superseded_by"), gone.field(t, "error", "code"), gone.field(t, "error", "title"),
	}, "the old one names the new one")
	require.Contains(t, string(b.get(t, "/v1/tickets/"+old+"/events").raw), `"superseded_by":"`+r.id(t)+`"`, "in its events too")

	before := b.tickets(t)
	requireProblem(t, b.trySubmit(t, "", superseding(old)), http.StatusConflict, "already_final")
	for name, id := range map[string]string{"no id": "tkt_x", "unknown": "tkt_00000000000000000000000000"} {
		refused := b.trySubmit(t, "", superseding(id))
		requireProblem(t, refused, http.StatusUnprocessableEntity, "validation_failed")
		require.Contains(t, string(refused.raw), `"#/supersedes"`, "the place of %s", name)
	}
	theirs := b.trySubmit(t, b.other, superseding(r.id(t)))
	requireProblem(t, theirs, http.StatusUnprocessableEntity, "validation_failed")
	require.Equal(t, before, b.tickets(t), "nothing was opened")
	require.Equal(t, "pending", b.get(t, "/v1/tickets/"+r.id(t)).field(t, "state"), "nothing was closed")
}

func TestACallIsNotScheduledToAnHourWithAnotherRule(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for hours, state := range map[time.Duration]string{1: "denied", 2: "same"} {
		now := b.submit(t, `{"upstream":"billing","method":"GET","path":"/hourly"}`).field(t, "state")
		when := b.clock.now().Add(hours * time.Hour).UTC().Format(time.RFC3339)
		r := b.submit(t, `{"upstream":"billing","method":"GET","path":"/hourly","not_before":"`+when+`"}`)
		if state == "same" {
			state = now.(string) //nolint:forcetypeassert // a state is text
		} else {
			require.Contains(t, r.field(t, "error", "detail"), "the policy says something else at not_before", "why")
		}
		require.Equal(t, state, r.field(t, "state"), "%d h ahead", hours)
	}
}
