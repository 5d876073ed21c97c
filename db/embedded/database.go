package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Database is a Postgres ready for connections.
type Database struct {
	// URL connects as the superuser to the database "countersign", which exists.
	URL URL
	// Major and Version are the server's, such as 15 and "15.18"; zero for a DATABASE_URL.
	Major   int
	Version string
	// Dir is the base directory; empty for a DATABASE_URL.
	Dir string
	// Source names the step of the search that found this Postgres.
	Source Source
	// FirstStart is true when this start created the data.
	FirstStart bool

	child *process
	lock  *os.File
}

// Start finds Postgres and runs it as Config says, or hands back DATABASE_URL when that is set. It returns when the
// server answers, after 2 minutes at most, or 10 when Postgres has to be downloaded first; sooner when ctx ends.
// Errors wrap ErrInUse, ErrVersion or ErrNoPostgres where these apply. Once started, the server no longer depends on
// ctx: call Stop.
func Start(ctx context.Context, config Config) (*Database, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if os.Getenv(marker) != "" {
		return nil, errors.New("embedded database: this process is its child; main or TestMain must call RunChildIfAsked first")
	}
	if dsn := config.Getenv(string(SourceDatabaseURL)); dsn != "" {
		config.step(ctx, SourceDatabaseURL, 1)
		return &Database{URL: NewURL(dsn), Source: SourceDatabaseURL}, nil
	}
	config.step(ctx, SourceDatabaseURL, 0)
	if err := supported(); err != nil {
		return nil, noPostgres(err.Error())
	}
	base, err := config.baseDir()
	if err != nil {
		return nil, err
	}
	return config.start(ctx, base)
}

func (c Config) start(ctx context.Context, base string) (*Database, error) {
	if err := makeBase(base); err != nil {
		return nil, err
	}
	base, err := filepath.EvalSymlinks(base) // one spelling, by which a stale server is recognised
	if err != nil {
		return nil, fmt.Errorf("resolve database directory: %w", err)
	}
	lock, err := lockBase(ctx, base)
	if err != nil {
		return nil, err
	}
	if c.Fresh {
		err = forget(ctx, base)
	}
	var db *Database
	if err == nil {
		db, err = c.startLocked(ctx, base)
	}
	if err != nil {
		_ = lock.Close() // the lock goes with the file; the start's own error is the one to tell
		return nil, err
	}
	db.lock = lock
	return db, nil
}

// forget drops the data under a base directory that this process holds.
func forget(ctx context.Context, base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("drop earlier data: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !ours.MatchString(e.Name()) {
			continue
		}
		instance := filepath.Join(base, e.Name())
		if pid, err := postmasterPID(dataDir(instance)); err == nil && alive(pid) && isServer(ctx, pid, dataDir(instance)) {
			return fmt.Errorf("drop earlier data: the server of a start that was killed still runs on %s (process %d); "+
				"start once without dropping the data, which stops it", instance, pid)
		}
		if err := os.RemoveAll(instance); err != nil {
			return fmt.Errorf("drop earlier data: %w", err)
		}
	}
	return nil
}

// ours are the directories that instanceDir names.
var ours = regexp.MustCompile(`^pg[0-9]+$`)

func (c Config) startLocked(ctx context.Context, base string) (*Database, error) {
	chosen, err := c.resolve(ctx, base)
	if err != nil {
		return nil, err
	}
	instance := instanceDir(base, chosen.major)
	owner, err := prepare(instance)
	if err != nil {
		return nil, err
	}
	if chosen.source == SourceDownload {
		if err := prepareFor(cacheDir(base), owner); err != nil {
			return nil, err
		}
	}
	child, answer, err := c.spawn(ctx, owner, c.order(base, instance, chosen))
	if err != nil {
		return nil, err
	}
	return &Database{
		URL: NewURL(answer.URL), Major: chosen.major, Version: chosen.version, Dir: base,
		Source: chosen.source, FirstStart: answer.FirstStart, child: child,
	}, nil
}

// Stop shuts the server down, breaking off what still runs in it, and waits until it is gone or ctx ends; in the second
// case the shutdown goes on by itself. Calling it again, or on a DATABASE_URL, does nothing. An error means that the
// server did not end cleanly, or had ended before; the next Start recovers the data.
func (d *Database) Stop(ctx context.Context) error {
	if d.child == nil {
		return nil
	}
	err := d.child.stop(ctx)
	select {
	case <-d.child.wait():
		_ = d.lock.Close() // not before the child is gone: whoever comes next may have the directory
	default:
	}
	if err != nil {
		return fmt.Errorf("stop embedded postgres: %w", err)
	}
	return nil
}

// Done is closed when the server has ended, whether by Stop or by itself. For a DATABASE_URL it is nil, which blocks for
// ever.
func (d *Database) Done() <-chan struct{} {
	if d.child == nil {
		return nil
	}
	return d.child.wait()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// lockBase takes the directory for this process; the operating system gives it back however the process ends.
//
// It tries for a moment: a process that another part of the holder is just starting has a
// copy of the lock until it becomes that program, and so outlives the holder by as much.
func lockBase(ctx context.Context, base string) (*os.File, error) {
	path := filepath.Join(base, "lock")
	lock, err := lockFile(path)
	for try := 0; errors.Is(err, errLocked) && try < 10 && ctx.Err() == nil; try++ {
		pause(ctx, 50*time.Millisecond)
		lock, err = lockFile(path)
	}
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("embedded database: %w: another countersign uses %s (%s); stop it, or choose another directory",
			ErrInUse, base, holder(path))
	}
	if err != nil {
		return nil, fmt.Errorf("lock database directory: %w", err)
	}
	if err := lock.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(lock, "process %d", os.Getpid()) // a help for whoever is refused, no more
	}
	return lock, nil
}

func holder(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // our own lock file
	if err != nil || len(text) == 0 || len(text) > 40 {
		return "process unknown"
	}
	return string(text)
}
