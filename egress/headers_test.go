package egress_test

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

var forbiddenNames = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade", "HTTP2-Settings", "Expect",
	"Proxy", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection", "Authorization", "Cookie", "Cookie2", "Set-Cookie", "Forwarded",
	"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Client-Cert", "X-Forwarded-User",
	"X-Forwarded", "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Fastly-Client-IP", "Via",
	"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Original-Method", "X-Original-Host", "X-Host",
	"Countersign-Ticket", "Countersign-Justification", "Countersign-Anything", "Accept-Encoding", "User-Agent", "Remote-User", "X-Remote-User", "X-Authenticated-User",
	"Impersonate-User", "Impersonate-Group", "Sec-Fetch-Site", "Early-Data", "Max-Forwards", "Alt-Svc", "X-Envoy-Original-Path", "Front-End-Https", "Remote-Addr",
	"X-Unknown", "Stripe-Version", "Origin", "Referer", "Date", "Server", "From", "Signature", "Webhook-Id",
}

func TestForbiddenHeadersAreRefusedInEverySpelling(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(forbiddenNames), 60)
	server := serveRaw(t, answer(okAnswer))
	executor, upstream := newExecutor(t, egress.Policy{}), egress.Upstream{BaseURL: server.url("")}
	for _, name := range forbiddenNames {
		for _, spelled := range []string{name, strings.ToLower(name), strings.ToUpper(name), name + " ", " " + name, name + ":", "Accept: x\r\n" + name, name + "\x00", "\t" + name} {
			h := egress.Header{Name: spelled, Value: "x"}
			require.False(t, egress.AllowedRequestHeader(spelled), "%q", spelled)
			require.ErrorIs(t, egress.CheckHeaders([]egress.Header{{"Accept", "a/b"}, h}), egress.ErrRequest, "%q", spelled)
			outcome := executor.Do(t.Context(), upstream, egress.Request{Method: "GET", Path: "/", Headers: []egress.Header{h}}, nil)
			require.Equal(t, egress.NotSent, outcome.Kind)
		}
	}
	require.Zero(t, server.conns.Load())
}

func TestTheOperatorMayAddHeadersButNotForbiddenOnes(t *testing.T) {
	t.Parallel()
	require.True(t, egress.AllowedRequestHeader("stripe-version", "Stripe-Version"))
	require.True(t, egress.AllowedRequestHeader("X-GitHub-Api-Version", "x-github-api-version"))
	require.NoError(t, egress.CheckHeaders([]egress.Header{{"X-Thing", "1"}}, "x-thing"))
	for _, name := range []string{"Host", "Authorization", "Cookie", "X-Forwarded-For", "Countersign-X", "Transfer-Encoding", "Impersonate-User", "bad name"} {
		require.False(t, egress.AllowedRequestHeader(name, name), name)
	}
}

func TestHeaderValuesAndSizesAreChecked(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "application/json; charset=utf-8", "a\tb", "a b", `"etag"`, strings.Repeat("x", 8000)} {
		require.NoError(t, egress.CheckHeaders([]egress.Header{{"Accept", value}}), "%q", value)
	}
	for _, value := range []string{"a\r\nX: y", "a\nb", "a\rb", "a\x00", "a\x7f", "\x01", " a", "a ", "\ta", "é", "\xff", "\u202e", strings.Repeat("x", 8192)} {
		require.ErrorIs(t, egress.CheckHeaders([]egress.Header{{"Accept", value}}), egress.ErrRequest, "%q", value)
	}
	for _, name := range []string{"", " ", "a b", "a:b", "Äccept", "a\r\nb", "a(b)"} {
		require.ErrorIs(t, egress.CheckHeaders([]egress.Header{{name, "x"}}, name), egress.ErrRequest, "%q", name)
	}
	many := make([]egress.Header, 65)
	for i := range many {
		many[i] = egress.Header{Name: "Accept", Value: "a/b"}
	}
	require.NoError(t, egress.CheckHeaders(many[:64]))
	require.ErrorIs(t, egress.CheckHeaders(many), egress.ErrRequest)
	large := egress.Header{Name: "Accept", Value: strings.Repeat("x", 8000)}
	require.NoError(t, egress.CheckHeaders([]egress.Header{large, large, large, large}))
	require.ErrorIs(t, egress.CheckHeaders([]egress.Header{large, large, large, large, large}), egress.ErrRequest)
	require.ErrorIs(t, egress.CheckHeaders([]egress.Header{{"Content-Type", "a/b"}, {"content-type", "c/d"}}), egress.ErrRequest)
	require.ErrorIs(t, egress.CheckHeaders([]egress.Header{{"Range", "bytes=0-"}, {"RANGE", "bytes=1-"}}), egress.ErrRequest)
	require.NoError(t, egress.CheckHeaders([]egress.Header{{"If-Match", `"1"`}, {"if-match", `"2"`}}))
}

// FuzzCheckHeaders writes accepted headers to the wire and expects a server to read exactly those back.
func FuzzCheckHeaders(f *testing.F) {
	for _, name := range append([]string{"Accept", "content-type", "IF-MATCH", "X-Request-Id", "Idempotency-Key"}, forbiddenNames...) {
		f.Add(name, "value", "Prefer", "wait=1")
	}
	for _, value := range []string{"", "a\r\nHost: evil", "a\tb", " a", "a\x00b", "é", "a\x7f"} {
		f.Add("Accept", value, "Accept", value)
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		headers := []egress.Header{{name1, value1}, {name2, value2}}
		if err := egress.CheckHeaders(headers); err != nil {
			require.ErrorIs(t, err, egress.ErrRequest)
			return
		}
		want := http.Header{}
		for _, h := range headers {
			require.True(t, egress.AllowedRequestHeader(h.Name))
			want.Add(h.Name, h.Value)
		}
		req := &http.Request{Method: http.MethodGet, URL: mustURL("http://upstream.example/x"), Header: want.Clone()}
		req.Header.Set("User-Agent", "")
		var wire bytes.Buffer
		require.NoError(t, req.Write(&wire))
		got, err := http.ReadRequest(bufio.NewReader(&wire))
		require.NoError(t, err)
		require.Equal(t, want, got.Header)
		require.Equal(t, "upstream.example", got.Host)
		require.Zero(t, got.ContentLength)
		require.Empty(t, got.TransferEncoding)
		require.Zero(t, wire.Len(), "nothing is left over for a second request")
	})
}
