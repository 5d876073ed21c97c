package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"countersign/approvals"
	"countersign/credential"
	"countersign/db"
	"countersign/egress"
	"countersign/policy"
)

const (
	// fetchCooldown is how soon after one fetch the next may follow. River's default of
	// 100 ms would be most of the time from a decision to the upstream.
	fetchCooldown = 10 * time.Millisecond
	fetchPoll     = 500 * time.Millisecond
	// jobTimeout bounds a job; executeTimeout the one that waits for an upstream.
	jobTimeout     = time.Minute
	executeTimeout = 2 * time.Minute
	rescueAfter    = 3 * time.Minute
	// deliverWorkers is how many callbacks this process posts at once. Each waits for a receiver
	// and holds nothing else; how many go to one endpoint is bounded by its claims.
	deliverWorkers = 512
	// softStop is longer than the longest upstream timeout, so that a shutdown cuts off
	// no call in flight.
	softStop = 60 * time.Second
)

// Config says what the workers work with.
type Config struct {
	// Pool and Store are required, on the same database.
	Pool  *pgxpool.Pool
	Store *db.Store
	// Outbox inserts the jobs a sweep finds missing. Required.
	Outbox *Outbox
	// Policy is the configuration in force, with what is known of Slack's people. It must
	// return the same pointer until that is another. Required.
	Policy func() *policy.Config
	// Fresh makes sure, before a ticket is claimed, that Policy knows who is who and who
	// belongs where as it is now, or says that this cannot be found out: then the ticket stays
	// as it is and the question is asked again, until its time to execute is over. Nil: Policy
	// always knows.
	Fresh func(ctx context.Context, t approvals.Ticket) error
	// Executor makes upstream calls, Deliverer callbacks. Required.
	Executor  *egress.Executor
	Deliverer *egress.Deliverer
	// Notifier tells people about tickets. Nil: nobody is notified.
	Notifier Notifier
	// Schedule is the waits between the attempts of a delivery; nil means the default of
	// Standard Webhooks.
	Schedule []time.Duration
	// Lease is how long a worker may be silent before its claims are taken from it; 0
	// means 10 s. SweepEvery is the pause between two sweeps; 0 means 1 s.
	Lease, SweepEvery time.Duration
	// AlarmEvery is the pause between two looks for due timers; 0 means 250 ms.
	AlarmEvery time.Duration
	// OverdueGrace is how late a timer may be before the sweeper fires it itself; 0 means
	// 8 s, longer than its job needs.
	OverdueGrace time.Duration
	// UnstartedGrace is how long a ticket may be ready to execute, and UndeliveredGrace how
	// long a callback may be due, without a job before the sweeper makes one; 0 means 15 s
	// and 45 s, longer than a job needs to be fetched.
	UnstartedGrace, UndeliveredGrace time.Duration
	// UnlistedGrace is how old a callback must be to be given up because the configuration does
	// not have where it goes: while a new one is handed out, one process has it before
	// another. 0 means 2 min.
	UnlistedGrace time.Duration
	// Executions is how many upstream calls this process makes at once, and as many again
	// directly; 0 means 256. Only what is on its way counts: who waits for room in a lane does
	// not.
	Executions int
	// Credentials runs the programs that print credentials. Nil: with the defaults of package
	// credential.
	Credentials *credential.Source
	// Now is the clock, for durations and stamps that decide nothing. Required.
	Now func() time.Time
	// Logger: nil means slog.Default().
	Logger *slog.Logger
}

// Runner works jobs and sweeps.
type Runner struct {
	c       Config
	id      string
	river   *river.Client[pgx.Tx]
	log     *slog.Logger
	busy    busy
	waiting waiting
	directs directs
	halted  killSwitch
	lines   *lines

	credentials *credential.Source
	trusts      trusts
	pulse       pulse
	changed     chan struct{} // another policy is in force
	stop        context.CancelFunc
	running     sync.WaitGroup
}

// New makes a runner. Start begins the work.
func New(c Config) (*Runner, error) {
	if c.Pool == nil || c.Store == nil || c.Outbox == nil || c.Policy == nil || c.Executor == nil || c.Deliverer == nil || c.Now == nil {
		return nil, errors.New("jobs.New: Pool, Store, Outbox, Policy, Executor, Deliverer and Now are required")
	}
	c = c.withDefaults()
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make worker id: %w", err)
	}
	r := &Runner{c: c, id: "worker_" + id.String(), log: c.Logger, lines: newLines(), changed: make(chan struct{}, 1)}
	if r.credentials = c.Credentials; r.credentials == nil {
		if r.credentials, err = credential.New(credential.Config{Now: c.Now}); err != nil {
			return nil, err
		}
	}
	r.river, err = river.NewClient(riverpgxv5.New(c.Pool), r.riverConfig())
	if err != nil {
		return nil, fmt.Errorf("make River client: %w", err)
	}
	return r, nil
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Schedule == nil {
		c.Schedule = egress.DefaultSchedule()
	}
	c.Lease = cmp.Or(c.Lease, 10*time.Second)
	c.SweepEvery = cmp.Or(c.SweepEvery, time.Second)
	c.AlarmEvery = cmp.Or(c.AlarmEvery, 250*time.Millisecond)
	c.OverdueGrace = cmp.Or(c.OverdueGrace, 8*time.Second)
	c.UnstartedGrace = cmp.Or(c.UnstartedGrace, 15*time.Second)
	c.UndeliveredGrace = cmp.Or(c.UndeliveredGrace, 45*time.Second)
	c.UnlistedGrace = cmp.Or(c.UnlistedGrace, 2*time.Minute)
	c.Executions = cmp.Or(c.Executions, 256)
	return c
}

func (r *Runner) riverConfig() *river.Config {
	return &river.Config{
		ID: r.id, Logger: r.log, Workers: r.workers(),
		FetchCooldown: fetchCooldown, FetchPollInterval: fetchPoll, FetchOnlyKnownKinds: true,
		JobTimeout: jobTimeout, RescueStuckJobsAfter: rescueAfter, SoftStopTimeout: softStop,
		// Short retention: finished jobs say nothing that the audit trail does not, and
		// dead rows slow every fetch.
		CompletedJobRetentionPeriod: 10 * time.Minute, CancelledJobRetentionPeriod: time.Hour,
		DiscardedJobRetentionPeriod: 7 * 24 * time.Hour,
		// The service's role owns no index and so cannot rebuild one.
		ReindexerSchedule: river.NeverSchedule(),
		Queues: map[string]river.QueueConfig{
			kindNotify: {MaxWorkers: 8}, kindUpdateCard: {MaxWorkers: 8}, kindRemind: {MaxWorkers: 4},
			kindEscalate: {MaxWorkers: 4}, kindExpire: {MaxWorkers: 4}, kindRelease: {MaxWorkers: 4}, kindExecute: {MaxWorkers: r.c.Executions},
			kindDeliver: {MaxWorkers: deliverWorkers},
		},
	}
}

func (r *Runner) workers() *river.Workers {
	w := river.NewWorkers()
	river.AddWorker(w, work(r.notify))
	river.AddWorker(w, work(r.updateCard))
	river.AddWorker(w, work(r.remind))
	river.AddWorker(w, work(r.escalate))
	river.AddWorker(w, work(r.expire))
	river.AddWorker(w, work(r.release))
	river.AddWorker(w, river.Worker[ExecuteArgs](&slowWorker[ExecuteArgs]{worker[ExecuteArgs]{f: r.execute}}))
	river.AddWorker(w, river.Worker[DeliverArgs](&slowWorker[DeliverArgs]{worker[DeliverArgs]{f: r.deliver}}))
	return w
}

// Start begins to work, beat and sweep. ctx ending does not stop it; Stop does.
func (r *Runner) Start(ctx context.Context) error {
	if err := r.heartbeat(ctx); err != nil {
		return fmt.Errorf("first heartbeat: %w", err)
	}
	endpoints, err := r.syncEndpoints(ctx, nil)
	if err != nil {
		return fmt.Errorf("write down the callback endpoints: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.running.Go(func() { r.beat(background) })
	r.running.Go(func() { r.alarmForever(background) })
	r.running.Go(func() { r.sweepForever(background) })
	r.running.Go(func() { r.reassessForever(background) })
	r.running.Go(func() { r.forgetForever(background) })
	r.running.Go(func() { r.endpointsForever(background, endpoints) })
	r.running.Go(func() { r.watchLines(background) })
	if err := r.river.Start(context.WithoutCancel(ctx)); err != nil {
		stop()
		r.running.Wait()
		return fmt.Errorf("start River: %w", err)
	}
	r.directs.begin()
	return nil
}

// Stop takes no more jobs and direct calls, lets those under way finish, and retires the worker. When
// ctx ends first, what is in flight is cut off: a call without an answer is recorded as
// outcome_unknown, and claims left behind are found by the sweeper of another process.
// A runner that was never started stops at once.
func (r *Runner) Stop(ctx context.Context) error {
	if r.stop == nil {
		return nil
	}
	r.directs.refuse()
	err := r.river.Stop(ctx)
	if err != nil {
		cut, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, r.river.StopAndCancel(cut))
	}
	err = errors.Join(err, r.directs.end(ctx))
	r.stop()
	r.running.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	return errors.Join(err, r.c.Store.Retire(last, r.id))
}

// worker adapts a function to River.
type worker[A river.JobArgs] struct {
	river.WorkerDefaults[A]
	f func(context.Context, A) error
}

func work[A river.JobArgs](f func(context.Context, A) error) *worker[A] { return &worker[A]{f: f} }

// Work runs the function and translates the domain's answers: moved on is done, not
// due is later, anything else is tried again.
func (w *worker[A]) Work(ctx context.Context, job *river.Job[A]) error {
	err := w.f(ctx, job.Args)
	var refusal *approvals.Error
	if !errors.As(err, &refusal) {
		return err
	}
	if refusal.Code == approvals.CodeNotDue {
		// Counted from the database's clock, which said so; a little more than nothing,
		// so that two clocks that differ do not spin.
		return river.JobSnooze(max(time.Until(refusal.DueAt), 50*time.Millisecond)) //nolint:forbidigo // how long to snooze
	}
	return nil
}

// slowWorker is a worker with the longer timeout.
type slowWorker[A river.JobArgs] struct{ worker[A] }

// Timeout bounds the job.
func (w *slowWorker[A]) Timeout(*river.Job[A]) time.Duration { return executeTimeout }

// maxRetryWait is the longest wait between two attempts of a job that failed.
const maxRetryWait = 5 * time.Minute

// NextRetry spaces the attempts of a job that failed: seconds that double up to minutes,
// not River's quartic wait.
func (w *worker[A]) NextRetry(job *river.Job[A]) time.Time {
	return time.Now().Add(min(time.Second<<min(job.Attempt, 10), maxRetryWait)) //nolint:forbidigo // River's clock
}

// advance is Store.Advance for a verb that needs nothing else.
func (r *Runner) advance(ctx context.Context, id string, verb db.Decide) (approvals.Ticket, error) {
	return r.c.Store.Advance(ctx, db.Ref{ID: id}, verb)
}
