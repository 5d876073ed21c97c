package egress_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/egress/egresstest"
)

// What each answer means, row by row as the contract has it, against real receivers.
func TestAReceiversAnswerMeansWhatTheContractSays(t *testing.T) {
	t.Parallel()
	says := func(head string) string {
		return serveRaw(t, answer("HTTP/1.1 "+head+"\r\nContent-Length: 0\r\n\r\n")).url("/").String()
	}
	retry := egress.Verdict{Class: egress.Failed, Retry: true}
	slow := egress.Verdict{Class: egress.Failed, Retry: true, SlowDown: true}
	insecure := httptest.NewTLSServer(nil)
	insecure.Config.ErrorLog = quiet()
	t.Cleanup(insecure.Close)
	silent := serveRaw(t, func(s *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = s.read(r); _, _ = r.ReadByte() })
	for _, c := range []struct {
		row  string
		url  string
		want egress.Verdict
	}{
		{"2xx: delivered", says("200 OK"), egress.Verdict{Class: egress.Delivered}},
		{"2xx: delivered, 204", says("204 No Content"), egress.Verdict{Class: egress.Delivered}},
		{"3xx: failed, never followed", says("301 Moved\r\nLocation: " + says("200 OK")), retry},
		{"3xx: failed, never followed, 308", says("308 Moved\r\nLocation: " + says("200 OK")), retry},
		{"410: stop, disable the endpoint", says("410 Gone"), egress.Verdict{Class: egress.Gone, DisableEndpoint: true}},
		{"429 with Retry-After: the endpoint waits", says("429 Slow\r\nRetry-After: 120"), egress.Verdict{Class: egress.Failed, Retry: true, SlowDown: true, RetryAfter: 2 * time.Minute}},
		{"503 with Retry-After: the endpoint waits", says("503 Busy\r\nRetry-After: 120"), egress.Verdict{Class: egress.Failed, Retry: true, RetryAfter: 2 * time.Minute}},
		{"503 with Retry-After: at most 24 h", says("503 Busy\r\nRetry-After: 999999"), egress.Verdict{Class: egress.Failed, Retry: true, RetryAfter: 24 * time.Hour}},
		{"429: slow down", says("429 Slow"), slow},
		{"502: slow down", says("502 Bad"), slow},
		{"504: slow down", says("504 Late"), slow},
		{"timeout: slow down", silent.url("/").String(), slow},
		{"other 4xx: failed, retried", says("404 Not Found"), retry},
		{"other 4xx: failed, retried, 401", says("401 No"), retry},
		{"other 5xx: failed, retried", says("500 Broken"), retry},
		{"DNS: failed, retried", "https://nowhere.example/", retry},
		{"TLS: failed, retried", insecure.URL, retry},
		{"connect: failed, retried", "http://" + egresstest.Refusing(t) + "/", retry},
		{"abort-message: stop this message", says("500 No\r\nwebhook-delivery: abort-message"), egress.Verdict{Class: egress.Aborted}},
		{"disable: disable the endpoint", says("500 No\r\nwebhook-delivery: disable"), egress.Verdict{Class: egress.Gone, DisableEndpoint: true}},
		{"disable, delivered: disable the endpoint", says("200 OK\r\nwebhook-delivery: disable"), egress.Verdict{Class: egress.Delivered, DisableEndpoint: true}},
		{"blocked: exhausted at once", "https://metadata.example/", egress.Verdict{Class: egress.Blocked}},
	} {
		t.Run(c.row, func(t *testing.T) {
			t.Parallel()
			policy := loopback()
			policy.Resolver = fakeDNS(t, always())
			if strings.HasPrefix(c.row, "blocked") {
				policy.Resolver = fakeDNS(t, always("169.254.169.254"))
			}
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy, Timeout: 500 * time.Millisecond})
			result := deliverer.Do(t.Context(), attempt(t, c.url))
			require.Equal(t, c.want, result.Verdict, "%v", result.Cause)
			require.Equal(t, result.Class == egress.Delivered, result.Err == "")
			require.False(t, result.Ours)
		})
	}
}

func TestAnEndpointsOwnHeadersAreSentAndNeverShown(t *testing.T) {
	t.Parallel()
	token := strings.TrimPrefix(canary, "Bearer ")
	server := serveRaw(t, answer("HTTP/1.1 500 No\r\n\r\nyou sent "+canary+", which is "+base64.StdEncoding.EncodeToString([]byte(token))+" "+canary[:20]))
	a := attempt(t, server.url("/").String())
	a.Headers = []egress.Credential{{Name: "authorization", Value: egress.NewSecret(canary)}, {Name: "X-Tenant", Value: egress.NewSecret("t1")}}
	result := newDeliverer(t, egress.DelivererConfig{Policy: loopback()}).Do(t.Context(), a)
	require.Equal(t, []string{canary, "t1"}, []string{server.last(t).header("Authorization"), server.last(t).header("X-Tenant")})
	require.Equal(t, "you sent [redacted], which is [redacted] [redacted]", string(result.ResponseSnippet))
	require.NotContains(t, fmt.Sprintf("%+v %+v", a, result), "c4n4ry")
}

func TestAnEndpointsHeadersCannotBeOursOrFrameTheMessage(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	for _, name := range []string{
		"Host", "content-length", "Connection", "Transfer-Encoding", "TE", "Upgrade", "webhook-id", "Webhook-Signature", "Webhook-Anything", "Signature",
		"signature-input", "Content-Digest", "Content-Type", "Content-Encoding", "Countersign-Attempt", "User-Agent", "Traceparent", "Proxy-Authorization",
		"Trailer", "Expect", "Keep-Alive", "Accept-Encoding", "Sec-Fetch-Site", "", "a b", "a\r\nb", "a:",
	} {
		require.ErrorIs(t, egress.CheckCallbackHeader(name), egress.ErrRequest, "%q", name)
		a := attempt(t, server.url("/").String())
		a.Headers = []egress.Credential{{Name: name, Value: egress.NewSecret("x")}}
		require.Equal(t, egress.ErrorInvalid, deliverer.Do(t.Context(), a).ErrorClass, "%q", name)
	}
	for _, value := range []string{"", "a\r\nb", "a\x00", " a", "é", strings.Repeat("x", 9000)} {
		a := attempt(t, server.url("/").String())
		a.Headers = []egress.Credential{{Name: "Authorization", Value: egress.NewSecret(value)}}
		require.Equal(t, egress.ErrorInvalid, deliverer.Do(t.Context(), a).ErrorClass, "%q", value)
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "Cookie", "x-tenant", "Date"} {
		require.NoError(t, egress.CheckCallbackHeader(name), name)
	}
	require.Zero(t, server.conns.Load())
}

// As TestExecuteNeverSendsAnythingTwice, by the two other ways to an upstream: nothing of net/http's readiness to send
// again may come back with them.
func TestNothingIsSentTwiceThroughAProxyOrOverTLS(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]egress.Request{
		"POST with a key":            {Method: "POST", Path: "/x", Body: []byte("{}"), IdempotencyKey: "tkt_1"},
		"DELETE with a key, no body": {Method: "DELETE", Path: "/x", IdempotencyKey: "tkt_1"},
		"GET":                        {Method: "GET", Path: "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := replayer(t)
			proxied := egress.Upstream{BaseURL: mustURL("http://billing.internal"), Proxy: forward(t, server.addr, "200 OK").url("")}
			secure, pool := replayerTLS(t)
			overTLS := egress.Upstream{BaseURL: mustURL("https://" + secure.addr), RootCAs: pool}
			executor := newExecutor(t, egress.Policy{})
			for upstream, counted := range map[*egress.Upstream]*rawServer{&proxied: server, &overTLS: secure} {
				require.Equal(t, egress.Answered, executor.Do(t.Context(), *upstream, request, nil).Kind)
				outcome := executor.Do(t.Context(), *upstream, request, nil)
				require.Equal(t, egress.Unknown, outcome.Kind, "%v", outcome.Err)
				require.EqualValues(t, 2, counted.effects.Load(), "one effect for each call")
			}
		})
	}
}
