package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const completeMark = ".complete" // written beside binaries that were extracted to the last file

func instanceDir(base string, major int) string { return filepath.Join(base, "pg"+strconv.Itoa(major)) }
func dataDir(instance string) string            { return filepath.Join(instance, "data") }
func cacheDir(base string) string               { return filepath.Join(base, "cache") }

// newestData is the highest major version that has data in base, 0 when none has.
func newestData(base string) (int, error) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return 0, fmt.Errorf("read database directory: %w", err)
	}
	newest := 0
	for _, entry := range entries {
		digits, ok := strings.CutPrefix(entry.Name(), "pg")
		major, err := strconv.Atoi(digits)
		if !ok || err != nil || major <= newest {
			continue
		}
		there, err := checkData(filepath.Join(base, entry.Name()), major)
		if err != nil {
			return 0, err
		}
		if there {
			newest = major
		}
	}
	return newest, nil
}

// checkData says whether the instance has data, and refuses data that is not of the given major version. It guards
// against the library, which silently deletes a data directory whose PG_VERSION is not the one it expects.
func checkData(instance string, major int) (bool, error) {
	data := dataDir(instance)
	entries, err := os.ReadDir(data)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read data directory: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION")) //nolint:gosec // a fixed name below the operator's directory
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: %s holds files but no PG_VERSION, so it is no Postgres data directory, or a damaged one. "+
			"Nothing was changed. Restore it, or move it away to start afresh", ErrVersion, data)
	}
	if err != nil {
		return false, fmt.Errorf("read the data's version: %w", err)
	}
	if got := strings.TrimSpace(string(text)); got != strconv.Itoa(major) {
		return false, fmt.Errorf("%w: %s is the place of Postgres %d, but PG_VERSION in it says %.20q. "+
			"Nothing was changed. Move it to where it belongs, or away to start afresh", ErrVersion, data, major, got)
	}
	return true, nil
}

// globEscape makes a path match itself in filepath.Glob.
func globEscape(path string) string {
	return strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(path)
}

// makeBase creates the base directory. As root others may enter but not list it: the server's account has to.
func makeBase(base string) error {
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil { //nolint:gosec // parents such as /var/lib are everybody's
		return fmt.Errorf("create database directory: %w", err)
	}
	err := os.Mkdir(base, mode)
	if err == nil {
		err = os.Chmod(base, mode) // whatever the umask says
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create database directory: %w", err)
	}
	return nil
}
