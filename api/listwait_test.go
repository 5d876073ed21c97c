package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/api"
)

func TestAListIsAnsweredWhenItChanges(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, deletion).id(t)
	for name, c := range map[string]struct {
		key, tag string
		wait     call
	}{
		"of a caller that knows it": {tag: "yes", wait: call{method: "GET", path: "/v1/tickets?wait=50s"}},
		"by preference":             {tag: "yes", wait: call{method: "GET", path: "/v1/tickets", header: headers("Prefer", "wait=50")}},
		"without a tag":             {wait: call{method: "GET", path: "/v1/tickets?wait=50s"}},
		"of a person":               {tag: "yes", wait: call{method: "GET", path: "/v1/tickets?wait=50s", key: b.people["bo"]}},
		"of an operator":            {tag: "yes", wait: call{method: "GET", path: "/v1/tickets?wait=50s", key: b.people["dora"]}},
		"of what waits for someone": {tag: "yes", wait: call{method: "GET", path: "/v1/tickets?wait=50s&waiting_for=me", key: b.people["chen"]}},
	} {
		now := b.do(t, c.wait.now())
		require.NotEmpty(t, now.header.Get("ETag"), "%s: ETag", name)
		if c.wait.header == nil {
			c.wait.header = headers()
		}
		if c.tag != "" {
			c.wait.header.Set("If-None-Match", now.header.Get("ETag"))
		}
		before := api.Waiting(b.server)
		answer := b.inBackground(t, c.wait)
		eventually(t, name+" to wait", func() bool { return api.Waiting(b.server) == before+1 })
		b.submit(t, deletion)
		r := receive(t, answer)
		require.Equal(t, http.StatusOK, r.status, "%s: %s", name, r.raw)
		require.NotEqual(t, now.raw, r.raw, "%s: the list is another", name)
		require.NotEqual(t, now.header.Get("ETag"), r.header.Get("ETag"), "%s: and so is its tag", name)
		require.Equal(t, b.do(t, c.wait.now()).header.Get("ETag"), r.header.Get("ETag"), "%s: the tag is that of the list", name)
	}
	tag := b.get(t, "/v1/tickets").header.Get("ETag")
	b.approve(t, id, "bo")
	require.NotEqual(t, tag, b.get(t, "/v1/tickets").header.Get("ETag"), "a ticket that changes is another list")
}

// now is the same request without waiting and without a tag.
func (c call) now() call {
	out := call{method: c.method, path: "/v1/tickets", key: c.key}
	if c.path == "/v1/tickets?wait=50s&waiting_for=me" {
		out.path += "?waiting_for=me"
	}
	return out
}

func TestAListThatStaysIsNotSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.submit(t, deletion)
	b.submit(t, deletion)
	first := b.get(t, "/v1/tickets?page_size=1")
	tag := first.header.Get("ETag")
	for name, path := range map[string]string{"at once": "/v1/tickets?page_size=1", "after the wait": "/v1/tickets?page_size=1&wait=1"} {
		r := b.get(t, path, "If-None-Match", `"x", W/`+tag)
		require.Equal(t, http.StatusNotModified, r.status, name)
		require.Equal(t, tag, r.header.Get("ETag"), name)
		require.Empty(t, r.raw, name)
	}
	next, _ := first.field(t, "next_page_token").(string)
	second := b.get(t, "/v1/tickets?page_size=1&page_token="+next)
	for name, r := range map[string]reply{
		"another page size": b.get(t, "/v1/tickets?page_size=2", "If-None-Match", tag), "another page": second,
		"other filters":   b.get(t, "/v1/tickets?page_size=1&state=pending", "If-None-Match", tag),
		"somebody else's": b.do(t, call{method: "GET", path: "/v1/tickets?page_size=1", key: b.people["dora"], header: headers("If-None-Match", tag)}),
	} {
		require.Equal(t, http.StatusOK, r.status, name)
		require.NotEqual(t, tag, r.header.Get("ETag"), name)
	}
	require.Equal(t, http.StatusNotModified,
		b.get(t, "/v1/tickets?page_size=1&page_token="+next, "If-None-Match", second.header.Get("ETag")).status, "later pages have tags as well")
	r := b.get(t, "/v1/tickets?wait=1", "Prefer", "wait=9")
	require.Equal(t, http.StatusOK, r.status, "without a tag the list comes at the end of the wait")
	require.Equal(t, []string{"Prefer", ""}, []string{r.header.Get("Vary"), r.header.Get("Preference-Applied")}, "the query wins")
	requireProblem(t, b.get(t, "/v1/tickets?wait=soon"), http.StatusBadRequest, "invalid_parameter")
	requireProblem(t, b.get(t, "/v1/tickets", "If-None-Match", "x"), http.StatusBadRequest, "invalid_header")
}

func TestDrainAnswersThoseWhoWaitForAList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.submit(t, deletion)
	tag := b.get(t, "/v1/tickets").header.Get("ETag")
	answer := b.inBackground(t, call{method: "GET", path: "/v1/tickets?wait=50s", header: headers("If-None-Match", tag)})
	eventually(t, "it to wait", func() bool { return api.Waiting(b.server) == 1 })
	b.server.Drain()
	require.Equal(t, http.StatusNotModified, receive(t, answer).status, "as it is")
}
