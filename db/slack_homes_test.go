package db_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func due(t *testing.T, s *db.Store) []db.Home {
	t.Helper()
	homes, err := s.DueHomes(t.Context(), 10)
	require.NoError(t, err)
	return homes
}

// age makes everything about home tabs older than it is.
func (f fixture) age(t *testing.T, by string) {
	t.Helper()
	exec(t, superuser(t, f.url), `UPDATE slack_homes SET opened_at = opened_at - $1::interval,
		published_at = published_at - $1::interval, lease_until = lease_until - $1::interval, dirty_at = dirty_at - $1::interval`, by)
}

func TestAHomeTabThatIsOpenedIsDueAtOnceAndOnlyForOne(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.store.OpenedHome(t.Context(), "T0", "U0ANA", "ana"))
	homes := due(t, f.store)
	require.Len(t, homes, 1)
	require.Equal(t, "U0ANA T0 ana", homes[0].SlackUser+" "+homes[0].SlackTeam+" "+homes[0].Person)
	require.Empty(t, due(t, f.store), "leased")
	require.NoError(t, f.store.PublishedHome(t.Context(), "U0ANA", homes[0].DirtyAt))
	require.Empty(t, due(t, f.store), "current")
	require.NoError(t, f.store.OpenedHome(t.Context(), "T0", "U0ANA", "ana"))
	require.Len(t, due(t, f.store), 1, "opened again, however soon")
	f.age(t, "31 seconds")
	require.Len(t, due(t, f.store), 1, "whoever had it has died")
	require.NoError(t, f.store.ForgetHome(t.Context(), "U0ANA"))
	f.age(t, "31 seconds")
	require.Empty(t, due(t, f.store))
}

func TestChangesOfAHomeTabAreCoalescedOverTenSeconds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, who := range []string{"ana", "bo"} {
		require.NoError(t, f.store.OpenedHome(t.Context(), "T0", "U0"+strings.ToUpper(who), who))
	}
	for _, h := range due(t, f.store) {
		require.NoError(t, f.store.PublishedHome(t.Context(), h.SlackUser, h.DirtyAt))
	}
	for range 5 {
		require.NoError(t, f.store.DirtyHomes(t.Context(), []string{"ana", "chen"}))
	}
	require.Empty(t, due(t, f.store), "published a moment ago")
	f.age(t, "10 seconds")
	homes := due(t, f.store)
	require.Len(t, homes, 1, "ana's, once; nothing has changed for bo, and chen has none")
	require.Equal(t, "ana", homes[0].Person)
	require.NoError(t, f.store.DirtyHomes(t.Context(), []string{"ana"}), "while it is being published")
	require.NoError(t, f.store.PublishedHome(t.Context(), "U0ANA", homes[0].DirtyAt))
	require.Empty(t, due(t, f.store))
	f.age(t, "10 seconds")
	require.Len(t, due(t, f.store), 1, "what changed meanwhile is not lost")
}

func TestAHomeTabThatNobodyHasOpenedForAWeekIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.store.OpenedHome(t.Context(), "T0", "U0ANA", "ana"))
	require.NoError(t, f.store.PublishedHome(t.Context(), "U0ANA", due(t, f.store)[0].DirtyAt))
	f.age(t, "8 days")
	require.NoError(t, f.store.DirtyHomes(t.Context(), []string{"ana"}))
	require.NoError(t, f.store.DirtyHomes(t.Context(), nil))
	require.Empty(t, due(t, f.store))
	require.NoError(t, f.store.OpenedHome(t.Context(), "T0", "U0ANA", "ana"))
	require.Len(t, due(t, f.store), 1)
}

func ids(tickets []approvals.Ticket) (out []string) {
	for _, x := range tickets {
		out = append(out, x.ID)
	}
	return out
}

func TestListsOfAPersonHoldWhatIsTheirs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := t.Context()
	named := plan(stage(1))
	named.Stages[0].Need[0].From = []string{"bo"}
	forBo, forAll := f.submit(t, named), f.submit(t, plan(stage(2)))
	live := plan(stage(1))
	live.Stages[0].Need[0].From = []string{"bo"}
	forLive := f.submit(t, live)
	exec(t, superuser(t, f.url), `ALTER TABLE calls DISABLE TRIGGER ALL`)
	exec(t, superuser(t, f.url), `UPDATE calls SET plan = plan || '{"live": {"oncall": "S0"}}' WHERE ticket_id = $1`, forLive.ID)
	over := f.submit(t, plan(stage(1)))
	_, err := f.decide(t, over.ID, "bo", approvals.Approve)
	require.NoError(t, err)
	_, err = f.decide(t, forAll.ID, "ana", approvals.Approve)
	require.NoError(t, err)

	list, err := f.store.OpenNaming(ctx, "ana", 10)
	require.NoError(t, err)
	require.Equal(t, []string{forAll.ID, forLive.ID}, ids(list), "a group of Slack may hold anybody")
	require.Len(t, list[0].Decisions, 1, "who has decided is known")
	require.Empty(t, list[0].Call.Body)
	require.NotContains(t, list[0].WaitingFor(directory), "ana")
	list, err = f.store.OpenNaming(ctx, "bo", 10)
	require.NoError(t, err)
	require.Equal(t, []string{forBo.ID, forAll.ID, forLive.ID}, ids(list))
	list, err = f.store.OpenNaming(ctx, "bo", 1)
	require.NoError(t, err)
	require.Equal(t, []string{forBo.ID}, ids(list), "those that end first come first")
	list, err = f.store.OpenNaming(ctx, `" || true || "`, 10)
	require.NoError(t, err)
	require.Equal(t, []string{forLive.ID}, ids(list), "a name is a name")

	_, err = f.store.Advance(ctx, db.Ref{ID: forAll.ID}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Ask(approvals.Actor{Kind: approvals.ActorPerson, Name: "chen", Via: "slack"}, approvals.Question{Person: "chen", Text: "why now?"}, directory, now)
	})
	require.NoError(t, err)
	list, err = f.store.OpenAskedBy(ctx, "chen", 10)
	require.NoError(t, err)
	require.Equal(t, []string{forAll.ID}, ids(list))
	list, err = f.store.OpenAskedBy(ctx, "ana", 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestRequestsOfAPersonAreTheNewestOfTheirCallersAndOnTheirBehalf(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var all []string
	for i := range 4 {
		r := request(t, plan(stage(1)))
		r.Submission.OnBehalfOf = []string{"Ana@Example.com", "bo", "", "U0ANA"}[i]
		if i < 2 {
			r.Submission.Caller = "another-bot"
		}
		res, err := f.store.Submit(t.Context(), r)
		require.NoError(t, err)
		all = append(all, res.Ticket.ID)
	}
	for what, test := range map[string]struct {
		names, callers, want []string
	}{
		"on their behalf": {[]string{"ana", "U0ANA", "ana@example.com", ""}, nil, []string{all[3], all[0]}},
		"of a caller":     {nil, []string{"payroll-bot"}, []string{all[3], all[2]}},
		"both, once":      {[]string{"u0ana"}, []string{"payroll-bot", "nobody"}, []string{all[3], all[2]}},
		"nothing":         {[]string{""}, nil, nil},
	} {
		got, err := f.store.RequestedBy(t.Context(), test.names, test.callers, 10)
		require.NoError(t, err)
		require.Equal(t, test.want, ids(got), what)
	}
	got, err := f.store.RequestedBy(t.Context(), []string{"bo"}, []string{"another-bot"}, 1)
	require.NoError(t, err)
	require.Equal(t, all[1:2], ids(got), "the newest")
}

// Every home tab that is published reads these lists: their cost must not grow with the
// tickets there have ever been.
func TestListsOfAPersonAreReadAlongIndexes(t *testing.T) {
	t.Parallel()
	url := dbtest.Database(t)
	conn := superuser(t, url)
	exec(t, conn, `SET enable_seqscan = off`)
	for what, test := range map[string]struct{ index, sql string }{
		"on behalf": {"calls_on_behalf_of", `SELECT ticket_id FROM calls WHERE on_behalf_of <> '' AND lower(on_behalf_of) = 'ana' ORDER BY ticket_id DESC LIMIT 10`},
		"callers":   {"tickets_caller_idx", `SELECT id FROM tickets WHERE caller = 'a' ORDER BY created_at DESC, id DESC LIMIT 10`},
		"open":      {"tickets_wake_idx", `SELECT 1 FROM tickets WHERE wake_at IS NOT NULL AND state IN ('pending', 'needs_info')`},
	} {
		rows, err := conn.Query(t.Context(), `EXPLAIN `+test.sql)
		require.NoError(t, err)
		var text strings.Builder
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			fmt.Fprintln(&text, line)
		}
		require.NoError(t, rows.Err())
		require.Contains(t, text.String(), test.index, what)
		require.NotContains(t, text.String(), "Sort", what)
	}
}
