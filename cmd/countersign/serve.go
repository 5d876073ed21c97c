package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"runtime/pprof"

	"countersign/db"
	"countersign/db/embedded"
	"countersign/egress"
	"countersign/policy"
)

type serveCmd struct {
	logFlags
	Config     string `help:"Configuration file, or a directory of them (or $COUNTERSIGN_CONFIG)." placeholder:"FILE"`
	Listen     string `help:"Address to listen on, instead of server.listen." placeholder:"HOST:PORT"`
	Workers    bool   `help:"Work jobs in this process. --no-workers makes it an API front only; other processes on the same database then do the work." default:"true" negatable:""`
	CPUProfile string `help:"Write a CPU profile of the whole run to this file, for go tool pprof." placeholder:"FILE" name:"cpu-profile"`
	Check      bool   `help:"Check the configuration and exit."`
}

// Help is shown below the flags.
func (serveCmd) Help() string {
	return `The database is DATABASE_URL (or database.url in the configuration), migrated before with
"countersign migrate"; without one, an embedded Postgres in server.data_dir, migrated by
itself, which suits a single machine. Any number of processes may serve one database.

SIGTERM or Ctrl-C drains: long polls are answered, calls in flight finish, then it exits 0.

The configuration is read again when its files change, and on SIGHUP (then with the secrets it
names): one that is in order is in force at once, of any other every problem is logged and the
old one stays. What is in flight can only be tightened by it.

A minimal configuration:

  server: {listen: "0.0.0.0:8080", public_url: "https://countersign.example.com"}
  encryption: {keyset: file:/run/secrets/keyset.json}    # countersign keys encryption
  slack:
    bot_token: env:SLACK_BOT_TOKEN
    signing_secrets: [env:SLACK_SIGNING_SECRET]
    team_ids: [T0123456]
    app_id: A0123456
  callers:
    - {name: payroll-bot, key_sha256: <countersign keys new>, owners: [ana], upstreams: [billing],
       callbacks: {origins: ["https://payroll.example.com"], secret: env:PAYROLL_CALLBACK_SECRET}}
  people:
    - {name: ana, slack: U02ANA}
    - {name: bo, slack: U02BO}
  groups:
    - {name: security, members: [ana, bo]}
  upstreams:
    - {name: billing, base_url: "https://billing.internal/v1", credentials: {header: Authorization, value: env:BILLING_TOKEN}}
  rules:
    - name: delete-customer
      match: {upstream: billing, methods: [DELETE], path: "/customers/{id}"}
      stages: [{name: security, need: [{from: [security], approvals: 1}], notify: {channel: "#approvals"}}]`
}

// Run serves until it is told to stop.
func (c serveCmd) Run(env environment) (err error) {
	log, err := c.logger(env)
	if err != nil {
		return err
	}
	setDefault(log)
	collectLess(env.getenv)
	stopProfile, err := profile(c.CPUProfile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopProfile()) }()
	if c.Config = cmp.Or(c.Config, env.getenv("COUNTERSIGN_CONFIG")); c.Config == "" {
		return usageError{errors.New("give --config FILE, or set COUNTERSIGN_CONFIG")}
	}
	from := source{path: c.Config, getenv: env.getenv}
	config, err := from.load()
	if err != nil {
		return err
	}
	start := *config // before the command line changes it
	if c.Check {
		if err := checkKeyset(env, config); err != nil {
			return err
		}
		return report(env.stdout, c.Config, config)
	}
	byDefault := config.Server.PublicURL == "" || config.Server.PublicURL == "http://"+config.Server.Listen
	if c.Listen != "" {
		config.Server.Listen = c.Listen
	}
	listener, err := listen(env.ctx, config.Server.Listen, "server.listen or --listen")
	if err != nil {
		return err
	}
	if byDefault { // it follows the address that is really listened on
		config.Server.PublicURL = "http://" + listener.Addr().String()
	}
	defer listener.Close() //nolint:errcheck // closed by the server before, or going away
	databaseURL, dir, stop, err := database(env, config, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	box, err := boxOf(config, dir)
	if err != nil {
		return err
	}
	s, err := newService(env.ctx, serviceConfig{
		policy: config, start: &start, source: from, databaseURL: databaseURL, box: box, listener: listener, now: env.now, log: log,
		workers: c.Workers, slackHTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: onLoopback(config.Slack.APIURL)}),
	})
	if err != nil {
		return err
	}
	log.InfoContext(env.ctx, "serving", slog.String("address", listener.Addr().String()),
		slog.String("public_url", config.Server.PublicURL), slog.String("policy", config.Digest[:12]),
		slog.Bool("workers", c.Workers), slog.String("version", version))
	return s.run(env.ctx)
}

// report says what a configuration that is in order holds, and what it lacks.
func report(w io.Writer, name string, config *policy.Config) error {
	text := fmt.Sprintf("%s is in order: rules %d, callers %d, upstreams %d, people %d\n",
		name, len(config.Rules), len(config.Callers), len(config.Upstreams), len(config.People))
	if !config.Slack.Configured() {
		text += "it has no slack section: nobody will be asked, and calls that need an approval will expire\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// collectLess trades some memory for CPU: the live heap is a few megabytes, and collecting
// it each time it doubles took a tenth of the time of a submit. GOGC, when set, is obeyed.
func collectLess(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// profile samples the CPU until the returned function is called; with no file it does
// nothing.
func profile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("CPU profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// onLoopback reports whether the operator pointed slack.api_url at this machine, which
// is where an emulator or a relay lives.
func onLoopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || (err == nil && addr.IsLoopback())
}

// database says where the tickets are kept and how to let go of it. dir is where the embedded
// one lives, "" for another.
func database(env environment, config *policy.Config, log *slog.Logger) (where, dir string, stop func() error, err error) {
	if where = config.Database.URL.Reveal(); where == "" {
		where = env.getenv("DATABASE_URL")
	}
	if where != "" {
		return where, "", func() error { return nil }, nil
	}
	log.WarnContext(env.ctx, "no DATABASE_URL: using the embedded Postgres, which lives and dies with this machine's disk")
	if dir, err = embeddedDir(config.Server.DataDir, env.getenv); err != nil {
		return "", "", nil, err
	}
	where, stop, err = embeddedDatabase(env, dir, false, log)
	return where, dir, stop, err
}

// embeddedDatabase starts Postgres in a data directory, dropping what was there when fresh,
// and migrates it.
func embeddedDatabase(env environment, dir string, fresh bool, log *slog.Logger) (string, func() error, error) {
	getenv := func(name string) string {
		if name == "DATABASE_URL" {
			return "" // decided against before
		}
		return env.getenv(name)
	}
	pg, err := embedded.Start(env.ctx, embedded.Config{Dir: dir, Fresh: fresh, Logger: log, Getenv: getenv})
	if err != nil {
		return "", nil, err
	}
	stop := func() error { return pg.Stop(context.WithoutCancel(env.ctx)) }
	from, to, err := db.Migrate(env.ctx, pg.URL.Reveal())
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	if from != to {
		log.InfoContext(env.ctx, "schema migrated", slog.Int("from", from), slog.Int("to", to))
	}
	return pg.URL.Reveal(), stop, nil
}
