package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	defaultMaxConnections = 100
	maxMaxConnections     = 10_000
)

// Config says where the database lives and how it runs. The zero value is fit for production.
type Config struct {
	// Dir is the base directory, created when missing. Empty means DefaultDir. As root, the account that runs the
	// server must be able to enter it: a directory under /root does not do.
	Dir string
	// Fast turns durability off: a crash of the machine loses the data. For tests only. False means fsync on.
	Fast bool
	// Throwaway deletes the data when the server stops, even when it stops because this process was killed.
	// For tests only. False keeps it.
	Throwaway bool
	// Fresh drops the data of earlier starts, of every major, once this process holds the
	// directory: never under a running server. False keeps it.
	Fresh bool
	// TemplateDir is a directory, writable by every user, in which an initialised cluster is kept and from which later
	// first starts are copied, in a tenth of the time. Used only with Fast. Empty means no template.
	TemplateDir string
	// MaxConnections is the server's max_connections, at most 10000. Zero means 100.
	MaxConnections int
	// Logger receives one line for each step of the search for Postgres. Nil means slog.Default().
	Logger *slog.Logger
	// Getenv reads DATABASE_URL, EMBEDDED_PG_BIN, PATH, HOME, XDG_DATA_HOME and TZ. Nil means os.Getenv.
	Getenv func(string) string

	root       string // prefix of the system directories searched; a test's own tree
	repository string // where binaries are downloaded from; empty means the library's default
	download   string // version to download; empty means the library's for the wanted major
}

// DefaultDir is the base directory used when Config.Dir is empty: /var/lib/countersign for root, else the user's data
// directory (XDG_DATA_HOME, ~/.local/share, on macOS ~/Library/Application Support). It fails when none is known.
func DefaultDir(getenv func(string) string) (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/countersign", nil
	}
	home := getenv("HOME")
	switch {
	case filepath.IsAbs(getenv("XDG_DATA_HOME")):
		return filepath.Join(getenv("XDG_DATA_HOME"), "countersign"), nil
	case !filepath.IsAbs(home):
		return "", errors.New("choose a data directory: neither HOME nor XDG_DATA_HOME is set")
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support", "countersign"), nil
	}
	return filepath.Join(home, ".local", "share", "countersign"), nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = defaultMaxConnections
	}
	if c.MaxConnections < 0 || c.MaxConnections > maxMaxConnections {
		return c, fmt.Errorf("embedded database: MaxConnections is %d, want 1 to %d", c.MaxConnections, maxMaxConnections)
	}
	return c, nil
}

// baseDir is where the database lives: absolute, and free of what pg_ctl's shell command line cannot carry.
func (c Config) baseDir() (string, error) {
	dir := c.Dir
	if dir == "" {
		var err error
		if dir, err = DefaultDir(c.Getenv); err != nil {
			return "", err
		}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("resolve database directory: %w", err)
	}
	if strings.ContainsAny(dir, "\"'`$\\,\n\r") {
		return "", fmt.Errorf("database directory %q: quotes, backslashes, commas, $ and line breaks cannot be passed to Postgres", dir)
	}
	return dir, nil
}
