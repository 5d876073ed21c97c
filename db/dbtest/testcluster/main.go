// Command testcluster runs a command with a Postgres of its own: it starts one cluster, names it in TEST_DATABASE_URL,
// runs the command, stops the cluster and ends with the command's exit code.
//
//	go run ./db/dbtest/testcluster -- go test ./...
//
// Where TEST_DATABASE_URL is set already, it only runs the command.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"countersign/db/dbtest"
	"countersign/db/embedded"
)

const (
	urlVariable = "TEST_DATABASE_URL"
	stopLimit   = 30 * time.Second
	usageCode   = 2
	startCode   = 125 // what failed is ours and not the command's, as with docker run and env
	notRunCode  = 127
	signalCode  = 128 // plus the signal's number, as in a shell
)

func main() {
	embedded.RunChildIfAsked()
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		_, _ = fmt.Fprintln(stderr, "usage: testcluster -- command [argument ...]")
		return usageCode
	}
	// From here on the command decides how an interrupt ends it; we end after it. SIGTERM reaches only us: it is passed on.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	env := os.Environ()
	if os.Getenv(urlVariable) == "" {
		cluster, err := dbtest.StartCluster(ctx, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			_, _ = fmt.Fprintln(stderr, "testcluster:", err)
			return startCode
		}
		defer stop(ctx, cluster, stderr)
		env = append(env, urlVariable+"="+cluster.URL().Reveal())
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // running the given command is the purpose
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, stdin, stdout, stderr
	return runCommand(cmd, signals, stderr)
}

func runCommand(cmd *exec.Cmd, signals <-chan os.Signal, stderr io.Writer) int {
	if err := cmd.Start(); err != nil {
		_, _ = fmt.Fprintln(stderr, "testcluster:", err)
		return notRunCode
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case got := <-signals:
			if got == syscall.SIGTERM {
				_ = cmd.Process.Signal(got) // ended meanwhile: nothing to pass on
			}
		case err := <-ended:
			return exitCode(err, stderr)
		}
	}
}

func exitCode(err error, stderr io.Writer) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		_, _ = fmt.Fprintln(stderr, "testcluster:", err)
		return notRunCode
	case exit.ExitCode() >= 0:
		return exit.ExitCode()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok {
		return signalCode + int(status.Signal())
	}
	return 1
}

func stop(ctx context.Context, cluster *dbtest.Cluster, stderr io.Writer) {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	if err := cluster.Stop(ctx); err != nil {
		_, _ = fmt.Fprintln(stderr, "testcluster:", err)
	}
}
