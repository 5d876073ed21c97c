package interact_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
	"countersign/slack/emulator"
)

// asked puts a question to a ticket and posts it to ana, who answers for it.
func (o *office) asked(t *testing.T) (c, question card) {
	t.Helper()
	c = o.ask(t, oneApproval)
	return c, o.asking(t, c, "Which customer?")
}

// asking has bo ask something, and posts it to ana.
func (o *office) asking(t *testing.T, c card, text string) card {
	t.Helper()
	o.writeWell(t, bo, o.openModal(t, bo, c, slack.ActionAsk).ID, slack.QuestionBlock, text)
	ticket := o.ticket(t, c.ticket)
	prepared, err := o.store.PrepareCard(t.Context(), db.NewCard{
		TicketID: c.ticket, Kind: db.CardAnswer, Channel: db.AnswerPlace(ana, ticket.Version), SlackUser: ana, Digest: ticket.Digest,
	})
	require.NoError(t, err, "prepare the question")
	ref, err := o.client.Post(t.Context(), ana, slack.AnswerRequest(o.viewOf(ticket, prepared), *ticket.Question), slack.PostOptions{})
	require.NoError(t, err, "post the question")
	require.NoError(t, o.store.CardPosted(t.Context(), prepared.Handle, ref.Channel, ref.TS, ticket.Version))
	return card{ticket: c.ticket, channel: ref.Channel, ts: ref.TS, handle: prepared.Handle}
}

func TestAQuestionIsAnsweredInADirectMessage(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, question := o.asked(t)
	view := o.openModal(t, ana, question, slack.ActionAnswer)
	require.Contains(t, view.Text, "Which customer?")
	require.Contains(t, o.write(t, ana, view.ID, slack.AnswerBlock, "      ").Errors[slack.AnswerBlock], "give an answer, in at least 5 characters")
	o.writeWell(t, ana, view.ID, slack.AnswerBlock, " The one of case 991 ")
	o.trail(t, c.ticket, approvals.EventQuestionAsked, approvals.EventAnswered)
	e := o.last(t, c.ticket, approvals.EventAnswered)
	require.Equal(t, "The one of case 991", e.Data.Question.Answer)
	require.Equal(t, approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "slack", Ref: "T0EMULATOR/U02ANA"}, e.Actor)
	require.Nil(t, o.clickWell(t, ana, question, slack.ActionAnswer).OpenedView)
	o.requireTold(t, ana, "No question is open")
	o.clickWell(t, bo, c, slack.ActionApprove)
	require.Equal(t, approvals.Approved, o.ticket(t, c.ticket).State)
}

func TestAQuestionIsAnsweredByTheOneItWasPutToOnly(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, question := o.asked(t)
	for name, body := range map[string]string{
		"pressed by somebody else":  o.payload(t, ana, question, slack.ActionAnswer, set(bo, "user", "id")),
		"sent off by somebody else": sentOff(bo, slack.CallbackAnswer, question.handle, map[string]string{slack.AnswerBlock: "long enough"}),
		"approved by its handle":    o.payload(t, ana, question, slack.ActionAnswer, set(slack.ActionApprove, "actions", "action_id")),
		"answered on a card":        o.payload(t, ana, c, slack.ActionDeny, set(slack.ActionAnswer, "actions", "action_id")),
	} {
		before := o.ticket(t, c.ticket).Version
		require.Equal(t, http.StatusOK, o.send(t, body).Status, name)
		require.Equal(t, before+1, o.ticket(t, c.ticket).Version, name)
		require.Equal(t, approvals.CodeNotFound, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code, name)
	}
	require.Equal(t, approvals.NeedsInfo, o.ticket(t, c.ticket).State)
}

// What was written to one question must not stand as the answer to the next.
func TestAnAnswerIsToTheQuestionOfItsMessage(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, first := o.asked(t)
	view := o.openModal(t, ana, first, slack.ActionAnswer)
	o.answers(t, c.ticket, "The one of case 991")
	second := o.asking(t, c, "Who has agreed to it?")
	o.write(t, ana, view.ID, slack.AnswerBlock, "The one of case 991")
	require.Contains(t, o.shownTo(t, ana), "Another question is open by now")
	require.Nil(t, o.clickWell(t, ana, first, slack.ActionAnswer).OpenedView)
	require.Equal(t, approvals.NeedsInfo, o.ticket(t, c.ticket).State)
	o.writeWell(t, ana, o.openModal(t, ana, second, slack.ActionAnswer).ID, slack.AnswerBlock, "Their lawyer has")
	require.Equal(t, approvals.Pending, o.ticket(t, c.ticket).State)
}

func TestOnlyTheRequestersOwnAnswer(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, question := o.asked(t)
	o.sabotage(t, `UPDATE cards SET slack_user = $2 WHERE handle = $1`, question.handle, bo)
	reply := o.send(t, sentOff(bo, slack.CallbackAnswer, question.handle, map[string]string{slack.AnswerBlock: "long enough"}))
	require.Contains(t, reply.Body, "Only those who count as the requester of this call can answer")
	refusal := o.last(t, c.ticket, approvals.EventRefused).Data.Refusal
	require.Equal(t, []string{"answer", string(approvals.CodeNotRequester)}, []string{refusal.Tried, string(refusal.Code)})
}

func TestWhoMayAnswerIsJudgedAgainWhenTheAnswerComes(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c, question := o.asked(t)
	o.openModal(t, ana, question, slack.ActionAnswer)
	o.emu.UpdateUser(ana, func(u *emulator.User) { u.IsRestricted = true })
	o.halfAMinuteLater(t)
	reply := o.send(t, sentOff(ana, slack.CallbackAnswer, question.handle, map[string]string{slack.AnswerBlock: "long enough"}))
	require.Contains(t, reply.Body, "is a guest")
	require.Equal(t, approvals.NeedsInfo, o.ticket(t, c.ticket).State)
}

// personal prepares what one person sees of a ticket outside of any message.
func (o *office) personal(t *testing.T, c card, user string) (handle string) {
	t.Helper()
	prepared, err := o.store.PrepareCard(t.Context(), db.NewCard{
		TicketID: c.ticket, Kind: db.CardPersonal, Channel: "home/" + user, SlackUser: user, Digest: o.ticket(t, c.ticket).Digest,
	})
	require.NoError(t, err)
	return prepared.Handle
}

// onHome is what a button on somebody's home tab sends.
func (o *office) onHome(t *testing.T, user, action, handle string) string {
	t.Helper()
	return o.payload(t, user, card{channel: billingRoom, ts: o.emu.Messages(billingRoom)[0].TS}, slack.ActionDeny, func(p map[string]any) {
		delete(p, "channel")
		delete(p, "message")
		delete(p, "response_url")
		p["container"] = map[string]any{"type": "view", "view_id": "VHOME"}
		p["view"] = map[string]any{"id": "VHOME", "type": "home", "callback_id": slack.CallbackHome, "hash": "1"}
		set(action, "actions", "action_id")(p)
		set(handle, "actions", "value")(p)
	})
}

func TestAReviewFromAHomeTabApproves(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ofRule("confirm: modal")
	c := o.ask(t, oneApproval)
	require.Equal(t, http.StatusOK, o.send(t, o.onHome(t, bo, slack.ActionView, o.personal(t, c, bo))).Status)
	views := o.emu.OpenViews(bo)
	require.Len(t, views, 1)
	require.True(t, o.approveFrom(t, bo, views[0].ID, nil).Closed)
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
}

func TestWhatIsPersonalIsNobodyElses(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	handle := o.personal(t, c, bo)
	for name, body := range map[string]string{
		"on another's home tab": o.onHome(t, chen, slack.ActionView, handle),
		"to approve at once":    o.onHome(t, bo, slack.ActionApprove, handle),
		"to deny":               o.onHome(t, bo, slack.ActionDeny, handle),
		"a card's handle there": o.onHome(t, bo, slack.ActionView, c.handle),
	} {
		before := o.ticket(t, c.ticket).Version
		require.Equal(t, http.StatusOK, o.send(t, body).Status, name)
		require.Equal(t, before+1, o.ticket(t, c.ticket).Version, name)
		require.Equal(t, approvals.CodeNotFound, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code, name)
	}
	require.Empty(t, o.emu.OpenViews(bo))
	require.Empty(t, o.emu.OpenViews(chen))
}

// Without an address to answer to, somebody on a home tab is told in a direct message.
func TestARefusalOnAHomeTabIsTold(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	handle := o.personal(t, c, bo)
	o.clickWell(t, chen, c, slack.ActionApprove)
	o.giveUp(t, c)
	o.send(t, o.onHome(t, bo, slack.ActionView, handle))
	messages := o.emu.Messages(o.emu.DM(bo))
	require.Len(t, messages, 1)
	require.Contains(t, messages[0].Text, "already closed")
}

// giveUp ends a ticket.
func (o *office) giveUp(t *testing.T, c card) {
	t.Helper()
	_, err := o.store.Advance(t.Context(), db.Ref{ID: c.ticket}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll", Via: "api"}, "", now)
	})
	require.NoError(t, err, "cancel")
}
