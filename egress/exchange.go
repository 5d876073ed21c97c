package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// errSecondDial would mean that net/http tried to send a request again.
var errSecondDial = errors.New("an exchange has one connection")

// errSealed answers a write that comes after the exchange was given up.
var errSealed = errors.New("exchange is over")

// How far an exchange has come. It moves once, by compare-and-swap, from untouched to one of the others.
const (
	untouched int32 = iota
	written         // at least one byte of the request may have left
	sealed          // no byte of the request has left, and none ever will
)

// exchange is one request on one connection of its own. It knows whether any byte of the request was handed to the
// connection, which is what decides between "not sent" and "unknown". Traces of net/http cannot prove that: they report
// what happened before they are read, not what a goroutine that is still running will do next.
type exchange struct {
	guard *guard
	tls   *tls.Config
	state atomic.Int32
	dials atomic.Int32
	// tunnel is the way through a proxy, if there is one. Its bytes are not of the request and do not count as written.
	tunnel tunnelWatch
}

// seal reports whether the request is provably unsent. If so, it also makes sure that it stays so.
func (x *exchange) seal() bool { return x.state.CompareAndSwap(untouched, sealed) }

// transport serves this exchange alone: no connection is ever reused, so net/http has no reason to send anything again
// (it would, for a request with an Idempotency-Key), and a second dial is refused in case it finds one.
func (x *exchange) transport(ctx context.Context) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	dial := func(_ context.Context, network, addr string) (net.Conn, error) { return x.dial(ctx, network, addr) }
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		DialTLSContext:         func(_ context.Context, network, addr string) (net.Conn, error) { return x.dialTLS(ctx, network, addr) },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		Protocols:              protocols,
		MaxResponseHeaderBytes: maxResponseHeaders, // 1xx answers count towards it
	}
}

// dial uses the context of the exchange: the one net/http hands over has lost its deadline.
func (x *exchange) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := x.connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return x.watch(conn), nil
}

func (x *exchange) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := x.connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("split %q: %w", addr, err)
	}
	config := x.tls.Clone()
	config.ServerName, config.NextProtos = host, []string{"http/1.1"}
	secure := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, &handshakeError{err}
	}
	return x.watch(secure), nil
}

func (x *exchange) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	if x.dials.Add(1) > 1 {
		return nil, errSecondDial
	}
	conn, err := x.guard.dial(x.tunnel.attach(ctx), network, addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		// A second bound under that of net/http; later, so that the error is the context's and not a half-read answer.
		_ = conn.SetDeadline(deadline.Add(time.Second))
	}
	return conn, nil
}

func (x *exchange) watch(conn net.Conn) net.Conn {
	return &watchedConn{Conn: conn, x: x, ready: make(chan struct{})}
}

// handshakeError marks a TLS handshake that failed, when nothing of the request can have been sent.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "tls handshake: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// watchedConn carries the bytes of HTTP; those of TLS are below it.
type watchedConn struct {
	net.Conn
	x     *exchange
	ready chan struct{} // closed at the first write, or at Close
	once  sync.Once
}

// Write records before it writes: a write that fails may still have left.
func (c *watchedConn) Write(b []byte) (int, error) {
	if !c.x.state.CompareAndSwap(untouched, written) && c.x.state.Load() == sealed {
		return 0, errSealed
	}
	c.once.Do(func() { close(c.ready) })
	return c.Conn.Write(b)
}

// Read waits for the request: a server that talks first would have net/http drop the connection or not, depending on
// which goroutine runs first, and print what it was told.
func (c *watchedConn) Read(b []byte) (int, error) {
	<-c.ready
	return c.Conn.Read(b)
}

// Close also lets a waiting Read go on, to find the connection closed.
func (c *watchedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.ready) })
	return err
}
