package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// marker is the environment variable that turns this executable into the child; its value is the order.
const marker = "COUNTERSIGN_POSTGRES_CHILD"

const (
	handoverLimit = 30 * time.Second // for the child of a killed predecessor to finish its shutdown
	watchInterval = time.Second
)

var errParentGone = errors.New("the parent is gone")

type order struct {
	Bin            string `json:"bin"` // empty: download Version
	Version        string `json:"version"`
	Major          int    `json:"major"`
	Instance       string `json:"instance"`
	Cache          string `json:"cache"`
	Repository     string `json:"repository,omitempty"`
	TemplateDir    string `json:"template_dir,omitempty"`
	Fast           bool   `json:"fast,omitempty"`
	Throwaway      bool   `json:"throwaway,omitempty"`
	MaxConnections int    `json:"max_connections"`
}

type answer struct {
	URL        string `json:"url,omitempty"`
	FirstStart bool   `json:"first_start,omitempty"`
	Error      string `json:"error,omitempty"`
	Download   bool   `json:"download,omitempty"` // Error is a failed download
}

// child is the process between us and Postgres.
type child struct {
	order
	parentGone <-chan struct{}
}

// RunChildIfAsked turns this process into the database's child, and ends it when that is done, if Start has marked it so;
// otherwise it returns at once. Call it first thing in main and in TestMain, before flags are parsed.
func RunChildIfAsked() {
	if text := os.Getenv(marker); text != "" {
		os.Exit(runChild(context.Background(), text, os.Stdin, os.Stdout))
	}
}

func runChild(ctx context.Context, text string, stdin io.Reader, stdout io.Writer) int {
	_ = os.Unsetenv(marker)
	// Caught and dropped rather than ignored: an ignored signal would stay ignored in Postgres.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	gone := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(gone)
	}()
	c := &child{parentGone: gone}
	if err := json.Unmarshal([]byte(text), &c.order); err != nil {
		return fail(stdout, fmt.Errorf("read the order: %w", err), false)
	}
	restrict()
	return c.run(ctx, stdout)
}

func (c *child) run(ctx context.Context, stdout io.Writer) int {
	lock, err := c.takeOver(ctx)
	if err != nil {
		return fail(stdout, err, false)
	}
	defer func() { _ = lock.Close() }()
	if c.Throwaway {
		defer func() { _ = os.RemoveAll(c.Instance) }() // the emptied directory itself stays: its parent is not ours
	}
	if err := c.tidy(); err != nil {
		return fail(stdout, err, false)
	}
	if c.Bin == "" {
		if err := c.fetch(ctx); err != nil {
			return fail(stdout, err, true)
		}
	}
	srv, err := c.start(ctx)
	if err != nil {
		return fail(stdout, err, false)
	}
	_ = json.NewEncoder(stdout).Encode(answer{URL: srv.url, FirstStart: srv.first}) // nobody to tell: then stdin has ended too
	return c.serve(ctx, srv)
}

// takeOver waits for the child of a parent that was killed: its Postgres may still be writing its last checkpoint.
func (c *child) takeOver(ctx context.Context) (*os.File, error) {
	lock, err := waitForLock(ctx, filepath.Join(c.Instance, "child.lock"), handoverLimit)
	if err != nil {
		return nil, fmt.Errorf("wait for the previous server on this directory to stop: %w", err)
	}
	return lock, nil
}

// serve lasts until the parent is gone or Postgres is.
func (c *child) serve(ctx context.Context, srv *server) int {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-c.parentGone:
			if err := srv.stop(ctx); err != nil {
				return 1
			}
			return 0
		case <-tick.C:
			if ended(srv.pid) {
				srv.removeSockets()
				return 2
			}
		}
	}
}

func fail(stdout io.Writer, err error, download bool) int {
	_ = json.NewEncoder(stdout).Encode(answer{Error: err.Error(), Download: download})
	return 1
}

// waitForLock takes the lock of path as soon as it is free.
func waitForLock(ctx context.Context, path string, limit time.Duration) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		lock, err := lockFile(path)
		if !errors.Is(err, errLocked) {
			return lock, err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w after %s", err, limit)
		}
	}
}
