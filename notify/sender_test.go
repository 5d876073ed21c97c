package notify_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/notify"
	"countersign/slack/emulator"
)

// badAnswers are ways in which a call can end without anybody knowing what came of it, or
// with Slack saying that nothing did.
var badAnswers = map[string]emulator.Fault{
	"posted, and the answer is lost": {Kind: emulator.CommitThenDrop},
	"lost on the way":                {Kind: emulator.Drop},
	"server error":                   {Kind: emulator.ServerError},
	"a page of a proxy":              {Kind: emulator.HTML},
	"no, without a word":             {Kind: emulator.SilentFailure},
	"internal error":                 {Kind: emulator.ErrorReply, Error: "internal_error"},
	"fatal error":                    {Kind: emulator.ErrorReply, Error: "fatal_error"},
	"too many":                       {Kind: emulator.RateLimited, RetryAfter: 1},
	"too many, and posted":           {Kind: emulator.CommitThenLimit, RetryAfter: 1},
	"twice in doubt":                 {Kind: emulator.CommitThenDrop, Times: 2},
}

func TestEveryStepMayLoseItsAnswerAndThereIsOneCardThatIsRight(t *testing.T) {
	t.Parallel()
	for name, fault := range badAnswers {
		for _, method := range []string{"chat.postMessage", "conversations.history", "chat.update", "auth.test"} {
			t.Run(method+": "+name, func(t *testing.T) {
				t.Parallel()
				s := newStation(t)
				fault.Method = method
				if method == "conversations.history" { // there is a search only for what is in doubt
					s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenDrop})
				}
				s.space.AddFault(fault)
				s.send()
				x := s.submit("#approvals")
				s.settled()
				s.requireShown(x.ID)
				s.deny(x.ID)
				s.settled()
				cards := s.cardsIn("approvals")
				require.Len(t, cards, 1)
				require.Contains(t, cards[0].Text, "Denied")
				require.Empty(t, cards[0].Buttons)
				require.Equal(t, 1, s.notified(x.ID))
			})
		}
	}
}

func TestWithoutHistoryADuplicateIsAcceptedAndFollowsOnceItIsPressed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*emulator.Config){
		"slack knows the message again": func(*emulator.Config) {},
		"slack does not":                func(c *emulator.Config) { c.IgnoreClientMsgID = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStation(t, mute, change)
			s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenDrop})
			s.send()
			x := s.submit("#approvals")
			s.settled()
			cards := s.cardsIn("approvals")
			require.Len(t, cards, 2, "the one whose place is not known, and another")
			require.Equal(t, cards[0].Buttons[0].Value, cards[1].Buttons[0].Value, "both carry one handle")
			require.NoError(t, s.store.AdoptCopy(t.Context(), cards[0].Buttons[0].Value, cards[0].Channel, cards[0].TS), "somebody presses the first")
			s.deny(x.ID)
			s.settled()
			for _, m := range s.cardsIn("approvals") {
				require.Contains(t, m.Text, "Denied")
			}
			require.Equal(t, 1, s.notified(x.ID))
		})
	}
}

func TestWithoutHistoryANoteIsNotPostedTwice(t *testing.T) {
	t.Parallel()
	s := newStation(t, mute)
	s.send()
	x := s.submit("#approvals")
	s.settled()
	s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenDrop})
	s.remind(x.ID)
	s.settled()
	require.Len(t, s.channel("approvals"), 2)
	require.Equal(t, []string{"card #approvals sent", "note C0APPROVALS dropped"}, s.posts(x.ID))
}

// remind has the reminder of a ticket fall due.
func (s *station) remind(id string) {
	s.tb.Helper()
	s.advance(id, func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return x.Remind(x.Stage, 1, x.CreatedAt.Add(2*time.Minute))
	})
}

func TestACardWhoseAnswerWasLostIsFoundByAClick(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenDrop})
	s.space.AddFault(emulator.Fault{Method: "conversations.history", Kind: emulator.ErrorReply, Error: "internal_error", Times: 1000})
	s.send()
	x := s.submit("#approvals")
	s.eventually("it is there", func() bool { return len(s.channel("approvals")) == 1 })
	card := s.channel("approvals")[0]
	require.NoError(t, s.store.AdoptCopy(t.Context(), card.Buttons[0].Value, card.Channel, card.TS))
	s.settled()
	s.requireShown(x.ID)
	require.Equal(t, []string{"card #approvals sent"}, s.posts(x.ID))
	require.Len(t, s.channel("approvals"), 1)
	require.Equal(t, 1, s.notified(x.ID))
}

func TestAnArchivedChannelHasItsFallback(t *testing.T) {
	t.Parallel()
	s := newStation(t, func(c *emulator.Config) { c.Workspace.Channels[0].Archived = true })
	s.send()
	x := s.submit("#approvals")
	s.settled()
	require.Empty(t, s.channel("approvals"))
	require.Len(t, s.channel("fallback"), 1)
	require.Equal(t, []string{"card #approvals dead", "card #fallback sent"}, s.posts(x.ID))
	posts, err := s.store.PostsOf(t.Context(), x.ID)
	require.NoError(t, err)
	require.Equal(t, "is_archived", posts[0].Reason)
}

func TestACardThatCannotBeUpdatedHasItsOutcomeBelowOnce(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"edit_window_closed", "cant_update_message", "is_inactive", "block_mismatch"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := newStation(t)
			s.send()
			x := s.submit("#approvals")
			s.settled()
			s.space.AddFault(emulator.Fault{Method: "chat.update", Kind: emulator.ErrorReply, Error: code, Times: 1000})
			s.progress(x.ID)
			s.settled()
			require.Len(t, s.channel("approvals"), 1, "nothing is said before the end")
			s.deny(x.ID)
			s.settled()
			require.NoError(t, s.planner.Changed(t.Context(), x.ID))
			s.settled()
			all := s.channel("approvals")
			require.Len(t, all, 2)
			require.Equal(t, all[0].TS, all[1].ThreadTS)
			require.Contains(t, all[1].Text, "Denied")
			cards, err := s.store.Cards(t.Context(), x.ID)
			require.NoError(t, err)
			require.Equal(t, code, cards[0].Frozen)
			require.Equal(t, 1, s.calls.count("chat.update"), "it is not tried again")
		})
	}
}

func TestBlocksThatSlackDoesNotTakeAreReplacedByPlainText(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.ErrorReply, Error: "invalid_blocks"})
	s.send()
	x := s.submit("#approvals")
	s.settled()
	all := s.channel("approvals")
	require.Len(t, all, 1)
	require.Contains(t, all[0].Summary, "Approval needed")
	require.Equal(t, 2, s.calls.count("chat.postMessage"))
	cards, err := s.store.Cards(t.Context(), x.ID)
	require.NoError(t, err)
	require.Empty(t, cards[0].Rendered, "what was kept is not what is shown")
}

func TestUpdatesAreCoalescedToTheLast(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	sender, _ := s.send()
	x := s.submit("#approvals")
	s.settled()
	before := s.calls.count("chat.update")
	s.space.AddFault(emulator.Fault{Method: "chat.update", Kind: emulator.Hang})
	s.progress(x.ID)
	s.eventually("an update is under way", func() bool { return s.calls.count("chat.update") == before+1 })
	for range 20 {
		s.progress(x.ID)
		sender.Wake()
	}
	s.deny(x.ID)
	s.space.ReleaseHangs()
	s.settled()
	require.Contains(t, s.channel("approvals")[0].Text, "Denied")
	require.Equal(t, before+2, s.calls.count("chat.update"), "one while it changed, and one for all that came meanwhile")
}

func TestWhatEndsATicketGoesFirst(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	_, stop := s.send()
	shown, denied := s.submit("#one"), s.submit("#three")
	s.settled()
	stop()
	s.calls.forget()
	s.remind(shown.ID)
	s.submit("#two")
	s.deny(denied.ID)
	require.NoError(t, s.store.OpenedHome(t.Context(), "T0EMULATOR", "U0ANA", "ana"))

	s.send(func(c *notify.SenderConfig) { c.InFlight = 1 })
	s.settled()
	s.eventually("the home tab is published", func() bool { return s.calls.count("views.publish") == 1 })
	var outcome string
	for _, c := range s.space.Snapshot().Channels {
		if c.User == "U0DORA" {
			outcome = c.Messages[0].TS
		}
	}
	card, reminder := s.channel("two")[0].TS, s.channel("one")[1].TS
	require.Less(t, outcome, card, "what ends a ticket, then a new card")
	require.Less(t, card, reminder, "then a reminder")
	s.calls.before(t, "chat.update", "chat.postMessage")
	s.calls.before(t, "chat.postMessage", "views.publish")
}

func TestTheBreakerStopsEverythingAndClosesByItself(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	sender, _ := s.send()
	s.submit("#one")
	s.settled()
	s.space.SetOutage(true)
	for range 10 {
		s.submit("#approvals")
	}
	s.eventually("it opens", func() bool { return sender.Status().Open })
	require.NotEmpty(t, sender.Status().Reason)
	s.eventually("every process can see it", func() bool {
		status, alive, err := s.store.SenderStatus(t.Context())
		return err == nil && alive && status.Open
	})
	s.eventually("it is probed", func() bool { return s.calls.count("auth.test") > 3 })
	require.Less(t, s.calls.count("chat.postMessage"), 30, "not everything is tried again and again")
	s.space.SetOutage(false)
	s.settled()
	require.False(t, sender.Status().Open)
	require.Len(t, s.channel("approvals"), 10)
}

func TestARevokedTokenStopsEverythingUntilItIsReplaced(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	sender, _ := s.send()
	s.space.SetAuthError("token_revoked")
	x := s.submit("#approvals")
	s.eventually("it opens", func() bool { return sender.Status().Open })
	require.Contains(t, sender.Status().Reason, "token_revoked")
	s.eventually("it was certainly not posted", func() bool { return s.posts(x.ID)[0] == "card #approvals queued" })
	posts := s.calls.count("chat.postMessage")
	probes := s.calls.count("auth.test")
	s.eventually("it is probed", func() bool { return s.calls.count("auth.test") > probes+2 })
	require.Equal(t, posts, s.calls.count("chat.postMessage"))
	s.space.SetAuthError("")
	s.settled()
	require.Len(t, s.channel("approvals"), 1)
}

func TestOfTwoSendersOneSendsAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	short := func(c *notify.SenderConfig) { c.Lease = 2 * time.Second }
	_, stop := s.send(short)
	s.submit("#one")
	s.settled()
	s.send(short)
	for range 30 {
		s.submit("#approvals")
	}
	s.settled()
	require.Len(t, s.channel("approvals"), 30)
	stop()
	s.submit("#two")
	s.settled()
	require.Len(t, s.channel("two"), 1)
	require.Equal(t, 32, s.calls.count("chat.postMessage"))
}

func TestHomeTabsArePublishedAndThoseThatCannotBeAreForgotten(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.send()
	require.NoError(t, s.store.OpenedHome(t.Context(), "T0EMULATOR", "U0ANA", "ana"))
	require.NoError(t, s.store.OpenedHome(t.Context(), "T0EMULATOR", "U0NOBODY", ""))
	s.eventually("it is published", func() bool {
		_, there := s.space.PublishedHome("U0ANA")
		return there
	})
	s.eventually("both were seen to", func() bool {
		due, err := s.store.DueHomes(t.Context(), 10)
		return err == nil && len(due) == 0
	})
	require.Equal(t, 2, s.calls.count("views.publish"))
}

func TestWhatTravelsWithAMessageIsItsIDAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.send()
	x := s.submit("#approvals")
	s.settled()
	posts, err := s.store.PostsOf(t.Context(), x.ID)
	require.NoError(t, err)
	m := s.channel("approvals")[0]
	require.Equal(t, map[string]any{
		"event_type": "countersign_post", "event_payload": map[string]any{"outbox_id": posts[0].ID.String()},
	}, m.Metadata)
	require.NotEmpty(t, m.ClientMsgID)
	require.False(t, strings.Contains(m.ClientMsgID, posts[0].ID.String()))
}
