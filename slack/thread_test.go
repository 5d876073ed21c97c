package slack_test

import (
	"fmt"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func said(m slack.Message) string { return m.Blocks[0].(*slackgo.SectionBlock).Text.Text }

func TestReminderMentionsWhoeverMayStillDecide(t *testing.T) {
	t.Parallel()
	ticket := approved(t, submitted(t, submission(), plan()), "bo")
	m := slack.Reminder(viewOf(ticket, 0), 2)
	require.NoError(t, slack.Lint(m))
	require.Equal(t, ":bell: Reminder 2: still waiting for 1 approval from <@U02CHEN> or *eve*; "+
		"expires <!date^1795532400^{date_short_pretty} {time}|2026-11-24 15:00 UTC>.", said(m))
	golden(t, "reminder", map[string]any{"text": m.Text, "blocks": m.Blocks})
}

func escalated(t *testing.T, p approvals.Plan) approvals.Ticket {
	t.Helper()
	ticket := submitted(t, submission(), p)
	tr, err := ticket.Escalate(0, 1, directory(), start.Add(15*time.Minute))
	return next(t, tr, err)
}

// escalationOf is what the domain says of a tier that fires; of one that there is not, next
// to nothing.
func escalationOf(v slack.View, number int) approvals.Data {
	e := approvals.Data{Number: number}
	if v.Stage < 0 || v.Stage >= len(v.Ticket.Plan.Stages) {
		return e
	}
	if tiers := v.Ticket.Plan.Stages[v.Stage].Escalate; number >= 1 && number <= len(tiers) {
		e.Tier, e.Reason = &tiers[number-1], "no decision after "+tiers[number-1].After.String()
		e.Asked = approvals.Names(v.Directory.Members(e.Tier.To))
	}
	return e
}

func TestEscalationMentionsThePeopleOfItsTier(t *testing.T) {
	t.Parallel()
	m := slack.Escalation(viewOf(escalated(t, plan()), 0), escalationOf(viewOf(escalated(t, plan()), 0), 1))
	require.NoError(t, slack.Lint(m))
	require.Equal(t, ":rotating_light: No decision after 15 min. <@U02DEV>, please review; "+
		"expires <!date^1795532400^{date_short_pretty} {time}|2026-11-24 15:00 UTC>.", said(m))
	golden(t, "escalation", map[string]any{"text": m.Text, "blocks": m.Blocks})
}

func TestEscalationNeverMentionsTheRequesterOrWhoHasDecided(t *testing.T) {
	t.Parallel()
	p := plan()
	p.Stages[0].Escalate[0].To = []string{"ana", "bo", "chen"}
	v := viewOf(approved(t, escalated(t, p), "bo"), 0)
	require.Contains(t, said(slack.Escalation(v, escalationOf(v, 1))), "No decision after 15 min. <@U02CHEN>, please review")
	require.NotContains(t, said(slack.Escalation(v, escalationOf(v, 1))), "U02ANA")
}

func TestEscalationOfAnUnknownTierStillAsks(t *testing.T) {
	t.Parallel()
	for _, tier := range []int{-1, 0, 2, 99} {
		m := slack.Escalation(pendingView(t, nil), escalationOf(pendingView(t, nil), tier))
		require.NoError(t, slack.Lint(m))
		require.Contains(t, said(m), "No decision. <@U02BO>, <@U02CHEN> and *eve*, please review")
	}
}

func TestAtMostTwentyPeopleAreMentioned(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Ticket.Plan.Roster = nil
	v.Directory.People = map[string]approvals.Person{}
	v.Directory.Groups = map[string][]string{"security": nil}
	for i := range 50 {
		name := fmt.Sprintf("p%02d", i)
		v.Directory.People[name] = approvals.Person{Name: name, Slack: fmt.Sprintf("U%08d", i)}
		v.Directory.Groups["security"] = append(v.Directory.Groups["security"], name)
	}
	for _, m := range messagesOf(v)[2:4] {
		require.NoError(t, slack.Lint(m))
		require.Contains(t, said(m), "<@U00000019>")
		require.NotContains(t, said(m), "<@U00000020>")
		require.Contains(t, said(m), "30 more")
	}
	v.Mention = []string{"S0SECURITY"}
	require.Contains(t, said(slack.Reminder(v, 1)), "from <!subteam^S0SECURITY>;")
}

func TestAReminderReachesThoseItMentions(t *testing.T) {
	t.Parallel()
	emu, client := workspace(t)
	v := viewOf(approved(t, submitted(t, submission(), plan()), "bo"), 0)
	ref, err := client.Post(t.Context(), channel, slack.Card(v), slack.PostOptions{})
	require.NoError(t, err)
	before := len(emu.Notifications("U02CHEN"))
	_, err = client.Post(t.Context(), channel, slack.Reminder(v, 1), slack.PostOptions{ThreadTS: ref.TS, Broadcast: true})
	require.NoError(t, err)
	require.Greater(t, len(emu.Notifications("U02CHEN")), before)
	messages := emu.Messages(channel)
	require.Equal(t, ref.TS, messages[len(messages)-1].ThreadTS)
	require.Contains(t, messages[len(messages)-1].Text, "Reminder 1: still waiting for 1 approval from @chen or eve")
}

func TestADelayIsSaidAsPeopleSayIt(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]string{
		30 * time.Second: "30 s", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h", 15*time.Minute + time.Second: "15 min",
	} {
		v := pendingView(t, func(_ *approvals.Submission, p *approvals.Plan) { p.Stages[0].Escalate[0].After = after })
		require.Contains(t, said(slack.Escalation(v, escalationOf(v, 1))), "No decision after "+want+".")
	}
}

func TestEveryNoteIsAsReviewed(t *testing.T) {
	t.Parallel()
	pending := submitted(t, submission(), plan())
	open := asked(t, pending, "Which *ticket* is this for?")
	after, question := replied(t, open, "Case 991 <@U02BO>")
	yes := approved(t, pending, "bo", "chen")
	again, tightened := changed(t, yes, directory(), stricter())
	back, reopened := changed(t, yes, without("bo"), yes.Plan)
	glass := broken(t, approved(t, submitted(t, submission(), breakable()), "bo"), "Production is *down* <!channel>")
	tr, err := pending.Reassess(without("bo", "chen"), start.Add(time.Minute))
	early := next(t, tr, err)
	for name, m := range map[string]slack.Message{
		"asked":         slack.Asked(viewOf(open, 0), *open.Question),
		"answered":      slack.Answered(viewOf(after, 0), question, approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot"}),
		"answered_by":   slack.Answered(viewOf(after, 0), question, approvals.Actor{Kind: approvals.ActorPerson, Name: "ana"}),
		"stalled":       slack.Stalled(states(t)["stalled"], states(t)["stalled"].Ticket.Stalled.Reason),
		"tightened":     slack.AskedAgain(viewOf(again, 0), tightened.Data.Reason),
		"reopened":      slack.AskedAgain(viewIn(back, without("bo")), reopened.Data.Reason),
		"glass_broken":  slack.GlassBroken(viewOf(glass, 0), glass.Decisions[1]),
		"out_of_reach":  slack.Escalation(viewIn(early, without("bo", "chen")), tr.Events[0].Data),
		"glass_at_once": slack.GlassBroken(viewOf(broken(t, submitted(t, submission(), breakable()), "now"), 0), approvals.Decision{Person: "dev", Comment: "now"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, slack.Lint(m))
			golden(t, "note_"+name, map[string]any{"text": m.Text, "blocks": m.Blocks})
		})
	}
}

func TestAQuestionMentionsThoseWhoCanAnswerIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		behalf string
		owners []string
		want   string
	}{
		"the owner":                {"", []string{"ana"}, "<@U02BO> asks <@U02ANA> for details"},
		"for whom, by name":        {"chen", nil, "<@U02BO> asks <@U02CHEN> for details"},
		"for whom, by Slack id":    {"u02chen", nil, "<@U02BO> asks <@U02CHEN> for details"},
		"both, once each":          {"ana", []string{"ana", "chen"}, "<@U02BO> asks <@U02ANA> and <@U02CHEN> for details"},
		"nobody in Slack":          {"eve", nil, "<@U02BO> asks *payroll-bot* for details"},
		"somebody who is not ours": {"<!channel>", nil, "<@U02BO> asks *payroll-bot* for details"},
	} {
		v := viewOf(asked(t, submitted(t, submission(), plan()), "Which ticket?"), 0)
		v.Ticket.OnBehalfOf, v.Directory.Owners = test.behalf, map[string][]string{"payroll-bot": test.owners}
		require.Contains(t, said(slack.Asked(v, *v.Ticket.Question)), test.want, name)
	}
}

func TestAnEscalationSaysWhyAndWhomItAsksInstead(t *testing.T) {
	t.Parallel()
	p := plan()
	p.Stages[0].Escalate[0].Mode, p.Stages[0].Escalate[0].To = approvals.ModeReplace, []string{"dev", "dan"}
	v := viewOf(escalated(t, p), 0)
	require.Contains(t, said(slack.Escalation(v, escalationOf(v, 1))), "<@U02DAN> and <@U02DEV>, please review, instead of those who were asked before;")
}

func TestSomebodyAwayIsNeitherWaitedForNorMentioned(t *testing.T) {
	t.Parallel()
	v := viewIn(standIn(t), absent())
	for _, m := range []slack.Message{slack.Card(v), slack.Reminder(v, 1)} {
		text := textsOf(t, m.Blocks).all()
		require.NotContains(t, text, "<@U02CHEN>")
		require.Contains(t, text, "<@U02DAN>", "who decides in chen's place")
	}
	v.Now = start.Add(48 * time.Hour) // chen is back
	require.Contains(t, said(slack.Reminder(v, 1)), "<@U02CHEN>")
}

func TestWhoeverJoinedLaterIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Directory.Groups["security"] = append(v.Directory.Groups["security"], "dan")
	require.NotContains(t, textsOf(t, slack.Card(v).Blocks).all(), "<@U02DAN>")
	require.Contains(t, textsOf(t, slack.Card(v).Blocks).all(), "2 of 3 people")
}
