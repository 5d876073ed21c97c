package jobs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/egress"
	"countersign/jobs"
)

// receivers are some receivers that note how long after an event its callback came, and receivers that
// never answer.
type receivers struct {
	healthy, hung []string

	mu   sync.Mutex
	took []time.Duration
}

func newReceivers(tb testing.TB, healthy, hung int) *receivers {
	tb.Helper()
	c := &receivers{}
	note := func(_ http.ResponseWriter, r *http.Request) {
		var body struct{ Timestamp time.Time }
		if json.NewDecoder(r.Body).Decode(&body) == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.took = append(c.took, wallClock().Sub(body.Timestamp))
		}
	}
	closing := make(chan struct{})
	hang := func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-closing:
		}
	}
	for i := range healthy + hung {
		answer, list := note, &c.healthy
		if i >= healthy {
			answer, list = hang, &c.hung
		}
		s := httptest.NewServer(http.HandlerFunc(answer))
		tb.Cleanup(s.Close)
		*list = append(*list, s.URL)
	}
	tb.Cleanup(func() { close(closing) })
	return c
}

// cut forgets what was noted, and returns it sorted, once there are so many.
func (c *receivers) cut(tb testing.TB, n int) []time.Duration {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d callbacks to healthy receivers", n), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.took) >= n
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.took
	c.took = nil
	slices.Sort(out)
	return out
}

// crowded is a world whose callbacks go to a crowd, with a runner.
func crowded(t *testing.T, healthy, hung int) (*world, *receivers) {
	t.Helper()
	w, c := setup(t), newReceivers(t, healthy, hung)
	var items []string
	for _, origin := range slices.Concat(c.healthy, c.hung) {
		items = append(items, fmt.Sprintf("{origin: %q, timeout: 10s}", origin))
	}
	w.origins(items...)
	w.run(func(c *jobs.Config) { c.Schedule = egress.DefaultSchedule() })
	return w, c
}

// load submits calls that are refused at once and told to one receiver after the other, at a
// steady rate, and returns how many of them are told to healthy ones: of every five, four,
// where there are others.
func (w *world) load(c *receivers, n int, pause time.Duration) (told int) {
	w.tb.Helper()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	var submitting sync.WaitGroup
	for i := range n {
		<-tick.C
		to := c.healthy[i%len(c.healthy)]
		told++
		submitting.Go(func() { w.submit(call{method: http.MethodPatch, tell: to}) })
		if len(c.hung) > 0 && i%4 == 0 {
			to := c.hung[i/4%len(c.hung)]
			submitting.Go(func() { w.submit(call{method: http.MethodPatch, tell: to}) })
		}
	}
	submitting.Wait()
	return told
}

// TestCallbacksBesideReceiversThatHang measures how long callbacks to healthy receivers take
// with and without a fifth of all receivers hanging, by turns in one run. CALLBACKS is the number
// of turns; without it there is one small turn, which asserts only that all of them come while
// the others hang.
func TestCallbacksBesideReceiversThatHang(t *testing.T) {
	t.Parallel()
	turns, healthy, hung, n := 1, 20, 5, 100
	if full, err := strconv.Atoi(os.Getenv("CALLBACKS")); err == nil {
		turns, healthy, hung, n = full, 200, 50, 1000
	}
	without, a := crowded(t, healthy, 0)
	with, b := crowded(t, healthy, hung)
	var alone, beside []time.Duration
	for range turns {
		alone = append(alone, a.cut(t, without.load(a, n, 10*time.Millisecond))...)
		beside = append(beside, b.cut(t, with.load(b, n, 10*time.Millisecond))...)
	}
	slices.Sort(alone)
	slices.Sort(beside)
	p := func(of []time.Duration, q float64) time.Duration {
		return of[int(float64(len(of)-1)*q)].Round(10 * time.Microsecond)
	}
	t.Logf("event to callback, %d healthy receivers, 100/s: alone p50 %s p99 %s; beside %d that hang p50 %s p99 %s; p99 ratio %.2f",
		healthy, p(alone, 0.5), p(alone, 0.99), hung, p(beside, 0.5), p(beside, 0.99), float64(p(beside, 0.99))/float64(p(alone, 0.99)))
	most := with.number(`SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM deliveries WHERE claimed_by IS NOT NULL GROUP BY endpoint_id) x`)
	require.LessOrEqual(t, most, 4, "places at one endpoint")
	require.Zero(t, with.number(`SELECT count(*) FROM deliveries WHERE state = $1`, approvals.CallbackExhausted))
}
