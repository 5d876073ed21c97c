package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SlackTokens is a pair of tokens as it is kept: sealed, under a key that the database does
// not hold.
type SlackTokens struct {
	Sealed []byte
	// Left is how long the access token is good for, by the database's clock, counted from
	// when it is read, or put. Negative: it has expired.
	Left time.Duration
}

// SlackTokens reads the present pair of an app. False: there is none yet.
func (s *Store) SlackTokens(ctx context.Context, app string) (SlackTokens, bool, error) {
	var t SlackTokens
	var seconds float64
	err := s.pool.QueryRow(ctx, `SELECT sealed, extract(epoch FROM expires_at - clock_timestamp())::float8 FROM slack_tokens WHERE app_id = $1`, app).
		Scan(&t.Sealed, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return SlackTokens{}, false, nil
	}
	if err != nil {
		return SlackTokens{}, false, classify(fmt.Errorf("read the tokens of an app: %w", err))
	}
	t.Left = time.Duration(seconds * float64(time.Second))
	return t, true, nil
}

// PutSlackTokens keeps a pair in the place of before, the sealed pair that it was made with,
// nil for none. False: another pair is there already.
func (s *Store) PutSlackTokens(ctx context.Context, app string, t SlackTokens, before []byte) (bool, error) {
	const until = `clock_timestamp() + $3 * interval '1 microsecond'`
	query := `UPDATE slack_tokens SET sealed = $2, expires_at = ` + until + `, updated_at = clock_timestamp() WHERE app_id = $1 AND sealed = $4`
	args := []any{app, t.Sealed, t.Left.Microseconds(), before}
	if before == nil {
		query, args = `INSERT INTO slack_tokens (app_id, sealed, expires_at) VALUES ($1, $2, `+until+`) ON CONFLICT (app_id) DO NOTHING`, args[:3]
	}
	tag, err := s.pool.Exec(ctx, query, args...)
	if err != nil {
		return false, classify(fmt.Errorf("keep the tokens of an app: %w", err))
	}
	return tag.RowsAffected() == 1, nil
}
