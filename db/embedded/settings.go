package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	maxSocketPath = 100 // sun_path holds 107 bytes on Linux, 103 on macOS
	longestSocket = "/.s.PGSQL.65535.lock"
)

// libraryConfig is what every use of the library needs. The version decides over life and death of the data: it is the
// one that the binaries report.
func (c *child) libraryConfig(prefix, data string, port int) embeddedpostgres.Config {
	return embeddedpostgres.DefaultConfig().
		Version(embeddedpostgres.PostgresVersion(c.libraryVersion())).
		BinariesPath(prefix).CachePath(c.Cache).
		RuntimePath(filepath.Join(c.Instance, "runtime")). // wiped at every start
		DataPath(data).Port(uint32(port)).                 //nolint:gosec // a port fits
		Username(superuser).Database("postgres").Logger(nil)
}

func (c *child) libraryVersion() string {
	if c.Bin == "" {
		return c.Version // to download exactly this one
	}
	return strconv.Itoa(c.Major) + ".0.0"
}

func (c *child) parameters(sockets string) map[string]string {
	p := map[string]string{
		"listen_addresses": "127.0.0.1", "unix_socket_directories": sockets, "unix_socket_permissions": "0700",
		"max_connections": strconv.Itoa(c.MaxConnections), "shared_buffers": "128MB",
		"timezone": "UTC", "log_timezone": "UTC",
	}
	if c.Fast {
		p["fsync"], p["synchronous_commit"], p["full_page_writes"] = "off", "off", "off"
		return p
	}
	p["logging_collector"], p["log_directory"] = "on", filepath.Join(c.Instance, "log")
	p["log_filename"], p["log_file_mode"] = "postgres-%a.log", "0600"
	p["log_truncate_on_rotation"], p["log_rotation_age"], p["log_rotation_size"] = "on", "1d", "0"
	return p
}

// prefix is the directory whose bin the binaries are in; the library knows no other layout.
func (c *child) prefix() (string, error) {
	if filepath.Base(c.Bin) == "bin" {
		return filepath.Dir(c.Bin), nil
	}
	prefix := filepath.Join(c.Instance, "prefix")
	link := filepath.Join(prefix, "bin")
	if err := os.RemoveAll(prefix); err != nil {
		return "", fmt.Errorf("link the binaries: %w", err)
	}
	if err := errors.Join(os.MkdirAll(prefix, 0o700), os.Symlink(c.Bin, link)); err != nil {
		return "", fmt.Errorf("link the binaries: %w", err)
	}
	return prefix, nil
}

// socketDir is beside the data, or somewhere short when that path is too long for a socket.
func (c *child) socketDir() (string, error) {
	dir := filepath.Join(c.Instance, "run")
	if len(dir)+len(longestSocket) <= maxSocketPath {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", fmt.Errorf("create socket directory: %w", err)
		}
		return dir, nil
	}
	dir, err := os.MkdirTemp("/tmp", "countersign-run-") // not TMPDIR, which may be just as long
	if err != nil {
		return "", fmt.Errorf("create socket directory: %w", err)
	}
	return dir, nil
}
