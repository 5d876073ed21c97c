package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// redirects answers with a status and a Location, in which OURS and THEIRS are the addresses
// of this server and of the upstream.
func (w *frontWorld) redirects(t *testing.T, status int, location string) {
	t.Helper()
	ours, err := url.Parse(w.url)
	require.NoError(t, err, "our address")
	location = strings.NewReplacer("OURHOST", ours.Hostname(), "OURS", w.url, "OURNAME", ours.Host, "THEIRS", w.upstream).Replace(location)
	w.answers <- func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Location", location)
		rw.WriteHeader(status)
	}
}

func TestAnUpstreamCannotSendTheClientsOfTheFrontToAnythingElseOfOurs(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	for _, location := range []string{
		"/proxy/plain/secrets", "/v1/tickets", "../../../v1/tickets", "//OURNAME/v1/tickets", "OURS/proxy/plain/secrets",
		"http://OURHOST:1/x", "https://OURHOST./v1/tickets", "https://sub.OURHOST/v1/tickets", "https:/v1/tickets", "https:v1/tickets", "/\\OURNAME/v1", "\\\\OURNAME/v1",
		"?", "/v1/../proxy/plain/x", "/v1/%2e%2e/proxy", "javascript:alert(1)", "http://[::1", "THEIRS/v1/..;/x", "/v1//x", "https://user@OURHOST/x",
		"https://countersign.example.com/v1/tickets", "https://COUNTERSIGN.example.com:8443/v1/tickets",
	} {
		w.redirects(t, 307, location)
		r := w.send(t, "POST", "/proxy/billing/open/x", `{"a":1}`, "Content-Type", "application/json")
		requireTheirs(t, r)
		require.Equal(t, 307, r.status, "%s: %s", location, r.raw)
		to := r.header.Get("Location")
		require.True(t, to == "" || strings.HasPrefix(to, "/proxy/billing/"), "%s became %s", location, to)
		require.NotContains(t, to, "..", "%s became %s", location, to)
	}
}

func TestARedirectWithinAnUpstreamGoesThroughTheFront(t *testing.T) {
	t.Parallel()
	w := setupFront(t, true)
	for location, want := range map[string]string{
		"/v1/things/a%20b?x=1&y#part":     "/proxy/billing/things/a%20b?x=1&y#part",
		"y":                               "/proxy/billing/open/y",
		"../things":                       "/proxy/billing/things",
		"?page=2":                         "/proxy/billing/open/x?page=2",
		"/v1":                             "/proxy/billing/",
		"THEIRS/v1/things":                "/proxy/billing/things",
		"/v12/things":                     "",
		"THEIRS.example.com/v1":           "",
		"https://other.example.com/v1/..": "https://other.example.com/v1/..",
	} {
		w.redirects(t, 302, location)
		r := w.send(t, "GET", "/proxy/billing/open/x?old=1", "")
		require.Equal(t, want, r.header.Get("Location"), "%s", location)
	}
	// And whoever follows one gets there, with the stored answer of a repeated call as well.
	w.redirects(t, 303, "/v1/open/y")
	for range 2 {
		r := w.send(t, "POST", "/proxy/billing/open/x", "", "Idempotency-Key", "once")
		require.Equal(t, []any{303, "/proxy/billing/open/y"}, []any{r.status, r.header.Get("Location")}, "%s", r.raw)
	}
	// What made something says where it is, and sends nobody there.
	w.redirects(t, 201, "/v1/tickets")
	require.Equal(t, "/v1/tickets", w.send(t, "POST", "/proxy/billing/open/x", "").header.Get("Location"), "of what was made")
}
