package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// cutOff ends what is less than a request: the client sends no more, and still listens.
const cutOff = "...cut off"

// wire writes bytes to the server and reads what it answers until it closes. KEY stands for
// the caller's key; a request that does not say so itself is the last of its connection.
func (w *frontWorld) wire(t *testing.T, text string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err, "connect")
	defer conn.Close() //nolint:errcheck // read to the end below
	require.NoError(t, conn.SetDeadline(wallClock().Add(patience)), "set a deadline")
	_, err = io.WriteString(conn, strings.ReplaceAll(text, "KEY", w.key))
	require.NoError(t, err, "write")
	if strings.HasSuffix(text, cutOff) {
		half, ok := conn.(*net.TCPConn)
		require.True(t, ok, "a TCP connection")
		require.NoError(t, half.CloseWrite(), "send no more")
	}
	raw, err := io.ReadAll(conn)
	require.NoError(t, err, "read the answer to %q", text)
	return string(raw)
}

// answersIn reads the answers of a connection.
func answersIn(t *testing.T, raw string) (statuses []int) {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(raw))
	for {
		if _, err := r.Peek(1); err != nil {
			return statuses
		}
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err, "parse %q", raw)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err, "read %q", raw)
		_ = res.Body.Close()
		statuses = append(statuses, res.StatusCode)
	}
}

const frontHead = "Host: countersign\r\nAuthorization: Bearer KEY\r\n"

// A request whose bytes two servers could read in two ways is refused, or read in the one
// way that the RFC prescribes; nothing that is smuggled in one is ever a call of its own.
func TestWhatIsAskedOnTheWireIsWhatIsStoredOrNothing(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	type stored struct{ path, query, body string }
	length := func(body string) string { return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body }
	smuggled := "PUT /proxy/billing/smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for name, c := range map[string]struct {
		text     string
		statuses []int
		want     []stored
	}{
		"plain":            {"PUT /proxy/billing/a?b=c HTTP/1.1\r\n" + frontHead + "Connection: close\r\n" + length("xyz"), []int{202}, []stored{{"/a", "b=c", "xyz"}}},
		"chunked":          {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n", []int{202}, []stored{{"/a", "", "abc"}}},
		"the root":         {"PUT /proxy/billing/ HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{202}, []stored{{"/", "", ""}}},
		"escapes":          {"PUT /proxy/billing/a%20b/%C3%A9?c=%2f+%20 HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{202}, []stored{{"/a%20b/%C3%A9", "c=%2f+%20", ""}}},
		"lower-case hex":   {"PUT /proxy/billing/%c3%a9 HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{202}, []stored{{"/%c3%a9", "", ""}}},
		"CL.TE":            {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Content-Length: " + strconv.Itoa(len(smuggled)+5) + "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, []int{202, 401}, []stored{{"/a", "", ""}}},
		"TE.CL":            {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + strconv.FormatInt(int64(len(smuggled)), 16) + "\r\n" + smuggled + "\r\n0\r\n\r\n", []int{202}, []stored{{"/a", "", smuggled}}},
		"TE.TE":            {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", []int{501}, nil},
		"odd coding":       {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{501}, nil},
		"two lengths":      {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", []int{400}, nil},
		"a list of them":   {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Content-Length: 3, 0\r\n\r\nabc", []int{400}, nil},
		"a signed length":  {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Content-Length: +3\r\n\r\nabc", []int{400}, nil},
		"a short body":     {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Content-Length: 30\r\n\r\nabc" + cutOff, []int{400}, nil},
		"bad chunks":       {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", []int{400}, nil},
		"a blank name":     {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []int{400}, nil},
		"a bare CR":        {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Accept: a\rX-Http-Method: DELETE\r\n\r\n", []int{400}, nil},
		"a trailer":        {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: b\r\n\r\n", []int{422}, nil},
		"absolute form":    {"PUT http://countersign/proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{400}, nil},
		"another host":     {"PUT http://evil.example/proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{400}, nil},
		"authority form":   {"CONNECT billing.internal:443 HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{404}, nil},
		"asterisk form":    {"OPTIONS * HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{200}, nil}, // net/http's own answer
		"two slashes":      {"PUT /proxy/billing//a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"slashes in front": {"PUT //proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{404}, nil},
		"dots":             {"PUT /proxy/billing/../plain/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"dots over all":    {"PUT /proxy/../v1/tickets HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{403}, nil},
		"encoded dots":     {"PUT /proxy/billing/%2e%2e/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"encoded slash":    {"PUT /proxy/billing/..%2fplain HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"encoded name":     {"PUT /proxy/%62illing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{403}, nil},
		"encoded prefix":   {"PUT /%70roxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{404}, nil},
		"twice encoded":    {"PUT /proxy/billing/a%252fb HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"semicolon":        {"PUT /proxy/billing/a;/../b HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"encoded ;":        {"PUT /proxy/billing/a%3bb HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"backslash":        {`PUT /proxy/billing/a\b HTTP/1.1` + "\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"fragment":         {"PUT /proxy/billing/a#b HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"query fragment":   {"PUT /proxy/billing/a?b#c HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"query semicolon":  {"PUT /proxy/billing/a?b=1;c=2 HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"empty query":      {"PUT /proxy/billing/a? HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"CRLF in the path": {"PUT /proxy/billing/a%0d%0aX:b HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"raw UTF-8":        {"PUT /proxy/billing/\xc3\xa9 HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{422}, nil},
		"no path":          {"PUT /proxy/billing HTTP/1.1\r\n" + frontHead + "Connection: close\r\n\r\n", []int{404}, nil},
		"two keys":         {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Authorization: Bearer KEY\r\nConnection: close\r\n\r\n", []int{401}, nil},
		"two hosts":        {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Host: evil\r\nConnection: close\r\n\r\n", []int{400}, nil},
		"h2c":              {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", []int{422}, nil},
		"folded":           {"PUT /proxy/billing/a HTTP/1.1\r\n" + frontHead + "Connection: close\r\nAccept: a,\r\n X-Http-Method: DELETE\r\n\r\n", []int{202}, []stored{{"/a", "", ""}}},
		"bare LF":          {"PUT /proxy/billing/a HTTP/1.1\n" + strings.ReplaceAll(frontHead, "\r", "") + "Connection: close\n\n", []int{202}, []stored{{"/a", "", ""}}},
	} {
		before := w.tickets(t)
		raw := w.wire(t, c.text)
		require.Equal(t, c.statuses, answersIn(t, raw), "%s: %s", name, raw)
		rows, err := w.pool.Query(t.Context(), `SELECT id FROM tickets ORDER BY created_at DESC LIMIT $1`, w.tickets(t)-before)
		require.NoError(t, err, "list the tickets")
		var got []stored
		var id string
		for rows.Next() {
			require.NoError(t, rows.Scan(&id), "read a ticket")
			got = append(got, stored{})
		}
		require.NoError(t, rows.Err(), "list the tickets")
		require.Len(t, got, len(c.want), "tickets of %s", name)
		if len(c.want) > 0 {
			call := w.stored(t, id).Call
			require.Equal(t, c.want[0], stored{call.Path, call.Query, string(call.Body)}, "the call of %s", name)
			require.Equal(t, "PUT", call.Method, "method of %s", name)
		}
	}
}

func TestAFoldedFieldIsOneFieldAndNoOther(t *testing.T) {
	t.Parallel()
	w := setupFront(t, false)
	w.wire(t, "PUT /proxy/billing/a HTTP/1.1\r\n"+frontHead+"Connection: close\r\nAccept: a,\r\n X-Http-Method: DELETE\r\n\r\n")
	var id string
	require.NoError(t, w.pool.QueryRow(t.Context(), `SELECT id FROM tickets`).Scan(&id), "the ticket")
	require.Equal(t, []approvals.Header{{Name: "Accept", Value: "a, X-Http-Method: DELETE"}}, w.stored(t, id).Call.Headers, "its header")
}
