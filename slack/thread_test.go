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

func TestEscalationMentionsThePeopleOfItsTier(t *testing.T) {
	t.Parallel()
	m := slack.Escalation(viewOf(escalated(t, plan()), 0), 1)
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
	require.Contains(t, said(slack.Escalation(v, 1)), "No decision after 15 min. <@U02CHEN>, please review")
	require.NotContains(t, said(slack.Escalation(v, 1)), "U02ANA")
}

func TestEscalationOfAnUnknownTierStillAsks(t *testing.T) {
	t.Parallel()
	for _, tier := range []int{-1, 0, 2, 99} {
		m := slack.Escalation(pendingView(t, nil), tier)
		require.NoError(t, slack.Lint(m))
		require.Contains(t, said(m), "No decision. <@U02BO>, <@U02CHEN> and *eve*, please review")
	}
}

func TestAtMostTwentyPeopleAreMentioned(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Directory.People = map[string]approvals.Person{}
	v.Directory.Groups = map[string][]string{"security": nil}
	for i := range 50 {
		name := fmt.Sprintf("p%02d", i)
		v.Directory.People[name] = approvals.Person{Name: name, Slack: fmt.Sprintf("U%08d", i)}
		v.Directory.Groups["security"] = append(v.Directory.Groups["security"], name)
	}
	for _, m := range messagesOf(v)[2:] {
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
		require.Contains(t, said(slack.Escalation(v, 1)), "No decision after "+want+".")
	}
}
