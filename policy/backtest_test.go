package policy_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

// backtestPolicy has three of security, of whom ana owns the bot, and two on call.
func backtestPolicy(t *testing.T, rules string) *policy.Config {
	t.Helper()
	return parse(t, map[string]string{
		"people": `people:
  - {name: ana, slack: U0ANA}
  - {name: bo, slack: U0BO}
  - {name: chen, slack: U0CHEN}
  - {name: dora, slack: U0DORA}
  - {name: eva, slack: U0EVA}
`,
		"groups": `groups:
  - {name: security, members: [ana, bo, chen]}
  - {name: oncall, members: [dora, eva]}
`,
		"rules": "rules:\n" + rules,
	})
}

const oldRules = `
  - {name: read, match: {upstream: billing, methods: [GET]}, action: allow}
  - {name: write, match: {upstream: billing, methods: [POST]}, stages: [{name: one, need: [{from: [security], approvals: 1}]}]}
  - {name: remove, match: {upstream: billing, methods: [DELETE]}, stages: [{name: one, need: [{from: [security], approvals: 2}]}]}
`

const newRules = `
  - {name: exports, match: {upstream: billing, methods: [GET], path: /exports}, stages: [{name: one, need: [{from: [oncall], approvals: 1}]}]}
  - {name: reading, match: {upstream: billing, methods: [GET]}, action: allow}
  - {name: write, match: {upstream: billing, methods: [POST]}, stages: [{name: one, need: [{from: [oncall], approvals: 1}]}]}
  - {name: remove, match: {upstream: billing, methods: [DELETE], path: "/customers/{id}"}, action: allow}
  - {name: never, match: {upstream: billing, methods: [PATCH]}, action: deny}
`

// recorder makes calls as an old policy recorded them.
type recorder struct {
	t   *testing.T
	old *policy.Config
	n   int
}

func (r *recorder) call(method, path string, state approvals.State, decisions ...approvals.Decision) policy.Recorded {
	r.t.Helper()
	r.n++
	out := policy.Recorded{
		TicketID: fmt.Sprintf("tkt_%026d", r.n), CreatedAt: noon.Add(time.Duration(r.n) * time.Hour), Caller: "bot",
		Call: approvals.Call{Upstream: "billing", Method: method, Path: path}, State: state,
	}
	caller, ok := r.old.Caller("bot")
	require.True(r.t, ok)
	out.Plan = r.old.Plan(caller, "", out.Call, out.CreatedAt)
	for i, d := range decisions {
		d.At = out.CreatedAt.Add(time.Duration(i+1) * time.Minute)
		out.Decisions = append(out.Decisions, d)
	}
	return out
}

func yes(person string) approvals.Decision {
	return approvals.Decision{Person: person, Verdict: approvals.Approve}
}

func replay(t *testing.T, rules string, calls func(r *recorder) []policy.Recorded) policy.BacktestReport {
	t.Helper()
	b := policy.NewBacktest(policy.BacktestConfig{Candidate: backtestPolicy(t, rules)})
	for _, c := range calls(&recorder{t: t, old: backtestPolicy(t, oldRules)}) {
		b.Add(c)
	}
	return b.Report()
}

func TestBacktestOfTheSamePolicyFindsNoChange(t *testing.T) {
	t.Parallel()
	got := replay(t, oldRules, func(r *recorder) []policy.Recorded {
		return []policy.Recorded{
			r.call("GET", "/a", approvals.Succeeded), r.call("POST", "/b", approvals.Succeeded, yes("bo")),
			r.call("PUT", "/c", approvals.Denied),
		}
	})
	require.Equal(t, 3, got.Calls)
	require.Equal(t, 3, got.Same)
	require.Empty(t, got.Changes)
	require.Equal(t, policy.Votes{Approved: 1, Enough: 1, Examples: []string{}}, got.Votes)
	require.Equal(t, []string{"remove"}, got.Unreached)
	require.Equal(t, noon.Add(time.Hour), got.Earliest)
	require.Equal(t, noon.Add(3*time.Hour), got.Latest)
}

func TestBacktestGroupsVerdictsThatChangeByRules(t *testing.T) {
	t.Parallel()
	got := replay(t, newRules, func(r *recorder) []policy.Recorded {
		out := []policy.Recorded{r.call("GET", "/a", approvals.Succeeded), r.call("POST", "/b", approvals.Succeeded, yes("bo"))}
		for range 5 {
			out = append(out, r.call("GET", "/exports", approvals.Succeeded))
		}
		return append(out,
			r.call("DELETE", "/customers/1", approvals.Pending), r.call("DELETE", "/invoices/1", approvals.Failed, yes("bo"), yes("chen")))
	})
	require.Equal(t, 9, got.Calls)
	require.Equal(t, 1, got.Same, "a rule of another name that says the same is no change")
	require.Equal(t, []policy.Change{
		{
			Before: policy.Demand{Action: "approve", Rule: "remove", Approvals: 2}, After: policy.Demand{Action: "allow", Rule: "remove"},
			Direction: policy.Looser, Calls: 1, Examples: []string{"tkt_00000000000000000000000008"},
		},
		{
			Before: policy.Demand{Action: "approve", Rule: "write", Approvals: 1}, After: policy.Demand{Action: "approve", Rule: "write", Approvals: 1},
			Direction: policy.Different, Calls: 1, Sent: 1, Examples: []string{"tkt_00000000000000000000000002"},
		},
		{
			Before: policy.Demand{Action: "allow", Rule: "read"}, After: policy.Demand{Action: "approve", Rule: "exports", Approvals: 1},
			Direction: policy.Stricter, Calls: 5, Sent: 5,
			Examples: []string{"tkt_00000000000000000000000003", "tkt_00000000000000000000000004", "tkt_00000000000000000000000005"},
		},
		{
			Before: policy.Demand{Action: "approve", Rule: "remove", Approvals: 2}, After: policy.Demand{Action: "deny"},
			Direction: policy.Stricter, Calls: 1, Sent: 1, Examples: []string{"tkt_00000000000000000000000009"},
		},
	}, got.Changes)
	require.Equal(t, []string{"never"}, got.Unreached)
	require.Equal(t, policy.Votes{Approved: 1, Examples: []string{"tkt_00000000000000000000000002"}}, got.Votes, "bo may not approve it any more")
}

func TestBacktestBoundsTheApprovalsOfEachPerson(t *testing.T) {
	t.Parallel()
	got := replay(t, oldRules, func(r *recorder) []policy.Recorded {
		return []policy.Recorded{
			r.call("POST", "/b", approvals.Succeeded, yes("bo")), r.call("POST", "/b", approvals.Expired),
			r.call("DELETE", "/c", approvals.Succeeded, yes("bo"), yes("chen")),
		}
	})
	require.Equal(t, []policy.Workload{ // of security, ana owns the bot
		{Person: "bo", AtLeast: 1, AtMost: 3, Share: 2, Gave: 2},
		{Person: "chen", AtLeast: 1, AtMost: 3, Share: 2, Gave: 1},
	}, got.Approvals)
}

func TestBacktestCountsOncePerStageWhereTheRuleSaysSo(t *testing.T) {
	t.Parallel()
	got := replay(t, `
  - name: all
    match: {upstream: billing}
    stages:
      - {name: one, need: [{from: [dora], approvals: 1}]}
      - {name: two, need: [{from: [security, oncall], approvals: 3}]}
`, func(r *recorder) []policy.Recorded { return []policy.Recorded{r.call("POST", "/b", approvals.Pending)} })
	byName := make(map[string]policy.Workload)
	for _, l := range got.Approvals {
		byName[l.Person] = l
	}
	require.Equal(t, 1, byName["dora"].AtLeast)
	require.Equal(t, 1, byName["dora"].AtMost, "one vote a ticket")
	require.Equal(t, 1, byName["bo"].AtLeast, "without dora, who is spent, all three are needed")
	require.Equal(t, 1, byName["eva"].AtLeast)
}

func TestBacktestNamesCallsThatNobodyCouldApprove(t *testing.T) {
	t.Parallel()
	got := replay(t, `
  - {name: all, match: {upstream: billing}, stages: [{name: one, need: [{from: [security], approvals: 2}]}]}
`, func(r *recorder) []policy.Recorded {
		forBo := r.call("POST", "/b", approvals.Succeeded, yes("chen"))
		forBo.OnBehalfOf = "bo"
		return []policy.Recorded{forBo, r.call("POST", "/b", approvals.Pending)}
	})
	require.Len(t, got.Impossible, 1)
	require.Equal(t, "all", got.Impossible[0].Rule)
	require.Equal(t, 1, got.Impossible[0].Calls)
	require.Contains(t, got.Impossible[0].Problem, "cannot be satisfied")
	require.Equal(t, []string{"tkt_00000000000000000000000001"}, got.Impossible[0].Examples)
}

func TestBacktestComparesWithAConfigurationInPlaceOfWhatWasRecorded(t *testing.T) {
	t.Parallel()
	r := recorder{t: t, old: backtestPolicy(t, newRules)}
	call := r.call("DELETE", "/customers/1", approvals.Succeeded)
	b := policy.NewBacktest(policy.BacktestConfig{Candidate: backtestPolicy(t, oldRules), Current: backtestPolicy(t, oldRules)})
	b.Add(call)
	require.Empty(t, b.Report().Changes, "both configurations say the same, whatever was recorded")
	b = policy.NewBacktest(policy.BacktestConfig{Candidate: backtestPolicy(t, oldRules)})
	b.Add(call)
	require.Len(t, b.Report().Changes, 1)
}

func TestBacktestNoticesThatAGroupHasOtherMembers(t *testing.T) {
	t.Parallel()
	other := parse(t, map[string]string{
		"groups": "groups:\n  - {name: security, members: [bo, chen]}\n",
		"rules":  "rules:" + oldRules,
	})
	same := parse(t, map[string]string{"rules": "rules:" + oldRules})
	r := recorder{t: t, old: same}
	b := policy.NewBacktest(policy.BacktestConfig{Candidate: other, Current: same})
	b.Add(r.call("POST", "/b", approvals.Pending))
	report := b.Report()
	require.Len(t, report.Changes, 1)
	require.Equal(t, policy.Different, report.Changes[0].Direction)
}

func TestBacktestOfACallerWhoIsGoneDenies(t *testing.T) {
	t.Parallel()
	got := replay(t, oldRules, func(r *recorder) []policy.Recorded {
		gone := r.call("GET", "/a", approvals.Succeeded)
		gone.Caller = "former-bot"
		return []policy.Recorded{gone}
	})
	require.Len(t, got.Changes, 1)
	require.Equal(t, policy.Demand{Action: approvals.ActionDeny}, got.Changes[0].After)
}

func TestBacktestReportIsJSONWithoutNulls(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(policy.NewBacktest(policy.BacktestConfig{Candidate: backtestPolicy(t, oldRules)}).Report())
	require.NoError(t, err)
	require.JSONEq(t, `{"calls":0,"same":0,"changes":[],"votes":{"approved":0,"enough":0,"not_enough_examples":[]},"approvals":[],
		"impossible":[],"unreached_rules":["read","write","remove"]}`, string(got))
}
