package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Filter says which tickets are wanted. The zero Filter wants all that there are to see.
type Filter struct {
	// States: only tickets in one of these. Empty: in any.
	States []State
	// CreatedAfter and CreatedBefore bound the time of the submit. Zero: not.
	CreatedAfter, CreatedBefore time.Time
	// Caller: only tickets of this one, for people who see those of several.
	Caller string
	// Mine: only tickets on which the person who asks could decide now. For people only.
	Mine bool
	// PageSize is how many are read at a time. Zero: the server's default. At most 200.
	PageSize int
}

func (f Filter) query() url.Values {
	q := make(url.Values)
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	for name, at := range map[string]time.Time{"created_after": f.CreatedAfter, "created_before": f.CreatedBefore} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if f.Caller != "" {
		q.Set("caller", f.Caller)
	}
	if f.Mine {
		q.Set("waiting_for", "me")
	}
	if f.PageSize > 0 {
		q.Set("page_size", strconv.Itoa(f.PageSize))
	}
	return q
}

// Tickets goes through tickets, newest first, reading pages as they are needed. Tickets of lists lack what takes a look
// at each of them, such as decisions. After an error there is nothing more.
func (c *Client) Tickets(ctx context.Context, f Filter) iter.Seq2[Ticket, error] {
	return pages(ctx, c, "/v1/tickets", f.query(), parseTicket)
}

// pages goes through a list of pages.
func pages[T any](ctx context.Context, c *Client, path string, query url.Values, parse func([]byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for {
			items, next, err := c.page(ctx, path, query)
			if err != nil {
				yield(none, err)
				return
			}
			for _, raw := range items {
				item, err := parse(raw)
				if err != nil {
					err = fmt.Errorf("GET %s: an item of the list cannot be read: %w", path, err)
				}
				if !yield(item, err) || err != nil {
					return
				}
			}
			if next == "" {
				return
			}
			query.Set("page_token", next)
		}
	}
}

func (c *Client) page(ctx context.Context, path string, query url.Values) ([]json.RawMessage, string, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	r := request{method: http.MethodGet, path: path, safe: true}
	res, err := c.do(ctx, r)
	if err != nil {
		return nil, "", err
	}
	var page struct {
		Items []json.RawMessage `json:"items"`
		Next  string            `json:"next_page_token"`
	}
	if err := json.Unmarshal(res.body, &page); err != nil {
		return nil, "", r.explain(fmt.Errorf("the answer is no list: %w", err))
	}
	return page.Items, page.Next, nil
}
