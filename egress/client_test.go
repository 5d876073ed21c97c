package egress_test

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

func quiet() *log.Logger { return slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) }

func send(tb testing.TB, client *http.Client, target string) (*http.Response, error) {
	tb.Helper()
	tb.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, target, strings.NewReader("token=xoxb"))
	require.NoError(tb, err)
	return client.Do(req)
}

func TestSlackClientReachesSlackOnly(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	for _, client := range []*http.Client{egress.SlackClient(egress.SlackConfig{}), egress.SlackClient(egress.SlackConfig{AllowLoopback: true})} {
		for _, target := range []string{
			"http://slack.com/api/auth.test", "https://evil.test/", "https://slack.com.evil.test/", "https://notslack.com/", "https://slack.com:8080/",
			"https://user@slack.com/", "http://10.0.0.1/", "https://169.254.169.254/", "http://0.0.0.0:" + trap.url("").Port(), "https://slack.com@evil.test/",
		} {
			resp, err := send(t, client, target) //nolint:bodyclose // there is none
			require.ErrorIs(t, err, egress.ErrBlocked, target)
			require.Nil(t, resp)
		}
	}
	resp, err := send(t, egress.SlackClient(egress.SlackConfig{}), trap.url("/").String()) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, egress.ErrBlocked)
	require.Nil(t, resp)
	require.Zero(t, trap.conns.Load())
}

func TestSlackClientTalksToAnEmulatorWhenTold(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 2\r\n\r\nok"))
	client := egress.SlackClient(egress.SlackConfig{AllowLoopback: true})
	require.Equal(t, 10*time.Second, client.Timeout)
	for _, host := range []string{server.addr, "localhost:" + server.url("").Port()} {
		resp, err := send(t, client, "http://"+host+"/api/chat.postMessage")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, []any{302, "ok"}, []any{resp.StatusCode, string(body)}, "the redirect is the answer")
	}
}

func TestClientBoundsTimeAndSize(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		req, _ := s.read(r)
		if strings.Contains(req.Line, "/switch") {
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		}
		if strings.Contains(req.Line, "/s") {
			_, _ = r.ReadByte()
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+strings.Repeat("x", 2000))
	})
	for limit, want := range map[int64]error{1999: egress.ErrResponseTooLarge, 2000: nil, 2001: nil, 1: egress.ErrResponseTooLarge} {
		client := egress.SlackClient(egress.SlackConfig{AllowLoopback: true, MaxResponseBytes: limit})
		resp, err := send(t, client, server.url("/").String())
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.ErrorIs(t, err, want)
		require.NoError(t, resp.Body.Close())
		require.Len(t, body, int(min(limit, 2000)))
	}
	within(t, time.Second, func() {
		client := egress.SlackClient(egress.SlackConfig{AllowLoopback: true, Timeout: 50 * time.Millisecond})
		_, err := send(t, client, server.url("/slow").String()) //nolint:bodyclose // there is none
		require.Error(t, err)
		_, err = send(t, client, server.url("/switch").String()) //nolint:bodyclose // there is none
		require.ErrorContains(t, err, "switched protocols")
	})
}

func TestClientHoldsEveryRequestToThePolicy(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })) //nolint:gosec // a protocol name, in a test
	server.EnableHTTP2 = true
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	port := portOf(t, strings.TrimPrefix(server.URL, "https://"))
	policy := egress.Policy{RootCAs: pool, AllowPorts: []uint16{port}, Resolver: fakeDNS(t, always("127.0.0.1"))}
	target := fmt.Sprintf("https://keys.example.com:%d/", port)                      // example.com is in the certificate of httptest
	_, err := send(t, egress.NewClient(egress.ClientConfig{Policy: policy}), target) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, egress.ErrBlocked, "a public name that leads to loopback")
	require.NotContains(t, err.Error(), "127.0.0.1")

	policy.AllowLoopback = true
	resp, err := send(t, egress.NewClient(egress.ClientConfig{Policy: policy}), fmt.Sprintf("https://example.com:%d/", port))
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "HTTP/2.0", string(body))

	policy.RootCAs = nil
	_, err = send(t, egress.NewClient(egress.ClientConfig{Policy: policy}), fmt.Sprintf("https://example.com:%d/", port)) //nolint:bodyclose // there is none
	require.Error(t, err, "no certificate is taken on trust")
}
