package db_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func (f fixture) review(t *testing.T, pages int) db.Review {
	t.Helper()
	id := f.submit(t, plan(stage(1))).ID
	card, err := f.store.PrepareCard(t.Context(), db.NewCard{TicketID: id, Channel: "C1", Digest: strings.Repeat("a", 64)})
	require.NoError(t, err)
	want := db.Review{
		Card: card.Handle, TicketID: id, Stage: 0, Digest: strings.Repeat("a", 64), Person: "bo", SlackTeam: "T0", SlackUser: "U0BO",
		Pages: pages, Rendered: strings.Repeat("b", 64),
	}
	r, err := f.store.OpenReview(t.Context(), want)
	require.NoError(t, err)
	want.Handle, want.Page, want.Seen = r.Handle, 1, 1
	require.Equal(t, want, r)
	require.Regexp(t, `^v_[0-9a-f]{32}$`, r.Handle)
	return r
}

func TestPagesAreTurnedOneAtATimeAndWhatWasSeenStaysSeen(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.review(t, 3)
	for _, turn := range []struct{ from, to, page, seen int }{
		{1, 3, 1, 1}, // nobody skips a page
		{2, 3, 1, 1}, // from where they are not
		{1, 0, 1, 1},
		{1, 2, 2, 2},
		{1, 2, 2, 2}, // once more
		{2, 1, 1, 2},
		{1, 2, 2, 2},
		{2, 3, 3, 3},
		{3, 4, 3, 3},
		{3, 2, 2, 3},
	} {
		got, err := f.store.TurnPage(t.Context(), r.Handle, turn.from, turn.to)
		require.NoError(t, err)
		require.Equal(t, []int{turn.page, turn.seen}, []int{got.Page, got.Seen}, "from %d to %d", turn.from, turn.to)
	}
	_, err := f.store.TurnPage(t.Context(), "v_"+strings.Repeat("0", 32), 1, 2)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	require.NotEqual(t, r.Handle, f.review(t, 1).Handle)
}

// The service itself cannot make somebody the reader of what another has read.
func TestAReviewBelongsToWhoOpenedItForEver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r, service := f.review(t, 1), dbtest.PoolOf(t, f.url)
	for _, column := range []string{"person", "slack_user", "slack_team", "pages", "digest", "rendered", "card"} {
		_, err := service.Exec(t.Context(), `UPDATE slack_reviews SET `+column+` = `+column+` WHERE handle = $1`, r.Handle)
		require.ErrorContains(t, err, "permission denied", column)
	}
}

func TestWhatWasShownIsKeptByItsHashAndNeverChanged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id, body := f.submit(t, plan(stage(1))).ID, []byte(`{"pages":[]}`)
	sum := sha256.Sum256(body)
	for range 2 {
		hash, err := f.store.KeepRendering(t.Context(), id, body)
		require.NoError(t, err)
		require.Equal(t, hex.EncodeToString(sum[:]), hash)
	}
	got, err := f.store.Rendering(t.Context(), hex.EncodeToString(sum[:]))
	require.NoError(t, err)
	require.Equal(t, body, got)
	_, err = f.store.Rendering(t.Context(), strings.Repeat("0", 64))
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	_, err = f.store.KeepRendering(t.Context(), "tkt_00000000000000000000000000", []byte("{}"))
	require.Error(t, err, "of no ticket")
	service := dbtest.PoolOf(t, f.url)
	for _, sql := range []string{`UPDATE slack_renderings SET body = '{}'`, `DELETE FROM slack_renderings`, `TRUNCATE slack_renderings`} {
		_, err := service.Exec(t.Context(), sql)
		require.Error(t, err, sql)
		_, err = superuser(t, f.url).Exec(t.Context(), sql)
		require.Error(t, err, "even for the owner: %s", sql)
	}
}
