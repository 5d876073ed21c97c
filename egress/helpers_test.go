package egress_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"countersign/egress"
)

// proxyHits counts connections to the proxy that the environment of every test names.
var proxyHits atomic.Int64

func TestMain(m *testing.M) {
	trap, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := trap.Accept()
			if err != nil {
				return
			}
			proxyHits.Add(1)
			_ = conn.Close()
		}
	}()
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		_ = os.Setenv(name, "http://"+trap.Addr().String())
	}
	code := m.Run()
	_ = trap.Close()
	<-done
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// clock ticks a millisecond at each look, from the time of the test vectors on.
func clock() func() time.Time {
	var ticks atomic.Int64
	return func() time.Time { return time.Unix(1614265330, 0).Add(time.Duration(ticks.Add(1)) * time.Millisecond) }
}

// rawRequest is a request as it was on the wire.
type rawRequest struct {
	Line    string
	Headers []string
	Body    string
}

func (r rawRequest) header(name string) string {
	for _, h := range r.Headers {
		if key, value, _ := strings.Cut(h, ": "); strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// rawServer speaks TCP only; what it says is up to each test.
type rawServer struct {
	addr    string
	conns   atomic.Int64
	effects atomic.Int64 // requests read in full

	mu       sync.Mutex
	requests []rawRequest
	open     []net.Conn
	stopped  func()
}

// stop waits until every handler has read its connection to the end.
func (s *rawServer) stop() { s.stopped() }

// serveRaw runs handle for each connection, and closes the connection after it.
func serveRaw(tb testing.TB, handle func(s *rawServer, conn net.Conn, r *bufio.Reader)) *rawServer {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	s := &rawServer{addr: listener.Addr().String()}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.mu.Lock()
			s.open = append(s.open, conn)
			s.mu.Unlock()
			group.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(s, conn, bufio.NewReader(conn))
			})
		}
	})
	s.stopped = func() {
		_ = listener.Close()
		group.Wait()
	}
	tb.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for _, conn := range s.open {
			_ = conn.Close()
		}
		s.mu.Unlock()
		group.Wait()
	})
	return s
}

// read reads one request strictly, and counts it as an effect.
func (s *rawServer) read(r *bufio.Reader) (rawRequest, error) {
	req, err := readRaw(r)
	if err != nil {
		return req, err
	}
	s.mu.Lock()
	s.requests = append(s.requests, req)
	s.mu.Unlock()
	s.effects.Add(1)
	return req, nil
}

func (s *rawServer) last(tb testing.TB) rawRequest {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NotEmpty(tb, s.requests)
	return s.requests[len(s.requests)-1]
}

func (s *rawServer) url(path string) *url.URL {
	u, err := url.Parse("http://" + s.addr + path)
	if err != nil {
		panic(err)
	}
	return u
}

func readRaw(r *bufio.Reader) (rawRequest, error) {
	var req rawRequest
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return req, err
		}
		if !strings.HasSuffix(line, "\r\n") || strings.ContainsRune(line[:len(line)-2], '\r') {
			return req, errors.New("stray CR or LF")
		}
		line = line[:len(line)-2]
		if line == "" {
			break
		}
		if req.Line == "" {
			req.Line = line
			continue
		}
		req.Headers = append(req.Headers, line)
	}
	length, _ := strconv.Atoi(req.header("Content-Length"))
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	req.Body = string(body)
	return req, err
}

// answer reads one request and answers with text as it is.
func answer(text string) func(*rawServer, net.Conn, *bufio.Reader) {
	return func(s *rawServer, conn net.Conn, r *bufio.Reader) {
		if _, err := s.read(r); err == nil {
			_, _ = io.WriteString(conn, text)
		}
	}
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

func newExecutor(tb testing.TB, policy egress.Policy) *egress.Executor {
	tb.Helper()
	executor, err := egress.NewExecutor(egress.ExecutorConfig{Policy: policy, Version: "1.2.3", Now: clock()})
	require.NoError(tb, err)
	return executor
}

func newDeliverer(tb testing.TB, config egress.DelivererConfig) *egress.Deliverer {
	tb.Helper()
	if config.Now == nil {
		config.Now = clock()
	}
	config.Version, config.DocumentationURL = "1.2.3", "https://countersign.example/docs"
	deliverer, err := egress.NewDeliverer(config)
	require.NoError(tb, err)
	tb.Cleanup(deliverer.Close)
	return deliverer
}

// within fails the test if work is not done by then; it stands in for a look at the clock.
func within(tb testing.TB, limit time.Duration, work func()) {
	tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		work()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		tb.Fatalf("not done within %s", limit)
	}
}

// fakeDNS answers A queries on loopback; answers gets the name and how often it was asked before.
func fakeDNS(tb testing.TB, answers func(name string, before int) []netip.Addr) *net.Resolver {
	tb.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
	require.NoError(tb, err)
	done := make(chan struct{})
	asked := map[string]int{}
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := dnsReply(buffer[:n], asked, answers); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	tb.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func dnsReply(query []byte, asked map[string]int, answers func(string, int) []netip.Addr) []byte {
	var message dnsmessage.Message
	if message.Unpack(query) != nil || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	message.Response, message.Authoritative, message.Additionals = true, true, nil
	if question.Type == dnsmessage.TypeA {
		name := strings.TrimSuffix(question.Name.String(), ".")
		found := answers(name, asked[name])
		asked[name]++
		if found == nil {
			message.RCode = dnsmessage.RCodeNameError
		}
		for _, addr := range found {
			message.Answers = append(message.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
				Body:   &dnsmessage.AResource{A: addr.As4()},
			})
		}
	}
	reply, err := message.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func always(addrs ...string) func(string, int) []netip.Addr {
	var parsed []netip.Addr
	for _, addr := range addrs {
		parsed = append(parsed, netip.MustParseAddr(addr))
	}
	return func(string, int) []netip.Addr { return parsed }
}

func portOf(tb testing.TB, addr string) uint16 {
	tb.Helper()
	at, err := netip.ParseAddrPort(addr)
	require.NoError(tb, err)
	return at.Port()
}

func get(path string) egress.Request { return egress.Request{Method: http.MethodGet, Path: path} }
