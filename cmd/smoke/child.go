package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

const (
	// startLimit covers making a database from nothing on a slow machine.
	startLimit = 40 * time.Second
	// stopLimit is what dev may take to stop.
	stopLimit = 5 * time.Second
	// killDelay is how long dev has after an interrupt when this program gives up.
	killDelay = 10 * time.Second
	// devPorts is how many ports dev takes, from --port on.
	devPorts = 4
	maxLine  = 4 << 20
)

// build compiles the program that is tried.
func build(ctx context.Context, binary string) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "countersign/cmd/countersign").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build countersign: %w\n%s", err, out)
	}
	return nil
}

// hello is the first line of dev: where everything is.
type hello struct {
	API            string `json:"api"`
	Slack          string `json:"slack"`
	Upstream       string `json:"upstream"`
	Callback       string `json:"callback"`
	Caller         string `json:"caller"`
	APIKey         string `json:"api_key"`
	PersonKey      string `json:"person_key"`
	CallbackSecret string `json:"callback_secret"`
	Config         string `json:"config"`
	DataDir        string `json:"data_dir"`
}

// printed is one of the lines after it.
type printed struct {
	TicketID string `json:"ticket_id"`
	Seq      int64  `json:"seq"`
	Type     string `json:"type"`
}

// dev is the child process.
type dev struct {
	cmd    *exec.Cmd
	hello  hello
	stderr *tail
	done   chan struct{} // closed when the child has ended, after err is set
	err    error

	mu     sync.Mutex
	events []printed
	broken []string // lines that are not JSON
}

// startDev runs the binary and waits for its first line.
func startDev(ctx context.Context, binary, dir string, port int) (*dev, error) {
	d := &dev{stderr: &tail{}, done: make(chan struct{})}
	d.cmd = exec.CommandContext(ctx, binary, "dev", "--port", strconv.Itoa(port), "--json", "--dir", dir)
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(os.Interrupt) }
	d.cmd.WaitDelay = killDelay
	d.cmd.Stderr = d.stderr
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open dev's output: %w", err)
	}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start dev: %w", err)
	}
	first := make(chan error, 1)
	go d.read(stdout, first)
	late := time.NewTimer(startLimit)
	defer late.Stop()
	select {
	case err = <-first:
	case <-late.C:
		err = errLate
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		d.abandon()
		return d, fmt.Errorf("wait for dev's first line: %w", err)
	}
	return d, nil
}

// read takes dev's lines until it ends, and then how it ended.
func (d *dev) read(stdout io.Reader, first chan<- error) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		first <- errors.New("dev ended without one")
	} else {
		first <- json.Unmarshal(lines.Bytes(), &d.hello)
	}
	for lines.Scan() {
		d.take(lines.Bytes())
	}
	d.err = d.cmd.Wait()
	close(d.done)
}

func (d *dev) take(line []byte) {
	var e printed
	err := json.Unmarshal(line, &e)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil || e.TicketID == "" {
		d.broken = append(d.broken, string(line))
		return
	}
	d.events = append(d.events, e)
}

// printedOf returns the sequence numbers printed of a ticket, in order.
func (d *dev) printedOf(id string) (seqs []int64, broken []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.TicketID == id {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs, d.broken
}

// interrupt presses Ctrl-C and waits for the end.
func (d *dev) interrupt(ctx context.Context) error {
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		return fmt.Errorf("interrupt dev: %w", err)
	}
	late := time.NewTimer(stopLimit)
	defer late.Stop()
	select {
	case <-d.done:
		return d.err
	case <-late.C:
		return errLate
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abandon ends a child that still runs, gently and then not.
func (d *dev) abandon() {
	select {
	case <-d.done:
		return
	default:
	}
	_ = d.cmd.Process.Signal(os.Interrupt)
	late := time.NewTimer(killDelay)
	defer late.Stop()
	select {
	case <-d.done:
	case <-late.C:
		_ = d.cmd.Process.Kill() // its database ends with it by itself
		<-d.done
	}
}
