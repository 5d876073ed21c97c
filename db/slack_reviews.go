package db

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Review is the full view of a call that somebody has open in Slack.
type Review struct {
	// Handle is all that its buttons and its modal carry. Made by [Store.OpenReview].
	Handle string
	// Card is the handle of the card that it was opened from.
	Card     string
	TicketID string
	// Stage is that of the ticket when it was opened.
	Stage int
	// Digest is the request digest of what it shows.
	Digest string
	// Person opened it, as this Slack user of that team. It is nobody else's.
	Person, SlackTeam, SlackUser string
	// Pages is how many there are, Page the one that is shown, Seen the last that was: both
	// begin at 1.
	Pages, Page, Seen int
	// Rendered is the SHA-256 of all pages; see [Store.KeepRendering].
	Rendered string
}

const reviewColumns = `handle, card, ticket_id, stage, digest, person, slack_team, slack_user, pages, page, seen, rendered`

// OpenReview notes that somebody is shown the first page of a call, and returns it with its
// handle.
func (s *Store) OpenReview(ctx context.Context, r Review) (Review, error) {
	var b [16]byte
	rand.Read(b[:])
	rows, err := s.pool.Query(ctx, `INSERT INTO slack_reviews
		(handle, card, ticket_id, stage, digest, person, slack_team, slack_user, pages, rendered)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING `+reviewColumns,
		"v_"+hex.EncodeToString(b[:]), r.Card, r.TicketID, r.Stage, r.Digest, r.Person, r.SlackTeam, r.SlackUser, r.Pages, r.Rendered)
	if err != nil {
		return Review{}, classify(fmt.Errorf("open review: %w", err))
	}
	r, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Review])
	return r, classify(err)
}

// ReviewByHandle finds a review. CodeNotFound for a handle that was never given out.
func (s *Store) ReviewByHandle(ctx context.Context, handle string) (Review, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+reviewColumns+` FROM slack_reviews WHERE handle = $1`, handle)
	if err != nil {
		return Review{}, classify(fmt.Errorf("read review: %w", err))
	}
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Review])
	return r, classify(err)
}

// TurnPage notes that the page after or before the one shown is in front of its reader now,
// and returns the review as it is. Nobody skips a page: of a turn that is not by one, or
// that somebody else noted first, it changes nothing.
func (s *Store) TurnPage(ctx context.Context, handle string, from, to int) (Review, error) {
	_, err := s.pool.Exec(ctx, `UPDATE slack_reviews SET page = $3, seen = greatest(seen, $3)
		WHERE handle = $1 AND page = $2 AND abs($3 - $2) = 1 AND $3 BETWEEN 1 AND pages`, handle, from, to)
	if err != nil {
		return Review{}, classify(fmt.Errorf("turn page: %w", err))
	}
	return s.ReviewByHandle(ctx, handle)
}
