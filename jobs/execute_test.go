package jobs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/credential"
	"countersign/jobs"
)

// keep writes a file for a configuration to name.
func keep(tb testing.TB, content string) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "kept")
	require.NoError(tb, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// authorizations are the credentials that a server was shown.
func (s *server) authorizations() (out []string) {
	for _, r := range s.requests() {
		out = append(out, r.header.Get("Authorization"))
	}
	return out
}

func TestCredentialOfAProgramIsReadForTheCallAndKeptForAsLongAsItMayBe(t *testing.T) {
	t.Parallel()
	file := keep(t, "first\n")
	w := setup(t, func(s *shape) {
		s.credential = "exec:/bin/cat " + file
		s.swap = append(s.swap, "value: \"exec:", "prefix: \"Bearer \", cache: 1m, value: \"exec:")
	})
	var clock atomic.Int64
	credentials, err := credential.New(credential.Config{Now: func() time.Time { return time.Unix(clock.Load(), 0) }})
	require.NoError(t, err)
	w.run(func(c *jobs.Config) { c.Credentials = credentials })
	calls := func() { w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Succeeded) }
	calls()
	require.NoError(t, os.WriteFile(file, []byte("second\n"), 0o600))
	calls()
	clock.Add(30)
	w.upstream.status(http.StatusUnauthorized)
	w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Failed)
	w.upstream.status(http.StatusOK)
	calls()
	require.Equal(t, []string{"Bearer first", "Bearer first", "Bearer first", "Bearer second"}, w.upstream.authorizations(),
		"it is read again when it was refused")
}

func TestCallWithoutItsCredentialIsNotMade(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.credential = "exec:/bin/false" })
	w.run()
	id := w.submit(call{method: http.MethodGet}).ID
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "credential_unavailable", x.Problem.Code)
	require.Empty(t, w.upstream.requests())
	w.requireEvents(id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventFailed, approvals.EventCallbackDelivered)
}

func TestProgramIsNotRunUntilThereIsACallToMake(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "it-ran")
	w := setup(t, func(s *shape) { s.credential = "exec:/usr/bin/touch " + mark })
	require.NoError(t, jobs.CheckUpstreams(w.config.Load()))
	w.run()
	id := w.submit(call{quiet: true}).ID
	w.decide(id, "ana", approvals.Deny)
	w.awaitState(id, approvals.Denied)
	w.settled()
	require.NoFileExists(t, mark)
	w.awaitState(w.approved(call{quiet: true}).ID, approvals.Failed)
	require.FileExists(t, mark)
}

func TestRuleSaysWhatSuccessIs(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) {
		s.swap = append(s.swap, "methods: [GET]}, action: allow}", "methods: [GET]}, action: allow, success: [404, 2xx]}")
	})
	w.run()
	w.upstream.status(http.StatusNotFound)
	w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Succeeded)
	w.awaitState(w.approved(call{quiet: true}).ID, approvals.Failed)
	w.upstream.status(http.StatusConflict)
	w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Failed)
}

func TestEveryAttemptCarriesTheKeyThatTheCallerChose(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.idempotent, s.timeout = true, 300*time.Millisecond })
	w.upstream.hangs()
	w.run()
	id := w.approved(call{header: approvals.Header{Name: "Idempotency-Key", Value: "of-the-caller"}}).ID
	receive(t, "the first try", w.upstream.got)
	w.upstream.status(http.StatusOK)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	calls := w.upstream.requests()
	require.Len(t, calls, 2)
	for _, c := range calls {
		require.Equal(t, []string{"of-the-caller"}, c.header.Values("Idempotency-Key"))
	}
}

// identity makes a key and a certificate that vouches for itself, in PEM.
func identity(tb testing.TB) (certificate, key string, pool *x509.CertPool) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: wallClock().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(tb, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(tb, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})), pool
}

func TestUpstreamWithAuthorityOfItsOwnIsShownOurCertificate(t *testing.T) {
	t.Parallel()
	certificate, key, ours := identity(t)
	private := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") }))
	private.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours, MinVersion: tls.VersionTLS12}
	private.StartTLS()
	t.Cleanup(private.Close)
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: private.Certificate().Raw})

	w := setup(t, func(s *shape) { s.upstream = private.URL })
	w.run()
	stranger := w.submit(call{method: http.MethodGet, quiet: true}).ID
	x := w.await(stranger, "final", func(x approvals.Ticket) bool { return x.State.Final() })
	require.Equal(t, approvals.Failed, x.State, "an authority that nobody knows is not trusted")

	w.reload(bounded("ca: \"file:" + keep(t, string(authority)) + "\", certificate: {certificate: \"file:" + keep(t, certificate) +
		"\", key: \"file:" + keep(t, key) + "\"}"))
	require.NoError(t, jobs.CheckUpstreams(w.config.Load()))
	id := w.submit(call{method: http.MethodGet, quiet: true}).ID
	w.awaitState(id, approvals.Succeeded)
	require.Equal(t, "hello", string(w.result(id).Body))
}

// proxy is a forward proxy that counts what it connects, and what it was shown.
func proxy(tb testing.TB) (url string, connected *atomic.Int64, shown *atomic.Value) {
	tb.Helper()
	connected, shown = &atomic.Int64{}, &atomic.Value{}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		shown.Store(r.Header.Get("Proxy-Authorization"))
		there, err := new(net.Dialer).DialContext(context.WithoutCancel(r.Context()), "tcp", r.Host)
		if r.Method != http.MethodConnect || err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		connected.Add(1)
		here, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			defer there.Close() //nolint:errcheck // a test's
			_, _ = io.Copy(there, buffered)
		}()
		defer here.Close() //nolint:errcheck // a test's
		_, _ = io.Copy(here, there)
	}))
	tb.Cleanup(s.Close)
	return s.URL, connected, shown
}

func TestUpstreamIsReachedThroughItsProxy(t *testing.T) {
	t.Parallel()
	url, connected, shown := proxy(t)
	w := setup(t, bounded("proxy: \""+url+"\", proxy_authorization: \"file:"+keep(t, "Basic b3BlbjpzZXNhbWU=")+"\""))
	w.run()
	w.awaitState(w.submit(call{method: http.MethodGet, quiet: true}).ID, approvals.Succeeded)
	require.EqualValues(t, 1, connected.Load())
	require.Equal(t, "Basic b3BlbjpzZXNhbWU=", shown.Load())
	require.Len(t, w.upstream.requests(), 1)
	require.Empty(t, w.upstream.requests()[0].header.Get("Proxy-Authorization"), "only the proxy is told")
}
