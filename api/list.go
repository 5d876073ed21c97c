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

// ListTickets lists a caller's tickets, or those that a person may see, newest first.
func (o operations) ListTickets(ctx context.Context, r ListTicketsRequestObject) (ListTicketsResponseObject, error) {
	x := exchangeOf(ctx)
	l, err := listingOf(x, r.Params)
	if err != nil {
		return nil, err
	}
	if r.Params.PageToken != "" {
		if l.filter.After, err = o.tokens.open(ctx, l, r.Params.PageToken); err != nil {
			return nil, err
		}
	}
	wait, err := o.waitOf(r.Params.Wait, r.Params.Prefer)
	if err != nil {
		return nil, err
	}
	known, err := parseETags("If-None-Match", r.Params.IfNoneMatch)
	if err != nil {
		return nil, err
	}
	if !l.empty && (known.given || wait.length > 0) {
		tag, err := o.awaitList(ctx, x, l, wait, known)
		if err != nil {
			return nil, fmt.Errorf("wait for the list: %w", err)
		}
		if known.has(tag) {
			return sameList(tag, wait), nil
		}
	}
	return o.listed(ctx, x, l, wait)
}

// listed answers with a page as it is.
func (o operations) listed(ctx context.Context, x *exchange, l listing, wait waiting) (ListTicketsResponseObject, error) {
	var tickets []approvals.Ticket
	var next db.Cursor
	var err error
	if !l.empty {
		tickets, next, err = o.page(ctx, x, l)
	}
	if err != nil {
		return nil, fmt.Errorf("list tickets: %w", err)
	}
	out := TicketList{Items: make([]TicketSummary, 0, len(tickets))}
	for _, t := range tickets {
		s := o.summary(t)
		if x.person.Name != "" {
			x.hide(&s, t)
		}
		out.Items = append(out.Items, s)
	}
	if next != (db.Cursor{}) {
		if out.NextPageToken, err = o.tokens.seal(ctx, l, next); err != nil {
			return nil, err
		}
	}
	a := private(out)
	a.tagged(l.tag(x, seen(tickets), next))
	a.waited(wait)
	return a, nil
}

// listing is a list that somebody asks for.
type listing struct {
	// filter is what the database selects by. Its Limit is the size of a page.
	filter db.Filter
	// person is who asks, "" for a caller.
	person string
	// waiting narrows the list to tickets that wait for the person.
	waiting bool
	// empty says that nothing can be on it.
	empty bool
}

func listingOf(x *exchange, p ListTicketsParams) (listing, error) {
	l := listing{person: x.person.Name}
	var err error
	if l.person == "" {
		if l.filter.Caller, err = x.owner(); err != nil {
			return listing{}, err
		}
		l.empty = p.Caller != "" && p.Caller != x.caller.Name
	} else {
		l.filter.Caller = p.Caller
	}
	if l.filter.States, err = parseStates(p.State); err != nil {
		return listing{}, err
	}
	if l.filter.CreatedAfter, err = parseTime("created_after", p.CreatedAfter); err != nil {
		return listing{}, err
	}
	if l.filter.CreatedBefore, err = parseTime("created_before", p.CreatedBefore); err != nil {
		return listing{}, err
	}
	if l.filter.Limit, err = parsePage(p.PageSize); err != nil {
		return listing{}, err
	}
	return l, l.wait(p.WaitingFor)
}

// wait narrows the list to tickets in open states that wait for whoever asks.
func (l *listing) wait(who string) error {
	switch {
	case who == "":
		return nil
	case who != "me":
		return badParameter("waiting_for", "waiting_for can only be me")
	case l.person == "":
		return badParameter("waiting_for", "waiting_for=me is for people; no ticket waits for a caller's approval")
	}
	l.waiting = true
	l.filter.Limit = min(l.filter.Limit, maxWaitingPage)
	open := slices.DeleteFunc(approvals.States(), func(s approvals.State) bool { return !s.Open() })
	if len(l.filter.States) > 0 {
		open = slices.DeleteFunc(open, func(s approvals.State) bool { return !slices.Contains(l.filter.States, s) })
	}
	slices.Sort(open)
	l.filter.States, l.empty = open, len(open) == 0
	return nil
}

const (
	// maxScan bounds how many tickets are looked through for one page of a person's list.
	maxScan = 1000
	// maxWaitingPage bounds a page of tickets that wait for a person: each is read whole.
	maxWaitingPage = 50
)

// page reads one page, and where the next one begins, the zero cursor when there is none.
func (o operations) page(ctx context.Context, x *exchange, l listing) (out []approvals.Ticket, next db.Cursor, err error) {
	f := l.filter
	for scanned := 0; scanned < maxScan; scanned += f.Limit {
		f.Limit = min(l.filter.Limit+1, maxScan-scanned) // one more tells whether there is a next page
		if l.person != "" && !x.oversees() || l.waiting {
			f.Limit = min(maxPage, maxScan-scanned)
		}
		tickets, err := o.store.Tickets(ctx, f)
		if err != nil {
			return nil, db.Cursor{}, err
		}
		for _, t := range tickets {
			if len(out) == l.filter.Limit {
				return out, f.After, nil
			}
			t, ok, err := o.belongs(ctx, x, l, t)
			if err != nil {
				return nil, db.Cursor{}, err
			}
			if f.After = (db.Cursor{CreatedAt: t.CreatedAt, ID: t.ID}); ok {
				out = append(out, t)
			}
		}
		if len(tickets) < f.Limit {
			return out, db.Cursor{}, nil
		}
	}
	return out, f.After, nil
}

// belongs reports whether a ticket belongs on a list. One that may wait for a person is
// read whole, since that depends on its decisions.
func (o operations) belongs(ctx context.Context, x *exchange, l listing, t approvals.Ticket) (approvals.Ticket, bool, error) {
	if l.person == "" {
		return t, true, nil
	}
	if !x.sees(t) {
		return t, false, nil
	}
	if !l.waiting {
		return t, true, nil
	}
	dir := x.config.Directory().At(o.now())
	if !slices.Contains(t.WaitingFor(dir), l.person) { // decisions only ever take people off
		return t, false, nil
	}
	whole, err := o.store.Ticket(ctx, db.Ref{ID: t.ID})
	if err != nil {
		return t, false, err
	}
	return t, slices.Contains(whole.WaitingFor(dir), l.person), nil
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
