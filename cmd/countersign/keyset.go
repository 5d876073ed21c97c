package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"countersign/db/embedded"
	"countersign/envelope"
	"countersign/policy"
)

// errNoKeyset says how to come by what a database of one's own needs.
var errNoKeyset = usageError{errors.New(`results and callbacks are stored encrypted, and the configuration names no keys: make them with
  countersign keys encryption > keyset.json
and name them where the database does not lie:
  encryption: {keyset: file:/run/secrets/keyset.json}    (or env:NAME)`)}

// keysetFile holds the keys where nobody has named any: beside the embedded database, for
// its owner only.
const keysetFile = "keyset.json"

// boxOf makes what the service encrypts with: under the keys that the configuration names,
// or, beside an embedded database, under those that its first start made. Another database
// needs keys that are named: its backups are not to hold them, and each replica needs them.
// dir is that of the embedded database, "" for another.
func boxOf(config *policy.Config, dir string) (*envelope.Box, error) {
	keyset := config.Encryption.Keyset.Reveal()
	switch {
	case keyset != "":
	case dir == "":
		return nil, errNoKeyset
	default:
		var err error
		if keyset, err = keysetBeside(dir); err != nil {
			return nil, err
		}
	}
	box, err := envelope.New(keyset)
	if err != nil {
		return nil, usageError{fmt.Errorf("encryption.keyset: %w", err)}
	}
	return box, nil
}

// checkKeyset says whether there are keys that can be used, for a database of one's own.
func checkKeyset(env environment, config *policy.Config) error {
	own := !config.Database.URL.IsZero() || env.getenv("DATABASE_URL") != ""
	if config.Encryption.Keyset.IsZero() && !own {
		return nil // the embedded database brings its own
	}
	_, err := boxOf(config, "")
	return err
}

// keysetBeside reads the keys in a data directory, or makes them at its first use.
func keysetBeside(dir string) (string, error) {
	path := filepath.Join(dir, keysetFile)
	text, err := os.ReadFile(path) //nolint:gosec // our own file in the data directory
	switch {
	case err == nil:
		return string(text), nil
	case !errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("read the keys of the embedded database: %w", err)
	}
	made, err := envelope.NewKeyset()
	if err != nil {
		return "", err
	}
	if err := writeOnce(path, []byte(made)); err != nil {
		return "", fmt.Errorf("keep the keys of the embedded database: %w", err)
	}
	return made, nil
}

// writeOnce writes a file that is whole or not there, for its owner only. The embedded
// database's lock is held: nobody else writes it.
func writeOnce(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), keysetFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) //nolint:errcheck // renamed by then, or worthless
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// embeddedDir is where the embedded database lives.
func embeddedDir(dir string, getenv func(string) string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	return embedded.DefaultDir(getenv)
}
