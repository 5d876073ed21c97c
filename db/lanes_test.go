package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
	"countersign/health"
)

// ready submits a call that is allowed outright.
func (f fixture) ready(t *testing.T, caller, upstream string) string {
	t.Helper()
	req := request(t, approvals.Plan{Rule: "all", Action: approvals.ActionAllow, PolicyDigest: "p", UpstreamDigest: "u", ExecuteWithin: time.Hour})
	req.Submission.Caller, req.Submission.Call.Upstream = caller, upstream
	res, err := f.store.Submit(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, approvals.Approved, res.Ticket.State)
	return res.Ticket.ID
}

// readies submits n of them, the oldest first.
func (f fixture) readies(t *testing.T, n int, caller string) (out []string) {
	t.Helper()
	for range n {
		out = append(out, f.ready(t, caller, "billing"))
	}
	return out
}

func through(lanes ...db.Lane) func(approvals.Ticket) []db.Lane {
	return func(approvals.Ticket) []db.Lane { return lanes }
}

func claimNow(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
	return t.Claim("w1", directory, t.Plan, now)
}

// claim is a claim of any worker.
func claim(ctx context.Context, s *db.Store, id string, lanes ...db.Lane) error {
	_, err := s.Claim(ctx, id, through(lanes...), claimNow)
	return err
}

// ends ends a claimed call without an answer or a byte sent.
func (f fixture) ends(t *testing.T, id string, v db.Verdict, lanes ...db.Lane) {
	t.Helper()
	_, err := f.store.EndCall(t.Context(), id, lanes, v, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Abandon(x.Epoch, now)
	})
	require.NoError(t, err)
}

func (f fixture) taken(t *testing.T, lane string, n int) []string {
	t.Helper()
	got, err := f.store.TakeWaiting(t.Context(), lane, n)
	require.NoError(t, err)
	return got
}

// requireNoRoom asserts that a lane was full, and says for how long and whether it is shut.
func requireNoRoom(t *testing.T, err error, lane string) (wait time.Duration, open bool) {
	t.Helper()
	var full *db.NoRoomError
	require.ErrorAs(t, err, &full)
	require.Equal(t, lane, full.Lane)
	return full.Wait, full.Open
}

var billing = db.Lane{Upstream: "billing", Slots: 3}

func TestOfManyClaimsAtOnceNoMoreSucceedThanThereArePlaces(t *testing.T) {
	t.Parallel()
	f := setup(t)
	other := dbtest.Store(t, dbtest.PoolOf(t, f.url), f.outbox) // another process
	ids := f.readies(t, 16, "payroll-bot")
	var claims sync.WaitGroup
	var got, full atomic.Int32
	for i, id := range ids {
		store := []*db.Store{f.store, other}[i%2]
		claims.Go(func() {
			err := claim(t.Context(), store, id, billing)
			var none *db.NoRoomError
			switch {
			case err == nil:
				got.Add(1)
			case errors.As(err, &none):
				full.Add(1)
			default:
				t.Errorf("claim: %v", err)
			}
		})
	}
	claims.Wait()
	require.EqualValues(t, 3, got.Load(), "claims for three places")
	require.EqualValues(t, 13, full.Load())

	lines, _, err := f.store.Lines(t.Context())
	require.NoError(t, err)
	require.Len(t, lines, 1)
	require.Equal(t, "upstream/billing", lines[0].Lane)
	require.Equal(t, []int{13, 3}, []int{lines[0].Waiting, lines[0].Claimed})
	for _, id := range ids {
		x, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
		require.NoError(t, err)
		if x.Worker == "" {
			dbtest.RequireTrail(t, f.store, id, approvals.EventCreated, approvals.EventApproved)
		} else {
			dbtest.RequireTrail(t, f.store, id, approvals.EventCreated, approvals.EventApproved, approvals.EventClaimed)
		}
	}
}

func TestWhoWaitsForALaneIsNotTakenForAnUnstartedCallAndIsForgottenOnceFinal(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ids := f.readies(t, 2, "payroll-bot")
	one := db.Lane{Upstream: "billing", Slots: 1}
	require.NoError(t, claim(t.Context(), f.store, ids[0], one))
	requireNoRoom(t, claim(t.Context(), f.store, ids[1], one), "upstream/billing")
	past(t, f)(`UPDATE tickets SET updated_at = updated_at - interval '2 minutes'`)
	unstarted := func() []string {
		got, err := f.store.Unstarted(t.Context(), time.Minute, 10)
		require.NoError(t, err)
		return got
	}
	require.Empty(t, unstarted())
	require.NoError(t, f.store.ForgetWaiting(t.Context()))
	require.Empty(t, unstarted(), "one that still waits is not forgotten")

	require.Equal(t, []string{ids[1]}, f.taken(t, "upstream/billing", 5))
	require.Empty(t, f.taken(t, "upstream/billing", 5), "once")
	require.Equal(t, []string{ids[1]}, unstarted(), "whoever took it and died leaves it to the sweeper")

	requireNoRoom(t, claim(t.Context(), f.store, ids[1], one), "upstream/billing")
	f.advance(t, ids[1], func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, "", now)
	})
	require.NoError(t, f.store.ForgetWaiting(t.Context()))
	lines, _, err := f.store.Lines(t.Context())
	require.NoError(t, err)
	require.Empty(t, lines)
}

func TestLineGoesByFewestCallsUnderWayThenByAge(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lane := db.Lane{Upstream: "billing", Slots: 2}
	greedy := f.readies(t, 5, "greedy")
	modest := f.readies(t, 2, "modest")
	for _, id := range greedy[:2] {
		require.NoError(t, claim(t.Context(), f.store, id, lane))
	}
	for _, id := range append(append([]string(nil), greedy[2:]...), modest...) {
		requireNoRoom(t, claim(t.Context(), f.store, id, lane), "upstream/billing")
	}
	elsewhere := f.ready(t, "modest", "elsewhere")
	require.NoError(t, claim(t.Context(), f.store, elsewhere, db.Lane{Upstream: "elsewhere", Slots: 1}))
	require.Equal(t, []string{modest[0]}, f.taken(t, "upstream/billing", 1), "who has nothing there goes before who came first")
	require.Equal(t, []string{modest[1], greedy[2]}, f.taken(t, "upstream/billing", 2))
	require.Equal(t, greedy[3:], f.taken(t, "upstream/billing", 9), "the oldest of one caller first")
}

func TestCallerMayHaveItsOwnBoundWhicheverUpstreamItCalls(t *testing.T) {
	t.Parallel()
	f := setup(t)
	own := db.Lane{Caller: "payroll-bot", Slots: 1}
	rated := db.Lane{Upstream: "billing", Limits: health.Limits{Rate: health.Rate{N: 1, Per: time.Hour}}}
	first, second := f.ready(t, "payroll-bot", "elsewhere"), f.ready(t, "payroll-bot", "billing")
	require.NoError(t, claim(t.Context(), f.store, first, own))
	requireNoRoom(t, claim(t.Context(), f.store, second, rated, own), "caller/payroll-bot")
	f.ends(t, first, db.Nothing, own)
	require.Equal(t, []string{second}, f.taken(t, "caller/payroll-bot", 1))
	require.NoError(t, claim(t.Context(), f.store, second, rated, own), "the token it could not use before was not taken")
}

func TestRateAdmitsSoManyAndSaysWhenTheNextMayCome(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lane := db.Lane{Upstream: "billing", Limits: health.Limits{Rate: health.Rate{N: 2, Per: time.Hour}}}
	ids := f.readies(t, 2, "payroll-bot")
	require.NoError(t, claim(t.Context(), f.store, ids[0], lane))
	wait, open := requireNoRoom(t, claim(t.Context(), f.store, ids[1], lane), "upstream/billing")
	require.Greater(t, wait, 20*time.Minute)
	require.LessOrEqual(t, wait, 30*time.Minute)
	require.False(t, open)

	exec(t, superuser(t, f.url), `UPDATE upstream_lanes SET health = jsonb_set(health, '{used}', to_jsonb(now() - interval '1 second'))`)
	lines, now, err := f.store.Lines(t.Context())
	require.NoError(t, err)
	n, _ := lines[0].Room(lane, now, 10)
	require.Equal(t, 1, n, "the token is back")
	require.NoError(t, claim(t.Context(), f.store, ids[1], lane))
}

func TestBreakerKeepsEverybodyOutUntilATrialSucceeds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lane := db.Lane{Upstream: "billing", Limits: health.Limits{Breaker: health.Breaker{Failures: 2, For: time.Hour}}}
	ids := f.readies(t, 6, "payroll-bot")
	for _, id := range ids[:3] {
		require.NoError(t, claim(t.Context(), f.store, id, lane))
	}
	f.ends(t, ids[0], db.Unwell, lane)
	f.ends(t, ids[1], db.Nothing, lane)
	f.ends(t, ids[2], db.Unwell, lane)
	wait, open := requireNoRoom(t, claim(t.Context(), f.store, ids[3], lane), "upstream/billing")
	require.True(t, open)
	require.Greater(t, wait, 59*time.Minute)

	over := func() {
		exec(t, superuser(t, f.url), `UPDATE upstream_lanes SET health = jsonb_set(health, '{open_until}', to_jsonb(now() - interval '1 second'))`)
	}
	over()
	require.NoError(t, claim(t.Context(), f.store, ids[3], lane), "the trial")
	_, open = requireNoRoom(t, claim(t.Context(), f.store, ids[4], lane), "upstream/billing")
	require.False(t, open)
	f.ends(t, ids[3], db.Nothing, lane)
	require.NoError(t, claim(t.Context(), f.store, ids[3], lane), "a trial that was not made is followed by another")
	f.ends(t, ids[3], db.Unwell, lane)
	_, open = requireNoRoom(t, claim(t.Context(), f.store, ids[4], lane), "upstream/billing")
	require.True(t, open)

	over()
	require.NoError(t, claim(t.Context(), f.store, ids[4], lane))
	f.ends(t, ids[4], db.Well, lane)
	for _, id := range ids[:3] {
		require.NoError(t, claim(t.Context(), f.store, id, lane), "all is well again")
	}
}

func TestClaimThatIsRefusedTakesNoPlaceAndStandsInNoLine(t *testing.T) {
	t.Parallel()
	f := setup(t)
	lane := db.Lane{Upstream: "billing", Slots: 1, Limits: health.Limits{Rate: health.Rate{N: 1, Per: time.Hour}}}
	id := f.readies(t, 1, "payroll-bot")[0]
	f.advance(t, id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}, "", now)
	})
	var refusal *approvals.Error
	require.ErrorAs(t, claim(t.Context(), f.store, id, lane), &refusal)
	require.NoError(t, claim(t.Context(), f.store, f.readies(t, 1, "payroll-bot")[0], lane))
	lines, _, err := f.store.Lines(t.Context())
	require.NoError(t, err)
	require.Empty(t, lines)
}

func TestRoomIsNoMoreThanWhoWaitsAndWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line db.Line
		lane db.Lane
		most int
		want int
	}{
		{db.Line{Waiting: 5}, db.Lane{}, 10, 5},
		{db.Line{Waiting: 50}, db.Lane{}, 10, 10},
		{db.Line{Waiting: 5, Claimed: 1}, db.Lane{Slots: 3}, 10, 2},
		{db.Line{Waiting: 5, Claimed: 9}, db.Lane{Slots: 3}, 10, 0},
		{db.Line{Waiting: 5}, db.Lane{Limits: health.Limits{Rate: health.Rate{N: 2, Per: time.Second}}}, 10, 2},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			t.Parallel()
			got, _ := test.line.Room(test.lane, time.Unix(1, 0), test.most)
			require.Equal(t, test.want, got)
		})
	}
}
