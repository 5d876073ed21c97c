package db

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// AppRole is the Postgres role as which the service acts. It owns nothing.
const AppRole = "countersign_app"

// PoolConfig says how to connect.
type PoolConfig struct {
	// URL is a Postgres connection string. Its login may be a member of countersign_app
	// (best), or the owner or a superuser: every connection then acts as countersign_app.
	URL string
	// MaxConns bounds the connections; 0 means 20.
	MaxConns int32
	// Logger: nil means slog.Default().
	Logger *slog.Logger
}

// Open connects to the database and makes every connection act as [AppRole], with
// bounded statements, locks and idle transactions. It fails when the database cannot be
// reached or the role is missing, which means that the database was never migrated.
func Open(ctx context.Context, c PoolConfig) (*pgxpool.Pool, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	cfg, err := pgxpool.ParseConfig(c.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the database URL: %w", err)
	}
	cfg.MaxConns = c.MaxConns
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 20
	}
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	for name, value := range map[string]string{
		"application_name": "countersign", "timezone": "UTC", "statement_timeout": "30s",
		"lock_timeout": "10s", "idle_in_transaction_session_timeout": "30s",
		// A peer that vanished without a word must not hold its locks for hours.
		"tcp_keepalives_idle": "15", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
	} {
		cfg.ConnConfig.RuntimeParams[name] = value
	}
	var once sync.Once
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error { return actAs(ctx, conn, &once, c.Logger) }
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// actAs drops whatever powers the login has.
func actAs(ctx context.Context, conn *pgx.Conn, once *sync.Once, log *slog.Logger) error {
	if _, err := conn.Exec(ctx, "SET ROLE "+AppRole); err != nil {
		return fmt.Errorf("act as role %s (run countersign migrate, and grant the role to the login): %w", AppRole, err)
	}
	var powerful bool
	err := conn.QueryRow(ctx, `SELECT r.rolsuper OR EXISTS (
		SELECT 1 FROM pg_class c WHERE c.relname = 'audit_events' AND pg_has_role(session_user, c.relowner, 'member'))
		FROM pg_roles r WHERE r.rolname = session_user`).Scan(&powerful)
	if err != nil {
		return fmt.Errorf("look at the login's powers: %w", err)
	}
	if powerful {
		once.Do(func() {
			log.InfoContext(ctx, "the database login owns the tables: acting as countersign_app, which does not; "+
				"in production give DATABASE_URL a login that is only a member of that role")
		})
	}
	return nil
}
