package db

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// KeepRendering keeps what people are shown of a ticket when they can decide on it, 2 bytes
// to 16 MiB of JSON, and returns its SHA-256 in hex, by which it is found again. Keeping it
// twice does no harm.
func (s *Store) KeepRendering(ctx context.Context, ticketID string, body []byte) (hash string, err error) {
	sum := sha256.Sum256(body)
	hash = hex.EncodeToString(sum[:])
	_, err = s.pool.Exec(ctx, `INSERT INTO slack_renderings (hash, ticket_id, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		hash, ticketID, body)
	if err != nil {
		return "", classify(fmt.Errorf("keep what is shown of ticket %s: %w", ticketID, err))
	}
	return hash, nil
}

// Rendering reads what was shown, by its SHA-256 in hex. CodeNotFound for what was never
// kept.
func (s *Store) Rendering(ctx context.Context, hash string) (body []byte, err error) {
	err = s.pool.QueryRow(ctx, `SELECT body FROM slack_renderings WHERE hash = $1`, hash).Scan(&body)
	return body, classify(err)
}
