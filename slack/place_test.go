package slack_test

import (
	"testing"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func waitingFor(m slack.Message) string {
	return block(m, "facts").(*slackgo.SectionBlock).Fields[3].Text
}

func TestAUserGroupIsMentionedAsOneAndNotPersonByPerson(t *testing.T) {
	t.Parallel()
	ticket := asksUserGroup(t)
	require.Equal(t, map[string]string{"oncall": "S0ONCALL"}, ticket.Plan.Live)
	require.Equal(t, "*Waiting for*\n<!subteam^S0ONCALL>, <@U02BO>", waitingFor(slack.Card(viewIn(ticket, live()))))
	require.Contains(t, said(slack.Reminder(viewIn(ticket, live()), 1)), "from <!subteam^S0ONCALL> or <@U02BO>")
	e := approvals.Data{Number: 1, Asked: []string{"dev", "dan", "eve"}}
	require.Contains(t, said(slack.Escalation(viewIn(ticket, live()), e)), "<!subteam^S0ONCALL>, please review")
	e.Asked = []string{"dan"}
	require.Contains(t, said(slack.Escalation(viewIn(ticket, live()), e)), "<@U02DAN>, please review", "the others of the group are not called")
}

func TestAUserGroupCountsOnlyWhileTheConfigurationSaysSoToo(t *testing.T) {
	t.Parallel()
	ticket := asksUserGroup(t)
	for name, today := range map[string]map[string]string{"no group": nil, "another": {"oncall": "S0OTHER"}, "no id": {"oncall": "!channel"}} {
		dir := live()
		dir.Live = today
		require.Equal(t, "*Waiting for*\n<@U02BO>", waitingFor(slack.Card(viewIn(ticket, dir))), name)
	}
	odd := ticket
	odd.Plan.Live = map[string]string{"oncall": "!channel"}
	dir := live()
	dir.Live = odd.Plan.Live
	require.NotContains(t, textsOf(t, slack.Card(viewIn(odd, dir)).Blocks).all(), "!channel")
}

func TestAUserGroupOfWhichNobodyIsLeftIsNotMentioned(t *testing.T) {
	t.Parallel()
	dir := live()
	dir.Groups["oncall"] = []string{"dev"}
	ticket := asksUserGroup(t)
	tr, err := ticket.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: "dev", Via: "slack"}, approvals.Decision{
		Person: "dev", Verdict: approvals.Approve, Digest: ticket.Digest,
	}, dir, start)
	require.Equal(t, "*Waiting for*\n<@U02BO>", waitingFor(slack.Card(viewIn(next(t, tr, err), dir))))
}

func TestADirectMessageSaysWhetherItsReaderHasDecided(t *testing.T) {
	t.Parallel()
	all := states(t)
	effect := func(name string) string {
		return block(slack.Card(all[name]), "out").(*slackgo.SectionBlock).Text.Text
	}
	require.Equal(t, "*You are asked.* Nothing has been sent. Approving sends it once, now.", effect("direct_message"))
	require.Equal(t, "*You have approved it* (<!date^1795446960^{time}|15:16 UTC>). Nothing has been sent. Approving sends it once, now.", effect("direct_message_after"))
	require.Equal(t, slack.Card(all["progress"]).Blocks[2], slack.Card(all["direct_message"]).Blocks[2], "the request is the same")
}

func TestAMessageHasOneHashForWhatItShows(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, v := range states(t) {
		m := slack.Card(v)
		require.Equal(t, m.Hash(), slack.Card(v).Hash())
		require.Equal(t, string(m.JSON()), string(slack.Card(v).JSON()))
		require.Regexp(t, `^[0-9a-f]{64}$`, m.Hash())
		require.Regexp(t, `^\{"text":".+","blocks":\[\{.*\}\]\}$`, string(m.JSON()))
		require.NotContains(t, seen, m.Hash(), "%s and %s", name, seen[m.Hash()])
		seen[m.Hash()] = name
	}
}

func TestWithoutAFingerprintNoneIsMadeUp(t *testing.T) {
	t.Parallel()
	v := pendingView(t, nil)
	v.Fingerprint = ""
	text := textsOf(t, slack.Card(v).Blocks).all()
	require.Contains(t, text, "fingerprint `not known`")
	require.NotContains(t, text, v.Ticket.Digest[:4]+" "+v.Ticket.Digest[4:8])
}
