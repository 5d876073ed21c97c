package egress_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/egress/egresstest"
)

func attempt(tb testing.TB, target string) egress.Attempt {
	tb.Helper()
	return egress.Attempt{URL: target, ID: vectorID, Body: []byte(vectorBody), Number: 3, Secrets: []egress.Secret{secret(tb, vectorSecret)}}
}

func loopback() egress.Policy { return egress.Policy{AllowLoopback: true, AllowHTTP: true} }

func TestDeliverSendsASignedCallback(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer("HTTP/1.1 202 Accepted\r\nContent-Length: 6\r\n\r\nthanks"))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	a := attempt(t, server.url("/countersign?x=1").String())
	a.Trigger, a.Traceparent = egress.Manual, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	result := deliverer.Do(t.Context(), a)
	require.Equal(t, egress.Delivered, result.Class)
	require.Equal(t, 202, result.Status)
	require.Empty(t, result.Err)
	require.Empty(t, result.ErrorClass)
	require.Equal(t, "thanks", string(result.ResponseSnippet))
	require.Equal(t, server.addr, result.Address)
	require.Equal(t, 1, result.Tries)
	require.Positive(t, result.Duration)
	require.Positive(t, result.Timing.Connect)
	require.Positive(t, result.Timing.FirstByte)
	got := server.last(t)
	want := rawRequest{
		Line: "POST /countersign?x=1 HTTP/1.1", Body: vectorBody,
		Headers: []string{
			"Host: " + server.addr, "User-Agent: Countersign/1.2.3 (+https://countersign.example/docs)", "Content-Length: 20",
			"Content-Digest: " + egress.ContentDigest([]byte(vectorBody)), "Content-Type: application/json", "Countersign-Attempt: 3", "Countersign-Trigger: manual",
			"Traceparent: " + a.Traceparent, "Webhook-Id: " + vectorID, "Webhook-Signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "Webhook-Timestamp: 1614265330",
		},
	}
	require.Empty(t, cmp.Diff(want, got))
	header := http.Header{}
	for _, h := range got.Headers {
		name, value, _ := strings.Cut(h, ": ")
		header.Add(name, value)
	}
	require.NoError(t, egress.Verify(a.Secrets, header, []byte(got.Body), time.Unix(vectorTime, 0), 0))
}

func TestNothingIsSentUnsignedOrMalformed(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, answer(okAnswer))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	for name, change := range map[string]func(*egress.Attempt){
		"no secrets":        func(a *egress.Attempt) { a.Secrets = nil },
		"empty secrets":     func(a *egress.Attempt) { a.Secrets = []egress.Secret{{}} },
		"no id":             func(a *egress.Attempt) { a.ID = "" },
		"an id with a dot":  func(a *egress.Attempt) { a.ID = "msg.1" },
		"an id with a line": func(a *egress.Attempt) { a.ID = "msg\r\nX: y" },
		"number zero":       func(a *egress.Attempt) { a.Number = 0 },
		"unknown trigger":   func(a *egress.Attempt) { a.Trigger = "x\r\n" },
		"bad traceparent":   func(a *egress.Attempt) { a.Traceparent = "x\r\nY: z" },
		"a body too large":  func(a *egress.Attempt) { a.Body = make([]byte, 256<<10+1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attempt(t, server.url("/").String())
			change(&a)
			result := deliverer.Do(t.Context(), a)
			require.Equal(t, egress.Failed, result.Class)
			require.Equal(t, egress.ErrorInvalid, result.ErrorClass)
			require.Error(t, result.Cause)
			require.Zero(t, result.Tries)
		})
	}
	require.Zero(t, server.conns.Load())
}

func TestDeliverNeverFollowsRedirects(t *testing.T) {
	t.Parallel()
	trap := serveRaw(t, answer(okAnswer))
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	for _, location := range []string{trap.url("/").String(), "http://169.254.169.254/latest/meta-data/", "/elsewhere"} {
		for _, status := range []string{"301", "302", "303", "307", "308"} {
			server := serveRaw(t, answer("HTTP/1.1 "+status+" Moved\r\nLocation: "+location+"\r\nContent-Length: 0\r\n\r\n"))
			result := deliverer.Do(t.Context(), attempt(t, server.url("/").String()))
			require.Equal(t, egress.Failed, result.Class)
			require.Equal(t, status, strconv.Itoa(result.Status))
			require.Equal(t, egress.ErrorStatus, result.ErrorClass)
			require.EqualValues(t, 1, server.effects.Load())
		}
	}
	require.Zero(t, trap.conns.Load())
}

func TestHostileReceiversAreBounded(t *testing.T) {
	t.Parallel()
	bomb := "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzipBomb(t)
	raw := func(head, piece string) func(*rawServer, net.Conn, *bufio.Reader) {
		return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			_, _ = io.WriteString(conn, head)
			ticker := time.NewTicker(time.Millisecond)
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
		url    string
		class  egress.Class
		reason string
	}{
		"endless body":     {serveRaw(t, raw("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 100_000))).url("/").String(), egress.Delivered, ""},
		"body that drips":  {serveRaw(t, raw("HTTP/1.1 500 No\r\n\r\n", "x")).url("/").String(), egress.Failed, egress.ErrorStatus},
		"head that drips":  {serveRaw(t, raw("HTTP/1.1 200 OK\r\nX: ", "x")).url("/").String(), egress.Failed, egress.ErrorTimeout},
		"flood of headers": {serveRaw(t, raw("HTTP/1.1 200 OK\r\n", "X-Y: "+strings.Repeat("z", 9000)+"\r\n")).url("/").String(), egress.Failed, egress.ErrorProtocol},
		"flood of 1xx":     {serveRaw(t, raw("", strings.Repeat("HTTP/1.1 103 Hint\r\nLink: x\r\n\r\n", 200))).url("/").String(), egress.Failed, egress.ErrorProtocol},
		"silence":          {serveRaw(t, raw("", "")).url("/").String(), egress.Failed, egress.ErrorTimeout},
		"gzip bomb":        {serveRaw(t, answer(bomb)).url("/").String(), egress.Delivered, ""},
		"upgrade":          {serveRaw(t, raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "x")).url("/").String(), egress.Failed, egress.ErrorStatus},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback(), Timeout: 400 * time.Millisecond})
			within(t, 1400*time.Millisecond, func() {
				result := deliverer.Do(t.Context(), attempt(t, c.url))
				require.Equal(t, c.class, result.Class, "%v", result.Cause)
				require.Equal(t, c.reason, result.ErrorClass, "%v", result.Cause)
				require.LessOrEqual(t, len(result.ResponseSnippet), 4<<10)
			})
		})
	}
}

func TestAFailureTellsCallersNothingOfOurNetwork(t *testing.T) {
	t.Parallel()
	address := egresstest.Refusing(t)
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet()
	t.Cleanup(secure.Close)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	policy := loopback()
	policy.AllowPorts = []uint16{portOf(t, address)}
	policy.Resolver = fakeDNS(t, always())
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: policy})
	for name, c := range map[string]struct {
		ctx        context.Context
		url, class string
		tries      int
	}{
		"refused":     {url: "http://" + address, class: egress.ErrorConnect, tries: 2},
		"no name":     {url: "https://nowhere.example", class: egress.ErrorDNS, tries: 1},
		"certificate": {url: secure.URL, class: egress.ErrorTLS, tries: 1},
		"shutdown":    {ctx: gone, url: secure.URL, class: egress.ErrorCanceled, tries: 1},
		"closed":      {url: serveRaw(t, answer("")).url("/").String(), class: egress.ErrorReset, tries: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			result := deliverer.Do(ctx, attempt(t, c.url))
			require.Equal(t, egress.Failed, result.Class)
			require.True(t, result.Retry)
			require.Equal(t, c.class, result.ErrorClass, "%v", result.Cause)
			require.Equal(t, c.tries, result.Tries)
			require.NotEmpty(t, result.Err)
			require.NotContains(t, result.Err, "127.0.0.1")
			require.NotContains(t, result.Err, "nowhere")
			require.Error(t, result.Cause)
		})
	}
}

func TestAStaleConnectionCostsOneExtraTryAndNoAttempt(t *testing.T) {
	t.Parallel()
	server := serveRaw(t, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		for n := 0; ; n++ {
			if _, err := s.read(r); err != nil || (n == 1 && s.effects.Load() == 2) {
				return // the second request on the first connection finds it closing
			}
			_, _ = io.WriteString(conn, okAnswer)
		}
	})
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	first := deliverer.Do(t.Context(), attempt(t, server.url("/").String()))
	require.Equal(t, []any{egress.Delivered, 1}, []any{first.Class, first.Tries})
	second := deliverer.Do(t.Context(), attempt(t, server.url("/").String()))
	require.Equal(t, []any{egress.Delivered, 2}, []any{second.Class, second.Tries})
	require.EqualValues(t, 3, server.effects.Load(), "the extra try is ours and counted, not net/http's")
	require.EqualValues(t, 2, server.conns.Load())
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	remotes := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		remotes[r.RemoteAddr]++
		mu.Unlock()
		_, _ = w.Write(make([]byte, 32<<10)) // more than is kept, less than is read
	}))
	t.Cleanup(server.Close)
	deliverer := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	for range 5 {
		require.Equal(t, egress.Delivered, deliverer.Do(t.Context(), attempt(t, server.URL)).Class)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, remotes, 1)
}

func TestDeliverOverTLSUsesHTTP2(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto) //nolint:gosec // a protocol name, in a test
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	policy := loopback()
	policy.RootCAs = x509.NewCertPool()
	policy.RootCAs.AddCert(server.Certificate())
	result := newDeliverer(t, egress.DelivererConfig{Policy: policy}).Do(t.Context(), attempt(t, server.URL))
	require.Equal(t, egress.Delivered, result.Class, "%v", result.Cause)
	require.Equal(t, "HTTP/2.0", string(result.ResponseSnippet))
	require.Positive(t, result.Timing.TLS)
}

func TestClassifyReadsTheReceiversAnswer(t *testing.T) {
	t.Parallel()
	now := time.Unix(vectorTime, 0).UTC()
	retry := egress.Verdict{Class: egress.Failed, Retry: true}
	slow := egress.Verdict{Class: egress.Failed, Retry: true, SlowDown: true}
	after := func(d time.Duration, slowDown bool) egress.Verdict {
		return egress.Verdict{Class: egress.Failed, Retry: true, RetryAfter: d, SlowDown: slowDown}
	}
	for _, c := range []struct {
		status  int
		headers []string
		err     error
		want    egress.Verdict
	}{
		{status: 200, want: egress.Verdict{Class: egress.Delivered}},
		{status: 204, want: egress.Verdict{Class: egress.Delivered}},
		{status: 299, want: egress.Verdict{Class: egress.Delivered}},
		{status: 200, err: errors.New("body broke off"), want: egress.Verdict{Class: egress.Delivered}},
		{status: 200, headers: []string{"Webhook-Delivery", "disable"}, want: egress.Verdict{Class: egress.Delivered, DisableEndpoint: true}},
		{status: 200, headers: []string{"Webhook-Delivery", "abort-message"}, want: egress.Verdict{Class: egress.Delivered}},
		{status: 101, want: retry},
		{status: 301, want: retry},
		{status: 302, want: retry},
		{status: 308, want: retry},
		{status: 400, want: retry},
		{status: 401, want: retry},
		{status: 404, want: retry},
		{status: 500, want: retry},
		{status: 501, want: retry},
		{status: 410, want: egress.Verdict{Class: egress.Gone, DisableEndpoint: true}},
		{status: 500, headers: []string{"webhook-delivery", " Disable "}, want: egress.Verdict{Class: egress.Gone, DisableEndpoint: true}},
		{status: 500, headers: []string{"webhook-delivery", "abort-message"}, want: egress.Verdict{Class: egress.Aborted}},
		{status: 500, headers: []string{"webhook-delivery", "whatever"}, want: retry},
		{status: 429, want: slow},
		{status: 502, want: slow},
		{status: 504, want: slow},
		{status: 503, want: retry},
		{status: 429, headers: []string{"Retry-After", "120"}, want: after(2*time.Minute, true)},
		{status: 503, headers: []string{"Retry-After", "120"}, want: after(2*time.Minute, false)},
		{status: 503, headers: []string{"Retry-After", now.Add(time.Hour).Format(http.TimeFormat)}, want: after(time.Hour, false)},
		{status: 503, headers: []string{"Retry-After", now.Add(-time.Hour).Format(http.TimeFormat)}, want: retry},
		{status: 503, headers: []string{"Retry-After", now.Add(9000 * time.Hour).Format(http.TimeFormat)}, want: after(24*time.Hour, false)},
		{status: 503, headers: []string{"Retry-After", "99999999999999999999999999"}, want: after(24*time.Hour, false)},
		{status: 503, headers: []string{"Retry-After", "9223372036"}, want: after(24*time.Hour, false)},
		{status: 503, headers: []string{"Retry-After", "-1"}, want: retry},
		{status: 503, headers: []string{"Retry-After", "soon"}, want: retry},
		{status: 500, headers: []string{"Retry-After", "120"}, want: retry},
		{err: egress.ErrBlocked, want: egress.Verdict{Class: egress.Blocked}},
		{err: context.DeadlineExceeded, want: slow},
		{err: &net.DNSError{IsNotFound: true}, want: retry},
		{err: io.EOF, want: retry},
	} {
		header := http.Header{}
		if c.headers != nil {
			header.Set(c.headers[0], c.headers[1])
		}
		require.Equal(t, c.want, egress.Classify(c.status, header, c.err, now), "%d %v %v", c.status, c.headers, c.err)
	}
}

func TestTheScheduleIsThatOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	schedule, total := egress.DefaultSchedule(), time.Duration(0)
	for _, wait := range schedule {
		total += wait
	}
	require.Len(t, schedule, 10)
	require.Equal(t, 75*time.Hour+35*time.Minute+5*time.Second, total)
	retry := egress.Verdict{Class: egress.Failed, Retry: true}
	for n := range 10 {
		wait, more := egress.NextAttempt(schedule, n, retry, nil)
		require.True(t, more)
		require.Equal(t, schedule[n], wait)
		low, _ := egress.NextAttempt(schedule, n, retry, func() float64 { return 0 })
		high, _ := egress.NextAttempt(schedule, n, retry, func() float64 { return 1 })
		require.Equal(t, []time.Duration{schedule[n] * 8 / 10, schedule[n] * 12 / 10}, []time.Duration{low, high})
	}
	_, more := egress.NextAttempt(schedule, 10, retry, nil)
	require.False(t, more, "ten attempts and no more")
	_, more = egress.NextAttempt(schedule, -1, retry, nil)
	require.False(t, more)
}

func TestNextAttemptHeedsTheVerdict(t *testing.T) {
	t.Parallel()
	schedule, least := egress.DefaultSchedule(), func() float64 { return 0 }
	for _, c := range []struct {
		attempt int
		verdict egress.Verdict
		want    time.Duration
		more    bool
	}{
		{1, egress.Verdict{Class: egress.Delivered}, 0, false},
		{1, egress.Verdict{Class: egress.Gone}, 0, false},
		{1, egress.Verdict{Class: egress.Blocked}, 0, false},
		{1, egress.Verdict{Retry: true}, 4 * time.Second, true},
		{1, egress.Verdict{Retry: true, SlowDown: true}, time.Minute, true},
		{2, egress.Verdict{Retry: true, SlowDown: true}, 4 * time.Minute, true},
		{1, egress.Verdict{Retry: true, RetryAfter: 10 * time.Minute}, 10 * time.Minute, true},
		{4, egress.Verdict{Retry: true, RetryAfter: 10 * time.Minute}, 96 * time.Minute, true},
		{1, egress.Verdict{Retry: true, SlowDown: true, RetryAfter: time.Second}, time.Minute, true},
	} {
		wait, more := egress.NextAttempt(schedule, c.attempt, c.verdict, least)
		require.Equal(t, []any{c.want, c.more}, []any{wait, more}, "%+v", c)
	}
}

func TestACallerIsToldWhyAnAnswerDidNotDo(t *testing.T) {
	t.Parallel()
	for head, want := range map[string]string{
		"302 Found\r\nLocation: /elsewhere":            "the receiver answered with a redirect, which is not followed",
		"410 Gone":                                     "the receiver answered 410 Gone: nothing more is sent there",
		"500 No\r\nWebhook-Delivery: disable":          "the receiver asked that nothing more be sent there",
		"302 Found\r\nWebhook-Delivery: abort-message": "the receiver asked not to be sent this message again",
		"404 Not Found":                                "the receiver did not answer 2xx",
	} {
		server := serveRaw(t, answer("HTTP/1.1 "+head+"\r\nContent-Length: 0\r\n\r\n"))
		result := newDeliverer(t, egress.DelivererConfig{Policy: loopback()}).Do(t.Context(), attempt(t, server.url("/").String()))
		require.Equal(t, want, result.Err, head)
		require.Equal(t, egress.ErrorStatus, result.ErrorClass, head)
	}
}
