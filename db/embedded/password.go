package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// makePassword writes a new random password unless the file has one.
func makePassword(path string) error {
	if text, err := os.ReadFile(path); err == nil && len(text) > 0 { //nolint:gosec // our own file
		return nil
	}
	return writeWhole(path, []byte(rand.Text()))
}

// readPassword is what the superuser was given when the data was made.
func readPassword(instance string) (string, error) {
	path := filepath.Join(instance, "password")
	text, err := os.ReadFile(path) //nolint:gosec // our own file
	if err != nil {
		return "", fmt.Errorf("read the database password, without which the data in %s cannot be opened: %w", dataDir(instance), err)
	}
	return string(text), nil
}

// writeWhole writes a file of mode 0600 that is never seen half written.
func writeWhole(path string, content []byte) error {
	fresh := path + ".new"
	file, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // our own file
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// syncDir makes a rename in dir outlast a power cut.
func syncDir(dir string) error {
	file, err := os.Open(dir) //nolint:gosec // our own directory
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
