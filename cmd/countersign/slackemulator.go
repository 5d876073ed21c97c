package main

import (
	"countersign/slack/emulator"
)

type slackEmulatorCmd struct {
	Listen       string `help:"Loopback address to listen on." default:"127.0.0.1:7400" placeholder:"HOST:PORT"`
	Interactions string `help:"URL of the app under test that takes clicks and modals." placeholder:"URL"`
	Events       string `help:"URL that takes events." placeholder:"URL"`
	Commands     string `help:"URL that takes slash commands." placeholder:"URL"`
	Socket       bool   `help:"Socket Mode: everything goes through web sockets, and nothing to the URLs."`
}

// Help is shown below the flags.
func (slackEmulatorCmd) Help() string {
	return `A workspace of a few people, channels and user groups on this machine; nothing leaves it. Prints
where its page is and which token and signing secret an app uses. Everything a person can do there
is a JSON endpoint too: slack/emulator/README.md lists them. Ctrl-C stops it, and it forgets.`
}

// Run serves the workspace until it is told to stop.
func (c slackEmulatorCmd) Run(env environment) error {
	return emulator.RunStandalone(env.ctx, c.Listen, env.stdout, emulator.Config{
		InteractionsURL: c.Interactions, EventsURL: c.Events, CommandsURL: c.Commands, SocketMode: c.Socket,
	})
}
