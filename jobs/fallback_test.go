package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/jobs"
	"countersign/notify"
	"countersign/slack/emulator"
)

// open makes channels of which the bot and ana are members.
func (s workspace) open(ids ...string) {
	for _, id := range ids {
		s.PutChannel(emulator.Channel{ID: id, Name: strings.ToLower(strings.TrimPrefix(id, "C0")), Members: []string{"U0BOT", "U0ANA"}})
	}
}

func (s workspace) archive(id string) {
	s.UpdateChannel(id, func(c *emulator.Channel) { c.Archived = true })
}

// awaitIn waits until a channel holds messages that say these things, one each.
func (s workspace) awaitIn(channel string, want ...string) []emulator.Message {
	s.tb.Helper()
	eventually(s.tb, channel+" reads "+strings.Join(want, ", "), func() bool {
		got := s.Messages(channel)
		if len(got) != len(want) {
			return false
		}
		for i := range got {
			if !strings.Contains(got[i].Text, want[i]) {
				return false
			}
		}
		return true
	})
	return s.Messages(channel)
}

// operatorLog keeps the lines that an operator must see.
type operatorLog struct {
	slog.Handler
	mu    *sync.Mutex
	lines *[]string
}

func newOperatorLog() operatorLog {
	return operatorLog{slog.DiscardHandler, &sync.Mutex{}, &[]string{}}
}

func (o operatorLog) Enabled(context.Context, slog.Level) bool { return true }
func (o operatorLog) WithAttrs([]slog.Attr) slog.Handler       { return o }
func (o operatorLog) WithGroup(string) slog.Handler            { return o }

func (o operatorLog) Handle(_ context.Context, r slog.Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Level >= slog.LevelError {
		*o.lines = append(*o.lines, r.Message)
	}
	return nil
}

func (o operatorLog) alarms() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string{}, *o.lines...)
}

func TestACardThatItsChannelDoesNotTakeIsShownInTheFallbackOfItsStage(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.slack = `, fallback_channel: "#last"` }), newWorkspace(t)
	space.open("C0SECOND", "C0LAST")
	space.archive("C0APPROVALS")
	w.run(w.withSlack(space.client()))
	id := w.submit(call{plan: func(p *approvals.Plan) { p.Stages[0].Fallback = "#second" }}).ID
	card := space.awaitIn("C0SECOND", "Approval needed")[0]
	require.NotEmpty(t, card.Buttons)
	w.settled()
	require.Empty(t, space.Messages("C0LAST"), "one place is enough")
	w.ask(id, "bo", "Which customer?")
	space.awaitIn("C0SECOND", "Question open", "asks @dora") // the stage lives there now
	w.answer(id, "Number 42")
	space.awaitIn("C0SECOND", "Approval needed", "asks @dora", "has an answer")
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitIn("C0SECOND", "Executed", "asks @dora", "has an answer")
	w.requireWhole(id)
}

func TestACardThatNoChannelTakesIsSentToThoseWhoDecide(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.slack = `, fallback_channel: "#last"` }), newWorkspace(t)
	space.open("C0LAST")
	space.archive("C0APPROVALS")
	space.archive("C0LAST")
	alarms := newOperatorLog()
	w.run(w.withSlack(space.client(), logging(alarms)))
	id := w.submit(call{}).ID
	for _, user := range []string{"U0ANA", "U0BO", "U0CHEN"} {
		space.awaitDirect(user, "Approval needed")
	}
	w.settled()
	require.Empty(t, alarms.alarms(), "somebody is asked")
	w.decide(id, "chen", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitDirect("U0BO", "Executed")
	w.requireWhole(id)
}

func TestACardThatReachesNobodyIsTheOperatorsToKnowOnce(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.ErrorReply, Error: "restricted_action", Times: 50})
	alarms := newOperatorLog()
	w.run(w.withSlack(space.client(), logging(alarms)))
	id := w.submit(call{}).ID
	eventually(t, "the alarm", func() bool { return len(alarms.alarms()) > 0 })
	w.settled()
	require.Equal(t, []string{"nobody can be asked in slack about a request"}, alarms.alarms())
	notified, err := w.store.Notified(t.Context(), id, 0)
	require.NoError(t, err)
	require.Equal(t, []any{0, 0, 4, "restricted_action"}, []any{notified.Sent, notified.Owed, notified.Dead, notified.Reason})
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
}

func TestAChannelSharedWithOthersIsNotPostedTo(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.slack = `, fallback_channel: "#last"` }), newWorkspace(t)
	space.open("C0LAST")
	w.run(w.withSlack(space.client(), func(c *notify.PlannerConfig) {
		c.Channels = func(_ context.Context, name string) (bool, error) {
			return name == "#approvals" || name == "C0APPROVALS", nil
		}
	}))
	id := w.submit(call{}).ID
	space.awaitIn("C0LAST", "Approval needed")
	w.settled()
	require.Empty(t, messages(space.Snapshot()))
	require.Equal(t, 1, w.number(`SELECT count(*) FROM slack_outbox WHERE ticket_id = $1 AND state = 'dead' AND reason = 'externally_shared'`, id))
}

func TestACardInAChannelThatBecameSharedSaysNothingMore(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	var shared atomic.Bool
	w.run(w.withSlack(space.client(), func(c *notify.PlannerConfig) {
		c.Channels = func(context.Context, string) (bool, error) { return shared.Load(), nil }
	}))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.settled()
	shared.Store(true)
	w.decide(id, "bo", approvals.Deny)
	space.awaitIn("C0APPROVALS", "This request is shown elsewhere")
	w.settled()
	require.NotContains(t, space.Messages("C0APPROVALS")[0].Text, "/customers")
	require.Empty(t, space.Messages("C0APPROVALS")[0].Buttons)
}

// What only one of several was sent in vain is no reason to show the request to more people.
func TestOneMessageThatCannotBeDeliveredShowsTheRequestInNoWiderChannel(t *testing.T) {
	t.Parallel()
	w := setup(t, func(s *shape) {
		s.slack, s.stage = `, fallback_channel: "#last"`, `, notify: {channel: "#approvals", direct: true}`
	})
	space := newWorkspace(t)
	space.open("C0LAST")
	space.UpdateUser("U0CHEN", func(u *emulator.User) { u.Deleted = true })
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	eventually(t, "one message has died", func() bool {
		return w.number(`SELECT count(*) FROM slack_outbox WHERE ticket_id = $1 AND state = 'dead'`, id) == 1
	})
	w.settled()
	require.Empty(t, space.Messages("C0LAST"))
}

func TestAChannelOfWhichNothingIsKnownIsNotPostedToUntilItIs(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	asked := make(chan struct{}, 100)
	known := make(chan struct{})
	w.run(w.withSlack(space.client(), func(c *notify.PlannerConfig) {
		c.Channels = func(context.Context, string) (bool, error) {
			asked <- struct{}{}
			select {
			case <-known:
				return false, nil
			default:
				return false, errors.New("slack was not asked")
			}
		}
	}))
	w.submit(call{})
	receive(t, "the first look", asked)
	receive(t, "the second look", asked)
	require.Empty(t, messages(space.Snapshot()))
	close(known)
	space.awaitTitles("Approval needed")
}

func TestOpenTicketsAreShownElsewhereWhenTheirChannelIsGone(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.slack = `, fallback_channel: "#last"` }), newWorkspace(t)
	space.open("C0LAST")
	var planner *notify.Planner
	w.run(w.withSlack(space.client()), func(c *jobs.Config) { planner, _ = c.Notifier.(*notify.Planner) })
	open, over := w.submit(call{}).ID, w.submit(call{quiet: true}).ID
	space.awaitTitles("Approval needed", "Approval needed")
	w.decide(over, "bo", approvals.Deny)
	w.settled()
	space.archive("C0APPROVALS")
	for range 2 { // Slack says everything at least once
		require.NoError(t, planner.ChannelGone(t.Context(), "C0APPROVALS", "is_archived"))
	}
	space.awaitIn("C0LAST", "Approval needed")
	w.decide(open, "ana", approvals.Approve)
	w.awaitTold(open, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitIn("C0LAST", "Executed")
	w.settled()
	require.Len(t, space.Messages("C0LAST"), 1)
}

func TestCardsFollowAChannelThatGetsAnotherID(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	var planner *notify.Planner
	w.run(w.withSlack(space.client()), func(c *jobs.Config) { planner, _ = c.Notifier.(*notify.Planner) })
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	require.NoError(t, planner.ChannelRenamed(t.Context(), "C0APPROVALS", "C0MOVED"))
	cards, err := w.store.Cards(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "C0MOVED", cards[0].PostedTo)
}

func TestABypassThatCannotBeAnnouncedWhereItIsToBeIsSaidElsewhereAndToTheOperator(t *testing.T) {
	t.Parallel()
	w, space := setup(t, withGlass, func(s *shape) { s.slack = `, fallback_channel: "#last"` }), newWorkspace(t) // no channel "loud"
	space.open("C0LAST")
	alarms := newOperatorLog()
	w.run(w.withSlack(space.client(), logging(alarms)))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.await(id, "notified", func(x approvals.Ticket) bool { return x.Version >= 2 })
	w.breakGlass(id, "Production is down")
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	space.awaitIn("C0LAST", "Glass broken")
	space.awaitTitles("Executed (glass broken)", "Glass broken by @chen")
	require.Equal(t, []string{"a bypass cannot be announced where it is to be"}, alarms.alarms())
}
