// Command smoke tries the whole product without a person: it builds countersign, starts
// `countersign dev`, submits calls over the public API, clicks in the Slack emulator as
// different people, and looks at what the upstream and the callback receiver got. Then it
// stops dev, starts it again on the same directory and goes on with what was left open.
//
//	go run ./cmd/smoke          under half a minute
//	go run ./cmd/smoke --long   and the escalation of the demo policy, which takes 30 s
//
// It prints the timeline of each ticket and one line for each expectation, and exits 0
// only when all of them hold, 1 when one does not, and 2 when its flags are wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// What may take how long. Everything after the build shares runLimit.
const (
	buildLimit = 5 * time.Minute
	runLimit   = 60 * time.Second
	longLimit  = 60 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("smoke", flag.ContinueOnError)
	flags.SetOutput(stderr)
	long := flags.Bool("long", false, "also wait 30 s for an escalation")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		flags.Usage()
		return 2
	}
	s := &smoke{out: stdout, long: *long, now: time.Now}
	started := s.now()
	if err := s.everything(ctx); err != nil {
		s.fail("%v", err)
	}
	if s.failed > 0 && s.dev != nil {
		_, _ = fmt.Fprintf(stdout, "\nthe end of what dev wrote on stderr:\n%s\n", s.dev.stderr.text())
	}
	_, _ = fmt.Fprintf(stdout, "\nsmoke: %d checks passed, %d failed, in %.1f s\n", s.passed, s.failed, s.now().Sub(started).Seconds())
	if s.failed > 0 {
		return 1
	}
	return 0
}

// smoke is one run: the score, and dev with its surroundings as they are now.
type smoke struct {
	score
	out  io.Writer
	long bool
	now  func() time.Time
	dev  *dev
	api  *api
	// person is the API with the key of dev, the person.
	person *api
	slack  *workspace
	demo   *demo
	// expected is what has to have become of every ticket in the end.
	expected []expectation
}

// everything builds, tries and tries again after a restart.
func (s *smoke) everything(ctx context.Context) error {
	s.score.out = s.out
	dir, err := temporary()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // what is left is in the system's temporary directory
	s.title("build")
	binary := filepath.Join(dir, "countersign")
	if err := build(ctx, binary); err != nil {
		return err
	}
	limit := runLimit
	if s.long {
		limit += longLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.twice(ctx, binary, filepath.Join(dir, "data"))
}

// temporary makes a directory that the account of the database may pass through.
func temporary() (string, error) {
	dir, err := os.MkdirTemp("", "countersign-smoke-")
	if err != nil {
		return "", fmt.Errorf("make temporary directory: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return "", fmt.Errorf("open temporary directory: %w", err)
	}
	return dir, nil
}

// twice runs dev two times on one directory and the same ports, as somebody would who
// comes back the next day.
func (s *smoke) twice(ctx context.Context, binary, dir string) error {
	port, err := freePorts(ctx, devPorts)
	if err != nil {
		return err
	}
	launch := func() error { return s.start(ctx, binary, dir, port) }
	if err := launch(); err != nil {
		return err
	}
	defer func() { s.dev.abandon() }() // whichever runs by then
	s.scenarios(ctx)
	left := s.leaveOpen(ctx)
	key := s.dev.hello.APIKey
	s.stop(ctx, dir)
	if err := launch(); err != nil {
		return fmt.Errorf("second start: %w", err)
	}
	s.equal("the second start prints the same API key", key, s.dev.hello.APIKey)
	s.goOn(ctx, left)
	s.stop(ctx, dir)
	return nil
}

// scenarios are independent of each other: one that cannot go on is one failure.
func (s *smoke) scenarios(ctx context.Context) {
	s.try(ctx, "the front door", s.frontDoor)
	s.try(ctx, "(a) allowed outright", s.allowed)
	s.try(ctx, "(b) one approver, who denies", s.refundDenied)
	s.try(ctx, "(b) one approver, who approves", s.refundApproved)
	s.try(ctx, "(c) two stages, the second with a quorum of two", s.chain)
	s.try(ctx, "(d) denied by rule", s.refused)
	s.try(ctx, "(b) withdrawn by its caller", s.withdrawn)
	s.try(ctx, "(b) a question, its answer, and a yes", s.asked)
	s.try(ctx, "(b) superseded by a better one", s.superseded)
	s.try(ctx, "(b) approved for later", s.scheduled)
	s.try(ctx, "(b) the glass is broken", s.glass)
	s.try(ctx, "(c) decided over the API", s.overAPI)
	s.try(ctx, "the proxy front", s.front)
	s.try(ctx, "callback endpoints", s.endpoints)
	s.try(ctx, "a rule is added while dev runs", s.reloaded)
	if s.long {
		s.try(ctx, "(c) nobody decides: escalation", s.escalated)
	}
	s.try(ctx, "all tickets together", s.together)
}

// try runs a scenario under a title.
func (s *smoke) try(ctx context.Context, title string, scenario func(context.Context) error) {
	s.title("%s", title)
	if err := scenario(ctx); err != nil {
		s.fail("%s: cannot go on: %v", title, err)
	}
}
