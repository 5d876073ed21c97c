package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// placed submits a ticket whose card is in a conversation.
func (f fixture) placed(t *testing.T, conversation, ts string) (approvals.Ticket, db.Card) {
	t.Helper()
	x := f.submit(t, plan(stage(1)))
	card, err := f.store.PrepareCard(t.Context(), newCard(x, 0, "#"+conversation))
	require.NoError(t, err)
	require.NoError(t, f.store.CardPosted(t.Context(), card.Handle, conversation, ts, 1))
	return x, f.card(t, card.Handle)
}

func TestOpenCardsOfAConversationAreFoundAndNoOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, open := f.placed(t, "C0ONE", "1700000000.000001")
	f.placed(t, "C0TWO", "1700000000.000002")
	over, _ := f.placed(t, "C0ONE", "1700000000.000003")
	_, err := f.store.Advance(t.Context(), db.Ref{ID: over.ID}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: x.Caller}, "", now)
	})
	require.NoError(t, err)
	got, err := f.store.OpenCardsIn(t.Context(), "C0ONE", 10)
	require.NoError(t, err)
	require.Equal(t, []db.Card{open}, got)
}

func TestCardsAndWhatIsOwedFollowAConversation(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, moved := f.placed(t, "C0ONE", "1700000000.000001")
	_, stays := f.placed(t, "C0TWO", "1700000000.000002")
	f.queue(t, note("one", "C0ONE", 2), note("two", "C0TWO", 2))
	require.NoError(t, f.store.MoveConversation(t.Context(), "C0ONE", "C0NEW"))
	require.Equal(t, "C0NEW", f.card(t, moved.Handle).PostedTo)
	require.Equal(t, stays, f.card(t, stays.Handle))
	_, posts := f.due(t)
	require.Equal(t, []string{"C0NEW", "C0TWO"}, []string{posts[0].Destination, posts[1].Destination})
}

func TestTheMessagesOfAStageAreCounted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.submit(t, plan(stage(1), stage(1)))
	none, err := f.store.Notified(t.Context(), x.ID, 0)
	require.NoError(t, err)
	require.False(t, none.Now.IsZero())
	none.Now = time.Time{}
	require.Equal(t, db.Notified{}, none)
	for i, name := range []string{"a", "b", "c", "d"} {
		card, err := f.store.PrepareCard(t.Context(), newCard(x, i/3, "#"+name))
		require.NoError(t, err)
		f.queue(t, db.Post{Name: name, TicketID: x.ID, Kind: db.PostCard, Handle: card.Handle, Destination: "#" + name, Priority: 2})
	}
	_, posts := f.due(t)
	require.Len(t, posts, 4)
	require.NoError(t, f.store.SentPost(t.Context(), f.claim(t, posts[0], time.Minute), db.Shown{Channel: "C0A", TS: "1700000000.000001", Version: 1}, nil))
	require.NoError(t, f.store.GiveUpPost(t.Context(), f.claim(t, posts[1], time.Minute), db.PostDead, "is_archived"))
	got, err := f.store.Notified(t.Context(), x.ID, 0)
	require.NoError(t, err)
	require.Equal(t, []any{1, 1, 1, "is_archived", false}, []any{got.Sent, got.Owed, got.Dead, got.Reason, got.Held})
	require.False(t, got.OwedSince.IsZero())
	require.False(t, got.Now.Before(got.OwedSince))
	second, err := f.store.Notified(t.Context(), x.ID, 1)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 0}, []int{second.Sent, second.Owed, second.Dead}, "each stage for itself")
}
