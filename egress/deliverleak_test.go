package egress_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// endpointToken is an endpoint's own header value.
const endpointToken = "canary-of-the-endpoint-7f3a9c"

// echoing answers with text in which TOKEN is the Authorization that it was sent, and closes
// the connection unless it is to stay.
func echoing(tb testing.TB, text string, stay bool) *rawServer {
	tb.Helper()
	return serveRaw(tb, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		req, err := s.read(r)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, strings.ReplaceAll(text, "TOKEN", req.header("Authorization")))
		if stay {
			_, _ = io.Copy(io.Discard, r) // until the other side closes
		}
	})
}

func leakAttempt(tb testing.TB, url string) egress.Attempt {
	tb.Helper()
	return egress.Attempt{
		URL: url, ID: "msg_1", Body: []byte("{}"), Number: 1, Secrets: []egress.Secret{egress.NewSecret("0123456789abcdef0123456789abcdef")},
		Headers: []egress.Credential{{Name: "Authorization", Value: egress.NewSecret("Bearer " + endpointToken)}},
	}
}

func TestWhyAnAttemptFailedSaysNothingOfTheEndpointsOwnHeaders(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"the status":     "HTTP/1.1 TOKEN\r\n\r\n",
		"no HTTP":        "TOKEN\r\n\r\n",
		"a header":       "HTTP/1.1 200 OK\r\nTOKEN\r\n\r\n",
		"a length":       "HTTP/1.1 200 OK\r\nContent-Length: TOKEN\r\n\r\n",
		"a coding":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: TOKEN\r\n\r\n",
		"a long one":     "HTTP/1.1 " + strings.Repeat("x", 1020) + "TOKEN\r\n\r\n",
		"a trailer name": "HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\nX: TOKEN\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := echoing(t, text, false)
			d := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
			got := d.Do(t.Context(), leakAttempt(t, server.url("/hook").String()))
			said := fmt.Sprintf("%v %+v %s", got.Cause, got, got.ResponseSnippet)
			require.NotContains(t, said, endpointToken[:12])
		})
	}
}

// What net/http finds on a connection that is kept it prints, with the standard logger.
func TestNoConnectionIsKeptOnWhichAReceiverCouldSayAnEndpointsHeadersUnasked(t *testing.T) {
	t.Parallel()
	server := echoing(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 TOKEN\r\n\r\n", true)
	d := newDeliverer(t, egress.DelivererConfig{Policy: loopback()})
	const times = 5
	for range times {
		require.Equal(t, egress.Delivered, d.Do(t.Context(), leakAttempt(t, server.url("/hook").String())).Class)
		require.Equal(t, "close", server.last(t).header("Connection"))
	}
	require.EqualValues(t, times, server.conns.Load())
}
