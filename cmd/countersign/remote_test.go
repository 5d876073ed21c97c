package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/client"
	"countersign/db/dbtest"
)

// office is a service with a caller, an approver, an operator, and an upstream that does as
// it is told by the path: /status/N, /cut, and anything else is 200.
type office struct {
	served
}

func keyOf(who string) string {
	if who == "bot" {
		return apiKey
	}
	return "csp_key_of_" + who
}

func hashOf(who string) string {
	sum := sha256.Sum256([]byte(keyOf(who)))
	return hex.EncodeToString(sum[:])
}

// openOffice starts one; callbacks is that section of the caller, if it is to have one.
func openOffice(t *testing.T, callbacks ...string) office {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		switch _, err := fmt.Sscanf(r.URL.Path, "/status/%d", &status); {
		case r.URL.Path == "/cut":
			panic(http.ErrAbortHandler)
		case err == nil:
			w.WriteHeader(status)
		}
		body, _ := io.ReadAll(r.Body) // what there is of it
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"method": %q, "got": %q}`, r.Method, body) //nolint:gosec // no browser reads it
	}))
	t.Cleanup(up.Close)
	config := write(t, "countersign.yaml", fmt.Sprintf(`
server: {listen: "127.0.0.1:1", drain: 1s}
encryption: {keyset: env:KEYSET}
callers:
  - {name: bot, key_sha256: %s, owners: [ana], upstreams: [billing]%s}
egress: {callbacks: {allow_loopback: true, allow_http: true}}
operators: [dora]
people:
  - {name: ana, slack: U02ANA, key_sha256: %s}
  - {name: bo, slack: U02BO, key_sha256: %s}
  - {name: dora, slack: U02DORA, key_sha256: %s}
upstreams:
  - {name: billing, base_url: %q, request_headers: [accept]}
rules:
  - {name: no-puts, match: {upstream: billing, methods: [PUT]}, action: deny, reason: nobody puts}
  - {name: read-only, match: {upstream: billing, methods: [GET]}, action: allow}
  - name: change
    match: {upstream: billing}
    stages: [{name: peer, need: [{from: [bo], approvals: 1}]}]
`, hashOf("bot"), strings.Join(callbacks, ""), hashOf("ana"), hashOf("bo"), hashOf("dora"), up.URL))
	return office{serve(t, dbtest.Database(t), config)}
}

// as is the environment of somebody who uses the command line.
func (o office) as(who string) map[string]string {
	return map[string]string{"COUNTERSIGN_URL": o.base, "COUNTERSIGN_KEY": keyOf(who)}
}

// run runs a command line of somebody to its end.
func (o office) run(t *testing.T, who string, args ...string) *running {
	t.Helper()
	return command(t, o.as(who), args...)
}

// open submits a call that waits for bo, and returns its ticket.
func (o office) open(t *testing.T, path string) (id string) {
	t.Helper()
	r := o.run(t, "bot", "submit", "billing", "POST", path, "--json", "--why", "case 991")
	require.Equal(t, 0, r.code, r.stderr)
	id, _ = document(t, r.stdout.String())["id"].(string)
	require.NotEmpty(t, id)
	return id
}

func document(t *testing.T, text string) (out map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &out), "one JSON document: %s", text)
	return out
}

func (o office) digest(t *testing.T, id string) string {
	t.Helper()
	r := o.run(t, "bo", "tickets", id, "--json")
	require.Equal(t, 0, r.code, r.stderr)
	digest, _ := document(t, r.stdout.String())["digest"].(string)
	return digest
}

func (o office) approve(t *testing.T, id string) {
	t.Helper()
	r := o.run(t, "bo", "approve", id, "--yes", "--digest", o.digest(t, id))
	require.Equal(t, 0, r.code, r.stderr)
}

var ticketID = regexp.MustCompile(`tkt_[0-9a-z]{26}`)

func TestACallIsSubmittedApprovedAndItsAnswerPrinted(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	file := write(t, "body.json", `{"amount":1200}`+"\n")
	waiting := launch(t, o.as("bot"), "submit", "billing", "post", "/refunds?a=1", "--why", "double charge", "-d", "@"+file,
		"-H", "Accept: application/json", "--query", "b=2", "--metadata", "case=991", "--wait")
	var id string
	require.Eventually(t, func() bool {
		r := o.run(t, "bo", "tickets", "--mine")
		id = ticketID.FindString(r.stdout.String())
		return id != ""
	}, commandLimit, 20*time.Millisecond, "it waits for bo")
	sheet := o.run(t, "bo", "tickets", id).stdout.String()
	for _, words := range []string{id, "pending", "POST billing /refunds?a=1&b=2", "double charge", "peer (1 of 1): 0 of 1 approvals", "bo", "case=991", "Digest"} {
		require.Contains(t, sheet, words)
	}
	o.approve(t, id)
	require.Equal(t, 0, waiting.end(t, commandLimit), waiting.stderr)
	require.Equal(t, `{"method": "POST", "got": "{\"amount\":1200}"}`, waiting.stdout.String(), "the upstream's body, and nothing else")
	for _, words := range []string{"bot", "submitted the call", "bo", "approved at stage 1, 1 of 1", "the call is being made", "succeeded: the upstream answered 200"} {
		require.Contains(t, waiting.stderr.String(), words, "what happened is shown")
	}
	again := o.run(t, "bot", "tickets", id, "--result")
	require.Equal(t, waiting.stdout.String(), again.stdout.String(), "and can be read later")
}

func TestAnOrdinaryClientMakesItsCallsThroughTheFront(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, err := client.New(client.Config{BaseURL: o.base, Key: apiKey})
	require.NoError(t, err)
	transport, err := c.Transport(client.TransportConfig{Upstream: "billing"})
	require.NoError(t, err)
	billing := &http.Client{Transport: transport}
	do := func(method, path string) (status int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://billing"+path, nil)
		require.NoError(t, err)
		res, err := billing.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close() //nolint:errcheck // read to its end
		raw, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Regexp(t, ticketID, res.Header.Get("Countersign-Ticket"))
		return res.StatusCode, string(raw)
	}
	status, body := do("GET", "/a")
	require.Equal(t, 200, status, "what is allowed is made at once: %s", body)
	require.Equal(t, `{"method": "GET", "got": ""}`, body)
	status, body = do("GET", "/status/503")
	require.Equal(t, 503, status, "the upstream's own status")
	require.Equal(t, `{"method": "GET", "got": ""}`, body)
	_, body = do("GET", "/cut")
	require.Contains(t, body, "outcome_unknown")
	_, body = do("PUT", "/a")
	require.Contains(t, body, "is denied")

	made := make(chan string, 1)
	go func() {
		_, body := do("DELETE", "/customers/42")
		made <- body
	}()
	var id string
	require.Eventually(t, func() bool {
		id = ticketID.FindString(o.run(t, "bo", "tickets", "--mine").stdout.String())
		return id != ""
	}, commandLimit, 20*time.Millisecond, "it waits for bo")
	o.approve(t, id)
	require.Equal(t, `{"method": "DELETE", "got": ""}`, arrival(t, made, "the answer"))
}

func TestExitCodesSayWhatBecameOfTheCall(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for name, row := range map[string]struct {
		path string
		do   func(t *testing.T, id string)
		code int
		says string
	}{
		"succeeded": {"/a", o.approve, 0, ""},
		"denied": {"/a", func(t *testing.T, id string) {
			t.Helper()
			r := o.run(t, "bo", "deny", id, "--yes", "--digest", o.digest(t, id), "--comment", "not without a contract")
			require.Equal(t, 0, r.code, r.stderr)
			require.Contains(t, r.stdout.String(), id+"  denied")
		}, exitDenied, "is denied"},
		"cancelled": {"/a", func(t *testing.T, id string) {
			t.Helper()
			require.Equal(t, 0, o.run(t, "bot", "cancel", id, "--reason", "no longer needed").code)
		}, exitEnded, "is cancelled"},
		"failed upstream": {"/status/500", o.approve, exitUpstream, "is failed"},
		"in doubt":        {"/cut", o.approve, exitUnknown, "is outcome_unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := o.open(t, row.path)
			row.do(t, id)
			r := o.run(t, "bot", "wait", id)
			require.Equal(t, row.code, r.code, r.stderr)
			require.Contains(t, r.stdout.String(), "submitted the call")
			if row.says == "" {
				require.Empty(t, r.stderr.String())
			} else {
				require.Len(t, r.said(), 1)
				require.Contains(t, r.said()[0], row.says)
			}
			asJSON := o.run(t, "bot", "wait", id, "--json")
			require.Equal(t, row.code, asJSON.code)
			require.Equal(t, id, document(t, asJSON.stdout.String())["id"], "standard output is the ticket alone")
		})
	}
	r := o.run(t, "bot", "submit", "billing", "PUT", "/a")
	require.Equal(t, exitDenied, r.code, "a rule denies at once")
	require.Contains(t, r.stderr.String(), "nobody puts")
}

func TestAnOperatorResolvesACallInDoubtFromTheCommandLine(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/cut")
	o.approve(t, id)
	require.Equal(t, exitUnknown, o.run(t, "bot", "wait", id).code)
	require.Equal(t, exitNotAllowed, o.run(t, "bo", "resolve", id, "succeeded", "--reason", "saw it").code, "not an operator")
	r := o.run(t, "dora", "resolve", id, "succeeded", "--reason", "the customer is gone")
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), id+"  succeeded")
	require.Equal(t, 0, o.run(t, "bot", "wait", id).code)
	r = o.run(t, "bot", "tickets", id, "--result")
	require.Equal(t, exitFailed, r.code, "there is no answer to be printed")
	require.Contains(t, r.stderr.String(), "no_result")
}

func TestAQuestionIsAskedAndAnsweredFromTheCommandLine(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/a")
	require.Contains(t, o.run(t, "bo", "ask", id, "which contract?").stdout.String(), "needs_info")
	require.Contains(t, o.run(t, "bot", "tickets", id).stdout.String(), "bo: which contract?")
	require.Contains(t, o.run(t, "bot", "answer", id, "4711").stdout.String(), id+"  pending")
	require.Equal(t, exitFailed, o.run(t, "bot", "answer", id, "again").code, "there is no question any more")
}

func TestAWaitThatEndsFirstSaysHowToGoOn(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/a")
	late := o.run(t, "bot", "wait", id, "--timeout", "1s")
	require.Equal(t, exitNotDone, late.code, late.stderr)
	require.Contains(t, late.stderr.String(), "countersign wait "+id)
	require.NotContains(t, late.stderr.String(), "deadline", "nothing but that sentence")

	interrupted := launch(t, o.as("bot"), "wait", id)
	require.Eventually(t, func() bool { return strings.Contains(interrupted.stdout.String(), "submitted the call") },
		commandLimit, 10*time.Millisecond, "the timeline begins")
	interrupted.stop() // as Ctrl-C does
	require.Equal(t, exitNotDone, interrupted.end(t, commandLimit))
	require.Contains(t, interrupted.stderr.String(), "countersign wait "+id)
	require.Contains(t, o.run(t, "bot", "tickets", id).stdout.String(), "pending", "the ticket goes on")
}

func TestWhatIsNotAllowedIsExitCode8(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/a")
	for name, r := range map[string]*running{
		"a wrong key":            command(t, map[string]string{"COUNTERSIGN_URL": o.base, "COUNTERSIGN_KEY": "csk_wrong"}, "tickets"),
		"no such ticket":         o.run(t, "bot", "wait", "tkt_00000000000000000000000000"),
		"a caller decides":       o.run(t, "bot", "deny", id, "--yes", "--digest", o.digest(t, id)),
		"an owner decides":       o.run(t, "ana", "approve", id, "--yes", "--digest", o.digest(t, id)),
		"a person submits":       o.run(t, "bo", "submit", "billing", "POST", "/a"),
		"an upstream not theirs": o.run(t, "bot", "submit", "crm", "POST", "/a"),
	} {
		r.requireRefused(t, exitNotAllowed)
		require.NotContains(t, r.stderr.String(), "csk_wrong", name)
		require.Empty(t, r.stdout.String(), name)
	}
}

func TestADecisionIsBoundToWhatWasLookedAt(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/a")
	o.run(t, "bo", "approve", id, "--yes").requireRefused(t, exitUsage, "--digest")
	o.run(t, "bo", "approve", id).requireRefused(t, exitUsage, "no terminal")
	o.run(t, "bo", "approve", id, "--yes", "--digest", "5b1f").requireRefused(t, exitUsage, "64")
	o.run(t, "bo", "approve", id, "--yes", "--digest", strings.Repeat("0", 64)).requireRefused(t, exitFailed, "look at it again")
	require.Contains(t, o.run(t, "bo", "tickets", id).stdout.String(), "0 of 1 approvals")
}

// typed is standard input at which somebody sits.
type typed struct{ io.Reader }

// Terminal says so.
func (typed) Terminal() bool { return true }

func TestOnATerminalTheCallIsShownAndAYesIsAskedFor(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	r := o.run(t, "bot", "submit", "billing", "POST", "/refunds", "--json", "-d", "{\"note\":\"a\u202eb\x1b[31m\"}\n",
		"--why", "say \u202eyes\x1b[2J", "-H", "Accept: text/plain")
	require.Equal(t, 0, r.code, r.stderr)
	id, _ := document(t, r.stdout.String())["id"].(string)

	no := launchWith(t, o.as("bo"), typed{strings.NewReader("y\n")}, "approve", id)
	require.Equal(t, exitFailed, no.end(t, commandLimit))
	require.Contains(t, no.stderr.String(), "nothing was decided")

	yes := launchWith(t, o.as("bo"), typed{strings.NewReader("yes\n")}, "approve", id, "--comment", "checked")
	require.Equal(t, 0, yes.end(t, commandLimit), yes.stderr)
	shown := yes.stderr.String()
	for _, words := range []string{"POST billing /refunds", `{"note":"a\u202eb\u001b[31m"}`, "Accept: text/plain", "Fingerprint", "Approve this call?", `say \u202eyes\u001b[2J`} {
		require.Contains(t, shown, words)
	}
	require.NotContains(t, shown, "\x1b", "nothing for the terminal to obey")
	require.NotContains(t, shown, "\u202e")
	require.Contains(t, yes.stdout.String(), id)
	require.Equal(t, 0, o.run(t, "bot", "wait", id).code)
}

func TestTicketsAreATableForPeopleAndLinesOfJSONForScripts(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first, second := o.open(t, "/a"), o.open(t, "/b")
	require.Equal(t, 0, o.run(t, "bot", "cancel", first).code)
	table := o.run(t, "bot", "tickets").stdout.lines()
	require.Regexp(t, `^ID +STATE +AGE +CALLER +CALL +WHY$`, table[0])
	require.Regexp(t, `^`+second+` +pending +\d+s +bot +POST billing /b +case 991$`, table[1], "newest first")
	require.Regexp(t, `^`+first+` +cancelled`, table[2])
	require.NotContains(t, strings.Join(table, ""), "\x1b", "no colours where nobody looks")

	lines := o.run(t, "bot", "tickets", "--json", "--limit", "1").stdout.lines()
	require.Equal(t, second, document(t, lines[0])["id"])
	require.Equal(t, []string{""}, lines[1:], "one line a ticket")
	only := o.run(t, "bot", "tickets", "--state", "cancelled,expired", "--since", "1h")
	require.Contains(t, only.stdout.String(), first)
	require.NotContains(t, only.stdout.String(), second)
	o.run(t, "bot", "tickets", "--state", "no-such").requireRefused(t, exitFailed, "state")
}

func TestTheKeyIsNeverPartOfTheCommandLine(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	id := o.open(t, "/a")
	file := write(t, "key", keyOf("bot")+"\n")
	r := command(t, nil, "tickets", id, "--server", o.base, "--key-file", file)
	require.Equal(t, 0, r.code, r.stderr)
	r = launchWith(t, nil, strings.NewReader(keyOf("bot")), "tickets", id, "--server", o.base, "--key-file", "-")
	require.Equal(t, 0, r.end(t, commandLimit), r.stderr)
	command(t, nil, "tickets", "--key", apiKey).requireRefused(t, exitUsage, "--key")
	command(t, map[string]string{"COUNTERSIGN_KEY": apiKey}, "tickets").requireRefused(t, exitUsage, "COUNTERSIGN_URL")
	command(t, map[string]string{"COUNTERSIGN_URL": o.base}, "tickets").requireRefused(t, exitUsage, "COUNTERSIGN_KEY")
	command(t, map[string]string{"COUNTERSIGN_URL": "http://countersign.example.com", "COUNTERSIGN_KEY": apiKey}, "tickets").
		requireRefused(t, exitUsage, "--server", "use https")
	command(t, nil, "tickets", "--server", o.base, "--key-file", file+"-not").requireRefused(t, exitUsage, "--key-file")
}

func TestMistakesInACallAreUsageErrors(t *testing.T) {
	t.Parallel()
	env := map[string]string{"COUNTERSIGN_URL": nowhere, "COUNTERSIGN_KEY": apiKey}
	for words, args := range map[string][]string{
		"--query":          {"--query", "force"},
		"--metadata":       {"--metadata", "case"},
		"--header":         {"-H", "Accept"},
		"more than once":   {"-H", "Accept: a", "-H", "accept: b"},
		"--not-before":     {"--not-before", "tomorrow"},
		"--callback-event": {"--callback-event", "ticket.approved"},
		"--data":           {"-d", "@/nonexistent/body"},
		"the query":        {"/a?b=%zz"},
	} {
		line := append([]string{"submit", "billing", "POST"}, args...)
		if args[0][0] == '-' {
			line = append(line, "/a")
		}
		command(t, env, line...).requireRefused(t, exitUsage, words)
	}
	command(t, env, "tickets", "--limit", "-1").requireRefused(t, exitUsage, "--limit")
	command(t, env, "tickets", "--result").requireRefused(t, exitUsage, "--result")
	command(t, env, "resolve", "tkt_1", "maybe", "--reason", "x").requireRefused(t, exitUsage, "outcome")
	command(t, env, "approve", "tkt_1", "--break-glass").requireRefused(t, exitUsage, "--comment")
	command(t, env, "redeliver").requireRefused(t, exitUsage, "--endpoint")
	command(t, env, "redeliver", "--endpoint", "end_1").requireRefused(t, exitUsage, "--since")
	command(t, env, "redeliver", "msg_1", "--since", "1h").requireRefused(t, exitUsage, "one delivery")
}

func TestAServerThatIsNotThereIsExitCode1(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(gone.Close)
	r := command(t, map[string]string{"COUNTERSIGN_URL": gone.URL, "COUNTERSIGN_KEY": apiKey}, "answer", "tkt_1", "yes")
	r.requireRefused(t, exitFailed)
}

func TestWhatOthersWroteCannotSpeakToTheTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain – größe 漢字":                "plain – größe 漢字",
		"a\x1b[2Jb":                       `a\u001b[2Jb`,
		"a\nb\tc\r":                       `a\u000ab\u0009c\u000d`,
		"pay \u202elive":                  `pay \u202elive`,
		"zero\u200bwidth":                 `zero\u200bwidth`,
		"\u3164fill\u2800er":              `\u3164fill\u2800er`,
		"tag\U000e0041":                   `tag\U000e0041`,
		"bad\xff":                         `bad\xff`,
		"c1\u009b31m":                     `c1\u009b31m`,
		"z\u0301\u0301\u0301\u0301\u0301": "z\u0301\u0301\u0301" + `\u0301\u0301`,
	} {
		require.Equal(t, want, safe(in))
	}
	require.Equal(t, "  a\n  b\\u001b\n", safeLines("  ", "a\nb\x1b"))
	require.Equal(t, "abcd…", brief("abcdefgh", 5))
}
