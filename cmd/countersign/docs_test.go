package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runnable is the shell code of a page whose fences are marked to be run, in its order.
func runnable(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page)) //nolint:gosec // a page of ours
	require.NoError(t, err)
	var code strings.Builder
	for _, part := range strings.Split(string(text), "<!-- run -->\n```sh\n")[1:] {
		block, _, closed := strings.Cut(part, "\n```\n")
		require.True(t, closed, "a fence of %s has no end", page)
		code.WriteString(block + "\n")
	}
	require.NotEmpty(t, code.String(), "%s has nothing to run", page)
	return code.String()
}

// typedIn runs shell code in a directory as a reader would, except that whatever goes wrong ends
// it, a refusal of the server too, and returns what it printed.
func typedIn(t *testing.T, dir, code string, env ...string) string {
	t.Helper()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	strict := "set -euo pipefail\ncurl() { command curl --fail-with-body --show-error --max-time 90 \"$@\"; }\n"
	cmd := exec.CommandContext(ctx, bash, "--norc", "-c", strict+code) //nolint:gosec // our own pages
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// callbackOf waits for the callback of a ticket at the receiver of dev.
func callbackOf(t *testing.T, receiver, ticket string) (got demoCallback) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, receiver+"/received", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it was read
		var all struct{ Callbacks []demoCallback }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&all))
		for _, c := range all.Callbacks {
			if c.TicketID == ticket {
				got = c
			}
		}
		return got.ID != ""
	}, startLimit, 50*time.Millisecond, "the callback of %s comes", ticket)
	return got
}

// What the pages for callers and receivers say can be typed in, and does what they say.
func TestExamplesOfTheDocumentationWork(t *testing.T) {
	t.Parallel()
	at := announced(t, launch(t, nil, "dev", "--json", "--port", "0", "--dir", openDir(t)))
	out := typedIn(t, t.TempDir(), runnable(t, "callers.md")+"\necho; echo \"END $T $(curl -s $URL/v1/tickets/$T -H \"Authorization: Bearer $KEY\")\"\n",
		"URL="+at["api"], "KEY="+at["api_key"], "PKEY="+at["person_key"], "HOOK="+at["callback"]+"/hook")
	require.Contains(t, out, `"done":"POST /v1/transfers"}`, "the result of what was approved")
	require.Contains(t, out, `"done":"GET /v1/customers/42"`, "the answer of what is allowed")
	require.Contains(t, out, "withdrawn by the caller: wrong customer")
	_, end, _ := strings.Cut(out, "END ")
	ticket, state, _ := strings.Cut(end, " ")
	require.Contains(t, state, `"state":"succeeded"`)
	require.Contains(t, state, `"person":"dev"`)

	got, dir := callbackOf(t, at["callback"], ticket), t.TempDir()
	require.True(t, got.Verified)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "body"), got.Body, 0o600))
	signature := typedIn(t, dir, runnable(t, "callbacks.md"),
		"SECRET="+at["callback_secret"], "ID="+got.ID, "TIMESTAMP="+got.Headers.Get("Webhook-Timestamp"))
	require.Contains(t, strings.Fields(got.Headers.Get("Webhook-Signature")), "v1,"+strings.TrimSpace(signature))
}
