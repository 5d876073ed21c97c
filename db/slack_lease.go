package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// HoldLease gives a task of which there is one over all processes to holder for a while, or
// prolongs that. False: somebody else has it. The clock is the database's.
func (s *Store) HoldLease(ctx context.Context, task, holder string, lease time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO slack_state AS s (name, holder, lease_until) VALUES ($1, $2, clock_timestamp() + $3::interval)
		ON CONFLICT (name) DO UPDATE SET holder = $2, lease_until = clock_timestamp() + $3::interval
		WHERE s.holder = $2 OR s.lease_until IS NULL OR s.lease_until < clock_timestamp()`, task, holder, lease)
	if err != nil {
		return false, classify(fmt.Errorf("hold the lease of %s: %w", task, err))
	}
	return tag.RowsAffected() == 1, nil
}

// LeaveLease gives a task back, so that the next need not wait until the lease ends.
func (s *Store) LeaveLease(ctx context.Context, task, holder string) error {
	_, err := s.pool.Exec(ctx, `UPDATE slack_state SET lease_until = NULL, holder = '' WHERE name = $1 AND holder = $2`, task, holder)
	return classify(err)
}

// SenderStatus is what the sender says of itself.
type SenderStatus struct {
	// Open: nothing is sent to Slack, because of Reason, since Since. The next look is at
	// ProbeAt. Zero: all is well as far as is known.
	Open    bool      `json:"open"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	ProbeAt time.Time `json:"probe_at,omitzero"`
}

// senderTask is the name of the sender's row, besides which its status stands.
const senderTask = "sender"

// HoldSender is [Store.HoldLease] of sending to Slack.
func (s *Store) HoldSender(ctx context.Context, holder string, lease time.Duration) (bool, error) {
	return s.HoldLease(ctx, senderTask, holder, lease)
}

// LeaveSender is [Store.LeaveLease] of sending to Slack.
func (s *Store) LeaveSender(ctx context.Context, holder string) error {
	return s.LeaveLease(ctx, senderTask, holder)
}

// PutSenderStatus notes how sending goes. It changes nothing when holder is not the sender.
func (s *Store) PutSenderStatus(ctx context.Context, holder string, status SenderStatus) error {
	value, err := json.Marshal(status)
	if err != nil {
		return fmt.Errorf("encode the sender's status: %w", err)
	}
	_, err = s.pool.Exec(ctx, `UPDATE slack_state SET value = $3 WHERE name = $1 AND holder = $2`, senderTask, holder, value)
	return classify(err)
}

// SenderStatus reads how sending to Slack goes. alive is false when no process has the task.
func (s *Store) SenderStatus(ctx context.Context) (status SenderStatus, alive bool, err error) {
	err = s.pool.QueryRow(ctx, `SELECT value, coalesce(lease_until > clock_timestamp(), false) FROM slack_state WHERE name = $1`,
		senderTask).Scan(&status, &alive)
	if errors.Is(err, pgx.ErrNoRows) {
		return SenderStatus{}, false, nil
	}
	return status, alive, classify(err)
}
