package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/policy"
)

// maxNeed bounds how many people one decision may rest on, and atOnce how many of them are
// asked for at the same time.
const (
	maxNeed = 100
	atOnce  = 8
)

// Fresh returns the configuration in force with facts of at most [MaxAge] of these Slack
// accounts and user groups, by their ids. What is older is read from Slack while the caller
// waits, for as long as a click may take; when that does not succeed the error is
// [ErrStale].
func (s *Source) Fresh(ctx context.Context, users, groups []string) (*policy.Config, error) {
	return s.freshWithin(ctx, s.c.ClickBudget, users, groups)
}

// FreshFor is [Source.Fresh] for all that the approval of a ticket rests on: the user groups
// of its plan, of today's too, and the accounts of those who have decided in Slack. It may
// take longer, since nobody waits for it; where there are neither it asks nobody.
func (s *Source) FreshFor(ctx context.Context, t approvals.Ticket) (*policy.Config, error) {
	users, groups := s.need(t)
	return s.freshWithin(ctx, s.c.ClaimBudget, users, groups)
}

// need lists what the approval of a ticket rests on.
func (s *Source) need(t approvals.Ticket) (users, groups []string) {
	config := s.Policy()
	dir := config.Directory()
	if len(dir.Live) > 0 { // else today's plan need not be made
		for _, name := range slices.Concat(t.Plan.Asks(), config.Today(t).Asks()) {
			if id, ok := dir.Live[name]; ok {
				groups = append(groups, id)
			}
		}
	}
	for _, d := range t.Decisions {
		// In whose place somebody decided counts as much as who did.
		if p, known := dir.People[d.For]; known && p.Slack != "" {
			users = append(users, p.Slack)
		}
		if d.Via != "slack" {
			continue
		}
		if _, account, ok := strings.Cut(d.Ref, "/"); ok {
			users = append(users, account)
		}
		if p, known := dir.People[d.Person]; known && p.Slack != "" {
			users = append(users, p.Slack)
		}
	}
	slices.Sort(users)
	slices.Sort(groups)
	return slices.Compact(users), slices.Compact(groups)
}

func (s *Source) freshWithin(ctx context.Context, budget time.Duration, users, groups []string) (*policy.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if err := s.freshen(ctx, needs(users, groups)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStale, err)
	}
	return s.Known(), nil
}

func needs(users, groups []string) []key {
	out := make([]key, 0, len(users)+len(groups))
	for _, id := range users {
		out = append(out, key{ofUser, id})
	}
	for _, id := range groups {
		out = append(out, key{ofGroup, id})
	}
	return out
}

// freshen looks here, then in the database, then asks Slack.
func (s *Source) freshen(ctx context.Context, need []key) error {
	if need = s.stale(need); len(need) == 0 {
		return nil
	}
	if len(need) > maxNeed {
		return fmt.Errorf("%d people and user groups are too many to ask for", len(need))
	}
	if err := s.recallSome(ctx, need); err != nil {
		return err
	}
	if need = s.stale(need); len(need) == 0 {
		return nil
	}
	if s.c.Client == nil {
		return errNoSlack
	}
	if err := s.read(ctx, need); err != nil {
		return err
	}
	if need = s.stale(need); len(need) > 0 {
		return fmt.Errorf("nothing fresh is known of %s", need[0].id)
	}
	return nil
}

func (s *Source) stale(need []key) []key {
	var out []key
	for _, k := range need {
		if !s.memory.fresh(k, MaxAge) {
			out = append(out, k)
		}
	}
	return out
}

// read asks Slack for all of these at the same time.
func (s *Source) read(ctx context.Context, need []key) error {
	places := make(chan struct{}, atOnce)
	errs := make(chan error, len(need))
	for _, k := range need {
		go func() {
			places <- struct{}{}
			defer func() { <-places }()
			errs <- s.readOne(ctx, k)
		}()
	}
	var all []error
	for range need {
		if err := <-errs; err != nil && len(all) == 0 {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

func (s *Source) readOne(ctx context.Context, k key) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("ask slack: %w", err)
	}
	if k.kind == ofGroup {
		return s.readGroups(ctx) // one question for all of them
	}
	return s.readUser(ctx, k.id)
}
