package egress_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// strictTarget reads a request as RFC 9112 has it, to the letter: method SP origin-form SP version, then Host. It
// returns the target and the host, or false.
func strictTarget(wire string) (path, query, host string, ok bool) {
	line, rest, found := strings.Cut(wire, "\r\n")
	parts := strings.Split(line, " ")
	if !found || len(parts) != 3 || parts[0] != "GET" || parts[2] != "HTTP/1.1" {
		return "", "", "", false
	}
	for i := range len(parts[1]) {
		c := parts[1][i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>\^{}#`+"`", c) >= 0 && !strings.Contains(parts[1][:i], "?") {
			return "", "", "", false
		}
	}
	path, query, _ = strings.Cut(parts[1], "?")
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return "", "", "", false
	}
	for header := range strings.SplitSeq(strings.TrimSuffix(rest, "\r\n\r\n"), "\r\n") {
		name, value, found := strings.Cut(header, ": ")
		if !found || strings.ContainsAny(header, "\r\n") || host != "" && name == "Host" {
			return "", "", "", false
		}
		if name == "Host" {
			host = value
		}
	}
	return path, query, host, strings.HasSuffix(rest, "\r\n\r\n") && strings.Count(wire, "\r\n\r\n") == 1
}

// FuzzJoinURL builds a request and has it read by net/http's server side and by a parser that knows nothing of it: both
// must find the path that was approved, below the base path, on the host of the base.
func FuzzJoinURL(f *testing.F) {
	bases := []string{"", "/", "/v1", "/v1/", "/a%20b/v2", "/deep/er/still"}
	which := uint8(0)
	for _, p := range append(append([]string{}, goodPaths...), badPaths...) {
		f.Add(which, p, "a=1")
		f.Add(which, "/x", p)
		which++
	}
	for _, p := range []string{"/..%2f..%2fadmin", "/%2e%2e/%2e%2e", "/@evil.test/", "/x:80@evil/", "/x%3f", "/x%23y", "/%2F%2Fevil", "//evil/..", "/\\evil", "/x;/..;/y", "/.%00./", "/%e2%80%a5/"} {
		f.Add(uint8(2), p, "")
	}
	f.Fuzz(func(t *testing.T, which uint8, p, query string) {
		prefix := bases[int(which)%len(bases)]
		base := mustURL("http://upstream.example:8080" + prefix)
		before := *base
		u, err := egress.JoinURL(base, p, query)
		require.Equal(t, before, *base, "the base is left alone")
		if err != nil {
			require.ErrorIs(t, err, egress.ErrRequest)
			return
		}
		want := strings.TrimSuffix(prefix, "/") + p
		require.Equal(t, []string{"http", "upstream.example:8080", want}, []string{u.Scheme, u.Host, u.EscapedPath()})
		require.Nil(t, u.User)

		var wire bytes.Buffer
		require.NoError(t, (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).Write(&wire))
		path, rawQuery, host, ok := strictTarget(wire.String())
		require.True(t, ok, "%q", wire.String())
		require.Equal(t, []string{want, query, "upstream.example:8080"}, []string{path, rawQuery, host})
		require.True(t, strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/"), "%q is not under %q", path, prefix)

		reader := bufio.NewReader(&wire)
		parsed, err := http.ReadRequest(reader)
		require.NoError(t, err)
		require.Equal(t, []string{want, query, "upstream.example:8080"}, []string{parsed.URL.EscapedPath(), parsed.URL.RawQuery, parsed.Host})
		require.Empty(t, parsed.URL.Host, "origin form")
		require.Zero(t, reader.Buffered(), "one request and no more")

		// What a server resolves the path to, by the rules of RFC 3986, is the path.
		resolved, err := url.Parse("http://upstream.example:8080" + prefix)
		require.NoError(t, err)
		reference, err := resolved.Parse(want)
		require.NoError(t, err)
		require.Equal(t, want, reference.EscapedPath())
		require.Equal(t, "upstream.example:8080", reference.Host)
	})
}
