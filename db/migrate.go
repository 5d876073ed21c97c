package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
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
	if err := conn.PingContext(ctx); err != nil {
		_ = conn.Close()
		return 0, 0, fmt.Errorf("connect to the database: %w", err)
	}
	m, err := migrator(conn)
	if err != nil {
		_ = conn.Close()
		return 0, 0, err
	}
	defer m.Close() //nolint:errcheck // closes conn; the work is done
	from, err = current(m)
	if err != nil {
		return 0, 0, err
	}
	if version == 0 {
		err = m.Down()
	} else if from < version || version != migrations.Latest {
		err = m.Migrate(uint(version)) //nolint:gosec // versions are small
	}
	if err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return from, from, fmt.Errorf("migrate from %d to %d: %w", from, version, err)
	}
	to, err = current(m)
	return from, to, err
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

func current(m *migrate.Migrate) (int, error) {
	version, dirty, err := m.Version()
	switch {
	case errors.Is(err, migrate.ErrNilVersion):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("read schema version: %w", err)
	case dirty:
		return 0, fmt.Errorf("the schema is marked dirty at version %d: a migration failed half-way; "+
			"repair it by hand, then set schema_migrations.dirty to false", version)
	}
	return int(version), nil //nolint:gosec // versions are small
}
