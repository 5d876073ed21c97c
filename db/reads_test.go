package db_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func TestReadsAtTheSameTimeShareQueries(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.submitMany(t, 300)
	other, asked := f.counted(t)
	want := make([]approvals.Ticket, len(ids))
	for i, id := range ids[:3] {
		var err error
		want[i], err = f.store.Ticket(t.Context(), db.Ref{ID: id})
		require.NoError(t, err, "a lone read")
	}
	var wg sync.WaitGroup
	got, errs := make([]approvals.Ticket, len(ids)), make([]error, 2*len(ids))
	versions := make([]int64, len(ids))
	for i, id := range ids {
		wg.Go(func() { got[i], errs[i] = other.Ticket(t.Context(), db.Ref{ID: id, Caller: "payroll-bot"}) })
		wg.Go(func() { versions[i], _, errs[len(ids)+i] = other.Version(t.Context(), db.Ref{ID: id}) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err, "a shared read")
	}
	for i := range ids {
		require.Equal(t, []any{ids[i], int64(1), int64(1)}, []any{got[i].ID, got[i].Version, versions[i]}, "everybody gets what they asked for")
	}
	require.Equal(t, want[:3], got[:3], "the same as alone")
	require.Less(t, asked.statements.Load(), int64(len(ids)), "statements for twice as many reads")
}

func TestASharedReadIsAnsweredToEachAsIfAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ref, want := db.Ref{ID: id}, approvals.Code("")
			switch i % 4 {
			case 0:
				ref.Caller = "payroll-bot"
			case 1:
				ref.Caller, want = "crm-bot", approvals.CodeNotFound
			case 2:
				ref.ID, want = "tkt_00000000000000000000000000", approvals.CodeNotFound
			}
			x, err := f.store.Ticket(t.Context(), ref)
			if got := approvals.ErrorCode(err); got != want {
				t.Errorf("read of %+v: %v", ref, err)
				return
			}
			if err == nil {
				x.Metadata["case"] = "mine" // nobody else sees it
			}
			if _, _, err := f.store.Version(t.Context(), ref); approvals.ErrorCode(err) != want {
				t.Errorf("version of %+v: %v", ref, err)
			}
		})
	}
	wg.Wait()
	x, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.Equal(t, "991", x.Metadata["case"])
	f.store.Close()
	_, err = f.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err, "a store that is closed still reads")
	dbtest.RequireTrail(t, f.store, id, approvals.EventCreated)
}
