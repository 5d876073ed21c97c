package db

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"countersign/approvals"
	"countersign/envelope"
)

// What is stored encrypted, by the names that its ciphertext is bound to.
const (
	fieldResult  = "result"
	fieldPayload = "payload"
)

// seal encrypts a field of an event of a ticket.
func (s *Store) seal(plain []byte, ticketID, field string, seq int64) ([]byte, error) {
	sealed, err := s.box.Seal(plain, ticketID, field, strconv.FormatInt(seq, 10))
	if err != nil {
		return nil, fmt.Errorf("seal the %s of ticket %s: %w", field, ticketID, err)
	}
	return sealed, nil
}

// open decrypts what seal made for the same field of the same event.
func (s *Store) open(sealed []byte, ticketID, field string, seq int64) ([]byte, error) {
	plain, err := s.box.Open(sealed, ticketID, field, strconv.FormatInt(seq, 10))
	if err != nil {
		return nil, fmt.Errorf("open the %s of ticket %s: %w", field, ticketID, err)
	}
	return plain, nil
}

// sealResult encrypts what an upstream said: header fields, in JSON behind their length, and
// the body as it came.
func (s *Store) sealResult(ticketID string, seq int64, r approvals.Result) ([]byte, error) {
	fields, err := json.Marshal(headers(r.Headers))
	if err != nil {
		return nil, fmt.Errorf("render the headers of a result: %w", err)
	}
	plain := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(fields)+len(r.Body)), uint32(len(fields))) //nolint:gosec // bounded by egress
	plain = append(append(plain, fields...), r.Body...)
	return s.seal(plain, ticketID, fieldResult, seq)
}

// openResult puts into r what sealResult encrypted.
func (s *Store) openResult(sealed []byte, ticketID string, seq int64, r *approvals.Result) error {
	plain, err := s.open(sealed, ticketID, fieldResult, seq)
	if err != nil {
		return err
	}
	if len(plain) < 4 {
		return envelope.ErrSealed
	}
	n := uint64(binary.BigEndian.Uint32(plain))
	if n > uint64(len(plain)-4) { //nolint:gosec // at least 4, as was just made sure
		return envelope.ErrSealed
	}
	if err := json.Unmarshal(plain[4:4+n], &r.Headers); err != nil {
		return fmt.Errorf("read the headers of a result: %w", err)
	}
	r.Body = plain[4+n:]
	return nil
}

// checkText is what encryption_check holds, encrypted for checkPlace.
const (
	checkText  = "countersign"
	checkPlace = "encryption_check"
)

// ErrKeys says that the database was written under other keys.
var ErrKeys = errors.New("the keyset is not the one that this database was written with, or a key of it is missing: " +
	"give the service the keyset it had (a new key is added to it with: countersign keys encryption --rotate)")

// CheckKeys makes sure that what the database holds encrypted was encrypted under keys that
// this process has: by a known text, which the first start leaves there. ErrKeys when not.
func (s *Store) CheckKeys(ctx context.Context) error {
	sealed, err := s.box.Seal([]byte(checkText), checkPlace)
	if err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, `INSERT INTO encryption_check (id, sealed) VALUES (1, $1) ON CONFLICT DO NOTHING`, sealed); err != nil {
		return classify(fmt.Errorf("leave a text to check the keys by: %w", err))
	}
	return CheckKeys(ctx, s.pool, s.box)
}

// CheckKeys is Store.CheckKeys for who only looks: it leaves nothing, and any keys fit a
// database in which nobody has left anything yet.
func CheckKeys(ctx context.Context, pool *pgxpool.Pool, box *envelope.Box) error {
	var sealed []byte
	err := pool.QueryRow(ctx, `SELECT sealed FROM encryption_check WHERE id = 1`).Scan(&sealed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return classify(fmt.Errorf("read the text to check the keys by: %w", err))
	}
	if text, err := box.Open(sealed, checkPlace); err != nil || string(text) != checkText {
		return ErrKeys
	}
	return nil
}
