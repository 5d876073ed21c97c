package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"countersign/approvals"
	"countersign/db"
	"countersign/egress"
	"countersign/jobs/crashpoint"
	"countersign/policy"
)

const (
	// dialTries is how often a call is tried that provably was not sent.
	dialTries = 3
	// beginFor is how long the database is waited for at the one-way door, finishFor how
	// long at one try to record what came of the call.
	beginFor  = 20 * time.Second
	finishFor = 20 * time.Second
)

var (
	// errNotBegun marks a call that never passed the one-way door.
	errNotBegun = errors.New("the execution was not begun")
	// errHeld means that this process is at the ticket already, and will look at it once more.
	errHeld = errors.New("the ticket is being executed here")
)

// execution is one claim of one ticket by this process.
type execution struct {
	r        *Runner
	id       string
	epoch    int64
	config   *policy.Config // in force at the claim
	upstream policy.Upstream
	lanes    []db.Lane  // that it has a place in
	sink     AnswerSink // nil: nobody
	before   time.Time  // when an earlier attempt passed the door; zero: none did
	verdict  db.Verdict // what it says of the upstream
	stream   *egress.Stream
	begun    bool
	tried    bool  // the door was tried and its commit may be in doubt
	refused  error // why the door stayed shut
}

// execute makes the upstream call of a ticket that is ready for it, and then those that have
// waited for its place.
func (r *Runner) execute(ctx context.Context, args ExecuteArgs) error {
	until := r.c.Now().Add(handOnFor)
	freed, err := r.executeHeld(ctx, args.TicketID, nil)
	r.handOn(ctx, freed, until)
	var full *db.NoRoomError
	if errors.As(err, &full) || errors.Is(err, errHeld) {
		return nil // it stands in line, or is in good hands
	}
	return err
}

// executeHeld makes the call of a ticket unless this process is at it already, and gives the
// lanes in which there is a place again. It is entered before the claim, so that the sweeper
// of this very process never takes it for one left behind.
func (r *Runner) executeHeld(ctx context.Context, id string, sink AnswerSink) (freed []db.Lane, err error) {
	if !r.busy.enter(id) {
		return nil, errHeld
	}
	left := false
	defer func() {
		if !left { // a panic, which River turns into an error
			r.busy.leave(id)
		}
	}()
	for {
		got, err := r.executeOnce(ctx, id, sink)
		freed = append(freed, got...)
		if left = !r.busy.more(id); left {
			return freed, err
		}
		if sink != nil { // what comes now is for a job
			r.busy.leave(id)
			left = true
			r.wake(ctx, []string{id})
			return freed, err
		}
	}
}

// executeOnce makes the call at most once: claim, then what the call needs to know, then the
// door of BeginExecution committed before the socket is dialled, then the call, then what came
// of it.
func (r *Runner) executeOnce(ctx context.Context, id string, sink AnswerSink) (freed []db.Lane, err error) {
	t, config, err := r.claim(ctx, id)
	if err != nil {
		return nil, err
	}
	crashpoint.Hit("execute.claimed")
	upstream, _ := config.Upstream(t.Call.Upstream) // it is there: the claim was let through
	x := &execution{
		r: r, id: t.ID, epoch: t.Epoch, config: config, upstream: upstream, lanes: lanesOf(config, t), sink: sink,
		before: t.ExecutionStartedAt, verdict: db.Nothing,
	}
	outcome := x.call(ctx, t)
	if !x.begun {
		return x.lanes, x.notBegun(ctx, t.Call.Upstream)
	}
	crashpoint.Hit("execute.answered")
	x.finish(ctx, outcome)
	crashpoint.Hit("execute.recorded")
	return x.lanes, x.streamed()
}

// claim takes the ticket for this process, under the configuration in force once it is
// locked, if there is room for its call and, where its approval rests on somebody else's word,
// only if that was asked for.
func (r *Runner) claim(ctx context.Context, id string) (t approvals.Ticket, config *policy.Config, err error) {
	look := r.freshen(ctx, id)
	lanes := func(t approvals.Ticket) []db.Lane { return lanesOf(config, t) }
	t, err = r.c.Store.Claim(ctx, id, lanes, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if due(t, now) && !look.covers(t) {
			return approvals.Transition{}, look
		}
		config = r.c.Policy()
		return t.Claim(r.id, config.Directory(), config.Today(t), now)
	})
	if errors.Is(err, look) {
		return t, nil, r.standsBy(ctx, id, look)
	}
	var full *db.NoRoomError
	if errors.As(err, &full) {
		r.noRoom(ctx, full)
	}
	r.waiting.over(id)
	return t, config, err
}

// call sends the request. Only what provably was not sent is tried again.
func (x *execution) call(ctx context.Context, t approvals.Ticket) approvals.Outcome {
	req := x.requestOf(t.Call)
	for try := 1; ; try++ {
		up, err := x.upstreamFor(ctx, t)
		if err != nil {
			if try < dialTries && ctx.Err() == nil {
				wait(ctx, time.Second<<(try-1))
				continue
			}
			return x.uncredentialed(ctx, err)
		}
		crashpoint.Hit("execute.credentials")
		got := x.r.c.Executor.Do(ctx, up, req, func(*http.Request) error { return x.door(ctx) })
		x.stream = got.Stream
		if got.ErrorClass == egress.ErrorInvalid && !x.begun {
			return x.unsendable(ctx, got)
		}
		if got.Kind != egress.NotSent || !x.begun || try == dialTries || ctx.Err() != nil {
			return x.ended(ctx, got)
		}
		wait(ctx, time.Second<<(try-1))
	}
}

// ended is how a call ended, for the ticket, and on the way for the log, the lane and the
// programs that print credentials.
func (x *execution) ended(ctx context.Context, got egress.Outcome) approvals.Outcome {
	if got.Err != nil && x.begun {
		x.r.log.WarnContext(ctx, "upstream call did not end well", slog.String("ticket_id", x.id),
			slog.String("upstream", x.upstream.Name), slog.String("outcome", string(got.Kind)),
			slog.String("class", got.ErrorClass), slog.Any("error", got.Err))
	}
	x.verdict = verdictOf(got)
	if got.Status == http.StatusUnauthorized || got.Status == http.StatusForbidden {
		x.credentialsRefused()
	}
	return outcomeOf(got, x.r.c.Now())
}

// streamed waits until the sink has what there is of the answer.
func (x *execution) streamed() error {
	if x.stream == nil {
		return nil
	}
	if err := x.stream.Wait(); err != nil {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return nil
}

// unsendable ends a ticket whose request cannot be built, by way of the door: it says
// first whether the reason is a configuration that has changed since the approval. Trying
// again would be of no use.
func (x *execution) unsendable(ctx context.Context, got egress.Outcome) approvals.Outcome {
	x.r.log.WarnContext(ctx, "the request of a ticket cannot be built", slog.String("ticket_id", x.id), slog.Any("error", got.Err))
	return x.unsent(ctx, "request_invalid", "the request breaks a rule of the upstream or of HTTP; nothing was sent")
}

// uncredentialed ends a ticket for which there is no credential, tried again and again, in the
// same way.
func (x *execution) uncredentialed(ctx context.Context, err error) approvals.Outcome {
	x.r.log.ErrorContext(ctx, "there is no credential for a call", slog.String("ticket_id", x.id),
		slog.String("upstream", x.upstream.Name), slog.Any("error", err))
	return x.unsent(ctx, "credential_unavailable", "the credential for the upstream could not be had; nothing was sent")
}

// unsent passes the door without a call.
func (x *execution) unsent(ctx context.Context, code, detail string) approvals.Outcome {
	x.begun = x.begin(ctx) == nil
	return approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{Code: code, Detail: detail}}
}

// door opens once; further dials of the same execution pass.
func (x *execution) door(ctx context.Context) error {
	if x.begun {
		return nil
	}
	if err := x.begin(ctx); err != nil {
		return err
	}
	x.begun = true
	crashpoint.Hit("execute.begun")
	return nil
}

// begin commits the intent to send. When the commit's fate is unknown it looks again:
// this process knows that it has not dialled, so finding its own intent is as good as
// having just written it.
func (x *execution) begin(ctx context.Context) error {
	deadline, cancel := context.WithTimeout(ctx, beginFor)
	defer cancel()
	for {
		_, err := x.r.advance(deadline, x.id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			if x.tried && x.passed(t) {
				return approvals.Transition{}, nil
			}
			config := x.r.c.Policy() // it may have changed since the claim
			return t.BeginExecution(x.epoch, x.r.id, x.digest(t, config), config.Directory(), config.Today(t), now)
		})
		x.refused = err
		if !errors.Is(err, db.ErrUnavailable) || deadline.Err() != nil {
			return err
		}
		x.tried = true
		wait(deadline, 200*time.Millisecond)
	}
}

// digest is that of what is about to be sent. Where the upstream was changed after the
// claim, what would be sent is out of date: then it is a digest that the ticket does not
// have, and the door refuses. So does it for an upstream that is gone, whose digest is
// empty.
func (x *execution) digest(t approvals.Ticket, config *policy.Config) string {
	current, _ := config.Upstream(t.Call.Upstream)
	if now := t.Binding(current.Digest).Digest(); now != t.Digest {
		return now
	}
	return t.Binding(x.upstream.Digest).Digest()
}

// passed reports whether the ticket is past the door under this very claim. A call in
// doubt is executing before: then it must have passed since.
func (x *execution) passed(t approvals.Ticket) bool {
	return t.State == approvals.Executing && t.Epoch == x.epoch && t.Worker == x.r.id && !t.ExecutionStartedAt.Equal(x.before)
}

// notBegun handles a call that was not made: a refusal by the door is recorded already;
// anything else frees the claim for another try, after a pause that grows from claim to
// claim, so that a lasting reason does not fill the audit trail.
func (x *execution) notBegun(ctx context.Context, upstream string) error {
	var refusal *approvals.Error
	if errors.As(x.refused, &refusal) {
		x.r.log.WarnContext(ctx, "execution refused", slog.String("ticket_id", x.id),
			slog.String("upstream", upstream), slog.String("code", string(refusal.Code)))
		x.forgo(ctx)
		return nil
	}
	wait(ctx, time.Second<<min(x.epoch-1, 5))
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishFor)
	defer cancel()
	_, err := x.r.c.Store.EndCall(detached, x.id, x.lanes, db.Nothing, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Abandon(x.epoch, now)
	})
	return errors.Join(errNotBegun, x.refused, err)
}

// forgo takes a call that the door refused out of the lanes. Should it fail, they recover by
// themselves.
func (x *execution) forgo(ctx context.Context) {
	if len(x.lanes) == 0 {
		return
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishFor)
	defer cancel()
	_, err := x.r.c.Store.EndCall(detached, x.id, x.lanes, db.Nothing, func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return approvals.Transition{}, nil
	})
	if err != nil {
		x.r.log.WarnContext(ctx, "cannot note that a call was not made", slog.String("ticket_id", x.id), slog.Any("error", err))
	}
}

// finish records the outcome, for as long as it takes: an answer that is not recorded
// would leave the ticket in doubt. Only the end of the process ends the trying.
func (x *execution) finish(ctx context.Context, outcome approvals.Outcome) {
	detached := context.WithoutCancel(ctx)
	for {
		err := x.record(detached, outcome)
		var refusal *approvals.Error
		if err == nil || errors.As(err, &refusal) {
			return
		}
		x.r.log.ErrorContext(ctx, "cannot record the outcome of a call, trying again",
			slog.String("ticket_id", x.id), slog.Any("error", err))
		wait(detached, time.Second)
	}
}

// record is one try to record the outcome.
func (x *execution) record(ctx context.Context, outcome approvals.Outcome) error {
	bounded, cancel := context.WithTimeout(ctx, finishFor)
	defer cancel()
	_, err := x.r.c.Store.EndCall(bounded, x.id, x.lanes, x.verdict, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.FinishExecution(x.epoch, x.r.id, outcome, now)
	})
	return err
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
