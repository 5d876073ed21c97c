package interact_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
	"countersign/slack/emulator"
)

// ofRule adds a field to the rule of oneApproval.
func (o *office) ofRule(field string) {
	o.rewrite("  - name: one-person\n", "  - name: one-person\n    "+field+"\n")
}

// approveFrom sends a full view off.
func (o *office) approveFrom(t *testing.T, user, view string, values map[string]string) emulator.Seen {
	t.Helper()
	typed := map[string]map[string]string{}
	for block, text := range values {
		typed[block] = map[string]string{slack.InputAction: text}
	}
	seen, err := o.emu.SubmitView(t.Context(), user, view, typed)
	require.NoError(t, err, "%s sends the full view off", user)
	require.Empty(t, seen.Warning, "what Slack warned of")
	return seen
}

// sentOff is the request that a modal with this pointer makes when it is sent off.
func sentOff(user, callback, handle string, typed map[string]string) string {
	var values []string
	for block, text := range typed {
		values = append(values, fmt.Sprintf(`%q:{"v":{"value":%q}}`, block, text))
	}
	return form(fmt.Sprintf(`{"type":"view_submission","team":{"id":"T0EMULATOR"},"user":{"id":%q,"team_id":"T0EMULATOR"},`+
		`"api_app_id":"A0EMULATOR","view":{"id":"V1","type":"modal","callback_id":%q,"private_metadata":"{\"h\":\"%s\"}","state":{"values":{%s}}}}`,
		user, callback, handle, strings.Join(values, ",")))
}

// reviewOf is the handle of the latest full view that somebody has open.
func (o *office) reviewOf(t *testing.T, user string) (handle string) {
	t.Helper()
	err := o.pool.QueryRow(t.Context(), `SELECT handle FROM slack_reviews WHERE slack_user = $1 ORDER BY opened_at DESC LIMIT 1`, user).Scan(&handle)
	require.NoError(t, err, "the full view of %s", user)
	return handle
}

func TestWhatNoCardShowsInFullIsApprovedFromTheFullViewReadToItsEnd(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(oneApproval))
	view := o.openModal(t, bo, c, slack.ActionApprove)
	o.trail(t, c.ticket) // to open it decides nothing, and shows no more than a page
	require.Contains(t, view.Text, "Page 1 of 5")
	require.NotContains(t, view.Text, "Comment")
	view = o.turn(t, bo, view, slack.ActionNext)
	require.Contains(t, view.Text, "Page 2 of 5")
	view = o.turn(t, bo, view, slack.ActionPrev)
	require.Contains(t, view.Text, "Page 1 of 5")
	view = o.readToTheEnd(t, view)
	require.Contains(t, view.Text, "Page 5 of 5")
	viewing := o.last(t, c.ticket, approvals.EventViewed).Data.Viewing
	require.Equal(t, approvals.Viewing{
		Person: "bo", Digest: o.ticket(t, c.ticket).Digest, Rendered: viewing.Rendered, Channel: billingRoom, Pages: 5,
	}, *viewing)
	require.True(t, o.approveFrom(t, bo, view.ID, nil).Closed)
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
	d := o.ticket(t, c.ticket).Decisions[0]
	require.Equal(t, []string{viewing.Rendered, c.ts, billingRoom}, []string{d.Rendered, d.MessageTS, d.Channel})
	shown, err := o.store.Rendering(t.Context(), d.Rendered)
	require.NoError(t, err, "what was shown is kept")
	require.GreaterOrEqual(t, strings.Count(string(shown), "x"), 40_000, "all of it")
}

func TestAFullViewCannotBeSentOffBeforeItsLastPage(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(oneApproval))
	view := o.openModal(t, bo, c, slack.ActionApprove)
	view = o.turn(t, bo, view, slack.ActionNext)
	_, err := o.emu.SubmitView(t.Context(), bo, view.ID, nil)
	require.Error(t, err, "there is nothing to send it off with")
	reply := o.send(t, sentOff(bo, slack.CallbackApprove, o.reviewOf(t, bo), nil))
	require.Contains(t, reply.Body, "You have not seen the last page")
	o.trail(t, c.ticket, approvals.EventRefused)
	require.Equal(t, approvals.CodeDigestMismatch, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code)
	require.Empty(t, o.ticket(t, c.ticket).Viewers)
}

func TestTheFullViewOfAnotherApprovesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(oneApproval))
	o.readToTheEnd(t, o.openModal(t, bo, c, slack.ActionApprove))
	theirs := o.reviewOf(t, bo)
	mine := o.openModal(t, chen, c, slack.ActionApprove)
	for name, body := range map[string]string{
		"sent off":   sentOff(chen, slack.CallbackApprove, theirs, nil),
		"its button": o.viewPayload(t, chen, mine, slack.ActionNext, theirs),
	} {
		require.Equal(t, http.StatusOK, o.send(t, body).Status, name)
		refused := o.last(t, c.ticket, approvals.EventRefused)
		require.Equal(t, []any{"chen", approvals.CodeNotFound}, []any{refused.Actor.Name, refused.Data.Refusal.Code}, name)
	}
	require.Empty(t, o.ticket(t, c.ticket).Decisions)
	require.Equal(t, []string{"bo"}, o.ticket(t, c.ticket).Viewers)
}

// viewPayload is what a button in a modal would send, with another pointer in both places.
func (o *office) viewPayload(t *testing.T, user string, v *emulator.View, action, handle string) string {
	t.Helper()
	raw, err := o.emu.Payload(emulator.Action{User: user, ViewID: v.ID, ActionID: action})
	require.NoError(t, err, "make a payload")
	return form(strings.ReplaceAll(string(raw), o.reviewOf(t, user), handle))
}

func TestAFullViewIsOfItsOwnTicketWhateverItsPointerSays(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first, second := o.ask(t, long(oneApproval)), o.ask(t, long(twoApprovals))
	o.readToTheEnd(t, o.openModal(t, bo, first, slack.ActionApprove))
	handle := o.reviewOf(t, bo)
	o.openModal(t, bo, second, slack.ActionApprove)
	// The pointer of the first in the modal of the second: it approves what was read, not
	// what the modal shows.
	require.Empty(t, o.send(t, sentOff(bo, slack.CallbackApprove, handle, nil)).Body)
	require.Equal(t, approvals.Approved, o.ticket(t, first.ticket).State)
	require.Empty(t, o.ticket(t, second.ticket).Decisions)
}

// A rule that wants the whole call read, wants it of a call of three words too.
func TestApprovalByModalIsFromTheFullViewOnly(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ofRule("confirm: modal")
	c := o.ask(t, oneApproval)
	view := o.openModal(t, bo, c, slack.ActionApprove)
	require.Contains(t, view.Text, fingerprint(o.ticket(t, c.ticket)))
	o.trail(t, c.ticket, approvals.EventViewed) // it has one page
	require.True(t, o.approveFrom(t, bo, view.ID, map[string]string{slack.CommentBlock: "as agreed"}).Closed)
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
	require.Equal(t, "as agreed", o.ticket(t, c.ticket).Decisions[0].Comment)
}

func TestARuleThatHasBecomeStricterIsHeldToAtTheClick(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	o.ofRule("confirm: code")
	view := o.openModal(t, bo, c, slack.ActionApprove)
	require.Contains(t, view.Text, "The last four digits of the fingerprint")
	o.trail(t, c.ticket, approvals.EventViewed)
}

func TestTheDigitsOfTheFingerprintHaveToBeRight(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ofRule("confirm: code")
	c := o.ask(t, oneApproval)
	whole := fingerprint(o.ticket(t, c.ticket))
	digits := whole[len(whole)-4:]
	view := o.openModal(t, bo, c, slack.ActionApprove)
	require.NotContains(t, view.Text, digits, "they are to be read elsewhere")
	wrong := "0000"
	if digits == wrong {
		wrong = "1111"
	}
	for _, typed := range []string{wrong, "", whole[:4]} {
		reply := o.send(t, sentOff(bo, slack.CallbackApprove, o.reviewOf(t, bo), map[string]string{slack.CodeBlock: typed}))
		require.Contains(t, reply.Body, `"errors":{"code":"`, "%q", typed)
		require.Contains(t, reply.Body, "not the last four digits")
	}
	seen := o.approveFrom(t, bo, view.ID, map[string]string{slack.CodeBlock: wrong})
	require.Contains(t, seen.Errors[slack.CodeBlock], "not the last four digits")
	o.trail(t, c.ticket, approvals.EventViewed)
	require.True(t, o.approveFrom(t, bo, view.ID, map[string]string{slack.CodeBlock: strings.ToUpper(digits)}).Closed)
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventDecided, approvals.EventApproved)
}

// What was read is not what would be sent any more, although the call is the same.
func TestAFullViewThatShowsSomethingElseByNowApprovesNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ofRule("confirm: modal")
	c := o.ask(t, long(oneApproval))
	view := o.readToTheEnd(t, o.openModal(t, bo, c, slack.ActionApprove))
	o.rewrite("  - name: one-person\n", "  - name: one-person\n    confirm: modal\n", "https://billing.internal/v1", "https://elsewhere.internal/v1")
	seen := o.approveFrom(t, bo, view.ID, nil)
	require.False(t, seen.Closed)
	require.Contains(t, o.shownTo(t, bo), "has changed since you opened it")
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventRefused)

	page := o.openModal(t, chen, c, slack.ActionApprove)
	o.ofRule("confirm: modal")
	require.Contains(t, o.turn(t, chen, page, slack.ActionNext).Text, "has changed since you opened it")
	require.Empty(t, o.ticket(t, c.ticket).Decisions)
}

func TestAPressOnAPageThatIsTurnedAlreadyTurnsNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(oneApproval))
	view := o.openModal(t, bo, c, slack.ActionApprove)
	body := o.viewPayload(t, bo, view, slack.ActionNext, o.reviewOf(t, bo))
	for i := range 3 { // three presses on the first page, each with a signature of its own
		require.Equal(t, http.StatusOK, o.send(t, body+fmt.Sprintf("&press=%d", i)).Status)
	}
	require.Contains(t, o.shownTo(t, bo), "Page 2 of 5")
	review, err := o.store.ReviewByHandle(t.Context(), o.reviewOf(t, bo))
	require.NoError(t, err)
	require.Equal(t, []int{2, 2}, []int{review.Page, review.Seen})
}

func TestWhatSlackDidNotShowWasNotSeen(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, long(oneApproval))
	view := o.openModal(t, bo, c, slack.ActionApprove)
	o.emu.AddFault(emulator.Fault{Method: "views.update", Kind: emulator.ErrorReply, Error: "internal_error"})
	_, err := o.emu.Do(t.Context(), emulator.Action{User: bo, ViewID: view.ID, ActionID: slack.ActionNext})
	require.NoError(t, err)
	review, err := o.store.ReviewByHandle(t.Context(), o.reviewOf(t, bo))
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{review.Page, review.Seen})
}

// Those who have to do with a call can read it; nobody can approve from there who could not
// anywhere else.
func TestTheFullViewOffersToApproveOnlyToThoseWhoMay(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ofRule("confirm: modal")
	c := o.ask(t, oneApproval)
	view := o.openModal(t, ana, c, slack.ActionView) // she owns the caller
	require.NotContains(t, view.Text, "Comment")
	require.Contains(t, view.Text, "This is the whole request")
	_, err := o.emu.SubmitView(t.Context(), ana, view.ID, nil)
	require.Error(t, err, "there is nothing to send it off with")
	reply := o.send(t, sentOff(ana, slack.CallbackApprove, o.reviewOf(t, ana), nil))
	require.Contains(t, reply.Body, "You count as the requester")
	require.Nil(t, o.clickWell(t, dev, c, slack.ActionView).OpenedView, "a stranger reads nothing")
	o.requireTold(t, dev, "You are not an approver")
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventRefused, approvals.EventRefused)
}

func TestAViewIsRecordedOnceAPerson(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for range 3 {
		o.openModal(t, bo, c, slack.ActionView)
	}
	o.openModal(t, chen, c, slack.ActionView)
	o.trail(t, c.ticket, approvals.EventViewed, approvals.EventViewed)
	require.Equal(t, []string{"bo", "chen"}, o.ticket(t, c.ticket).Viewers)
}

// A stage may pass while somebody reads.
func TestAFullViewOfAnEarlierStageIsOver(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.rewrite("need: [{from: [bo], approvals: 1}]", "need: [{from: [bo, chen], approvals: 1}]", "need: [{from: [chen], approvals: 1}]", "need: [{from: [fay], approvals: 1}]",
		"  - name: two-stages\n", "  - name: two-stages\n    confirm: modal\n")
	c := o.ask(t, twoStages)
	chens := o.openModal(t, chen, c, slack.ActionApprove)
	bos := o.openModal(t, bo, c, slack.ActionApprove)
	require.True(t, o.approveFrom(t, bo, bos.ID, nil).Closed)
	o.approveFrom(t, chen, chens.ID, nil)
	require.Contains(t, o.shownTo(t, chen), "The request is in stage 2 of 2 now")
	require.Equal(t, approvals.CodeStale, o.last(t, c.ticket, approvals.EventRefused).Data.Refusal.Code)
}
