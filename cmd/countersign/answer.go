package main

import "countersign/client"

type answerCmd struct {
	remoteFlags
	ID   string `arg:"" help:"The ticket."`
	Text string `arg:"" help:"The answer."`
}

// Help is shown below the flags.
func (answerCmd) Help() string {
	return `Answers the open question of a ticket, as its caller or one of the requester's own people.

` + remoteHelp
}

// Run answers a question.
func (c answerCmd) Run(env environment) error {
	return c.act(env, func(remote *client.Client) (client.Ticket, error) { return remote.Answer(env.ctx, c.ID, c.Text) })
}

type askCmd struct {
	remoteFlags
	ID   string `arg:"" help:"The ticket."`
	Text string `arg:"" help:"The question."`
}

// Help is shown below the flags.
func (askCmd) Help() string {
	return `Asks the requester for details, as a person who may decide.

` + remoteHelp
}

// Run asks a question.
func (c askCmd) Run(env environment) error {
	return c.act(env, func(remote *client.Client) (client.Ticket, error) { return remote.Ask(env.ctx, c.ID, c.Text) })
}

type cancelCmd struct {
	remoteFlags
	Reason string `help:"Why." placeholder:"TEXT" short:"m" aliases:"why"`
	ID     string `arg:"" help:"The ticket."`
}

// Help is shown below the flags.
func (cancelCmd) Help() string {
	return `Withdraws a call. One that is under way already ends as what really happened.

` + remoteHelp
}

// Run cancels a ticket.
func (c cancelCmd) Run(env environment) error {
	return c.act(env, func(remote *client.Client) (client.Ticket, error) { return remote.Cancel(env.ctx, c.ID, c.Reason) })
}

type resolveCmd struct {
	remoteFlags
	Reason  string `help:"How you know." required:"" placeholder:"TEXT" short:"m" aliases:"why"`
	ID      string `arg:"" help:"The ticket."`
	Outcome string `arg:"" enum:"succeeded,failed" help:"What became of the call: succeeded or failed."`
}

// Help is shown below the flags.
func (resolveCmd) Help() string {
	return `Says what became of a call whose outcome is unknown, as an operator who has found out.

` + remoteHelp
}

// Run resolves a ticket.
func (c resolveCmd) Run(env environment) error {
	return c.act(env, func(remote *client.Client) (client.Ticket, error) {
		return remote.Resolve(env.ctx, c.ID, client.State(c.Outcome), c.Reason)
	})
}

// act does one thing to a ticket and says how it stands then.
func (f remoteFlags) act(env environment, do func(*client.Client) (client.Ticket, error)) error {
	remote, err := f.connect(env)
	if err != nil {
		return err
	}
	t, err := do(remote)
	if err != nil {
		return coded(err)
	}
	return f.told(env, t)
}
