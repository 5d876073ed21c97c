package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// cardLimit is how long a card is waited for that need not come.
	cardLimit = time.Second
	// escalationLimit is the demo policy's 30 s and what timers may be late.
	escalationLimit = 45 * time.Second
)

// together looks at what only shows over all tickets.
func (s *smoke) together(ctx context.Context) error {
	var ids, succeeded []string
	executed := 0
	for _, e := range slices.Backward(s.expected) {
		ids = append(ids, e.id)
		if executed += e.calls; e.state == "succeeded" {
			succeeded = append(succeeded, e.id)
		}
	}
	if err := s.listed(ctx, ids, succeeded); err != nil {
		return err
	}
	calls, err := s.demo.calls(ctx)
	if err != nil {
		return err
	}
	s.equal("the upstream got no call besides", executed, len(calls))
	if err := s.printedAll(ctx, ids); err != nil {
		return err
	}
	return s.quiet(ctx)
}

// listed checks the list: newest first, in pages, and by state.
func (s *smoke) listed(ctx context.Context, ids, succeeded []string) error {
	all, err := s.api.list(ctx, "page_size=2")
	if err != nil {
		return err
	}
	s.equal("the list has them all, newest first, page by page", ids, idsOf(all))
	some, err := s.api.list(ctx, "state=succeeded")
	if err != nil {
		return err
	}
	s.equal("and those that succeeded, when asked for them", succeeded, idsOf(some))
	metadata := slices.DeleteFunc(all, func(t ticket) bool { return t.Metadata["case"] == "991 <&>" })
	s.equal("each with its caller's metadata", 0, len(metadata))
	return nil
}

func idsOf(tickets []ticket) (ids []string) {
	for _, t := range tickets {
		ids = append(ids, t.ID)
	}
	return ids
}

// printedAll compares what dev prints with what the API says.
func (s *smoke) printedAll(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if err := s.printedOf(ctx, id); err != nil {
			return err
		}
	}
	_, broken := s.dev.printedOf("")
	s.none("dev prints every event once, in order, as one JSON line each", broken)
	return nil
}

// printedOf waits until what is printed of a ticket is what happened to it.
func (s *smoke) printedOf(ctx context.Context, id string) error {
	var want, got []int64
	err := until(ctx, showLimit, func(ctx context.Context) (bool, error) {
		events, err := s.api.events(ctx, id)
		want = nil
		for _, e := range events {
			want = append(want, e.Sequence)
		}
		got, _ = s.dev.printedOf(id)
		return slices.Equal(want, got), err
	})
	if err != nil {
		return fmt.Errorf("compare the events of %s, %v, with those that dev printed, %v: %w", id, want, got, err)
	}
	return nil
}

// quiet expects that nobody saw a warning in Slack, that no dialog stands open and that
// dev logged no error.
func (s *smoke) quiet(ctx context.Context) error {
	state, err := s.slack.state(ctx)
	if err != nil {
		return err
	}
	var warnings []string
	for _, w := range state.Warnings {
		warnings = append(warnings, fmt.Sprintf("%+v", w))
	}
	s.none("Slack showed nobody a warning", warnings)
	s.equal("no dialog stands open", 0, len(state.Views))
	s.none("dev logged no error", s.dev.stderr.wrong())
	return nil
}
