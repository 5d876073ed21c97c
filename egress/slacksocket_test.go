package egress_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

func TestSlackSocketReachesSlackAndNothingElse(t *testing.T) {
	t.Parallel()
	plain, secure := egress.SlackSocket(egress.SlackSocketConfig{})
	for _, addr := range []string{
		"evil.example:443", "slack.com:8443", "slack.com.evil.example:443", "evilslack.com:443", "127.0.0.1:443", "localhost:443", "169.254.169.254:443",
		"10.0.0.1:443", "[::1]:443", "slack.com", "",
	} {
		_, err := secure(t.Context(), "tcp", addr)
		require.ErrorIs(t, err, egress.ErrBlocked, addr)
		_, err = plain(t.Context(), "tcp", addr)
		require.ErrorIs(t, err, egress.ErrBlocked, addr)
	}
	_, err := plain(t.Context(), "tcp", "wss-primary.slack.com:80")
	require.ErrorIs(t, err, egress.ErrBlocked)
	plain, _ = egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true})
	_, err = plain(t.Context(), "tcp", "wss-primary.slack.com:80")
	require.ErrorIs(t, err, egress.ErrBlocked, "without tls not even slack")
}

func TestSlackSocketChecksCertificatesAndSpeaksHTTP1(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	addr := strings.TrimPrefix(srv.URL, "https://")

	_, secure := egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true})
	_, err := secure(t.Context(), "tcp", addr)
	require.ErrorContains(t, err, "certificate")

	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	_, secure = egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true, RootCAs: pool})
	conn, err := secure(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.NotEqual(t, "h2", conn.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().NegotiatedProtocol)
	require.NoError(t, conn.Close())
}

func TestSlackSocketReachesAnEmulatorWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	plain, _ := egress.SlackSocket(egress.SlackSocketConfig{AllowLoopback: true})
	conn, err := plain(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
