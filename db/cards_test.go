package db_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

func newCard(t approvals.Ticket, stage int, channel string) db.NewCard {
	return db.NewCard{TicketID: t.ID, Stage: stage, Channel: channel, Digest: t.Digest}
}

// prepareCard makes the card of a ticket's first stage.
func (f fixture) prepareCard(t *testing.T, x approvals.Ticket) db.Card {
	t.Helper()
	card, err := f.store.PrepareCard(t.Context(), newCard(x, 0, "#approvals"))
	require.NoError(t, err)
	return card
}

// card reads a card again.
func (f fixture) card(t *testing.T, handle string) db.Card {
	t.Helper()
	card, err := f.store.CardByHandle(t.Context(), handle)
	require.NoError(t, err)
	return card
}

func TestACardKeepsItsHandle(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	ticket := f.submit(t, plan(stage(1), stage(1)))
	card := f.prepareCard(t, ticket)
	require.Regexp(t, `^h_[0-9a-f]{32}$`, card.Handle)
	want := db.Card{Handle: card.Handle, TicketID: ticket.ID, Kind: db.CardStage, Channel: "#approvals", Digest: ticket.Digest}
	require.Equal(t, want, card)
	require.NoError(t, f.store.CardPosted(ctx, card.Handle, "C0APPROVALS", "1.2", 3))
	want.PostedTo, want.TS, want.Shown = "C0APPROVALS", "1.2", 3

	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			got, err := f.store.PrepareCard(ctx, newCard(ticket, 0, "#approvals"))
			if err != nil || got != want {
				t.Errorf("prepared again: %v, %v", got, err)
			}
		})
	}
	wg.Wait()
	for _, version := range []int64{2, 1} {
		require.NoError(t, f.store.CardShown(ctx, card.Handle, version, strings.Repeat("a", 64)))
		require.NoError(t, f.store.CardPosted(ctx, card.Handle, "C0APPROVALS", "1.2", version))
	}
	require.Equal(t, want, f.card(t, card.Handle), "what is shown never goes back")
	want.Shown, want.Rendered = 5, strings.Repeat("b", 64)
	require.NoError(t, f.store.CardShown(ctx, card.Handle, 5, want.Rendered))

	second, err := f.store.PrepareCard(ctx, newCard(ticket, 1, "#approvals"))
	require.NoError(t, err)
	elsewhere, err := f.store.PrepareCard(ctx, newCard(ticket, 0, "#oncall"))
	require.NoError(t, err)
	require.Len(t, map[string]bool{card.Handle: true, second.Handle: true, elsewhere.Handle: true}, 3, "a handle a stage and channel")
	cards, err := f.store.Cards(ctx, ticket.ID)
	require.NoError(t, err)
	require.Equal(t, []db.Card{want, elsewhere, second}, cards)

	_, err = f.store.CardByHandle(ctx, "h_"+strings.Repeat("0", 32))
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	ticket.ID = "tkt_00000000000000000000000000"
	_, err = f.store.PrepareCard(ctx, newCard(ticket, 0, "#approvals"))
	require.Error(t, err, "a card of no ticket")
}

func TestACardNeverBecomesSomebodyElses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	x := f.submit(t, plan(stage(1)))
	n := newCard(x, 0, "home")
	n.Kind, n.SlackUser = db.CardPersonal, "U0ANA"
	_, err := f.store.PrepareCard(t.Context(), n)
	require.NoError(t, err)
	_, err = f.store.PrepareCard(t.Context(), n)
	require.NoError(t, err)
	for _, other := range []db.NewCard{newCard(x, 0, "home"), {TicketID: x.ID, Kind: db.CardPersonal, SlackUser: "U0BO", Channel: "home", Digest: x.Digest}} {
		_, err = f.store.PrepareCard(t.Context(), other)
		require.ErrorContains(t, err, "another purpose")
	}
	_, err = f.store.PrepareCard(t.Context(), db.NewCard{TicketID: x.ID, Kind: db.CardAnswer, Channel: "U0DORA", Digest: x.Digest})
	require.ErrorContains(t, err, "personal_is_somebodys")
}

func TestADuplicateThatSomebodyPressesIsKeptAsACopyOfItsCard(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	x := f.submit(t, plan(stage(1)))
	card := f.prepareCard(t, x)

	require.NoError(t, f.store.AdoptCopy(ctx, card.Handle, "C1", "1.1"))
	got := f.card(t, card.Handle)
	require.Equal(t, [2]string{"C1", "1.1"}, [2]string{got.PostedTo, got.TS}, "the place of a card that had none")
	require.Less(t, got.Shown, got.Desired, "it is brought up to date")
	for range 2 {
		require.NoError(t, f.store.AdoptCopy(ctx, card.Handle, "C1", "1.1"), "its own place")
	}
	for i := range 10 {
		for range 2 {
			require.NoError(t, f.store.AdoptCopy(ctx, card.Handle, "C1", fmt.Sprintf("2.%d", i)))
		}
	}
	require.ErrorIs(t, f.store.AdoptCopy(ctx, card.Handle, "C1", "2.11"), db.ErrCopies)
	require.NoError(t, f.store.AdoptCopy(ctx, card.Handle, "C1", "2.3"), "one that is known")
	due, err := f.store.DuePlaces(ctx, 100)
	require.NoError(t, err)
	require.Len(t, due, 11)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(f.store.AdoptCopy(ctx, "h_"+strings.Repeat("0", 32), "C1", "1.1")))
}

// duePlaces lists what is to be updated as "ts", with "+" for copies and "!" for finished
// tickets.
func (f fixture) duePlaces(t *testing.T) (out []string, places []db.Place) {
	t.Helper()
	places, err := f.store.DuePlaces(t.Context(), 100)
	require.NoError(t, err)
	for _, p := range places {
		word := p.TS
		if p.Copy {
			word += "+"
		}
		if p.Final {
			word += "!"
		}
		out = append(out, word)
	}
	return out, places
}

func TestUpdatesOfOneMessageGoOneAfterTheOtherAndNeverBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	x := f.submit(t, plan(stage(1)))
	card := f.prepareCard(t, x)
	require.NoError(t, f.store.WantCards(ctx, x.ID, 1))
	require.Empty(t, owed(f.duePlaces(t)), "nothing is updated before it is posted")
	require.NoError(t, f.store.CardPosted(ctx, card.Handle, "C1", "1.1", 1))
	require.NoError(t, f.store.AdoptCopy(ctx, card.Handle, "C1", "1.2"))
	require.Equal(t, []string{"1.2+"}, owed(f.duePlaces(t)))
	require.NoError(t, f.store.WantCards(ctx, x.ID, 4))
	_, places := f.duePlaces(t)
	require.Len(t, places, 2)

	for _, p := range places {
		first, mine, err := f.store.ClaimPlace(ctx, p, time.Minute)
		require.NoError(t, err)
		require.True(t, mine)
		_, again, err := f.store.ClaimPlace(ctx, p, time.Minute)
		require.NoError(t, err)
		require.False(t, again, "one at a time")
		require.NoError(t, f.store.WantCards(ctx, x.ID, 6), "while it is under way")
		require.NotContains(t, strings.Join(owed(f.duePlaces(t)), " "), p.TS)
		require.NoError(t, f.store.PlaceShown(ctx, first, 5, ""))
	}
	got, places := f.duePlaces(t)
	require.Len(t, got, 2, "what changed meanwhile is owed")

	// A process that is so late that another has shown a newer version says so.
	late, _, err := f.store.ClaimPlace(ctx, places[0], time.Microsecond)
	require.NoError(t, err)
	newer, mine, err := f.store.ClaimPlace(ctx, places[0], time.Minute)
	require.NoError(t, err)
	require.True(t, mine, "its lease is over")
	require.NoError(t, f.store.PlaceShown(ctx, newer, 6, ""))
	require.Len(t, owed(f.duePlaces(t)), 1)
	require.NoError(t, f.store.PlaceShown(ctx, late, 5, ""))
	require.Len(t, owed(f.duePlaces(t)), 2, "it may show an older version by now, so it is owed again")
}

func owed(out []string, _ []db.Place) []string { return out }

func TestAMessageThatCannotBeUpdatedStaysOwedUntilThatIsSaid(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	x := f.submit(t, plan(stage(1)))
	card := f.prepareCard(t, x)
	require.NoError(t, f.store.CardPosted(ctx, card.Handle, "C1", "1.1", 1))
	require.NoError(t, f.store.WantCards(ctx, x.ID, 2))
	_, places := f.duePlaces(t)
	p, _, err := f.store.ClaimPlace(ctx, places[0], time.Minute)
	require.NoError(t, err)
	require.NoError(t, f.store.FreezePlace(ctx, p, "edit_window_closed"))
	require.Equal(t, "edit_window_closed", f.card(t, card.Handle).Frozen)
	_, err = f.store.Advance(ctx, db.Ref{ID: x.ID}, verbs["Cancel"].do)
	require.NoError(t, err)
	due, places := f.duePlaces(t)
	require.Equal(t, []string{"1.1!"}, due)
	require.Equal(t, "edit_window_closed", places[0].Frozen)
	p, mine, err := f.store.ClaimPlace(ctx, places[0], time.Minute)
	require.NoError(t, err)
	require.True(t, mine)
	require.NoError(t, f.store.PlaceLater(ctx, p, time.Hour))
	require.Empty(t, owed(f.duePlaces(t)), "put off")
	require.NoError(t, f.store.WantCards(ctx, x.ID, 3))
	_, places = f.duePlaces(t)
	p, _, err = f.store.ClaimPlace(ctx, places[0], time.Minute)
	require.NoError(t, err)
	require.Equal(t, 3, p.Attempts)
	require.NoError(t, f.store.PlaceShown(ctx, p, p.Card.Desired, p.Card.Rendered))
	require.Empty(t, owed(f.duePlaces(t)))
}
