package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	initLimit     = time.Minute
	templateLimit = 30 * time.Second
	superuser     = "postgres"
)

// initialise makes the data directory unless it is there, and says whether it made it. The new directory gets its name
// only when it is whole, so that a kill in the middle never leaves something that looks like data.
func (c *child) initialise(ctx context.Context) (bool, error) {
	there, err := checkData(c.Instance, c.Major)
	if there || err != nil {
		return false, err
	}
	fresh := filepath.Join(c.Instance, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return false, fmt.Errorf("clear an interrupted initialisation: %w", err)
	}
	if !c.copyTemplate(ctx, fresh) {
		if err := c.initdb(ctx, fresh, filepath.Join(c.Instance, "password")); err != nil {
			return false, err
		}
	}
	_ = os.Remove(dataDir(c.Instance)) // an empty one may be there; a full one is an error of the rename
	if err := os.Rename(fresh, dataDir(c.Instance)); err != nil {
		return false, fmt.Errorf("put the new data directory in place: %w", err)
	}
	return true, syncDir(c.Instance)
}

// initdb makes a cluster in dir whose superuser has the password in the file, which is made too when missing.
func (c *child) initdb(ctx context.Context, dir, passwordFile string) error {
	if err := makePassword(passwordFile); err != nil {
		return err
	}
	args := []string{
		"-D", dir, "-U", superuser, "--pwfile", passwordFile, "-A", "scram-sha-256", "--locale=C", "--encoding=UTF8",
	}
	if c.Fast {
		args = append(args, "--no-sync")
	} else {
		args = append(args, "--data-checksums")
	}
	ctx, cancel := context.WithTimeout(ctx, initLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(c.Bin, "initdb"), args...).CombinedOutput() //nolint:gosec // the binaries chosen by the parent
	if err != nil {
		return fmt.Errorf("initialise the data directory: %w: %s", err, tail(out))
	}
	return nil
}

// copyTemplate fills dir from the template, and says whether that worked: without it a start is only slower.
func (c *child) copyTemplate(ctx context.Context, dir string) bool {
	if !c.Fast || c.TemplateDir == "" {
		return false
	}
	template, err := c.template(ctx)
	if err != nil {
		return false
	}
	password, err := os.ReadFile(filepath.Join(template, "password")) //nolint:gosec // our own file
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(filepath.Join(template, "data")))
	}
	if err == nil {
		err = writeWhole(filepath.Join(c.Instance, "password"), password)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return err == nil
}

// template is a directory with an initialised cluster and its password, made by whoever comes first. Its name can be
// guessed and the place is everybody's, so it is believed only when it is ours alone.
func (c *child) template(ctx context.Context) (string, error) {
	dir := filepath.Join(c.TemplateDir, fmt.Sprintf("countersign-initdb-%d-pg%s", os.Geteuid(), c.Version))
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make template directory: %w", err)
	}
	if err := ownedAlone(dir); err != nil {
		return "", err
	}
	lock, err := waitForLock(ctx, filepath.Join(dir, "lock"), templateLimit)
	if err != nil {
		return "", fmt.Errorf("lock template: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		return dir, nil
	}
	fresh := filepath.Join(dir, "data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return "", fmt.Errorf("clear template: %w", err)
	}
	if err := c.initdb(ctx, fresh, filepath.Join(dir, "password")); err != nil {
		return "", err
	}
	if err := os.Rename(fresh, filepath.Join(dir, "data")); err != nil {
		return "", fmt.Errorf("finish template: %w", err)
	}
	return dir, nil
}
