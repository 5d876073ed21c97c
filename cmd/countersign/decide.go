package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"countersign/client"
)

// decideFlags are those of approve and deny.
type decideFlags struct {
	remoteFlags
	Comment string `help:"Why; some rules ask for it." placeholder:"TEXT" short:"m" aliases:"why,reason"`
	Stage   int    `help:"Stage you mean, from 1; the current one unless given." placeholder:"N"`
	Digest  string `help:"Digest of what you decide on: it is refused when the ticket holds anything else." placeholder:"HEX"`
	Yes     bool   `help:"Do not ask. Needs --digest."`
	ID      string `arg:"" help:"The ticket."`
}

type approveCmd struct {
	decideFlags
	BreakGlass bool `help:"Approve alone, past every stage, where the rule lets you. Needs --comment, and is announced."`
}

type denyCmd struct{ decideFlags }

const decideHelp = `Shows the call as it will be sent, and asks. The key is a person's. In scripts give --yes with the
digest of what was looked at, from "countersign tickets ID --json": the decision counts for that only.

`

// Help is shown below the flags.
func (approveCmd) Help() string { return decideHelp + remoteHelp }

// Help is shown below the flags.
func (denyCmd) Help() string { return decideHelp + remoteHelp }

// Run approves one call.
func (c approveCmd) Run(env environment) error {
	if !c.BreakGlass {
		return c.decide(env, client.Approve, "Approve this call?")
	}
	if c.Comment == "" {
		return usageError{errors.New("--break-glass needs --comment: say why it cannot wait")}
	}
	return c.decide(env, client.BreakGlass, "Break the glass: approve alone, past every stage? It is recorded and announced.")
}

// Run denies one call.
func (c denyCmd) Run(env environment) error { return c.decide(env, client.Deny, "Deny this call?") }

// decide shows what is to be decided on, asks, and decides on exactly that.
func (f decideFlags) decide(env environment, verdict client.Verdict, question string) error {
	if err := f.check(env); err != nil {
		return usageError{err}
	}
	remote, err := f.connect(env)
	if err != nil {
		return err
	}
	t, err := remote.Ticket(env.ctx, f.ID)
	if err != nil {
		return coded(err)
	}
	if f.Digest != "" && !strings.EqualFold(f.Digest, t.Digest) {
		return fmt.Errorf("the digest of ticket %s is %s, not the one given: look at it again", safe(t.ID), safe(t.Digest))
	}
	if !f.Yes {
		if _, err := io.WriteString(env.stderr, callSheet(painterOf(env, env.stderr), t)); err != nil {
			return err
		}
		yes, err := confirmed(env, question)
		if err != nil {
			return coded(err)
		}
		if !yes {
			return errors.New("nothing was decided")
		}
	}
	stage := f.Stage
	if stage == 0 && t.Stage != nil {
		stage = t.Stage.Index
	}
	after, err := remote.Decide(env.ctx, t.ID, verdict, t.Digest, stage, f.Comment)
	if err != nil {
		return coded(err)
	}
	return f.told(env, after)
}

func (f decideFlags) check(env environment) error {
	raw, err := hex.DecodeString(f.Digest)
	switch {
	case f.Digest != "" && (err != nil || len(raw) != 32):
		return errors.New("--digest is the whole digest of the ticket, 64 hexadecimal digits")
	case f.Yes && f.Digest == "":
		return errors.New("--yes needs --digest, so that the decision is about what you looked at")
	case !f.Yes && !interactive(env):
		return errors.New("there is no terminal to ask on: give --yes and --digest")
	}
	return nil
}

// told says how the ticket stands now.
func (f remoteFlags) told(env environment, t client.Ticket) error {
	if f.JSON {
		return printJSON(env, t.Raw)
	}
	p := painter(env)
	line := p.bold(safe(t.ID)) + "  " + p.state(t.State)
	if s := t.Stage; s != nil && !t.Done && t.ApprovedAt == nil {
		line += fmt.Sprintf(", stage %d of %d: %d of %d approvals", s.Index, s.Of, s.Have, s.Needed)
	}
	_, err := fmt.Fprintln(env.stdout, line)
	return err
}

// callSheet shows a person what they decide on: the ticket, and the call as it will be sent.
func callSheet(p paint, t client.Ticket) string {
	var b strings.Builder
	b.WriteString(ticketSheet(p, t))
	if c := t.Call; c != nil {
		if c.Query != "" {
			b.WriteString(p.dim("Query") + "\n  " + safe(c.Query) + "\n")
		}
		if len(c.Headers) > 0 {
			b.WriteString(p.dim("Headers") + "\n")
		}
		for _, h := range c.Headers {
			b.WriteString("  " + safe(h.Name) + ": " + safe(h.Value) + "\n")
		}
		switch {
		case c.BodyBase64 != "":
			fmt.Fprintf(&b, "%s\n  %d bytes that are no text, in base64:\n%s", p.dim("Body"), c.BodyBytes, safeLines("  ", c.BodyBase64))
		case c.Body != "":
			fmt.Fprintf(&b, "%s\n%s", p.dim(fmt.Sprintf("Body, %d bytes", c.BodyBytes)), safeLines("  ", c.Body))
		}
		if !c.Complete {
			b.WriteString(p.bad("Not all of the call can be shown here.") + " Nobody should approve it by this.\n")
		}
	}
	return b.String() + "\n"
}
