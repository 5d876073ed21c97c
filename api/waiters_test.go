package api_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/approvals"
	"countersign/db/dbtest"
)

// statements counts those of a pool.
type statements struct{ atomic.Int64 }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	s.Add(1)
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// setupCounted is setup beside a second server on the same database, whose statements are
// counted and to which requests go.
func setupCounted(t *testing.T) (b *bundle, asked *statements) {
	t.Helper()
	url := dbtest.Database(t)
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err, "parse the database's URL")
	asked = &statements{}
	config.ConnConfig.Tracer = asked
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err, "connect")
	t.Cleanup(pool.Close)
	here := dbtest.Store(t, pool, &dbtest.Outbox{})
	go here.Listen(t.Context())
	b = setupOn(t, here)
	b.pool = dbtest.PoolOf(t, url)
	b.store = dbtest.Store(t, b.pool, &dbtest.Outbox{}) // what the test changes is changed elsewhere
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT now()`).Scan(&b.clock.at), "set the clock by the database's")
	return b, asked
}

func TestAThousandLongPollsCostOneReadEach(t *testing.T) {
	t.Parallel()
	const tickets, each, changed = 100, 10, 10
	b, asked := setupCounted(t)
	transport := &http.Transport{MaxIdleConnsPerHost: tickets * each}
	t.Cleanup(transport.CloseIdleConnections)
	ids := make([]string, tickets)
	for i := range ids {
		ids[i] = b.submit(t, deletion).id(t)
	}
	before := asked.Load()
	answered := make(chan int, tickets*each)
	for _, id := range ids {
		for range each {
			req := b.request(t, call{method: "GET", path: "/v1/tickets/" + id + "?wait=60s", header: headers("If-None-Match", `"1"`)})
			go func() { answered <- status(transport, req) }()
		}
	}
	eventually(t, "all to wait", func() bool { return api.Waiting(b.server) == tickets*each })
	require.Less(t, asked.Load()-before, int64(tickets*each+100), "statements until all wait: one read each, and looks at all of them together")

	before = asked.Load()
	for _, id := range ids[:changed] {
		b.decide(t, id, "bo", approvals.Deny)
	}
	require.Equal(t, map[int]int{http.StatusOK: changed * each}, count(t, answered, changed*each), "those whose ticket has changed")
	require.Equal(t, (tickets-changed)*each, api.Waiting(b.server), "the others wait on")
	require.Less(t, asked.Load()-before, int64(changed*each+changed+100), "statements for the changes: one read an answer")

	before = asked.Load()
	b.server.Drain()
	rest := (tickets - changed) * each
	require.Equal(t, map[int]int{http.StatusNotModified: rest}, count(t, answered, rest), "the rest, at the end")
	require.Less(t, asked.Load()-before, int64(100), "statements for %d answers of 304", rest)
}

func status(transport http.RoundTripper, req *http.Request) int {
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// count waits for so many answers and counts them by their status.
func count(t *testing.T, answered <-chan int, n int) map[int]int {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	out := make(map[int]int)
	for range n {
		select {
		case s := <-answered:
			out[s]++
		case <-timer.C:
			require.FailNow(t, "answers are missing", "%v of %d", out, n)
		}
	}
	return out
}
