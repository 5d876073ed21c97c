package notify_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/notify"
	"countersign/slack/emulator"
)

// rooms are the channels that many tickets are spread over.
var rooms = []string{"one", "two", "three", "four"}

// crowd submits many tickets, some at a time.
func (s *station) crowd(n int) []approvals.Ticket {
	s.tb.Helper()
	out := make([]approvals.Ticket, n)
	var wg sync.WaitGroup
	for from := range 4 {
		wg.Go(func() {
			for i := from; i < n; i += 4 {
				out[i] = s.submit("#" + rooms[i%len(rooms)])
			}
		})
	}
	wg.Wait()
	return out
}

// messages counts the cards and the replies in all rooms.
func (s *station) messages() (cards, replies int) {
	s.tb.Helper()
	for _, room := range rooms {
		all := s.channel(room)
		mine := s.cardsIn(room)
		cards, replies = cards+len(mine), replies+len(all)-len(mine)
	}
	return cards, replies
}

func TestAStormOfTooManyRequestsLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const tickets = 500
	s := newStation(t)
	// Slack says what it allows, and nothing else keeps us to it. Some that it calls too many
	// it has posted all the same.
	s.space.SetLimits(emulator.Limits{On: true, Scale: 20})
	for range 15 {
		s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.RateLimited, RetryAfter: 1, Times: 3})
		s.space.AddFault(emulator.Fault{Method: "chat.postMessage", Kind: emulator.CommitThenLimit, RetryAfter: 1, Times: 2})
	}
	s.send()
	all := s.crowd(tickets)
	s.settled()
	cards, _ := s.messages()
	t.Logf("%d tickets, %d posts, %d searches, %d cards", tickets, s.calls.count("chat.postMessage"), s.calls.count("conversations.history"), cards)
	require.Equal(t, tickets, cards)
	require.GreaterOrEqual(t, s.calls.count("chat.postMessage"), tickets+15*3, "those that were not posted went out again")
	for _, x := range all[:20] {
		require.Equal(t, 1, s.notified(x.ID))
	}
}

func TestAfterAnOutageOnlyWhatIsStillTrueIsSaid(t *testing.T) {
	t.Parallel()
	const before, during, scale = 40, 500, 20
	s := newStation(t)
	sender, _ := s.send(func(c *notify.SenderConfig) { c.Limits = notify.Limits{Scale: scale} })
	shown := s.crowd(before)
	s.settled()

	s.space.SetOutage(true)
	missed := s.crowd(during)
	ended, open := missed[:during*3/5], missed[during*3/5:]
	for i, x := range ended {
		s.end(x, i)
	}
	for _, x := range open[:50] {
		s.remind(x.ID)
	}
	for i, x := range shown {
		s.remind(x.ID)
		if i%2 == 0 {
			s.deny(x.ID)
		}
	}
	s.eventually("the breaker is open", func() bool { return sender.Status().Open })
	tried := s.calls.count("chat.postMessage") + s.calls.count("chat.update")
	s.calls.forget()
	s.space.SetOutage(false)
	s.settled()

	cards, replies := s.messages()
	t.Logf("calls while slack was away: %d; after it: %d posts (at most %d in a second), %d updates (at most %d), %d searches", tried-before,
		s.calls.count("chat.postMessage"), s.calls.busiest("chat.postMessage"), s.calls.count("chat.update"), s.calls.busiest("chat.update"),
		s.calls.count("conversations.history"))
	t.Logf("%d tickets made while slack was away, %d of them ended: %d new cards, %d replies", during, len(ended), cards-before, replies)
	require.Equal(t, before+len(open), cards, "one card for each that is still open, none for the others")
	require.Equal(t, before/2, replies, "a reminder below the old cards that are open, none below the new ones")
	title := s.titles()
	for _, room := range rooms {
		for _, m := range s.cardsIn(room) {
			require.Contains(t, m.Text, title[m.Channel+" "+m.TS])
			require.NotEmpty(t, title[m.Channel+" "+m.TS], "a card that nobody knows of: %s", m.Text)
		}
	}
	require.LessOrEqual(t, s.calls.busiest("chat.postMessage"), scale*(4+60), "what Slack allows a workspace, scaled")
	require.LessOrEqual(t, s.calls.busiest("chat.update"), scale*11)
}

// end denies, cancels and expires tickets by turns.
func (s *station) end(x approvals.Ticket, i int) {
	s.tb.Helper()
	switch i % 3 {
	case 0:
		s.deny(x.ID)
	case 1:
		s.advance(x.ID, func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return x.Expire(x.ExpiresAt.Add(time.Second))
		})
	case 2:
		s.advance(x.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, "", now)
		})
	}
}

// titles are what the cards have to say now, by where they are.
func (s *station) titles() map[string]string {
	s.tb.Helper()
	out := map[string]string{}
	for _, card := range s.everyCard() {
		x, err := s.store.Ticket(s.tb.Context(), db.Ref{ID: card.TicketID})
		require.NoError(s.tb, err)
		out[card.PostedTo+" "+card.TS] = "Denied"
		if x.State.Open() {
			out[card.PostedTo+" "+card.TS] = "Approval needed"
		}
	}
	return out
}
