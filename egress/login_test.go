package egress_test

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

func onLoopback() bool { return true }

func issuers(urls ...string) func() []string { return func() []string { return urls } }

func fetch(tb testing.TB, client *http.Client, target string) (*http.Response, error) {
	tb.Helper()
	tb.Cleanup(client.CloseIdleConnections)
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, target, nil)
	require.NoError(tb, err)
	return client.Do(req)
}

func TestLoginClientRefusesWhatNobodyNamed(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	client := egress.LoginClient(egress.LoginConfig{Issuers: issuers("https://login.example.com", "http://"+trap.addr)})
	require.Equal(t, 10*time.Second, client.Timeout)
	for _, target := range []string{
		"http://login.example.com/", trap.url("/").String(), "https://10.0.0.1/", "https://169.254.169.254/",
		"https://localhost/", "https://user@login.example.com/", "https://[::1]/", "ftp://login.example.com/", "https://0.0.0.0:" + trap.url("").Port(),
	} {
		resp, err := fetch(t, client, target) //nolint:bodyclose // there is none
		require.ErrorIs(t, err, egress.ErrBlocked, target)
		require.Nil(t, resp)
	}
	require.Zero(t, trap.conns.Load())
	_, err := send(t, client, "https://login.example.com/") //nolint:bodyclose // there is none
	require.ErrorIs(t, err, egress.ErrBlocked, "it only reads")
}

func TestLoginClientReachesAProviderOnAnyNetwork(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "keys") }))
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	client := egress.LoginClient(egress.LoginConfig{Issuers: issuers("https://other.example", server.URL+"/realm"), RootCAs: pool})
	resp, err := fetch(t, client, server.URL+"/keys")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "keys", string(body))

	unnamed := egress.LoginClient(egress.LoginConfig{Issuers: issuers("https://other.example"), RootCAs: pool})
	_, err = fetch(t, unnamed, server.URL+"/keys") //nolint:bodyclose // there is none
	require.ErrorIs(t, err, egress.ErrBlocked, "the same address, named by nobody")

	distrustful := egress.LoginClient(egress.LoginConfig{Issuers: issuers(server.URL), RootCAs: x509.NewCertPool()})
	_, err = fetch(t, distrustful, server.URL+"/keys") //nolint:bodyclose // there is none
	require.ErrorContains(t, err, "certificate")
}

func TestLoginClientFollowsNothingAndReadsNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 2\r\n\r\nok"))
	client := egress.LoginClient(egress.LoginConfig{Issuers: issuers("http://" + server.addr), AllowLoopback: onLoopback})
	resp, err := fetch(t, client, server.url("/").String())
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusFound, resp.StatusCode, "the redirect is the answer")

	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 101))
	}))
	t.Cleanup(long.Close)
	for name, list := range map[string]func() []string{"an issuer": issuers(long.URL), "another host": issuers()} {
		client := egress.LoginClient(egress.LoginConfig{Issuers: list, AllowLoopback: onLoopback, MaxResponseBytes: 100})
		resp, err := fetch(t, client, long.URL)
		require.NoError(t, err, name)
		_, err = io.ReadAll(resp.Body)
		require.ErrorIs(t, err, egress.ErrResponseTooLarge, name)
		require.NoError(t, resp.Body.Close())
	}
}

func TestLoginClientObeysTheConfigurationAsItIsNow(t *testing.T) {
	t.Parallel()
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "keys") }))
	t.Cleanup(provider.Close)
	var allowed atomic.Bool
	client := egress.LoginClient(egress.LoginConfig{Issuers: issuers(provider.URL), AllowLoopback: allowed.Load})
	for _, now := range []bool{false, true, false} {
		allowed.Store(now)
		resp, err := fetch(t, client, provider.URL)
		if !now {
			require.ErrorIs(t, err, egress.ErrBlocked)
			continue
		}
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
}
