package egress_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/egress/egresstest"
)

const proxyPassword = "Basic cHJveHk6czNjcjN0LXByb3h5LXdvcmQ=" //nolint:gosec // of a proxy in this file

// forwarder answers CONNECT by connecting to one server, whatever it was asked for, and pipes.
type forwarder struct {
	*rawServer
	mu   sync.Mutex
	seen strings.Builder // every byte that came before the tunnel stood
}

func (f *forwarder) head() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen.String()
}

// forward says status to CONNECT, and pipes to target if it is a 2xx.
func forward(tb testing.TB, target, status string) *forwarder {
	tb.Helper()
	f := &forwarder{}
	f.rawServer = serveRaw(tb, func(_ *rawServer, conn net.Conn, r *bufio.Reader) {
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			f.mu.Lock()
			f.seen.WriteString(line)
			f.mu.Unlock()
			if line == "\r\n" {
				break
			}
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nX-Proxy: "+proxyPassword+"\r\n\r\n")
		if !strings.HasPrefix(status, "2") {
			return
		}
		out, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
		if err != nil {
			return
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(out, r)
			_ = out.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(conn, out)
		_ = conn.Close()
		_ = out.Close()
		<-done
	})
	return f
}

func TestAProxyIsAskedForTheAddressThatWasJudgedAndSeesNothingOfTheRequest(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				w.WriteHeader(http.StatusTeapot)
			}
		}
		_, _ = io.WriteString(w, "through")
	}))
	t.Cleanup(server.Close)
	proxy := forward(t, server.Listener.Addr().String(), "200 Connection established")
	policy := egress.Policy{Proxy: proxy.url(""), ProxyAuthorization: egress.NewSecret(proxyPassword), Resolver: fakeDNS(t, always("93.184.216.34"))}
	policy.RootCAs = x509.NewCertPool()
	policy.RootCAs.AddCert(server.Certificate())
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy})
	result := deliverer.Do(t.Context(), attempt(t, "https://example.com/hook"))
	require.Equal(t, egress.Delivered, result.Class, "%v", result.Cause)
	require.Equal(t, "through", string(result.ResponseSnippet))
	require.Equal(t, "CONNECT 93.184.216.34:443 HTTP/1.1\r\nHost: 93.184.216.34:443\r\nUser-Agent: Countersign\r\nProxy-Authorization: "+proxyPassword+"\r\n\r\n", proxy.head())
	require.Equal(t, egress.Delivered, deliverer.Do(t.Context(), attempt(t, "https://example.com/hook")).Class)
	require.EqualValues(t, 1, proxy.conns.Load(), "a tunnel is a connection and is used again")
}

func TestAProxyIsNoWayRoundThePolicy(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	proxy := forward(t, trap.addr, "200 OK")
	for name, c := range map[string]struct {
		url      string
		resolver *net.Resolver
		class    string
	}{
		"loopback behind a name":     {"https://hooks.example/", fakeDNS(t, always("127.0.0.1")), egress.ErrorBlocked},
		"metadata behind a name":     {"https://hooks.example/", fakeDNS(t, always("169.254.169.254")), egress.ErrorBlocked},
		"private behind a name":      {"https://hooks.example/", fakeDNS(t, always("10.0.0.1", "192.168.1.1")), egress.ErrorBlocked},
		"another port":               {"https://hooks.example:22/", fakeDNS(t, always("93.184.216.34")), egress.ErrorBlocked},
		"a literal":                  {"https://127.0.0.1/", nil, egress.ErrorBlocked},
		"a name that does not exist": {"https://hooks.example/", fakeDNS(t, always()), egress.ErrorDNS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{Proxy: proxy.url(""), Resolver: c.resolver}})
			result := deliverer.Do(t.Context(), attempt(t, c.url))
			require.Equal(t, c.class, result.ErrorClass, "%v", result.Cause)
			require.False(t, result.Ours)
			challenged := deliverer.Challenge(t.Context(), challenge(t, c.url))
			require.Equal(t, c.class, challenged.ErrorClass)
			require.False(t, challenged.Verified)
		})
	}
	require.Zero(t, proxy.conns.Load(), "nobody was even asked")
	require.Zero(t, trap.conns.Load())
}

func TestOfMixedAnswersAProxyIsAskedForTheAllowedOne(t *testing.T) {
	t.Parallel()
	proxy := forward(t, "", "504 Gateway Timeout")
	for _, order := range [][]string{{"127.0.0.1", "93.184.216.34"}, {"93.184.216.34", "127.0.0.1"}} {
		deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{Proxy: proxy.url(""), Resolver: fakeDNS(t, always(order...))}})
		require.Equal(t, egress.ErrorConnect, deliverer.Do(t.Context(), attempt(t, "https://mixed.example/")).ErrorClass)
	}
	require.NotContains(t, proxy.head(), "127.0.0.1")
	require.Contains(t, proxy.head(), "CONNECT 93.184.216.34:443 ")
}

// A name that turns to loopback behind the check is of no use: the proxy never hears a name.
func TestARebindingNameDoesNotGetThroughAProxy(t *testing.T) {
	t.Parallel()
	proxy := forward(t, "", "502 Bad Gateway")
	resolver := fakeDNS(t, func(_ string, before int) []netip.Addr {
		if before%2 == 0 {
			return []netip.Addr{netip.MustParseAddr("93.184.216.34")}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: egress.Policy{Proxy: proxy.url(""), Resolver: resolver}})
	for range 6 {
		deliverer.Do(t.Context(), attempt(t, "https://rebind.example/"))
	}
	for _, line := range strings.Split(strings.TrimSpace(proxy.head()), "\r\n") {
		require.NotContains(t, line, "rebind")
		require.NotContains(t, line, "127.0.0.1")
	}
}

func TestAFailureOfOurProxyIsOursAndNothingWasSent(t *testing.T) {
	t.Parallel()
	silent := serveRaw(t, func(_ *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	garbage := serveRaw(t, func(_ *rawServer, conn net.Conn, _ *bufio.Reader) {
		_, _ = io.WriteString(conn, "SSH-2.0-"+proxyPassword+"\r\n\r\n")
	})
	eager := serveRaw(t, answer("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	for name, c := range map[string]struct {
		proxy string
		class string
	}{
		"refused":                 {egresstest.Refusing(t), egress.ErrorProxy},
		"silent":                  {silent.addr, egress.ErrorProxy},
		"closed at once":          {serveRaw(t, func(*rawServer, net.Conn, *bufio.Reader) {}).addr, egress.ErrorProxy},
		"not HTTP":                {garbage.addr, egress.ErrorProxy},
		"talks ahead":             {eager.addr, egress.ErrorProxy},
		"wants authorization":     {forward(t, "", "407 Proxy Authentication Required").addr, egress.ErrorProxy},
		"forbids":                 {forward(t, "", "403 Forbidden").addr, egress.ErrorProxy},
		"is broken":               {forward(t, "", "500 Internal").addr, egress.ErrorProxy},
		"overloaded":              {forward(t, "", "503 Unavailable").addr, egress.ErrorProxy},
		"could not reach it":      {forward(t, "", "502 Bad Gateway").addr, egress.ErrorConnect},
		"waited for it in vain":   {forward(t, "", "504 Gateway Timeout").addr, egress.ErrorConnect},
		"answers with a redirect": {forward(t, "", "302 Found").addr, egress.ErrorProxy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := egress.Policy{
				Proxy: mustURL("http://" + c.proxy), ProxyAuthorization: egress.NewSecret(proxyPassword),
				Resolver: fakeDNS(t, always("93.184.216.34")), AllowHTTP: true,
			}
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy, Timeout: 500 * time.Millisecond})
			for _, scheme := range []string{"http", "https"} {
				result := deliverer.Do(t.Context(), attempt(t, scheme+"://hooks.example/"))
				require.Equal(t, c.class, result.ErrorClass, "%v", result.Cause)
				require.Equal(t, c.class == egress.ErrorProxy, result.Ours)
				require.Equal(t, egress.Failed, result.Class)
				require.True(t, result.Retry)
				require.NotContains(t, fmt.Sprintf("%s %v", result.Err, result.Cause), "cHJveHk6")

				upstream := egress.Upstream{
					Name: "billing", BaseURL: mustURL(scheme + "://billing.internal"), Proxy: policy.Proxy, ProxyAuthorization: policy.ProxyAuthorization,
					Timeout: 500 * time.Millisecond, Credentials: canaryCredentials(),
				}
				outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, egress.Request{Method: "POST", Path: "/x", Body: []byte("b")}, nil)
				require.Equal(t, egress.NotSent, outcome.Kind, "%v", outcome.Err)
				require.Equal(t, c.class, outcome.ErrorClass, "%v", outcome.Err)
				require.NotContains(t, outcome.Err.Error(), "cHJveHk6")
				require.NotContains(t, outcome.Err.Error(), "c4n4ry")
			}
		})
	}
}

func TestUpstreamsAreReachedThroughTheirProxyByName(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(secure.Close)
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	plain := serveRaw(t, answer(okAnswer))
	for scheme, target := range map[string]string{"http": plain.addr, "https": secure.Listener.Addr().String()} {
		proxy := forward(t, target, "200 OK")
		upstream := egress.Upstream{
			BaseURL: mustURL(scheme + "://example.com:8080/v1"), RootCAs: pool, Credentials: canaryCredentials(),
			Proxy: proxy.url(""), ProxyAuthorization: egress.NewSecret(proxyPassword),
		}
		outcome := newExecutor(t, egress.Policy{Proxy: mustURL("http://192.0.2.1:1")}).Do(t.Context(), upstream, egress.Request{Method: "POST", Path: "/x", Body: []byte("b")}, nil)
		require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
		require.Equal(t, "ok", string(outcome.Body))
		require.True(t, strings.HasPrefix(proxy.head(), "CONNECT example.com:8080 HTTP/1.1\r\n"), proxy.head())
		require.NotContains(t, proxy.head(), "c4n4ry")
	}
	require.Equal(t, "POST /v1/x HTTP/1.1", plain.last(t).Line, "in origin form, as without a proxy")
	require.Equal(t, "example.com:8080", plain.last(t).header("Host"))
	require.Empty(t, plain.last(t).header("Proxy-Authorization"))
	require.Equal(t, canary, plain.last(t).header("Authorization"))
}

func TestAnUpstreamBehindAProxyIsUnknownOnceItsRequestMayHaveLeft(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("")) // reads the request and closes
	proxy := forward(t, server.addr, "200 OK")
	upstream := egress.Upstream{BaseURL: mustURL("http://billing.internal"), Proxy: proxy.url("")}
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, egress.Request{Method: "POST", Path: "/x", IdempotencyKey: "tkt_1", Body: []byte("b")}, nil)
	require.Equal(t, egress.Unknown, outcome.Kind)
	require.EqualValues(t, 1, server.effects.Load())
	require.EqualValues(t, 1, proxy.conns.Load())
}

func TestMetadataLiteralsAreRefusedToUpstreamsBehindAProxyToo(t *testing.T) {
	t.Parallel()
	proxy := forward(t, "", "502 No")
	for _, host := range []string{"169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0.0.0.0", "[fe80::1%25lo]"} {
		upstream := egress.Upstream{BaseURL: mustURL("http://" + host), Proxy: proxy.url("")}
		outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
		require.Equal(t, []any{egress.NotSent, egress.ErrorBlocked}, []any{outcome.Kind, outcome.ErrorClass}, host)
	}
	require.Zero(t, proxy.conns.Load())
}

func TestAProxyCanBeSpokenToOverTLS(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	front := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil || r.Method != http.MethodConnect {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		if _, err := readRaw(buffered.Reader); err == nil {
			_, _ = io.WriteString(conn, okAnswer)
		}
	}))
	front.Config.ErrorLog = quiet()
	front.StartTLS()
	t.Cleanup(front.Close)
	pool := x509.NewCertPool()
	pool.AddCert(front.Certificate())
	upstream := egress.Upstream{BaseURL: server.url(""), Proxy: mustURL(front.URL)}
	require.Equal(t, egress.Answered, newExecutor(t, egress.Policy{RootCAs: pool}).Do(t.Context(), upstream, get("/"), nil).Kind)
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, get("/"), nil)
	require.Equal(t, []any{egress.NotSent, egress.ErrorProxy}, []any{outcome.Kind, outcome.ErrorClass}, "a proxy whose certificate is not trusted")
}

func TestProxiesAreCheckedBeforeTheyAreUsed(t *testing.T) {
	t.Parallel()
	for _, bad := range []*url.URL{
		mustURL("socks5://proxy:1080"), mustURL("http://user:secret@proxy:3128"), mustURL("http://proxy:3128/path"), mustURL("http://proxy:3128?x"),
		mustURL("proxy:3128"),
		{Scheme: "http", Host: "a b"},
		{},
	} {
		err := egress.CheckUpstream(egress.Upstream{BaseURL: mustURL("http://x"), Proxy: bad})
		require.Error(t, err, "%s", bad)
		require.NotContains(t, err.Error(), "secret")
		_, err = egress.NewDeliverer(egress.DelivererConfig{Now: clock(), Policy: egress.Policy{Proxy: bad}})
		require.Error(t, err, "%s", bad)
	}
	good := mustURL("http://proxy:3128")
	require.NoError(t, egress.CheckUpstream(egress.Upstream{BaseURL: mustURL("http://x"), Proxy: good, ProxyAuthorization: egress.NewSecret("Basic x")}))
	require.Error(t, egress.CheckUpstream(egress.Upstream{BaseURL: mustURL("http://x"), Proxy: good, ProxyAuthorization: egress.NewSecret("Basic x\r\nX: y")}))
	require.Error(t, egress.CheckUpstream(egress.Upstream{BaseURL: mustURL("http://x"), ProxyAuthorization: egress.NewSecret("Basic x")}))
	client := egress.NewClient(egress.ClientConfig{Policy: egress.Policy{AllowLoopback: true, AllowHTTP: true, ProxyAuthorization: egress.NewSecret("x")}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:1/", nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	require.ErrorContains(t, err, "proxy", "authorization without a proxy fails closed")
}
