package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/jobs"
)

// sink keeps an answer as it comes.
type sink struct {
	came chan string // every piece of the body

	mu      sync.Mutex
	heads   int
	status  int
	headers []approvals.Header
	length  int64
	body    bytes.Buffer
	refuses bool // takes no piece
}

func newSink() *sink { return &sink{came: make(chan string, 1000)} }

// Head fulfils jobs.AnswerSink.
func (s *sink) Head(status int, headers []approvals.Header, length int64) io.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heads++
	s.status, s.headers, s.length = status, headers, length
	return s
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses {
		return 0, errors.New("the client is gone")
	}
	s.came <- string(b)
	return s.body.Write(b)
}

func (s *sink) seen() (heads, status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heads, s.status, s.body.String()
}

// started starts a runner that is stopped at the end of the test.
func (w *world) started(change ...func(*jobs.Config)) *jobs.Runner {
	w.tb.Helper()
	r := w.runner(change...)
	require.NoError(w.tb, r.Start(w.tb.Context()))
	w.tb.Cleanup(func() { w.halt(r) })
	return r
}

// outright is a call that is allowed outright and made directly.
var outright = call{method: http.MethodGet, direct: true}

func (w *world) result(id string) approvals.Result {
	w.tb.Helper()
	got, err := w.store.Result(w.tb.Context(), db.Ref{ID: id})
	require.NoError(w.tb, err)
	return got
}

func TestDirectCallHandsOverTheAnswerWhileItArrivesAndIsRecordedLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	rest := make(chan struct{})
	first := strings.Repeat("a", 4000) + " " // what could be the beginning of a credential is held back
	w.upstream.answers(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		rw.WriteHeader(http.StatusNonAuthoritativeInfo)
		_, _ = io.WriteString(rw, first)
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-rest:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(rw, "second")
	})
	r := w.started()
	id, s := w.submit(outright).ID, newSink()
	made := make(chan error, 1)
	go func() { made <- r.Direct(t.Context(), id, s) }()
	require.NotEmpty(t, receive(t, "the beginning of the answer", s.came))
	require.Equal(t, approvals.Executing, w.ticket(id).State, "the upstream has not said everything")
	close(rest)
	require.NoError(t, receive(t, "the end of the call", made))

	heads, status, body := s.seen()
	require.Equal(t, []any{1, 203, first + "second"}, []any{heads, status, body})
	require.Contains(t, s.headers, approvals.Header{Name: "Content-Type", Value: "text/plain"})
	got := w.result(id)
	require.Equal(t, first+"second", string(got.Body))
	require.Equal(t, 203, got.Status)
	require.Equal(t, approvals.Succeeded, w.ticket(id).State, "it is recorded when Direct returns")
	require.Zero(t, w.number(`SELECT count(*) FROM river_job WHERE kind = 'execute'`), "no job was needed")
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func TestDirectCallIsMadeAndRecordedThoughTheClientWentAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	r := w.started()
	id, s := w.submit(outright).ID, newSink()
	s.refuses = true
	ctx, leave := context.WithCancel(t.Context())
	made := make(chan error, 1)
	go func() { made <- r.Direct(ctx, id, s) }()
	receive(t, "the call", w.upstream.got)
	leave()
	release()
	require.ErrorIs(t, receive(t, "the end of the call", made), jobs.ErrIncomplete)
	require.Equal(t, approvals.Succeeded, w.ticket(id).State)
	require.Equal(t, `{"ok":"late"}`, string(w.result(id).Body))
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}

func TestDirectCallToNobodyFailsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.reload(func(s *shape) { s.upstream = "http://127.0.0.1:" + refusingPort(t) })
	r := w.started()
	id, s := w.submit(outright).ID, newSink()
	require.NoError(t, r.Direct(t.Context(), id, s))
	heads, _, _ := s.seen()
	require.Zero(t, heads)
	x := w.ticket(id)
	require.Equal(t, approvals.Failed, x.State)
	require.Equal(t, "upstream_unreachable", x.Problem.Code)
	w.requireWhole(id)
}

func TestCallThatCannotBeMadeDirectlyIsLeftToOthers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stopped := w.runner()
	require.ErrorIs(t, stopped.Direct(t.Context(), w.submit(call{}).ID, newSink()), jobs.ErrNotDirect, "of a runner that was not started")
	early := w.submit(outright)
	require.ErrorIs(t, stopped.Direct(t.Context(), early.ID, newSink()), jobs.ErrNotDirect)
	require.NotZero(t, w.number(`SELECT count(*) FROM river_job WHERE kind = 'execute' AND args->>'ticket_id' = $1`, early.ID), "it has a job now")

	r := w.started()
	require.ErrorIs(t, r.Direct(t.Context(), missing, newSink()), jobs.ErrNotDirect)
	pending := w.submit(call{})
	require.ErrorIs(t, r.Direct(t.Context(), pending.ID, newSink()), jobs.ErrNotDirect)
	require.Equal(t, approvals.Pending, w.ticket(pending.ID).State)

	release := w.upstream.hangs()
	busy := w.submit(call{method: http.MethodGet})
	eventually(t, "a job is at the call", func() bool { return w.upstream.callsOf(busy.ID) == 1 })
	require.ErrorIs(t, r.Direct(t.Context(), busy.ID, newSink()), jobs.ErrNotDirect, "this process has it")
	release()
	w.awaitTold(busy.ID, approvals.Succeeded, approvals.CallbackDelivered)
	w.awaitTold(early.ID, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	require.Equal(t, 1, w.upstream.callsOf(busy.ID))
	require.Equal(t, 1, w.upstream.callsOf(early.ID))
}

func TestOfManyDirectCallsForOneTicketOneIsMade(t *testing.T) {
	t.Parallel()
	w := setup(t)
	one := w.started()
	pool := dbtest.PoolOf(t, w.url)
	other := w.started(func(c *jobs.Config) { c.Pool, c.Store = pool, dbtest.Store(t, pool, w.outbox) })
	id := w.submit(outright).ID
	var calls sync.WaitGroup
	got := make(chan error, 8)
	for i := range 8 {
		calls.Go(func() { got <- []*jobs.Runner{one, other}[i%2].Direct(t.Context(), id, newSink()) })
	}
	calls.Wait()
	close(got)
	made := 0
	for err := range got {
		if err == nil {
			made++
			continue
		}
		require.ErrorIs(t, err, jobs.ErrNotDirect)
	}
	require.Equal(t, 1, made)
	w.settled()
	require.Equal(t, 1, w.upstream.callsOf(id))
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventExecuting))
}

func TestStopLetsTheDirectCallUnderWayFinishAndTakesNoOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.upstream.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.submit(outright).ID
	made := make(chan error, 1)
	go func() { made <- r.Direct(t.Context(), id, newSink()) }()
	receive(t, "the call", w.upstream.got)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.halt(r)
	}()
	eventually(t, "no other is taken", func() bool {
		return errors.Is(r.Direct(t.Context(), missing, newSink()), jobs.ErrNotDirect)
	})
	require.Equal(t, approvals.Executing, w.ticket(id).State)
	release()
	receive(t, "the end of Stop", stopped)
	require.NoError(t, receive(t, "the end of the call", made))
	require.Equal(t, approvals.Succeeded, w.ticket(id).State)
}

func TestStopThatMayNotWaitCutsTheDirectCallOffAndRecordsTheDoubt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.upstream.hangs()
	r := w.runner()
	require.NoError(t, r.Start(t.Context()))
	id := w.submit(outright).ID
	made := make(chan error, 1)
	go func() { made <- r.Direct(t.Context(), id, newSink()) }()
	receive(t, "the call", w.upstream.got)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Stop(ctx), context.DeadlineExceeded, "an end that is not in good order is said")
	require.NoError(t, receive(t, "the end of the call", made))
	x := w.ticket(id)
	require.Equal(t, approvals.OutcomeUnknown, x.State)
	require.Equal(t, "no_answer", x.Problem.Code)
}

func TestTicketOpenedForADirectCallThatNobodyMakesIsFoundByTheSweeper(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.submit(outright).ID
	require.Zero(t, w.number(`SELECT count(*) FROM river_job WHERE kind = 'execute'`))
	w.run(sweeping)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
}
