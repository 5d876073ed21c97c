package jobs_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/directory"
	"countersign/jobs"
	"countersign/policy"
	"countersign/slack"
	"countersign/slack/emulator"
)

// company is a world whose approvers are a Slack user group.
type company struct {
	*world
	*emulator.Server
	source *directory.Source
	ahead  atomic.Int64 // of the clock that facts age by
	asked  atomic.Int64 // how often Slack was asked
}

func withGroup(t *testing.T, change ...func(*shape)) *company {
	t.Helper()
	c := &company{world: setup(t, change...)}
	users := []emulator.User{{ID: "U0ANA", Name: "ana"}, {ID: "U0BO", Name: "bo"}, {ID: "U0CHEN", Name: "chen"}}
	c.Server = emulator.New(emulator.Config{Workspace: emulator.Workspace{
		Users: users, UserGroups: []emulator.UserGroup{{ID: "S0SECURITY", Handle: "security", Members: []string{"U0ANA", "U0BO", "U0CHEN"}}},
	}})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.asked.Add(1)
		c.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(c.Close)
	c.SetBaseURL(srv.URL)
	yaml := strings.Replace(c.shape.yaml(), "{name: security, members: [ana, bo, chen]}", "{name: security, slack_usergroup: S0SECURITY}", 1)
	config, err := policy.Parse("test.yaml", []byte(yaml), getenv)
	require.NoError(t, err)
	c.config.Store(config)
	client, err := slack.New(slack.Config{Token: "xoxb-emulator", APIURL: srv.URL + "/api/", HTTP: srv.Client()}) //nolint:gosec // made up
	require.NoError(t, err)
	c.source, err = directory.New(directory.Config{
		Store: c.store, Client: client, Policy: c.config.Load, ClickBudget: patience, ClaimBudget: patience,
		Now: func() time.Time { return wallClock().Add(time.Duration(c.ahead.Load())) }, Logger: quiet(),
	})
	require.NoError(t, err)
	return c
}

// asking makes a runner ask for fresh facts.
func (c *company) asking(config *jobs.Config) {
	config.Policy = c.source.Policy
	config.Fresh = func(ctx context.Context, t approvals.Ticket) error {
		_, err := c.source.FreshFor(ctx, t)
		return err
	}
}

func (c *company) members(ids ...string) {
	c.UpdateUserGroup("S0SECURITY", func(g *emulator.UserGroup) { g.Members = ids })
}

// later lets so much time go by that all facts are too old.
func (c *company) later() {
	c.tb.Helper()
	c.ahead.Add(int64(2 * directory.MaxAge))
	c.sql(`UPDATE slack_users SET read_at = read_at - interval '1 minute'`)
	c.sql(`UPDATE slack_groups SET read_at = read_at - interval '1 minute'`)
}

// asks submits a call under the facts of now.
func (c *company) asks() string {
	c.tb.Helper()
	config, err := c.source.Fresh(c.tb.Context(), nil, []string{"S0SECURITY"})
	require.NoError(c.tb, err)
	c.config.Store(config) // what request builds a plan from
	defer func() { c.config.Store(config.With(policy.Facts{})) }()
	return c.submit(call{}).ID
}

// clicks is a yes in Slack, judged as clicks are: by fresh facts of everybody concerned.
func (c *company) clicks(id, person, account string) approvals.Ticket {
	c.tb.Helper()
	config, err := c.source.Fresh(c.tb.Context(), []string{account}, []string{"S0SECURITY"})
	require.NoError(c.tb, err)
	actor := approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack", Ref: "T0EMULATOR/" + account}
	return c.advance(id, func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
		d := approvals.Decision{Person: person, Verdict: approvals.Approve, Stage: t.Stage, Digest: t.Digest}
		return t.Decide(actor, d, config.Directory(), now)
	})
}

func TestMemberRemovedBetweenDecisionAndQuorumDoesNotCount(t *testing.T) {
	t.Parallel()
	c := withGroup(t, quorumOfTwo)
	id := c.asks()
	c.clicks(id, "ana", "U0ANA")
	c.members("U0BO", "U0CHEN")
	c.later()
	require.Equal(t, approvals.Pending, c.clicks(id, "bo", "U0BO").State, "one of two: ana does not count any more")
	require.Equal(t, approvals.Approved, c.clicks(id, "chen", "U0CHEN").State)
	c.run(c.asking)
	c.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, c.upstream.callsOf(id))
	c.requireWhole(id)
}

func TestWhoIsGoneBetweenQuorumAndClaimIsFoundOut(t *testing.T) {
	t.Parallel()
	for name, leaves := range map[string]func(*company){
		"out of the group": func(c *company) { c.members("U0BO", "U0CHEN") },
		"deactivated":      func(c *company) { c.UpdateUser("U0ANA", func(u *emulator.User) { u.Deleted = true }) },
		"the group is off": func(c *company) { c.UpdateUserGroup("S0SECURITY", func(g *emulator.UserGroup) { g.Disabled = true }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := withGroup(t)
			id := c.asks()
			require.Equal(t, approvals.Approved, c.clicks(id, "ana", "U0ANA").State)
			leaves(c)
			c.later()
			c.run(c.asking)
			c.awaitState(id, approvals.Pending)
			c.settled()
			require.Empty(t, c.upstream.requests())
			events := c.requireWhole(id)
			require.Zero(t, count(events, approvals.EventClaimed))
			require.Equal(t, 1, count(events, approvals.EventReopened))
		})
	}
}

func TestApprovedCallWaitsForSlackAndThenGoesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		meanwhile func(*company)
		state     approvals.State
		calls     int
	}{
		"all as it was":        {func(*company) {}, approvals.Succeeded, 1},
		"the approver is gone": {func(c *company) { c.members("U0BO") }, approvals.Pending, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := withGroup(t)
			id := c.asks()
			c.clicks(id, "ana", "U0ANA")
			c.later()
			c.SetOutage(true)
			before := c.asked.Load()
			c.run(c.asking)
			eventually(t, "Slack is asked, and again", func() bool { return c.asked.Load() >= before+4 })
			require.Equal(t, approvals.Approved, c.ticket(id).State)
			require.Empty(t, c.upstream.requests())
			test.meanwhile(c)
			c.SetOutage(false)
			c.awaitState(id, test.state)
			c.settled()
			require.Equal(t, test.calls, c.upstream.callsOf(id))
			c.requireWhole(id)
		})
	}
}

func TestApprovedCallThatSlackNeverVouchesForExpires(t *testing.T) {
	t.Parallel()
	c := withGroup(t, func(s *shape) { s.more = "execute_within: 3s" })
	id := c.asks()
	c.clicks(id, "ana", "U0ANA")
	c.later()
	c.SetOutage(true)
	c.run(c.asking)
	x := c.awaitTold(id, approvals.Expired, approvals.CallbackDelivered)
	require.Equal(t, "approval_stale", x.Problem.Code)
	require.Empty(t, c.upstream.requests())
	require.Zero(t, count(c.requireWhole(id), approvals.EventClaimed))
}

func TestCallThatRestsOnNothingOfSlacksDoesNotWaitForIt(t *testing.T) {
	t.Parallel()
	c := withGroup(t)
	c.SetOutage(true)
	c.run(c.asking)
	id := c.submit(call{method: http.MethodGet}).ID // which a rule allows
	c.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Zero(t, c.asked.Load())
}
