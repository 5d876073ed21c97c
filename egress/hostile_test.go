package egress_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
)

// wholeBomb is 128 MiB of nothing in 130 KiB.
func wholeBomb(tb testing.TB) string {
	tb.Helper()
	var bomb bytes.Buffer
	writer := gzip.NewWriter(&bomb)
	nothing := make([]byte, 1<<20)
	for range 128 {
		_, err := writer.Write(nothing)
		require.NoError(tb, err)
	}
	require.NoError(tb, writer.Close())
	return bomb.String()
}

type hostile struct {
	handle func(*rawServer, net.Conn, *bufio.Reader)
	kinds  []egress.Kind // what may honestly be said of it
	class  string        // empty: any
}

// after reads the request, says head, and then piece for ever, once a tick if there is one.
func after(head, piece string, tick time.Duration) func(*rawServer, net.Conn, *bufio.Reader) {
	return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		if _, err := s.read(r); err != nil {
			return
		}
		if _, err := io.WriteString(conn, head); err != nil || piece == "" {
			return
		}
		for {
			if _, err := io.WriteString(conn, piece); err != nil {
				return
			}
			if tick > 0 {
				timer := time.NewTimer(tick)
				<-timer.C
			}
		}
	}
}

func tenMegabytes(head, piece string) func(*rawServer, net.Conn, *bufio.Reader) {
	return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		_, _ = s.read(r)
		_, err := io.WriteString(conn, head)
		for n := 0; n < 10<<20 && err == nil; n += len(piece) {
			_, err = io.WriteString(conn, piece)
		}
		_, _ = io.WriteString(conn, "\r\n")
	}
}

func hostiles(tb testing.TB) map[string]hostile {
	tb.Helper()
	answered, unknown := []egress.Kind{egress.Answered}, []egress.Kind{egress.Unknown}
	either := []egress.Kind{egress.Answered, egress.Unknown}
	ok := "HTTP/1.1 200 OK\r\n"
	flood := strings.Repeat("X-Flood: "+strings.Repeat("y", 1000)+"\r\n", 10)
	return map[string]hostile{
		"a head of a byte a second":      {after("H", "T", time.Second), unknown, egress.ErrorTimeout},
		"headers of a byte a second":     {after(ok+"X: ", "y", time.Second), unknown, egress.ErrorTimeout},
		"an endless body":                {after(ok+"\r\n", strings.Repeat("x", 32<<10), 0), answered, egress.ErrorTooLarge},
		"an endless chunked body":        {after(ok+"Transfer-Encoding: chunked\r\n\r\n", "1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n", 0), answered, egress.ErrorTooLarge},
		"a body that drips":              {after(ok+"Content-Length: 100000\r\n\r\n", "x", 50*time.Millisecond), answered, egress.ErrorIncomplete},
		"chunks of one byte that drip":   {after(ok+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 50*time.Millisecond), answered, egress.ErrorIncomplete},
		"headers without end":            {after(ok, flood, 0), unknown, egress.ErrorProtocol},
		"10 MB of headers":               {tenMegabytes(ok, flood), unknown, ""},
		"one header without end":         {after(ok+"X: ", strings.Repeat("z", 32<<10), 0), unknown, egress.ErrorProtocol},
		"a status line without end":      {after("HTTP/1.1 200 ", strings.Repeat("z", 32<<10), 0), unknown, egress.ErrorProtocol},
		"1xx without end":                {after("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 0), unknown, egress.ErrorProtocol},
		"100s without end":               {after("", "HTTP/1.1 100 Continue\r\n\r\n", 0), unknown, ""},
		"trailers without end":           {after(ok+"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n", flood, 0), either, ""},
		"chunk extensions without end":   {after(ok+"Transfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("e", 4096), 0), answered, egress.ErrorIncomplete},
		"a gzip bomb":                    {after(ok+"Content-Encoding: gzip\r\n\r\n"+wholeBomb(tb), "", 0), answered, egress.ErrorEncoded},
		"a chunk size that is no number": {after(ok+"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n", "", 0), answered, egress.ErrorIncomplete},
		"a chunk size beyond 64 bits":    {after(ok+"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok", "", 0), answered, egress.ErrorIncomplete},
		"a negative chunk size":          {after(ok+"Transfer-Encoding: chunked\r\n\r\n-1\r\nok", "", 0), answered, egress.ErrorIncomplete},
		"a length too short":             {after(ok+"Content-Length: 1\r\n\r\nok"+okAnswer, "", 0), answered, ""},
		"a length too long":              {after(ok+"Content-Length: 9000\r\n\r\nok", "", 0), answered, egress.ErrorIncomplete},
		"a length beyond 63 bits":        {after(ok+"Content-Length: 99999999999999999999\r\n\r\nok", "", 0), unknown, egress.ErrorProtocol},
		"a length of an exabyte":         {after(ok+"Content-Length: 1152921504606846976\r\n\r\nok", "", 0), answered, egress.ErrorIncomplete},
		"a negative length":              {after(ok+"Content-Length: -1\r\n\r\nok", "", 0), unknown, egress.ErrorProtocol},
		"two lengths":                    {after(ok+"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok", "", 0), unknown, egress.ErrorProtocol},
		"length and chunks":              {after(ok+"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", 0), answered, ""},
		"a coding that nobody knows":     {after(ok+"Transfer-Encoding: gzip, chunked\r\n\r\n", "", 0), unknown, egress.ErrorProtocol},
		"a redirect to metadata":         {after("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n", "", 0), answered, ""},
		"switching protocols":            {after("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "x", 0), unknown, egress.ErrorProtocol},
		"a CR in a value":                {after(ok+"Location: a\rb\r\nContent-Length: 0\r\n\r\n", "", 0), unknown, egress.ErrorProtocol},
		"a NUL in a value":               {after(ok+"Location: a\x00b\r\nContent-Length: 0\r\n\r\n", "", 0), unknown, egress.ErrorProtocol},
		"a name that is no token":        {after(ok+"Loc ation: a\r\nContent-Length: 0\r\n\r\n", "", 0), either, ""},
		"HTTP/0.9":                       {after("<html>it works</html>", "", 0), unknown, egress.ErrorProtocol},
		"HTTP/9.9":                       {after("HTTP/9.9 200 OK\r\n\r\n", "", 0), either, ""},
		"HTTP/2":                         {after("\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", "", 0), unknown, ""},
		"a status of four digits":        {after("HTTP/1.1 2000 OK\r\n\r\n", "", 0), unknown, egress.ErrorProtocol},
		"nothing but noise":              {after("", "\x00\xff\r\n", 0), unknown, egress.ErrorProtocol},
		"closed before it read":          {func(*rawServer, net.Conn, *bufio.Reader) {}, unknown, egress.ErrorReset},
		"closed within the request":      {func(_ *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = r.Peek(10) }, unknown, egress.ErrorReset},
		"closed behind the request":      {after("", "", 0), unknown, egress.ErrorReset},
		"closed within the status line":  {after("HTTP/1.1 2", "", 0), unknown, ""},
		"closed within the head":         {after(ok+"X: y\r\n", "", 0), unknown, ""},
		"closed within the body":         {after(ok+"Content-Length: 10\r\n\r\nok", "", 0), answered, egress.ErrorIncomplete},
		"an answer before it read":       {func(_ *rawServer, conn net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(conn, okAnswer) }, either, ""},
		"an answer when it reads no more": {func(_ *rawServer, conn net.Conn, _ *bufio.Reader) {
			_ = conn.(*net.TCPConn).CloseRead()
			_, _ = io.WriteString(conn, okAnswer)
		}, either, ""},
		"silence":                          {func(_ *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) }, unknown, egress.ErrorTimeout},
		"silence, and the request unread":  {func(s *rawServer, _ net.Conn, r *bufio.Reader) { _, _ = s.read(r); _, _ = r.ReadByte() }, unknown, egress.ErrorTimeout},
		"a hundred answers to one request": {after(strings.Repeat(okAnswer, 100), "", 0), answered, ""},
	}
}

const hostileTimeout = 700 * time.Millisecond

// Twelve hostile servers at a time, four calls to each, half of them streamed on. A process of its own, so that what is
// measured is theirs.
func TestHostileUpstreamsCostNeitherTimeNorMemory(t *testing.T) {
	t.Parallel()
	if os.Getenv("EGRESS_HOSTILE") == "" {
		binary, err := os.Executable()
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		child := exec.CommandContext(ctx, binary, "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // ourselves
		child.Env = append(os.Environ(), "EGRESS_HOSTILE=1")
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "--- PASS", "%s", out)
		_, figures, _ := strings.Cut(string(out), "figures: ")
		figures, _, _ = strings.Cut(figures, "\n")
		t.Log(figures)
		return
	}
	servers := hostiles(t)
	require.GreaterOrEqual(t, len(servers), 12)
	addresses := map[string]*rawServer{}
	for name, h := range servers {
		addresses[name] = serveRaw(t, h.handle)
	}
	executor, err := egress.NewExecutor(egress.ExecutorConfig{Now: now})
	require.NoError(t, err)
	before := memory()
	var group sync.WaitGroup
	var mu sync.Mutex
	var latest time.Duration
	twelve := make(chan struct{}, 12)
	for name, h := range servers {
		group.Go(func() {
			twelve <- struct{}{}
			defer func() { <-twelve }()
			for n := range 4 {
				request := egress.Request{Method: "POST", Path: "/x", Body: []byte("b"), IdempotencyKey: "tkt_1"}
				if n%2 == 1 {
					request.Answer = func(int, []egress.Header, int64) io.Writer { return io.Discard }
				}
				upstream := egress.Upstream{BaseURL: addresses[name].url(""), Timeout: hostileTimeout, Credentials: canaryCredentials()}
				outcome := executor.Do(context.Background(), upstream, request, nil)
				if outcome.Stream != nil {
					_ = outcome.Stream.Wait()
				}
				mu.Lock()
				latest = max(latest, outcome.Duration)
				mu.Unlock()
				if !slices.Contains(h.kinds, outcome.Kind) || h.class != "" && h.class != outcome.ErrorClass {
					t.Errorf("%s: %s %s %v", name, outcome.Kind, outcome.ErrorClass, outcome.Err)
				}
			}
		})
	}
	group.Wait()
	grown := memory() - before
	for name, server := range addresses {
		require.EqualValues(t, 4, server.conns.Load(), "%s: one connection for each call", name)
	}
	require.Less(t, grown, int64(64<<20), "memory that was taken from the system")
	require.Less(t, latest, hostileTimeout+20*time.Second, "the promise is a second; this machine may be busy")
	t.Logf("figures: %d hostile upstreams, 12 at a time, 4 calls each: memory of the process grew by %.1f MiB (bound: 64), the longest call took %s (deadline %s)",
		len(servers), float64(grown)/(1<<20), latest.Round(time.Millisecond), hostileTimeout)
}

// memory is what the heap has ever taken from the system, which does not shrink: a peak is not missed.
func memory() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapSys + stats.StackSys) //nolint:gosec // far below 63 bits
}

func now() time.Time {
	return time.Now() //nolint:forbidigo // how long it takes is what is measured
}
