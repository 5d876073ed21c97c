package interact_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
	"countersign/slack/emulator"
)

func TestWhoSlackSaysNothingGoodOfCountsAsNobody(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*emulator.User)
		words  string
	}{
		"deactivated":             {func(u *emulator.User) { u.Deleted = true }, "is deactivated"},
		"guest":                   {func(u *emulator.User) { u.IsRestricted = true }, "is a guest"},
		"guest of one channel":    {func(u *emulator.User) { u.IsRestricted, u.IsUltraRestricted = true, true }, "is a guest"},
		"bot":                     {func(u *emulator.User) { u.IsBot = true }, "is a bot"},
		"stranger":                {func(u *emulator.User) { u.IsStranger = true }, "of another organisation"},
		"invited":                 {func(u *emulator.User) { u.IsInvited = true }, "has not joined yet"},
		"of another workspace":    {func(u *emulator.User) { u.TeamID = "T0PARTNER" }, "none of the workspaces that are configured"},
		"of another organisation": {func(u *emulator.User) { u.TeamID, u.IsStranger = "T0PARTNER", true }, "of another organisation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			o.emu.UpdateUser(bo, test.change)
			for i, action := range []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk, slack.ActionView} {
				o.sendAs(t, bo, c, action)
				require.Len(t, o.told(ana), i+1, action)
				require.Contains(t, o.told(ana)[i], "Your click was not counted, because this Slack account ")
				require.Contains(t, o.told(ana)[i], test.words)
			}
			require.Empty(t, o.emu.OpenViews(ana))
			o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventRefused, approvals.EventRefused)
			e := o.last(t, c.ticket, approvals.EventRefused)
			require.Equal(t, []any{approvals.ActorStranger, bo, approvals.CodeNotApprover}, []any{e.Actor.Kind, e.Actor.Name, e.Data.Refusal.Code})
			o.clickWell(t, chen, c, slack.ActionApprove)
			require.Equal(t, approvals.Approved, o.ticket(t, c.ticket).State, "the others still count")
		})
	}
}

// sendAs presses a button in the name of an account that Slack itself may not let press any
// more: whoever is told, it is ana.
func (o *office) sendAs(t *testing.T, user string, c card, action string) {
	t.Helper()
	require.Equal(t, http.StatusOK, o.send(t, o.payload(t, ana, c, action, set(user, "user", "id"))).Status)
}

// halfAMinuteLater makes what Slack has said too old.
func (o *office) halfAMinuteLater(t *testing.T) {
	t.Helper()
	o.clock.move(31 * time.Second)
	for _, table := range []string{"slack_users", "slack_groups"} {
		o.sabotage(t, `UPDATE `+table+` SET read_at = read_at - interval '31 seconds'`)
	}
}

func TestWhatSlackSaidCountsForHalfAMinuteAndNoLonger(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	o.openModal(t, bo, c, slack.ActionView)
	o.emu.UpdateUser(bo, func(u *emulator.User) { u.Deleted = true })
	o.halfAMinuteLater(t)
	o.sendAs(t, bo, c, slack.ActionApprove)
	o.requireTold(t, ana, "is deactivated")
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventRefused)
}

func TestARequesterDoesNotApproveThroughASecondAccount(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("{name: ana, slack: U02ANA}", "{name: ana, slack: [U02ANA, U02DEV]}")
	c := o.ask(t, oneApproval)
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny} {
		require.Nil(t, o.clickWell(t, dev, c, action).OpenedView)
	}
	require.Contains(t, o.told(dev)[0], "You count as the requester")
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused)
	require.Equal(t, approvals.CodeSelfApproval, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code)
}

func TestOnePersonWithTwoAccountsCountsOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("{name: bo, slack: U02BO}", "{name: bo, slack: [U02BO, U02DEV]}", "from: [bo], approvals", "from: [bo], approvals")
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.clickWell(t, dev, c, slack.ActionApprove)
	o.requireTold(t, dev, "You have already decided")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventRefused)
}

// withGroup has two people of a Slack user group asked for twoApprovals.
func (o *office) withGroup(t *testing.T) {
	t.Helper()
	o.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{bo, chen} })
	o.rewrite("groups:\n", "groups:\n  - {name: oncall, slack_usergroup: S0ONCALL}\n",
		"{name: both, need: [{from: [security], approvals: 2}]", "{name: both, need: [{from: [oncall], approvals: 2}]",
		"{name: U02DEV, email: dev@example.com}", "{name: devin, slack: U02DEV}", "erin, U02DEV]", "erin]")
	_, err := o.facts.Fresh(t.Context(), []string{bo, chen, dev}, []string{"S0ONCALL"})
	require.NoError(t, err, "learn who is in the group")
}

func TestWhoHasLeftTheUserGroupDoesNotDecide(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.withGroup(t)
	c := o.ask(t, twoApprovals)
	o.clickWell(t, dev, c, slack.ActionApprove)
	o.requireTold(t, dev, "You are not an approver")
	o.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{chen, dev} })
	o.halfAMinuteLater(t)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.requireTold(t, bo, "You are not an approver")
	o.clickWell(t, dev, c, slack.ActionApprove) // is in it now
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventDecided)
}

// The quorum is counted with who is in the group when it is counted, not when they voted.
func TestAVoteOfWhoHasLeftTheGroupMeanwhileDoesNotMakeTheQuorum(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.withGroup(t)
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.emu.UpdateUserGroup("S0ONCALL", func(g *emulator.UserGroup) { g.Members = []string{chen, dev} })
	o.halfAMinuteLater(t)
	o.clickWell(t, chen, c, slack.ActionApprove)
	require.Equal(t, approvals.Pending, o.ticket(t, c.ticket).State, "one of two that count")
	o.clickWell(t, dev, c, slack.ActionApprove)
	require.Equal(t, approvals.Approved, o.ticket(t, c.ticket).State)
}

func TestAVoteOfWhoWasDeactivatedMeanwhileDoesNotMakeTheQuorum(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("members: [ana, bo, chen, erin, U02DEV]", "members: [ana, bo, chen, devin]", "{name: U02DEV, email: dev@example.com}", "{name: devin, slack: U02DEV}")
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.emu.UpdateUser(bo, func(u *emulator.User) { u.Deleted = true })
	o.halfAMinuteLater(t)
	o.clickWell(t, chen, c, slack.ActionApprove)
	require.Equal(t, approvals.Pending, o.ticket(t, c.ticket).State, "one of two that count")
	o.clickWell(t, dev, c, slack.ActionApprove)
	require.Equal(t, approvals.Approved, o.ticket(t, c.ticket).State)
}

func TestNobodyDecidesWhenAGroupCannotBeRead(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.withGroup(t)
	c := o.ask(t, twoApprovals)
	o.halfAMinuteLater(t)
	o.emu.AddFault(emulator.Fault{Method: "usergroups.list", Kind: emulator.ErrorReply, Error: "internal_error", Times: 10})
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.requireTold(t, bo, "Slack could not be asked whether you may decide; your click was not counted")
	o.trail(t, c.ticket, approvals.EventRefused)
	e := o.last(t, c.ticket, approvals.EventRefused)
	require.Equal(t, []any{approvals.ActorPerson, "bo"}, []any{e.Actor.Kind, e.Actor.Name}, "the click is kept for the audit")
}

// On Enterprise Grid people are at home in some workspace of the organisation.
func TestAnOrganisationIsTrustedOnlyWhereItIsConfigured(t *testing.T) {
	t.Parallel()
	for name, configured := range map[string]bool{"configured": true, "not configured": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			if configured {
				o.rewrite("app_id: A0EMULATOR", "app_id: A0EMULATOR, enterprise_ids: [E0ORG]")
			}
			o.emu.UpdateUser(bo, func(u *emulator.User) {
				u.EnterpriseUserID, u.EnterpriseID, u.TeamID, u.Teams = "W02BO", "E0ORG", "T0OTHER", []string{"T0OTHER"}
			})
			c := o.ask(t, oneApproval)
			o.send(t, o.payload(t, bo, c, slack.ActionApprove, func(p map[string]any) {
				p["team"], p["enterprise"] = map[string]any{"id": "T0OTHER"}, map[string]any{"id": "E0ORG"}
				set("T0OTHER", "user", "team_id")(p)
			}))
			if configured {
				o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
				return
			}
			o.trail(t, c.ticket)
			o.send(t, o.payload(t, bo, c, slack.ActionApprove, set("T0OTHER", "user", "team_id")))
			o.requireRefused(t, c.ticket, approvals.ActorStranger, bo, approvals.CodeNotApprover)
		})
	}
}
