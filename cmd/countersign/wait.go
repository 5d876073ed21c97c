package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"countersign/client"
)

type waitCmd struct {
	remoteFlags
	waitFlags
	Result bool   `help:"Print the upstream's body at the end; what happens meanwhile goes to standard error."`
	ID     string `arg:"" help:"The ticket."`
}

// Help is shown below the flags.
func (waitCmd) Help() string {
	return `Follows a ticket to its end: each event is a line. Ctrl-C ends the wait, not the ticket.

` + remoteHelp
}

type waitFlags struct {
	Timeout time.Duration `help:"How long to wait at most, such as 10m; without it as long as it takes." placeholder:"TIME"`
}

// Run waits for one ticket.
func (c waitCmd) Run(env environment) error {
	remote, err := c.connect(env)
	if err != nil {
		return err
	}
	f := follower{id: c.ID, json: c.JSON, lines: env.stdout, body: c.Result && !c.JSON}
	if c.JSON || c.Result {
		f.lines = env.stderr
	}
	return c.follow(env, remote, f)
}

// follower says how a ticket is followed.
type follower struct {
	id string
	// lines is where what happens is shown.
	lines io.Writer
	// json prints the ticket at the end, body the upstream's answer.
	json, body bool
}

// follow shows what happens to a ticket until it is done, or the wait is over.
func (f waitFlags) follow(env environment, remote *client.Client, to follower) error {
	ctx := env.ctx
	if f.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.Timeout)
		defer cancel()
	}
	err := timeline(ctx, env, remote, to)
	var t client.Ticket
	if err == nil {
		t, err = remote.Wait(ctx, to.id)
	}
	var refused *client.ProblemError
	switch {
	case err != nil && ctx.Err() != nil && !errors.As(err, &refused):
		_, _ = fmt.Fprintf(env.stderr, "The wait is over, the ticket is not. Go on with:  countersign wait %s\n", safe(to.id))
		return codedError{toldError{err}, exitNotDone}
	case err != nil:
		return coded(err)
	}
	return to.end(ctx, env, remote, t)
}

// end prints what is wanted of a ticket that is done.
func (to follower) end(ctx context.Context, env environment, remote *client.Client, t client.Ticket) error {
	if to.json {
		if err := printJSON(env, t.Raw); err != nil {
			return err
		}
	}
	if to.body {
		result, err := remote.Result(ctx, t.ID)
		switch {
		case err == nil:
			if _, err := env.stdout.Write(result.Body); err != nil {
				return err
			}
		case !errors.Is(err, client.ErrNoResult):
			return coded(err)
		}
		if result.Truncated {
			_, _ = fmt.Fprintln(env.stderr, "countersign: the upstream's answer was cut at its limit; this is not all of it")
		}
	}
	return coded(t.Err())
}

// timeline shows the events of a ticket as they come. A server that offers no stream is no
// reason to fail: the ticket is the truth.
func timeline(ctx context.Context, env environment, remote *client.Client, to follower) error {
	p := painterOf(env, to.lines)
	for e, err := range remote.Events(ctx, to.id, 0) {
		var problem *client.ProblemError
		switch {
		case errors.As(err, &problem) && problem.Status == http.StatusNotAcceptable:
			return nil
		case err != nil:
			return err
		}
		if line := eventLine(p, e); line != "" {
			if _, err := fmt.Fprintln(to.lines, line); err != nil {
				return err
			}
		}
		if e.Done {
			return nil
		}
	}
	return nil
}
