package egress_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// sink is the writer of Request.Answer.
type sink struct {
	mu      sync.Mutex
	calls   int
	status  int
	headers []egress.Header
	length  int64
	body    bytes.Buffer
	changed chan struct{} // a token after each write
	fail    error
}

func newSink() *sink { return &sink{changed: make(chan struct{}, 1)} }

func (s *sink) answer(status int, headers []egress.Header, length int64) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.status, s.headers, s.length = status, headers, length
	return s
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	s.body.Write(b)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body.String()
}

// streamed makes a GET whose answer goes to a sink, and waits for both.
func streamed(t *testing.T, up egress.Upstream, s *sink) (egress.Outcome, error) {
	t.Helper()
	request := get("/")
	request.Answer = s.answer
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), up, request, nil)
	require.Equal(t, egress.Answered, outcome.Kind, "%v", outcome.Err)
	require.NotNil(t, outcome.Stream)
	return outcome, outcome.Stream.Wait()
}

func TestAnAnswerIsStreamedAsItComes(t *testing.T) {
	t.Parallel()
	s := newSink()
	pieces := []string{"first ", "second ", "third"}
	server := serveRaw(t, func(server *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = server.read(r)
		_, _ = io.WriteString(conn, "HTTP/1.1 201 Created\r\nEtag: \"1\"\r\nSet-Cookie: x\r\nContent-Length: 18\r\n\r\n")
		sent := ""
		for _, piece := range pieces {
			_, _ = io.WriteString(conn, piece)
			sent += piece
			for s.text() != sent { // the next piece waits for this one to have come through
				select {
				case <-s.changed:
				case <-t.Context().Done():
					return
				}
			}
		}
	})
	outcome, err := streamed(t, egress.Upstream{BaseURL: server.url("")}, s)
	require.NoError(t, err)
	require.Equal(t, "first second third", s.text())
	require.Equal(t, "first second third", string(outcome.Body))
	require.Equal(t, []any{1, 201, int64(18)}, []any{s.calls, s.status, s.length})
	require.Equal(t, []egress.Header{{"Etag", `"1"`}}, s.headers)
	require.Equal(t, outcome.Headers, s.headers)
}

func TestTheLengthIsToldOnlyWhereItIsCertain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer      string
		credentials []egress.Credential
		length      int64
	}{
		"known":                          {okAnswer, nil, 2},
		"chunked":                        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", nil, -1},
		"until the end":                  {"HTTP/1.0 200 OK\r\n\r\nok", nil, -1},
		"a credential could be in there": {okAnswer, canaryCredentials(), -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, s := serveRaw(t, answer(c.answer)), newSink()
			_, err := streamed(t, egress.Upstream{BaseURL: server.url(""), Credentials: c.credentials}, s)
			require.NoError(t, err)
			require.Equal(t, c.length, s.length)
			require.Equal(t, "ok", s.text())
		})
	}
}

// The body comes in two pieces, cut at every place there is.
func TestACredentialIsTakenOutOfAStreamWhereverThePiecesEnd(t *testing.T) {
	t.Parallel()
	body := "before " + canary + " between " + canary + canary + " after"
	const want = "before [redacted] between [redacted][redacted] after"
	for cut := range len(body) + 1 {
		s := newSink()
		server := serveRaw(t, func(server *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = server.read(r)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for _, piece := range []string{body[:cut], body[cut:]} {
				if piece != "" {
					_, _ = io.WriteString(conn, chunk(piece))
				}
			}
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		})
		outcome, err := streamed(t, egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, s)
		require.NoError(t, err)
		require.Equal(t, want, s.text(), "cut at %d", cut)
		require.Equal(t, want, string(outcome.Body))
	}
}

// The longest spelling of a secret, of which a part has gone through before the rest has come.
func TestASpellingThatTakesTwoReadsIsTakenOutOfAStream(t *testing.T) {
	t.Parallel()
	escaped := ""
	for i := range len(canary) {
		escaped += fmt.Sprintf("%%%02X", canary[i])
	}
	pad := strings.Repeat("x", 1000)
	for cut := 1; cut < len(escaped); cut += 7 {
		s := newSink()
		server := serveRaw(t, func(server *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = server.read(r)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+pad+escaped[:cut])
			select {
			case <-s.changed:
			case <-t.Context().Done():
			}
			_, _ = io.WriteString(conn, escaped[cut:]+" after")
		})
		_, err := streamed(t, egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, s)
		require.NoError(t, err)
		require.Equal(t, pad+"[redacted] after", s.text(), "cut at %d", cut)
	}
}

// Secrets that begin and end alike, in bodies made of their letters, in pieces of any size: the stream is what is recorded.
func TestAStreamIsToTheByteWhatIsRecorded(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // bodies of a test
	credentials := []egress.Credential{
		{Name: "X-A", Value: egress.NewSecret("abcdabcd")}, {Name: "X-B", Value: egress.NewSecret("dabcda")}, {Name: "X-C", Value: egress.NewSecret("cdab")},
	}
	executor := newExecutor(t, egress.Policy{})
	scrubbed := 0
	for range 200 {
		var body []byte
		for range 20 + random.IntN(400) {
			body = append(body, "abcd"[(len(body)+random.IntN(8)/7)%4])
		}
		var sizes []int
		for left := len(body); left > 0; left -= sizes[len(sizes)-1] {
			sizes = append(sizes, min(left, 1+random.IntN(40)))
		}
		server := serveRaw(t, func(s *rawServer, conn net.Conn, r *bufio.Reader) {
			_, _ = s.read(r)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			rest := body
			for _, size := range sizes {
				_, _ = io.WriteString(conn, chunk(string(rest[:size])))
				rest = rest[size:]
			}
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		})
		s, request := newSink(), get("/")
		request.Answer = s.answer
		outcome := executor.Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Credentials: credentials}, request, nil)
		require.NoError(t, outcome.Stream.Wait())
		require.Equal(t, string(outcome.Body), s.text(), "%s in %v", body, sizes)
		if outcome.Scrubbed {
			scrubbed++
		}
	}
	require.Greater(t, scrubbed, 50)
}

func chunk(piece string) string {
	const digits = "0123456789abcdef"
	size := ""
	for n := len(piece); n > 0; n /= 16 {
		size = string(digits[n%16]) + size
	}
	return size + "\r\n" + piece + "\r\n"
}

func TestAStreamGoesOnBehindWhatIsRecorded(t *testing.T) {
	t.Parallel()
	for _, credentials := range [][]egress.Credential{nil, canaryCredentials()} {
		body := strings.Repeat("0123456789", 100_000) + canary + strings.Repeat("x", 50_000)
		server, s := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 1050029\r\n\r\n"+body)), newSink()
		require.Len(t, body, 1050029)
		outcome, err := streamed(t, egress.Upstream{BaseURL: server.url(""), MaxResponseBytes: 64, Credentials: credentials}, s)
		require.NoError(t, err)
		require.Equal(t, egress.ErrorTooLarge, outcome.ErrorClass)
		require.Len(t, outcome.Body, 64)
		want := body
		if credentials != nil {
			want = strings.Replace(body, canary, "[redacted]", 1)
		}
		require.True(t, want == s.text(), "the whole body, %d bytes of %d", len(s.text()), len(want))
	}
}

// stuck blocks in its first Write until it is let go.
type stuck struct {
	release chan struct{}
	entered chan struct{}
	mu      sync.Mutex
	writes  int
}

func (s *stuck) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.writes++
	first := s.writes == 1
	s.mu.Unlock()
	if first {
		close(s.entered)
		<-s.release
	}
	return len(b), nil
}

func TestAWriterThatBlocksHoldsUpNeitherTheRecordingNorAnythingBehindTheDeadline(t *testing.T) {
	t.Parallel()
	w := &stuck{release: make(chan struct{}), entered: make(chan struct{})}
	body := strings.Repeat("0123456789", 30_000)
	server := serveRaw(t, func(server *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = server.read(r)
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n0")
		<-w.entered // the writer hangs by now, and all the rest is still to come
		_, _ = io.WriteString(conn, body[1:])
	})
	request := get("/")
	request.Answer = func(int, []egress.Header, int64) io.Writer { return w }
	outcome := newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Timeout: 2 * time.Second}, request, nil)
	require.Equal(t, egress.Answered, outcome.Kind)
	require.NoError(t, outcome.Err)
	require.True(t, body == string(outcome.Body), "recorded whole, while the writer still hangs")
	within(t, 30*time.Second, func() { require.ErrorIs(t, outcome.Stream.Wait(), egress.ErrWriterHangs) })
	close(w.release)
	require.Eventually(t, func() bool { return !errors.Is(outcome.Stream.Wait(), egress.ErrWriterHangs) }, 30*time.Second, time.Millisecond)
	require.ErrorIs(t, outcome.Stream.Wait(), context.DeadlineExceeded)
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Equal(t, 1, w.writes, "no other Write begins behind the deadline")
}

func TestAWriterThatFailsStopsTheStreamAndNotTheRecording(t *testing.T) {
	t.Parallel()
	errGone := errors.New("client is gone")
	server, s := serveRaw(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")), newSink()
	s.fail = errGone
	outcome, err := streamed(t, egress.Upstream{BaseURL: server.url("")}, s)
	require.ErrorIs(t, err, errGone)
	require.Equal(t, "0123456789", string(outcome.Body))
	require.NoError(t, outcome.Err)

	request := get("/")
	request.Answer = func(int, []egress.Header, int64) io.Writer { return nil }
	outcome = newExecutor(t, egress.Policy{}).Do(t.Context(), egress.Upstream{BaseURL: server.url("")}, request, nil)
	require.Equal(t, "0123456789", string(outcome.Body))
	require.Error(t, outcome.Stream.Wait(), "nobody took it")
}

func TestABrokenAnswerIsNotAWholeStream(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 100_000)
	for name, c := range map[string]struct {
		answer string
		limit  int64
		want   string
	}{
		"within what is recorded": {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nbefore " + canary[:15], 0, "before [redacted]"},
		"behind it":               {"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n" + long + canary[:15], 64, long + "[redacted]"},
		"in the chunks":           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz", 0, "ok"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, s := serveRaw(t, answer(c.answer)), newSink()
			outcome, err := streamed(t, egress.Upstream{BaseURL: server.url(""), MaxResponseBytes: c.limit, Credentials: canaryCredentials()}, s)
			require.Error(t, err)
			require.True(t, outcome.Truncated)
			require.Equal(t, c.want, s.text(), "the beginning of a credential at the end goes too")
		})
	}
}

func TestAnAnswerThatIsNotRecordedIsNotStreamed(t *testing.T) {
	t.Parallel()
	s := newSink()
	request := get("/")
	request.Answer = s.answer
	executor := newExecutor(t, egress.Policy{})
	for name, text := range map[string]string{
		"compressed": "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
		"not HTTP":   "220 mail ready\r\n",
		"upgrade":    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
	} {
		server := serveRaw(t, answer(text))
		outcome := executor.Do(t.Context(), egress.Upstream{BaseURL: server.url(""), Credentials: canaryCredentials()}, request, nil)
		require.Nil(t, outcome.Stream, name)
	}
	require.Zero(t, s.calls)
}
