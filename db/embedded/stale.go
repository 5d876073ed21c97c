package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const psTimeout = 5 * time.Second

// stopStale stops a server whose child was killed. We hold the lock, so nobody has a right to it any more.
//
// The process number in postmaster.pid may by now be anybody's, ours included: after a restart of a container numbers
// begin again. Stopping it unseen could stop ourselves, and Postgres in turn would not start as long as it lives; so we
// look at what it is, and clear the file when it is something else.
func (c *child) stopStale(ctx context.Context) error {
	data := dataDir(c.Instance)
	pid, err := postmasterPID(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !alive(pid) {
		return nil // Postgres recovers from that by itself
	}
	if isServer(ctx, pid, data) {
		if c.pgctl(ctx, "fast") == nil {
			return nil
		}
		return c.pgctl(ctx, "immediate")
	}
	if err := os.Remove(filepath.Join(data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear a stale postmaster.pid: %w", err)
	}
	return nil
}

// postmasterPID reads the number of the server's process; the error wraps fs.ErrNotExist when none is noted.
func postmasterPID(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid")) //nolint:gosec // a fixed name in our data directory
	if err != nil {
		return 0, fmt.Errorf("read postmaster.pid: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("read postmaster.pid: its first line is %.20q", first)
	}
	return pid, nil
}

// isServer says whether the process is a Postgres on that data directory, by its command line: pg_ctl gives it -D.
func isServer(ctx context.Context, pid int, data string) bool {
	line := commandLine(ctx, pid)
	return strings.Contains(line, "postgres") && strings.Contains(line, data)
}

func commandLine(ctx context.Context, pid int) string {
	if _, err := os.Stat("/proc/self/cmdline"); err == nil {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // gone or a zombie: empty, which is no server
		return string(text)
	}
	ctx, cancel := context.WithTimeout(ctx, psTimeout)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output() //nolint:gosec // a number
	return string(out)
}
