// Package dbtest gives tests a real Postgres.
//
// Every package that uses it hands its TestMain over:
//
//	func TestMain(m *testing.M) { dbtest.Main(m) }
//
// The cluster is that of TEST_DATABASE_URL where this is set; `make test` sets it to one cluster for the whole run. A
// bare `go test` starts a cluster of its own for each package, at the first test that asks. DATABASE_URL is never used:
// a test must not find its way into a database that somebody needs.
package dbtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"countersign/db/embedded"
)

const (
	clusterConnections = 300
	clusterStopLimit   = 30 * time.Second
)

var (
	mainRuns atomic.Bool
	shared   struct {
		once    sync.Once
		cluster *Cluster
		err     error
	}
)

// Main runs the tests and ends the process with their result. It is the whole of a TestMain; m is a *testing.M, or
// something that wraps one.
func Main(m interface{ Run() int }) {
	embedded.RunChildIfAsked()
	mainRuns.Store(true)
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "dbtest:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// ClusterURL is the superuser's connection string of the cluster for this run, starting it when it is the first to ask.
// Without a cluster the test fails: it is never skipped.
func ClusterURL(tb testing.TB) string {
	tb.Helper()
	if dsn := os.Getenv("TEST_DATABASE_URL"); dsn != "" {
		return dsn
	}
	if !mainRuns.Load() {
		tb.Fatal("dbtest: this package needs func TestMain(m *testing.M) { dbtest.Main(m) }")
	}
	shared.once.Do(func() {
		// Not the test's context: the cluster outlives the first test that needs it.
		shared.cluster, shared.err = StartCluster(context.Background(), slog.New(slog.DiscardHandler))
	})
	if shared.err != nil {
		tb.Fatalf("dbtest: %v\nFor tests, TEST_DATABASE_URL takes the place of DATABASE_URL.", shared.err)
	}
	return shared.cluster.URL().Reveal()
}

func stopShared() error {
	shared.once.Do(func() {}) // nobody starts one any more
	if shared.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterStopLimit)
	defer cancel()
	return shared.cluster.Stop(ctx)
}

// Cluster is a Postgres in memory where possible, fast and not durable, which takes its data with it.
type Cluster struct {
	db  *embedded.Database
	dir string
}

// StartCluster starts a cluster that lasts until Stop or the end of this process, however that comes. A program that
// calls it must call embedded.RunChildIfAsked first thing in main.
func StartCluster(ctx context.Context, logger *slog.Logger) (*Cluster, error) {
	parent := clusterParent()
	dir, err := os.MkdirTemp(parent, "countersign-test-")
	if err != nil {
		return nil, fmt.Errorf("create cluster directory: %w", err)
	}
	db, err := startIn(ctx, parent, dir, logger)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Cluster{db: db, dir: dir}, nil
}

func startIn(ctx context.Context, parent, dir string, logger *slog.Logger) (*embedded.Database, error) {
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // as root, the server's account must be able to enter
		return nil, fmt.Errorf("open cluster directory: %w", err)
	}
	db, err := embedded.Start(ctx, embedded.Config{
		Dir: dir, Fast: true, Throwaway: true, TemplateDir: parent, MaxConnections: clusterConnections,
		Logger: logger, Getenv: testEnv,
	})
	if err != nil {
		return nil, fmt.Errorf("start test cluster: %w", err)
	}
	return db, nil
}

// testEnv hides DATABASE_URL.
func testEnv(name string) string {
	if name == "DATABASE_URL" {
		return ""
	}
	return os.Getenv(name)
}

// URL is the superuser's connection string.
func (c *Cluster) URL() embedded.URL { return c.db.URL }

// Stop ends the cluster and deletes its data.
func (c *Cluster) Stop(ctx context.Context) error {
	if err := c.db.Stop(ctx); err != nil {
		return fmt.Errorf("stop test cluster: %w", err)
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("delete test cluster: %w", err)
	}
	return nil
}
