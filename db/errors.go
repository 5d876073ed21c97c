package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"countersign/approvals"
)

var (
	// ErrUnavailable means that the database could not be reached or is going down, or
	// that the store was closed.
	// Whether a write happened is unknown; repeating it with its key, or by its
	// version, is safe.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrOverloaded means that too many submits are waiting. Nothing was written.
	ErrOverloaded = errors.New("too many submits are waiting")
	// ErrKeyReused means that an Idempotency-Key was used before with another request.
	ErrKeyReused = errors.New("the Idempotency-Key was used with another request")
	// ErrKeyInProgress means that the first request with this key is still being written.
	ErrKeyInProgress = errors.New("the first request with this Idempotency-Key is still running")
	// errVersion means that a guarded update found another version: a bug, since the
	// row was locked.
	errVersion = errors.New("the ticket changed under its lock")
)

// QuotaError means that a caller has as many unfinished tickets as it may have. Nothing was
// written, and the key is free.
type QuotaError struct {
	// Open is how many it may have.
	Open int
}

// Error says so.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("the caller has the %d unfinished tickets that it may have", e.Open)
}

func notFound() error {
	return &approvals.Error{Code: approvals.CodeNotFound, Message: "there is no such ticket"}
}

// classify marks errors of the connection as ErrUnavailable and a missing row as not
// found; others pass.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return notFound()
	case unavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// notMigrated recognises a database without our tables, or where the service's role has
// no way to them.
func notMigrated(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "42501")
}

func unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		// Whatever ended the session, connection exceptions, shutdown in its three forms,
		// too many connections, out of resources, read-only after a failover.
		// And whatever waited too long for a lock or a turn: nothing was written.
		return pg.SeverityUnlocalized == "FATAL" || pg.Code == "55P03" || pg.Code == "57014" || strings.HasPrefix(pg.Code, "08") ||
			strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "53") || pg.Code == "25006"
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) && !errors.Is(err, context.Canceled)
}

// retry repeats f when Postgres chose it as the victim of a deadlock or could not
// serialize it; both leave nothing behind.
func retry(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		var pg *pgconn.PgError
		if attempt == 3 || ctx.Err() != nil || !errors.As(err, &pg) || (pg.Code != "40001" && pg.Code != "40P01") {
			return err
		}
	}
}
