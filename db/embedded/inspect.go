package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

type place struct {
	source Source
	dirs   []string
}

func (c Config) places() []place {
	glob := func(patterns ...string) (dirs []string) {
		for _, pattern := range patterns {
			matches, _ := filepath.Glob(filepath.Join(c.root, pattern)) // the patterns are constants and well-formed
			dirs = append(dirs, matches...)
		}
		return dirs
	}
	return []place{
		{SourceDebian, glob("/usr/lib/postgresql/*/bin")},
		{SourceHomebrew, glob("/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
			"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin")},
		{SourcePath, filepath.SplitList(c.Getenv("PATH"))},
	}
}

func (c Config) inspectAll(ctx context.Context, place place) []binaries {
	var found []binaries
	for _, dir := range place.dirs {
		if !filepath.IsAbs(dir) {
			continue // a relative PATH entry would run what lies in the working directory, perhaps as root
		}
		b, err := inspect(ctx, dir, place.source)
		switch {
		case err == nil:
			found = append(found, b)
		case !errors.Is(err, fs.ErrNotExist):
			c.Logger.InfoContext(ctx, "postgres passed over", slog.String("dir", dir), slog.String("reason", err.Error()))
		}
	}
	return found
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.0-9a-z]*)`)

// inspect accepts a directory that holds a whole server of a version we support.
func inspect(ctx context.Context, dir string, source Source) (binaries, error) {
	dir, err := filepath.Abs(dir) // the child stands elsewhere
	if err != nil {
		return binaries{}, fmt.Errorf("resolve directory: %w", err)
	}
	postgres, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return binaries{}, fmt.Errorf("find postgres: %w", err)
	}
	dir = filepath.Dir(postgres)
	for _, name := range []string{"initdb", "pg_ctl"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return binaries{}, fmt.Errorf("find %s beside postgres: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, postgres, "--version").Output() //nolint:gosec // the operator's own choice of binary
	if err != nil {
		return binaries{}, fmt.Errorf("ask postgres for its version: %w", err)
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return binaries{}, fmt.Errorf("ask postgres for its version: it says %.80q", out)
	}
	major, err := strconv.Atoi(string(match[2]))
	if err != nil || major < minMajor {
		return binaries{}, fmt.Errorf("version is %s, want %d or newer", match[1], minMajor)
	}
	return binaries{dir: dir, version: string(match[1]), major: major, source: source}, nil
}

// cachedDownloads reads the versions off the directories' names and runs nothing: the cache belongs to the account of
// the server, and root must not execute what that account could have written.
func cachedDownloads(base string) []binaries {
	complete, _ := filepath.Glob(filepath.Join(globEscape(cacheDir(base)), "*", completeMark))
	var found []binaries
	for _, mark := range complete {
		prefix := filepath.Dir(mark)
		version := filepath.Base(prefix)
		if major := majorOf(version); major >= minMajor {
			found = append(found, binaries{filepath.Join(prefix, "bin"), version, major, SourceCache})
		}
	}
	return found
}

func majorOf(version string) int {
	digits, _, _ := strings.Cut(version, ".")
	major, _ := strconv.Atoi(digits) // no number: 0, which is below every minimum
	return major
}
