package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestAScheduledCallIsJudgedAtBothMoments(t *testing.T) {
	t.Parallel()
	ask := "stages: [{name: s, need: [{from: [bo], approvals: 1}]}]"
	c := ruled(t, "{name: day, action: allow, match: {methods: [POST], when: 'now.getHours() >= 9 && now.getHours() < 18'}}",
		"{name: night, match: {methods: [POST]}, "+ask+"}")
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "billing", Method: "POST", Path: "/x"}
	night := noon.Add(15 * time.Hour)

	for _, same := range []time.Time{{}, noon, noon.Add(-15 * time.Hour), noon.Add(time.Hour), noon.Add(24 * time.Hour)} {
		require.Equal(t, c.Plan(bot, "", call, noon), c.PlanAt(bot, "", call, noon, same))
	}
	got := c.PlanAt(bot, "", call, noon, night)
	require.Equal(t, approvals.ActionDeny, got.Action)
	require.Equal(t, `the policy says something else at not_before: rule "day" now, rule "night" then; submit it nearer to its time`, got.Reason)
	got = c.PlanAt(bot, "", call, night, night.Add(9*time.Hour))
	require.Equal(t, approvals.ActionDeny, got.Action)
	require.Empty(t, got.Stages)
	require.Contains(t, got.Reason, `rule "night" now, rule "day" then`)

	call.Method = "GET"
	require.Equal(t, "no rule matches this call", c.PlanAt(bot, "", call, noon, night).Reason, "at both")
}

func TestAScheduledCallMayMeetNoRuleOrAnErrorThen(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: day, action: allow, match: {methods: [POST], when: 'now.getHours() < 18'}}",
		"{name: odd, stages: [{name: s, need: [{from: [bo], approvals: 1}]}], match: {methods: [GET], when: 'now.getHours() < 18 || body.x == 1'}}")
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "billing", Method: "POST", Path: "/x"}
	night := noon.Add(8 * time.Hour)
	require.Contains(t, c.PlanAt(bot, "", call, noon, night).Reason, `rule "day" now, no rule then`)
	call.Method, call.Body = "GET", []byte("{}")
	got := c.PlanAt(bot, "", call, noon, night)
	require.Contains(t, got.Reason, `rule "odd" now, an error in the condition of rule "odd" then`)
	require.Nil(t, got.BreakGlass)
}

// A call that was let through by day is not made at night.
func TestTodayJudgesAScheduledCallByItsNotBefore(t *testing.T) {
	t.Parallel()
	c := ruled(t, "{name: day, action: allow, match: {when: 'now.getHours() < 18'}}", "{name: night, action: deny, match: {}}")
	ticket := approvals.Ticket{
		Caller: "bot", Call: approvals.Call{Upstream: "billing", Method: "POST", Path: "/x"}, CreatedAt: noon, NotBefore: noon.Add(10 * time.Hour),
	}
	require.Equal(t, approvals.ActionDeny, c.Today(ticket).Action)
	require.Contains(t, c.Today(ticket).Reason, "not_before")
	ticket.NotBefore = time.Time{}
	require.Equal(t, approvals.ActionAllow, c.Today(ticket).Action)
}
