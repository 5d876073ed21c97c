package egress_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

var goodPaths = []string{
	"/", "/customers", "/customers/", "/customers/42", "/customers/tkt_01jd-x~y.z", "/a%20b", "/a+b", "/caf%C3%A9", "/a:b@c,d=e&f$g!h'i(j)*k",
	"/..a", "/a..", "/a..b", "/.a", "/a.", "/.well-known/x", "/a%3Ab", "/100%25", "/100%25zz", "/%E2%82%AC", "/%F0%9F%98%80", "/a%3Fb", "/a%23b", "/a%22b",
	"/" + strings.Repeat("a", 4095),
}

var badPaths = []string{
	"", "customers", "http://evil.test/", "//evil.test/", "///", "/a//b", "/a//", "/.", "/..", "/./a", "/../a", "/a/.", "/a/..", "/a/../b", "/a/./b", "/...", "/....//",
	"/%2e", "/%2e%2e", "/%2E%2E/a", "/.%2e/a", "/%2e./a", "/a/%2e%2e%2fb", "/..%2fa", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", `/a\b`, `/..\a`, "/%252e%252e/a",
	"/%25%32%65", "/a%252fb", "/a%255cb", "/..%20/a", "/%20", "/.%20", "/%20..", "/..%09/", "/..;/a", "/..;x=y/a", "/a;b", "/a%3bb", "/a%3Bb", "/;", "/..%00/", "/a%00", "/a%0d%0ab",
	"/a%0ab", "/a%7f", "/a%C2%85b", "/a\x00", "/a\r\nX: y", "/a b", "/a\tb", "/a?b", "/a?", "/a#b", "/a#", "/a%", "/a%2", "/a%zz", "/a%g0", "/a%2 ", "/%c0%ae%c0%ae/", "/%c0%af", "/%e0%80%ae",
	"/%ff", "/%C3", "/%ED%A0%80", "/é", "/\xff", "/%EF%BC%8E%EF%BC%8E/", "/%E2%80%A4%E2%80%A4/", "/a%EF%BC%8Fb", "/a%E2%88%95b", "/a%E2%81%84b", "/a%EF%BC%BCb", "/%EF%BC%852e", "/a%EF%BC%9Bb",
	"/%61dmin", "/%41", "/a%2Db", "/a%5Fb", "/a%7Eb", "/%30", `/a"b`, "/a<b", "/a>b", "/a^b", "/a`b", "/a{b", "/a|b", "/a}b", "/a[b]", "*", "/..%c2%a0/", "/" + strings.Repeat("a", 4096),
}

func TestPathsAreRefusedNotNormalised(t *testing.T) {
	t.Parallel()
	for _, p := range goodPaths {
		require.NoError(t, egress.CheckPath(p), "%q", p)
	}
	for _, p := range badPaths {
		require.ErrorIs(t, egress.CheckPath(p), egress.ErrRequest, "%q", p)
		_, err := egress.JoinURL(mustURL("https://x/v1"), p, "")
		require.ErrorIs(t, err, egress.ErrRequest, "%q", p)
	}
}

func TestQueriesAreChecked(t *testing.T) {
	t.Parallel()
	for _, q := range []string{"", "a=1", "a=1&b=%20+&c", "filter[a]=b", "a=%0A%00", "?", "a=/b/../c", "a=%25zz", `a={"b":1}`, "a|b", strings.Repeat("a", 8192)} {
		require.NoError(t, egress.CheckQuery(q), "%q", q)
	}
	for _, q := range []string{"a#b", "a b", "a\tb", "a\r\nb", "a\x00", "a\x7f", "a=é", "a=%", "a=%2", "a=%zz", "a=1;b=2", strings.Repeat("a", 8193)} {
		require.ErrorIs(t, egress.CheckQuery(q), egress.ErrRequest, "%q", q)
	}
}

func TestMethodsAreChecked(t *testing.T) {
	t.Parallel()
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "VERSION-CONTROL"} {
		require.NoError(t, egress.CheckMethod(m))
	}
	for _, m := range []string{"", "get", "Get", "CONNECT", "TRACE", "TRACK", "PRI", "GET ", "GET /x HTTP/1.1\r\n", "GÉT", "G3T", strings.Repeat("A", 21)} {
		require.ErrorIs(t, egress.CheckMethod(m), egress.ErrRequest, "%q", m)
	}
}

func TestEveryAcceptedPathArrivesAsApproved(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	executor := newExecutor(t, egress.Policy{})
	for _, base := range []string{"", "/", "/v1", "/v1/", "/a%20b/v2"} {
		upstream := egress.Upstream{BaseURL: server.url(base)}
		for _, p := range goodPaths {
			outcome := executor.Do(t.Context(), upstream, egress.Request{Method: "GET", Path: p, RawQuery: "q=?/"}, nil)
			require.Equal(t, egress.Answered, outcome.Kind)
			require.Equal(t, "GET "+strings.TrimSuffix(base, "/")+p+"?q=?/ HTTP/1.1", server.last(t).Line)
		}
	}
}

// pathServer is a raw server that says which request line it read; one kept connection serves a whole fuzz worker.
type pathServer struct {
	mu   sync.Mutex
	conn net.Conn
	r    *bufio.Reader
}

func newPathServer(f *testing.F) *pathServer {
	f.Helper()
	server := serveRaw(f, func(_ *rawServer, conn net.Conn, r *bufio.Reader) {
		for {
			req, err := readRaw(r)
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, req.Line+"\n")
		}
	})
	conn, err := net.Dial("tcp", server.addr) //nolint:noctx // no context in a fuzz setup
	require.NoError(f, err)
	return &pathServer{conn: conn, r: bufio.NewReader(conn)}
}

func (s *pathServer) line(t *testing.T, u *url.URL) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}
	require.NoError(t, req.Write(s.conn))
	line, err := s.r.ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSuffix(line, "\n")
}

// FuzzCheckPath compares four readings of an accepted path: ours, a strict parser behind a socket, net/http's server, and
// a careless server that decodes and cleans.
func FuzzCheckPath(f *testing.F) {
	for _, p := range append(append([]string{}, goodPaths...), badPaths...) {
		f.Add(p, "a=1")
	}
	server := newPathServer(f)
	base := mustURL("http://upstream.example/base/v1")
	f.Fuzz(func(t *testing.T, p, query string) {
		u, err := egress.JoinURL(base, p, query)
		if err != nil {
			require.ErrorIs(t, err, egress.ErrRequest)
			return
		}
		target := "/base/v1" + p
		if query != "" {
			target += "?" + query
		}
		line := server.line(t, u)
		require.Equal(t, "GET "+target+" HTTP/1.1", line)

		parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewBufferString(line + "\r\nHost: x\r\n\r\n")))
		require.NoError(t, err)
		require.Equal(t, "/base/v1"+p, parsed.URL.EscapedPath())
		require.Equal(t, query, parsed.URL.RawQuery)
		require.Empty(t, parsed.URL.Fragment)

		decoded, err := url.PathUnescape(p)
		require.NoError(t, err)
		require.True(t, utf8.ValidString(decoded))
		twice := decoded
		if again, err := url.PathUnescape(decoded); err == nil {
			twice = again
		}
		for _, careless := range []string{parsed.URL.Path, "/base/v1" + twice, strings.ReplaceAll("/base/v1"+twice, `\`, "/")} {
			cleaned := path.Clean(careless)
			require.True(t, cleaned == "/base/v1" || strings.HasPrefix(cleaned, "/base/v1/"), "%q leaves the prefix", careless)
			require.Equal(t, strings.TrimSuffix(careless, "/"), cleaned, "cleaning finds something to clean")
		}
	})
}
