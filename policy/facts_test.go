package policy_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/policy"
)

// slackFile has a live group besides a list of people, and two people without a Slack id.
func slackFile(more string) map[string]string {
	return map[string]string{
		"slack": slack("enterprise_ids: [E0], app_id: A0, channel: C0X" + more),
		"people": `people:
  - {name: ana, slack: [U0ANA, W0ANA]}
  - {name: bo, slack: U0BO, email: bo@example.com}
  - {name: chen, slack: U0CHEN}
  - {name: dee, email: [dee@example.com, dee@old.example.com]}
  - {name: eli, email: eli@example.com}
`,
		"groups": `groups:
  - {name: security, members: [ana, bo, dee]}
  - {name: oncall, slack_usergroup: S0ONCALL}
`,
		"rules": stage("need: [{from: [security, oncall], approvals: 1}]"),
	}
}

const byAddress = ", match_email: true, email_domains: [example.com]"

// user is an account that may act.
func user(id, email string) policy.SlackUser {
	return policy.SlackUser{ID: id, TeamID: "T0", Email: email, EmailConfirmed: true, ReadAt: noon}
}

func factsOf(members []string, users ...policy.SlackUser) policy.Facts {
	f := policy.Facts{
		Users:  map[string]policy.SlackUser{},
		Groups: map[string]policy.SlackGroup{"S0ONCALL": {ID: "S0ONCALL", Handle: "oncall", Members: members, ReadAt: noon}},
	}
	for _, u := range users {
		f.Users[u.ID] = u
	}
	return f
}

func onCall(c *policy.Config) []string {
	return approvals.Names(c.Directory().Members([]string{"oncall"}))
}

func TestALiveGroupHasWhomSlackSaysAreInIt(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(""))
	require.Equal(t, []string{"S0ONCALL"}, c.UserGroups())
	require.Equal(t, map[string]string{"oncall": "S0ONCALL"}, c.Directory().Live)
	require.Empty(t, onCall(c), "nobody is in it as long as nobody has asked")
	with := c.With(factsOf([]string{"U0CHEN", "W0ANA", "U0STRANGER"}))
	require.Equal(t, []string{"ana", "chen"}, onCall(with))
	require.Equal(t, c.Digest, with.Digest)
	require.Empty(t, onCall(c), "the configuration itself stays as it was")
	require.Equal(t, []string{"bo"}, onCall(with.With(factsOf([]string{"U0BO"}))), "facts replace those of before")

	disabled := factsOf([]string{"U0CHEN"})
	disabled.Groups["S0ONCALL"] = policy.SlackGroup{ID: "S0ONCALL", Members: []string{"U0CHEN"}, Disabled: true}
	require.Empty(t, onCall(c.With(disabled)))
	require.Empty(t, onCall(c.With(policy.Facts{})))
	guest := user("U0CHEN", "")
	guest.Guest = true
	require.Empty(t, onCall(c.With(factsOf([]string{"U0CHEN"}, guest))))
}

func TestWhoseAccountMayNotActCountsAsNobody(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(""))
	for why, spoil := range map[string]func(*policy.SlackUser){
		"this Slack account is deactivated":                                   func(u *policy.SlackUser) { u.Deleted = true },
		"this Slack account is a bot":                                         func(u *policy.SlackUser) { u.Bot = true },
		"this Slack account is a guest":                                       func(u *policy.SlackUser) { u.Guest = true },
		"this Slack account is of another organisation":                       func(u *policy.SlackUser) { u.Stranger = true },
		"this Slack account has not joined yet":                               func(u *policy.SlackUser) { u.Invited = true },
		"this Slack account is in none of the workspaces that are configured": func(u *policy.SlackUser) { u.TeamID = "T0OTHER" },
		"Slack said nothing of this account":                                  func(u *policy.SlackUser) { *u = policy.SlackUser{} },
	} {
		u := user("U0ANA", "")
		spoil(&u)
		require.Equal(t, why, c.SlackRefusal(u))
		f := factsOf(nil)
		f.Users["U0ANA"] = u
		dir := c.With(f).Directory()
		require.Equal(t, map[string]string{"ana": why}, dir.Inactive)
		require.Equal(t, []string{"bo", "dee"}, approvals.Names(dir.Members([]string{"security", "ana"})))
	}
	require.Empty(t, c.SlackRefusal(user("U0X", "")))
	grid := policy.SlackUser{ID: "W0ANA", TeamID: "T9", EnterpriseID: "E0"}
	require.Empty(t, c.SlackRefusal(grid), "every workspace of the organisation will do")
	require.Empty(t, c.SlackRefusal(policy.SlackUser{ID: "W0ANA", TeamID: "T9", Teams: []string{"T8", "T0"}}))
	second := policy.SlackUser{ID: "W0ANA", TeamID: "T0", Deleted: true}
	dir := c.With(factsOf([]string{"W0ANA"}, second)).Directory()
	require.Empty(t, dir.Inactive, "a further account takes nothing from the first")
	require.Empty(t, dir.Members([]string{"oncall"}), "and brings nobody into a group")
}

func TestAnAddressMakesAnAccountSomebodysOnlyWhereThatIsSure(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(byAddress))
	of := func(users ...policy.SlackUser) string {
		p, _ := c.With(factsOf(nil, users...)).Directory().BySlack("U0NEW")
		return p.Name
	}
	require.Equal(t, "dee", of(user("U0NEW", "Dee@Example.com")))
	require.Empty(t, of(user("U0NEW", "dee@old.example.com")), "another domain")
	require.Empty(t, of(user("U0NEW", "bo@example.com")), "he has a Slack id of his own")
	require.Empty(t, of(user("U0NEW", "nobody@example.com")))
	unsure := user("U0NEW", "dee@example.com")
	unsure.EmailConfirmed = false
	require.Empty(t, of(unsure))
	gone := user("U0OLD", "dee@example.com")
	gone.Deleted = true
	require.Empty(t, of(user("U0NEW", "dee@example.com"), gone), "two accounts have it: which of them is meant?")
	require.Empty(t, of(user("U0NEW", "ee@e\u212Aample.com")), "a letter that only looks like another")
	require.Equal(t, "bo", func() string {
		p, _ := c.With(factsOf(nil, user("U0BO", "dee@example.com"))).Directory().BySlack("U0BO")
		return p.Name
	}(), "what is configured stands")

	with := c.With(factsOf([]string{"U0NEW"}, user("U0NEW", "dee@example.com")))
	require.Equal(t, []string{"dee"}, onCall(with))
	require.Equal(t, "U0NEW", with.Directory().People["dee"].Slack)
	spoilt := user("U0NEW", "dee@example.com")
	spoilt.Guest = true
	require.Contains(t, c.With(factsOf(nil, spoilt)).Directory().Inactive, "dee")
	off := parse(t, slackFile(""))
	_, ok := off.With(factsOf(nil, user("U0NEW", "dee@example.com"))).Directory().BySlack("U0NEW")
	require.False(t, ok, "only where the configuration says so")
}

var accounts = []string{"U0ANA", "W0ANA", "U0BO", "U0CHEN", "U0NEW", "U0MORE", "W0MORE"}

// drawFacts makes up anything that Slack might say.
func drawFacts(t *rapid.T) policy.Facts {
	f := policy.Facts{Users: map[string]policy.SlackUser{}, Groups: map[string]policy.SlackGroup{}}
	coin := func(name string) bool { return rapid.IntRange(0, 3).Draw(t, name) == 0 }
	for _, id := range accounts {
		if coin("unknown") {
			continue
		}
		f.Users[id] = policy.SlackUser{
			ID: id, TeamID: rapid.SampledFrom([]string{"T0", "T0", "T9", ""}).Draw(t, "team"),
			Email:          rapid.SampledFrom([]string{"dee@example.com", "eli@example.com", "bo@example.com", "dee@old.example.com", "x@example.com", ""}).Draw(t, "email"),
			EmailConfirmed: !coin("unconfirmed"), Deleted: coin("deleted"), Bot: coin("bot"), Guest: coin("guest"), Stranger: coin("stranger"), Invited: coin("invited"),
		}
	}
	if !coin("no group") {
		f.Groups["S0ONCALL"] = policy.SlackGroup{ID: "S0ONCALL", Members: rapid.SliceOf(rapid.SampledFrom(accounts)).Draw(t, "members"), Disabled: coin("disabled")}
	}
	return f
}

func TestFactsAddNobodyToAListAndMakeNoTwoPeopleOne(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(byAddress))
	rapid.Check(t, func(t *rapid.T) {
		dir := c.With(drawFacts(t)).Directory()
		require.Subset(t, []string{"ana", "bo", "dee"}, approvals.Names(dir.Members([]string{"security"})))
		require.Equal(t, slices.Sorted(maps.Keys(c.Directory().People)), slices.Sorted(maps.Keys(dir.People)))
		require.Equal(t, c.Directory().Owners, dir.Owners)
		whose := map[string]string{}
		for name, p := range dir.People {
			before := c.Directory().People[name]
			require.True(t, before.Slack == "" || before.Slack == p.Slack, "an id that is configured stays")
			require.Equal(t, before.Accounts, p.Accounts)
			for _, id := range append([]string{p.Slack}, p.Accounts...) {
				require.Empty(t, whose[id], "%s is %s and %s", id, name, whose[id])
				if id != "" {
					whose[id] = name
				}
			}
		}
	})
}

// able is everybody who can act through an account, and where they count.
func able(c *policy.Config, f policy.Facts) map[string]bool {
	out := map[string]bool{}
	with := c.With(f)
	for _, id := range accounts {
		p, ok := with.Directory().BySlack(id)
		if u, known := f.Users[id]; !ok || !known || with.SlackRefusal(u) != "" {
			continue
		}
		for _, name := range []string{"security", "oncall", p.Name} {
			if with.Directory().Members([]string{name})[p.Name] {
				out[id+" as "+p.Name+" in "+name] = true
			}
		}
	}
	return out
}

func TestOneRefusalMoreLetsNobodyIn(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(byAddress))
	rapid.Check(t, func(t *rapid.T) {
		f := drawFacts(t)
		before := able(c, f)
		id := rapid.SampledFrom(accounts).Draw(t, "whose")
		u, known := f.Users[id]
		if !known {
			return
		}
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0:
			u.Deleted = true
		case 1:
			u.Bot = true
		case 2:
			u.Guest = true
		case 3:
			u.Stranger = true
		case 4:
			u.Invited = true
		case 5:
			u.TeamID = "T9"
		default:
			g := f.Groups["S0ONCALL"]
			g.Disabled = true
			f.Groups["S0ONCALL"] = g
		}
		f.Users[id] = u
		for who := range able(c, f) {
			require.True(t, before[who], "%s came in", who)
		}
	})
}

func TestATicketIsConfirmedAsTheStricterPolicySays(t *testing.T) {
	t.Parallel()
	file := func(confirm string) *policy.Config {
		return parse(t, map[string]string{"rules": rule("confirm: " + confirm + ", stages: [{name: one, need: [{from: [security], approvals: 1}]}]")})
	}
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/x"}
	ticket := func(c *policy.Config) approvals.Ticket {
		bot, _ := c.Caller("bot")
		return approvals.Ticket{Caller: "bot", Call: call, CreatedAt: noon, Plan: c.Plan(bot, "", call, noon)}
	}
	levels := map[string]approvals.Confirm{
		"none": approvals.ConfirmNone, "dialog": approvals.ConfirmDialog, "modal": approvals.ConfirmModal, "code": approvals.ConfirmCode,
	}
	for then, a := range levels {
		require.Equal(t, a, ticket(file(then)).Plan.Confirm)
		for today, b := range levels {
			require.Equal(t, a.Stricter(b), file(today).Confirm(ticket(file(then))), "%s, and %s today", then, today)
		}
	}
	allowed := parse(t, map[string]string{"rules": rule("action: allow")})
	require.Equal(t, approvals.ConfirmNone, allowed.Confirm(ticket(file("none"))))
}

func TestAStageWithoutAChannelIsAskedDirectly(t *testing.T) {
	t.Parallel()
	one := func(slackText, stageText string) approvals.Stage {
		replace := map[string]string{"rules": stage("need: [{from: [bo], approvals: 1}]" + stageText)}
		if slackText != "" {
			replace["slack"] = slack(slackText)
		}
		c := parse(t, replace)
		return plan(t, c, "bot", "GET", "/x").Stages[0]
	}
	for _, tt := range []struct {
		slack, stage      string
		channel, fallback string
		direct            bool
	}{
		{"", "", "", "", false}, // nobody is asked in Slack at all
		{"app_id: A0", "", "", "", true},
		{"app_id: A0, channel: C0X", "", "C0X", "", false},
		{"app_id: A0, channel: C0X", ", notify: {direct: true}", "C0X", "", true},
		{"app_id: A0", ", notify: {channel: C0Y}", "C0Y", "", false},
		{"app_id: A0, fallback_channel: C0Z", ", notify: {channel: C0Y}", "C0Y", "C0Z", false},
		{"app_id: A0, fallback_channel: C0Z", ", notify: {fallback: C0W}", "", "C0W", true},
	} {
		got := one(tt.slack, tt.stage)
		require.Equal(t, []any{tt.channel, tt.fallback, tt.direct}, []any{got.Channel, got.Fallback, got.Direct}, "%+v", tt)
	}
}

func TestExplainSaysOfWhichGroupsItKnowsNothing(t *testing.T) {
	t.Parallel()
	c := parse(t, slackFile(""))
	bot, _ := c.Caller("bot")
	call := approvals.Call{Upstream: "billing", Method: "GET", Path: "/x"}
	require.Equal(t, []string{"oncall (Slack user group S0ONCALL)"}, c.Explain(bot, "", call, noon).Unknown)
	require.Empty(t, c.With(factsOf(nil)).Explain(bot, "", call, noon).Unknown)
	only := slackFile("")
	only["rules"] = stage("need: [{from: [oncall], approvals: 2}]")
	c = parse(t, only) // how many are in it is not known when the file is read
	require.Contains(t, c.Explain(bot, "", call, noon).Problem, `nobody is known to be in the Slack user group S0ONCALL of "oncall"`)
	require.Empty(t, c.With(factsOf([]string{"U0BO", "U0CHEN"})).Explain(bot, "", call, noon).Problem)
}

func TestABacktestDoesNotJudgeGroupsItKnowsNothingOf(t *testing.T) {
	t.Parallel()
	candidate := parse(t, slackFile(""))
	b := policy.NewBacktest(policy.BacktestConfig{Candidate: candidate})
	b.Add(policy.Recorded{TicketID: "tkt_1", CreatedAt: noon, Caller: "bot", Call: approvals.Call{Upstream: "billing", Method: "GET", Path: "/x"}, Plan: approvals.Plan{
		Action: approvals.ActionApprove, Stages: []approvals.Stage{{Name: "one", Need: []approvals.ApproverSet{{From: []string{"security", "oncall"}, Approvals: 1}}, Denials: 1, Comment: approvals.CommentDeny}},
		Roster: map[string][]string{"security": {"ana", "bo", "dee"}}, Live: map[string]string{"oncall": "S0ONCALL"},
	}, State: approvals.Succeeded})
	got := b.Report()
	require.Equal(t, []string{"oncall (Slack user group S0ONCALL)"}, got.Unknown)
	require.Equal(t, 1, got.Unjudged)
	require.Empty(t, got.Impossible)
	require.Zero(t, got.Votes.Approved)
	require.Equal(t, 1, got.Same, "it asks the same user group")
}
