package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	startAttempts  = 3
	connectLimit   = 10 * time.Second
	endLimit       = 5 * time.Second
	databaseName   = "countersign"
	pgctlTimeout   = "100" // seconds, below startLimit: crash recovery may take its time
	serverTextTail = 2000  // bytes of the log worth quoting
)

// server is Postgres, seen from the child.
type server struct {
	library *embeddedpostgres.EmbeddedPostgres
	owner   *child
	sockets string
	pid     int
	url     string
	first   bool
}

// start brings Postgres up on this instance, making the data first when there is none.
func (c *child) start(ctx context.Context) (*server, error) {
	if err := c.stopStale(ctx); err != nil {
		return nil, err
	}
	first, err := c.initialise(ctx)
	if err != nil {
		return nil, err
	}
	password, err := readPassword(c.Instance)
	if err != nil {
		return nil, err
	}
	srv := &server{owner: c, first: first}
	if err := srv.launch(ctx, password); err != nil {
		return nil, err
	}
	return srv, nil
}

// tidy makes the log directory and keeps the library's temporary files, which it never removes, in there and few.
func (c *child) tidy() error {
	logs := filepath.Join(c.Instance, "log")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return fmt.Errorf("create log directory: %w", err)
	}
	old, _ := filepath.Glob(filepath.Join(globEscape(logs), "embedded_postgres_log*"))
	for _, path := range old {
		_ = os.Remove(path) // one too many does no harm
	}
	return errors.Join(os.Setenv("TMPDIR", logs), os.Setenv("PGCTLTIMEOUT", pgctlTimeout))
}

// launch tries again on another port: between finding a free one and using it, somebody else may take it.
func (s *server) launch(ctx context.Context, password string) error {
	var err error
	if s.sockets, err = s.owner.socketDir(); err != nil {
		return err
	}
	for range startAttempts {
		var port int
		if port, err = freePort(ctx); err != nil {
			break
		}
		if err = s.try(ctx, port, password); err == nil {
			return nil
		}
		_ = s.owner.pgctl(ctx, "fast") // one that was only slow to start must not be left over
	}
	s.removeSockets()
	return fmt.Errorf("%w%s", err, s.owner.logTail())
}

func (s *server) try(ctx context.Context, port int, password string) error {
	prefix, err := s.owner.prefix()
	if err != nil {
		return err
	}
	// The library deletes data of another version than it expects. Nothing may stand between this look and its own.
	there, err := checkData(s.owner.Instance, s.owner.Major)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("the data in %s has gone", s.owner.Instance)
	}
	config := s.owner.libraryConfig(prefix, dataDir(s.owner.Instance), port).
		Password(password).StartParameters(s.owner.parameters(s.sockets))
	s.library = embeddedpostgres.NewDatabase(config)
	if err := s.library.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	if s.pid, err = postmasterPID(dataDir(s.owner.Instance)); err != nil {
		return err
	}
	s.url = connString(password, port, databaseName)
	return ensureDatabase(ctx, connString(password, port, "postgres"))
}

func (s *server) removeSockets() { _ = os.RemoveAll(s.sockets) }

// stop asks for a fast shutdown, which ends sessions and writes a checkpoint, and insists when that does not end.
func (s *server) stop(ctx context.Context) error {
	defer s.removeSockets()
	err := s.library.Stop()
	if err != nil {
		err = s.owner.pgctl(ctx, "immediate")
	}
	if err != nil { // pg_ctl needs the data directory, and somebody may have deleted it
		quit(s.pid)
	}
	if !s.awaitEnd(ctx) {
		kill(s.pid)
		s.awaitEnd(ctx)
	}
	return err
}

// awaitEnd waits for the process itself and says whether it ended: pg_ctl is content when postmaster.pid has gone, a
// moment before that.
func (s *server) awaitEnd(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ended(s.pid) {
		select {
		case <-look.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (c *child) pgctl(ctx context.Context, mode string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	args := []string{"stop", "-w", "-D", dataDir(c.Instance), "-m", mode}
	out, err := exec.CommandContext(ctx, filepath.Join(c.Bin, "pg_ctl"), args...).CombinedOutput() //nolint:gosec // the binaries chosen by the parent
	if err != nil {
		return fmt.Errorf("stop postgres: %w: %s", err, tail(out))
	}
	return nil
}

// logTail quotes the end of the server's newest log, where the reason for a failed start stands.
func (c *child) logTail() string {
	logs, _ := filepath.Glob(filepath.Join(globEscape(c.Instance), "log", "postgres-*.log"))
	newest := ""
	var at time.Time
	for _, path := range logs {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
	}
	file, err := os.Open(newest)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > serverTextTail {
		_, _ = file.Seek(-serverTextTail, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, serverTextTail))
	return "\n" + newest + " ends with:\n" + string(text)
}

func tail(out []byte) []byte { return out[max(0, len(out)-serverTextTail):] }
