package db

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// CardKind says what a card is for.
type CardKind string

const (
	// CardStage shows a stage to those who decide.
	CardStage CardKind = "card"
	// CardAnswer shows a question to one of those who asked for the call.
	CardAnswer CardKind = "answer"
	// CardPersonal is what one person sees of a ticket on their home tab or by a command.
	// It is no message.
	CardPersonal CardKind = "personal"
)

// Card is a place in Slack that shows a ticket. Its handle is all that a button carries.
type Card struct {
	Handle   string
	TicketID string
	Stage    int
	Kind     CardKind
	// SlackUser is whose alone it is; empty: everybody's who may decide.
	SlackUser string
	// Channel is where it was to go, or for what is no message of its own there, a word that
	// tells it from the others of its stage.
	Channel string
	// Digest is the request digest of what it shows: what a click on it is bound to.
	Digest string
	// PostedTo is the id of the conversation where it is, TS its message there; both are
	// empty until it is posted.
	PostedTo string
	TS       string
	// Shown is the ticket version last rendered, Desired the one that should be. What shows
	// more than was asked for is current too.
	Shown   int64
	Desired int64
	// Rendered is the SHA-256 of what it shows, as Slack confirmed it, in hex; empty while
	// that cannot be decided on.
	Rendered string
	// Frozen is why it can never be updated again; empty: it can.
	Frozen string
}

const cardColumns = `handle, ticket_id, stage, kind, slack_user, channel, digest, posted_to, ts, shown, desired, rendered, frozen`

// prefixed are the columns of cards where they are called c.
func prefixed(columns string) string { return "c." + strings.ReplaceAll(columns, ", ", ", c.") }

func (c *Card) targets() []any {
	return []any{
		&c.Handle, &c.TicketID, &c.Stage, &c.Kind, &c.SlackUser, &c.Channel, &c.Digest, &c.PostedTo, &c.TS,
		&c.Shown, &c.Desired, &c.Rendered, &c.Frozen,
	}
}

func scanCard(r pgx.CollectableRow) (Card, error) {
	var c Card
	err := r.Scan(c.targets()...)
	return c, err
}

// NewCard is a card to prepare. The ticket, stage and channel make it that card.
type NewCard struct {
	TicketID string
	Stage    int
	// Kind: zero means CardStage.
	Kind    CardKind
	Channel string
	// SlackUser is required of every kind but CardStage, where zero means everybody who may
	// decide.
	SlackUser string
	Digest    string
}

// errOtherCard keeps a handle from changing hands.
var errOtherCard = errors.New("there is a card of that ticket, stage and channel for another purpose")

// PrepareCard returns a card, making its handle the first time. A card that was posted, or
// may have been, keeps its handle. It is an error to ask for one that was prepared as
// another kind or for somebody else.
func (s *Store) PrepareCard(ctx context.Context, n NewCard) (Card, error) {
	n.Kind = cmp.Or(n.Kind, CardStage)
	var b [16]byte
	rand.Read(b[:])
	rows, err := s.pool.Query(ctx, `INSERT INTO cards (handle, ticket_id, stage, kind, channel, slack_user, digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (ticket_id, stage, channel) DO UPDATE SET shown = cards.shown
		RETURNING `+cardColumns, "h_"+hex.EncodeToString(b[:]), n.TicketID, n.Stage, n.Kind, n.Channel, n.SlackUser, n.Digest)
	if err != nil {
		return Card{}, classify(fmt.Errorf("prepare card: %w", err))
	}
	c, err := pgx.CollectExactlyOneRow(rows, scanCard)
	if err == nil && (c.Kind != n.Kind || c.SlackUser != n.SlackUser) {
		return Card{}, fmt.Errorf("prepare card: %w", errOtherCard)
	}
	return c, classify(err)
}

// WantCards asks for the cards of a ticket, and their copies, to show at least version.
func (s *Store) WantCards(ctx context.Context, ticketID string, version int64) error {
	b := &pgx.Batch{}
	b.Queue(`UPDATE cards SET desired = $2, due_at = clock_timestamp() WHERE ticket_id = $1 AND desired < $2`, ticketID, version)
	b.Queue(`UPDATE card_copies k SET desired = $2, due_at = clock_timestamp() FROM cards c
		WHERE c.handle = k.handle AND c.ticket_id = $1 AND k.desired < $2`, ticketID, version)
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return classify(fmt.Errorf("want cards of %s at version %d: %w", ticketID, version, err))
	}
	return nil
}

// CardPosted notes where a card is.
func (s *Store) CardPosted(ctx context.Context, handle, conversation, ts string, version int64) error {
	_, err := s.pool.Exec(ctx, `UPDATE cards SET posted_to = $2, ts = $3, shown = greatest(shown, $4) WHERE handle = $1`,
		handle, conversation, ts, version)
	return classify(err)
}

// CardShown notes that a card shows a version of its ticket, and the hash of what it shows;
// an older version than it shows changes nothing.
func (s *Store) CardShown(ctx context.Context, handle string, version int64, rendered string) error {
	_, err := s.pool.Exec(ctx, `UPDATE cards SET shown = $2, rendered = $3 WHERE handle = $1 AND shown <= $2`,
		handle, version, rendered)
	return classify(err)
}

// maxCopies bounds how many messages one card may have besides its own. There is one for
// each lost answer of Slack's; more are somebody's who makes them up.
const maxCopies = 10

// ErrCopies means that a card has as many copies as one can have.
var ErrCopies = errors.New("the card has too many copies")

// AdoptCopy notes that a card is at a place where it was not known to be, because Slack's
// answer to its post was lost: it is updated there from now on. Of a card whose place is not
// known at all this is the place. A place that is known changes nothing. The card is one that
// exists; ErrCopies when it has ten copies.
func (s *Store) AdoptCopy(ctx context.Context, handle, channel, ts string) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return adopt(ctx, tx, handle, channel, ts, 0) })
	if err != nil {
		return classify(fmt.Errorf("adopt a copy of card %s: %w", handle, err))
	}
	return nil
}

// adopt adds a place of a card, which shows a version of the ticket; 0 for not known.
func adopt(ctx context.Context, tx pgx.Tx, handle, channel, ts string, shown int64) error {
	var at, known string
	var copies int
	err := tx.QueryRow(ctx, `SELECT posted_to, ts FROM cards WHERE handle = $1 FOR NO KEY UPDATE`, handle).Scan(&at, &known)
	switch {
	case err != nil:
		return err
	case known == "":
		_, err = tx.Exec(ctx, `UPDATE cards SET posted_to = $2, ts = $3, shown = $4, desired = greatest(desired, 1), due_at = clock_timestamp()
			WHERE handle = $1`, handle, channel, ts, shown)
		return err
	case at == channel && known == ts:
		return nil
	}
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM card_copies WHERE handle = $1 AND (channel, ts) <> ($2, $3)`,
		handle, channel, ts).Scan(&copies); err != nil {
		return err
	}
	if copies >= maxCopies {
		return ErrCopies
	}
	_, err = tx.Exec(ctx, `INSERT INTO card_copies (handle, channel, ts, shown, desired)
		SELECT handle, $2, $3, $4, greatest(desired, shown, 1) FROM cards WHERE handle = $1 ON CONFLICT DO NOTHING`, handle, channel, ts, shown)
	return err
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

// Place is a message that shows a card: its own, or a copy of it.
type Place struct {
	Card Card
	// Copy: it is not the card's own message.
	Copy bool
	// Channel and TS are where it is.
	Channel, TS string
	// Attempts is how often in a row it has been tried to update it, this time included.
	Attempts int
	// Lease is until when it is whose claim this is, and what tells this claim from others.
	Lease time.Time
	// Frozen is why it can never be updated again; empty: it can.
	Frozen string
	// Final: nothing will happen to the ticket any more.
	Final bool
}

// places are both kinds of messages in one form.
const places = `
	SELECT c.handle, false AS copy, c.posted_to AS place, c.ts AS at, c.desired AS want, c.shown AS has, c.due_at AS due,
		c.lease_until AS lease, c.attempts AS tries, c.frozen AS why FROM cards c WHERE c.desired > c.shown AND c.ts <> ''
	UNION ALL SELECT k.handle, true, k.channel, k.ts, k.desired, k.shown, k.due_at, k.lease_until, k.attempts, k.frozen
		FROM card_copies k WHERE k.desired > k.shown`

// DuePlaces lists messages that show an older version than they should, those of finished
// tickets first, then those that wait longest; without those that somebody is updating.
func (s *Store) DuePlaces(ctx context.Context, limit int) ([]Place, error) {
	rows, err := s.pool.Query(ctx, `SELECT p.copy, p.place, p.at, p.tries, p.why, t.finished_at IS NOT NULL, `+prefixed(cardColumns)+`
		FROM (`+places+`) p JOIN cards c ON c.handle = p.handle JOIN tickets t ON t.id = c.ticket_id
		WHERE p.due <= clock_timestamp() AND (p.lease IS NULL OR p.lease < clock_timestamp())
		ORDER BY t.finished_at IS NULL, p.due LIMIT $1`, limit)
	if err != nil {
		return nil, classify(fmt.Errorf("list cards to update: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Place, error) {
		var p Place
		err := r.Scan(append([]any{&p.Copy, &p.Channel, &p.TS, &p.Attempts, &p.Frozen, &p.Final}, p.Card.targets()...)...)
		return p, err
	})
	return out, classify(err)
}

// ClaimPlace leases a message, so that nobody else updates it meanwhile. False: somebody else
// has, or there is nothing left to do.
func (s *Store) ClaimPlace(ctx context.Context, p Place, lease time.Duration) (Place, bool, error) {
	err := s.pool.QueryRow(ctx, `UPDATE `+p.table()+` SET lease_until = clock_timestamp() + $4::interval, attempts = attempts + 1
		WHERE `+p.where()+` AND desired > shown AND (lease_until IS NULL OR lease_until < clock_timestamp())
		RETURNING attempts, lease_until, desired`, p.Card.Handle, p.Channel, p.TS, lease).Scan(&p.Attempts, &p.Lease, &p.Card.Desired)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, classify(err)
}

// PlaceShown notes that a claimed message shows a version of its ticket, and the hash of
// what it shows, and gives it back. Whoever was so late that the message was claimed anew
// may have put an older version over a newer one: it is owed again.
func (s *Store) PlaceShown(ctx context.Context, p Place, version int64, rendered string) error {
	hash, args := `, rendered = $6`, []any{p.Card.Handle, p.Channel, p.TS, p.Lease, version, rendered}
	if p.Copy {
		hash, args = ``, args[:5]
	}
	tag, err := s.pool.Exec(ctx, `UPDATE `+p.table()+` SET shown = greatest(shown, $5), attempts = 0, lease_until = NULL`+hash+`
		WHERE `+p.where()+` AND lease_until = $4`, args...)
	if err == nil && tag.RowsAffected() == 0 {
		_, err = s.pool.Exec(ctx, `UPDATE `+p.table()+` SET desired = greatest(desired, shown, $4),
			shown = least(shown, greatest(desired, shown, $4) - 1), due_at = clock_timestamp()
			WHERE `+p.where(), p.Card.Handle, p.Channel, p.TS, version)
	}
	return classify(err)
}

// PlaceLater gives a claimed message back, to be tried again after a while.
func (s *Store) PlaceLater(ctx context.Context, p Place, wait time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE `+p.table()+` SET lease_until = NULL, due_at = clock_timestamp() + $5::interval
		WHERE `+p.where()+` AND lease_until = $4`, p.Card.Handle, p.Channel, p.TS, p.Lease, wait)
	return classify(err)
}

// FreezePlace notes that a claimed message can never be updated again, and why. What it was
// to show stays owed, so that whoever looks after it can say it in another way; that done,
// [Store.PlaceShown] settles it.
func (s *Store) FreezePlace(ctx context.Context, p Place, reason string) error {
	_, err := s.pool.Exec(ctx, `UPDATE `+p.table()+` SET lease_until = NULL, frozen = left($5, 200), due_at = clock_timestamp()
		WHERE `+p.where()+` AND lease_until = $4`, p.Card.Handle, p.Channel, p.TS, p.Lease, reason)
	return classify(err)
}

func (p Place) table() string {
	if p.Copy {
		return `card_copies`
	}
	return `cards`
}

// where takes the place as the first three arguments.
func (p Place) where() string {
	if p.Copy {
		return `handle = $1 AND channel = $2 AND ts = $3`
	}
	return `handle = $1 AND posted_to = $2 AND ts = $3`
}
