package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
)

// TestMain takes the variables out of the environment that flags are read from: a test
// must not find its way into a database that somebody needs.
func TestMain(m *testing.M) {
	for _, name := range []string{"DATABASE_URL", "MIGRATE_DATABASE_URL", "COUNTERSIGN_CONFIG", "LOG_LEVEL", "LOG_FORMAT", "CRASH"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	dbtest.Main(m)
}

// Generous: the machine may be busy. A promise about time has a limit of its own.
const (
	commandLimit = 30 * time.Second
	startLimit   = 60 * time.Second
)

// buffer takes output while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write never fails.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// lines returns the whole lines written so far.
func (b *buffer) lines() []string {
	text := b.String()
	return strings.Split(text[:strings.LastIndexByte(text, '\n')+1], "\n")
}

// running is a command that has not ended.
type running struct {
	stdout, stderr *buffer
	// stop is what a signal does to the context.
	stop context.CancelFunc
	done chan struct{} // closed when code is set
	code int
}

// launch begins a command line with nothing in the environment but env. It is stopped
// with the test.
func launch(t *testing.T, env map[string]string, args ...string) *running {
	t.Helper()
	return launchWith(t, env, strings.NewReader(""), args...)
}

// launchWith is launch with something on standard input.
func launchWith(t *testing.T, env map[string]string, stdin io.Reader, args ...string) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{stdout: &buffer{}, stderr: &buffer{}, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.code = run(ctx, args, func(name string) string { return env[name] }, stdin, r.stdout, r.stderr)
	}()
	t.Cleanup(func() { stop(); r.end(t, startLimit) })
	return r
}

// end waits for the end and returns the exit code.
func (r *running) end(t *testing.T, limit time.Duration) int {
	t.Helper()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-r.done:
		return r.code
	case <-late.C:
		require.FailNowf(t, "the command does not end", "within %s; stderr:\n%s", limit, r.stderr)
		return 0
	}
}

// command runs a command line to its end.
func command(t *testing.T, env map[string]string, args ...string) *running {
	t.Helper()
	r := launch(t, env, args...)
	r.end(t, commandLimit)
	return r
}

// requireRefused asserts an exit code and one readable line that says each of the words.
func (r *running) requireRefused(t *testing.T, code int, words ...string) {
	t.Helper()
	require.Equal(t, code, r.code, "exit code; stderr:\n%s", r.stderr)
	said := r.said()
	require.Len(t, said, 1, "the problem is said in one line:\n%s", r.stderr)
	require.True(t, strings.HasPrefix(said[0], "countersign: "), "the line names the program: %q", said[0])
	for _, w := range words {
		require.Contains(t, said[0], w, "the line says what is wrong")
	}
}

// said returns the lines on stderr for people: without the log, and without the pointer
// to --help.
func (r *running) said() (out []string) {
	for _, line := range r.stderr.lines() {
		pointer := strings.HasPrefix(line, "See countersign") && strings.HasSuffix(line, " --help.")
		if line != "" && !strings.HasPrefix(line, "{") && !pointer {
			out = append(out, line)
		}
	}
	return out
}

// logged waits for the log line with a message and returns its fields.
func (r *running) logged(t *testing.T, message string) map[string]any {
	t.Helper()
	var found map[string]any
	require.Eventually(t, func() bool {
		for _, line := range r.stderr.lines() {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message {
				found = fields
				return true
			}
		}
		select {
		case <-r.done:
			require.FailNowf(t, "the command ended early", "code %d, stderr:\n%s", r.code, r.stderr)
		default:
		}
		return false
	}, startLimit, 10*time.Millisecond, "wait for %q in the log", message)
	return found
}

// write puts a text into a file of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
