package egress

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync"
	"time"
)

// Timing of one try. What did not happen, as with a connection that was reused, is zero. Behind a proxy, Connect is of the
// connection to it.
type Timing struct {
	DNS       time.Duration
	Connect   time.Duration
	TLS       time.Duration
	FirstByte time.Duration // from the start of the try
}

// stopwatch follows a request through net/http, whose dial may outlive the request: hence the lock.
type stopwatch struct {
	now     func() time.Time
	started time.Time

	mu                 sync.Mutex
	timing             Timing
	address            string
	dns, connect, hand time.Time
	handshake          error
}

func newStopwatch(now func() time.Time) *stopwatch { return &stopwatch{now: now, started: now()} }

func (w *stopwatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { w.start(&w.dns) },
		DNSDone:           func(httptrace.DNSDoneInfo) { w.stop(w.dnsStarted, &w.timing.DNS) },
		ConnectStart:      func(_, _ string) { w.start(&w.connect) },
		ConnectDone:       func(_, _ string, _ error) { w.stop(w.connectStarted, &w.timing.Connect) },
		TLSHandshakeStart: func() { w.start(&w.hand) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			w.stop(w.handStarted, &w.timing.TLS)
			w.set(func() { w.handshake = err })
		},
		GotConn: func(info httptrace.GotConnInfo) {
			address := info.Conn.RemoteAddr().String()
			w.set(func() { w.address = address })
		},
		GotFirstResponseByte: func() { w.stop(w.tryStarted, &w.timing.FirstByte) },
	}
}

func (w *stopwatch) dnsStarted() time.Time     { return w.dns }
func (w *stopwatch) connectStarted() time.Time { return w.connect }
func (w *stopwatch) handStarted() time.Time    { return w.hand }
func (w *stopwatch) tryStarted() time.Time     { return w.started }

func (w *stopwatch) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *stopwatch) start(at *time.Time) { w.set(func() { *at = w.now() }) }

func (w *stopwatch) stop(since func() time.Time, d *time.Duration) {
	w.set(func() { *d = w.now().Sub(since()) })
}

// read returns what was seen so far. An error of the handshake is marked as one: crypto/tls has no type for most.
func (w *stopwatch) read(err error) (Timing, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.handshake != nil {
		err = &handshakeError{err}
	}
	return w.timing, w.address, err
}
