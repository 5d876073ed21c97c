package api_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// page reads one page of a list: the ids on it and the token of the next.
func (b *bundle) page(t *testing.T, query string) (ids []string, next string) {
	t.Helper()
	r := b.get(t, "/v1/tickets?"+query)
	require.Equal(t, http.StatusOK, r.status, "list %s: %s", query, r.raw)
	items, _ := r.field(t, "items").([]any)
	for _, i := range items {
		m, _ := i.(map[string]any)
		id, _ := m["id"].(string)
		ids = append(ids, id)
	}
	next, _ = r.field(t, "next_page_token").(string)
	return ids, next
}

func TestListPagesThroughEveryTicketOnceNewestFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []string
	for range 7 {
		want = append(want, b.submit(t, deletion).id(t))
	}
	slices.Reverse(want)
	var got []string
	query := "page_size=3"
	for pages := 0; ; pages++ {
		require.Less(t, pages, 4, "number of pages")
		ids, next := b.page(t, query)
		got = append(got, ids...)
		if next == "" {
			break
		}
		query = "page_size=3&page_token=" + url.QueryEscape(next)
	}
	require.Equal(t, want, got, "ids over all pages")
	ids, next := b.page(t, "")
	require.Equal(t, want, ids, "one page of the default size")
	require.Empty(t, next, "token at the end")
	ids, next = b.page(t, "page_size=7")
	require.Len(t, ids, 7, "a page that is exactly full")
	require.Empty(t, next, "has no next one")
}

func TestListShowsOneCallersTicketsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine := b.submit(t, deletion).id(t)
	r := b.do(t, call{method: "GET", path: "/v1/tickets", key: b.other})
	require.JSONEq(t, `{"items":[],"next_page_token":""}`, string(r.raw), "another caller's list")
	ids, _ := b.page(t, "caller=payroll")
	require.Equal(t, []string{mine}, ids, "asked for by name")
	ids, _ = b.page(t, "caller=other")
	require.Empty(t, ids, "asked for another's")
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	pending := b.submit(t, deletion)
	denied := b.submit(t, deletion).id(t)
	b.decide(t, denied, "bo", approvals.Deny)
	approved := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
	first := pending.id(t)
	created, err := b.store.Ticket(t.Context(), refOf(denied))
	require.NoError(t, err, "read a ticket")
	at := url.QueryEscape(created.CreatedAt.Format("2006-01-02T15:04:05.999999999Z07:00"))
	for query, want := range map[string][]string{
		"state=pending":                                       {first},
		"state=pending&state=denied":                          {denied, first},
		"state=approved,%20denied":                            {approved, denied},
		"state=cancelled":                                     nil,
		"created_before=" + at:                                {first},
		"created_after=" + at:                                 {approved},
		"created_after=2020-01-01T00:00:00%2B02:00":           {approved, denied, first},
		"created_before=2020-01-01T00:00:00Z&page_token=":     nil,
		"state=pending&created_before=" + at + "&page_size=0": {first},
	} {
		ids, _ := b.page(t, query)
		require.Equal(t, want, ids, "list %s", query)
	}
	r := b.get(t, "/v1/tickets?state=denied")
	items, _ := r.field(t, "items").([]any)
	item, _ := items[0].(map[string]any)
	require.Equal(t, "denied", item["state"], "state in a list")
	require.NotContains(t, item, "decisions", "a list does not carry decisions")
}

func TestListRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for query, want := range map[string]string{
		"state=":                             "is empty",
		"stat=pending":                       `did you mean \"state\"?`,
		"limit=3":                            "unknown parameter",
		"page_size=1&page_size=2":            "more than once",
		"state=open":                         "there is no state",
		"page_size=-1":                       "0 or more",
		"page_size=many":                     "whole number",
		"created_after=yesterday":            "must be a time",
		"created_before=2026-13-01":          "must be a time",
		"state=pending;state=denied":         "not well formed",
		"state=%zz":                          "not well formed",
		"page_token=a&page_token=b":          "more than once",
		"created_after=0000-01-01T00:00:00Z": "must be a time",
	} {
		r := b.get(t, "/v1/tickets?"+query)
		requireProblem(t, r, http.StatusBadRequest, "invalid_parameter")
		require.Contains(t, string(r.raw), want, "list %s", query)
	}
}

func TestPageTokenIsBoundToItsListAndCannotBeForged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 3 {
		b.submit(t, deletion)
	}
	_, token := b.page(t, "page_size=1&state=pending")
	require.Regexp(t, `^[A-Za-z0-9_-]+$`, token, "URL-safe")
	ids, _ := b.page(t, "page_size=2&state=pending&page_token="+token)
	require.Len(t, ids, 2, "the page size may change")
	ids, _ = b.page(t, "page_size=2&state=pending,pending&page_token="+token)
	require.Len(t, ids, 2, "the same filter in other words")

	refuse := func(query string) {
		t.Helper()
		requireProblem(t, b.get(t, "/v1/tickets?"+query), http.StatusBadRequest, "bad_page_token")
	}
	refuse("page_token=" + token)                      // other filters
	refuse("state=pending,denied&page_token=" + token) // more of them
	refuse("state=pending&created_before=2026-01-01T00:00:00Z&page_token=" + token)
	refuse("state=pending&page_token=" + token[:len(token)-1])     // cut
	refuse("state=pending&page_token=" + token + "A")              // grown
	refuse("state=pending&page_token=nonsense")                    // no token at all
	refuse("state=pending&page_token=" + strings.Repeat("A", 400)) // a long one
	r := b.do(t, call{method: "GET", path: "/v1/tickets?state=pending&page_token=" + token, key: b.other})
	requireProblem(t, r, http.StatusBadRequest, "bad_page_token") // another caller's
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err, "decode the token")
	for i := range raw {
		forged := slices.Clone(raw)
		forged[i] ^= 1
		refuse(fmt.Sprintf("state=pending&page_token=%s", base64.RawURLEncoding.EncodeToString(forged)))
	}
}

func TestPageTokenOfOneReplicaServesAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 {
		b.submit(t, deletion)
	}
	_, token := b.page(t, "page_size=1")
	replica := setupOn(t, b.store)
	r := replica.get(t, "/v1/tickets?page_size=1&page_token="+token)
	require.Equal(t, http.StatusOK, r.status, "status: %s", r.raw)
	require.Empty(t, r.field(t, "next_page_token"), "the last page")
}
