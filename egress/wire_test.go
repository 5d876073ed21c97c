package egress_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// recorder keeps every byte that comes, to the end of each connection.
type recorder struct {
	*rawServer
	mu   sync.Mutex
	wire []string
}

// take returns what came since the last take, connection by connection.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.wire
	r.wire = nil
	return taken
}

// recordWire answers each connection once, as soon as one whole request is there, and then waits for what else comes.
func recordWire(tb testing.TB) *recorder {
	tb.Helper()
	rec := &recorder{}
	rec.rawServer = serveRaw(tb, func(_ *rawServer, conn net.Conn, r *bufio.Reader) {
		var seen bytes.Buffer
		_, err := readRaw(bufio.NewReaderSize(io.TeeReader(r, &seen), 1<<20))
		rec.mu.Lock() // before the answer, so that whoever has the answer finds it
		rec.wire = append(rec.wire, "")
		at := len(rec.wire) - 1
		rec.mu.Unlock()
		if err == nil {
			_, _ = io.WriteString(conn, okAnswer)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(&seen, r) // the client has closed when this returns
		rec.mu.Lock()
		defer rec.mu.Unlock()
		if at < len(rec.wire) {
			rec.wire[at] = seen.String()
		}
	})
	return rec
}

// valueMutations are what is done to a harmless value.
var valueMutations = []struct{ name, value string }{
	{"plain", "x"},
	{"line", "x\r\nX-Injected: 1"},
	{"request", "x\r\n\r\nGET /second HTTP/1.1\r\nHost: evil\r\n\r\n"},
	{"fold", "x\n y"},
	{"null", "x\x00y"},
	{"blank", " x\t"},
	{"latin", "x\xe9"},
}

// Every header a caller could try, with every value, against what the upstream sees on its socket.
func TestHeadersOnTheWireAreThoseOfTheGoldenFile(t *testing.T) {
	t.Parallel()
	names := append(slices.Clone(forbiddenNames),
		"Accept", "Accept-Language", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Type", "Idempotency-Key", "If-Match",
		"If-None-Match", "Prefer", "Range", "Traceparent", "X-Correlation-Id", "X-Idempotency-Key", "X-Request-Id", "X-Listed", "x-listed", "ACCEPT")
	server := recordWire(t)
	executor := newExecutor(t, egress.Policy{})
	upstream := egress.Upstream{BaseURL: server.url("/v1"), RequestHeaders: []string{"X-Listed"}, Credentials: canaryCredentials()}
	request := egress.Request{Method: "POST", Path: "/x", Body: []byte("body"), IdempotencyKey: "tkt_1"}
	require.Equal(t, egress.Answered, executor.Do(t.Context(), upstream, request, nil).Kind)
	var golden strings.Builder
	plain := oneOf(t, server)
	fmt.Fprintf(&golden, "# The request without a header of the caller's, and what a header adds to it or takes from it.\n%q\n\n", strings.ReplaceAll(plain, server.addr, "{host}"))
	cases := 0
	for _, name := range names {
		for _, mutation := range valueMutations {
			cases++
			request.Headers = []egress.Header{{Name: name, Value: mutation.value}}
			outcome := executor.Do(t.Context(), upstream, request, nil)
			fmt.Fprintf(&golden, "%-24s %-8s ", name, mutation.name)
			if outcome.Kind == egress.NotSent {
				require.Equal(t, egress.ErrorInvalid, outcome.ErrorClass)
				golden.WriteString("refused\n")
				continue
			}
			require.Equal(t, egress.Answered, outcome.Kind, "%q %q: %v", name, mutation.value, outcome.Err)
			golden.WriteString(difference(plain, oneOf(t, server)) + "\n")
		}
	}
	require.Empty(t, server.take(), "what was refused never reached the socket")
	compareGolden(t, "testdata/headers-out.golden", golden.String())
	t.Logf("%d names with %d values each: %d cases", len(names), len(valueMutations), cases)
}

// oneOf waits for the end of the one connection that was made.
func oneOf(t *testing.T, server *recorder) string {
	t.Helper()
	var wire []string
	require.Eventually(t, func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		wire = server.wire
		return len(wire) == 1 && wire[0] != ""
	}, 30e9, 1e5)
	return server.take()[0]
}

// difference of two requests, line by line; the order of lines counts.
func difference(before, after string) string {
	was, is := strings.Split(before, "\r\n"), strings.Split(after, "\r\n")
	var changes []string
	for _, line := range was {
		if !slices.Contains(is, line) {
			changes = append(changes, fmt.Sprintf("-%q", line))
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			changes = append(changes, fmt.Sprintf("+%q", line))
		}
	}
	if len(changes) == 0 {
		return "nothing"
	}
	return strings.Join(changes, " ")
}

func compareGolden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // one of ours
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// Every header an upstream could try, with every value, against what is kept of its answer.
func TestHeadersOfAnswersAreThoseOfTheGoldenFile(t *testing.T) {
	t.Parallel()
	names := append(slices.Clone(forbiddenNames),
		"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location", "Content-Type", "ETag", "Last-Modified", "Link", "Location",
		"RateLimit", "Request-Id", "Retry-After", "X-Request-Id", "X-Correlation-Id", "WWW-Authenticate", "Strict-Transport-Security", "Set-Cookie2")
	mutations := []struct{ name, value string }{
		{"plain", "x"},
		{"bare CR", "x\rX-Injected: 1"},
		{"bare LF", "x\nX-Request-Id: injected"},
		{"fold", "x\r\n y"},
		{"null", "x\x00y"},
		{"latin", "x\xe9"},
		{"secret", canary},
		{"long", strings.Repeat("x", 9000)},
	}
	var mu sync.Mutex
	next := ""
	server := serveRaw(t, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		if _, err := s.read(r); err == nil {
			mu.Lock()
			defer mu.Unlock()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+next+"\r\nConnection: close\r\n\r\n")
		}
	})
	executor := newExecutor(t, egress.Policy{})
	upstream := egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}
	var golden strings.Builder
	for _, name := range names {
		for _, mutation := range mutations {
			mu.Lock()
			next = name + ": " + mutation.value
			mu.Unlock()
			outcome := executor.Do(t.Context(), upstream, get("/"), nil)
			fmt.Fprintf(&golden, "%-26s %-8s %s", name, mutation.name, outcome.Kind)
			for _, h := range outcome.Headers {
				require.NotContains(t, h.Value, "\r")
				require.NotContains(t, h.Value, "\n")
				require.NotContains(t, h.Value, "c4n4ry")
				fmt.Fprintf(&golden, " %s=%q", h.Name, h.Value)
			}
			golden.WriteString("\n")
		}
	}
	compareGolden(t, "testdata/headers-in.golden", golden.String())
	t.Logf("%d names with %d values each: %d cases", len(names), len(mutations), len(names)*len(mutations))
}

// Nothing that a caller gives makes a second request of one, or another request of it.
func TestNothingACallerGivesBecomesASecondRequest(t *testing.T) {
	t.Parallel()
	second := "GET /second HTTP/1.1\r\nHost: evil\r\n\r\n"
	bodies := []string{
		"", second, "\r\n\r\n" + second, "0\r\n\r\n" + second, "5\r\nhello\r\n0\r\n\r\n" + second, "\n\n" + second, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00", "\r", "\n",
		strings.Repeat(second, 500),
	}
	paths := []string{"/x", "/x HTTP/1.1\r\nHost: evil\r\n\r\n", "/x\r\n\r\n" + second, "/x\n", "/x%0d%0aHost:%20evil", "/x\x00", "http://evil/x", "//evil/x", "/x?\r\n", "/x#y", "/%20HTTP/1.1", "*"}
	queries := []string{"", "a=1 HTTP/1.1\r\nHost: evil\r\n\r\n", "a=%0d%0a%0d%0aGET%20/second", "a=1\n", "a=1\r", "a=\x00", "a=1#b", "?a", "a=1%20HTTP/1.1"}
	methods := []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS", "GET /second HTTP/1.1\r\nHost: evil\r\n\r\nGET", "POST\r\n", "CONNECT", "TRACE", ""}
	framing := [][]egress.Header{
		nil,
		{{"Content-Length", "0"}},
		{{"Transfer-Encoding", "chunked"}},
		{{"Transfer-Encoding ", "chunked"}},
		{{"transfer-encoding", "identity"}},
		{{"Connection", "keep-alive"}},
		{{"Expect", "100-continue"}},
		{{"Upgrade", "h2c"}},
		{{"TE", "trailers"}},
		{{"Trailer", "X"}},
		{{"Host", "evil"}},
		{{"Accept", "x\r\nTransfer-Encoding: chunked"}},
		{{"Accept\r\nTransfer-Encoding", "chunked"}},
		{{"Accept:", "x"}},
		{{"", "x"}},
		{{"Content-Type", "a/b\r\n\r\n" + second}},
		{{"Accept", "x\x00"}},
		{{"Content-Encoding", "chunked"}},
	}
	keys := []string{"tkt_1", "k\r\nHost: evil", "k\r\n\r\n" + second, "k\x00"}
	var requests []egress.Request
	for _, method := range methods {
		for _, body := range bodies {
			requests = append(requests, egress.Request{Method: method, Path: "/x", Body: []byte(body), IdempotencyKey: "tkt_1"})
		}
	}
	for _, path := range paths {
		for _, query := range queries {
			requests = append(requests, egress.Request{Method: "POST", Path: path, RawQuery: query, Body: []byte(second)})
		}
	}
	for _, headers := range framing {
		for _, key := range keys {
			requests = append(requests, egress.Request{Method: "POST", Path: "/x", Headers: headers, Body: []byte(second), IdempotencyKey: key})
		}
	}
	server := recordWire(t)
	executor := newExecutor(t, egress.Policy{})
	sent := 0
	for _, request := range requests {
		outcome := executor.Do(t.Context(), egress.Upstream{BaseURL: server.url("/base"), Credentials: canaryCredentials()}, request, nil)
		if outcome.Kind == egress.NotSent {
			require.Equal(t, egress.ErrorInvalid, outcome.ErrorClass, "%q", request)
			continue
		}
		require.Equal(t, egress.Answered, outcome.Kind, "%q: %v", request, outcome.Err)
		sent++
		requireOneRequest(t, oneOf(t, server), request, server.addr)
	}
	require.Empty(t, server.take())
	require.Greater(t, sent, 50)
	t.Logf("%d requests, %d of them sent, each as one request to the byte", len(requests), sent)
}

// requireOneRequest reads the wire with net/http's parser and with readRaw, which is stricter, and by hand.
func requireOneRequest(t *testing.T, wire string, want egress.Request, host string) {
	t.Helper()
	target := "/base" + want.Path
	if want.RawQuery != "" {
		target += "?" + want.RawQuery
	}
	head, body, found := strings.Cut(wire, "\r\n\r\n")
	require.True(t, found)
	require.Equal(t, string(want.Body), body, "the body is all there is behind the head")
	lines := strings.Split(head, "\r\n")
	require.Equal(t, want.Method+" "+target+" HTTP/1.1", lines[0])
	require.Equal(t, "Host: "+host, lines[1])
	require.NotContains(t, strings.ReplaceAll(head, "\r\n", ""), "\n")
	require.NotContains(t, strings.ReplaceAll(head, "\r\n", ""), "\r")
	require.NotContains(t, strings.ToLower(head), "\r\ntransfer-encoding:")
	require.Equal(t, 1, strings.Count(strings.ToLower(head), "\r\nhost:"))
	require.LessOrEqual(t, strings.Count(strings.ToLower(head), "\r\ncontent-length:"), 1)

	reader := bufio.NewReader(strings.NewReader(wire))
	parsed, err := http.ReadRequest(reader)
	require.NoError(t, err)
	content, err := io.ReadAll(parsed.Body)
	require.NoError(t, err)
	require.Equal(t, string(want.Body), string(content))
	require.Equal(t, []string{want.Method, target, host}, []string{parsed.Method, parsed.RequestURI, parsed.Host})
	_, err = reader.ReadByte()
	require.ErrorIs(t, err, io.EOF, "nothing is left over for a second request")
}
