package interact_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

func TestApproveCountsAndTheTicketGoesOn(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.outbox.Take()
	o.clickWell(t, bo, c, slack.ActionApprove)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
	require.Contains(t, o.outbox.Take(), approvals.Effect(approvals.Execute{TicketID: c.ticket}), "jobs")
	require.Empty(t, o.told(bo), "the card says it all")
	require.Contains(t, o.logs.String(), c.ticket, "the request's log line names the ticket")
}

func TestADecisionRecordsTheDoorTheMessageAndWhatWasShown(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoApprovals)
	o.clickWell(t, bo, c, slack.ActionApprove)
	e := o.last(t, c.ticket, approvals.EventDecided)
	require.Equal(t, approvals.Actor{Kind: approvals.ActorPerson, Name: "bo", Via: "slack", Ref: "T0EMULATOR/U02BO"}, e.Actor)
	d := e.Data.Decision
	require.Equal(t, approvals.Decision{
		Person: "bo", Verdict: approvals.Approve, Stage: 0, Digest: o.ticket(t, c.ticket).Digest, At: d.At,
		Groups: []string{"security"}, Via: "slack", Ref: "T0EMULATOR/U02BO", MessageTS: c.ts, Channel: billingRoom, Rendered: d.Rendered,
	}, *d)
	shown, err := o.store.Rendering(t.Context(), d.Rendered)
	require.NoError(t, err, "what was shown is kept")
	require.Contains(t, string(shown), "https://billing.internal/v1/customers/42")
	require.Contains(t, string(shown), fingerprint(o.ticket(t, c.ticket)))
}

func TestTwoStagesAreApprovedOnTheirOwnCards(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first := o.ask(t, twoStages)
	o.clickWell(t, bo, first, slack.ActionApprove)
	second := o.show(t, first.ticket)
	require.Equal(t, securityRoom, second.channel)
	o.clickWell(t, chen, second, slack.ActionApprove)
	o.trail(t, first.ticket, approvals.EventDecided, approvals.EventStageCompleted, approvals.EventDecided, approvals.EventApproved)
}

func TestDenyAsksWhyAndDeniesOnceItKnows(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	shown := o.emu.OpenViews(bo)[0]
	require.Contains(t, shown.Text, "POST https://billing.internal/v1/refunds", "the dialog says what is denied")
	require.Contains(t, shown.Text, fingerprint(o.ticket(t, c.ticket)))
	o.trail(t, c.ticket) // nothing is decided before there is a reason

	require.NotEmpty(t, o.giveReason(t, bo, view, "no").Errors, "a reason has five characters")
	o.trail(t, c.ticket)
	seen := o.giveReason(t, bo, view, "  the customer has changed their mind\n")
	require.Empty(t, seen.Warning)
	require.True(t, seen.Closed, "the dialog is gone")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
	d := o.ticket(t, c.ticket).Decisions[0]
	require.Equal(t, "the customer has changed their mind", d.Comment)
	require.Equal(t, []string{"bo", "slack", "T0EMULATOR/U02BO", c.ts}, []string{d.Person, d.Via, d.Ref, d.MessageTS})
}

func TestAReasonOfSpacesIsNone(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	seen := o.giveReason(t, bo, view, "  no      \n\t ")
	require.True(t, seen.Sent, "Slack counts spaces")
	require.Contains(t, seen.Errors[slack.ReasonBlock], "at least 5 characters")
	o.trail(t, c.ticket)
}

func TestAReasonThatIsTooLongIsSaidUnderItsInputAndKept(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	long := strings.Repeat("é", 600) // Slack counts 600 characters, the domain 1,200 bytes
	seen := o.giveReason(t, bo, view, long)
	require.Empty(t, seen.Warning)
	require.Contains(t, seen.Errors[slack.ReasonBlock], "1200 bytes")
	require.False(t, seen.Closed, "what was typed is still there")
	o.trail(t, c.ticket)
	require.True(t, o.giveReason(t, bo, view, long[:1000]).Closed)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDenied)
}

func TestAModalThatComesTooLateTurnsIntoANotice(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	o.clickWell(t, chen, c, slack.ActionApprove)
	seen := o.giveReason(t, bo, view, "not before the audit")
	require.Empty(t, seen.Warning)
	require.Empty(t, seen.Errors)
	require.Contains(t, o.emu.OpenViews(bo)[0].Text, "already decided: approved")
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved, approvals.EventRefused)
}

func TestWhoMayDenyIsJudgedAgainWhenTheReasonComes(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	o.configure("fay")
	seen := o.giveReason(t, bo, view, "I was an approver a minute ago")
	require.Empty(t, seen.Warning)
	require.Contains(t, o.emu.OpenViews(bo)[0].Text, "You are not an approver")
	o.requireRefused(t, c.ticket, approvals.ActorPerson, "bo", approvals.CodeNotApprover)
}

func TestAClosedDialogDecidesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	_, err := o.emu.CloseView(t.Context(), bo, o.openDialog(t, bo, c))
	require.NoError(t, err)
	closed := strings.Replace(form(`{"type":"view_closed","team":{"id":"T0EMULATOR"},"user":{"id":"U02BO","team_id":"T0EMULATOR"},`+
		`"api_app_id":"A0EMULATOR","view":{"id":"V1","callback_id":"cs.deny","private_metadata":"{\"h\":\"HANDLE\"}"}}`), "HANDLE", c.handle, 1)
	require.Equal(t, 200, o.send(t, closed).Status)
	o.trail(t, c.ticket)
}
