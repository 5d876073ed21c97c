package api_test

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
)

// wire carries connections to a database until it is cut.
type wire struct {
	to       string
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
	isCut    bool
}

// setupBehindWire is setup with a database that can be made unreachable.
func setupBehindWire(t *testing.T) (b *bundle, cut func()) {
	t.Helper()
	u, err := url.Parse(dbtest.Database(t))
	require.NoError(t, err, "parse the database's URL")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err, "listen")
	w := &wire{to: u.Host, listener: listener}
	go w.serve()
	t.Cleanup(w.cut)
	u.Host = listener.Addr().String()
	pool := dbtest.PoolOf(t, u.String())
	b = setupOn(t, dbtest.Store(t, pool, &dbtest.Outbox{}))
	b.pool = pool
	return b, w.cut
}

func (w *wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to) //nolint:noctx // ends when the wire is cut
		if err != nil || !w.hold(near, far) {
			_ = near.Close()
			continue
		}
		go pipe(near, far)
		go pipe(far, near)
	}
}

func (w *wire) hold(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, conns...)
	return !w.isCut
}

func pipe(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	_ = dst.Close()
}

func (w *wire) cut() {
	_ = w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for _, c := range w.conns {
		_ = c.Close()
	}
}
