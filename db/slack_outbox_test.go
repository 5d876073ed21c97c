package db_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// note is a post without a ticket.
func note(name, destination string, priority int) db.Post {
	return db.Post{Name: name, Kind: db.PostNotice, Destination: destination, Priority: priority}
}

func (f fixture) queue(t *testing.T, posts ...db.Post) {
	t.Helper()
	require.NoError(t, f.store.QueuePosts(t.Context(), posts))
}

// due lists the names of what is to be sent.
func (f fixture) due(t *testing.T) (names []string, posts []db.Post) {
	t.Helper()
	posts, err := f.store.DuePosts(t.Context(), 2, 100)
	require.NoError(t, err)
	for _, p := range posts {
		names = append(names, p.Name)
	}
	return names, posts
}

func (f fixture) claim(t *testing.T, p db.Post, lease time.Duration) db.Post {
	t.Helper()
	got, mine, err := f.store.ClaimPost(t.Context(), p, lease)
	require.NoError(t, err)
	require.True(t, mine)
	return got
}

func TestAPostOfOneNameIsOnePost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := f.store.QueuePosts(t.Context(), []db.Post{note("a", "C1", 2), note("b", "C1", 3)}); err != nil {
				t.Errorf("queue: %v", err)
			}
		})
	}
	wg.Wait()
	names, posts := f.due(t)
	require.Equal(t, []string{"a", "b"}, names)
	require.NotEqual(t, posts[0].ID, posts[1].ID)
	f.queue(t)
	require.Error(t, f.store.QueuePosts(t.Context(), []db.Post{note("c", "C1", 2), note("", "C1", 2)}))
	require.Equal(t, []string{"a", "b"}, named(f.due(t)), "all or none")
}

func named(names []string, _ []db.Post) []string { return names }

func TestPostsAreListedByPriorityAndAtMostAFewOfEachDestination(t *testing.T) {
	t.Parallel()
	f := setup(t)
	later := note("later", "C3", 1)
	later.DueAt = time.Now().Add(time.Hour) //nolint:forbidigo // any time will do
	f.queue(t, note("reminder", "C1", 4), note("new1", "C1", 2), note("new2", "C1", 2), note("new3", "C1", 2), note("other", "C2", 4), note("final", "C2", 1), later)
	require.Equal(t, []string{"final", "new1", "new2", "other"}, named(f.due(t)))
}

func TestWhatGoesBelowACardWaitsForIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.submit(t, plan(stage(1)))
	card := f.prepareCard(t, x)
	below := db.Post{Name: "note", TicketID: x.ID, Seq: 1, Kind: db.PostNote, Handle: card.Handle, Destination: "#approvals", Priority: 1}
	f.queue(t, db.Post{Name: "card", TicketID: x.ID, Seq: 1, Kind: db.PostCard, Handle: card.Handle, Destination: "#approvals", Priority: 2}, below)
	names, posts := f.due(t)
	require.Equal(t, []string{"card"}, names)
	p := f.claim(t, posts[0], time.Minute)
	require.Empty(t, named(f.due(t)))
	require.NoError(t, f.store.ReturnPost(t.Context(), p, db.PostUnknown, time.Hour, "doubt"))
	require.Empty(t, named(f.due(t)))
	require.NoError(t, f.store.GiveUpPost(t.Context(), p, db.PostDead, "is_archived"))
	require.Equal(t, []string{"note"}, named(f.due(t)), "it never will be")
}

func TestAPostIsSentByOneAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.queue(t, note("a", "C1", 2))
	_, posts := f.due(t)
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			_, mine, err := f.store.ClaimPost(t.Context(), posts[0], time.Minute)
			if err != nil {
				t.Errorf("claim: %v", err)
			}
			if mine {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, taken.Load())
	require.Empty(t, named(f.due(t)))
	n, err := f.store.AbandonedPosts(t.Context())
	require.NoError(t, err)
	require.Zero(t, n, "its lease is not over")
}

func TestAPostWhoseSenderDiedIsInDoubt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	f.queue(t, note("a", "C1", 2))
	_, posts := f.due(t)
	dead := f.claim(t, posts[0], time.Microsecond)
	require.Equal(t, db.PostSending, dead.State)
	require.False(t, dead.SentFrom.IsZero())
	n, err := f.store.AbandonedPosts(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	_, posts = f.due(t)
	require.Equal(t, db.PostUnknown, posts[0].State)

	require.NoError(t, f.store.AbsentPost(ctx, posts[0], time.Hour))
	require.Empty(t, named(f.due(t)), "given time to settle")
	require.NoError(t, f.store.AbsentPost(ctx, posts[0], 0))
	_, posts = f.due(t)
	require.Equal(t, db.PostQueued, posts[0].State)
	next := f.claim(t, posts[0], time.Minute)
	require.Equal(t, dead.SentFrom, next.SentFrom, "the search goes back to the first try")
	require.True(t, next.SentLast.After(dead.SentLast))

	require.NoError(t, f.store.ReturnPost(ctx, dead, db.PostQueued, 0, "late"), "of somebody whose claim is over")
	require.NoError(t, f.store.GiveUpPost(ctx, dead, db.PostDropped, "late"))
	require.NoError(t, f.store.AbsentPost(ctx, dead, 0))
	require.Empty(t, named(f.due(t)), "changes nothing")
	require.NoError(t, f.store.ReturnPost(ctx, next, db.PostQueued, 0, strings.Repeat("x", 600)))
	_, posts = f.due(t)
	require.True(t, posts[0].SentFrom.IsZero(), "nothing was sent")
	require.Len(t, posts[0].Reason, 500)
}

// recording makes a ticket.notified of a card.
func recording(ts string) db.Decide {
	return func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Notified("sender", approvals.Card{Channel: "C1", TS: ts, Version: x.Version}, now)
	}
}

func TestACardIsSentRecordedAndPlacedTogether(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	x := f.submit(t, plan(stage(1)))
	card := f.prepareCard(t, x)
	f.queue(t, db.Post{Name: "card", TicketID: x.ID, Seq: 1, Kind: db.PostCard, Handle: card.Handle, Destination: "#approvals", Priority: 2})
	_, posts := f.due(t)
	p := f.claim(t, posts[0], time.Minute)
	hash := strings.Repeat("a", 64)
	for i, ts := range []string{"1.1", "1.1", "1.2"} { // the last by another sender that did not know of the first
		require.NoError(t, f.store.SentPost(ctx, p, db.Shown{Channel: "C1", TS: ts, Version: 1, Rendered: hash}, recording(ts)), i)
	}
	got := f.card(t, card.Handle)
	require.Equal(t, []any{"C1", "1.1", int64(1), hash}, []any{got.PostedTo, got.TS, got.Shown, got.Rendered})
	require.NoError(t, f.store.WantCards(ctx, x.ID, 2))
	require.ElementsMatch(t, []string{"1.1", "1.2+"}, owed(f.duePlaces(t)), "the second message is a copy")
	stored, err := f.store.PostsOf(ctx, x.ID)
	require.NoError(t, err)
	require.Len(t, stored, 1)
	require.Equal(t, []any{db.PostSent, "C1", "1.1"}, []any{stored[0].State, stored[0].Channel, stored[0].TS})
	requireChain(t, f.store, x.ID)
	require.Equal(t, int64(2), f.ticket(t, x.ID).Version, "notified once")
}

func (f fixture) ticket(t *testing.T, id string) approvals.Ticket {
	t.Helper()
	x, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	return x
}

func TestThereIsOneSender(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	hold := func(who string, lease time.Duration, want bool) {
		t.Helper()
		got, err := f.store.HoldSender(ctx, who, lease)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, alive, err := f.store.SenderStatus(ctx)
	require.NoError(t, err)
	require.False(t, alive)
	hold("one", time.Minute, true)
	hold("one", time.Minute, true)
	hold("two", time.Minute, false)
	require.NoError(t, f.store.PutSenderStatus(ctx, "two", db.SenderStatus{Open: true}), "not the sender's")
	want := db.SenderStatus{Open: true, Reason: "auth.test: token_revoked", Since: time.Unix(1, 0).UTC()}
	require.NoError(t, f.store.PutSenderStatus(ctx, "one", want))
	status, alive, err := f.store.SenderStatus(ctx)
	require.NoError(t, err)
	require.True(t, alive)
	require.Equal(t, want, status)
	hold("one", 0, true)
	hold("two", time.Minute, true)
	require.NoError(t, f.store.LeaveSender(ctx, "one"))
	hold("one", time.Minute, false)
	require.NoError(t, f.store.LeaveSender(ctx, "two"))
	hold("one", time.Minute, true)
}
