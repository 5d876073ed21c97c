package db_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
)

func factOf(key, body string, age time.Duration) db.SlackFact {
	return db.SlackFact{Key: key, Facts: json.RawMessage(body), Age: age}
}

func TestSlackFactsAreAsOldAsTheDatabaseSays(t *testing.T) {
	t.Parallel()
	s := dbtest.Store(t, dbtest.Pool(t), &dbtest.Outbox{})
	for _, kind := range []db.SlackFacts{db.SlackUsers, db.SlackGroups, db.SlackChannels} {
		require.NoError(t, s.PutSlackFacts(t.Context(), kind, nil))
		require.NoError(t, s.PutSlackFacts(t.Context(), kind, []db.SlackFact{
			factOf("A", `{"id": "A"}`, time.Hour), factOf("B", `{"id": "B"}`, 0), factOf("B", `{"id": "again"}`, 0),
		}))
		got, err := s.SlackFacts(t.Context(), kind, []string{"A", "C"})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, "A", got[0].Key)
		require.JSONEq(t, `{"id": "A"}`, string(got[0].Facts))
		require.GreaterOrEqual(t, got[0].Age, time.Hour)
		require.Less(t, got[0].Age, 2*time.Hour)

		all, err := s.RecentSlackFacts(t.Context(), kind, 0)
		require.NoError(t, err)
		require.Len(t, all, 2)
		recent, err := s.RecentSlackFacts(t.Context(), kind, 30*time.Minute)
		require.NoError(t, err)
		require.Len(t, recent, 1)
		require.Equal(t, "B", recent[0].Key)
		require.JSONEq(t, `{"id": "B"}`, string(recent[0].Facts))
	}
}

func TestWhatWasAskedForLaterStays(t *testing.T) {
	t.Parallel()
	s := dbtest.Store(t, dbtest.Pool(t), &dbtest.Outbox{})
	put := func(body string, age time.Duration) {
		require.NoError(t, s.PutSlackFacts(t.Context(), db.SlackUsers, []db.SlackFact{factOf("A", body, age)}))
	}
	body := func() string {
		got, err := s.SlackFacts(t.Context(), db.SlackUsers, []string{"A"})
		require.NoError(t, err)
		return string(got[0].Facts)
	}
	put(`{"n": 1}`, time.Hour)
	put(`{"n": 2}`, time.Minute)
	put(`{"n": 3}`, 10*time.Minute) // an answer that took its time
	require.JSONEq(t, `{"n": 2}`, body())
	require.NoError(t, s.OutdateSlackFact(t.Context(), db.SlackUsers, "A"))
	require.NoError(t, s.OutdateSlackFact(t.Context(), db.SlackUsers, "A"), "twice is as good as once")
	got, err := s.SlackFacts(t.Context(), db.SlackUsers, []string{"A"})
	require.NoError(t, err)
	require.GreaterOrEqual(t, got[0].Age, 24*time.Hour)
	put(`{"n": 3}`, 10*time.Minute)
	require.JSONEq(t, `{"n": 3}`, body())
}

func TestOutdatedChannelsAreFoundByTheirNamesToo(t *testing.T) {
	t.Parallel()
	s := dbtest.Store(t, dbtest.Pool(t), &dbtest.Outbox{})
	require.NoError(t, s.PutSlackFacts(t.Context(), db.SlackChannels, []db.SlackFact{
		factOf("#billing", `{"id": "C1"}`, 0), factOf("C1", `{"id": "C1"}`, 0), factOf("#other", `{"id": "C2"}`, 0),
	}))
	require.NoError(t, s.OutdateSlackFact(t.Context(), db.SlackChannels, "C1"))
	recent, err := s.RecentSlackFacts(t.Context(), db.SlackChannels, time.Hour)
	require.NoError(t, err)
	require.Len(t, recent, 1)
	require.Equal(t, "#other", recent[0].Key)
}

func TestSlackTokensReplaceOnlyThePairTheyWereMadeWith(t *testing.T) {
	t.Parallel()
	s := dbtest.Store(t, dbtest.Pool(t), &dbtest.Outbox{})
	const app = "A0APP"
	_, ok, err := s.SlackTokens(t.Context(), app)
	require.NoError(t, err)
	require.False(t, ok)

	put := func(sealed, before string, left time.Duration) bool {
		var b []byte
		if before != "" {
			b = []byte(before)
		}
		kept, err := s.PutSlackTokens(t.Context(), app, db.SlackTokens{Sealed: []byte(sealed), Left: left}, b)
		require.NoError(t, err)
		return kept
	}
	require.False(t, put("one", "zero", time.Hour), "there is none to replace")
	require.True(t, put("one", "", time.Hour))
	require.False(t, put("other", "", time.Hour), "somebody was first")
	require.True(t, put("two", "one", 12*time.Hour))
	require.False(t, put("three", "one", 12*time.Hour), "somebody was first")
	got, ok, err := s.SlackTokens(t.Context(), app)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "two", string(got.Sealed))
	require.Greater(t, got.Left, 11*time.Hour)
	require.LessOrEqual(t, got.Left, 12*time.Hour)
	require.True(t, put("three", "two", -time.Second))
	got, _, err = s.SlackTokens(t.Context(), app)
	require.NoError(t, err)
	require.Negative(t, got.Left)
}
