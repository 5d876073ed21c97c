package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// SlackFacts names a kind of what Slack has said.
type SlackFacts string

// The kinds of facts: of people by id, of user groups by id, and of channels by the id or
// #name that the configuration has for them.
const (
	SlackUsers    SlackFacts = "slack_users"
	SlackGroups   SlackFacts = "slack_groups"
	SlackChannels SlackFacts = "slack_channels"
)

// SlackFact is what Slack said of one thing.
type SlackFact struct {
	// Key is the id, or the name, that it is of.
	Key   string
	Facts json.RawMessage
	// ReadAt is when it was asked for, by the database's clock. It is ignored when a fact is
	// put, for which Age says it.
	ReadAt time.Time
	// Age is how long ago that was, by the same clock: at the moment when a fact is read, or
	// is put, which must count from before Slack was asked.
	Age time.Duration
}

// column is what the key of a kind is called. Neither it nor the name of the table can be an
// argument of a statement; both are constants of ours.
func (k SlackFacts) column() string {
	if k == SlackChannels {
		return "name"
	}
	return "id"
}

// PutSlackFacts keeps what Slack has said, at most some thousand at a time. What was asked
// for later stays: two processes may write in any order.
func (s *Store) PutSlackFacts(ctx context.Context, kind SlackFacts, facts []SlackFact) error {
	if len(facts) == 0 {
		return nil
	}
	keys, bodies, ages := make([]string, len(facts)), make([]string, len(facts)), make([]int64, len(facts))
	seen := make(map[string]bool, len(facts))
	n := 0
	for _, f := range facts {
		if seen[f.Key] {
			continue // a statement cannot write one row twice
		}
		seen[f.Key] = true
		keys[n], bodies[n], ages[n] = f.Key, string(f.Facts), max(f.Age, 0).Microseconds()
		n++
	}
	key := kind.column()
	_, err := s.pool.Exec(ctx, `INSERT INTO `+string(kind)+` AS old (`+key+`, facts, read_at)
		SELECT k, f::jsonb, clock_timestamp() - a * interval '1 microsecond'
		FROM unnest($1::text[], $2::text[], $3::bigint[]) AS new (k, f, a) ORDER BY k
		ON CONFLICT (`+key+`) DO UPDATE SET facts = EXCLUDED.facts, read_at = EXCLUDED.read_at WHERE old.read_at <= EXCLUDED.read_at`,
		keys[:n], bodies[:n], ages[:n])
	if err != nil {
		return classify(fmt.Errorf("keep %s: %w", kind, err))
	}
	return nil
}

// SlackFacts reads what is kept of some keys. What nothing is known of is left out.
func (s *Store) SlackFacts(ctx context.Context, kind SlackFacts, keys []string) ([]SlackFact, error) {
	key := kind.column()
	return s.slackFacts(ctx, kind, `SELECT `+key+`, facts, read_at, extract(epoch FROM clock_timestamp() - read_at)::float8
		FROM `+string(kind)+` WHERE `+key+` = ANY ($1)`, keys)
}

// RecentSlackFacts reads what is not older than within; of everything, for zero.
func (s *Store) RecentSlackFacts(ctx context.Context, kind SlackFacts, within time.Duration) ([]SlackFact, error) {
	return s.slackFacts(ctx, kind, `SELECT `+kind.column()+`, facts, read_at, extract(epoch FROM clock_timestamp() - read_at)::float8
		FROM `+string(kind)+` WHERE $1::bigint = 0 OR read_at > clock_timestamp() - $1::bigint * interval '1 microsecond'`, within.Microseconds())
}

func (s *Store) slackFacts(ctx context.Context, kind SlackFacts, query string, arg any) ([]SlackFact, error) {
	rows, err := s.pool.Query(ctx, query, arg)
	if err != nil {
		return nil, classify(fmt.Errorf("read %s: %w", kind, err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (SlackFact, error) {
		var f SlackFact
		var seconds float64
		err := r.Scan(&f.Key, &f.Facts, &f.ReadAt, &seconds)
		f.ReadAt, f.Age = f.ReadAt.UTC(), time.Duration(seconds*float64(time.Second))
		return f, err
	})
	if err != nil {
		return nil, classify(fmt.Errorf("read %s: %w", kind, err))
	}
	return out, nil
}

// OutdateSlackFact makes what is kept of an id too old to be relied on, for when Slack has
// said that it changed and does not say to what. Of a channel, what is kept by its name too.
func (s *Store) OutdateSlackFact(ctx context.Context, kind SlackFacts, id string) error {
	where := `id = $1`
	if kind == SlackChannels {
		where = `name = $1 OR facts ->> 'id' = $1`
	}
	_, err := s.pool.Exec(ctx, `UPDATE `+string(kind)+` SET read_at = least(read_at, clock_timestamp() - interval '1 day') WHERE `+where, id)
	if err != nil {
		return classify(fmt.Errorf("outdate %s: %w", kind, err))
	}
	return nil
}

// ForgetSlackFacts drops what is older than age: nobody has wanted to know it since.
func (s *Store) ForgetSlackFacts(ctx context.Context, age time.Duration) error {
	b := &pgx.Batch{}
	for _, kind := range []SlackFacts{SlackUsers, SlackGroups, SlackChannels} {
		b.Queue(`DELETE FROM `+string(kind)+` WHERE read_at < clock_timestamp() - $1::interval`, age)
	}
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return classify(fmt.Errorf("drop what slack said long ago: %w", err))
	}
	return nil
}
