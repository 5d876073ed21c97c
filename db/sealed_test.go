package db_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db"
	"countersign/db/dbtest"
	"countersign/envelope"
)

func TestAStoreWithOtherKeysIsToldSoAtTheStart(t *testing.T) {
	t.Parallel()
	pool := dbtest.Pool(t)
	first := dbtest.Store(t, pool, &dbtest.Outbox{})
	require.NoError(t, first.CheckKeys(t.Context()), "the first start")
	require.NoError(t, first.CheckKeys(t.Context()), "the next one")
	with := func(keyset string) *db.Store {
		box, err := envelope.New(keyset)
		require.NoError(t, err)
		s, err := db.New(db.Config{Pool: pool, Outbox: &dbtest.Outbox{}, Box: box})
		require.NoError(t, err)
		t.Cleanup(s.Close)
		return s
	}
	other, err := envelope.NewKeyset()
	require.NoError(t, err)
	require.ErrorIs(t, with(other).CheckKeys(t.Context()), db.ErrKeys)
	rotated, err := envelope.Rotate(dbtest.Keyset)
	require.NoError(t, err)
	require.NoError(t, with(rotated).CheckKeys(t.Context()), "with one key more")
}
