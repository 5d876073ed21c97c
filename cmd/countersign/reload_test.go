package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
	"countersign/slack/emulator"
)

// written is a policy file that the tests change while the service runs.
type written struct {
	upstream, origin, slack string
	members                 string // of security; "" for bo, chen, dev
	need                    string // approver sets; "" for one of security
	more                    string // further fields of the stage
	rule                    string // further fields of the rule, each on a line
	get                     string // what becomes of GET; "" for "action: allow"
	server                  string // "" for what the tests expect of links
	app                     string // "" for the emulator's
}

func (p written) yaml() string {
	sum := sha256.Sum256([]byte(apiKey))
	return fmt.Sprintf(`
server: %s
encryption: {keyset: env:KEYSET}
slack:
  bot_token: env:SLACK_BOT_TOKEN
  signing_secrets: [env:SLACK_SIGNING_SECRET]
  api_url: "%s/api/"
  team_ids: [T0EMULATOR]
  app_id: %s
  channel: "#billing-approvals"
callers:
  - {name: bot, key_sha256: %s, owners: [ana], upstreams: [billing], callbacks: {verification: waived, origins: [%q], secret: env:CALLBACK_SECRET}}
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO}
  - {name: chen, slack: U02CHEN}
  - {name: dev, slack: U02DEV}
  - {name: fay, slack: U02FAY}
  - {name: gil, slack: U02GIL}
groups:
  - {name: security, members: [%s]}
  - {name: oncall, members: [dev]}
upstreams:
  - {name: billing, base_url: %q, credentials: {header: Authorization, value: env:BILLING_TOKEN}}
egress: {callbacks: {allow_loopback: true, allow_http: true}}
rules:
  - {name: read-only, match: {upstream: billing, methods: [GET]}, %s}
  - name: refund
    match: {upstream: billing, methods: [POST], path: /refunds}
%s    stages:
      - {name: security, need: [%s]%s}
`, cmp.Or(p.server, fmt.Sprintf("{listen: \"127.0.0.1:1\", public_url: %q, drain: 10s}", publicURL)), p.slack,
		cmp.Or(p.app, "A0EMULATOR"), hex.EncodeToString(sum[:]), p.origin, cmp.Or(p.members, "bo, chen, dev"), p.upstream,
		cmp.Or(p.get, "action: allow"), p.rule, cmp.Or(p.need, "{from: [security], approvals: 1}"), p.more)
}

// hot is a service whose policy is changed under it.
type hot struct {
	served
	policy    written
	path      string
	slack     *emulator.Server
	calls     <-chan recorded
	callbacks <-chan recorded
	reloads   int // how many different configurations were taken over
}

func hotService(t *testing.T, change ...func(*written)) *hot {
	t.Helper()
	h := &hot{slack: workspace(t)}
	h.policy.slack = h.slack.BaseURL()
	h.policy.upstream, h.calls = recorder(t, http.StatusOK)
	h.policy.origin, h.callbacks = recorder(t, http.StatusNoContent)
	for _, f := range change {
		f(&h.policy)
	}
	h.path = write(t, "countersign.yaml", h.policy.yaml())
	h.served = serve(t, dbtest.Database(t), h.path)
	h.slack.SetInteractionsURL(h.base + "/slack/interactions")
	return h
}

// heedHangups keeps a SIGHUP from ending the tests: services come and go.
var heedHangups = sync.OnceFunc(func() { signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) })

// hangUp has every service of this process read its configuration again.
func hangUp(t *testing.T) {
	t.Helper()
	heedHangups()
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
}

// save writes another policy.
func (h *hot) save(t *testing.T, change ...func(*written)) {
	t.Helper()
	for _, f := range change {
		f(&h.policy)
	}
	// Renamed into place: a file that is half written is another mistake than the one meant.
	whole := h.path + ".new"
	require.NoError(t, os.WriteFile(whole, []byte(h.policy.yaml()), 0o600))
	require.NoError(t, os.Rename(whole, h.path))
}

// reload writes another policy and has it taken over.
func (h *hot) reload(t *testing.T, change ...func(*written)) {
	t.Helper()
	h.save(t, change...)
	hangUp(t)
	h.taken(t)
}

// taken waits until one more configuration is in force, and returns what the log says of it.
func (h *hot) taken(t *testing.T) map[string]any {
	t.Helper()
	h.reloads++
	var lines []map[string]any
	require.Eventually(t, func() bool {
		lines = h.lines("configuration taken over", func(l map[string]any) bool { return l["old_policy"] != l["new_policy"] })
		return len(lines) >= h.reloads
	}, startLimit, 10*time.Millisecond, "configuration %d is taken over", h.reloads)
	return lines[h.reloads-1]
}

// lines returns the log's lines with a message, those that are wanted.
func (h *hot) lines(message string, want func(map[string]any) bool) (out []map[string]any) {
	for _, line := range h.stderr.lines() {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields["msg"] == message && want(fields) {
			out = append(out, fields)
		}
	}
	return out
}

func all(map[string]any) bool { return true }

// refund hands in a call that needs people, and returns its ticket's id.
func (h *hot) refund(t *testing.T, more map[string]any) string {
	t.Helper()
	call := map[string]any{
		"upstream": "billing", "method": "POST", "path": "/refunds", "body": map[string]any{"amount": 42},
		"callback": map[string]any{"url": h.policy.origin + "/hook"},
	}
	for k, v := range more {
		call[k] = v
	}
	return h.submit(t, call)
}

// asked waits for the nth card with buttons to press, and for it to be on record.
func (h *hot) asked(t *testing.T, id string, nth int) (card emulator.Message) {
	t.Helper()
	require.Eventually(t, func() bool {
		cards := 0
		for _, m := range h.slack.Messages("C01BILLING") {
			if m.ThreadTS == "" && strings.Contains(m.Text, short(id)) {
				card = m
				cards++
			}
		}
		return cards == nth && len(card.Buttons) > 0 && len(h.events(t, id, "ticket.notified")) == nth
	}, commandLimit, 10*time.Millisecond, "card %d of %s", nth, id)
	return card
}

// approve presses the button as somebody does.
func (h *hot) approve(t *testing.T, user string, card emulator.Message) {
	t.Helper()
	seen, err := h.slack.Click(t.Context(), user, card.Channel, card.TS, "cs.approve", true)
	require.NoError(t, err)
	require.Empty(t, seen.Warning)
}

// event is the part of a ticket's history that the tests look at.
type event struct {
	Type  string         `json:"type"`
	Actor map[string]any `json:"actor"`
	Data  map[string]any `json:"data"`
}

// events returns the events of a type.
func (h *hot) events(t *testing.T, id, typ string) (out []event) {
	t.Helper()
	var page struct {
		Items []event `json:"items"`
	}
	got := h.get(t, "/v1/tickets/"+id+"/events")
	require.NoError(t, json.Unmarshal(got.body, &page), "%s", got.body)
	for _, e := range page.Items {
		if e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

// await waits for the nth event of a type and returns it.
func (h *hot) await(t *testing.T, id, typ string, nth int) event {
	t.Helper()
	var found []event
	require.Eventually(t, func() bool {
		found = h.events(t, id, typ)
		return len(found) >= nth
	}, commandLimit, 10*time.Millisecond, "%s, number %d, of %s", typ, nth, id)
	return found[nth-1]
}

// executed expects the one call and the callback that says so.
func (h *hot) executed(t *testing.T, id string) {
	t.Helper()
	require.Equal(t, id, arrival(t, h.calls, "the call").header.Get("Idempotency-Key"))
	h.state(t, id, "succeeded")
	require.Empty(t, h.calls, "it is made once")
}

// TestFieldNote14WhoIsAddedToAGroupCannotDecideOnWhatIsInFlight: an owner of the approver
// list adds mallory, here dev's account, to it, and approves with it what was waiting.
func TestFieldNote14WhoIsAddedToAGroupCannotDecideOnWhatIsInFlight(t *testing.T) {
	t.Parallel()
	h := hotService(t, func(p *written) { p.members = "bo, chen" })
	waiting := h.refund(t, nil)
	card := h.asked(t, waiting, 1)
	h.reload(t, func(p *written) { p.members = "bo, chen, dev" })

	h.approve(t, "U02DEV", card)
	refused := h.await(t, waiting, "ticket.refused", 1)
	require.Equal(t, "dev", refused.Actor["name"])
	require.Contains(t, fmt.Sprint(refused.Data), "not_approver")
	h.state(t, waiting, "pending")
	require.NotContains(t, string(h.get(t, "/v1/tickets/"+waiting).body), `"dev"`, "nobody waits for dev")

	later := h.refund(t, nil) // what is asked from now on is asked of dev, too
	h.approve(t, "U02DEV", h.asked(t, later, 1))
	h.executed(t, later)

	h.approve(t, "U02BO", card)
	h.executed(t, waiting)
}

func TestReloadThatLowersTheQuorumLeavesWhatIsInFlightAsItWas(t *testing.T) {
	t.Parallel()
	h := hotService(t, func(p *written) { p.need = "{from: [security], approvals: 2}" })
	id := h.refund(t, nil)
	card := h.asked(t, id, 1)
	h.reload(t, func(p *written) { p.need = "" })
	h.approve(t, "U02BO", card)
	h.await(t, id, "ticket.decided", 1)
	h.state(t, id, "pending")
	require.Empty(t, h.calls)
	h.approve(t, "U02CHEN", card)
	h.executed(t, id)
}

func TestReloadThatRaisesTheQuorumAsksAgain(t *testing.T) {
	t.Parallel()
	h := hotService(t)
	id := h.refund(t, nil)
	first := h.asked(t, id, 1)
	h.reload(t, func(p *written) { p.need = "{from: [security], approvals: 2}" })
	h.approve(t, "U02BO", first)
	h.await(t, id, "ticket.tightened", 1)
	require.Empty(t, h.calls, "one was enough, and is not any more")
	again := h.asked(t, id, 2)
	h.approve(t, "U02BO", again)
	h.await(t, id, "ticket.decided", 2)
	require.Empty(t, h.calls)
	h.approve(t, "U02DEV", again)
	h.executed(t, id)
}

func TestReloadThatRemovesAMemberTakesTheirVoteAlong(t *testing.T) {
	t.Parallel()
	h := hotService(t)
	// Approved, and held back until its hour: only then do the approvals have to stand.
	hour := time.Now().Add(8 * time.Second).UTC() //nolint:forbidigo // an hour by the clock on the wall
	id := h.refund(t, map[string]any{"not_before": hour.Format(time.RFC3339Nano)})
	h.approve(t, "U02BO", h.asked(t, id, 1))
	h.state(t, id, "approved")
	h.reload(t, func(p *written) { p.members = "chen, dev" })
	reopened := h.await(t, id, "ticket.reopened", 1)
	require.Contains(t, fmt.Sprint(reopened.Data), "that of bo", "the reason names whose vote is gone")
	require.Empty(t, h.calls)
	h.approve(t, "U02CHEN", h.asked(t, id, 1)) // the same card, with its buttons again
	h.executed(t, id)
}

func TestReloadThatPutsTheQuorumOutOfReachEscalatesAndTellsTheCaller(t *testing.T) {
	t.Parallel()
	h := hotService(t, func(p *written) {
		p.members, p.need = "bo, chen", "{from: [security], approvals: 2}"
		p.more = ", escalate: [{after: 20h, to: [oncall], mode: add}]"
	})
	id := h.refund(t, nil)
	h.asked(t, id, 1)
	h.reload(t, func(p *written) { p.members = "bo, fay" }) // the rule is in order; fay was not asked
	escalated := h.await(t, id, "ticket.escalated", 1)
	require.Contains(t, fmt.Sprint(escalated.Data), "out of reach")
	require.Empty(t, h.callbacks, "bo and dev can still complete it")

	h.reload(t, func(p *written) { p.members = "gil, fay" })
	h.await(t, id, "ticket.stalled", 1)
	told := arrival(t, h.callbacks, "the callback")
	require.Contains(t, string(told.body), `"type":"ticket.stalled"`)
	require.Contains(t, string(told.body), id)
	h.state(t, id, "pending")
}

func TestChangeOfTheFileIsTakenOverByItself(t *testing.T) {
	t.Parallel()
	h := hotService(t)
	first, _ := h.logged(t, "serving")["policy"].(string)
	h.submitAndExpect(t, "GET", "succeeded")
	h.save(t, func(p *written) {
		p.get, p.members, p.need = "action: deny, reason: closed", "chen, bo", "{from: [security, dev], approvals: 2}"
	})
	line := h.taken(t)
	require.Equal(t, first, line["old_policy"].(string)[:len(first)])
	require.Len(t, line["new_policy"], 64)
	require.Equal(t, []any{"read-only", "refund"}, line["rules_changed"])
	require.Equal(t, []any{"security"}, line["groups_changed"])
	require.NotContains(t, line, "people_changed")
	h.submitAndExpect(t, "GET", "denied")

	// Somebody else's way to write a file: a new one in its place.
	next := filepath.Join(filepath.Dir(h.path), "next")
	h.policy.get = ""
	require.NoError(t, os.WriteFile(next, []byte(h.policy.yaml()), 0o600))
	require.NoError(t, os.Rename(next, h.path))
	h.taken(t)
	h.submitAndExpect(t, "GET", "succeeded")
}

// submitAndExpect hands in a call and waits for what becomes of it.
func (h *hot) submitAndExpect(t *testing.T, method, state string) {
	t.Helper()
	h.state(t, h.submit(t, map[string]any{"upstream": "billing", "method": method, "path": "/customers/42"}), state)
}

func TestDirectoryIsTakenOverAsAWhole(t *testing.T) {
	t.Parallel()
	policy := written{upstream: nowhere, origin: nowhere, slack: workspace(t).BaseURL()}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "10-all.yaml"), []byte(policy.yaml()), 0o600))
	h := &hot{served: serve(t, dbtest.Database(t), dir), policy: policy}
	h.submitAndExpect(t, "PUT", "denied")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README"), []byte("not read"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "20-more.yaml"), []byte(
		"people: [{name: hal, slack: U02HAL}]\ngroups: [{name: putters, members: [hal]}]\nrules:\n"+
			"  - {name: put, match: {upstream: billing, methods: [PUT]}, stages: [{name: one, need: [{from: [putters], approvals: 1}]}]}\n"), 0o600))
	line := h.taken(t)
	require.Equal(t, []any{"put"}, line["rules_added"])
	require.Equal(t, []any{"hal"}, line["people_added"])
	require.Equal(t, []any{"putters"}, line["groups_added"])
	h.submitAndExpect(t, "PUT", "pending")
	require.NoError(t, os.Remove(filepath.Join(dir, "20-more.yaml")))
	require.Equal(t, []any{"put"}, h.taken(t)["rules_removed"])
	h.submitAndExpect(t, "PUT", "denied")
}

func TestConfigurationThatIsNotInOrderChangesNothing(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]struct {
		change   func(*written)
		problems []string
	}{
		"every mistake": {
			func(p *written) { p.members, p.get = "bo, nobody", "action: alow" },
			[]string{`"nobody"`, "alow"},
		},
		"not YAML":              {func(p *written) { p.rule = "\t{" }, []string{"countersign.yaml:"}},
		"no call could be sent": {func(p *written) { p.upstream = "ftp://billing.example.com" }, []string{"ftp"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := hotService(t)
			good := h.policy
			h.save(t, broken.change)
			line := h.logged(t, "the new configuration is not taken over, the old one stays in force")
			require.InDelta(t, len(broken.problems), line["problems"], 1)
			said := fmt.Sprint(h.lines("problem in the new configuration", all))
			for _, p := range broken.problems {
				require.Contains(t, said, p)
			}
			require.Equal(t, http.StatusOK, h.get(t, "/readyz").status)
			h.submitAndExpect(t, "GET", "succeeded")
			// A SIGHUP, which other tests send as well, has it looked at and said again.
			unasked := func(line map[string]any) bool { return line["prompted_by"] == "files" }
			require.LessOrEqual(t, len(h.lines("the new configuration is not taken over, the old one stays in force", unasked)), 1, "it is said once")

			h.policy = good
			h.reload(t, func(p *written) { p.get = "action: deny, reason: closed" })
			h.submitAndExpect(t, "GET", "denied")
		})
	}
}

func TestFileThatIsGoneChangesNothing(t *testing.T) {
	t.Parallel()
	h := hotService(t)
	require.NoError(t, os.Remove(h.path))
	h.logged(t, "the new configuration is not taken over, the old one stays in force")
	h.submitAndExpect(t, "GET", "succeeded")
	h.save(t, func(p *written) { p.get = "action: deny, reason: closed" })
	h.taken(t)
	h.submitAndExpect(t, "GET", "denied")
}

func TestWhatNeedsARestartIsNamedAndTheRestIsTakenOver(t *testing.T) {
	t.Parallel()
	h := hotService(t)
	h.reload(t, func(p *written) {
		p.server = `{listen: "127.0.0.1:2", public_url: "https://elsewhere.example.com", drain: 20s, max_body: 2MiB, data_dir: /tmp/elsewhere}`
		p.slack, p.app, p.get = "http://127.0.0.1:3", "A0OTHER", "action: deny, reason: closed"
	})
	line := h.logged(t, "part of the new configuration needs a restart and is not in force")
	require.ElementsMatch(t, []any{
		"server.listen", "server.public_url", "server.drain", "server.max_body", "server.data_dir", "slack.api_url", "slack.app_id",
	}, line["needs_a_restart"])
	h.submitAndExpect(t, "GET", "denied") // with links to where it is reached
	id := h.refund(t, nil)
	h.approve(t, "U02BO", h.asked(t, id, 1)) // and in the Slack of before
	h.executed(t, id)
}
