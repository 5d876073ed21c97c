// Command bench measures Countersign beside pgbench, on one Postgres, in one run, and
// prints one line per figure: NAME value goal ok|short. Figures are ratios or latencies;
// a speed alone says more about the machine than about the program. It reports and does
// not fail when a goal is missed.
//
// The parts are as far apart as in use: Postgres with full durability, the service as a
// process of its own built from this tree, and the load, upstream, Slack and receiver in
// this one.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"countersign/db"
	"countersign/db/embedded"
)

// options are the lengths of a run.
type options struct {
	duration time.Duration
	conns    int
	rate     int
	verbose  bool
	profile  string
	waiters  int
	only     string
}

func main() {
	embedded.RunChildIfAsked()
	var o options
	flag.DurationVar(&o.duration, "duration", 8*time.Second, "length of each measurement")
	flag.IntVar(&o.conns, "conns", 64, "connections of the submit load")
	flag.IntVar(&o.rate, "rate", 50, "tickets per second in the lifecycle measurement")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of the service to this directory")
	flag.IntVar(&o.waiters, "waiters", 10_000, "clients that wait at one process at the same time; 0: leave that out")
	flag.StringVar(&o.only, "only", "", "run this measurement alone: submit, lifecycle or waiters")
	flag.BoolVar(&o.verbose, "v", false, "show what the parts log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	options
	out      io.Writer
	dir      string
	binary   string
	pgbench  string
	postgres *embedded.Database
	world    *world
	served   int // processes started so far
}

func run(ctx context.Context, o options, out io.Writer) error {
	level := slog.LevelError
	if o.verbose {
		level = slog.LevelInfo
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	b := &bench{options: o, out: out}
	defer b.close(ctx)
	if err := b.prepare(ctx); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"submit", b.yardstickAndSubmit}, {"waiters", b.waiting}, {"lifecycle", b.lifecycle}} {
		if o.only != "" && o.only != step.name {
			continue
		}
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// prepare builds the service and starts Postgres and the world around it.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "countersign-bench-"); err != nil {
		return err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		return err
	}
	if b.pgbench, err = findPgbench(); err != nil {
		return err
	}
	b.binary = filepath.Join(b.dir, "countersign")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/countersign")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the service: %w", err)
	}
	b.postgres, err = embedded.Start(ctx, embedded.Config{
		Dir: filepath.Join(b.dir, "data"), MaxConnections: 200, Throwaway: true,
		Getenv: func(name string) string {
			if name == "DATABASE_URL" {
				return "" // never somebody's own database
			}
			return os.Getenv(name)
		},
	})
	if err != nil {
		return err
	}
	if _, _, err := db.Migrate(ctx, b.postgres.URL.Reveal()); err != nil {
		return err
	}
	b.world, err = newWorld(ctx)
	return err
}

func (b *bench) close(ctx context.Context) {
	if b.postgres != nil {
		if err := b.postgres.Stop(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, "bench: stop Postgres:", err)
		}
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// findPgbench looks where the embedded database looks for its server.
func findPgbench() (string, error) {
	if dir := os.Getenv("EMBEDDED_PG_BIN"); dir != "" {
		return filepath.Join(dir, "pgbench"), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench") // the pattern is good
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	path, err := exec.LookPath("pgbench")
	if err != nil {
		return "", fmt.Errorf("pgbench is the yardstick and is not here: install Debian's postgresql package, or set EMBEDDED_PG_BIN: %w", err)
	}
	return path, nil
}
