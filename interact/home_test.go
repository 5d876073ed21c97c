package interact_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/slack"
	"countersign/slack/emulator"
)

// home opens a home tab, publishes it as the sender does, and returns what is on it.
func (o *office) home(t *testing.T, user string) emulator.View {
	t.Helper()
	view, err := o.desk.Home(t.Context(), db.Home{SlackUser: user, SlackTeam: "T0EMULATOR"})
	require.NoError(t, err, "render the home tab of %s", user)
	require.NoError(t, o.client.PublishHome(t.Context(), user, view), "publish the home tab of %s", user)
	shown, ok := o.emu.PublishedHome(user)
	require.True(t, ok)
	return shown
}

func TestTheHomeTabShowsWhatIsOnes(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	refund, staged := o.ask(t, oneApproval), o.ask(t, twoStages)
	o.clickWell(t, bo, staged, slack.ActionAsk)
	o.writeWell(t, bo, o.emu.OpenViews(bo)[0].ID, slack.QuestionBlock, "which customer is that?")

	mine := o.home(t, bo)
	require.Contains(t, mine.Text, "Waiting for you (2)")
	require.Contains(t, mine.Text, "You asked (1)")
	require.Contains(t, mine.Text, "your question: “which customer is that?”")
	require.Contains(t, mine.Text, "Your requests (0)")
	require.Contains(t, mine.Text, fingerprint(o.ticket(t, refund.ticket)))
	links := fmt.Sprint(mine.Parts)
	for _, c := range []card{refund, staged} {
		require.Contains(t, links, "/p"+strings.ReplaceAll(c.ts, ".", ""), "a link to the card")
	}

	o.clickWell(t, chen, refund, slack.ActionApprove)
	require.Contains(t, o.home(t, bo).Text, "Waiting for you (1)")
	owners := o.home(t, ana)
	require.Contains(t, owners.Text, "Waiting for you (0)")
	require.Contains(t, owners.Text, "Your requests (2)")
	require.Contains(t, owners.Text, "waits for an answer: “which customer is that?”")
}

func TestReviewOnTheHomeTabOpensTheWholeRequest(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.submit(t, oneApproval) // its card is not posted yet
	mine := o.home(t, bo)
	seen, err := o.emu.Do(t.Context(), emulator.Action{User: bo, ViewID: mine.ID, Confirm: true, ActionID: slack.ActionView})
	require.NoError(t, err)
	require.NotNil(t, seen.OpenedView, "told: %v", o.told(bo))
	require.Contains(t, seen.OpenedView.Text, "/refunds")
	require.Empty(t, o.ticket(t, c).Decisions)
}

func TestTheHomeTabOfSomebodyUnknownSaysWhatToDo(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ask(t, oneApproval)
	for user, words := range map[string]string{dev: "add your member id U02DEV", guest: "is a guest"} {
		got := o.home(t, user)
		require.Contains(t, got.Text, words)
		require.NotContains(t, got.Text, "refunds")
		require.NotContains(t, got.Text, "Waiting for you")
		require.Empty(t, got.Buttons)
	}
}

func TestTheHomeTabIsBoundedAndSaysHowManyMoreThereAre(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for range slack.MaxHomeWaiting + 7 {
		o.submit(t, oneApproval)
	}
	got := o.home(t, bo)
	require.Contains(t, got.Text, "Waiting for you (27)")
	require.Contains(t, got.Text, "…and 7 more.")
	require.Len(t, got.Buttons, slack.MaxHomeWaiting)
}

func TestLinksOfCardsAreAskedForOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.ask(t, oneApproval)
	require.Contains(t, o.home(t, bo).Text, "Open in its channel")
	o.emu.AddFault(emulator.Fault{Method: "chat.getPermalink", Kind: emulator.ErrorReply, Times: 100})
	require.Contains(t, o.home(t, bo).Text, "Open in its channel", "from memory")
	o.ask(t, twoApprovals)
	require.Contains(t, o.home(t, bo).Text, "Waiting for you (2)", "without a link rather than not at all")
}

func TestTheHomeTabWaitsForSlackToSaySomethingOfItsOwner(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	o.emu.AddFault(emulator.Fault{Method: "users.info", Kind: emulator.ErrorReply, Times: 100})
	_, err := o.desk.Home(t.Context(), db.Home{SlackUser: bo, SlackTeam: "T0EMULATOR"})
	require.Error(t, err, "to be tried again, not shown to whoever it may be")
	o.emu.ClearFaults()
	require.Contains(t, o.home(t, bo).Text, "Waiting for you (0)")
	require.True(t, o.emu.UpdateUser(bo, func(u *emulator.User) { u.Deleted = true }))
	o.clock.move(time.Hour)
	_, err = o.facts.Fresh(t.Context(), []string{bo}, nil)
	require.NoError(t, err)
	require.Contains(t, o.home(t, ana).Text, "Your requests (0)")
	view, err := o.desk.Home(t.Context(), db.Home{SlackUser: bo, SlackTeam: "T0EMULATOR"})
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(view), "Waiting for you")
}
