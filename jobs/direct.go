package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"countersign/approvals"
	"countersign/db"
)

var (
	// ErrNotDirect means that a call was not made here and now: it is not approved, somebody
	// else has it, its upstream has no room, calls are paused, or this process is stopping. Whatever can still
	// come of the ticket comes of it as of any other.
	ErrNotDirect = errors.New("the call is not made here and now")
	// ErrIncomplete means that the call was made and is recorded, and that the sink has not
	// been given the whole body of the answer: it broke off, or the sink took no more.
	ErrIncomplete = errors.New("the answer was not handed over to its end")
)

// cutFor bounds the wait for calls that were cut off to be recorded.
const cutFor = 5 * time.Second

// AnswerSink takes the answer of an upstream while it arrives.
type AnswerSink interface {
	// Head is called at most once, when the head of the answer is there; length is that of the
	// body, -1 when it is not known. What is written to the result has been searched for
	// credentials. An error of Write ends the streaming, not the recording. The headers are
	// those that are kept of an answer.
	Head(status int, headers []approvals.Header, length int64) io.Writer
}

// Direct makes the call of an approved ticket in this process and at once, and gives the
// answer to sink while it arrives. It takes the same way as a job, with the same claim and the
// same door, and returns when what came of the call is recorded. ctx ending does not end the
// call, which is bounded like that of a job; whoever went away finds the result in the ticket.
//
// nil means that what came of the call is recorded; without an answer the sink was never
// called. ErrIncomplete means that and a body cut short. ErrNotDirect means that the sink was
// not called, and the call not made here.
func (r *Runner) Direct(ctx context.Context, ticketID string, sink AnswerSink) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), executeTimeout)
	defer cancel()
	leave, ok := r.directs.enter(cancel, r.c.Executions)
	if ok && r.paused(ctx) {
		leave()
		ok = false
	}
	if !ok {
		r.wake(ctx, []string{ticketID})
		return ErrNotDirect
	}
	defer leave()
	freed, err := r.executeHeld(ctx, ticketID, sink)
	if len(freed) > 0 {
		r.handOn(ctx, freed, time.Time{}) // to jobs: the answer is waited for
	}
	return r.direct(ctx, ticketID, err)
}

// direct says what became of a direct call in the words of Direct.
func (r *Runner) direct(ctx context.Context, id string, err error) error {
	if err == nil || errors.Is(err, ErrIncomplete) {
		return err
	}
	var refusal *approvals.Error
	var full *db.NoRoomError
	// Recorded, in line for its upstream, with a job of its own or in good hands.
	if !errors.As(err, &refusal) && !errors.As(err, &full) && !errors.Is(err, errNotBegun) && !errors.Is(err, errHeld) {
		r.wake(ctx, []string{id})
	}
	return fmt.Errorf("%w: %w", ErrNotDirect, err)
}

// directs are the direct calls under way. They begin with Start and end with Stop.
type directs struct {
	mu      sync.Mutex
	open    bool
	next    int
	cancels map[int]context.CancelFunc
	running sync.WaitGroup
}

// begin lets calls in.
func (d *directs) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open, d.cancels = true, make(map[int]context.CancelFunc)
}

// enter reports whether another call may begin; leave is to be called when it has ended.
func (d *directs) enter(cancel context.CancelFunc, most int) (leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open || len(d.cancels) >= most {
		return nil, false
	}
	n := d.next
	d.next++
	d.cancels[n] = cancel
	d.running.Add(1)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.cancels, n)
		d.running.Done()
	}, true
}

// refuses reports whether calls are let in no more.
func (d *directs) refuses() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.open
}

// refuse lets no more calls in.
func (d *directs) refuse() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
}

// end waits for the calls under way. When ctx ends first they are cut off, which they are
// given a moment to record, and the error of ctx is returned.
func (d *directs) end(ctx context.Context) error {
	over := make(chan struct{})
	go func() {
		defer close(over)
		d.running.Wait()
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
	}
	d.cut()
	moment := time.NewTimer(cutFor)
	defer moment.Stop()
	select {
	case <-over:
	case <-moment.C:
	}
	return fmt.Errorf("direct calls were cut off: %w", ctx.Err())
}

func (d *directs) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, cancel := range d.cancels {
		cancel()
	}
}
