package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"countersign/migrations"
)

// Migrate brings the database up to the schema of this build and returns the versions
// before and after. It needs a login that may create tables and roles. Processes that
// migrate at the same time wait for each other.
func Migrate(ctx context.Context, url string) (from, to int, err error) {
	return MigrateTo(ctx, url, migrations.Latest)
}

// MigrateTo brings the database to a version, up or down; 0 takes everything away.
func MigrateTo(ctx context.Context, url string, version int) (from, to int, err error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, 0, fmt.Errorf("parse the database URL: %w", err)
	}
	conn := stdlib.OpenDB(*cfg)
	defer conn.Close() //nolint:errcheck // the work is done
	turn, err := wait(ctx, conn)
	if err != nil {
		return 0, 0, err
	}
	defer turn.Close() //nolint:errcheck // its session ends with conn, and the lock with it
	m, err := migrator(conn)
	if err != nil {
		return 0, 0, err
	}
	defer m.Close() //nolint:errcheck // likewise
	from, err = current(m)
	if err != nil {
		return 0, 0, err
	}
	if version == 0 {
		err = m.Down()
	} else if from < version || version != migrations.Latest {
		err = m.Migrate(uint(version))
	}
	if err != nil && !errors.Is(err, migrate.ErrNoChange) {
		if version < from {
			unmark(m)
		}
		return from, from, fmt.Errorf("migrate from %d to %d: %w", from, version, brief(err))
	}
	to, err = current(m)
	return from, to, err
}

// wait takes the lock of whoever migrates. The library's own covers a single run; looking
// at the version before it would see the mark of another process's step under way, and
// take it for a failure.
func wait(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtextextended('countersign/migrate', 0))`); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("wait for other migrations: %w", err)
	}
	return conn, nil
}

func migrator(conn *sql.DB) (*migrate.Migrate, error) {
	source, err := iofs.New(migrations.FS, ".")
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	target, err := pgxmigrate.WithInstance(conn, &pgxmigrate.Config{})
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", target)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return m, nil
}

// brief leaves out the text of the whole step, which the library puts into its errors.
func brief(err error) error {
	var step database.Error
	if errors.As(err, &step) && step.OrigErr != nil {
		return step.OrigErr
	}
	return err
}

// unmark takes back the mark of a failed step down, which is one transaction and has
// changed nothing: it may have been refused for what the schema before cannot hold.
func unmark(m *migrate.Migrate) {
	if below, dirty, err := m.Version(); err == nil && dirty {
		_ = m.Force(int(below) + 1) // where this fails, the mark stays and is told of
	}
}

// remedy is the statement that takes back the mark of a failed step up. Postgres runs a
// step as one transaction, with only the mark outside it; one that consists of several is
// written so that it can be run again.
func remedy(version int) string {
	if version <= 1 {
		return "DELETE FROM schema_migrations"
	}
	return fmt.Sprintf("UPDATE schema_migrations SET version = %d, dirty = false", version-1)
}

func current(m *migrate.Migrate) (int, error) {
	version, dirty, err := m.Version()
	switch {
	case errors.Is(err, migrate.ErrNilVersion):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read schema version: %w", err)
	case dirty:
		return 0, fmt.Errorf("the schema is marked dirty at version %d: that migration failed. A failed migration leaves "+
			"nothing behind that it could not take up again, so once its cause is gone, run %q and migrate again", version, remedy(int(version)))
	}
	return int(version), nil
}
