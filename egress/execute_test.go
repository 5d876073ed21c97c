package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/egress/egresstest"
)

const canary = "Bearer c4n4ry/+Secret&Value=="

func canaryCredentials() []egress.Credential {
	return []egress.Credential{{Name: "Authorization", Value: egress.NewSecret(canary)}}
}

// replayer answers every request but the last of each pair; before that answer it closes the connection.
func replayer(tb testing.TB) *rawServer {
	tb.Helper()
	return serveRaw(tb, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := s.read(r); err != nil {
				return
			}
			if s.effects.Load() == 2 {
				return // the effect has happened, the answer is lost
			}
			if _, err := io.WriteString(conn, okAnswer); err != nil {
				return
			}
		}
	})
}

// The six calls that net/http would make twice, or that are next to those, when a kept connection dies after the server
// has read the request.
func TestExecuteNeverSendsAnythingTwice(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		request egress.Request
		hazard  bool // a stock client doubles it
	}{
		"POST without a key":         {egress.Request{Method: "POST", Path: "/x", Body: []byte("{}")}, false},
		"POST with a key":            {egress.Request{Method: "POST", Path: "/x", Body: []byte("{}"), IdempotencyKey: "tkt_1"}, true},
		"DELETE with a key, no body": {egress.Request{Method: "DELETE", Path: "/x", IdempotencyKey: "tkt_1"}, true},
		"POST with X-Idempotency-Key": {egress.Request{Method: "POST", Path: "/x", Body: []byte("{}"), Headers: []egress.Header{
			{Name: "X-Idempotency-Key", Value: "tkt_1"},
		}}, true},
		"POST with a key and a large body": {egress.Request{Method: "POST", Path: "/x", Body: bytes.Repeat([]byte("x"), 200_000), IdempotencyKey: "tkt_1"}, true},
		"GET":                              {egress.Request{Method: "GET", Path: "/x"}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := replayer(t)
			executor := newExecutor(t, egress.Policy{})
			upstream := egress.Upstream{BaseURL: server.url("")}
			require.Equal(t, egress.Answered, executor.Do(t.Context(), upstream, c.request, nil).Kind)
			outcome := executor.Do(t.Context(), upstream, c.request, nil)
			require.Equal(t, egress.Unknown, outcome.Kind)
			require.Equal(t, egress.ErrorReset, outcome.ErrorClass)
			require.EqualValues(t, 2, server.effects.Load(), "one effect for each call")
			require.EqualValues(t, 2, server.conns.Load())

			control := replayer(t)
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range 2 {
				req, err := http.NewRequestWithContext(t.Context(), c.request.Method, control.url("/x").String(), bytes.NewReader(c.request.Body))
				require.NoError(t, err)
				for _, h := range c.request.Headers {
					req.Header.Set(h.Name, h.Value)
				}
				if c.request.IdempotencyKey != "" {
					req.Header.Set("Idempotency-Key", c.request.IdempotencyKey)
				}
				resp, err := client.Do(req)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
			}
			require.Equal(t, c.hazard, control.effects.Load() == 3, "this server does tell when a client sends twice")
		})
	}
}

func TestExecuteSendsExactlyWhatWasApproved(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	upstream := egress.Upstream{
		Name: "billing", BaseURL: server.url("/v1/"), RequestHeaders: []string{"stripe-version"},
		Credentials: []egress.Credential{{Name: "x-api-key", Value: egress.NewSecret("k-1234567")}, {Name: "Authorization", Value: egress.NewSecret(canary)}},
	}
	request := egress.Request{
		Method: "PATCH", Path: "/customers/a%20b%C3%A9@x:y,z", RawQuery: "hard=true&filter[a]=%0A", Body: []byte(`{"a":1}`), IdempotencyKey: "tkt_1",
		Headers: []egress.Header{{"content-type", "application/json"}, {"Accept", "a/b"}, {"accept", "c/d"}, {"Stripe-Version", "2026-01-01"}},
	}
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, request, nil)
	require.Equal(t, egress.Answered, outcome.Kind)
	require.NoError(t, outcome.Err)
	require.Equal(t, rawRequest{
		Line: "PATCH /v1/customers/a%20b%C3%A9@x:y,z?hard=true&filter[a]=%0A HTTP/1.1",
		Headers: []string{
			"Host: " + server.addr, "User-Agent: Countersign/1.2.3", "Content-Length: 7", "Accept: a/b", "Accept: c/d",
			"Accept-Encoding: identity", "Authorization: " + canary, "Content-Type: application/json", "Idempotency-Key: tkt_1",
			"Stripe-Version: 2026-01-01", "X-Api-Key: k-1234567", "Connection: close",
		},
		Body: `{"a":1}`,
	}, server.last(t))
	require.Equal(t, 200, outcome.Status)
	require.True(t, outcome.Success)
	require.Equal(t, "ok", string(outcome.Body))
	require.EqualValues(t, 2, outcome.Size)
	require.Equal(t, egress.ContentDigest([]byte("ok")), outcome.Digest)
	require.Equal(t, []egress.Header{{"Content-Type", "text/plain"}}, outcome.Headers)
	require.Positive(t, outcome.Duration)
}

func TestExecuteKeepsTheCallersOwnIdempotencyKey(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	request := egress.Request{Method: "POST", Path: "/", IdempotencyKey: "tkt_1", Headers: []egress.Header{{"idempotency-key", "mine"}}}
	newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, request, nil)
	require.Equal(t, "mine", server.last(t).header("Idempotency-Key"))
}

func TestBeforeDialSeesTheRequestWithoutCredentialsAndCanRefuseIt(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	executor := newExecutor(t, egress.Policy{})
	upstream := egress.Upstream{Name: "billing", BaseURL: server.url("/v1"), Credentials: canaryCredentials()}
	request := egress.Request{Method: "POST", Path: "/a%2Bb", RawQuery: "x=1", Body: []byte("body"), IdempotencyKey: "tkt_1"}
	errNo := errors.New("digest differs")
	outcome := executor.Do(t.Context(), upstream, request, func(*http.Request) error { return errNo })
	require.Equal(t, egress.NotSent, outcome.Kind)
	require.Equal(t, egress.ErrorRefused, outcome.ErrorClass)
	require.ErrorIs(t, outcome.Err, errNo)
	require.Zero(t, server.conns.Load(), "not even dialled")

	outcome = executor.Do(t.Context(), upstream, request, func(r *http.Request) error {
		require.Equal(t, server.url("/v1/a%2Bb?x=1").String(), r.URL.String())
		require.Empty(t, r.Header.Get("Authorization"))
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		require.Equal(t, "body", string(body))
		require.Nil(t, r.GetBody)
		body[0] = 'X'
		r.Method, r.URL.Path, r.URL.RawPath, r.Host = "DELETE", "/other", "", "evil.test"
		r.Header.Set("Idempotency-Key", "other")
		return nil
	})
	require.Equal(t, egress.Answered, outcome.Kind)
	got := server.last(t)
	require.Equal(t, "POST /v1/a%2Bb?x=1 HTTP/1.1", got.Line, "changing the preview changes nothing")
	require.Equal(t, []string{"body", "tkt_1", server.addr, canary}, []string{got.Body, got.header("Idempotency-Key"), got.header("Host"), got.header("Authorization")})
}

func TestExecuteRefusesBadRequestsBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	executor := newExecutor(t, egress.Policy{})
	upstream := egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}
	withCustom := egress.Upstream{BaseURL: server.url(""), RequestHeaders: []string{"X-Token"}, Credentials: []egress.Credential{{Name: "x-token", Value: egress.NewSecret("secret")}}}
	for name, c := range map[string]struct {
		upstream egress.Upstream
		request  egress.Request
	}{
		"path":                           {upstream, get("/../admin")},
		"query":                          {upstream, egress.Request{Method: "GET", Path: "/", RawQuery: "a#b"}},
		"method":                         {upstream, egress.Request{Method: "TRACE", Path: "/"}},
		"lower-case method":              {upstream, egress.Request{Method: "get", Path: "/"}},
		"no method":                      {upstream, egress.Request{Path: "/"}},
		"header":                         {upstream, egress.Request{Method: "GET", Path: "/", Headers: []egress.Header{{"Host", "x"}}}},
		"idempotency key":                {upstream, egress.Request{Method: "GET", Path: "/", IdempotencyKey: "a\r\nB: c"}},
		"a header named as credential":   {withCustom, egress.Request{Method: "GET", Path: "/", Headers: []egress.Header{{"X-TOKEN", "mine"}}}},
		"no base url":                    {egress.Upstream{}, get("/")},
		"base url with userinfo":         {egress.Upstream{BaseURL: mustURL("http://u:p@x/")}, get("/")},
		"base url with a broken host":    {egress.Upstream{BaseURL: &url.URL{Scheme: "http", Host: "a b"}}, get("/")},
		"a very long idempotency key":    {upstream, egress.Request{Method: "GET", Path: "/", IdempotencyKey: strings.Repeat("k", 256)}},
		"base url with query":            {egress.Upstream{BaseURL: mustURL("http://x/?a")}, get("/")},
		"base url with dots":             {egress.Upstream{BaseURL: mustURL("http://x/a/../b")}, get("/")},
		"base url of another scheme":     {egress.Upstream{BaseURL: mustURL("ftp://x/")}, get("/")},
		"credential with a line break":   {egress.Upstream{BaseURL: server.url(""), Credentials: []egress.Credential{{Name: "A", Value: egress.NewSecret("a\nb")}}}, get("/")},
		"empty credential":               {egress.Upstream{BaseURL: server.url(""), Credentials: []egress.Credential{{Name: "A"}}}, get("/")},
		"credential in Host":             {egress.Upstream{BaseURL: server.url(""), Credentials: []egress.Credential{{Name: "host", Value: egress.NewSecret("a")}}}, get("/")},
		"forbidden header on the list":   {egress.Upstream{BaseURL: server.url(""), RequestHeaders: []string{"Cookie"}}, get("/")},
		"withheld header on the list":    {egress.Upstream{BaseURL: server.url(""), ResponseHeaders: []string{"set-cookie"}}, get("/")},
		"negative limit":                 {egress.Upstream{BaseURL: server.url(""), MaxResponseBytes: -1}, get("/")},
		"a limit beyond the upper bound": {egress.Upstream{BaseURL: server.url(""), MaxResponseBytes: 1 << 62}, get("/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outcome := executor.Do(t.Context(), c.upstream, c.request, func(*http.Request) error {
				t.Error("beforeDial was asked about a request that cannot be built")
				return nil
			})
			require.Equal(t, egress.NotSent, outcome.Kind)
			require.Equal(t, egress.ErrorInvalid, outcome.ErrorClass)
			require.Error(t, outcome.Err)
		})
	}
	require.Zero(t, server.conns.Load())
}

func mustURL(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return u
}

func TestAFailureBeforeTheFirstByteIsNotSent(t *testing.T) {
	t.Parallel()
	closed := serveRaw(t, func(*rawServer, net.Conn, *bufio.Reader) {})
	closedURL := closed.url("")
	refusedURL := mustURL("http://" + egresstest.Refusing(t))
	silent := serveRaw(t, func(_ *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	plain := serveRaw(t, func(_ *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = r.Peek(1)
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
	})
	secure := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached") }))
	secure.Config.ErrorLog = quiet()
	t.Cleanup(secure.Close)
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} //nolint:gosec // that is the point
	old.Config.ErrorLog = quiet()
	old.StartTLS()
	t.Cleanup(old.Close)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	nowhere := egress.Policy{Resolver: fakeDNS(t, always())}
	pool := x509.NewCertPool()
	pool.AddCert(old.Certificate())

	for name, c := range map[string]struct {
		ctx    context.Context
		policy egress.Policy
		up     egress.Upstream
		class  string
	}{
		"connection refused":        {up: egress.Upstream{BaseURL: refusedURL}, class: egress.ErrorConnect},
		"unknown name":              {policy: nowhere, up: egress.Upstream{BaseURL: mustURL("http://nowhere.example")}, class: egress.ErrorDNS},
		"metadata":                  {up: egress.Upstream{BaseURL: mustURL("http://169.254.169.254/latest")}, class: egress.ErrorBlocked},
		"link-local with a zone":    {up: egress.Upstream{BaseURL: mustURL("http://[fe80::1%25lo]:80")}, class: egress.ErrorBlocked},
		"metadata, v4-mapped":       {up: egress.Upstream{BaseURL: mustURL("http://[::ffff:169.254.169.254]")}, class: egress.ErrorBlocked},
		"metadata through NAT64":    {up: egress.Upstream{BaseURL: mustURL("http://[64:ff9b::a9fe:a9fe]")}, class: egress.ErrorBlocked},
		"unspecified":               {up: egress.Upstream{BaseURL: mustURL("http://0.0.0.0")}, class: egress.ErrorBlocked},
		"metadata behind a name":    {policy: egress.Policy{Resolver: fakeDNS(t, always("169.254.169.254"))}, up: egress.Upstream{BaseURL: mustURL("http://m.example")}, class: egress.ErrorBlocked},
		"our own address":           {policy: egress.Policy{DenyAddrs: []netip.AddrPort{netip.MustParseAddrPort(closed.addr)}}, up: egress.Upstream{BaseURL: closedURL}, class: egress.ErrorBlocked},
		"certificate not trusted":   {up: egress.Upstream{BaseURL: mustURL(secure.URL)}, class: egress.ErrorTLS},
		"TLS 1.1":                   {up: egress.Upstream{BaseURL: mustURL(old.URL), RootCAs: pool}, class: egress.ErrorTLS},
		"no TLS there":              {up: egress.Upstream{BaseURL: mustURL("https://" + plain.addr)}, class: egress.ErrorTLS},
		"closed in the handshake":   {up: egress.Upstream{BaseURL: mustURL("https://" + closed.addr)}, class: egress.ErrorTLS},
		"handshake without answer":  {up: egress.Upstream{BaseURL: mustURL("https://" + silent.addr), Timeout: 100 * time.Millisecond}, class: egress.ErrorTimeout},
		"given up before the start": {ctx: gone, up: egress.Upstream{BaseURL: silent.url("")}, class: egress.ErrorCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			c.up.Credentials = canaryCredentials()
			outcome := newExecutor(t, c.policy).Do(ctx, c.up, egress.Request{Method: "POST", Path: "/x", Body: []byte("b")}, nil)
			require.Equal(t, egress.NotSent, outcome.Kind, "%v", outcome.Err)
			require.Equal(t, c.class, outcome.ErrorClass, "%v", outcome.Err)
			require.Equal(t, c.class == egress.ErrorBlocked, errors.Is(outcome.Err, egress.ErrBlocked))
			require.NotContains(t, outcome.Err.Error(), "c4n4ry")
		})
	}
	require.Zero(t, silent.effects.Load())
}

func TestSilenceAfterTheFirstByteIsUnknown(t *testing.T) {
	t.Parallel()
	flood := strings.Repeat("X-Flood: "+strings.Repeat("y", 1000)+"\r\n", 100)
	slow := func(piece string) func(*rawServer, net.Conn, *bufio.Reader) {
		return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			ticker := time.NewTicker(5 * time.Millisecond)
			defer ticker.Stop()
			for {
				if _, err := io.WriteString(conn, piece); err != nil {
					return
				}
				<-ticker.C
			}
		}
	}
	for name, c := range map[string]struct {
		server func(*rawServer, net.Conn, *bufio.Reader)
		class  string
	}{
		"closed after the request": {answer(""), egress.ErrorReset},
		"closed without reading":   {func(*rawServer, net.Conn, *bufio.Reader) {}, egress.ErrorReset},
		"reset after the request": {func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			_ = conn.(*net.TCPConn).SetLinger(0)
		}, egress.ErrorReset},
		"no answer":                 {func(s *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = s.read(r); _, _ = r.ReadByte() }, egress.ErrorTimeout},
		"half a status line":        {answer("HTTP/1.1 20"), egress.ErrorProtocol},
		"half a head":               {answer("HTTP/1.1 200 OK\r\nContent-Le"), egress.ErrorProtocol},
		"a head without its end":    {answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), egress.ErrorReset},
		"not HTTP":                  {answer("220 mail ready\r\n"), egress.ErrorProtocol},
		"not HTTP, with the secret": {answer(canary + "\r\n\r\n"), egress.ErrorProtocol},
		"two lengths":               {answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), egress.ErrorProtocol},
		"switching protocols":       {answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), egress.ErrorProtocol},
		"flood of headers":          {answer("HTTP/1.1 200 OK\r\n" + flood + "\r\n"), egress.ErrorProtocol},
		"one endless header":        {slow("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("z", 8192)), egress.ErrorProtocol},
		"flood of 1xx":              {slow(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 100)), egress.ErrorProtocol},
		"slow 100s":                 {slow("HTTP/1.1 100 Continue\r\n\r\n"), egress.ErrorTimeout},
		"slow headers":              {answerThen("HTTP/1.1 200 OK\r\n", slow("X")), egress.ErrorTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveRaw(t, c.server)
			upstream := egress.Upstream{BaseURL: server.url(""), Timeout: 300 * time.Millisecond, Credentials: canaryCredentials()}
			request := egress.Request{Method: "POST", Path: "/x", Body: []byte("b"), IdempotencyKey: "tkt_1"}
			within(t, 1300*time.Millisecond, func() {
				outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, request, nil)
				require.Equal(t, egress.Unknown, outcome.Kind)
				require.Equal(t, c.class, outcome.ErrorClass, "%v", outcome.Err)
				require.NotContains(t, outcome.Err.Error(), "c4n4ry")
				require.Zero(t, outcome.Status)
				require.Empty(t, outcome.Body)
			})
			require.EqualValues(t, 1, server.conns.Load())
			require.LessOrEqual(t, server.effects.Load(), int64(1))
		})
	}
}

func answerThen(text string, then func(*rawServer, net.Conn, *bufio.Reader)) func(*rawServer, net.Conn, *bufio.Reader) {
	return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = io.WriteString(conn, text)
		then(s, conn, r)
	}
}

func TestGivingUpAfterTheRequestWasSentIsUnknown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := serveRaw(t, func(s *rawServer, _ net.Conn, r *bufio.Reader) {
		_, _ = s.read(r)
		cancel()
		_, _ = r.ReadByte()
	})
	outcome := newExecutor(t, egress.Policy{}).Do(ctx, egress.Upstream{BaseURL: server.url("")}, get("/"), nil)
	require.Equal(t, egress.Unknown, outcome.Kind)
	require.Equal(t, egress.ErrorCanceled, outcome.ErrorClass)
	require.ErrorIs(t, outcome.Err, context.Canceled)
}

// Cancelling at any moment gives NotSent only if the server never sees a byte.
func TestCancellingAtAnyMomentIsReportedHonestly(t *testing.T) {
	t.Parallel()
	executor := newExecutor(t, egress.Policy{})
	for delay := range 60 {
		var seen atomic.Bool
		server := serveRaw(t, func(_ *rawServer, _ net.Conn, r *bufio.Reader) {
			if _, err := r.ReadByte(); err == nil {
				seen.Store(true)
			}
			_, _ = io.Copy(io.Discard, r) // until the connection is closed, which is after the last byte
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(delay)*25*time.Microsecond)
		outcome := executor.Do(ctx, egress.Upstream{BaseURL: server.url("")}, egress.Request{Method: "POST", Path: "/", Body: []byte("x")}, nil)
		cancel()
		server.stop()
		if outcome.Kind == egress.NotSent {
			require.False(t, seen.Load(), "said not sent, and sent")
			continue
		}
		require.Equal(t, egress.Unknown, outcome.Kind)
	}
}

func TestACompleteHeadIsAnAnswerWhateverFollows(t *testing.T) {
	t.Parallel()
	endless := func(head, piece string) func(*rawServer, net.Conn, *bufio.Reader) {
		return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			_, _ = io.WriteString(conn, head)
			for {
				if _, err := io.WriteString(conn, piece); err != nil {
					return
				}
			}
		}
	}
	hang := func(text string) func(*rawServer, net.Conn, *bufio.Reader) {
		return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			_, _ = io.WriteString(conn, text)
			_, _ = r.ReadByte()
		}
	}
	for name, c := range map[string]struct {
		server  func(*rawServer, net.Conn, *bufio.Reader)
		status  int
		success bool
		body    string
		class   string
	}{
		"complete":               {answer("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"), 201, true, "ok", ""},
		"until the end":          {answer("HTTP/1.0 200 OK\r\n\r\nok"), 200, true, "ok", ""},
		"no content":             {answer("HTTP/1.1 204 No Content\r\n\r\n"), 204, true, "", ""},
		"after early hints":      {answer("HTTP/1.1 103 Early Hints\r\n\r\n" + okAnswer), 200, true, "ok", ""},
		"before the request":     {answerThen(okAnswer, answer("")), 200, true, "ok", ""},
		"server error":           {answer("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"), 503, false, "no", ""},
		"request timeout":        {answer("HTTP/1.1 408 No\r\nContent-Length: 0\r\n\r\n"), 408, false, "", ""},
		"short body":             {answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), 200, true, "ok", egress.ErrorIncomplete},
		"broken chunk":           {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz"), 200, true, "ok", egress.ErrorIncomplete},
		"chunks without an end":  {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), 200, true, "ok", egress.ErrorIncomplete},
		"body that stops coming": {hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"), 200, true, "ok", egress.ErrorIncomplete},
		"at the limit":           {answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"), 200, true, "0123456789", ""},
		"one over the limit":     {answer("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n0123456789x"), 200, true, "0123456789", egress.ErrorTooLarge},
		"endless body":           {endless("HTTP/1.1 200 OK\r\n\r\n", "0123456789"), 200, true, "0123456789", egress.ErrorTooLarge},
		"endless chunks":         {endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a\r\n0123456789\r\n"), 200, true, "0123456789", egress.ErrorTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveRaw(t, c.server)
			upstream := egress.Upstream{BaseURL: server.url(""), Timeout: 300 * time.Millisecond, MaxResponseBytes: 10}
			within(t, 1300*time.Millisecond, func() {
				outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/x"), nil)
				require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
				require.Equal(t, c.status, outcome.Status)
				require.Equal(t, c.success, outcome.Success)
				require.Equal(t, c.body, string(outcome.Body))
				require.Equal(t, c.class, outcome.ErrorClass, "%v", outcome.Err)
				require.Equal(t, c.class != "", outcome.Truncated)
				require.Equal(t, c.class != "", outcome.Err != nil)
				require.EqualValues(t, len(c.body), outcome.Size)
				require.Equal(t, egress.ContentDigest([]byte(c.body)), outcome.Digest)
			})
			require.EqualValues(t, 1, server.conns.Load())
		})
	}
}

func TestAnAnswerThatComesBeforeTheBodyIsSentIsAnAnswer(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, func(_ *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = r.Peek(10)
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		_, _ = io.Copy(io.Discard, r)
	})
	request := egress.Request{Method: "PUT", Path: "/", Body: bytes.Repeat([]byte("x"), 8<<20)}
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, request, nil)
	require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
	require.Equal(t, 413, outcome.Status)
}

func TestExecuteNeverFollowsRedirects(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		server := serveRaw(t, answer("HTTP/1.1 "+status+" Moved\r\nLocation: "+trap.url("/?t=c4n4ry/+Secret&Value==").String()+"\r\nContent-Length: 0\r\n\r\n"))
		upstream := egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}
		outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
		require.Equal(t, egress.Answered, outcome.Kind)
		require.Equal(t, status, strconv.Itoa(outcome.Status))
		require.False(t, outcome.Success)
		require.Equal(t, []egress.Header{{"Location", trap.url("/?t=").String() + "[redacted]"}}, outcome.Headers)
		require.True(t, outcome.Scrubbed)
	}
	require.Zero(t, trap.conns.Load())
}

func TestOverTLSTheSameRulesHold(t *testing.T) {
	t.Parallel()
	var protocol atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol.Store(r.Proto)
		if r.URL.Path == "/die" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	upstream := egress.Upstream{BaseURL: mustURL(server.URL), RootCAs: pool}
	executor := newExecutor(t, egress.Policy{})
	outcome := executor.Do(t.Context(), upstream, get("/"), nil)
	require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
	require.Equal(t, "HTTP/1.1", protocol.Load())
	require.Equal(t, egress.Unknown, executor.Do(t.Context(), upstream, get("/die"), nil).Kind)
}

func TestClientCertificatesAreOffered(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	upstream := egress.Upstream{BaseURL: mustURL(server.URL), RootCAs: pool}
	executor := newExecutor(t, egress.Policy{})
	without := executor.Do(t.Context(), upstream, get("/"), nil)
	require.NotEqual(t, egress.Answered, without.Kind, "TLS 1.3 tells us only after the request was sent")
	upstream.ClientCertificates = server.TLS.Certificates
	require.Equal(t, egress.Answered, executor.Do(t.Context(), upstream, get("/"), nil).Kind)
}

func TestAnswersWithTooManyHeadersKeepWhatFits(t *testing.T) {
	t.Parallel()
	head := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Request-Id: r\r\nEtag: " + strings.Repeat("e", 9000) + "\r\n" + strings.Repeat("Link: </x>\r\n", 100)
	server := serveRaw(t, answer(head+"\r\n"))
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, get("/"), nil)
	require.Equal(t, egress.Answered, outcome.Kind)
	require.Len(t, outcome.Headers, 64)
	for _, h := range outcome.Headers {
		require.Equal(t, "Link", h.Name, "the header that is too large is left out")
	}
}

func TestWhatAServerWritesIntoAnErrorIsBounded(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\n"+strings.Repeat("x", 30_000)+"\r\n\r\n"))
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, get("/"), nil)
	require.Equal(t, egress.Unknown, outcome.Kind)
	require.Less(t, len(outcome.Err.Error()), 1100)
	result := newDeliverer(t, egress.DelivererConfig{Policy: loopback()}).Do(t.Context(), attempt(t, server.url("/").String()))
	require.Equal(t, egress.ErrorProtocol, result.ErrorClass)
	require.Less(t, len(result.Cause.Error()), 1100)
}

func TestUpstreamsMayBeInternalAndTheOperatorMayOpenMetadata(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	upstream := egress.Upstream{BaseURL: server.url("")}
	require.Equal(t, egress.Answered, newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil).Kind)
	upstream.BaseURL = mustURL("http://0.0.0.0:" + server.url("").Port())
	require.Equal(t, egress.NotSent, newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil).Kind)
	open := egress.Policy{AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}}
	require.Equal(t, egress.Answered, newExecutor(t, open).Do(t.Context(), upstream, get("/"), nil).Kind)
}

func TestResponseHeadersAreAnAllowList(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nSet-Cookie: s=1\r\nCountersign-Ticket: tkt_evil\r\nX-Internal: 1\r\n"+
		"Etag: \"1\"\r\nRetry-After: 5\r\nX-Request-Id: r\r\nServer: s\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"))
	upstream := egress.Upstream{BaseURL: server.url("")}
	executor := newExecutor(t, egress.Policy{})
	require.Equal(t, []egress.Header{{"Content-Type", "a/b"}, {"Etag", `"1"`}, {"Retry-After", "5"}, {"X-Request-Id", "r"}}, executor.Do(t.Context(), upstream, get("/"), nil).Headers)
	upstream.ResponseHeaders = []string{"x-internal", "server"}
	require.Equal(t, []egress.Header{{"Server", "s"}, {"X-Internal", "1"}}, executor.Do(t.Context(), upstream, get("/"), nil).Headers)
	upstream.ResponseHeaders = []string{}
	require.Empty(t, executor.Do(t.Context(), upstream, get("/"), nil).Headers)
}

// gzipBomb is 32 MiB of nothing in 32 KiB.
func gzipBomb(tb testing.TB) string {
	tb.Helper()
	var bomb bytes.Buffer
	writer := gzip.NewWriter(&bomb)
	_, err := writer.Write(make([]byte, 32<<20))
	require.NoError(tb, err)
	require.NoError(tb, writer.Close())
	return bomb.String()
}

func TestCompressedAnswersAreNeverDecompressed(t *testing.T) {
	t.Parallel()
	bomb := gzipBomb(t)
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"+bomb))
	executor := newExecutor(t, egress.Policy{})

	outcome := executor.Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, get("/"), nil)
	require.Equal(t, bomb, string(outcome.Body))
	require.False(t, outcome.Truncated)
	require.Equal(t, []egress.Header{{"Content-Encoding", "gzip"}}, outcome.Headers)

	outcome = executor.Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, get("/"), nil)
	require.Equal(t, egress.Answered, outcome.Kind)
	require.Equal(t, egress.ErrorEncoded, outcome.ErrorClass, "a credential could be inside")
	require.True(t, outcome.Truncated)
	require.Empty(t, outcome.Body)
	require.Equal(t, egress.ContentDigest([]byte(bomb)), outcome.Digest)
	require.Equal(t, "identity", server.last(t).header("Accept-Encoding"))
}

func TestSuccessIsTheUpstreamsToDefine(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
	upstream := egress.Upstream{BaseURL: server.url(""), SuccessStatus: func(status int) bool { return status == 404 }}
	require.True(t, newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil).Success)
}

func TestAHeadAnswerHasNoBody(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nEtag: \"1\"\r\n\r\n"))
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, egress.Request{Method: "HEAD", Path: "/"}, nil)
	require.Equal(t, egress.Answered, outcome.Kind)
	require.False(t, outcome.Truncated)
	require.Empty(t, outcome.Body)
}

func TestConstructorsNameTheMissingField(t *testing.T) {
	t.Parallel()
	_, err := egress.NewExecutor(egress.ExecutorConfig{})
	require.ErrorContains(t, err, "Now")
	_, err = egress.NewDeliverer(egress.DelivererConfig{})
	require.ErrorContains(t, err, "Now")
	_, err = egress.NewDeliverer(egress.DelivererConfig{Now: clock(), Version: "1\r\n"})
	require.ErrorContains(t, err, "Version")
}
