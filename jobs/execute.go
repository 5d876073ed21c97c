package jobs

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
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

// errNotBegun marks a call that never passed the one-way door.
var errNotBegun = errors.New("the execution was not begun")

// execution is one claim of one ticket by this process.
type execution struct {
	r        *Runner
	id       string
	epoch    int64
	upstream policy.Upstream
	before   time.Time // when an earlier attempt passed the door; zero: none did
	begun    bool
	tried    bool  // the door was tried and its commit may be in doubt
	refused  error // why the door stayed shut
}

// execute makes the upstream call of a ticket that is ready for it.
func (r *Runner) execute(ctx context.Context, args ExecuteArgs) error {
	// Entered before the claim, so that the sweeper of this very process never takes it
	// for one left behind.
	if !r.busy.enter(args.TicketID) {
		return nil
	}
	left := false
	defer func() {
		if !left { // a panic, which River turns into an error
			r.busy.leave(args.TicketID)
		}
	}()
	for {
		err := r.executeOnce(ctx, args)
		if left = !r.busy.more(args.TicketID); left {
			return err
		}
	}
}

// executeOnce makes the call at most once: claim, then the door of BeginExecution committed
// before the socket is dialled, then the call, then what came of it.
func (r *Runner) executeOnce(ctx context.Context, args ExecuteArgs) error {
	t, config, err := r.claim(ctx, args.TicketID)
	if err != nil {
		return err
	}
	crashpoint.Hit("execute.claimed")
	upstream, _ := config.Upstream(t.Call.Upstream) // it is there: the claim was let through
	x := &execution{r: r, id: t.ID, epoch: t.Epoch, upstream: upstream, before: t.ExecutionStartedAt}
	outcome := x.call(ctx, t.Call)
	if !x.begun {
		return x.notBegun(ctx, t.Call.Upstream)
	}
	crashpoint.Hit("execute.answered")
	err = x.finish(ctx, outcome)
	crashpoint.Hit("execute.recorded")
	return err
}

// claim takes the ticket for this process, under the configuration in force once it is
// locked and, where that rests on somebody else's word, only if it was asked for.
func (r *Runner) claim(ctx context.Context, id string) (t approvals.Ticket, config *policy.Config, err error) {
	look := r.freshen(ctx, id)
	t, err = r.advance(ctx, id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		if due(t, now) && !look.covers(t) {
			return approvals.Transition{}, look
		}
		config = r.c.Policy()
		return t.Claim(r.id, config.Directory(), config.Today(t), now)
	})
	if errors.Is(err, look) {
		return t, nil, r.standsBy(ctx, id, look)
	}
	r.waiting.over(id)
	return t, config, err
}

// call sends the request. Only what provably was not sent is tried again.
func (x *execution) call(ctx context.Context, call approvals.Call) approvals.Outcome {
	up, req := upstreamOf(x.upstream), requestOf(x.id, call)
	for try := 1; ; try++ {
		got := x.r.c.Executor.Do(ctx, up, req, func(*http.Request) error { return x.door(ctx) })
		if got.ErrorClass == egress.ErrorInvalid && !x.begun {
			return x.unsendable(ctx, got)
		}
		if got.Kind != egress.NotSent || !x.begun || try == dialTries || ctx.Err() != nil {
			if got.Err != nil && x.begun {
				x.r.log.WarnContext(ctx, "upstream call did not end well", slog.String("ticket_id", x.id),
					slog.String("upstream", up.Name), slog.String("outcome", string(got.Kind)),
					slog.String("class", got.ErrorClass), slog.Any("error", got.Err))
			}
			return outcomeOf(got, x.r.c.Now())
		}
		wait(ctx, time.Second<<(try-1))
	}
}

// unsendable ends a ticket whose request cannot be built, by way of the door: it says
// first whether the reason is a configuration that has changed since the approval. Trying
// again would be of no use.
func (x *execution) unsendable(ctx context.Context, got egress.Outcome) approvals.Outcome {
	x.r.log.WarnContext(ctx, "the request of a ticket cannot be built", slog.String("ticket_id", x.id), slog.Any("error", got.Err))
	x.begun = x.begin(ctx) == nil
	return approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{
		Code: "request_invalid", Detail: "the request breaks a rule of the upstream or of HTTP; nothing was sent",
	}}
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
		return nil
	}
	wait(ctx, time.Second<<min(x.epoch-1, 5))
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishFor)
	defer cancel()
	_, err := x.r.advance(detached, x.id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.Abandon(x.epoch, now)
	})
	return errors.Join(errNotBegun, x.refused, err)
}

// finish records the outcome, for as long as it takes: an answer that is not recorded
// would leave the ticket in doubt. Only the end of the process ends the trying.
func (x *execution) finish(ctx context.Context, outcome approvals.Outcome) error {
	detached := context.WithoutCancel(ctx)
	for {
		err := x.record(detached, outcome)
		var refusal *approvals.Error
		if err == nil || errors.As(err, &refusal) {
			return nil
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
	_, err := x.r.advance(bounded, x.id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return t.FinishExecution(x.epoch, x.r.id, outcome, now)
	})
	return err
}

// CheckUpstreams reports every upstream of a configuration that no call could be sent to:
// its own rules are checked when it is loaded, those of egress here. Without it the first
// to learn of a mistake would be those whose approved call fails.
func CheckUpstreams(config *policy.Config) error {
	var errs []error
	for _, u := range config.Upstreams {
		if err := egress.CheckUpstream(upstreamOf(u)); err != nil {
			errs = append(errs, fmt.Errorf("upstream %q: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func upstreamOf(u policy.Upstream) egress.Upstream {
	out := egress.Upstream{
		Name: u.Name, BaseURL: u.BaseURL, Timeout: u.Timeout, MaxResponseBytes: u.MaxResponseBytes,
		SuccessStatus: u.Succeeded, RequestHeaders: u.RequestHeaders, ResponseHeaders: u.ResponseHeaders,
	}
	for _, c := range u.Credentials {
		out.Credentials = append(out.Credentials, egress.Credential{Name: c.Header, Value: egress.NewSecret(c.Value.Reveal())})
	}
	return out
}

// requestOf builds the request from the ticket. The ticket's id is the Idempotency-Key
// unless the caller chose one.
func requestOf(id string, call approvals.Call) egress.Request {
	out := egress.Request{Method: call.Method, Path: call.Path, RawQuery: call.Query, Body: call.Body, IdempotencyKey: id}
	for _, h := range call.Headers {
		out.Headers = append(out.Headers, egress.Header{Name: h.Name, Value: h.Value})
	}
	return out
}

func outcomeOf(got egress.Outcome, now time.Time) approvals.Outcome {
	switch got.Kind {
	case egress.Answered:
		return answeredOutcome(got, now)
	case egress.NotSent:
		return approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{
			Code: "upstream_unreachable", Detail: "the upstream could not be reached; nothing was sent (" + got.ErrorClass + ")",
		}}
	case egress.Unknown:
	}
	return approvals.Outcome{Kind: approvals.Unknown, Problem: &approvals.Problem{
		Code: "no_answer", Detail: "the request was sent and no answer was seen; the call may have happened (" + got.ErrorClass + ")",
	}}
}

func answeredOutcome(got egress.Outcome, now time.Time) approvals.Outcome {
	out := approvals.Outcome{Kind: approvals.Answered, Success: got.Success, Result: &approvals.Result{
		ResultSummary: approvals.ResultSummary{
			Status: got.Status, Size: got.Size, Digest: hexDigest(got.Digest), Truncated: got.Truncated,
			DurationMS: got.Duration.Milliseconds(), ExecutedAt: now.UTC().Truncate(time.Microsecond),
		},
		Body: got.Body,
	}}
	for _, h := range got.Headers {
		out.Result.Headers = append(out.Result.Headers, approvals.Header{Name: h.Name, Value: h.Value})
	}
	if !got.Success {
		out.Problem = &approvals.Problem{Code: "upstream_error", Detail: fmt.Sprintf("the upstream answered %d", got.Status)}
	}
	return out
}

// hexDigest spells a content digest (RFC 9530) as all our digests are spelled.
func hexDigest(field string) string {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(strings.TrimPrefix(field, "sha-256=:"), ":"))
	if err != nil {
		return field
	}
	return hex.EncodeToString(raw)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
