package main

import (
	"encoding/json"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/policy"
)

// recordedWorld is a database with tickets that were submitted under the policy of the
// fixtures.
type recordedWorld struct {
	url    string
	store  *db.Store
	config *policy.Config
}

func recordedCalls(t *testing.T) recordedWorld {
	t.Helper()
	config, err := policy.LoadUnresolved(policyConfig)
	require.NoError(t, err)
	url := dbtest.Database(t)
	w := recordedWorld{url: url, store: dbtest.Store(t, dbtest.PoolOf(t, url), &dbtest.Outbox{}), config: config}
	for range 2 {
		w.submit(t, "ci", "", "GET", "/customers/42")
	}
	w.submit(t, "ci", "", "GET", "/exports/all")
	w.approve(t, w.submit(t, "ci", "", "POST", "/refunds"), "eva")
	w.approve(t, w.submit(t, "ci", "", "POST", "/refunds"), "bo")
	w.submit(t, "payroll-bot", "", "DELETE", "/customers/42")
	w.submit(t, "payroll-bot", "bo", "POST", "/refunds")
	w.submit(t, "ci", "", "DELETE", "/accounts/7")
	return w
}

func (w recordedWorld) submit(t *testing.T, caller, person, method, path string) approvals.Ticket {
	t.Helper()
	id, err := uuid.NewV7()
	require.NoError(t, err)
	who, ok := w.config.Caller(caller)
	require.True(t, ok)
	call := approvals.Call{
		Upstream: "billing", Method: method, Path: path, Query: "a=b",
		Headers: []approvals.Header{{Name: "Accept", Value: "*/*"}}, Body: []byte(`{}`),
	}
	now := time.Now() //nolint:forbidigo // the database's is the real clock too
	res, err := w.store.Submit(t.Context(), db.SubmitRequest{
		Submission: approvals.Submission{ID: approvals.TicketID(id), Caller: caller, OnBehalfOf: person, Call: call},
		Plan:       w.config.Plan(who, person, call, now), Directory: w.config.Directory().At(now),
		Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: id.String()},
	})
	require.NoError(t, err)
	return res.Ticket
}

func (w recordedWorld) approve(t *testing.T, x approvals.Ticket, person string) {
	t.Helper()
	_, err := w.store.Advance(t.Context(), db.Ref{ID: x.ID}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"},
			approvals.Decision{Person: person, Verdict: approvals.Approve, Stage: x.Stage, Digest: x.Digest}, w.config.Directory(), now)
	})
	require.NoError(t, err)
}

// candidate is the policy of the fixtures with fewer people and other rules.
func candidate(t *testing.T) string {
	t.Helper()
	return write(t, "new.yaml", `
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO}
  - {name: chen, slack: U02CHEN}
  - {name: eva, slack: U02EVA}
groups:
  - {name: security, members: [bo, chen]}
  - {name: oncall, members: [eva]}
callers:
  - {name: payroll-bot, key_sha256: env:PAYROLL_KEY_SHA256, owners: [ana], upstreams: [billing]}
  - {name: ci, key_sha256: env:CI_KEY_SHA256, upstreams: [billing]}
upstreams:
  - {name: billing, base_url: "https://billing.internal/v1"}
rules:
  - name: exports
    match: {upstream: billing, methods: [GET], path: "/exports/{name...}"}
    stages: [{name: one, need: [{from: [oncall], approvals: 1}]}]
  - {name: read-only, match: {upstream: billing, methods: [GET, HEAD]}, action: allow}
  - name: delete-customer
    match: {upstream: billing, methods: [DELETE], path: "/customers/{id}"}
    stages: [{name: security, need: [{from: [security], approvals: 1}]}]
  - name: refund
    match: {upstream: billing, methods: [POST], path: /refunds}
    stages: [{name: security, need: [{from: [security], approvals: 2}]}]
  - {name: patches, match: {upstream: billing, methods: [PATCH]}, action: deny}
`)
}

var (
	ticketIDs = regexp.MustCompile(`tkt_[0-9a-z]{26}`)
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d UTC`)
	newYAML   = regexp.MustCompile(`/\S*/new\.yaml`)
)

// anonymous takes out of an output what differs from run to run, in the order in which the
// tickets were submitted: the widths stay.
func anonymous(text string) string {
	text = ticketIDs.ReplaceAllString(text, "tkt_00000000000000000000000000")
	text = times.ReplaceAllString(text, "2026-01-01 00:00 UTC")
	return newYAML.ReplaceAllString(text, "new.yaml")
}

func TestPolicyBacktestShowsWhatACandidateChanges(t *testing.T) {
	t.Parallel()
	w := recordedCalls(t)
	r := command(t, map[string]string{"DATABASE_URL": w.url}, "policy", "backtest", candidate(t))
	require.Equal(t, 0, r.code, r.stderr)
	require.Empty(t, r.stderr.String())
	requireGolden(t, "backtest.golden", anonymous(r.stdout.String()))
}

func TestPolicyBacktestOfThePolicyInForceChangesNothing(t *testing.T) {
	t.Parallel()
	w := recordedCalls(t)
	for name, more := range map[string][]string{"as recorded": nil, "as configured": {"--config", policyConfig}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, append([]string{"policy", "backtest", "--database", w.url, policyConfig}, more...)...)
			require.Equal(t, 0, r.code, r.stderr)
			require.Contains(t, r.stdout.String(), "\n8 the same, 0 different\n")
			require.NotContains(t, r.stdout.String(), "BEFORE")
		})
	}
}

func TestPolicyBacktestAsJSONIsOneObject(t *testing.T) {
	t.Parallel()
	w := recordedCalls(t)
	r := command(t, nil, "policy", "backtest", "--database", w.url, "--json", "--since", "1h", candidate(t))
	require.Equal(t, 0, r.code, r.stderr)
	var got struct {
		Since, Until time.Time
		policy.BacktestReport
	}
	require.NoError(t, json.Unmarshal([]byte(r.stdout.String()), &got))
	require.Equal(t, 8, got.Calls)
	require.Equal(t, time.Hour, got.Until.Sub(got.Since))
	require.Equal(t, policy.Looser, got.Changes[0].Direction, "what loosens comes first")
	require.Equal(t, []string{"patches"}, got.Unreached)
	require.Len(t, got.Impossible, 1)
	require.Equal(t, policy.Votes{Approved: 2, Examples: got.Votes.Examples}, got.Votes)
	require.Len(t, got.Votes.Examples, 2)
}

func TestPolicyBacktestReplaysWhatIsAskedForOnly(t *testing.T) {
	t.Parallel()
	w := recordedCalls(t)
	r := command(t, nil, "policy", "backtest", "--database", w.url, "--limit", "2", policyConfig)
	require.Equal(t, 0, r.code, r.stderr)
	require.Contains(t, r.stdout.String(), "2 calls from ")
	require.Contains(t, r.stdout.String(), "only the latest were replayed (--limit)")
	r = command(t, nil, "policy", "backtest", "--database", w.url, "--since", "2020-01-01", "--until", "2020-02-01T00:00:00Z", policyConfig)
	require.Equal(t, 0, r.code, r.stderr)
	require.Equal(t, "no call was recorded from 2020-01-01 00:00 UTC to 2020-02-01 00:00 UTC\n", r.stdout.String())
}

func TestPolicyBacktestSaysWhyItCannotRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, says string }{
		"nobody listens": {"postgres://gate:hunter2@127.0.0.1:1/none", "connect to the database"},
		"not migrated":   {dbtest.Empty(t), "countersign migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, "policy", "backtest", "--database", c.url, policyConfig)
			r.requireRefused(t, exitFailed, c.says)
			require.NotContains(t, r.stderr.String(), "hunter2")
		})
	}
}
