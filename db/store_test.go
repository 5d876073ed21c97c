package db_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// directory has four people in one group; dora owns the caller.
var directory = approvals.Directory{
	People: map[string]approvals.Person{
		"ana": {Name: "ana", Slack: "U0ANA"}, "bo": {Name: "bo", Slack: "U0BO"},
		"chen": {Name: "chen", Slack: "U0CHEN"}, "dora": {Name: "dora", Slack: "U0DORA"},
	},
	Groups: map[string][]string{"security": {"ana", "bo", "chen", "dora"}},
	Owners: map[string][]string{"payroll-bot": {"dora"}},
}

func plan(stages ...approvals.Stage) approvals.Plan {
	return approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: "p", UpstreamDigest: "u",
		Stages: stages, ExpiresIn: time.Hour, ExecuteWithin: 15 * time.Minute, Excluded: []string{"dora"},
	}
}

func stage(approvalsNeeded int) approvals.Stage {
	return approvals.Stage{
		Name: "security", Denials: 1, Channel: "#approvals",
		Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: approvalsNeeded}},
	}
}

func request(tb testing.TB, p approvals.Plan) db.SubmitRequest {
	tb.Helper()
	id, err := uuid.NewV7()
	require.NoError(tb, err)
	return db.SubmitRequest{
		Submission: approvals.Submission{
			ID: approvals.TicketID(id), Caller: "payroll-bot",
			Call: approvals.Call{
				Upstream: "billing", Method: "DELETE", Path: "/customers/42", Query: "hard=true",
				Headers: []approvals.Header{{Name: "Accept", Value: "application/json"}}, Body: []byte(`{"reason":"gdpr"}`),
			},
			Justification: "asked for erasure", Metadata: map[string]string{"case": "991"},
			Callback: &approvals.Callback{
				URL:    "https://hooks.example.com/countersign",
				Events: []approvals.EventType{approvals.EventApproved},
			},
		},
		Plan: p, Directory: directory,
		Key: db.IdempotencyKey{Route: "POST /v1/tickets", Key: approvals.TicketID(id)},
	}
}

type fixture struct {
	store  *db.Store
	outbox *dbtest.Outbox
	url    string
}

func setup(t *testing.T) fixture {
	t.Helper()
	url, outbox := dbtest.Database(t), &dbtest.Outbox{}
	return fixture{store: dbtest.Store(t, dbtest.PoolOf(t, url), outbox), outbox: outbox, url: url}
}

func (f fixture) submit(t *testing.T, p approvals.Plan) approvals.Ticket {
	t.Helper()
	res, err := f.store.Submit(t.Context(), request(t, p))
	require.NoError(t, err, "submit")
	return res.Ticket
}

func (f fixture) decide(t *testing.T, id, person string, v approvals.Verdict) (approvals.Ticket, error) {
	t.Helper()
	actor := approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}
	return f.store.Advance(t.Context(), db.Ref{ID: id}, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Decide(actor, approvals.Decision{Person: person, Verdict: v, Stage: x.Stage, Digest: x.Digest}, directory, now)
	})
}

func TestSubmitWritesTicketEventAndJobsTogether(t *testing.T) {
	t.Parallel()
	f := setup(t)
	got := f.submit(t, plan(stage(2)))
	require.Equal(t, approvals.Pending, got.State)
	stored, err := f.store.Ticket(t.Context(), db.Ref{ID: got.ID})
	require.NoError(t, err)
	require.Equal(t, got, stored, "the ticket returned against the one stored")
	dbtest.RequireTrail(t, f.store, got.ID, approvals.EventCreated)
	require.ElementsMatch(t, []approvals.Effect{
		approvals.Notify{TicketID: got.ID, Seq: 1}, approvals.ExpireAt{TicketID: got.ID, At: got.ExpiresAt},
	}, f.outbox.Take())
}

func TestAWholeLifeIsReplayedFromItsEvents(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1), stage(1))).ID
	_, err := f.decide(t, id, "ana", approvals.Approve)
	require.NoError(t, err)
	_, err = f.decide(t, id, "dora", approvals.Approve)
	require.Equal(t, approvals.CodeSelfApproval, approvals.ErrorCode(err))
	_, err = f.decide(t, id, "bo", approvals.Approve)
	require.NoError(t, err)
	advance := func(verb func(approvals.Ticket, time.Time) (approvals.Transition, error)) {
		_, err := f.store.Advance(t.Context(), db.Ref{ID: id}, verb)
		require.NoError(t, err)
	}
	advance(func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Claim("w1", directory, x.Plan, now)
	})
	advance(func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.BeginExecution(1, "w1", x.Binding("u").Digest(), directory, x.Plan, now)
	})
	result := &approvals.Result{
		ResultSummary: approvals.ResultSummary{Status: 200, Size: 2, Digest: "d", DurationMS: 3, ExecutedAt: time.Now().UTC().Truncate(time.Microsecond)}, //nolint:forbidigo // any time will do
		Headers:       []approvals.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte("{}"),
	}
	advance(func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.FinishExecution(1, "w1", approvals.Outcome{Kind: approvals.Answered, Success: true, Result: result}, now)
	})
	final, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	advance(func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.DeliveryFailed("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 1, Status: 500, NextAt: now.Add(time.Second)}, now)
	})
	advance(func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Delivered("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 2, Status: 204}, now)
	})
	dbtest.RequireTrail(t, f.store, id,
		approvals.EventCreated, approvals.EventDecided, approvals.EventStageCompleted, approvals.EventRefused, approvals.EventDecided,
		approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting, approvals.EventSucceeded,
		approvals.EventCallbackFailed, approvals.EventCallbackDelivered)
	stored, err := f.store.Result(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	require.Equal(t, *result, stored)
	d, err := f.store.Delivery(t.Context(), id, final.CallbackSeq)
	require.NoError(t, err)
	require.Equal(t, approvals.CallbackDelivered, d.State)
	require.Equal(t, 2, d.Attempts)
}

func TestAdvanceLeavesNothingBehindWhenJobsCannotBeEnqueued(t *testing.T) {
	t.Parallel()
	f := setup(t)
	before := f.submit(t, plan(stage(1)))
	f.outbox.Fail = errors.New("outbox down")
	_, err := f.decide(t, before.ID, "ana", approvals.Approve)
	require.ErrorContains(t, err, "outbox down")
	f.outbox.Fail = nil
	after, err := f.store.Ticket(t.Context(), db.Ref{ID: before.ID})
	require.NoError(t, err)
	require.Equal(t, before, after)
	dbtest.RequireTrail(t, f.store, before.ID, approvals.EventCreated)
}

func TestARefusalIsRecordedAndReturned(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	after, err := f.decide(t, id, "dora", approvals.Approve)
	require.Equal(t, approvals.CodeSelfApproval, approvals.ErrorCode(err))
	require.Equal(t, approvals.Pending, after.State)
	dbtest.RequireTrail(t, f.store, id, approvals.EventCreated, approvals.EventRefused)
}

func TestAnotherCallersTicketLooksMissing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	other := db.Ref{ID: id, Caller: "somebody-else"}
	_, err := f.store.Ticket(t.Context(), other)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	_, _, err = f.store.Version(t.Context(), other)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	_, err = f.store.Events(t.Context(), other, 0, 10)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	_, err = f.store.Result(t.Context(), other)
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	_, err = f.store.Advance(t.Context(), other, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "somebody-else"}, "", now)
	})
	require.Equal(t, approvals.CodeNotFound, approvals.ErrorCode(err))
	dbtest.RequireTrail(t, f.store, id, approvals.EventCreated)
}

func TestTheSameKeyFindsTheSameTicket(t *testing.T) {
	t.Parallel()
	f := setup(t)
	req := request(t, plan(stage(1)))
	first, err := f.store.Submit(t.Context(), req)
	require.NoError(t, err)
	again := request(t, plan(stage(1)))
	again.Key = req.Key
	second, err := f.store.Submit(t.Context(), again)
	require.NoError(t, err)
	require.True(t, second.Replayed)
	require.Equal(t, first.Ticket, second.Ticket)
	again.Key.Fingerprint[0]++
	_, err = f.store.Submit(t.Context(), again)
	require.ErrorIs(t, err, db.ErrKeyReused)
}

// TestConcurrentSubmitsOfOneKeyMakeOneTicket runs two stores on one database, as two
// processes would.
func TestConcurrentSubmitsOfOneKeyMakeOneTicket(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})
	const keys, tries = 10, 20
	var wg sync.WaitGroup
	tickets := make([]sync.Map, keys)
	for k := range keys {
		for n := range tries {
			wg.Go(func() {
				req := request(t, plan(stage(1)))
				req.Key.Key = fmt.Sprint("key-", k)
				store := f.store
				if n%2 == 1 {
					store = other
				}
				res, err := store.Submit(t.Context(), req)
				if errors.Is(err, db.ErrKeyInProgress) {
					dbtest.Eventually(t, "the key to be answered", func() bool {
						res, err = store.Submit(t.Context(), req)
						return !errors.Is(err, db.ErrKeyInProgress)
					})
				}
				if err != nil {
					t.Errorf("submit: %v", err)
				}
				tickets[k].Store(res.Ticket.ID, true)
			})
		}
	}
	wg.Wait()
	for k := range tickets {
		n := 0
		tickets[k].Range(func(_, _ any) bool { n++; return true })
		require.Equal(t, 1, n, "tickets for key %d", k)
	}
}

// TestOneBadSubmitHarmsNobody puts a submit that Postgres refuses among good ones.
func TestOneBadSubmitHarmsNobody(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			req := request(t, plan(stage(1)))
			if n == 7 {
				req.Submission.ID = "tkt_not-an-id"
			}
			_, err := f.store.Submit(t.Context(), req)
			if (err != nil) != (n == 7) {
				t.Errorf("submit %d: %v", n, err)
			}
		})
	}
	wg.Wait()
	list, err := f.store.Tickets(t.Context(), db.Filter{Limit: 100})
	require.NoError(t, err)
	require.Len(t, list, 39)
}

func TestTwoApproversAtOnceBothCount(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for range 20 {
		id := f.submit(t, plan(stage(2))).ID
		var wg sync.WaitGroup
		for _, person := range []string{"ana", "bo"} {
			wg.Go(func() {
				if _, err := f.decide(t, id, person, approvals.Approve); err != nil {
					t.Errorf("decide: %v", err)
				}
			})
		}
		wg.Wait()
		got, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
		require.NoError(t, err)
		require.Equal(t, approvals.Approved, got.State)
		dbtest.RequireTrail(t, f.store, id, approvals.EventCreated, approvals.EventDecided, approvals.EventDecided, approvals.EventApproved)
	}
}

func TestWaitReturnsWhenAnotherProcessChangesTheTicket(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{})
	go other.Listen(t.Context())
	id := f.submit(t, plan(stage(1))).ID
	woken := make(chan error, 1)
	go func() { woken <- other.Wait(t.Context(), id, 1) }()
	_, err := f.decide(t, id, "ana", approvals.Approve)
	require.NoError(t, err)
	require.NoError(t, <-woken)
}

func TestListPagesThroughEveryTicketOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	want := map[string]bool{}
	for range 7 {
		want[f.submit(t, plan(stage(1))).ID] = true
	}
	var after db.Cursor
	for range 10 {
		page, err := f.store.Tickets(t.Context(), db.Filter{Caller: "payroll-bot", States: []approvals.State{approvals.Pending}, Limit: 3, After: after})
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, x := range page {
			require.True(t, want[x.ID], "ticket listed once")
			delete(want, x.ID)
		}
		last := page[len(page)-1]
		after = db.Cursor{CreatedAt: last.CreatedAt, ID: last.ID}
	}
	require.Empty(t, want)
}

func TestSecretIsMadeOnceForAllProcesses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, err := f.store.Secret(t.Context(), "page_token")
	require.NoError(t, err)
	b, err := dbtest.Store(t, dbtest.PoolOf(t, f.url), &dbtest.Outbox{}).Secret(t.Context(), "page_token")
	require.NoError(t, err)
	require.Equal(t, a, b)
}

// superuser connects past the service's role.
func superuser(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}
