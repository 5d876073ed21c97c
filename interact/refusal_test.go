package interact_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/slack"
	"countersign/slack/emulator"
)

func TestFieldNote05AStrangerIsRefusedPolitelyAndOnRecord(t *testing.T) {
	t.Parallel()
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			seen := o.clickWell(t, dev, c, action)
			require.Nil(t, seen.OpenedView, "nobody writes a reason in vain")
			o.requireTold(t, dev, "You are not an approver for this request")
			o.requireRefused(t, c.ticket, approvals.ActorStranger, dev, approvals.CodeNotApprover)
			require.Equal(t, "T0EMULATOR/U02DEV", o.last(t, c.ticket, approvals.EventRefused).Actor.Ref)
		})
	}
}

func TestStrangersCannotGrowATicketForEver(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for range approvals.MaxRefusals + 5 {
		o.clickWell(t, dev, c, slack.ActionApprove)
	}
	require.Len(t, o.events(t, c.ticket), 1+approvals.MaxRefusals, "events")
	require.Len(t, o.told(dev), approvals.MaxRefusals+5, "each is still answered")
	o.clickWell(t, bo, c, slack.ActionApprove)
	require.Equal(t, approvals.Approved, o.ticket(t, c.ticket).State, "and an approver still counts")
}

func TestTheRequestersOwnerIsRefusedOnRecord(t *testing.T) {
	t.Parallel()
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			seen := o.clickWell(t, ana, c, action)
			require.Nil(t, seen.OpenedView)
			o.requireTold(t, ana, "You count as the requester of this call")
			o.requireRefused(t, c.ticket, approvals.ActorPerson, "ana", approvals.CodeSelfApproval)
		})
	}
}

func TestAnApproverFromAnotherWorkspaceIsAStranger(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, inShared)
	o.clickWell(t, erin, c, slack.ActionApprove) // her id is in the configuration, her workspace is not
	o.requireTold(t, erin, "of another organisation")
	o.requireRefused(t, c.ticket, approvals.ActorStranger, erin, approvals.CodeNotApprover)
	require.Equal(t, "T0PARTNER/U02EXT", o.last(t, c.ticket, approvals.EventRefused).Actor.Ref)
}

func TestAKnownIDWithoutAWorkspaceIsAStranger(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	reply := o.send(t, o.payload(t, bo, c, slack.ActionApprove, set("", "user", "team_id")))
	require.Equal(t, http.StatusOK, reply.Status)
	o.requireRefused(t, c.ticket, approvals.ActorStranger, bo, approvals.CodeNotApprover)
}

func TestASecondClickIsAlreadyDecided(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.requireTold(t, bo, "You have already decided on this request")
	seen := o.clickWell(t, bo, c, slack.ActionDeny)
	require.Nil(t, seen.OpenedView, "nor can it be changed into a no")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventRefused, approvals.EventRefused)
}

func TestTheButtonOfAnEarlierStageIsOver(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoStages)
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.clickWell(t, chen, c, slack.ActionApprove) // chen would count in the stage that is now
	o.requireTold(t, chen, "The request is in stage 2 of 2 now")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventStageCompleted, approvals.EventRefused)
	require.Equal(t, approvals.CodeStale, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code)
}

func TestAClickAfterTheEndSaysSo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.giveReason(t, bo, o.openDialog(t, bo, c), "not today, thank you")
	o.clickWell(t, chen, c, slack.ActionApprove)
	o.requireTold(t, chen, "already closed: denied")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied, approvals.EventRefused)
}

func TestAClickAfterExpiryExpiresTheTicket(t *testing.T) {
	t.Parallel()
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, inOneSecond)
			dbtest.Eventually(t, "the ticket expires", func() bool {
				var late bool
				err := o.pool.QueryRow(t.Context(), `SELECT clock_timestamp() >= expires_at FROM tickets WHERE id = $1`, c.ticket).Scan(&late)
				return err == nil && late
			})
			o.clickWell(t, bo, c, action)
			o.requireTold(t, bo, "This request has expired")
			o.trail(t, c.ticket, approvals.EventExpired)
		})
	}
}

// The deadline is the database's: the clock of this process may be wrong.
func TestDenyIsOpenUntilTheDatabaseSaysOtherwise(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, inTwoMinutes)
	o.clock.move(4 * time.Minute) // as far as Slack's signatures allow
	o.openDialog(t, bo, c)
	o.trail(t, c.ticket)
}

func TestAHandlePressedInAnotherChannelIsRefusedAndLogged(t *testing.T) {
	t.Parallel()
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			o.clickWell(t, bo, o.copyCard(t, c, securityRoom), action)
			o.requireTold(t, bo, "no longer leads to a request")
			o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotFound)
			require.Contains(t, o.logs.String(), `"msg":"refused a button","reason":"a button pressed outside its conversation","ticket_id":"`+
				c.ticket+`","channel":"C03SECURITY","user":"U02BO"`)
		})
	}
}

// copyCard posts a card's message once more, as somebody with the bot's token could.
func (o *office) copyCard(t *testing.T, c card, channel string) card {
	t.Helper()
	found, err := o.store.CardByHandle(t.Context(), c.handle)
	require.NoError(t, err, "find the card")
	ref, err := o.client.Post(t.Context(), channel, slack.Card(o.viewOf(o.ticket(t, c.ticket), found)), slack.PostOptions{})
	require.NoError(t, err, "post a copy")
	return card{ticket: c.ticket, channel: ref.Channel, ts: ref.TS, handle: c.handle}
}

func TestAnOrphanCopyInTheSameChannelCountsAndIsAdopted(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	orphan := o.copyCard(t, c, billingRoom)
	require.NotEqual(t, c.ts, orphan.ts)
	o.clickWell(t, bo, orphan, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
	require.Equal(t, orphan.ts, o.ticket(t, c.ticket).Decisions[0].MessageTS, "the message that was pressed on")
	handle, err := o.store.CardAt(t.Context(), orphan.channel, orphan.ts)
	require.NoError(t, err)
	require.Equal(t, c.handle, handle, "from now on it is a copy of the card")
}

// The process may die between the post and the note of where it went.
func TestACardNotYetWrittenDownCountsOnlyWhereItWasToGo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	prepared, ticket := o.prepare(t, o.submit(t, oneApproval))
	c := card{ticket: ticket.ID, handle: prepared.Handle}
	o.clickWell(t, bo, o.copyCard(t, c, securityRoom), slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventRefused)
	orphan := o.copyCard(t, c, billingRoom)
	o.clickWell(t, bo, orphan, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventDecided, approvals.EventApproved)
	found, err := o.store.CardByHandle(t.Context(), prepared.Handle)
	require.NoError(t, err)
	require.Equal(t, []string{billingRoom, orphan.ts}, []string{found.PostedTo, found.TS}, "where the card is is known now")
}

// Until its place is written down, a card that went to a channel by its name counts in the
// channel of that name, and in no other.
func TestACardPostedByNameCountsInTheChannelOfThatNameOnly(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("notify: {channel: C01BILLING}", `notify: {channel: "#billing-approvals"}`)
	prepared, ticket := o.prepare(t, o.submit(t, oneApproval))
	c := card{ticket: ticket.ID, handle: prepared.Handle}
	o.clickWell(t, bo, o.copyCard(t, c, securityRoom), slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventRefused)
	o.emu.AddFault(emulator.Fault{Method: "conversations.info", Kind: emulator.ErrorReply, Error: "channel_not_found"})
	orphan := o.copyCard(t, c, billingRoom)
	o.clickWell(t, bo, orphan, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused) // it cannot be checked
	o.clickWell(t, bo, orphan, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventDecided, approvals.EventApproved)
}

func TestAButtonThatOnlyOnePersonSeesIsRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	reply := o.send(t, o.payload(t, bo, c, slack.ActionApprove, set(true, "container", "is_ephemeral")))
	require.Equal(t, http.StatusOK, reply.Status)
	o.requireTold(t, bo, "no longer leads to a request")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotFound)
}

func TestAButtonOutsideOfAnyConversationIsRefused(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.send(t, o.payload(t, bo, c, slack.ActionApprove, func(p map[string]any) {
		delete(p, "channel")
		p["container"] = map[string]any{"type": "view", "view_id": "V1"}
	}))
	o.trail(t, c.ticket)
}

// Whichever of N tickets a button's handle is put on the message of, it does nothing but leave
// a trace on the ticket that it belongs to: N² − N refusals.
func TestAHandleOnTheMessageOfAnotherTicketIsRefusedOnRecord(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	var cards []card
	for _, body := range []string{oneApproval, twoApprovals, inPrivate, oneApproval, inPrivate, commented, withGlass} {
		cards = append(cards, o.ask(t, body))
	}
	actions := []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk, slack.ActionView}
	refused := 0
	for i, message := range cards {
		for j, target := range cards {
			if i == j {
				continue
			}
			before := o.versions(t, cards)
			action := actions[(i+j)%len(actions)]
			body := o.payload(t, bo, message, slack.ActionDeny, func(p map[string]any) {
				set(target.handle, "actions", "value")(p)
				set(action, "actions", "action_id")(p)
			})
			require.Equal(t, http.StatusOK, o.send(t, body).Status)
			before[j]++
			require.Equal(t, before, o.versions(t, cards), "handle of %d on message %d: that one alone, by a trace", j, i)
			require.Equal(t, approvals.CodeNotFound, o.last(t, target.ticket, approvals.EventRefused).Data.Refusal.Code)
			refused++
		}
	}
	require.Equal(t, len(cards)*len(cards)-len(cards), refused)
	for _, c := range cards {
		require.Empty(t, o.ticket(t, c.ticket).Decisions)
	}
	require.Empty(t, o.emu.OpenViews(bo), "no dialog opened")
}

// versions are those of the tickets of cards.
func (o *office) versions(t *testing.T, cards []card) (out []int64) {
	t.Helper()
	for _, c := range cards {
		out = append(out, o.ticket(t, c.ticket).Version)
	}
	return out
}

func TestAnUnknownHandleOrButtonDoesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for _, body := range []string{
		o.payload(t, bo, c, slack.ActionApprove, set("h_"+strings.Repeat("0", 32), "actions", "value")),
		o.payload(t, bo, c, slack.ActionDeny, set("h_"+strings.Repeat("0", 32), "actions", "value")),
		o.payload(t, bo, c, slack.ActionApprove, set("cs.approve.everything", "actions", "action_id")),
	} {
		require.Equal(t, http.StatusOK, o.send(t, body).Status)
	}
	told := o.told(bo)
	require.Len(t, told, 3)
	for _, text := range told {
		require.Contains(t, text, "no longer leads to a request")
	}
	o.trail(t, c.ticket)
	require.Equal(t, http.StatusBadRequest, o.send(t, o.payload(t, bo, c, slack.ActionApprove, set(c.ticket, "actions", "value"))).Status,
		"a button is never named by its ticket")
}

func TestATamperedModalDecidesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	submission := func(callback, handle, reason string) string {
		return form(fmt.Sprintf(`{"type":"view_submission","team":{"id":"T0EMULATOR"},"user":{"id":"U02BO","team_id":"T0EMULATOR"},`+
			`"api_app_id":"A0EMULATOR","view":{"id":"V1","callback_id":%q,"private_metadata":"{\"h\":\"%s\"}",`+
			`"state":{"values":{"reason":{"v":{"value":%q}}}}}}`, callback, handle, reason))
	}
	for name, body := range map[string]string{
		"the full view":       submission(slack.CallbackView, c.handle, "long enough"),
		"approval":            submission(slack.CallbackApprove, c.handle, "long enough"), // which comes from a full view only
		"answer":              submission(slack.CallbackAnswer, c.handle, "long enough"),
		"question, elsewhere": submission(slack.CallbackAsk, c.handle, "long enough"), // it has another input
		"unknown handle":      submission(slack.CallbackDeny, "h_"+strings.Repeat("0", 32), "long enough"),
		"unknown review":      submission(slack.CallbackApprove, "v_"+strings.Repeat("0", 32), "long enough"),
		"another app's":       submission("other.modal", c.handle, "long enough"),
		"no reason":           submission(slack.CallbackDeny, c.handle, ""),
	} {
		reply := o.send(t, body)
		require.Equal(t, http.StatusOK, reply.Status, name)
		require.Contains(t, reply.Body, "response_action", name)
	}
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventRefused)
	require.Empty(t, o.send(t, submission(slack.CallbackDeny, c.handle, "long enough")).Body, "untampered, it denies")
	require.Equal(t, approvals.Denied, o.ticket(t, c.ticket).State)
}

func TestACardThatShowsSomethingElseIsRefusedOnRecord(t *testing.T) {
	t.Parallel()
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, oneApproval)
			o.sabotage(t, `UPDATE cards SET digest = repeat('a', 64) WHERE handle = $1`, c.handle)
			o.clickWell(t, bo, c, action)
			o.requireTold(t, bo, "This button belongs to something other")
			o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeDigestMismatch)
		})
	}
}

func TestTheMessageIsRecordedInBoundsOnly(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.send(t, o.payload(t, bo, c, slack.ActionApprove, set(strings.Repeat("1", 5000), "container", "message_ts")))
	require.Equal(t, c.ts, o.ticket(t, c.ticket).Decisions[0].MessageTS)
}
