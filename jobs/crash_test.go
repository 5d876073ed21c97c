//go:build faultinject

package jobs_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/envelope"
	"countersign/jobs"
	"countersign/policy"
	"countersign/slack"
)

const (
	envDatabase = "JOBS_TEST_DATABASE"
	envConfig   = "JOBS_TEST_CONFIG"
	envSlack    = "JOBS_TEST_SLACK"
	ready       = "ready\n"
	// crashLease is short, so that a death is soon seen, and long enough for two busy cores.
	crashLease = 1500 * time.Millisecond
)

func init() { asWorker = crashWorker } //nolint:gochecknoinits // only builds with the tag have it

// crashWorker is a worker process: it works until its standard input ends, and makes the calls
// of the tickets that it reads there directly.
func crashWorker() {
	if err := work(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func work(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	config, err := policy.Parse("worker.yaml", []byte(os.Getenv(envConfig)), getenv)
	if err != nil {
		return err
	}
	pool, err := db.Open(ctx, db.PoolConfig{URL: os.Getenv(envDatabase), MaxConns: 12, Logger: quiet()})
	if err != nil {
		return err
	}
	defer pool.Close()
	outbox, err := jobs.NewOutbox()
	if err != nil {
		return err
	}
	box, err := envelope.New(dbtest.Keyset)
	if err != nil {
		return err
	}
	store, err := db.New(db.Config{Pool: pool, Outbox: outbox, Box: box, PublicURL: "https://countersign.example.com", Logger: quiet()}) //nolint:contextcheck // the store ends at Close
	if err != nil {
		return err
	}
	defer store.Close()
	c := jobs.Config{
		Pool: pool, Store: store, Outbox: outbox, Policy: func() *policy.Config { return config },
		Lease: crashLease, Now: wallClock, Logger: quiet(),
		Schedule: []time.Duration{0, 200 * time.Millisecond, 200 * time.Millisecond},
	}
	send, err := outside(&c)
	if err != nil {
		return err
	}
	ctx, halt := context.WithCancel(ctx)
	var sending sync.WaitGroup
	sending.Go(func() { _ = send(ctx) })
	defer sending.Wait()
	defer halt()
	sweeping(&c)
	r, err := jobs.New(c)
	if err != nil {
		return err
	}
	if err := r.Start(ctx); err != nil {
		return err
	}
	_, _ = io.WriteString(stdout, ready)
	for lines := bufio.NewScanner(stdin); lines.Scan(); {
		id := lines.Text()
		sending.Go(func() { _ = r.Direct(ctx, id, nowhere{}) })
	}
	stopping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return r.Stop(stopping)
}

// nowhere is where the answers of a worker's direct calls go.
type nowhere struct{}

// Head fulfils jobs.AnswerSink.
func (nowhere) Head(int, []approvals.Header, int64) io.Writer { return io.Discard }

// outside gives a worker process its ways out. send is what brings messages to Slack.
func outside(c *jobs.Config) (send func(context.Context) error, err error) {
	if c.Executor, err = egress.NewExecutor(egress.ExecutorConfig{Now: wallClock}); err != nil {
		return nil, err
	}
	loopback := egress.Policy{AllowLoopback: true, AllowHTTP: true}
	if c.Deliverer, err = egress.NewDeliverer(egress.DelivererConfig{Policy: loopback, Now: wallClock}); err != nil {
		return nil, err
	}
	api := os.Getenv(envSlack)
	if api == "" {
		return func(context.Context) error { return nil }, nil
	}
	client, err := slack.New(slack.Config{
		Token: slack.Secret(getenv("BOT")), APIURL: api, HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}),
	})
	if err != nil {
		return nil, err
	}
	c.Notifier, send, err = inSlack(client, c.Store, c.Policy)
	return send, err
}

// process is a worker process under the eyes of the test.
type process struct {
	*exec.Cmd
	tb    testing.TB
	stdin io.WriteCloser
}

// start starts a worker process and waits until it works.
func (w *world) start(env ...string) *process {
	w.tb.Helper()
	self, err := os.Executable()
	require.NoError(w.tb, err)
	cmd := exec.CommandContext(w.tb.Context(), self) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), workerMark+"=1", envDatabase+"="+w.url, envConfig+"="+w.shape.yaml())
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(w.tb, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(w.tb, err)
	require.NoError(w.tb, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(w.tb, err, "the worker begins to work")
	require.Equal(w.tb, ready, line)
	return &process{Cmd: cmd, tb: w.tb, stdin: stdin}
}

// dies waits until the process has been killed.
func (p *process) dies() {
	p.tb.Helper()
	var exit *exec.ExitError
	require.ErrorAs(p.tb, p.Wait(), &exit, "the process was to die")
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(p.tb, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "killed, not ended: %v", exit)
}

// stops waits until the process has been stopped by SIGSTOP.
func (p *process) stops() {
	p.tb.Helper()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil)
		if !errors.Is(err, syscall.EINTR) {
			require.NoError(p.tb, err)
			break
		}
	}
	require.True(p.tb, status.Stopped(), "stopped, not ended: %v", status)
}

func (p *process) goesOn() {
	p.tb.Helper()
	require.NoError(p.tb, p.Process.Signal(syscall.SIGCONT))
}

// ends stops a worker in good order.
func (p *process) ends() {
	p.tb.Helper()
	require.NoError(p.tb, p.stdin.Close())
	require.NoError(p.tb, p.Wait(), "the worker ends in good order")
}

// crash has a worker process die at a point while it works on a ticket, and another take
// over. It returns the ticket once that has settled it.
func (w *world) crash(point string, c call, approve bool, want approvals.State) approvals.Ticket {
	w.tb.Helper()
	first := w.start("CRASH=" + point)
	x := w.submit(c)
	if approve {
		x = w.decide(x.ID, "ana", approvals.Approve)
	}
	first.dies()
	second := w.start()
	x = w.awaitTold(x.ID, want, approvals.CallbackDelivered)
	w.settled()
	second.ends()
	return w.ticket(x.ID)
}

// report prints what came of a crash point.
func (w *world) report(point string, x approvals.Ticket) {
	w.tb.Helper()
	w.tb.Logf("%-18s %-16s epoch %d  upstream %d  callbacks %d  events %d", point, x.State, x.Epoch,
		w.upstream.callsOf(x.ID), len(w.receiver.requests()), len(w.requireWhole(x.ID)))
}

func TestCrashWhileExecuting(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		point      string
		idempotent bool
		want       approvals.State
		calls      int
		events     []approvals.EventType // after approved
	}{
		{"execute.claimed", false, approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.credentials", false, approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.begun", false, approvals.OutcomeUnknown, 0, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventOutcomeUnknown,
		}},
		{"execute.answered", false, approvals.OutcomeUnknown, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventOutcomeUnknown,
		}},
		{"execute.recorded", false, approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.begun", true, approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventClaimReleased, approvals.EventClaimed,
			approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.answered", true, approvals.Succeeded, 2, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventClaimReleased, approvals.EventClaimed,
			approvals.EventExecuting, approvals.EventSucceeded,
		}},
	} {
		name := test.point
		if test.idempotent {
			name += ", idempotent"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.idempotent = test.idempotent })
			x := w.crash(test.point, call{body: `{"n":1}`}, true, test.want)
			w.report(name, x)
			require.Equal(t, test.calls, w.upstream.callsOf(x.ID))
			for _, r := range w.upstream.requests() {
				require.Equal(t, `{"n":1}`, r.body)
			}
			requireSameMessage(t, w.receiver.requests())
			w.requireEvents(x.ID, append(append([]approvals.EventType{
				approvals.EventCreated, approvals.EventDecided, approvals.EventApproved,
			}, test.events...), approvals.EventCallbackDelivered)...)
		})
	}
}

// directly has a worker process make the call of a ticket directly.
func (p *process) directly(id string) {
	p.tb.Helper()
	_, err := io.WriteString(p.stdin, id+"\n")
	require.NoError(p.tb, err)
}

func TestCrashDuringADirectCall(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		point  string
		want   approvals.State
		calls  int
		events []approvals.EventType // after approved
	}{
		{"execute.claimed", approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.credentials", approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventClaimReleased, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
		{"execute.begun", approvals.OutcomeUnknown, 0, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventOutcomeUnknown,
		}},
		{"execute.answered", approvals.OutcomeUnknown, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventOutcomeUnknown,
		}},
		{"execute.recorded", approvals.Succeeded, 1, []approvals.EventType{
			approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		}},
	} {
		t.Run(test.point, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			first := w.start("CRASH=" + test.point)
			id := w.submit(call{method: http.MethodGet, direct: true}).ID
			first.directly(id)
			first.dies()
			second := w.start()
			w.awaitTold(id, test.want, approvals.CallbackDelivered)
			w.settled()
			second.ends()
			w.report("direct "+test.point, w.ticket(id))
			require.Equal(t, test.calls, w.upstream.callsOf(id))
			requireSameMessage(t, w.receiver.requests())
			w.requireEvents(id, append(append([]approvals.EventType{approvals.EventCreated, approvals.EventApproved}, test.events...),
				approvals.EventCallbackDelivered)...)
		})
	}
}

func TestCrashInTheMiddleOfAnAnswerLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.upstream.answers(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "the first half")
		_ = http.NewResponseController(rw).Flush()
		<-r.Context().Done()
	})
	first := w.start()
	id := w.submit(call{method: http.MethodGet, direct: true}).ID
	first.directly(id)
	receive(t, "the call", w.upstream.got)
	require.NoError(t, first.Process.Kill())
	first.dies()
	second := w.start()
	w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	w.settled()
	second.ends()
	require.Equal(t, 1, w.upstream.callsOf(id), "and never again")
}

func TestCrashZombieOfADirectCall(t *testing.T) {
	t.Parallel()
	w := setup(t)
	zombie := w.start("CRASH=execute.begun", "CRASH_SIGNAL=STOP")
	id := w.submit(call{method: http.MethodGet, direct: true}).ID
	zombie.directly(id)
	zombie.stops()
	other := w.start()
	w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	zombie.goesOn()
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	zombie.ends()
	other.ends()
	require.Equal(t, 1, w.upstream.callsOf(id))
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventResolved))
}

func TestCrashFreesThePlaceInALane(t *testing.T) {
	t.Parallel()
	w := setup(t, bounded("concurrency: 1"))
	first := w.start("CRASH=execute.claimed")
	id := w.submit(call{method: http.MethodGet}).ID
	first.dies()
	waits := w.submit(call{method: http.MethodGet}).ID
	second := w.start()
	for _, x := range []string{id, waits} {
		w.awaitTold(x, approvals.Succeeded, approvals.CallbackDelivered)
		require.Equal(t, 1, w.upstream.callsOf(x))
	}
	second.ends()
}

func TestCrashAfterACallbackWasSentSendsItAgainAsTheSameMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := w.crash("deliver.sent", call{method: "PATCH"}, false, approvals.Denied)
	w.report("deliver.sent", x)
	require.Len(t, w.receiver.requests(), 2)
	requireSameMessage(t, w.receiver.requests())
	w.requireEvents(x.ID, approvals.EventCreated, approvals.EventDenied, approvals.EventCallbackDelivered)
}

func TestCrashBeforeACallbackIsSentSendsItOnceAfterwards(t *testing.T) {
	t.Parallel()
	w := setup(t)
	x := w.crash("deliver.claimed", call{method: "PATCH"}, false, approvals.Denied)
	w.report("deliver.claimed", x)
	require.Len(t, w.receiver.requests(), 1)
	w.requireEvents(x.ID, approvals.EventCreated, approvals.EventDenied, approvals.EventCallbackDelivered)
}

func TestCrashWhileAReceiverThinksSendsTheCallbackAgainAsTheSameMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	release := w.receiver.hangs()
	first := w.start()
	x := w.submit(call{method: "PATCH"})
	receive(t, "the first attempt", w.receiver.got)
	require.NoError(t, first.Process.Kill())
	first.dies()
	release()
	second := w.start()
	x = w.awaitTold(x.ID, approvals.Denied, approvals.CallbackDelivered)
	w.settled()
	second.ends()
	w.report("deliver, no reply", x)
	require.Len(t, w.receiver.requests(), 2)
	requireSameMessage(t, w.receiver.requests())
	w.requireEvents(x.ID, approvals.EventCreated, approvals.EventDenied, approvals.EventCallbackDelivered)
}

func TestCrashAfterACardWasPostedLeavesCardsThatActOnOneTicket(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	inSlack := envSlack + "=" + space.APIURL()
	first := w.start("CRASH=outbox.posted", inSlack)
	id := w.submit(call{}).ID
	first.dies()
	second := w.start(inSlack)
	all := space.awaitTitles("Approval needed", "Approval needed")
	require.Equal(t, all[0].Buttons[0].Value, all[1].Buttons[0].Value, "both copies carry one handle")
	cards, err := w.store.Cards(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, cards, 1)

	w.decide(id, "ana", approvals.Approve)
	x := w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitTitles("Approval needed", "Executed")
	w.settled()
	second.ends()
	w.report("outbox.posted", x)
	require.Equal(t, 1, w.upstream.callsOf(id))
	require.Equal(t, 1, count(w.requireWhole(id), approvals.EventNotified))
}

func TestCrashZombie(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		point      string
		idempotent bool
		given      approvals.State // by the other process, while the zombie sleeps
		final      approvals.State
		calls      int
		resolved   int
	}{
		{"execute.claimed", false, approvals.Succeeded, approvals.Succeeded, 1, 0},
		{"execute.begun", false, approvals.OutcomeUnknown, approvals.Succeeded, 1, 1},
		{"execute.answered", false, approvals.OutcomeUnknown, approvals.Succeeded, 1, 1},
		{"execute.begun", true, approvals.Succeeded, approvals.Succeeded, 2, 0},
	} {
		name := "zombie " + test.point
		if test.idempotent {
			name += ", idempotent"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.idempotent = test.idempotent })
			zombie := w.start("CRASH="+test.point, "CRASH_SIGNAL=STOP")
			id := w.approved(call{}).ID
			zombie.stops()
			other := w.start()
			w.awaitTold(id, test.given, approvals.CallbackDelivered)
			zombie.goesOn()

			eventually(t, "the zombie has done what it was at", func() bool { return w.upstream.callsOf(id) == test.calls })
			w.awaitTold(id, test.final, approvals.CallbackDelivered)
			w.settled()
			zombie.ends()
			other.ends()
			x := w.ticket(id)
			w.report(name, x)
			require.Equal(t, test.calls, w.upstream.callsOf(id))
			events := w.requireWhole(id)
			require.Equal(t, test.resolved, count(events, approvals.EventResolved))
			require.Equal(t, 1+test.resolved, count(events, approvals.EventCallbackDelivered))
			if test.resolved > 0 {
				told := w.callbacks(id)
				require.Equal(t, string(approvals.EventOutcomeUnknown), told[0].Type)
				require.Equal(t, string(approvals.EventResolved), told[1].Type)
				require.Equal(t, approvals.Succeeded, told[1].Data.State)
			}
		})
	}
}

func TestCrashBeforeTheHourOfAScheduledCallLosesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first := w.start()
	x := w.approved(call{after: 1500 * time.Millisecond})
	require.NoError(t, first.Process.Kill())
	first.dies()
	second := w.start()
	x = w.awaitTold(x.ID, approvals.Succeeded, approvals.CallbackDelivered)
	w.settled()
	second.ends()
	w.report("before the hour", x)
	require.Equal(t, 1, w.upstream.callsOf(x.ID))
	require.False(t, x.ExecutionStartedAt.Before(x.NotBefore))
	w.requireEvents(x.ID, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventReleased,
		approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded, approvals.EventCallbackDelivered)
}
