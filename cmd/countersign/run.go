package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lmittmann/tint"

	"countersign/policy"
)

// version is set at link time: -ldflags "-X main.version=v1.2.3".
var version = "dev"

// Exit codes: 0 done, 1 it did not work, 2 the command or the configuration is wrong. Those
// of the commands that speak with a server are in remote.go.
const (
	exitFailed = 1
	exitUsage  = 2
)

type cli struct {
	Dev     devCmd     `cmd:"" help:"Try everything on this machine: database, Slack emulator, demo upstream and receiver, demo policy. Nothing to configure."`
	Serve   serveCmd   `cmd:"" help:"Run the service with a configuration file and a real Slack."`
	Migrate migrateCmd `cmd:"" help:"Bring a database up to the schema of this build."`
	Policy  policyCmd  `cmd:"" help:"Test, explain and backtest policies."`
	Slack   slackCmd   `cmd:"" help:"The manifest of the Slack app, and a local Slack to try things out in."`
	Doctor  doctorCmd  `cmd:"" help:"Check what the service needs: database, configuration, Slack, upstreams."`
	Keys    keysCmd    `cmd:"" help:"Make keys and secrets, and check them."`

	Submit  submitCmd  `cmd:"" help:"Submit a call for approval." group:"Tickets"`
	Wait    waitCmd    `cmd:"" help:"Follow a ticket to its end." group:"Tickets"`
	Tickets ticketsCmd `cmd:"" help:"List tickets, or show one." group:"Tickets"`
	Answer  answerCmd  `cmd:"" help:"Answer the question of an approver." group:"Tickets"`
	Cancel  cancelCmd  `cmd:"" help:"Withdraw a call." group:"Tickets"`
	Approve approveCmd `cmd:"" help:"Approve a call." group:"People"`
	Deny    denyCmd    `cmd:"" help:"Deny a call." group:"People"`
	Ask     askCmd     `cmd:"" help:"Ask the requester for details." group:"People"`
	Resolve resolveCmd `cmd:"" help:"Say what became of a call whose outcome is unknown." group:"People"`

	Callbacks callbacksCmd `cmd:"" help:"The endpoints that callbacks go to, and what they are owed." group:"Callbacks"`
	Redeliver redeliverCmd `cmd:"" help:"Have callbacks sent once more." group:"Callbacks"`

	Completion completionCmd `cmd:"" help:"Print the completion script of a shell."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// environment is what commands may touch of the outside.
type environment struct {
	ctx    context.Context
	getenv func(string) string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
}

// usageError is a mistake in the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

const description = `A gate in front of privileged APIs. A caller submits an HTTP call and gets a ticket at once;
people approve it in Slack; Countersign makes the call itself, once, and posts the signed
result to the caller's callback.

Start with:  countersign dev`

// run carries out one command line and returns the exit code. Errors are one readable
// line, or one line a problem, on stderr.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	code := -1
	parser, err := newParser(stdout, stderr, func(n int) { code = n })
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "countersign:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if code >= 0 { // help was asked for and printed
		return code
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "countersign: %v\nSee %s --help.\n", err, parsedUntil(err))
		return exitUsage
	}
	env := environment{ctx: ctx, getenv: getenv, stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now} //nolint:forbidigo // the one real clock
	return exitCode(command.Run(env), stderr)
}

// parsedUntil is the command that a mistaken command line is about, as far as it was understood.
func parsedUntil(err error) string {
	var mistake *kong.ParseError
	if errors.As(err, &mistake) && mistake.Context != nil {
		if command := mistake.Context.Selected(); command != nil {
			return command.FullPath()
		}
	}
	return "countersign"
}

// newParser makes the parser of the command line; exit is called when help was printed.
func newParser(stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	var c cli
	return kong.New(&c, kong.Name("countersign"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Exit(exit))
}

func exitCode(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	text := err.Error()
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		text = strings.Join(strings.Fields(text), " ") // one attempt a line says little more than one line
	}
	var told toldError
	if !errors.As(err, &told) {
		_, _ = fmt.Fprintln(stderr, "countersign:", text)
	}
	var problems policy.Problems
	var usage usageError
	var other codedError
	switch {
	case errors.As(err, &problems), errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &other):
		return other.code
	}
	return exitFailed
}

type versionCmd struct{}

func (versionCmd) Run(env environment) error {
	_, err := fmt.Fprintln(env.stdout, "countersign", version)
	return err
}

// logFlags are shared by the commands that run for long.
type logFlags struct {
	LogLevel  string `help:"Least level to log: debug, info (default), warn or error (or $LOG_LEVEL)." placeholder:"LEVEL"`
	LogFormat string `help:"text or json; without it text on a terminal, else json (or $LOG_FORMAT)." placeholder:"FORMAT"`
}

func (f logFlags) logger(env environment) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmp.Or(f.LogLevel, env.getenv("LOG_LEVEL"), "info"))); err != nil {
		return nil, usageError{fmt.Errorf("--log-level: %w; it is debug, info, warn or error", err)}
	}
	file, ok := env.stderr.(*os.File)
	terminal := ok && isTerminal(file)
	switch format := cmp.Or(f.LogFormat, env.getenv("LOG_FORMAT")); {
	case format == "json" || (format == "" && !terminal):
		return slog.New(slog.NewJSONHandler(env.stderr, &slog.HandlerOptions{Level: level})), nil
	case format == "text" || format == "":
		options := &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal}
		return slog.New(tint.NewTextHandler(env.stderr, options)), nil
	default:
		return nil, usageError{fmt.Errorf("--log-format: %q is neither text nor json", format)}
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
