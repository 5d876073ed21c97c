package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/db"
)

const (
	defaultPage = 50
	maxPage     = 200
)

// ListTickets lists the caller's tickets, newest first.
func (o operations) ListTickets(ctx context.Context, r ListTicketsRequestObject) (ListTicketsResponseObject, error) {
	x := exchangeOf(ctx)
	filter, err := filterOf(x, r.Params)
	if err != nil {
		return nil, err
	}
	if r.Params.PageToken != "" {
		if filter.After, err = o.tokens.open(ctx, filter, r.Params.PageToken); err != nil {
			return nil, err
		}
	}
	if c := r.Params.Caller; c != "" && c != x.caller.Name {
		return private(TicketList{Items: []TicketSummary{}}), nil
	}
	page := filter.Limit
	filter.Limit++ // one more tells whether there is a next page
	tickets, err := o.store.Tickets(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("list tickets: %w", err)
	}
	out := TicketList{Items: make([]TicketSummary, 0, min(page, len(tickets)))}
	for _, t := range tickets[:min(page, len(tickets))] {
		out.Items = append(out.Items, o.summary(t))
	}
	if len(tickets) > page {
		last := tickets[page-1]
		if out.NextPageToken, err = o.tokens.seal(ctx, filter, db.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}); err != nil {
			return nil, err
		}
	}
	return private(out), nil
}

func filterOf(x *exchange, p ListTicketsParams) (db.Filter, error) {
	owner, err := x.owner()
	if err != nil {
		return db.Filter{}, err
	}
	out := db.Filter{Caller: owner}
	if out.States, err = parseStates(p.State); err != nil {
		return db.Filter{}, err
	}
	if out.CreatedAfter, err = parseTime("created_after", p.CreatedAfter); err != nil {
		return db.Filter{}, err
	}
	if out.CreatedBefore, err = parseTime("created_before", p.CreatedBefore); err != nil {
		return db.Filter{}, err
	}
	out.Limit, err = parsePage(p.PageSize)
	return out, err
}

// parseStates reads a repeated, or comma-separated, list of states into a sorted set.
func parseStates(values []string) ([]approvals.State, error) {
	var out []approvals.State
	for _, word := range strings.Split(strings.Join(values, ","), ",") {
		state := approvals.State(strings.TrimSpace(word))
		if state == "" {
			continue
		}
		if !slices.Contains(approvals.States(), state) {
			return nil, badParameter("state", "there is no state %s", quote(word))
		}
		out = append(out, state)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func parseTime(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1970 {
		return time.Time{}, badParameter(name, "%s must be a time such as 2026-03-02T09:00:00Z", name)
	}
	return t.UTC(), nil
}

// parsePage reads a page size: 0 or nothing is the default, too much is the maximum.
func parsePage(text string) (int, error) {
	n, err := parseCount("page_size", text)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return defaultPage, nil
	}
	return int(min(n, maxPage)), nil
}

// parseCount reads a whole number that is not negative; nothing is 0.
func parseCount(name, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, badParameter(name, "%s must be a whole number, 0 or more", name)
	}
	return n, nil
}
