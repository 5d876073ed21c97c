package interact_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/slack"
	"countersign/slack/emulator"
)

// guest is a member of the workspace who may decide on nothing.
const guest = "U02GUEST"

// slash types /approvals and returns what the one who typed it then reads.
func (o *office) slash(t *testing.T, user, text string) emulator.Message {
	t.Helper()
	seen, err := o.emu.Slash(t.Context(), user, "C02GENERAL", "/approvals", text)
	require.NoError(t, err, "%s types /approvals %s", user, text)
	require.Empty(t, seen.Warning, "what Slack warned of")
	require.NotNil(t, seen.Message, "an answer to /approvals %s", text)
	require.Equal(t, user, seen.Message.EphemeralTo, "nobody else sees it")
	return *seen.Message
}

func TestApprovalsListsWhatWaitsForWhoAsks(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	first, second := o.ask(t, oneApproval), o.ask(t, inPrivate)
	decided := o.ask(t, twoApprovals)
	o.clickWell(t, bo, decided, slack.ActionApprove)

	got := o.slash(t, bo, "")
	require.Contains(t, got.Text, "Waiting for you: 2 requests")
	for _, c := range []card{first, second} {
		require.Contains(t, got.Text, "…"+c.ticket[len(c.ticket)-4:])
	}
	require.Contains(t, got.Text, "https://billing.internal/v1/refunds")
	require.NotContains(t, got.Text, "/customers/42", "bo has decided on that one")
	var links []string
	for _, m := range []string{first.ts, second.ts} {
		links = append(links, "/p"+strings.ReplaceAll(m, ".", ""))
	}
	raw := fmt.Sprint(got.Parts)
	for _, link := range links {
		require.Contains(t, raw, link, "a link to the card")
	}
	require.Contains(t, o.slash(t, ana, "").Text, "0 requests", "ana owns the caller, and decides on none of its calls")
}

func TestReviewInAListIsOnesOwn(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	mine := o.slash(t, bo, "")
	button, ok := mine.Button(slack.ActionView)
	require.True(t, ok, "a Review button")
	require.NotEqual(t, c.handle, button.Value, "its handle is not the card's")
	kept, err := o.store.CardByHandle(t.Context(), button.Value)
	require.NoError(t, err)
	require.Equal(t, []any{db.CardPersonal, bo, c.ticket}, []any{kept.Kind, kept.SlackUser, kept.TicketID})
	again, _ := o.slash(t, bo, "").Button(slack.ActionView)
	require.Equal(t, button.Value, again.Value, "the same each time")
	theirs, _ := o.slash(t, chen, "").Button(slack.ActionView)
	require.NotEqual(t, button.Value, theirs.Value)

	seen, err := o.emu.Click(t.Context(), bo, mine.Channel, mine.TS, slack.ActionView, true)
	require.NoError(t, err)
	require.NotNil(t, seen.OpenedView, "the whole request is open; told: %v", o.told(bo))
	require.Contains(t, seen.OpenedView.Text, "/refunds")

	// Chen gets hold of bo's button.
	o.send(t, o.payload(t, chen, c, slack.ActionApprove, set(button.Value, "actions", "0", "value")))
	require.Empty(t, o.ticket(t, c.ticket).Decisions)
}

func TestMineListsWhatWasRequestedForOne(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	require.Contains(t, o.slash(t, ana, "mine").Text, "Your requests: 1 request")
	require.Contains(t, o.slash(t, ana, "  MINE ").Text, "/refunds")
	require.Contains(t, o.slash(t, bo, "mine").Text, "0 requests")
	o.clickWell(t, bo, c, slack.ActionAsk)
	view := o.emu.OpenViews(bo)[0]
	o.writeWell(t, bo, view.ID, slack.QuestionBlock, "why on a Friday?")
	require.Contains(t, o.slash(t, ana, "mine").Text, "waits for an answer: “why on a Friday?”")
	require.Contains(t, o.slash(t, bo, "").Text, "a question is open")
	for range 30 {
		o.submit(t, oneApproval)
	}
	require.Contains(t, o.slash(t, ana, "mine").Text, "and 1 more", "the newest; how many there ever were is not counted")
}

func TestShowIsForThoseWhoHaveToDoWithATicket(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, twoStages)
	for user, concerned := range map[string]bool{ana: true, bo: true, chen: true} {
		require.Equal(t, concerned, strings.Contains(o.slash(t, user, "show "+c.ticket).Text, "/staged"), user)
	}
	o.rewrite("{name: U02DEV, email: dev@example.com}", "{name: dora, slack: U02DEV}", ", U02DEV]", "]")
	const none = "There is no such ticket."
	require.Equal(t, none, o.slash(t, dev, "show "+c.ticket).Text, "dora has nothing to do with it")
	for _, id := range []string{"tkt_00000000000000000000000000", "tkt_1", "x", "<@U02BO>"} {
		require.Equal(t, none, o.slash(t, bo, "show "+id).Text, id)
	}
	o.rewrite("{name: U02DEV, email: dev@example.com}", "{name: dora, slack: U02DEV}", ", U02DEV]", "]", "upstreams:\n", "operators: [dora]\nupstreams:\n")
	require.Contains(t, o.slash(t, dev, "show "+c.ticket).Text, "/staged", "operators see every ticket")
}

func TestShowOfAClosedTicketHasNoButton(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	require.True(t, o.giveReason(t, bo, view, "not today").Closed)
	got := o.slash(t, bo, "show "+c.ticket)
	require.Contains(t, got.Text, "/refunds", "bo has decided on it")
	require.Empty(t, got.Buttons)
}

func TestLinkSaysWhoOneIs(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	require.Contains(t, o.slash(t, bo, "link").Text, "Your Slack account U02BO (workspace T0EMULATOR) stands for bo.")
	got := o.slash(t, dev, "link").Text
	require.Contains(t, got, "add your member id U02DEV (workspace T0EMULATOR)")
	require.Contains(t, got, "console")
}

func TestHelpIsForEverybodyAndForWhatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for user, text := range map[string]string{bo: "help", dev: "help", ana: "please", chen: "show"} {
		require.Contains(t, o.slash(t, user, text).Text, "/approvals mine", "%s types %s", user, text)
	}
}

func TestNobodyElseIsShownAnything(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	for user, words := range map[string]string{dev: "does not know who you are", guest: "is a guest"} {
		for _, text := range []string{"", "mine", "show " + c.ticket} {
			got := o.slash(t, user, text)
			require.Contains(t, got.Text, words, "%s types %s", user, text)
			require.NotContains(t, got.Text, "refunds")
			require.Empty(t, got.Buttons)
		}
	}
	require.True(t, o.emu.UpdateUser(bo, func(u *emulator.User) { u.IsRestricted = true }))
	o.clock.move(31 * time.Second)
	require.Contains(t, o.slash(t, bo, "").Text, "is a guest", "since a moment ago")
}

func TestACommandIsRefusedWhenSlackCannotBeAskedWhoItIs(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ask(t, oneApproval)
	o.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.ErrorReply, Times: 100})
	got := o.slash(t, bo, "")
	require.Contains(t, got.Text, "could not be asked who you are")
	require.NotContains(t, got.Text, "refunds")
}

func TestACommandOfAnotherWorkspaceOrAppIsShownNothing(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ask(t, oneApproval)
	for _, change := range [][2]string{{"team_id=T0EMULATOR", "team_id=T0OTHER"}, {"api_app_id=A0EMULATOR", "api_app_id=A0OTHER"}} {
		o.slash(t, bo, "")
		body := o.newest(t).Body
		require.Contains(t, body, change[0])
		reply := o.sendRaw(t, emulator.Raw{Body: strings.Replace(body, change[0], change[1], 1), Sign: true, To: "commands"})
		require.Equal(t, 200, reply.Status)
		require.Contains(t, reply.Body, "another workspace")
		require.NotContains(t, reply.Body, "refunds")
	}
}

func TestAListIsBounded(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for range slack.MaxListing + 5 {
		o.submit(t, oneApproval)
	}
	got := o.slash(t, bo, "")
	require.Contains(t, got.Text, "20 requests")
	require.Contains(t, got.Text, "…and 5 more")
	require.Len(t, got.Buttons, slack.MaxListing)
	require.Equal(t, approvals.Pending, o.ticket(t, o.submit(t, oneApproval)).State)
}

// Slack drops answers of 20 KB and more that are sent through a socket, and says nothing.
func TestTheLongestListFitsIntoTheAnswerToACommand(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	long := "/" + strings.Repeat("ünïcode&<", 150)
	for range slack.MaxListing + 1 {
		o.submit(t, `{"upstream":"billing","method":"POST","path":"`+long+`","justification":"case 991"}`)
	}
	got := o.slash(t, bo, "")
	require.Len(t, got.Buttons, slack.MaxListing)
	body := o.newest(t).Body
	reply := o.sendRaw(t, emulator.Raw{Body: body + "&again=1", Sign: true, To: "commands"})
	require.Equal(t, 200, reply.Status)
	require.Less(t, len(reply.Body), 20_000)
}
