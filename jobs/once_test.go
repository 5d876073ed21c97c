package jobs_test

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/jobs"
)

func TestFiftyJobsForOneTicketMakeOneCall(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{}).ID
	for range 50 {
		w.enqueue(approvals.Execute{TicketID: id})
	}
	w.run()
	w.run() // and a second worker to race for it
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	eventually(t, "every job is done", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE kind = 'execute' AND state = 'completed'`) == 51
	})
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

// second makes another process on the same database: a store, a pool and a runner of its own.
func (w *world) second(change ...func(*jobs.Config)) {
	w.tb.Helper()
	pool := dbtest.PoolOf(w.tb, w.url)
	w.run(append([]func(*jobs.Config){func(c *jobs.Config) {
		c.Pool, c.Store = pool, dbtest.Store(w.tb, pool, w.outbox)
	}}, change...)...)
}

func TestTwoProcessesMakeEachOfAHundredCallsOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run()
	w.second()
	var ids []string
	for range 100 {
		ids = append(ids, w.submit(call{method: http.MethodGet}).ID)
	}
	for _, id := range ids {
		w.enqueue(approvals.Execute{TicketID: id}) // each with a second job
	}
	for _, id := range ids {
		w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
		require.Equal(t, 1, w.upstream.callsOf(id))
		require.Equal(t, 1, count(w.requireWhole(id), approvals.EventExecuting))
	}
	require.Len(t, w.upstream.requests(), 100)
	require.Len(t, w.receiver.requests(), 100)
}

func TestUpstreamThatSaysNothingLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.timeout = 300 * time.Millisecond })
	w.upstream.hangs()
	w.run(sweeping)
	id := w.approved(call{}).ID
	x := w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	require.Equal(t, "no_answer", x.Problem.Code)
	w.enqueue(approvals.Execute{TicketID: id})
	w.settled()
	require.Equal(t, 1, w.upstream.callsOf(id), "a call in doubt is never made again")
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventOutcomeUnknown, approvals.EventCallbackDelivered)
}

// settled waits until no job is left that could run now, and nothing is owed to Slack by
// whoever sends to it.
func (w *world) settled() {
	w.tb.Helper()
	eventually(w.tb, "no job is left to run, and nothing to send", func() bool {
		return w.number(`SELECT (SELECT count(*) FROM river_job WHERE state IN ('available', 'running', 'retryable')
			OR (state = 'scheduled' AND scheduled_at < clock_timestamp() + interval '5 s'))
			+ (SELECT count(*) FROM slack_state, slack_outbox o WHERE slack_state.name = 'sender' AND o.state IN ('queued', 'sending', 'unknown'))
			+ (SELECT count(*) FROM slack_state, cards WHERE slack_state.name = 'sender' AND desired > shown AND ts <> '')`) == 0
	})
}

func TestUpstreamThatRefusesConnectionsIsTriedThriceAndNothingIsSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	port := refusingPort(t)
	resolver, dials := countingResolver(t)
	w.reload(func(s *shape) { s.upstream = "http://upstream.test:" + port })
	w.run(func(c *jobs.Config) {
		executor, err := egress.NewExecutor(egress.ExecutorConfig{Policy: egress.Policy{Resolver: resolver}, Now: wallClock})
		require.NoError(t, err)
		c.Executor = executor
	})
	id := w.approved(call{}).ID
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "upstream_unreachable", x.Problem.Code)
	require.Nil(t, x.Result)
	require.Equal(t, 3, dials())
	require.Equal(t, "upstream_unreachable", w.callbacks(id)[0].Data.Error.Code)
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventFailed, approvals.EventCallbackDelivered)
}

// refusingPort is bound and never listened on, so that it refuses connections for as long
// as the test runs. One that was closed could be given to the server of another test.
func refusingPort(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(tb, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(fd)
	require.NoError(tb, err)
	bound, ok := name.(*syscall.SockaddrInet4)
	require.True(tb, ok)
	return strconv.Itoa(bound.Port)
}

// countingResolver resolves every name to this machine and counts how often it is asked
// for an IPv4 address: once a dial.
func countingResolver(tb testing.TB) (*net.Resolver, func() int) {
	tb.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
	require.NoError(tb, err)
	var mu sync.Mutex
	var asked int
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q.Type == dnsmessage.TypeA {
				mu.Lock()
				asked++
				mu.Unlock()
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
				}}
			}
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	tb.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return resolver, func() int {
		mu.Lock()
		defer mu.Unlock()
		return asked
	}
}

func TestAnswerOutsideTheSuccessSetIsAKnownFailure(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.upstream.status(http.StatusServiceUnavailable)
	w.run()
	id := w.approved(call{}).ID
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "upstream_error", x.Problem.Code)
	require.Equal(t, 503, x.Result.Status)
	require.Equal(t, 503, w.callbacks(id)[0].Data.Result.Status)
	w.settled()
	require.Equal(t, 1, w.upstream.callsOf(id), "an answer is an answer: never asked again")
	w.requireWhole(id)
}

func TestIdempotentUpstreamIsAskedAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.idempotent, s.timeout = true, 300*time.Millisecond })
	w.upstream.hangs()
	w.run()
	id := w.approved(call{body: `{"n":1}`}).ID
	receive(t, "the first try", w.upstream.got)
	w.upstream.status(http.StatusOK)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	calls := w.upstream.requests()
	require.Len(t, calls, 2)
	require.Equal(t, id, calls[0].ticket())
	require.Equal(t, id, calls[1].ticket())
	require.Equal(t, calls[0].body, calls[1].body)
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func TestWhatChangedAfterTheApprovalIsNotSent(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*shape){
		"another address":        func(s *shape) { s.upstream = "http://127.0.0.1:1" },
		"another credential":     func(s *shape) { s.credential = "env:OTHER_TOKEN" },
		"declared idempotent":    func(s *shape) { s.idempotent = true },
		"a header it had is not": func(s *shape) { s.headers = "accept" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.headers = "x-tenant" })
			id := w.approved(call{header: approvals.Header{Name: "X-Tenant", Value: "acme"}}).ID
			w.reload(change)
			w.run()
			x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
			require.Equal(t, "binding_violation", x.Problem.Code)
			require.Empty(t, w.upstream.requests())
			w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved,
				approvals.EventClaimed, approvals.EventFailed, approvals.EventCallbackDelivered)
		})
	}
}

func TestRequestThatCannotBeBuiltFailsOnceAndForAll(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.run(sweeping)
	// The API refuses it at submit; here somebody went past the API.
	id := w.approved(call{header: approvals.Header{Name: "X-Forwarded-For", Value: "10.0.0.1"}}).ID
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "request_invalid", x.Problem.Code)
	require.Empty(t, w.upstream.requests())
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed,
		approvals.EventExecuting, approvals.EventFailed, approvals.EventCallbackDelivered)
}

func TestCallThatIsCancelledBeforeItsClaimIsNeverSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{}).ID
	w.cancel(id)
	w.run()
	w.awaitTold(id, approvals.Cancelled, approvals.CallbackDelivered)
	w.settled()
	require.Empty(t, w.upstream.requests())
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved,
		approvals.EventCancelled, approvals.EventCallbackDelivered)
}

func (w *world) cancel(id string) {
	w.tb.Helper()
	w.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: callerName, Via: "api"}, "changed my mind", now)
	})
}

func TestCancelWhileExecutingIsNotedAndTheTicketEndsAsWhatReallyHappened(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	w.run()
	id := w.approved(call{}).ID
	receive(t, "the call", w.upstream.got)
	w.cancel(id)
	release()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventCancelRequested))
}

func TestCallerWhoseOriginIsStruckIsToldNothingMore(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*shape){
		"the origin was struck":   func(s *shape) { s.otherOrigin = true },
		"the origin is elsewhere": func(s *shape) { s.receiver = "http://127.0.0.1:2" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.approved(call{}).ID
			w.reload(change)
			w.run()
			w.awaitTold(id, approvals.Succeeded, approvals.CallbackExhausted)
			require.Empty(t, w.receiver.requests())
			require.Len(t, w.upstream.requests(), 1, "a lost callback never changes the outcome")
			w.requireWhole(id)
		})
	}
}

func TestWakeUpThatComesWhileItsTicketIsBusyIsNotLost(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) { s.idempotent, s.timeout = true, 1500*time.Millisecond })
	w.upstream.hangs()
	w.run(func(c *jobs.Config) { c.UnstartedGrace = time.Hour }) // no sweep makes up for it
	id := w.approved(call{}).ID
	receive(t, "the first try", w.upstream.got)
	// Another process takes the claim away: the job it makes comes while this one is at it.
	w.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) { return x.Abandon(x.Epoch, now) })
	w.upstream.status(http.StatusOK)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 2, w.upstream.callsOf(id))
	require.Equal(t, int64(2), w.ticket(id).Epoch)
	w.requireWhole(id)
}
