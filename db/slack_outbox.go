package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// PostKind says what a post holds.
type PostKind string

const (
	// PostCard is the card of a stage.
	PostCard PostKind = "card"
	// PostNote goes below a card.
	PostNote PostKind = "note"
	// PostAnnouncement goes to a room that is told of something.
	PostAnnouncement PostKind = "announcement"
	// PostQuestion asks somebody for an answer; it is a card too.
	PostQuestion PostKind = "question"
	// PostOutcome tells somebody what became of their request.
	PostOutcome PostKind = "outcome"
	// PostNotice says below a card that can never be updated again how its ticket ended.
	PostNotice PostKind = "notice"
)

// IsCard reports whether a post of this kind is the message of the card it names, and not
// merely one that has to do with it.
func (k PostKind) IsCard() bool { return k == PostCard || k == PostQuestion }

// PostState says how far a post is. It is the sender's move in the first three.
type PostState string

const (
	// PostQueued is to be sent.
	PostQueued PostState = "queued"
	// PostSending is being sent by somebody.
	PostSending PostState = "sending"
	// PostUnknown may have been sent: it is looked for before it is sent again.
	PostUnknown PostState = "unknown"
	// PostSent is in Slack, and it is known where.
	PostSent PostState = "sent"
	// PostDead never will be: Slack does not take it.
	PostDead PostState = "dead"
	// PostDropped was not sent because there was no point any more.
	PostDropped PostState = "dropped"
)

// Post is a message that is owed to Slack, was sent, or was given up.
type Post struct {
	// ID is random when zero. It travels with the message, where everybody can read it.
	ID uuid.UUID
	// Name makes it that message: a second post of the same name is the same, 1 to 300 bytes.
	Name string
	// TicketID is the ticket it tells of, Seq the event; zero: none.
	TicketID string
	Seq      int64
	Kind     PostKind
	// Handle is the card that it is, or has to do with; see [PostKind.IsCard]. Zero: none.
	Handle string
	// Destination is a channel, by id or #name, or a person, by id.
	Destination string
	// Priority 1 goes first, 9 last.
	Priority int
	// State: zero means PostQueued, the only one a new post can have.
	State PostState
	// Attempts is how often it was taken up, and what tells whoever did so last from those
	// before.
	Attempts int
	// DueAt is when it is next to be seen to. Zero, of a new post: at once.
	DueAt time.Time
	// SentFrom is when it was first sent, SentLast when it was sent last; zero for never.
	SentFrom, SentLast time.Time
	// Channel and TS are where it is, once it is known.
	Channel, TS string
	// Reason is why it is where it is, at most 500 bytes; empty when there is nothing to say.
	Reason string
}

const postColumns = `id, name, coalesce(ticket_id, ''), coalesce(seq, 0), kind, coalesce(handle, ''), destination, priority,
	state, attempts, due_at, coalesce(sent_from, 'epoch'), coalesce(sent_last, 'epoch'), channel, ts, reason`

func scanPost(r pgx.CollectableRow) (Post, error) {
	var p Post
	err := r.Scan(&p.ID, &p.Name, &p.TicketID, &p.Seq, &p.Kind, &p.Handle, &p.Destination, &p.Priority,
		&p.State, &p.Attempts, &p.DueAt, &p.SentFrom, &p.SentLast, &p.Channel, &p.TS, &p.Reason)
	p.DueAt, p.SentFrom, p.SentLast = p.DueAt.UTC(), orZero(p.SentFrom), orZero(p.SentLast)
	return p, err
}

// orZero undoes the epoch that stands for null.
func orZero(t time.Time) time.Time {
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t.UTC()
}

// QueuePosts adds what is owed to Slack, all or none of it. A post of a name that is there
// already changes nothing, whatever has become of that one.
func (s *Store) QueuePosts(ctx context.Context, posts []Post) error {
	if len(posts) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, p := range posts {
		if p.ID == uuid.Nil {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("make an id: %w", err)
			}
			p.ID = id
		}
		b.Queue(`INSERT INTO slack_outbox (id, name, ticket_id, seq, kind, handle, destination, priority, due_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, clock_timestamp())) ON CONFLICT (name) DO NOTHING`,
			p.ID, p.Name, nullText(p.TicketID), nullNumber(p.Seq), p.Kind, nullText(p.Handle), p.Destination, p.Priority, null(p.DueAt))
	}
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return classify(fmt.Errorf("queue posts: %w", err))
	}
	return nil
}

func nullNumber(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// PostsOf lists the posts of a ticket in the order in which they were queued, at most 1000.
func (s *Store) PostsOf(ctx context.Context, ticketID string) ([]Post, error) {
	return s.posts(ctx, `WHERE ticket_id = $1 ORDER BY created_at, name LIMIT 1000`, ticketID)
}

// DuePosts lists posts that are to be seen to, those of higher priority first and at most
// each of them for every destination, so that one that takes long keeps none of the others
// from their turn. Posts below a card wait until that is in Slack, or never will be.
func (s *Store) DuePosts(ctx context.Context, each, limit int) ([]Post, error) {
	return s.posts(ctx, `JOIN (
			SELECT id AS turn_of, row_number() OVER (PARTITION BY destination ORDER BY priority, created_at, seq, name) AS turn
			FROM slack_outbox o WHERE state IN ('queued', 'unknown') AND due_at <= clock_timestamp() AND (
				kind NOT IN ('note', 'notice') OR handle IS NULL OR NOT EXISTS (
					SELECT FROM slack_outbox c WHERE c.handle = o.handle AND c.ticket_id = o.ticket_id
					AND c.kind IN ('card', 'question') AND c.state IN ('queued', 'sending', 'unknown')))) q ON q.turn_of = id
		WHERE turn <= $1 ORDER BY priority, created_at, seq, name LIMIT $2`, each, limit)
}

func (s *Store) posts(ctx context.Context, which string, args ...any) ([]Post, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+postColumns+` FROM slack_outbox `+which, args...)
	if err != nil {
		return nil, classify(fmt.Errorf("list posts: %w", err))
	}
	out, err := pgx.CollectRows(rows, scanPost)
	return out, classify(err)
}

// ClaimPost takes up a post that is due, to send it: from then on until the lease ends it is
// nobody else's, and after that it may have been sent. False: somebody else has taken it up,
// or it is not due any more.
//
// A one-way door: whoever gets true owes a SentPost, a ReturnPost or a GiveUpPost.
func (s *Store) ClaimPost(ctx context.Context, p Post, lease time.Duration) (Post, bool, error) {
	rows, err := s.pool.Query(ctx, `UPDATE slack_outbox SET state = 'sending', lease_until = clock_timestamp() + $3::interval,
			attempts = attempts + 1, sent_from = coalesce(sent_from, clock_timestamp()), sent_last = clock_timestamp()
		WHERE id = (SELECT id FROM slack_outbox WHERE id = $1 AND attempts = $2 AND state IN ('queued', 'unknown')
			AND due_at <= clock_timestamp() FOR UPDATE SKIP LOCKED)
		RETURNING `+postColumns, p.ID, p.Attempts, lease)
	if err != nil {
		return p, false, classify(fmt.Errorf("claim post: %w", err))
	}
	claimed, err := pgx.CollectExactlyOneRow(rows, scanPost)
	if errors.Is(err, pgx.ErrNoRows) {
		return p, false, nil
	}
	return claimed, err == nil, classify(err)
}

// ReturnPost says that a post was not sent, or, as PostUnknown, that it may have been, to be
// seen to again after a while. It changes nothing when somebody else has taken it up since.
//
// A post that certainly was not sent forgets that it was about to be: what is looked for
// later is only what may be there.
func (s *Store) ReturnPost(ctx context.Context, p Post, state PostState, wait time.Duration, reason string) error {
	_, err := s.pool.Exec(ctx, `UPDATE slack_outbox SET state = $3, lease_until = NULL, due_at = clock_timestamp() + $4::interval, reason = left($5, 500),
		sent_from = CASE WHEN $3 = 'unknown' THEN sent_from END, sent_last = CASE WHEN $3 = 'unknown' THEN sent_last END
		WHERE id = $1 AND attempts = $2 AND state IN ('sending', 'queued', 'unknown')`, p.ID, p.Attempts, state, wait, reason)
	if err != nil {
		return classify(fmt.Errorf("return post: %w", err))
	}
	return nil
}

// AbsentPost says that an unknown post was looked for and is not there. It is queued again if
// it was sent last longer ago than settle; until then it is unknown and due when it will have
// been.
func (s *Store) AbsentPost(ctx context.Context, p Post, settle time.Duration) error {
	_, err := s.pool.Exec(ctx, `UPDATE slack_outbox SET due_at = sent_last + $3::interval,
		state = CASE WHEN sent_last + $3::interval <= clock_timestamp() THEN 'queued' ELSE 'unknown' END
		WHERE id = $1 AND attempts = $2 AND state = 'unknown'`, p.ID, p.Attempts, settle)
	if err != nil {
		return classify(fmt.Errorf("return post: %w", err))
	}
	return nil
}

// GiveUpPost ends a post as PostDead or PostDropped, for a reason. It changes nothing when
// somebody else has taken it up since.
func (s *Store) GiveUpPost(ctx context.Context, p Post, state PostState, reason string) error {
	_, err := s.pool.Exec(ctx, `UPDATE slack_outbox SET state = $3, lease_until = NULL, done_at = clock_timestamp(), reason = left($4, 500)
		WHERE id = $1 AND attempts = $2 AND state IN ('sending', 'queued', 'unknown')`,
		p.ID, p.Attempts, state, cmp.Or(reason, "for no reason given"))
	if err != nil {
		return classify(fmt.Errorf("give up post: %w", err))
	}
	return nil
}

// AbandonedPosts makes posts unknown whose sender has not said within its lease what came of
// them, and returns how many.
func (s *Store) AbandonedPosts(ctx context.Context) (int64, error) {
	tag, err := s.pool.Exec(ctx, `UPDATE slack_outbox SET state = 'unknown', lease_until = NULL, due_at = clock_timestamp(),
		reason = 'the sender was not heard of again' WHERE state = 'sending' AND lease_until < clock_timestamp()`)
	return tag.RowsAffected(), classify(err)
}

// Shown is a message that a post became.
type Shown struct {
	Channel, TS string
	// Version of the ticket, 0 when it is not known, and the hash of what it shows, in hex;
	// empty where nothing can be decided. A card that shows nobody knows what is updated at
	// once.
	Version  int64
	Rendered string
}

// SentPost notes where a post is, and of a card that it is there; for a card, in the same
// transaction, what record makes of its ticket. Whoever sends the same post a second time
// unknowingly, because both thought that it was theirs, has made a copy of the card, which is
// kept as such.
func (s *Store) SentPost(ctx context.Context, p Post, at Shown, record Decide) error {
	note := func(ctx context.Context, tx pgx.Tx) (first bool, err error) {
		tag, err := tx.Exec(ctx, `UPDATE slack_outbox SET state = 'sent', lease_until = NULL, done_at = clock_timestamp(), channel = $2, ts = $3, reason = ''
			WHERE id = $1 AND state IN ('queued', 'sending', 'unknown')`, p.ID, at.Channel, at.TS)
		if err == nil && p.Kind.IsCard() && p.Handle != "" {
			err = place(ctx, tx, p.Handle, at)
		}
		return tag.RowsAffected() == 1, err
	}
	if p.TicketID != "" && p.Kind.IsCard() && record != nil {
		if err := s.sentCard(ctx, p, record, note); !errors.Is(err, errSentBefore) {
			return err
		}
	}
	return classify(pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		_, err := note(ctx, tx)
		return err
	}))
}

// errSentBefore undoes a second record of one post.
var errSentBefore = errors.New("the post was sent before")

// sentCard records the card in its ticket's trail once, whoever sends it a second time.
func (s *Store) sentCard(ctx context.Context, p Post, record Decide, note func(context.Context, pgx.Tx) (bool, error)) error {
	_, err := s.advance(ctx, Ref{ID: p.TicketID}, record, func(ctx context.Context, tx pgx.Tx, _ approvals.Transition, _ error) error {
		first, err := note(ctx, tx)
		if err == nil && !first {
			return errSentBefore
		}
		return err
	})
	return err
}

// place puts a card where it is, or adds a copy when it is elsewhere already.
func place(ctx context.Context, tx pgx.Tx, handle string, at Shown) error {
	tag, err := tx.Exec(ctx, `UPDATE cards SET posted_to = $2, ts = $3, shown = greatest(shown, $4), attempts = 0, due_at = clock_timestamp(),
			rendered = CASE WHEN $4 > 0 AND $4 >= shown THEN $5 ELSE rendered END,
			desired = CASE WHEN $4 = 0 AND shown = 0 THEN greatest(desired, 1) ELSE desired END
		WHERE handle = $1 AND (ts = '' OR (posted_to = $2 AND ts = $3))`, handle, at.Channel, at.TS, at.Version, at.Rendered)
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	return adopt(ctx, tx, handle, at.Channel, at.TS, at.Version)
}
