package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/health"
)

const hooks = "https://hooks.example.com:443"

// terms are of an endpoint that takes this much.
func terms(concurrency int, rate health.Rate) func(db.Delivery) db.Terms {
	return func(db.Delivery) db.Terms {
		return db.Terms{Listed: true, Waived: true, Concurrency: concurrency, Limits: health.Limits{Rate: rate, Breaker: health.Endpoints()}, Lease: time.Minute}
	}
}

// owed makes a ticket whose callback is owed.
func (f fixture) owed(t *testing.T) db.Wanted {
	t.Helper()
	x := f.advance(t, f.submit(t, plan(stage(1))).ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Cancel(caller(), "no longer needed", now)
	})
	return db.Wanted{TicketID: x.ID, Seq: x.CallbackSeq}
}

func caller() approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot", Via: "api"}
}

func (f fixture) claimDelivery(t *testing.T, w db.Wanted, worker string, terms func(db.Delivery) db.Terms) db.DeliveryClaim {
	t.Helper()
	c, err := f.store.ClaimDelivery(t.Context(), w, worker, terms)
	require.NoError(t, err)
	return c
}

// record ends an attempt, with another one an hour later unless the receiver took it.
func (f fixture) record(t *testing.T, c db.DeliveryClaim, ok bool) (db.Recorded, error) {
	t.Helper()
	rec := db.AttemptRecord{Delivery: c.Delivery, OK: ok, Limits: health.Limits{Breaker: health.Endpoints()}}
	return f.store.RecordAttempt(t.Context(), rec, func(x approvals.Ticket, _ db.Delivery, now time.Time) (approvals.Transition, error) {
		a := approvals.DeliveryAttempt{Seq: c.Seq, Number: c.Attempts + 1}
		if ok {
			return x.Delivered(c.ClaimedBy, a, now)
		}
		a.NextAt = now.Add(time.Hour)
		return x.DeliveryFailed(c.ClaimedBy, a, now)
	})
}

func TestAnEndpointsPlacesAreCountedAndFreed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	two := terms(2, health.Rate{})
	var wanted []db.Wanted
	for range 4 {
		wanted = append(wanted, f.owed(t))
	}
	first, second := f.claimDelivery(t, wanted[0], "w1", two), f.claimDelivery(t, wanted[1], "w2", two)
	require.Equal(t, db.Admitted, first.Admission)
	require.Equal(t, db.Admitted, second.Admission)
	require.NotEmpty(t, first.Payload)
	require.Equal(t, db.NoRoom, f.claimDelivery(t, wanted[2], "w1", two).Admission)
	require.Equal(t, db.Taken, f.claimDelivery(t, wanted[0], "w2", two).Admission)
	got, err := f.record(t, first, true)
	require.NoError(t, err)
	require.True(t, got.Waiting)
	next := f.claimDelivery(t, db.Wanted{EndpointID: first.EndpointID}, "w1", two)
	require.Equal(t, db.Admitted, next.Admission)
	require.Equal(t, wanted[2].TicketID, next.TicketID, "the one that has waited longest")
	require.NoError(t, f.store.ReleaseDelivery(t.Context(), next.Delivery, time.Hour))
	require.Equal(t, db.TooEarly, f.claimDelivery(t, wanted[2], "w1", two).Admission)
	require.Equal(t, wanted[3].TicketID, f.claimDelivery(t, db.Wanted{EndpointID: first.EndpointID}, "w1", two).TicketID)
	require.Equal(t, db.NothingDue, f.claimDelivery(t, wanted[0], "w1", two).Admission, "it is delivered")
	require.Equal(t, db.NothingDue, f.claimDelivery(t, db.Wanted{TicketID: wanted[0].TicketID, Seq: 99}, "w1", two).Admission, "there is none")
	require.Equal(t, db.Unlisted, f.claimDelivery(t, f.owed(t), "w1", func(db.Delivery) db.Terms { return db.Terms{} }).Admission)
}

func TestAClaimThatIsOverIsSomebodyElses(t *testing.T) {
	t.Parallel()
	f := setup(t)
	four := terms(4, health.Rate{})
	w := f.owed(t)
	late := f.claimDelivery(t, w, "w1", four)
	require.NoError(t, f.store.Heartbeat(t.Context(), "w2"))
	n, err := f.store.FreeDeliveries(t.Context(), time.Hour)
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "of a worker that is not known")
	again := f.claimDelivery(t, w, "w2", four)
	require.Equal(t, db.Admitted, again.Admission)
	n, err = f.store.FreeDeliveries(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = f.record(t, late, false)
	require.Equal(t, approvals.CodeConflict, approvals.ErrorCode(err), "a failure of it says nothing")
	_, err = f.record(t, late, true)
	require.NoError(t, err, "the receiver has it, whoever brought it")
	_, err = f.record(t, again, false)
	require.Equal(t, approvals.CodeConflict, approvals.ErrorCode(err))
	trail, err := f.store.Events(t.Context(), db.Ref{ID: w.TicketID}, 2, 10)
	require.NoError(t, err)
	require.Len(t, trail, 1)
	require.Equal(t, approvals.EventCallbackDelivered, trail[0].Type)
}

func TestAnEndpointThatSaidWhatItTakesGetsNoMore(t *testing.T) {
	t.Parallel()
	f := setup(t)
	require.NoError(t, f.store.SyncEndpoints(t.Context(), []db.EndpointSpec{{Caller: "payroll-bot", Origin: hooks, ProbeURL: hooks + "/v"}}))
	e, err := f.store.Endpoint(t.Context(), "payroll-bot", hooks)
	require.NoError(t, err)
	four := terms(4, health.Rate{N: 100, Per: time.Second})
	w := f.owed(t)
	require.Equal(t, db.Shut, f.claimDelivery(t, w, "w1", four).Admission, "it has not agreed yet")
	require.NoError(t, f.store.RecordVerification(t.Context(), e.ID, db.VerificationResult{OK: true, How: "cloudevents", Rate: 1, By: caller()}))
	require.Equal(t, db.Admitted, f.claimDelivery(t, w, "w1", four).Admission)
	c := f.claimDelivery(t, f.owed(t), "w1", four)
	require.Equal(t, db.Resting, c.Admission)
	require.InDelta(t, time.Minute, c.Wait, float64(30*time.Second), "one a minute, not a hundred a second")
}

func TestAnEndpointIsAskedAgainAndAgainUntilItAgrees(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := past(t, f)
	spec := db.EndpointSpec{Caller: "payroll-bot", Origin: hooks}
	due := func() int {
		t.Helper()
		all, err := f.store.DueVerifications(t.Context(), 10)
		require.NoError(t, err)
		return len(all)
	}
	read := func() db.Endpoint {
		t.Helper()
		e, err := f.store.Endpoint(t.Context(), spec.Caller, spec.Origin)
		require.NoError(t, err)
		return e
	}
	sync := func(specs ...db.EndpointSpec) {
		t.Helper()
		require.NoError(t, f.store.SyncEndpoints(t.Context(), specs))
	}
	sync(spec)
	require.Zero(t, due(), "it is not known where to ask")
	want := func(address string) time.Time {
		t.Helper()
		wait, err := f.store.WantVerification(t.Context(), spec.Caller, spec.Origin, address)
		require.NoError(t, err)
		at := read().VerifyDueAt
		require.GreaterOrEqual(t, wait, at.Sub(f.now(t)))
		return at
	}
	want(hooks + "/first")
	want(hooks + "/second")
	require.Equal(t, 1, due())
	require.Equal(t, hooks+"/first", read().ProbeURL)
	no := db.VerificationResult{Err: "no answer in time", By: caller()}
	for i, wait := range []time.Duration{time.Minute, 5 * time.Minute, 30 * time.Minute, 24 * time.Hour, 24 * time.Hour} {
		require.NoError(t, f.store.RecordVerification(t.Context(), read().ID, no))
		require.InDelta(t, wait, read().VerifyDueAt.Sub(f.now(t)), float64(30*time.Second), "after try %d", i+1)
	}
	require.Zero(t, due())
	again := want(hooks)
	require.LessOrEqual(t, again.Sub(f.now(t)), 10*time.Second, "a submit hurries it")
	require.Equal(t, again, want(hooks), "and many do not put it off")
	back(`UPDATE callback_endpoints SET verify_due_at = now() + interval '1 day', verify_asked_at = now() + interval '1 hour'`)
	require.Greater(t, want(hooks).Sub(f.now(t)), 50*time.Minute, "not within ten seconds after another time")
	back(`UPDATE callback_endpoints SET verify_due_at = now() + interval '1 day', verify_asked_at = now() - interval '11 seconds'`)
	require.False(t, want(hooks).After(f.now(t)), "at once")
	require.Equal(t, 1, due())
	sync() // it is taken out of the configuration
	back(`UPDATE callback_endpoints SET verify_due_at = verify_due_at - interval '2 days'`)
	require.Zero(t, due())
	sync(spec)
	require.Equal(t, 1, due(), "and comes back")
	require.NoError(t, f.store.RecordVerification(t.Context(), read().ID, db.VerificationResult{OK: true, How: "challenge", By: caller()}))
	sync()
	sync(spec)
	require.Equal(t, db.Verified, read().Verification, "it agreed once")
	wait, err := f.store.WantVerification(t.Context(), spec.Caller, spec.Origin, hooks)
	require.NoError(t, err)
	require.Zero(t, wait)
	require.True(t, read().VerifyDueAt.IsZero(), "it need not be asked any more")
	require.NoError(t, f.store.RecordVerification(t.Context(), read().ID, no))
	require.Equal(t, db.Verified, read().Verification, "another day it may be out")
	events, err := f.store.ServiceEvents(t.Context(), db.EndpointStream(read().ID), 0, 100)
	require.NoError(t, err)
	require.Len(t, events, 7)
	require.Equal(t, db.EndpointVerified, events[5].Type)
	require.Equal(t, caller(), events[5].Actor)
	require.JSONEq(t, `{"how": "challenge", "rate": 0}`, string(events[5].Data))
}

func TestAWaiverCountsAsLongAsItIsConfigured(t *testing.T) {
	t.Parallel()
	f := setup(t)
	spec := db.EndpointSpec{Caller: "payroll-bot", Origin: hooks, ProbeURL: hooks + "/v"}
	for _, step := range []struct {
		waived bool
		want   db.Verification
	}{{true, db.Waived}, {true, db.Waived}, {false, db.Unverified}, {true, db.Waived}} {
		spec.Waived = step.waived
		require.NoError(t, f.store.SyncEndpoints(t.Context(), []db.EndpointSpec{spec}))
		e, err := f.store.Endpoint(t.Context(), spec.Caller, spec.Origin)
		require.NoError(t, err)
		require.Equal(t, step.want, e.Verification)
		require.Equal(t, step.waived, e.VerifyDueAt.IsZero())
	}
}

func TestDeliveriesAreListedByWhatIsAskedOfThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var all []db.Delivery
	for range 3 {
		w := f.owed(t)
		d, err := f.store.Delivery(t.Context(), w.TicketID, w.Seq)
		require.NoError(t, err)
		require.Equal(t, db.EndpointID("payroll-bot", hooks), d.EndpointID)
		d.Payload = nil
		all = append([]db.Delivery{d}, all...)
	}
	list := func(x db.DeliveryFilter) []db.Delivery {
		t.Helper()
		x.Limit = 10
		got, err := f.store.Deliveries(t.Context(), x)
		require.NoError(t, err)
		return got
	}
	require.Equal(t, all, list(db.DeliveryFilter{}), "newest first")
	require.Equal(t, all, list(db.DeliveryFilter{Caller: "payroll-bot", EndpointID: all[0].EndpointID, State: approvals.CallbackPending, Since: all[2].CreatedAt}))
	require.Equal(t, all[1:], list(db.DeliveryFilter{After: all[0].MessageID}))
	require.Equal(t, all[1:], list(db.DeliveryFilter{Until: all[0].CreatedAt}))
	require.Equal(t, all[1:2], list(db.DeliveryFilter{TicketID: all[1].TicketID}))
	for _, none := range []db.DeliveryFilter{{Caller: "another"}, {EndpointID: "end_"}, {State: approvals.CallbackDelivered}, {TicketID: "tkt_"}} {
		require.Empty(t, list(none))
	}
	stats, err := f.store.EndpointStats(t.Context(), all[0].EndpointID, all[2].CreatedAt)
	require.NoError(t, err)
	require.Equal(t, db.EndpointStats{Pending: 3, Due: 3, OldestDue: all[2].CreatedAt}, stats)
}

func TestDeadLettersAreToldOfOnceInAWhile(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := past(t, f)
	four := terms(4, health.Rate{})
	giveUp := func() string {
		t.Helper()
		c := f.claimDelivery(t, f.owed(t), "w1", four)
		require.Equal(t, db.Admitted, c.Admission)
		got, err := f.store.RecordAttempt(t.Context(), db.AttemptRecord{Delivery: c.Delivery, Limits: health.Limits{Breaker: health.Endpoints()}},
			func(x approvals.Ticket, _ db.Delivery, now time.Time) (approvals.Transition, error) {
				return x.DeliveryFailed("w1", approvals.DeliveryAttempt{Seq: c.Seq, Number: 1, Error: "no answer in time"}, now)
			})
		require.NoError(t, err)
		require.True(t, got.Exhausted)
		return c.MessageID
	}
	id := db.EndpointID("payroll-bot", hooks)
	untold := func() int {
		t.Helper()
		all, err := f.store.UntoldEndpoints(t.Context(), time.Hour, 10)
		require.NoError(t, err)
		return len(all)
	}
	events := func() []db.ServiceEvent {
		t.Helper()
		all, err := f.store.ServiceEvents(t.Context(), db.EndpointStream(id), 0, 100)
		require.NoError(t, err)
		return all
	}
	first := giveUp()
	giveUp()
	require.Equal(t, 1, untold())
	require.Len(t, events(), 1, "the first of those of which nobody was told")
	require.Equal(t, db.EndpointDeadLetter, events()[0].Type)
	require.Contains(t, string(events()[0].Data), first)
	require.NoError(t, f.store.ToldOfEndpoint(t.Context(), id))
	require.Zero(t, untold())
	giveUp()
	require.Zero(t, untold(), "they were told a moment ago")
	require.Len(t, events(), 2)
	back(`UPDATE callback_endpoints SET alerted_at = now() - interval '61 minutes'`)
	require.Equal(t, 1, untold(), "it is not forgotten")
}

func TestWhatWaitedHasAJobOnceItsEndpointIsEnabled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	w := f.owed(t)
	later := f.claimDelivery(t, f.owed(t), "w1", terms(4, health.Rate{}))
	require.NoError(t, f.store.ReleaseDelivery(t.Context(), later.Delivery, time.Hour))
	id := db.EndpointID("payroll-bot", hooks)
	require.NoError(t, f.store.DisableEndpoint(t.Context(), id, caller(), "it is being moved"))
	f.outbox.Take()
	n, err := f.store.EnableEndpoint(t.Context(), id, caller())
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []approvals.Effect{approvals.Deliver{TicketID: w.TicketID, Seq: w.Seq}}, f.outbox.Take())
	_, err = f.store.EnableEndpoint(t.Context(), id, caller())
	require.NoError(t, err)
	require.Empty(t, f.outbox.Take(), "it was enabled already")
}
