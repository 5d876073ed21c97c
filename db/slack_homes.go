package db

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"countersign/approvals"
)

// Home is a home tab that somebody has opened.
type Home struct {
	SlackUser, SlackTeam string
	// Person is who they were when they opened it, "" for somebody whom the configuration
	// did not know.
	Person string
	// DirtyAt is when it last stopped being current: what [Store.PublishedHome] is told.
	DirtyAt time.Time
}

const (
	// homesCurrentFor is how long after they were last opened home tabs are kept current.
	homesCurrentFor = 7 * 24 * time.Hour
	// homesSettle is the least time between two publications of a home tab, unless it was
	// opened in between.
	homesSettle = 10 * time.Second
	// homeLease is how long a home tab that is being published is nobody else's.
	homeLease = 30 * time.Second
)

// OpenedHome notes that somebody has opened their home tab, which is due at once.
func (s *Store) OpenedHome(ctx context.Context, team, user, person string) error {
	_, err := s.pool.Exec(ctx, `INSERT INTO slack_homes (slack_user, slack_team, person, opened_at, dirty_at)
		VALUES ($2, $1, $3, clock_timestamp(), clock_timestamp())
		ON CONFLICT (slack_user) DO UPDATE SET slack_team = $1, person = $3, opened_at = clock_timestamp(), dirty_at = clock_timestamp()`,
		team, user, person)
	return classify(err)
}

// DirtyHomes notes that the home tabs of some people are not current any more. People who
// have not opened theirs within a week have none to keep current.
func (s *Store) DirtyHomes(ctx context.Context, people []string) error {
	if len(people) == 0 {
		return nil
	}
	_, err := s.pool.Exec(ctx, `UPDATE slack_homes SET dirty_at = clock_timestamp()
		WHERE person = ANY($1) AND opened_at > clock_timestamp() - $2::interval`, people, homesCurrentFor)
	return classify(err)
}

// DueHomes takes home tabs that are to be published, those that were opened just now first,
// and leases them for half a minute: until [Store.PublishedHome], nobody else is given them.
// What changes again within ten seconds of a publication waits for the rest of them.
func (s *Store) DueHomes(ctx context.Context, limit int) ([]Home, error) {
	rows, err := s.pool.Query(ctx, `UPDATE slack_homes SET lease_until = clock_timestamp() + $3::interval
		WHERE slack_user IN (SELECT slack_user FROM slack_homes
			WHERE dirty_at IS NOT NULL AND (lease_until IS NULL OR lease_until < clock_timestamp())
			AND opened_at > clock_timestamp() - $2::interval
			AND (published_at IS NULL OR published_at < opened_at OR published_at <= clock_timestamp() - $4::interval)
			ORDER BY (published_at IS NULL OR published_at < opened_at) DESC, dirty_at LIMIT $1 FOR UPDATE SKIP LOCKED)
		RETURNING slack_user, slack_team, person, dirty_at`, limit, homesCurrentFor, homeLease, homesSettle)
	if err != nil {
		return nil, classify(fmt.Errorf("take due home tabs: %w", err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Home, error) {
		var h Home
		err := r.Scan(&h.SlackUser, &h.SlackTeam, &h.Person, &h.DirtyAt)
		h.DirtyAt = h.DirtyAt.UTC()
		return h, err
	})
	return out, classify(err)
}

// PublishedHome gives a home tab back after it was published. It is current unless it has
// become dirty since [Home.DirtyAt].
func (s *Store) PublishedHome(ctx context.Context, user string, dirtyAt time.Time) error {
	_, err := s.pool.Exec(ctx, `UPDATE slack_homes SET published_at = clock_timestamp(), lease_until = NULL,
		dirty_at = CASE WHEN dirty_at = $2 THEN NULL ELSE dirty_at END WHERE slack_user = $1`, user, dirtyAt)
	return classify(err)
}

// ForgetHome forgets a home tab that cannot be published, until it is opened again.
func (s *Store) ForgetHome(ctx context.Context, user string) error {
	_, err := s.pool.Exec(ctx, `DELETE FROM slack_homes WHERE slack_user = $1`, user)
	return classify(err)
}

// outlineColumns are a ticket with its decisions, and without the headers and the body of
// its call and what was commented.
const outlineColumns = ticketColumns + `,
	coalesce((SELECT json_agg(json_build_object(
		'person', d.person, 'for', d.in_place_of, 'verdict', d.verdict, 'stage', d.stage, 'digest', d.digest,
		'at', d.at, 'groups', d.groups, 'via', d.via, 'ref', d.ref, 'message_ts', d.message_ts) ORDER BY d.seq)
		FROM decisions d WHERE d.ticket_id = t.id), '[]')`

// whoIsOpen picks, by the index of timers, the tickets that are open: there are never many.
const whoIsOpen = fromTickets + `WHERE t.wake_at IS NOT NULL AND t.state IN ('pending', 'needs_info') `

func (s *Store) outlines(ctx context.Context, doing, sql string, args ...any) ([]approvals.Ticket, error) {
	rows, err := s.pool.Query(ctx, `SELECT`+outlineColumns+sql, args...)
	if err != nil {
		return nil, classify(fmt.Errorf("%s: %w", doing, err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (approvals.Ticket, error) {
		var x row
		err := r.Scan(append(x.targets(), &x.t.Decisions)...)
		return x.ticket(), err
	})
	return out, classify(err)
}

// OpenNaming lists open tickets that a person may be asked about, those that end first
// coming first: their plans name the person, or somebody whose place they take, or a user
// group of Slack, of which the database does not know who is in it. Whether it is the
// person's move is for the domain to say. The tickets have their decisions, and neither the
// headers nor the bodies of their calls.
func (s *Store) OpenNaming(ctx context.Context, person string, limit int) ([]approvals.Ticket, error) {
	return s.outlines(ctx, "list tickets that name a person", whoIsOpen+`
		AND (coalesce(t.amended_plan, c.plan) ? 'live' OR NOT coalesce(t.amended_plan, c.plan) ? 'roster'
			OR jsonb_path_exists(coalesce(t.amended_plan, c.plan), '$.roster.*[*] ? (@ == $p)', jsonb_build_object('p', $1::text))
			OR jsonb_path_exists(coalesce(t.amended_plan, c.plan), '$.delegates.* ? (@ == $p)', jsonb_build_object('p', $1::text)))
		ORDER BY t.expires_at, t.id LIMIT $2`, person, limit)
}

// OpenAskedBy lists open tickets with a question of a person's that is not answered yet,
// the oldest first, as far as [Store.OpenNaming] does.
func (s *Store) OpenAskedBy(ctx context.Context, person string, limit int) ([]approvals.Ticket, error) {
	return s.outlines(ctx, "list tickets somebody has asked about", whoIsOpen+`
		AND t.state = 'needs_info' AND t.question ->> 'person' = $1 ORDER BY t.id LIMIT $2`, person, limit)
}

// RequestedBy lists the newest tickets of some callers, and those made on behalf of somebody
// who goes by one of some names, in whatever case, as far as [Store.OpenNaming] does. Each
// caller's are read along the index of callers, those of the names along an index of theirs.
func (s *Store) RequestedBy(ctx context.Context, names, callers []string, limit int) ([]approvals.Ticket, error) {
	lower := make([]string, 0, len(names))
	for _, n := range names {
		if n != "" {
			lower = append(lower, strings.ToLower(n))
		}
	}
	return s.outlines(ctx, "list the requests of a person", fromTickets+`WHERE t.id IN (
			SELECT id FROM unnest($1::text[]) AS by (caller), LATERAL (
				SELECT id FROM tickets WHERE tickets.caller = by.caller ORDER BY created_at DESC, id DESC LIMIT $3) newest
			UNION
			SELECT ticket_id FROM unnest($2::text[]) AS who (name), LATERAL (
				SELECT ticket_id FROM calls WHERE on_behalf_of <> '' AND lower(on_behalf_of) = who.name
				ORDER BY ticket_id DESC LIMIT $3) newest)
		ORDER BY t.id DESC LIMIT $3`, callers, lower, limit)
}

// CardsFor lists, by ticket, the cards of some tickets that are posted, and those that one
// Slack user alone may use; each in the order of their stages.
func (s *Store) CardsFor(ctx context.Context, tickets []string, user string) (map[string][]Card, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+cardColumns+` FROM cards WHERE ticket_id = ANY($1)
		AND ((kind = 'card' AND ts <> '') OR (kind = 'personal' AND slack_user = $2)) ORDER BY ticket_id, stage, created_at`, tickets, user)
	if err != nil {
		return nil, classify(fmt.Errorf("list the cards of tickets: %w", err))
	}
	all, err := pgx.CollectRows(rows, scanCard)
	if err != nil {
		return nil, classify(err)
	}
	out := make(map[string][]Card, len(tickets))
	for _, c := range all {
		out[c.TicketID] = append(out[c.TicketID], c)
	}
	return out, nil
}
