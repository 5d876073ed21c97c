package jobs_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/jobs"
)

// wire stands between a process and its database. It ends the connection on which a marked
// transaction commits: with the commit carried out but its reply lost, or before it.
type wire struct {
	url    string
	target string
	mark   []byte
	// persist says that the commit reaches the database.
	persist bool
	cuts    atomic.Int32 // how many are left
	made    atomic.Int32
}

// newWire cuts up to cuts commits of transactions in which the client has said mark.
func newWire(tb testing.TB, target, mark string, persist bool, cuts int32) *wire {
	tb.Helper()
	u, err := url.Parse(target)
	require.NoError(tb, err)
	w := &wire{target: u.Host, mark: []byte(mark), persist: persist}
	w.cuts.Store(cuts)
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	u.Host = listener.Addr().String()
	w.url = u.String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { w.carry(ctx, conn) })
		}
	})
	tb.Cleanup(func() {
		cancel()
		_ = listener.Close()
		open.Wait()
	})
	return w
}

func (w *wire) carry(ctx context.Context, client net.Conn) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", w.target)
	if err != nil {
		_ = client.Close()
		return
	}
	hangUp := func() {
		_ = client.Close()
		_ = server.Close()
	}
	defer hangUp()
	stop := context.AfterFunc(ctx, hangUp)
	defer stop()
	var swallow atomic.Bool
	var back sync.WaitGroup
	back.Go(func() {
		defer hangUp()
		buffer := make([]byte, 64<<10)
		for {
			n, err := server.Read(buffer)
			if err != nil || swallow.Load() { // the database has answered the commit
				return
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	})
	defer back.Wait()
	defer hangUp()
	w.forward(client, server, &swallow)
}

// forward passes on what the client says. pgx commits with a message of its own.
func (w *wire) forward(client, server net.Conn, swallow *atomic.Bool) {
	marked, buffer := false, make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		said := buffer[:n]
		commit := bytes.Contains(said, []byte("commit\x00"))
		if marked && commit && w.cuts.Add(-1) >= 0 {
			w.made.Add(1)
			if !w.persist {
				return
			}
			swallow.Store(true)
			_, _ = server.Write(said)
			_, _ = client.Read(buffer) // until the other side hangs up
			return
		}
		marked = (marked || bytes.Contains(said, w.mark)) && !commit
		if _, err := server.Write(said); err != nil {
			return
		}
	}
}

func TestOneCallAndATrueEndWhenTheDatabaseIsLostAtACommit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		event approvals.EventType
		calls int
	}{
		{"claim", approvals.EventClaimed, 1},
		{"begin", approvals.EventExecuting, 1},
		{"finish", approvals.EventSucceeded, 1},
		{"delivery", approvals.EventCallbackDelivered, 1},
	} {
		for _, persist := range []bool{false, true} {
			name := test.name + ", not persisted"
			if persist {
				name = test.name + ", yet persisted"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				wire := newWire(t, w.url, string(test.event), persist, 2)
				pool := dbtest.PoolOf(t, wire.url)
				w.run(sweeping, func(c *jobs.Config) { c.Pool, c.Store = pool, dbtest.Store(t, pool, w.outbox) })
				id := w.approved(call{}).ID
				w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
				require.NotZero(t, wire.made.Load(), "the connection was cut")
				require.Equal(t, 1, w.upstream.callsOf(id))
				requireSameMessage(t, w.receiver.requests())
				events := w.requireWhole(id)
				require.Equal(t, 1, count(events, approvals.EventExecuting))
				require.Equal(t, 1, count(events, approvals.EventSucceeded))
				require.Equal(t, 1, count(events, approvals.EventCallbackDelivered))
			})
		}
	}
}

func TestOneCallPerTicketWhileEverySessionIsTerminatedAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pool := dbtest.PoolOf(t, w.url)
	w.upstream.answers(func(http.ResponseWriter, *http.Request) {
		timer := time.NewTimer(30 * time.Millisecond) // so that many are in flight at a time
		<-timer.C
	})
	var ids []string
	for range 40 {
		ids = append(ids, w.submit(call{method: http.MethodGet}).ID)
	}
	w.run(sweeping, func(c *jobs.Config) { c.Pool, c.Store, c.Executions = pool, dbtest.Store(t, pool, w.outbox), 4 })
	conn := superuser(t, w.url)
	for seen := -1; seen < len(ids); {
		eventually(t, "another ticket is done", func() bool {
			before := seen
			seen = max(seen, w.surely(`SELECT count(*) FROM tickets WHERE finished_at IS NOT NULL`))
			return seen > before
		})
		_, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
	}
	for _, id := range ids {
		eventually(t, id+" is delivered", func() bool {
			x, err := w.store.Ticket(t.Context(), db.Ref{ID: id})
			return err == nil && x.State == approvals.Succeeded && x.CallbackState == approvals.CallbackDelivered
		})
		require.Equal(t, 1, w.upstream.callsOf(id))
		require.Equal(t, 1, count(w.requireWhole(id), approvals.EventExecuting))
	}
}

// surely reads a number from a database that comes and goes.
func (w *world) surely(query string) (n int) {
	w.tb.Helper()
	eventually(w.tb, query, func() bool { return w.pool.QueryRow(w.tb.Context(), query).Scan(&n) == nil })
	return n
}

func TestCallThatIsMadeAgainPassesTheDoorAgainWhateverTheDatabaseDoes(t *testing.T) {
	t.Parallel()
	for name, persist := range map[string]bool{"not persisted": false, "yet persisted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.idempotent = true })
			id := w.claimedByTheDead(true) // in doubt: executing already
			wire := newWire(t, w.url, string(approvals.EventExecuting), persist, 1)
			pool := dbtest.PoolOf(t, wire.url)
			w.run(sweeping, shortLease, func(c *jobs.Config) { c.Pool, c.Store = pool, dbtest.Store(t, pool, w.outbox) })
			w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
			require.NotZero(t, wire.made.Load(), "the connection was cut")
			require.Equal(t, 1, w.upstream.callsOf(id))
			require.Equal(t, 2, count(w.requireWhole(id), approvals.EventExecuting), "the dead worker's and one for the call that was made")
		})
	}
}
