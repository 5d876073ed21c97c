package api_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// slackToo puts the same configuration in force with a Slack besides.
func (b *bundle) slackToo(t *testing.T) {
	t.Helper()
	n := 0
	text := regexp.MustCompile(`KEY_[a-z]+`).ReplaceAllStringFunc(configuration, func(string) string {
		n++
		return fmt.Sprintf("%064x", n)
	})
	with := parseConfig(t, text+`
slack: {bot_token: "env:BOT", signing_secrets: ["env:SIGNING"], team_ids: [T0EMULATOR], app_id: A0EMULATOR, channel: "#c"}
`)
	c := *b.config
	c.Slack = with.Slack
	b.config = &c
}

// owed writes a card of a ticket's first stage down for somewhere, and returns it as taken up
// by a sender.
func (b *bundle) owed(t *testing.T, id, channel string) db.Post {
	t.Helper()
	ticket, err := b.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	card, err := b.store.PrepareCard(t.Context(), db.NewCard{TicketID: id, Stage: ticket.Stage, Channel: channel, Digest: ticket.Digest})
	require.NoError(t, err)
	require.NoError(t, b.store.QueuePosts(t.Context(), []db.Post{{
		Name: "card/" + id + "/" + channel, TicketID: id, Kind: db.PostCard, Handle: card.Handle, Destination: channel, Priority: 2,
	}}))
	posts, err := b.store.PostsOf(t.Context(), id)
	require.NoError(t, err)
	post, taken, err := b.store.ClaimPost(t.Context(), posts[len(posts)-1], time.Minute)
	require.NoError(t, err)
	require.True(t, taken)
	return post
}

func (b *bundle) sent(t *testing.T, p db.Post) {
	t.Helper()
	require.NoError(t, b.store.SentPost(t.Context(), p, db.Shown{Channel: "C0C", TS: "1700000000.0000" + p.Destination[1:], Version: 1}, nil))
}

func (b *bundle) requireNotification(t *testing.T, id, status, detail string) {
	t.Helper()
	r := b.get(t, "/v1/tickets/"+id)
	require.Equal(t, status, r.field(t, "notification", "status"))
	require.Regexp(t, "^"+detail+"$", r.field(t, "notification", "detail"))
}

const orderedCall = `{"upstream":"billing","method":"DELETE","path":"/customers/42"}`

func TestATicketSaysWhetherItsApproversAreTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slackToo(t)
	r := b.submit(t, orderedCall)
	require.Equal(t, "queued", r.field(t, "notification", "status"), "right after the submit")
	id := r.id(t)
	first := b.owed(t, id, "#1")
	b.clock.move(2 * time.Second)
	b.requireNotification(t, id, "queued", "")

	_, err := b.pool.Exec(t.Context(), `UPDATE slack_outbox SET created_at = created_at - interval '2 minutes' WHERE ticket_id = $1`, id)
	require.NoError(t, err)
	b.requireNotification(t, id, "delayed", `the message has been on its way for 2m\d+s`)

	b.sent(t, first)
	b.requireNotification(t, id, "sent", "")
	second := b.owed(t, id, "#2")
	b.requireNotification(t, id, "sent", "1 of 2 messages are in Slack")
	b.sent(t, second)
	b.requireNotification(t, id, "sent", "")

	require.Equal(t, 200, b.post(t, "bo", id, "decisions", b.verdict(t, id, "deny", "no")).status)
	b.requireNotification(t, id, "none", "")
}

func TestATicketSaysWhySlackRefusesItsMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slackToo(t)
	id := b.submit(t, orderedCall).id(t)
	b.clock.move(2 * time.Second)
	require.NoError(t, b.store.GiveUpPost(t.Context(), b.owed(t, id, "#1"), db.PostDead, "channel_not_found"))
	b.requireNotification(t, id, "failed", "Slack does not take the message: channel not found")
	require.NoError(t, b.store.GiveUpPost(t.Context(), b.owed(t, id, "#2"), db.PostDropped, "over"))
	b.requireNotification(t, id, "failed", "Slack does not take the message: channel not found")
	b.sent(t, b.owed(t, id, "#3"))
	b.requireNotification(t, id, "sent", "1 of 2 messages are in Slack")
}

func TestATicketSaysThatSlackTakesNoMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.slackToo(t)
	id := b.submit(t, orderedCall).id(t)
	b.clock.move(2 * time.Second)
	b.owed(t, id, "#1")
	held, err := b.store.HoldSender(t.Context(), "the sender", time.Minute)
	require.NoError(t, err)
	require.True(t, held)
	require.NoError(t, b.store.PutSenderStatus(t.Context(), "the sender", db.SenderStatus{Open: true, Reason: "invalid_auth"}))
	b.requireNotification(t, id, "delayed", "Slack takes no messages at present")
	require.NoError(t, b.store.PutSenderStatus(t.Context(), "the sender", db.SenderStatus{}))
	b.requireNotification(t, id, "queued", "")
}

func TestNobodyIsToldOfATicketThatAsksNobodyOrHasNoSlack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	without := b.submit(t, orderedCall)
	require.Equal(t, "none", without.field(t, "notification", "status"), "no Slack")
	b.slackToo(t)
	allowed := b.submit(t, `{"upstream":"billing","method":"GET","path":"/customers/42"}`)
	require.Equal(t, string(approvals.Approved), allowed.field(t, "state"))
	require.Equal(t, "none", allowed.field(t, "notification", "status"), "nobody is asked")
}
