package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// answered takes an allowed call to an answer of the upstream.
func (b *bundle) answered(t *testing.T, result approvals.Result) string {
	t.Helper()
	id := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
	b.begin(t, id)
	b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		result.Size, result.Digest, result.ExecutedAt = int64(len(result.Body)), strings.Repeat("ab", 32), now
		return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{Kind: approvals.Answered, Success: true, Result: &result}, now)
	})
	return id
}

// raw reads a result as it is; its body is not held against openapi.yaml, which cannot say
// what upstreams answer.
func (b *bundle) raw(t *testing.T, id string, pairs ...string) reply {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(b.request(t, call{method: "GET", path: "/v1/tickets/" + id + "/result?raw=true", header: headers(pairs...)}))
	require.NoError(t, err, "read the raw result of %s", id)
	defer res.Body.Close() //nolint:errcheck // read to the end below
	return reply{status: res.StatusCode, header: res.Header, raw: readAll(t, res.Body)}
}

func TestARawResultIsTheUpstreamsBodyByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		status      int
		contentType string
		body        string
		attachment  bool
	}{
		"JSON":         {200, "application/json; charset=utf-8", "{\"b\": 1.0,\n \"b\": 2}\n", false},
		"a problem":    {404, "application/problem+json", `{"title":"<b>"}`, false},
		"text":         {500, "text/plain", "plain\r\n", false},
		"HTML":         {200, "text/html", "<script>alert(1)</script>", true},
		"SVG":          {200, "image/svg+xml", "<svg/>", true},
		"bytes":        {200, "application/octet-stream", "\x00\xff", true},
		"no type":      {201, "", "<html>", true},
		"nonsense":     {201, ";;;", "<html>", true},
		"an empty one": {204, "", "", true},
	} {
		result := approvals.Result{ResultSummary: approvals.ResultSummary{Status: c.status}, Body: []byte(c.body), Headers: []approvals.Header{
			{Name: "Location", Value: "/things/1"},
			{Name: "Etag", Value: `"theirs"`},
			{Name: "Content-Security-Policy", Value: "x"},
			{Name: "X-Request-Id", Value: "theirs"},
			{Name: "Cache-Control", Value: "public"},
		}}
		if c.contentType != "" {
			result.Headers = append(result.Headers, approvals.Header{Name: "Content-Type", Value: c.contentType})
		}
		id := b.answered(t, result)
		r := b.raw(t, id, "Accept", "text/csv") // it comes in the form it has
		require.Equal(t, 200, r.status, "never the upstream's own status: %s", name)
		require.Equal(t, c.body, string(r.raw), "the body of %s", name)
		want := c.contentType
		if want == "" {
			want = "application/octet-stream"
		}
		sum := sha256.Sum256([]byte(c.body))
		for field, value := range map[string]string{
			"Content-Type": want, "Asyncresult": http.StatusText(0), "Location": "/things/1",
			"Content-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":", "Cache-Control": "private, no-cache",
			"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff", "Countersign-Truncated": "",
			"Content-Disposition": map[bool]string{true: "attachment"}[c.attachment],
		} {
			if field == "Asyncresult" {
				require.InDelta(t, float64(c.status), b.get(t, "/v1/tickets/"+id+"/result").field(t, "status"), 0, "the same status as JSON")
				continue
			}
			require.Equal(t, value, r.header.Get(field), "%s of %s", field, name)
		}
		require.NotEqual(t, "theirs", r.header.Get("X-Request-Id"), "ours stays")
		require.NotContains(t, r.header.Get("ETag"), "theirs", "ours stays")
	}
}

func TestARawResultKnowsWhatTheClientHas(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.answered(t, approvals.Result{ResultSummary: approvals.ResultSummary{Status: 200, Truncated: true}, Body: []byte("cut")})
	r := b.raw(t, id)
	require.Equal(t, []string{"true", "200"}, []string{r.header.Get("Countersign-Truncated"), strings.Join(r.header["Asyncresult"], "")}, "header: %v", r.header)
	whole := b.get(t, "/v1/tickets/"+id+"/result")
	require.NotEqual(t, whole.header.Get("ETag"), r.header.Get("ETag"), "two forms have two tags")
	for _, known := range []string{r.header.Get("ETag"), `"x", W/` + r.header.Get("ETag"), "*"} {
		again := b.raw(t, id, "If-None-Match", known)
		require.Equal(t, []any{304, r.header.Get("ETag")}, []any{again.status, again.header.Get("ETag")}, "If-None-Match: %s", known)
	}
	require.Equal(t, 200, b.raw(t, id, "If-None-Match", whole.header.Get("ETag")).status, "the tag of the other form")
	require.Equal(t, 304, b.get(t, "/v1/tickets/"+id+"/result", "If-None-Match", whole.header.Get("ETag")).status, "as JSON")
	requireProblem(t, b.get(t, "/v1/tickets/"+id+"/result?raw=yes"), 400, "invalid_parameter")
	requireProblem(t, b.get(t, "/v1/tickets/"+id+"/result?raw=true", "If-None-Match", "3"), 400, "invalid_header")
}

func TestARawResultIsForThoseWhomTheResultIsFor(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	require.Equal(t, 202, b.raw(t, id).status, "not done yet")
	b.decide(t, id, "bo", approvals.Deny)
	requireProblem(t, b.raw(t, id), 409, "no_result")
	requireProblem(t, b.raw(t, id, "If-None-Match", "*"), 409, "no_result")
	done := b.answered(t, approvals.Result{ResultSummary: approvals.ResultSummary{Status: 200}, Body: []byte("secret")})
	requireProblem(t, b.raw(t, done, "Authorization", "Bearer "+b.other), 404, "not_found")
}

func TestARawResultOfTwoTypesIsShownAsNeither(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.answered(t, approvals.Result{
		ResultSummary: approvals.ResultSummary{Status: 200}, Body: []byte("<script>alert(1)</script>"),
		Headers: []approvals.Header{{Name: "Content-Type", Value: "text/plain"}, {Name: "Content-Type", Value: "text/html"}},
	})
	r := b.raw(t, id)
	require.Equal(t, []string{"application/octet-stream"}, r.header.Values("Content-Type"))
	require.Equal(t, "attachment", r.header.Get("Content-Disposition"))
}
