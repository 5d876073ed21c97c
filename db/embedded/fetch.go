package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetch downloads and unpacks Postgres and sets Bin. The library does so only as a part of its Start, and wants to start
// what it got; we hand it a data directory that no server can run on, let that fail, and look at what has arrived. So
// no server of this step can be left over, whenever the process ends.
func (c *child) fetch(ctx context.Context) error {
	prefix := filepath.Join(c.Cache, c.Version)
	if err := os.RemoveAll(prefix); err != nil { // what an interrupted start unpacked by half
		return fmt.Errorf("clear the download: %w", err)
	}
	decoy := filepath.Join(c.Instance, "nodata")
	defer func() { _ = os.RemoveAll(decoy) }()
	if err := writeDecoy(decoy, c.Major); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	config := c.libraryConfig(prefix, decoy, port)
	if c.Repository != "" {
		config = config.BinaryRepositoryURL(c.Repository)
	}
	got := make(chan error, 1)
	go func() { got <- embeddedpostgres.NewDatabase(config).Start() }()
	limit := time.NewTimer(downloadLimit) // the library's own requests have no deadline
	defer limit.Stop()
	select {
	case err = <-got:
	case <-c.parentGone:
		return errParentGone
	case <-limit.C:
		return fmt.Errorf("no end after %s", downloadLimit)
	}
	return c.accept(ctx, prefix, err)
}

// accept looks at what was unpacked; started is why the library could not start it, or could not get it.
func (c *child) accept(ctx context.Context, prefix string, started error) error {
	found, err := inspect(ctx, filepath.Join(prefix, "bin"), SourceDownload)
	switch {
	case err != nil && started != nil:
		return started
	case err != nil:
		return err
	}
	if found.major != c.Major {
		return fmt.Errorf("the download called %s holds Postgres %s", c.Version, found.version)
	}
	if err := os.WriteFile(filepath.Join(prefix, completeMark), nil, 0o600); err != nil {
		return fmt.Errorf("mark the download complete: %w", err)
	}
	c.Bin = found.dir
	return nil
}

func writeDecoy(dir string, major int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("prepare the download: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte(strconv.Itoa(major)+"\n"), 0o600); err != nil {
		return fmt.Errorf("prepare the download: %w", err)
	}
	return nil
}
