package jobs_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs"
)

const missing = "tkt_00000000000000000000000000"

// oneOfEach is an effect of every type; a test compares it with the source.
func oneOfEach(at time.Time) []approvals.Effect {
	return []approvals.Effect{
		approvals.Notify{TicketID: missing, Seq: 1 << 40},
		approvals.UpdateCard{TicketID: missing},
		approvals.RemindAt{TicketID: missing, Stage: 9, Number: 20, At: at},
		approvals.EscalateAt{TicketID: missing, Stage: 9, Tier: 10, At: at},
		approvals.ExpireAt{TicketID: missing, At: at},
		approvals.ReleaseAt{TicketID: missing, At: at},
		approvals.Execute{TicketID: missing, At: at},
		approvals.Deliver{TicketID: missing, Seq: 1 << 40, At: at},
	}
}

// effectTypes reads from the source which types are effects.
func effectTypes(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../approvals/effect.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	var out []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "effect" {
			receiver, ok := f.Recv.List[0].Type.(*ast.Ident)
			require.True(t, ok)
			out = append(out, receiver.Name)
		}
	}
	return out
}

type jobRow struct {
	Kind, Queue, State string
	Bytes              int
	Args               map[string]any
}

func (w *world) jobRows() []jobRow {
	w.tb.Helper()
	rows, err := w.pool.Query(w.tb.Context(), `SELECT kind, queue, state::text, octet_length(args::text), args FROM river_job ORDER BY id`)
	require.NoError(w.tb, err)
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[jobRow])
	require.NoError(w.tb, err)
	return out
}

func TestEveryEffectBecomesAJobThatHasAWorkerAndAQueueOfItsOwn(t *testing.T) {
	t.Parallel()
	var named []string
	for _, e := range oneOfEach(time.Time{}) {
		named = append(named, reflect.TypeOf(e).Name())
	}
	require.ElementsMatch(t, effectTypes(t), named, "an effect that this test does not know")

	w := setup(t)
	w.enqueue(oneOfEach(time.Time{})...)
	queues := make(map[string]bool)
	for _, j := range w.jobRows() {
		require.Equal(t, j.Kind, j.Queue)
		require.False(t, queues[j.Queue], "two effects share the queue %s", j.Queue)
		queues[j.Queue] = true
	}
	require.Len(t, queues, len(named))

	w.run()
	eventually(t, "a worker takes every kind", func() bool {
		return w.number(`SELECT count(*) FROM river_job WHERE state = 'completed'`) == len(named)
	})
	require.Zero(t, w.number(`SELECT count(*) FROM river_job WHERE errors IS NOT NULL`), "a job for a missing ticket is a quiet no-op")
}

func TestJobArgumentsAreIdsAndSmall(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.enqueue(oneOfEach(time.Time{})...)
	allowed := map[string]bool{"ticket_id": true, "seq": true, "stage": true, "number": true, "tier": true}
	for _, j := range w.jobRows() {
		require.LessOrEqual(t, j.Bytes, 200, "arguments of %s", j.Kind)
		require.Equal(t, missing, j.Args["ticket_id"])
		for name := range j.Args {
			require.True(t, allowed[name], "%s has the argument %s", j.Kind, name)
		}
	}
}

func TestTimersWaitInTheirTicketAndRetriesAsJobs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	at := wallClock().Add(time.Hour).Truncate(time.Microsecond)
	w.enqueue(oneOfEach(at)...)
	scheduled := w.number(`SELECT count(*) FROM river_job WHERE state = 'scheduled' AND scheduled_at = $1`, at)
	require.Equal(t, 2, scheduled, "execute, deliver")
	require.Zero(t, w.number(`SELECT count(*) FROM river_job WHERE kind IN ('remind', 'escalate', 'expire', 'release')`))
	require.Equal(t, 2, w.number(`SELECT count(*) FROM river_job WHERE state = 'available'`), "notify, update_card")
}

var errRolledBack = errors.New("rolled back")

func TestATransactionThatRollsBackLeavesNoJob(t *testing.T) {
	t.Parallel()
	w := setup(t)
	err := pgx.BeginFunc(t.Context(), w.pool, func(tx pgx.Tx) error {
		require.NoError(t, w.outbox.Enqueue(t.Context(), tx, oneOfEach(time.Time{})))
		return errRolledBack
	})
	require.ErrorIs(t, err, errRolledBack)
	require.Empty(t, w.jobRows())

	_, err = w.store.Advance(t.Context(), db.Ref{ID: missing}, func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		t.Error("a verb was called for a missing ticket")
		return approvals.Transition{}, nil
	})
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	require.Empty(t, w.jobRows())
}

func TestSeveralCardUpdatesOfOneTicketBecomeOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.enqueue(
		approvals.UpdateCard{TicketID: missing}, approvals.UpdateCard{TicketID: missing},
		approvals.Execute{TicketID: missing}, approvals.UpdateCard{TicketID: "tkt_other"}, approvals.UpdateCard{TicketID: missing},
	)
	var updates []any
	for _, j := range w.jobRows() {
		if j.Kind == (jobs.UpdateCardArgs{}).Kind() {
			updates = append(updates, j.Args["ticket_id"])
		}
	}
	require.Equal(t, []any{missing, "tkt_other"}, updates)
	w.enqueue() // nothing is no error
}

func TestNewNamesWhatItNeeds(t *testing.T) {
	t.Parallel()
	_, err := jobs.New(jobs.Config{})
	require.ErrorContains(t, err, "required")
}

func TestARunnerThatWasNeverStartedStopsAtOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.halt(w.runner())
}
