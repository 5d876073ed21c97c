package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
)

// bare makes a request whose answer has no place in openapi.yaml.
func (b *bundle) bare(t *testing.T, c call) reply {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(b.request(t, c))
	require.NoError(t, err, "%s %s", c.method, c.path)
	defer res.Body.Close() //nolint:errcheck // read to the end below
	return reply{status: res.StatusCode, header: res.Header, raw: readAll(t, res.Body)}
}

// TestContractPoll has rows about polling.
func TestContractPoll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	path := "/v1/tickets/" + b.submit(t, deletion).id(t)
	t.Run("Retry-After rises from 5 to 30 while people think", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		for state, way := range map[string][]deed{"pending": nil, "needs_info": {asked}} {
			path, last := "/v1/tickets/"+b.in(t, way...), 0
			for range 40 {
				after := retryAfterOf(t, b.get(t, path))
				require.GreaterOrEqual(t, after, max(5, last), "%s", state)
				require.LessOrEqual(t, after, 30, "%s", state)
				last = after
				b.clock.move(time.Minute)
			}
			require.Equal(t, 30, last, "%s, in the end", state)
			b.clock.move(-40 * time.Minute)
		}
	})
	t.Run("wait: at most 60 s, the query wins, only a malformed query is refused", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t, func(c *api.Config) { c.MaxWait = time.Second })
		path := "/v1/tickets/" + b.submit(t, deletion).id(t)
		r := b.get(t, path, "Prefer", "wait=3")
		require.Equal(t, []any{200, "wait=1"}, []any{r.status, r.header.Get("Preference-Applied")}, "clamped to what the server allows")
		r = b.get(t, path+"?wait=0s", "Prefer", "wait=600")
		require.Equal(t, []any{200, ""}, []any{r.status, r.header.Get("Preference-Applied")}, "the query is not a preference")
		c := call{method: "GET", path: path + "?wait=soon"}
		requireWhole(t, c, b.do(t, c), 400, "invalid_parameter")
		r = b.get(t, path, "Prefer", "wait=soon")
		require.Equal(t, []any{200, ""}, []any{r.status, r.header.Get("Preference-Applied")}, "a malformed preference is none")
		require.Equal(t, "Prefer", r.header.Get("Vary"), "Vary")
	})
	t.Run("respond-async is accepted and has no effect", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for _, r := range []reply{b.do(t, post(deletion, "Prefer", "respond-async")), b.get(t, path, "Prefer", "respond-async")} {
			require.Less(t, r.status, 300, "%s", r.raw)
			require.Equal(t, []string{"", "Prefer"}, []string{r.header.Get("Preference-Applied"), r.header.Get("Vary")}, "header")
		}
	})
	t.Run("other methods: 405 with Allow, OPTIONS 204 with Allow", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for at, want := range map[string]string{path: "OPTIONS, GET", "/v1/tickets": "OPTIONS, GET, POST", path + "/cancel": "OPTIONS, POST"} {
			r := b.bare(t, call{method: "OPTIONS", path: at, key: "-"})
			require.Equal(t, []any{204, want, ""}, []any{r.status, r.header.Get("Allow"), string(r.raw)}, "OPTIONS %s", at)
			for _, method := range []string{"HEAD", "DELETE", "PROPFIND", "TRACE"} {
				c := call{method: method, path: at}
				r := b.bare(t, c)
				require.Equal(t, []any{405, want}, []any{r.status, r.header.Get("Allow")}, "%s %s", method, at)
				if method != "HEAD" {
					requireWhole(t, c, r, 405, "method_not_allowed")
				}
			}
		}
	})
	t.Run("304 to a list of tags, in their weak form too, and to *", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for _, known := range []string{`"1"`, `W/"1"`, `"9", "1"`, "*"} {
			r := b.get(t, path, "If-None-Match", known)
			require.Equal(t, []any{304, `"1"`, ""}, []any{r.status, r.header.Get("ETag"), string(r.raw)}, "%s", known)
		}
	})
}

// TestContractResult has rows about reading a result.
func TestContractResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	t.Run("200 with all that is known of the answer", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, endings()["failed"]...)
		r := b.get(t, "/v1/tickets/"+id+"/result")
		require.Equal(t, []any{200, "500"}, []any{r.status, r.header.Get("AsyncResult")}, "never the upstream's own status")
		for _, name := range []string{"status", "headers", "body", "truncated", "size", "digest", "duration_ms", "executed_at"} {
			require.Contains(t, r.json(t), name, "%s", r.raw)
		}
		require.Equal(t, []string{"private, no-cache", b.get(t, "/v1/tickets/"+id).header.Get("ETag")},
			[]string{r.header.Get("Cache-Control"), r.header.Get("ETag")}, "header")
	})
	for name, way := range map[string][]deed{
		"202 while pending": nil, "202 while needs_info": {asked},
		"202 while approved": {approvedByAPI}, "202 while executing": {approvedByAPI, begun},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			id := b.in(t, way...)
			r := b.get(t, "/v1/tickets/"+id+"/result")
			require.Equal(t, []any{202, "/v1/tickets/" + id}, []any{r.status, r.header.Get("Location")}, "%s", r.raw)
			require.Equal(t, strings.TrimPrefix(name, "202 while "), r.field(t, "state"), "the ticket")
			require.Equal(t, b.get(t, "/v1/tickets/"+id).header.Get("Retry-After"), r.header.Get("Retry-After"), "Retry-After, as of a poll")
			require.Empty(t, r.header.Get("AsyncResult"), "there is none")
		})
	}
	for name, c := range map[string]struct {
		way   []deed
		state string
	}{
		"409 when denied":                  {endings()["denied"], "denied"},
		"409 when expired":                 {endings()["expired"], "expired"},
		"409 when cancelled":               {endings()["cancelled"], "cancelled"},
		"409 when the outcome is unknown":  {endings()["outcome_unknown"], "outcome_unknown"},
		"409 when resolved by an operator": {[]deed{doubt, resolvedAs("succeeded")}, "succeeded"},
		"409 when failed before an answer": {[]deed{approvedByAPI, begun, outcome(approvals.NotSent, "upstream_unreachable")}, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			at := call{method: "GET", path: "/v1/tickets/" + b.in(t, c.way...) + "/result"}
			r := b.do(t, at)
			requireWhole(t, at, r, 409, "no_result")
			require.Equal(t, c.state, r.field(t, "state"), "state")
		})
	}
}

// TestContractCancel has a row for each state that a ticket may be in.
func TestContractCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, way := range map[string][]deed{"pending: 200": nil, "needs_info: 200": {asked}, "approved: 200": {approvedByAPI}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			id := b.in(t, way...)
			r := b.cancel(t, id, "")
			require.Equal(t, []any{200, "cancelled", true}, []any{r.status, r.field(t, "state"), r.field(t, "done")}, "%s", r.raw)
			require.Equal(t, []string{"", r.header.Get("ETag")}, []string{r.header.Get("Retry-After"), b.get(t, "/v1/tickets/"+id).header.Get("ETag")}, "header")
		})
	}
	t.Run("executing: 202, and the ticket ends as what really happened", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, approvedByAPI, begun)
		r := b.cancel(t, id, "")
		require.Equal(t, []any{202, "executing", "2", "/v1/tickets/" + id},
			[]any{r.status, r.field(t, "state"), r.header.Get("Retry-After"), r.header.Get("Location")}, "%s", r.raw)
		require.NotNil(t, r.field(t, "cancel_requested_at"), "cancel_requested_at")
		b.finish(t, id, 200, "{}")
		b.requirePoll(t, id, approvals.Succeeded)
	})
	t.Run("already cancelled: 200 again", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, cancelledByAPI)
		version := b.stored(t, id).Version
		require.Equal(t, http.StatusOK, b.cancel(t, id, "").status, "again")
		require.Equal(t, version, b.stored(t, id).Version, "nothing has changed")
	})
	for name, state := range map[string]string{
		"succeeded: 409": "succeeded", "failed: 409": "failed", "outcome_unknown: 409": "outcome_unknown",
		"denied: 409": "denied", "expired: 409": "expired",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			c := call{method: "POST", path: "/v1/tickets/" + b.in(t, endings()[state]...) + "/cancel"}
			r := b.do(t, c)
			requireWhole(t, c, r, 409, "already_final")
			require.Equal(t, state, r.field(t, "state"), "the state that is in the way")
		})
	}
	t.Run("If-Match of another version: 412, and nothing happens", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, asked)
		c := call{method: "POST", path: "/v1/tickets/" + id + "/cancel", header: headers("If-Match", `"1"`)}
		r := b.do(t, c)
		requireWhole(t, c, r, 412, "precondition_failed")
		require.Equal(t, []any{"needs_info", `"2"`}, []any{r.field(t, "state"), r.header.Get("ETag")}, "what it is at")
		b.requirePoll(t, id, approvals.NeedsInfo)
		require.Equal(t, http.StatusOK, b.cancel(t, id, "", "If-Match", `"2"`).status, "of the version it is at")
	})
}

// TestContractEvents has rows about events and streams of them.
func TestContractEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.in(t, endings()["succeeded"]...)
	path := "/v1/tickets/" + id + "/events"
	t.Run("a stream on the wire: retry, id, event, one line of data", func(t *testing.T) {
		t.Parallel()
		proves(t)
		r := b.get(t, path, "Accept", "text/event-stream", "Accept-Encoding", "gzip, br, zstd")
		require.Equal(t, []string{"text/event-stream", "no-store", "no", "Accept", ""}, []string{
			r.header.Get("Content-Type"), r.header.Get("Cache-Control"), r.header.Get("X-Accel-Buffering"), r.header.Get("Vary"),
			r.header.Get("Content-Encoding"),
		}, "header")
		blocks := strings.Split(strings.TrimSuffix(string(r.raw), "\n\n"), "\n\n")
		require.Equal(t, "retry: 3000", blocks[0], "the first block")
		items, _ := b.get(t, path).field(t, "items").([]any)
		require.Len(t, blocks[1:], len(items), "a block for each event of the list")
		form := regexp.MustCompile(`^id: ([0-9]+)\nevent: ([a-z_.]+)\ndata: (\{.*\})$`)
		for i, block := range blocks[1:] {
			found := form.FindStringSubmatch(block)
			require.NotNil(t, found, "block %q", block)
			event, _ := items[i].(map[string]any)
			require.Equal(t, []any{fmt.Sprint(i + 1), event["type"]}, []any{found[1], found[2]}, "id and event")
			require.Equal(t, event, reply{raw: []byte(found[3])}.json(t), "data, as in the list")
		}
	})
	t.Run("204 to who has seen the final event", func(t *testing.T) {
		t.Parallel()
		proves(t)
		last := fmt.Sprint(b.stored(t, id).Version)
		r := b.get(t, path, "Accept", "text/event-stream", "Last-Event-ID", last)
		require.Equal(t, []any{204, ""}, []any{r.status, string(r.raw)}, "nothing newer")
		require.NotContains(t, r.header, "Content-Type", "a 204 describes no body")
	})
	t.Run("406 to whom neither form fits", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for _, at := range []string{path, "/v1/events"} {
			c := call{method: "GET", path: at, header: headers("Accept", "text/html")}
			requireWhole(t, c, b.do(t, c), 406, "not_acceptable")
		}
	})
	t.Run("a comment every 15 s", func(t *testing.T) {
		t.Parallel()
		proves(t)
		require.Equal(t, 15*time.Second, api.HeartbeatOf(b.server), "unless it is configured")
	})
}

// TestContractLists has rows about lists.
func TestContractLists(t *testing.T) {
	t.Parallel()
	t.Run("page size: 50, at most 200, not negative", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		var all sync.WaitGroup
		for range 17 {
			all.Go(func() {
				for range 12 {
					b.submit(t, deletion)
				}
			})
		}
		all.Wait()
		for query, want := range map[string]int{"": 50, "page_size=0": 50, "page_size=200": 200, "page_size=201": 200, "page_size=1000000": 200} {
			ids, next := b.page(t, query)
			require.Len(t, ids, want, "a page of %q", query)
			require.NotEmpty(t, next, "there are more than %q", query)
		}
		c := call{method: "GET", path: "/v1/tickets?page_size=-1"}
		requireWhole(t, c, b.do(t, c), 400, "invalid_parameter")
	})
	b := setup(t)
	for range 5 {
		b.submit(t, deletion)
	}
	t.Run("keyset: what is opened meanwhile moves nothing", func(t *testing.T) {
		t.Parallel()
		proves(t)
		b := setup(t)
		for range 4 {
			b.submit(t, deletion)
		}
		whole, _ := b.page(t, "")
		first, next := b.page(t, "page_size=2")
		b.submit(t, deletion)
		b.cancel(t, first[1], "") // nor does what is changed meanwhile
		second, end := b.page(t, "page_size=2&page_token="+next)
		require.Equal(t, whole, append(first, second...), "every ticket once")
		require.Empty(t, end, "the end")
	})
	t.Run("token: opaque, URL-safe, bound to its filters, without authority", func(t *testing.T) {
		t.Parallel()
		proves(t)
		_, token := b.page(t, "page_size=1")
		require.Equal(t, token, url.QueryEscape(token), "URL-safe")
		for name, c := range map[string]call{
			"other filters":    {method: "GET", path: "/v1/tickets?state=pending&page_token=" + token},
			"another caller":   {method: "GET", path: "/v1/tickets?page_token=" + token, key: b.other},
			"a person":         {method: "GET", path: "/v1/tickets?page_token=" + token, key: b.people["olaf"]},
			"another list":     {method: "GET", path: "/v1/deliveries?page_token=" + token},
			"forged":           {method: "GET", path: "/v1/tickets?page_token=" + strings.Map(func(r rune) rune { return r ^ 1 }, token[:4]) + token[4:]},
			"without any key ": {method: "GET", path: "/v1/tickets?page_token=" + token, key: "-"},
		} {
			r := b.do(t, c)
			if c.key == "-" {
				requireWhole(t, c, r, 401, "unauthenticated")
				continue
			}
			require.Equal(t, "bad_page_token", r.field(t, "code"), "%s: %s", name, r.raw)
			requireWhole(t, c, r, 400, "bad_page_token")
		}
	})
	t.Run("an empty token is the only end", func(t *testing.T) {
		t.Parallel()
		proves(t)
		seen, query := 0, "page_size=1"
		for {
			ids, next := b.page(t, query)
			if seen += len(ids); next == "" {
				break
			}
			require.Less(t, seen, 5, "an end")
			query = "page_size=1&page_token=" + next
		}
		require.Equal(t, 5, seen, "tickets")
		r := b.get(t, "/v1/tickets?state=cancelled")
		require.JSONEq(t, `{"items":[],"next_page_token":""}`, string(r.raw), "the token is there, and empty")
	})
}
