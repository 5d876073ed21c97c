package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"countersign/db"
	"countersign/policy"
	"countersign/slack"
)

const groupFlight = "groups"

func userFlight(id string) string { return "user " + id }

var errNoSlack = errors.New("slack is not configured")

// readUser asks Slack who somebody is.
func (s *Source) readUser(ctx context.Context, id string) error {
	return s.flights.join(ctx, userFlight(id), func(ctx context.Context) error {
		asked := s.c.Now()
		got, err := s.c.Client.UserInfo(ctx, id)
		switch {
		case isUnknown(err): // as good as deactivated: nobody of that id may act
			got = slack.UserFacts{ID: id, Deleted: true}
		case err != nil:
			return fmt.Errorf("ask who %s is: %w", id, err)
		}
		s.learn(ctx, asked, []policy.SlackUser{userOf(got)}, nil)
		return nil
	})
}

// isUnknown reports whether Slack knows nobody of that id, or nobody whom we may see.
func isUnknown(err error) bool {
	var said *slack.Error
	return errors.As(err, &said) && slices.Contains([]string{"user_not_found", "user_not_visible", "users_not_found"}, said.Code)
}

// readGroups asks Slack for all user groups that are configured. One that it does not list
// has nobody in it.
func (s *Source) readGroups(ctx context.Context) error {
	return s.flights.join(ctx, groupFlight, func(ctx context.Context) error {
		config, asked := s.c.Policy(), s.c.Now()
		teams, err := s.teams(ctx, config)
		if err != nil {
			return fmt.Errorf("ask whose token it is: %w", err)
		}
		got, err := s.c.Client.UserGroups(ctx, teams...)
		if err != nil {
			return fmt.Errorf("ask for user groups: %w", err)
		}
		var groups []policy.SlackGroup
		for _, id := range config.UserGroups() {
			groups = append(groups, groupOf(id, got))
		}
		s.learn(ctx, asked, nil, groups)
		return nil
	})
}

// teams are the workspaces to ask about: with the token of an organisation, all that are
// configured; with that of a workspace, the one that it belongs to.
func (s *Source) teams(ctx context.Context, config *policy.Config) ([]string, error) {
	self, err := s.c.Client.Self(ctx)
	if err != nil || !self.EnterpriseInstall {
		return nil, err
	}
	return config.Slack.TeamIDs, nil
}

func userOf(u slack.UserFacts) policy.SlackUser {
	return policy.SlackUser{
		ID: u.ID, TeamID: u.TeamID, EnterpriseID: u.EnterpriseID, Email: u.Email, Name: u.Name, Teams: u.Teams,
		EmailConfirmed: u.EmailConfirmed, Deleted: u.Deleted, Bot: u.Bot, Guest: u.Guest, Stranger: u.Stranger, Invited: u.Invited,
	}
}

func groupOf(id string, all []slack.GroupFacts) policy.SlackGroup {
	for _, g := range all {
		if g.ID == id {
			return policy.SlackGroup{ID: id, Handle: g.Handle, Members: g.Members, Disabled: g.Disabled}
		}
	}
	return policy.SlackGroup{ID: id, Disabled: true}
}

// learn takes over what Slack has said, here and in the database. That the database does
// not take it changes nothing here, where it is as fresh as it was.
func (s *Source) learn(ctx context.Context, asked time.Time, users []policy.SlackUser, groups []policy.SlackGroup) {
	at := asked.UTC().Round(0)
	var newUsers []fact[policy.SlackUser]
	var userRows, groupRows []db.SlackFact
	for _, u := range users {
		u.ReadAt = at
		newUsers = append(newUsers, fact[policy.SlackUser]{u, asked})
		userRows = append(userRows, s.row(u.ID, u, asked))
	}
	var newGroups []fact[policy.SlackGroup]
	for _, g := range groups {
		g.ReadAt = at
		newGroups = append(newGroups, fact[policy.SlackGroup]{g, asked})
		groupRows = append(groupRows, s.row(g.ID, g, asked))
	}
	s.publish(newUsers, newGroups)
	err := errors.Join(s.c.Store.PutSlackFacts(ctx, db.SlackUsers, userRows), s.c.Store.PutSlackFacts(ctx, db.SlackGroups, groupRows))
	if err != nil {
		s.c.Logger.WarnContext(ctx, "cannot keep what slack said", slog.Any("error", err))
	}
}

func (s *Source) publish(users []fact[policy.SlackUser], groups []fact[policy.SlackGroup]) {
	before := s.Policy()
	if s.memory.learn(users, groups) && s.Policy() != before {
		s.c.Changed()
	}
}

func (s *Source) row(id string, facts any, asked time.Time) db.SlackFact {
	raw, _ := json.Marshal(facts) // structs of text, truths and moments always marshal
	return db.SlackFact{Key: id, Facts: raw, Age: s.c.Now().Sub(asked)}
}

// recall reads what is kept, and no older than within; everything, for zero.
func (s *Source) recall(ctx context.Context, within time.Duration) error {
	before := s.c.Now()
	users, err := s.c.Store.RecentSlackFacts(ctx, db.SlackUsers, within)
	if err != nil {
		return err
	}
	groups, err := s.c.Store.RecentSlackFacts(ctx, db.SlackGroups, within)
	if err != nil {
		return err
	}
	s.remember(before, users, groups)
	return nil
}

// recallSome reads what is kept of some people and user groups.
func (s *Source) recallSome(ctx context.Context, need []key) error {
	var users, groups []string
	for _, k := range need {
		if k.kind == ofUser {
			users = append(users, k.id)
		} else {
			groups = append(groups, k.id)
		}
	}
	before := s.c.Now()
	userRows, err := s.some(ctx, db.SlackUsers, users)
	if err != nil {
		return err
	}
	groupRows, err := s.some(ctx, db.SlackGroups, groups)
	if err != nil {
		return err
	}
	s.remember(before, userRows, groupRows)
	return nil
}

func (s *Source) some(ctx context.Context, kind db.SlackFacts, ids []string) ([]db.SlackFact, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	return s.c.Store.SlackFacts(ctx, kind, ids)
}

// remember takes over rows that were read after before: counted from then, nothing looks
// younger than it is.
func (s *Source) remember(before time.Time, users, groups []db.SlackFact) {
	s.publish(factsOf(before, users, func(u *policy.SlackUser) (string, *time.Time) { return u.ID, &u.ReadAt }),
		factsOf(before, groups, func(g *policy.SlackGroup) (string, *time.Time) { return g.ID, &g.ReadAt }))
}

// factsOf leaves out what cannot be read, or is not what its key says: it is read anew.
func factsOf[T any](before time.Time, rows []db.SlackFact, parts func(*T) (string, *time.Time)) []fact[T] {
	var out []fact[T]
	for _, r := range rows {
		var value T
		if json.Unmarshal(r.Facts, &value) != nil {
			continue
		}
		id, readAt := parts(&value)
		if id != r.Key || strings.TrimSpace(id) == "" {
			continue
		}
		*readAt = r.ReadAt
		out = append(out, fact[T]{value, before.Add(-r.Age)})
	}
	return out
}
