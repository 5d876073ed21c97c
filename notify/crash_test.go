//go:build faultinject

package notify_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
	"countersign/egress"
	"countersign/envelope"
	"countersign/notify"
	"countersign/policy"
	"countersign/slack"
)

const (
	envDatabase = "NOTIFY_TEST_DATABASE"
	envSlack    = "NOTIFY_TEST_SLACK"
	ready       = "ready\n"
)

func init() { asWorker = crashWorker } //nolint:gochecknoinits // only builds with the tag have it

// crashWorker is a process with a sender: it works until its standard input ends.
func crashWorker() {
	if err := work(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sender:", err)
		os.Exit(1)
	}
}

func work(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	config, err := policy.Parse("station.yaml", []byte(stationConfig), stationSecrets)
	if err != nil {
		return err
	}
	pool, err := db.Open(ctx, db.PoolConfig{URL: os.Getenv(envDatabase), MaxConns: 12, Logger: quiet()})
	if err != nil {
		return err
	}
	defer pool.Close()
	box, err := envelope.New(dbtest.Keyset)
	if err != nil {
		return err
	}
	store, err := db.New(db.Config{Pool: pool, Outbox: &dbtest.Outbox{}, Box: box, Logger: quiet()}) //nolint:contextcheck // the store ends at Close
	if err != nil {
		return err
	}
	defer store.Close()
	sender, err := crashSender(store, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- sender.Run(ctx) }()
	_, _ = io.WriteString(stdout, ready)
	_, _ = io.Copy(io.Discard, stdin)
	cancel()
	return <-ended
}

func crashSender(store *db.Store, config *policy.Config) (*notify.Sender, error) {
	planner, err := notify.NewPlanner(notify.PlannerConfig{
		Store: store, Policy: func() *policy.Config { return config }, PublicURL: "https://countersign.example.com", Now: wallClock, Logger: quiet(),
	})
	if err != nil {
		return nil, err
	}
	client, err := slack.New(slack.Config{
		Token: slack.Secret(stationSecrets("BOT")), APIURL: os.Getenv(envSlack), HTTP: egress.SlackClient(egress.SlackConfig{AllowLoopback: true}), Timeout: 2 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	return notify.NewSender(notify.SenderConfig{
		Store: store, Client: client, Content: planner, Limits: notify.Limits{Off: true}, Now: wallClock, Logger: quiet(),
		Lease: 3 * time.Second, CallLease: 5 * time.Second, Settle: 500 * time.Millisecond, Poll: 50 * time.Millisecond,
	})
}

// process is a sender's process under the eyes of the test.
type process struct {
	*exec.Cmd
	tb    testing.TB
	stdin io.Closer
}

// start starts a process and waits until it works.
func (s *station) start(env ...string) *process {
	s.tb.Helper()
	self, err := os.Executable()
	require.NoError(s.tb, err)
	cmd := exec.CommandContext(s.tb.Context(), self) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), workerMark+"=1", envDatabase+"="+s.url, envSlack+"="+s.space.APIURL())
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(s.tb, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(s.tb, err)
	require.NoError(s.tb, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(s.tb, err, "the sender begins to work")
	require.Equal(s.tb, ready, line)
	return &process{Cmd: cmd, tb: s.tb, stdin: stdin}
}

// dies waits until the process has been killed.
func (p *process) dies() {
	p.tb.Helper()
	var exit *exec.ExitError
	require.ErrorAs(p.tb, p.Wait(), &exit, "the process was to die")
	status, ok := exit.Sys().(syscall.WaitStatus)
	require.True(p.tb, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "killed, not ended: %v", exit)
}

// stops waits until the process has been stopped by SIGSTOP.
func (p *process) stops() {
	p.tb.Helper()
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Process.Pid, &status, syscall.WUNTRACED, nil)
		if !errors.Is(err, syscall.EINTR) {
			require.NoError(p.tb, err)
			break
		}
	}
	require.True(p.tb, status.Stopped(), "stopped, not ended: %v", status)
}

// ends stops a process in good order.
func (p *process) ends() {
	p.tb.Helper()
	require.NoError(p.tb, p.stdin.Close())
	require.NoError(p.tb, p.Wait(), "the sender ends in good order")
}

// requireOneCard asserts that a ticket that was denied has one card, which says so.
func (s *station) requireOneCard(point, id string) {
	s.tb.Helper()
	cards := s.cardsIn("approvals")
	s.tb.Logf("%-16s %d cards, revision %d, notified %d, %v", point, len(cards), cards[0].Revision, s.notified(id), s.posts(id))
	require.Len(s.tb, cards, 1)
	require.Contains(s.tb, cards[0].Text, "Denied")
	require.Empty(s.tb, cards[0].Buttons)
	require.Equal(s.tb, 1, s.notified(id))
}

func TestCrashOfASenderLeavesOneCardThatIsRight(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"outbox.claimed", "outbox.posted", "outbox.recorded", "card.updated"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			first := s.start("CRASH=" + point)
			x := s.submit("#approvals")
			if point == "card.updated" {
				s.settled()
				s.deny(x.ID)
			}
			first.dies()
			second := s.start()
			s.settled()
			if point != "card.updated" {
				s.deny(x.ID)
				s.settled()
			}
			second.ends()
			s.requireOneCard(point, x.ID)
		})
	}
}

func TestCrashOfASenderIsTakenOverWithinTenSeconds(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	first := s.start()
	s.submit("#one")
	s.settled()
	second := s.start()
	require.NoError(t, first.Process.Kill())
	killed := wallClock()
	s.submit("#two")
	first.dies()
	s.settled()
	t.Logf("taken over %s after the kill, with a lease of 3 s", wallClock().Sub(killed).Round(time.Millisecond))
	second.ends()
	require.Len(t, s.channel("two"), 1)
}

// TestCrashZombie stops a sender at a point until another has done its work, and lets it go
// on.
func TestCrashZombie(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"outbox.claimed", "outbox.posted", "outbox.recorded", "card.updated"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			zombie := s.start("CRASH="+point, "CRASH_SIGNAL=STOP")
			x := s.submit("#approvals")
			if point == "card.updated" {
				s.settled()
				s.progress(x.ID)
			}
			zombie.stops()
			other := s.start()
			if point == "card.updated" {
				s.deny(x.ID)
			}
			s.settled()
			require.NoError(t, zombie.Process.Signal(syscall.SIGCONT))
			if point != "card.updated" {
				s.deny(x.ID)
			}
			s.settled()
			zombie.ends()
			s.settled()
			other.ends()
			s.requireOneCard("zombie "+point, x.ID)
		})
	}
}
