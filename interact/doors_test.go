package interact_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
	"countersign/slack/emulator"
)

// answers answers the open question of a ticket, as its caller.
func (o *office) answers(t *testing.T, id, text string) approvals.Ticket {
	t.Helper()
	ticket, err := o.store.Advance(t.Context(), db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Answer(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll", Via: "api"}, text, now)
	})
	require.NoError(t, err, "answer")
	return ticket
}

func TestAQuestionHoldsTheTicketUpUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.outbox.Take()
	view := o.openModal(t, bo, c, slack.ActionAsk)
	require.Contains(t, view.Text, "POST https://billing.internal/v1/refunds", "what the question is about")
	require.Contains(t, view.Text, "The deadline does not")
	o.trail(t, c.ticket) // nothing is asked before there is a question

	require.NotEmpty(t, o.write(t, bo, view.ID, slack.QuestionBlock, "why?").Errors, "a question has five characters")
	require.Contains(t, o.write(t, bo, view.ID, slack.QuestionBlock, "   ?   ").Errors[slack.QuestionBlock], "give a question, in at least 5 characters")
	o.trail(t, c.ticket)
	o.writeWell(t, bo, view.ID, slack.QuestionBlock, " Which <!channel> is this for? \n")
	o.trail(t, c.ticket, approvals.EventQuestionAsked)
	ticket := o.ticket(t, c.ticket)
	require.Equal(t, approvals.NeedsInfo, ticket.State)
	require.Equal(t, []string{"bo", "Which <!channel> is this for?"}, []string{ticket.Question.Person, ticket.Question.Text})
	require.Equal(t, approvals.Actor{Kind: approvals.ActorPerson, Name: "bo", Via: "slack", Ref: "T0EMULATOR/U02BO"},
		o.last(t, c.ticket, approvals.EventQuestionAsked).Actor)
	require.Contains(t, o.outbox.Take(), approvals.Effect(approvals.Notify{TicketID: c.ticket, Seq: 2}), "somebody is told")

	o.answers(t, c.ticket, "The one of case 991")
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventQuestionAsked, approvals.EventAnswered, approvals.EventDecided, approvals.EventApproved)
}

func TestAQuestionKeepsNobodyFromDeciding(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.writeWell(t, bo, o.openModal(t, bo, c, slack.ActionAsk).ID, slack.QuestionBlock, "Which customer?")
	o.clickWell(t, chen, c, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventQuestionAsked, approvals.EventDecided, approvals.EventApproved)
}

func TestASecondQuestionWaitsForTheFirstAnswer(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	late := o.openModal(t, chen, c, slack.ActionAsk)
	o.writeWell(t, bo, o.openModal(t, bo, c, slack.ActionAsk).ID, slack.QuestionBlock, "Which customer?")
	seen := o.write(t, chen, late.ID, slack.QuestionBlock, "And for whom?")
	require.Empty(t, seen.Warning)
	require.Contains(t, o.shownTo(t, chen), "A question is already open")
	o.trail(t, c.ticket, approvals.EventQuestionAsked, approvals.EventRefused)
	refusal := o.last(t, c.ticket, approvals.EventRefused).Data.Refusal
	require.Equal(t, []string{"ask", string(approvals.CodeConflict)}, []string{refusal.Tried, string(refusal.Code)})
}

func TestAQuestionThatIsTooLongIsSaidUnderItsInput(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	seen := o.write(t, bo, o.openModal(t, bo, c, slack.ActionAsk).ID, slack.QuestionBlock, strings.Repeat("é", 1000))
	require.Contains(t, seen.Errors[slack.QuestionBlock], "2000 bytes")
	require.False(t, seen.Closed, "what was typed is still there")
	o.trail(t, c.ticket)
}

func TestWhoMayAskIsJudgedAgainWhenTheQuestionComes(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openModal(t, bo, c, slack.ActionAsk)
	o.configure("fay")
	o.write(t, bo, view.ID, slack.QuestionBlock, "Which customer?")
	require.Contains(t, o.shownTo(t, bo), "You are not an approver")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotApprover)
}

func TestAQuestionAboutAnEarlierStageIsNotAsked(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoStages)
	o.clickWell(t, bo, c, slack.ActionApprove)
	seen := o.clickWell(t, chen, c, slack.ActionAsk) // chen may ask in the stage that is now, on its card
	require.Nil(t, seen.OpenedView)
	o.requireTold(t, chen, "That stage is over")
	require.Equal(t, approvals.Pending, o.ticket(t, c.ticket).State)
}

func TestAQuestionOnACardThatShowsSomethingElseIsNotAsked(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.sabotage(t, `UPDATE cards SET digest = repeat('a', 64) WHERE handle = $1`, c.handle)
	require.Nil(t, o.clickWell(t, bo, c, slack.ActionAsk).OpenedView)
	o.requireTold(t, bo, "This button belongs to something other")
	o.trail(t, c.ticket, approvals.EventRefused)
}

func TestAnApprovalWithACommentAsksForItInADialog(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, commented)
	view := o.openModal(t, bo, c, slack.ActionApprove)
	require.Contains(t, view.Text, "DELETE https://billing.internal/v1/commented")
	require.Contains(t, view.Text, fingerprint(o.ticket(t, c.ticket)))
	o.trail(t, c.ticket, approvals.EventViewed) // nothing is approved before there is a comment
	require.NotEmpty(t, o.write(t, bo, view.ID, slack.CommentBlock, "").Errors)
	require.Contains(t, o.write(t, bo, view.ID, slack.CommentBlock, "      ").Errors[slack.CommentBlock], "give a comment, in at least 5 characters")
	o.writeWell(t, bo, view.ID, slack.CommentBlock, "checked with legal")
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
	d := o.ticket(t, c.ticket).Decisions[0]
	require.Equal(t, []string{"checked with legal", "bo", c.ts}, []string{d.Comment, d.Person, d.MessageTS})
}

func TestAnApprovalWithACommentIsJudgedAtBothEnds(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, commented)
	for user, words := range map[string]string{dev: "You are not an approver", ana: "You count as the requester"} {
		require.Nil(t, o.clickWell(t, user, c, slack.ActionApprove).OpenedView, "nobody writes a comment in vain")
		o.requireTold(t, user, words)
	}
	view := o.openModal(t, bo, c, slack.ActionApprove)
	o.clickWell(t, chen, c, slack.ActionDeny)
	o.giveReason(t, chen, o.emu.OpenViews(chen)[0].ID, "not before the audit")
	o.write(t, bo, view.ID, slack.CommentBlock, "checked with legal")
	require.Contains(t, o.shownTo(t, bo), "already closed: denied")
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventViewed, approvals.EventDecided, approvals.EventDenied, approvals.EventRefused)
}

func TestWhereNoReasonIsAskedForNoneHasToBeGiven(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"", "no", "  not before the audit "} {
		o := openOffice(t)
		c := o.ask(t, unreasoned)
		o.writeWell(t, bo, o.openDialog(t, bo, c), slack.ReasonBlock, reason)
		o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
		require.Equal(t, strings.TrimSpace(reason), o.ticket(t, c.ticket).Decisions[0].Comment)
	}
}

func TestBreakingTheGlassApprovesAloneAndIsRecordedAsThat(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, withGlass)
	o.outbox.Take()
	view := o.openModal(t, bo, c, slack.ActionBreakGlass)
	for _, words := range []string{
		"You approve this call alone.", "bypasses 3 approvals that are missing", "recorded as glass broken by you",
		"announced as that in #billing-approvals and #general", "DELETE https://billing.internal/v1/glass",
	} {
		require.Contains(t, view.Text, words)
	}
	o.trail(t, c.ticket)
	require.Contains(t, o.write(t, bo, view.ID, slack.CommentBlock, "      ").Errors[slack.CommentBlock], "give a comment")
	o.trail(t, c.ticket)
	o.writeWell(t, bo, view.ID, slack.CommentBlock, "production is down")
	o.trail(t, c.ticket, approvals.EventGlassBroken, approvals.EventApproved)
	d := o.ticket(t, c.ticket).Decisions[0]
	require.Equal(t, []string{"bo", "break_glass", "production is down", "slack", c.ts}, []string{d.Person, string(d.Verdict), d.Comment, d.Via, d.MessageTS})
	effects := o.outbox.Take()
	require.Contains(t, effects, approvals.Effect(approvals.Notify{TicketID: c.ticket, Seq: 2}), "it is announced")
	require.Contains(t, effects, approvals.Effect(approvals.Execute{TicketID: c.ticket}), "jobs")
}

func TestOnlyThoseWhoMayBreakTheGlassCan(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		user, words string
		kind        approvals.ActorKind
		person      string
		code        approvals.Code
	}{
		"an approver":         {chen, "You may not break the glass", approvals.ActorPerson, "chen", approvals.CodeNotApprover},
		"a stranger":          {dev, "You may not break the glass", approvals.ActorStranger, dev, approvals.CodeNotApprover},
		"the requester's own": {ana, "You count as the requester", approvals.ActorPerson, "ana", approvals.CodeSelfApproval},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := openOffice(t)
			c := o.ask(t, withGlass)
			require.Nil(t, o.clickWell(t, test.user, c, slack.ActionBreakGlass).OpenedView, "nobody writes a comment in vain")
			o.requireTold(t, test.user, test.words)
			o.requireRefused(t, c.ticket, test.kind, test.person, test.code)
			require.Equal(t, "break_glass", o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Tried)
		})
	}
}

func TestWhoMayBreakTheGlassIsJudgedAgainWhenTheCommentComes(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, withGlass)
	view := o.openModal(t, bo, c, slack.ActionBreakGlass)
	o.rewrite("owners: [ana]", "owners: [ana, bo]", "from: [bo]", "from: [erin]", "from: [ana, bo]", "from: [ana, fay]") // bo has become one of the requester's own
	o.write(t, bo, view.ID, slack.CommentBlock, "production is down")
	require.Contains(t, o.shownTo(t, bo), "You count as the requester")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeSelfApproval)
}

func TestTheGlassOfARuleWithoutOneCannotBeBroken(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	_, err := o.emu.Payload(emulator.Action{User: bo, Channel: c.channel, TS: c.ts, ActionID: slack.ActionBreakGlass, Confirm: true})
	require.ErrorIs(t, err, emulator.ErrNotFound, "the card has no such button")
	reply := o.send(t, o.payload(t, bo, c, slack.ActionDeny, set(slack.ActionBreakGlass, "actions", "action_id")))
	require.Equal(t, http.StatusOK, reply.Status)
	o.requireTold(t, bo, "You may not break the glass")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotApprover)
}

// "Nobody may approve what was not shown" is no less true of somebody in a hurry.
func TestTheGlassIsNotBrokenOnWhatNoCardShowsInFullBeforeItWasRead(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(withGlass))
	forged := func() string {
		return o.payload(t, bo, c, slack.ActionDeny, set(slack.ActionBreakGlass, "actions", "action_id"))
	}
	require.Equal(t, http.StatusOK, o.send(t, forged()).Status)
	o.requireTold(t, bo, "read it to its end")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeDigestMismatch)
	require.Empty(t, o.emu.OpenViews(bo))

	o.readToTheEnd(t, o.openModal(t, bo, c, slack.ActionView))
	require.Equal(t, []string{"bo"}, o.ticket(t, c.ticket).Viewers)
	require.Equal(t, http.StatusOK, o.send(t, forged()).Status)
	views := o.emu.OpenViews(bo)
	o.writeWell(t, bo, views[len(views)-1].ID, slack.CommentBlock, "production is down")
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventViewed, approvals.EventGlassBroken, approvals.EventApproved)
}

func TestGlassIsBrokenFromTheDialogOfAStageThatHasPassedMeanwhile(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("from: [chen, fay], approvals: 2", "from: [chen, fay], approvals: 1")
	c := o.ask(t, withGlass)
	view := o.openModal(t, bo, c, slack.ActionBreakGlass)
	o.clickWell(t, chen, c, slack.ActionApprove)
	o.writeWell(t, bo, view.ID, slack.CommentBlock, "production is down")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventStageCompleted, approvals.EventGlassBroken, approvals.EventApproved)
}

func TestSomebodyMarkedAsAwayIsToldWhatToDo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("{name: bo, slack: U02BO}", `{name: bo, slack: U02BO, away: {until: "2099-01-01", delegate: chen}}`)
	c := o.ask(t, oneApproval)
	for _, action := range []string{slack.ActionApprove, slack.ActionDeny, slack.ActionAsk} {
		require.Nil(t, o.clickWell(t, bo, c, action).OpenedView)
	}
	for _, told := range o.told(bo) {
		require.Contains(t, told, "You are marked as away")
		require.Contains(t, told, "end your absence")
	}
	o.trail(t, c.ticket, approvals.EventRefused, approvals.EventRefused, approvals.EventRefused)
	require.Equal(t, approvals.CodeAway, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code)
}

func TestADelegateDecidesInThePlaceOfSomebodyAway(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("{name: fay, slack: U02FAY}", `{name: fay, slack: U02FAY, away: {until: "2099-01-01", delegate: bo}}`)
	c := o.ask(t, withGlass) // asks chen and fay
	o.clickWell(t, bo, c, slack.ActionApprove)
	d := o.ticket(t, c.ticket).Decisions[0]
	require.Equal(t, []string{"bo", "fay"}, []string{d.Person, d.For})
}

func TestADialogThatDoesNotOpenNamesItsButton(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, withGlass)
	for action, name := range map[string]string{slack.ActionAsk: "Ask for details", slack.ActionBreakGlass: "Break glass"} {
		user := map[string]string{slack.ActionAsk: chen, slack.ActionBreakGlass: bo}[action]
		o.emu.AddFault(emulator.Fault{Method: "views.open", Kind: emulator.ErrorReply, Error: "expired_trigger_id"})
		require.Nil(t, o.clickWell(t, user, c, action).OpenedView)
		o.requireTold(t, user, "Please press "+name+" again")
	}
	o.trail(t, c.ticket)
}
