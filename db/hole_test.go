package db_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
)

// hole is a way to the database that, once shut, swallows everything and says nothing, as
// a network does that has lost its route.
type hole struct {
	target   string
	listener net.Listener
	shut     atomic.Bool
	open     sync.WaitGroup
	mu       sync.Mutex
	ends     []net.Conn
}

// dig returns a hole and the address of the database through it.
func dig(t *testing.T, database string) (*hole, string) {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	h := &hole{target: u.Host}
	h.listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = h.listener.Addr().String()
	ctx := t.Context()
	h.open.Go(func() {
		for {
			client, err := h.listener.Accept()
			if err != nil {
				return
			}
			h.join(ctx, client)
		}
	})
	return h, u.String()
}

func (h *hole) join(ctx context.Context, client net.Conn) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", h.target)
	if err != nil {
		_ = client.Close()
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, client, server)
	h.open.Go(func() { h.carry(server, client) })
	h.open.Go(func() { h.carry(client, server) })
}

func (h *hole) carry(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			_ = to.Close()
			return
		}
		if !h.shut.Load() {
			_, _ = to.Write(buffer[:n])
		}
	}
}

func (h *hole) close() {
	_ = h.listener.Close()
	h.mu.Lock()
	for _, c := range h.ends {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.open.Wait()
}

// Without a bound on giving back the lock, the turn lasts until TCP gives up, a quarter of
// an hour later, and no timer fires meanwhile.
func TestATurnEndsOnANetworkThatSwallowsEverything(t *testing.T) {
	t.Parallel()
	h, through := dig(t, dbtest.Database(t))
	store := dbtest.Store(t, dbtest.PoolOf(t, through), &dbtest.Outbox{})
	t.Cleanup(h.close) // first of all, so that nobody waits for what was swallowed
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- store.Exclusively(ctx, "alarm", func(ctx context.Context) error {
			h.shut.Store(true)
			_, err := store.Due(ctx, 1)
			return err
		})
	}()
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	select {
	case err := <-done:
		require.ErrorIs(t, err, db.ErrUnavailable)
	case <-patience.C:
		t.Fatal("a turn bounded to a second has not ended after twenty")
	}
}
