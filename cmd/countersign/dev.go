package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"countersign/db/embedded"
	"countersign/egress"
	"countersign/policy"
	"countersign/slack/emulator"
)

type devCmd struct {
	Port     int    `help:"First of four ports on 127.0.0.1: API, Slack page, demo upstream, demo receiver. 0 picks free ones." default:"8080"`
	Dir      string `help:"Data directory, kept between starts. Default: /var/lib/countersign/dev for root, else countersign/dev in the user's data directory." placeholder:"DIR"`
	Fresh    bool   `help:"Start over: drop the tickets and keys of earlier starts first."`
	JSON     bool   `help:"Print the addresses and keys as one JSON line, then one JSON line per event."`
	LogLevel string `help:"Least level to log on stderr: debug, info, warn (default) or error (or $LOG_LEVEL)." placeholder:"LEVEL"`
}

// Help is shown below the flags.
func (devCmd) Help() string {
	return `Starts everything on this machine, with nothing to configure: an embedded Postgres, the service,
a local Slack to click in, a demo upstream, a demo callback receiver that checks signatures, and a
demo policy. Prints where they are, an API key, and a curl line for each of

  (a) a call that is allowed outright        (c) two stages, a quorum of two, an escalation
  (b) a call that needs one approver         (d) a call that is denied by rule
  (e) a call asked about by direct message as well, and approved by typing its fingerprint

and then one line for every event. Ctrl-C stops it all; the next start finds its tickets again.`
}

//go:embed dev.yaml
var devConfig string

// devParts is everything that runs besides the service.
type devParts struct {
	dir       string
	secrets   devSecrets
	listener  net.Listener
	slack     *emulator.Server
	upstream  *demoUpstream
	receiver  *demoReceiver
	addresses devAddresses
}

// devAddresses are filled into the demo configuration and printed.
type devAddresses struct{ Listen, API, Slack, Upstream, Callback string }

// Run starts the demo and stays until it is told to stop.
func (c devCmd) Run(env environment) (err error) {
	log, err := logFlags{LogLevel: cmp.Or(c.LogLevel, env.getenv("LOG_LEVEL"), "warn")}.logger(env)
	if err != nil {
		return err
	}
	setDefault(log)
	ctx, cancel := context.WithCancel(env.ctx)
	defer cancel()
	p := &devParts{}
	if p.dir, err = c.prepareDir(env); err != nil {
		return err
	}
	// The database first: holding it, nobody else uses this directory.
	url, stop, err := embeddedDatabase(env, p.dir, c.Fresh, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	box, err := boxOf(&policy.Config{}, p.dir)
	if err != nil {
		return err
	}
	if p.secrets, err = loadDevSecrets(p.statePath(), c.Fresh); err != nil {
		return err
	}
	if err := p.open(ctx, env, c.Port, log); err != nil {
		return err
	}
	defer p.close()
	from := source{path: p.configPath(), getenv: p.secrets.getenv}
	if err := p.writePolicy(); err != nil {
		return err
	}
	config, err := from.load()
	if err != nil {
		return fmt.Errorf("demo configuration: %w", err)
	}
	if err := repost(ctx, url); err != nil {
		return err
	}
	shown := newPrinter(env.stdout, c.JSON)
	s, err := newService(ctx, serviceConfig{
		policy: config, start: config, source: from, reloaded: shown.policy, databaseURL: url, box: box, listener: p.listener, workers: true, now: env.now, log: log,
		slackHTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}),
	})
	if err != nil {
		return err
	}
	p.announce(env.stdout, url, c.JSON)
	live := follow(ctx, s.store, shown)
	p.receiver.listen(live.received)
	err = s.run(ctx)
	if !c.JSON {
		_, _ = fmt.Fprintln(env.stdout, "stopped; the next start finds these tickets again (--fresh starts over)")
	}
	return err
}

func (c devCmd) prepareDir(env environment) (string, error) {
	dir := c.Dir
	if dir == "" {
		base, err := embedded.DefaultDir(env.getenv)
		if err != nil {
			return "", err
		}
		dir = filepath.Join(base, "dev")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	if c.Fresh {
		if err := mayForget(dir); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the database's account must pass through; what is inside is closed
		return "", fmt.Errorf("make data directory: %w", err)
	}
	return dir, nil
}

// mayForget lets --fresh drop data only in a directory that an earlier start made: a
// mistyped --dir must not delete somebody's files.
func mayForget(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if _, err := readDevSecrets(filepath.Join(dir, stateFile)); err != nil {
		return usageError{fmt.Errorf("--fresh: %s was not made by countersign dev (it has no %s of ours), so it is left alone", dir, stateFile)}
	}
	return nil
}

// open starts the demo's surroundings on four ports.
func (p *devParts) open(ctx context.Context, env environment, port int, log *slog.Logger) error {
	listeners, err := p.listen(ctx, port)
	if err != nil {
		return err
	}
	p.listener = listeners[0]
	p.addresses = devAddresses{
		Listen: listeners[0].Addr().String(), API: "http://" + listeners[0].Addr().String(),
		Slack: "http://" + listeners[1].Addr().String(), Upstream: "http://" + listeners[2].Addr().String(),
		Callback: "http://" + listeners[3].Addr().String(),
	}
	people := emulator.Demo()
	people.Users = append(people.Users, emulator.User{
		ID: "U02EVA", Name: "eva", RealName: "Eva Novak", Email: "eva@example.com", Title: "On call", Color: "#0369a1",
	})
	for i := range people.Channels {
		people.Channels[i].Members = append(people.Channels[i].Members, "U02EVA")
	}
	for i, g := range people.UserGroups {
		if g.Handle == "oncall" {
			people.UserGroups[i].Members = []string{"U02EVA"}
		}
	}
	p.slack = emulator.New(emulator.Config{ //nolint:contextcheck // it lives until it is closed
		BotToken: emulator.Secret(p.secrets.BotToken), SigningSecret: emulator.Secret(p.secrets.SigningSecret),
		Workspace: people, BaseURL: p.addresses.Slack, Logger: log,
		InteractionsURL: p.addresses.API + "/slack/interactions", EventsURL: p.addresses.API + "/slack/events", CommandsURL: p.addresses.API + "/slack/commands",
	})
	p.upstream = &demoUpstream{token: p.secrets.UpstreamToken}
	p.receiver = &demoReceiver{secret: p.secrets.CallbackSecret, now: env.now}
	serveDemo(ctx, listeners[1], p.slack)
	serveDemo(ctx, listeners[2], p.upstream)
	serveDemo(ctx, listeners[3], p.receiver)
	return nil
}

// listen opens four ports: the ones asked for, or free ones. Free ones are remembered,
// because open tickets are bound to the upstream's address.
func (p *devParts) listen(ctx context.Context, port int) ([]net.Listener, error) {
	if port != 0 {
		return listenAll(ctx, [4]int{port, port + 1, port + 2, port + 3})
	}
	if p.secrets.Ports != [4]int{} {
		if listeners, err := listenAll(ctx, p.secrets.Ports); err == nil {
			return listeners, nil
		}
	}
	listeners, err := listenAll(ctx, [4]int{})
	if err != nil {
		return nil, err
	}
	for i, l := range listeners {
		p.secrets.Ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return listeners, writeDevSecrets(p.statePath(), p.secrets)
}

func listenAll(ctx context.Context, ports [4]int) (out []net.Listener, err error) {
	for _, port := range ports {
		l, err := listen(ctx, fmt.Sprintf("127.0.0.1:%d", port), "--port (or --port 0 for free ones)")
		if err != nil {
			for _, open := range out {
				_ = open.Close()
			}
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func (p *devParts) close() {
	p.slack.Close()
	_ = p.listener.Close()
}

// writePolicy renders the demo configuration where people can read it, and change it while
// the demo runs.
func (p *devParts) writePolicy() error {
	var b strings.Builder
	t, err := template.New("dev.yaml").Parse(devConfig)
	if err == nil {
		err = t.Execute(&b, p.addresses)
	}
	if err == nil {
		err = os.WriteFile(p.configPath(), []byte(b.String()), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the demo configuration: %w", err)
	}
	return nil
}

// stateFile holds the demo's keys and ports.
const stateFile = "keys.json"

func (p *devParts) configPath() string { return filepath.Join(p.dir, "dev.yaml") }
func (p *devParts) statePath() string  { return filepath.Join(p.dir, stateFile) }

// demoTimeout bounds the demo servers' exchanges.
const demoTimeout = 30 * time.Second
