package db

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// Card is where a stage of a ticket is shown in Slack. Its handle is all that a button
// carries.
type Card struct {
	Handle   string
	TicketID string
	Stage    int
	// Channel is where it was to go.
	Channel string
	// Digest is the request digest of what it shows: what a click on it is bound to.
	Digest string
	// PostedTo is the id of the conversation where it is, TS its message there; both are
	// empty until it is posted.
	PostedTo string
	TS       string
	// Shown is the ticket version last rendered.
	Shown int64
}

const cardColumns = `handle, ticket_id, stage, channel, digest, posted_to, ts, shown`

func scanCard(r pgx.CollectableRow) (Card, error) {
	var c Card
	err := r.Scan(&c.Handle, &c.TicketID, &c.Stage, &c.Channel, &c.Digest, &c.PostedTo, &c.TS, &c.Shown)
	return c, err
}

// PrepareCard returns the card for a stage in a channel, making its handle the first
// time. A card that was posted, or may have been, keeps its handle.
func (s *Store) PrepareCard(ctx context.Context, ticketID string, stage int, channel, digest string) (Card, error) {
	var b [16]byte
	rand.Read(b[:])
	rows, err := s.pool.Query(ctx, `INSERT INTO cards (handle, ticket_id, stage, channel, digest) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (ticket_id, stage, channel) DO UPDATE SET shown = cards.shown
		RETURNING `+cardColumns, "h_"+hex.EncodeToString(b[:]), ticketID, stage, channel, digest)
	if err != nil {
		return Card{}, classify(fmt.Errorf("prepare card: %w", err))
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCard)
	return c, classify(err)
}

// CardPosted notes where a card is.
func (s *Store) CardPosted(ctx context.Context, handle, conversation, ts string, version int64) error {
	_, err := s.pool.Exec(ctx, `UPDATE cards SET posted_to = $2, ts = $3, shown = greatest(shown, $4) WHERE handle = $1`,
		handle, conversation, ts, version)
	return classify(err)
}

// CardShown notes that a card shows a version of its ticket.
func (s *Store) CardShown(ctx context.Context, handle string, version int64) error {
	_, err := s.pool.Exec(ctx, `UPDATE cards SET shown = greatest(shown, $2) WHERE handle = $1`, handle, version)
	return classify(err)
}

// Cards lists the cards of a ticket by stage.
func (s *Store) Cards(ctx context.Context, ticketID string) ([]Card, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+cardColumns+` FROM cards WHERE ticket_id = $1 ORDER BY stage, created_at`, ticketID)
	if err != nil {
		return nil, classify(fmt.Errorf("list cards: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanCard)
	return out, classify(err)
}

// CardByHandle finds the card a button belongs to. CodeNotFound for a handle that was
// never given out.
func (s *Store) CardByHandle(ctx context.Context, handle string) (Card, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+cardColumns+` FROM cards WHERE handle = $1`, handle)
	if err != nil {
		return Card{}, classify(fmt.Errorf("read card: %w", err))
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCard)
	return c, classify(err)
}

// TakeInbound claims a signed request from Slack. False means that it was taken before:
// a replay, to be ignored.
func (s *Store) TakeInbound(ctx context.Context, replayKey string) (bool, error) {
	tag, err := s.pool.Exec(ctx, `INSERT INTO slack_inbound (replay_key) VALUES ($1) ON CONFLICT DO NOTHING`, replayKey)
	return tag.RowsAffected() == 1, classify(err)
}

// Delivery is a callback that is owed.
type Delivery struct {
	TicketID  string
	Seq       int64
	MessageID string
	EventType approvals.EventType
	URL       string
	Payload   []byte
	State     approvals.CallbackState
	Attempts  int
}

// Delivery reads a delivery with the bytes to send. CodeNotFound when there is none.
func (s *Store) Delivery(ctx context.Context, ticketID string, seq int64) (Delivery, error) {
	var d Delivery
	err := s.pool.QueryRow(ctx, `SELECT ticket_id, seq, message_id, event_type, url, payload, state, attempts
		FROM deliveries WHERE ticket_id = $1 AND seq = $2`, ticketID, seq).
		Scan(&d.TicketID, &d.Seq, &d.MessageID, &d.EventType, &d.URL, &d.Payload, &d.State, &d.Attempts)
	return d, classify(err)
}
