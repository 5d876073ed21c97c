package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const (
	startLimit    = 2 * time.Minute
	downloadLimit = 10 * time.Minute
	abandonLimit  = 15 * time.Second // from the end of ctx to the end of our patience with the child
	answerLimit   = 64 << 10
)

// process is the child, seen from the parent.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	waited sync.Once
	done   chan struct{}
	err    error // how it ended; set before done is closed
}

// order is what the parent tells the child: nothing in it is secret, since an environment is easily read.
func (c Config) order(base, instance string, chosen binaries) order {
	return order{
		Bin: chosen.dir, Version: chosen.version, Major: chosen.major, Instance: instance, Cache: cacheDir(base),
		Repository: c.repository, TemplateDir: c.TemplateDir, Fast: c.Fast, Throwaway: c.Throwaway,
		MaxConnections: c.MaxConnections,
	}
}

// spawn runs the child and waits for its answer.
func (c Config) spawn(ctx context.Context, owner *account, what order) (*process, answer, error) {
	limit := startLimit
	if what.Bin == "" {
		limit = downloadLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, stdout, err := c.launch(ctx, owner, what)
	if err != nil {
		return nil, answer{}, err
	}
	stillWanted := context.AfterFunc(ctx, p.abandon)
	var got answer
	err = json.NewDecoder(io.LimitReader(stdout, answerLimit)).Decode(&got)
	if err == nil && got.Error == "" && stillWanted() {
		return p, got, nil
	}
	ended := p.stop(context.WithoutCancel(ctx)) // ends: it has answered with an error, has ended, or is abandoned
	switch {
	case ctx.Err() != nil:
		return nil, got, fmt.Errorf("start embedded postgres: %w", context.Cause(ctx))
	case got.Download:
		return nil, got, noPostgres("nothing on this machine, and the download failed: " + got.Error)
	case got.Error != "":
		return nil, got, fmt.Errorf("start embedded postgres: %s", got.Error)
	}
	return nil, got, fmt.Errorf("start embedded postgres: the child ended without an answer: %w", errors.Join(err, ended))
}

func (c Config) launch(ctx context.Context, owner *account, what order) (*process, io.Reader, error) {
	text, err := json.Marshal(what)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the child's order: %w", err)
	}
	self, err := executable()
	if err != nil {
		return nil, nil, fmt.Errorf("find our own executable: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self) //nolint:gosec // ourselves; it outlives the start's ctx on purpose
	cmd.Args = []string{"countersign-postgres"}
	cmd.Dir = what.Instance // where we stand may be closed to the child's account
	cmd.Env = c.childEnv(what.Instance, string(text))
	cmd.Stderr = os.Stderr // a panic, if ever
	cmd.SysProcAttr = detached(owner)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("open the child's input: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("open the child's output: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, explainStart(err, owner, what.Instance)
	}
	return &process{cmd: cmd, stdin: stdin, done: make(chan struct{})}, stdout, nil
}

// childEnv is all the child ever sees of our environment. HOME is its own directory, and the C locale is pinned: Postgres
// does not start on macOS without a valid one.
func (c Config) childEnv(home, text string) []string {
	return []string{
		"PATH=" + c.Getenv("PATH"), "TZ=" + c.Getenv("TZ"), "HOME=" + home, "LANG=C", "LC_ALL=C", marker + "=" + text,
	}
}

func explainStart(err error, owner *account, dir string) error {
	if owner != nil && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("start embedded postgres as user %s: %w: that user must be able to enter %s and to run this executable; "+
			"choose a directory outside /root, or do not run as root", owner, err, dir)
	}
	return fmt.Errorf("start embedded postgres: %w", err)
}

// executable is the file we run from; on Linux also when it has been replaced or deleted meanwhile.
func executable() (string, error) {
	if runtime.GOOS == "linux" {
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			return "/proc/self/exe", nil
		}
	}
	return os.Executable()
}

// abandon ends a child that nobody waits for any more: gently, then not.
func (p *process) abandon() {
	_ = p.stdin.Close()
	time.AfterFunc(abandonLimit, func() { _ = p.cmd.Process.Kill() })
}

func (p *process) stop(ctx context.Context) error {
	_ = p.stdin.Close() // closed twice is closed
	select {
	case <-p.wait():
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("postgres is still shutting down: %w", ctx.Err())
	}
}

// wait starts watching only when first asked: tests that look for leaked goroutines find none of ours.
func (p *process) wait() <-chan struct{} {
	p.waited.Do(func() {
		go func() {
			p.err = p.cmd.Wait()
			close(p.done)
		}()
	})
	return p.done
}
