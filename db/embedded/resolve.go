package embedded

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	minMajor       = 14
	versionTimeout = 10 * time.Second
)

// Source names the step of the search that found the database.
type Source string

// The steps, in the order in which they are tried.
const (
	// SourceDatabaseURL is a database of the operator's own: nothing is started.
	SourceDatabaseURL Source = "DATABASE_URL"
	// SourceEnvironment is the directory named by EMBEDDED_PG_BIN.
	SourceEnvironment Source = "EMBEDDED_PG_BIN"
	// SourceDebian is /usr/lib/postgresql/<major>/bin.
	SourceDebian Source = "/usr/lib/postgresql"
	// SourceHomebrew is a Homebrew keg.
	SourceHomebrew Source = "Homebrew"
	// SourcePath is a directory on PATH.
	SourcePath Source = "PATH"
	// SourceCache is an earlier download, kept in the base directory.
	SourceCache Source = "cached download"
	// SourceDownload is a download at this start.
	SourceDownload Source = "download"
)

// binaries is a Postgres that can be started, or for SourceDownload one that has yet to be fetched.
type binaries struct {
	dir     string // holds postgres, initdb and pg_ctl
	version string // "15.18"
	major   int
	source  Source
}

// downloads are the versions the library knows checksummed builds of, newest first.
var downloads = []embeddedpostgres.PostgresVersion{
	embeddedpostgres.V18, embeddedpostgres.V17, embeddedpostgres.V16, embeddedpostgres.V15, embeddedpostgres.V14,
}

// resolve finds the Postgres to run for the data in base. Data decides before age: a newer Postgres must not leave an
// older one's data behind and greet its owner with an empty database.
func (c Config) resolve(ctx context.Context, base string) (binaries, error) {
	dataMajor, err := newestData(base)
	if err != nil {
		return binaries{}, err
	}
	found, err := c.search(ctx, base)
	if err != nil {
		return binaries{}, err
	}
	if len(found) == 0 {
		return c.downloadable(ctx, dataMajor)
	}
	for _, b := range found {
		if dataMajor == 0 || b.major == dataMajor {
			c.Logger.InfoContext(ctx, "postgres chosen", slog.String("source", string(b.source)),
				slog.String("dir", b.dir), slog.String("version", b.version))
			return b, nil
		}
	}
	return binaries{}, fmt.Errorf("%w: the data in %s was made by Postgres %d, and what was found is Postgres %d (%s). "+
		"Nothing was changed. Install Postgres %[3]d or point EMBEDDED_PG_BIN at it; or dump with %[3]d and restore into %[4]d; "+
		"or move the directory away to start afresh",
		ErrVersion, instanceDir(base, dataMajor), dataMajor, found[0].major, found[0].dir)
}

// search lists what is there, best first. EMBEDDED_PG_BIN is an order and not a hint: it is that or nothing.
func (c Config) search(ctx context.Context, base string) ([]binaries, error) {
	if dir := c.Getenv(string(SourceEnvironment)); dir != "" {
		b, err := inspect(ctx, dir, SourceEnvironment)
		if err != nil {
			return nil, noPostgres(fmt.Sprintf("EMBEDDED_PG_BIN is set to %s: %v", dir, err))
		}
		c.step(ctx, SourceEnvironment, 1)
		return []binaries{b}, nil
	}
	c.step(ctx, SourceEnvironment, 0)
	var found []binaries
	for _, place := range c.places() {
		here := c.inspectAll(ctx, place)
		c.step(ctx, place.source, len(here))
		found = append(found, here...)
	}
	if err := ctx.Err(); err != nil { // cut short, the search has not found nothing
		return nil, fmt.Errorf("look for postgres: %w", err)
	}
	cached := cachedDownloads(base)
	c.step(ctx, SourceCache, len(cached))
	found = append(found, cached...)
	slices.SortStableFunc(found, func(a, b binaries) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.major, a.major))
	})
	return found, nil
}

// rank puts what the system keeps patched before what we once downloaded.
func (b binaries) rank() int {
	if b.source == SourceCache {
		return 1
	}
	return 0
}

func (c Config) step(ctx context.Context, source Source, found int) {
	c.Logger.InfoContext(ctx, "looked for postgres", slog.String("source", string(source)), slog.Int("found", found))
}

// downloadable is the version to fetch: that of the data where there is some.
func (c Config) downloadable(ctx context.Context, dataMajor int) (binaries, error) {
	versions := downloads
	if c.download != "" {
		versions = []embeddedpostgres.PostgresVersion{embeddedpostgres.PostgresVersion(c.download)}
	}
	for _, v := range versions {
		if major := majorOf(string(v)); dataMajor == 0 || major == dataMajor {
			c.Logger.InfoContext(ctx, "no postgres here, downloading one", slog.String("source", string(SourceDownload)),
				slog.String("version", string(v)))
			return binaries{version: string(v), major: major, source: SourceDownload}, nil
		}
	}
	return binaries{}, noPostgres(fmt.Sprintf("the data was made by Postgres %d, which is neither here nor offered for download", dataMajor))
}
