package egress_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// authority is a private one, as operators run them.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB, name string) authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(tb, err)
	certificate, err := x509.ParseCertificate(raw)
	require.NoError(tb, err)
	return authority{certificate, key}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue makes a certificate for 127.0.0.1, for servers and clients; change may spoil it.
func (a authority) issue(tb testing.TB, name string, change func(*x509.Certificate)) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
	}
	if change != nil {
		change(template)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(tb, err)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}
}

// secured answers with the name in the client's certificate.
func secured(tb testing.TB, config *tls.Config) string {
	tb.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, name) //nolint:gosec // a name, in a test
	}))
	server.TLS = config
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	tb.Cleanup(server.Close)
	return server.URL
}

func TestCertificatesAreHeldToTheConfiguredAuthorities(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	good, client := ours.issue(t, "server", nil), ours.issue(t, "countersign", nil)
	expired := ours.issue(t, "server", func(c *x509.Certificate) { c.NotAfter = time.Unix(1_000_000_000, 0) })
	early := ours.issue(t, "server", func(c *x509.Certificate) { c.NotBefore = time.Unix(1<<33-10, 0) })
	elsewhere := ours.issue(t, "server", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} })
	notForServers := ours.issue(t, "server", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	mutual := func(version uint16) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(),
			MinVersion: version, MaxVersion: version,
		}
	}
	plain := func(certificate tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	for name, c := range map[string]struct {
		server *tls.Config
		roots  *x509.CertPool
		client []tls.Certificate
		body   string // empty: refused
		sent   bool   // the server's refusal comes behind the request (TLS 1.3)
	}{
		"the right authority":                {server: plain(good), roots: ours.pool(), body: "nobody"},
		"another authority":                  {server: plain(good), roots: others.pool()},
		"the system's authorities":           {server: plain(good)},
		"expired":                            {server: plain(expired), roots: ours.pool()},
		"not valid yet":                      {server: plain(early), roots: ours.pool()},
		"for another host":                   {server: plain(elsewhere), roots: ours.pool()},
		"for clients only":                   {server: plain(notForServers), roots: ours.pool()},
		"TLS 1.1":                            {server: &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, roots: ours.pool()}, //nolint:gosec // that is the point
		"mutual, TLS 1.2":                    {server: mutual(tls.VersionTLS12), roots: ours.pool(), client: []tls.Certificate{client}, body: "countersign"},
		"mutual, TLS 1.3":                    {server: mutual(tls.VersionTLS13), roots: ours.pool(), client: []tls.Certificate{client}, body: "countersign"},
		"mutual, nothing to show, TLS 1.2":   {server: mutual(tls.VersionTLS12), roots: ours.pool()},
		"mutual, nothing to show, TLS 1.3":   {server: mutual(tls.VersionTLS13), roots: ours.pool(), sent: true},
		"mutual, a stranger's certificate":   {server: mutual(tls.VersionTLS12), roots: ours.pool(), client: []tls.Certificate{others.issue(t, "stranger", nil)}},
		"mutual, an expired certificate":     {server: mutual(tls.VersionTLS12), roots: ours.pool(), client: []tls.Certificate{expired}},
		"mutual, but the server is not ours": {server: mutual(tls.VersionTLS12), roots: others.pool(), client: []tls.Certificate{client}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := secured(t, c.server)
			upstream := egress.Upstream{BaseURL: mustURL(address), RootCAs: c.roots, ClientCertificates: c.client}
			outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), upstream, egress.Request{Method: "POST", Path: "/", Body: []byte("b")}, nil)
			a := attempt(t, address)
			a.RootCAs, a.ClientCertificates = c.roots, c.client
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
			result := deliverer.Do(t.Context(), a)
			if c.body != "" {
				require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
				require.Equal(t, c.body, string(outcome.Body))
				require.Equal(t, egress.Delivered, result.Class, "%v", result.Cause)
				require.Equal(t, c.body, string(result.ResponseSnippet))
				return
			}
			require.Equal(t, egress.Failed, result.Class)
			require.Empty(t, result.ResponseSnippet)
			if c.sent {
				require.Equal(t, egress.Unknown, outcome.Kind, "the server's refusal comes too late to prove anything")
				return
			}
			require.Equal(t, []any{egress.NotSent, egress.ErrorTLS}, []any{outcome.Kind, outcome.ErrorClass}, "%v", outcome.Err)
			require.Equal(t, egress.ErrorTLS, result.ErrorClass, "%v", result.Cause)
		})
	}
}

// Two endpoints on one host: neither is spoken to with the other's certificate, nor on its connection.
func TestAnEndpointsCertificateIsShownOnItsOwnConnectionsOnly(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t, "ours")
	address := secured(t, &tls.Config{
		Certificates: []tls.Certificate{ours.issue(t, "server", nil)}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12,
	})
	policy := loopback()
	policy.RootCAs = ours.pool()
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy})
	for _, name := range []string{"", "first", "", "second", "first", ""} {
		a, want := attempt(t, address), "nobody"
		if name != "" {
			a.ClientCertificates, want = []tls.Certificate{ours.issue(t, name, nil)}, name
		}
		result := deliverer.Do(t.Context(), a)
		require.Equal(t, egress.Delivered, result.Class, "%v", result.Cause)
		require.Equal(t, want, string(result.ResponseSnippet))
	}
}

func TestAnAttemptHasATimeoutOfItsOwn(t *testing.T) {
	t.Parallel()
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback(), Timeout: 50 * time.Second})
	server := serveRaw(t, func(s *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = s.read(r); _, _ = r.ReadByte() })
	a := attempt(t, server.url("/").String())
	a.Timeout = 200 * time.Millisecond
	within(t, 40*time.Second, func() {
		result := deliverer.Do(t.Context(), a)
		require.Equal(t, egress.ErrorTimeout, result.ErrorClass)
		require.True(t, result.SlowDown)
	})
	a.Timeout = -1
	require.Equal(t, egress.ErrorInvalid, deliverer.Do(t.Context(), a).ErrorClass)
}

// replayerTLS is replayer behind TLS.
func replayerTLS(tb testing.TB) (*rawServer, *x509.CertPool) {
	tb.Helper()
	ours := newAuthority(tb, "ours")
	config := &tls.Config{Certificates: []tls.Certificate{ours.issue(tb, "server", nil)}, MinVersion: tls.VersionTLS12}
	server := serveRaw(tb, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		secure := tls.Server(readAhead{conn, r}, config)
		defer func() { _ = secure.Close() }()
		reader := bufio.NewReader(secure)
		for {
			if _, err := s.read(reader); err != nil || s.effects.Load() == 2 {
				return
			}
			if _, err := io.WriteString(secure, okAnswer); err != nil {
				return
			}
		}
	})
	return server, ours.pool()
}

// readAhead is a connection whose first bytes are in a reader.
type readAhead struct {
	net.Conn
	r *bufio.Reader
}

func (c readAhead) Read(b []byte) (int, error) { return c.r.Read(b) }
