package embedded

import (
	"errors"
	"fmt"
)

var (
	// ErrInUse reports that another process uses the directory.
	ErrInUse = errors.New("directory in use")
	// ErrVersion reports data of another major version than the Postgres found. The data has not been touched.
	ErrVersion = errors.New("version mismatch")
	// ErrNoPostgres reports that no Postgres was found and none could be downloaded; its text lists the ways out.
	ErrNoPostgres = errors.New("no postgres found")
)

// WaysOut tells an operator without a database what to do. ErrNoPostgres carries it.
const WaysOut = `There are four ways out:
  1. set DATABASE_URL to a running Postgres 14 or newer;
  2. set EMBEDDED_PG_BIN to a directory that holds postgres, initdb and pg_ctl, version 14 or newer;
  3. install Postgres: apt-get install postgresql, brew install postgresql@17, or scripts/ensure-postgres in this repository;
  4. let this machine reach Maven Central once: Postgres is then downloaded and kept.`

func noPostgres(reason string) error {
	return fmt.Errorf("%w: %s\n%s", ErrNoPostgres, reason, WaysOut)
}
