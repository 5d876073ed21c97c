package interact_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db/dbtest"
	"countersign/slack"
	"countersign/slack/emulator"
)

// together calls f(0) and f(1) at the same instant.
func together(f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 2 {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func TestTwoApproversAtTheSameInstantBothCount(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	for range 5 {
		c := o.ask(t, twoApprovals)
		together(func(i int) {
			seen, err := o.emu.Click(t.Context(), []string{bo, chen}[i], c.channel, c.ts, slack.ActionApprove, true)
			if err != nil || seen.Warning != "" {
				t.Errorf("click: %v, %q", err, seen.Warning)
			}
		})
		o.trail(t, c.ticket, approvals.EventDecided, approvals.EventDecided, approvals.EventApproved)
	}
	require.Empty(t, o.told(bo))
	require.Empty(t, o.told(chen))
}

// replica starts another server, with a store and facts of its own, on the same database.
func (o *office) replica(t *testing.T) string {
	t.Helper()
	store := dbtest.Store(t, dbtest.PoolOf(t, o.pool.Config().ConnString()), &dbtest.Outbox{})
	return serve(t, o.newDesk(t, store, o.directory(t, store)))
}

func TestOneClickDeliveredToTwoServersCountsOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	servers := []string{o.url, o.replica(t)}
	for range 5 {
		c := o.ask(t, twoApprovals)
		body := o.payload(t, bo, c, slack.ActionApprove, nil)
		d := emulator.Delivery{Body: body, Header: o.emu.Sign([]byte(body), o.clock.now())}
		statuses := make([]int, 2)
		together(func(i int) { statuses[i] = deliver(t, servers[i], d) })
		require.ElementsMatch(t, []int{http.StatusOK, http.StatusUnauthorized}, statuses)
		o.trail(t, c.ticket, approvals.EventDecided)
	}
	require.Empty(t, o.told(bo))
}

func TestADoubleClickAtTwoServersDecidesOnce(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	servers := []string{o.url, o.replica(t)}
	c := o.ask(t, twoApprovals)
	// Two presses: each has a trigger, and so a signature, of its own.
	var presses []emulator.Delivery
	for range 2 {
		body := o.payload(t, bo, c, slack.ActionApprove, nil)
		presses = append(presses, emulator.Delivery{Body: body, Header: o.emu.Sign([]byte(body), o.clock.now())})
	}
	statuses := make([]int, 2)
	together(func(i int) { statuses[i] = deliver(t, servers[i], presses[i]) })
	require.Equal(t, []int{http.StatusOK, http.StatusOK}, statuses)
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventRefused)
	o.requireTold(t, bo, "You have already decided")
}

func TestAYesAndANoAtTheSameInstantEndInOneDecision(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	view := o.openDialog(t, bo, c)
	together(func(i int) {
		var err error
		if i == 0 {
			_, err = o.emu.Click(t.Context(), chen, c.channel, c.ts, slack.ActionApprove, true)
		} else {
			_, err = o.emu.SubmitView(t.Context(), bo, view, map[string]map[string]string{"reason": {"v": "not before the audit"}})
		}
		if err != nil {
			t.Error(err)
		}
	})
	require.Len(t, o.ticket(t, c.ticket).Decisions, 1)
	end := map[approvals.State]approvals.EventType{approvals.Approved: approvals.EventApproved, approvals.Denied: approvals.EventDenied}
	o.trail(t, c.ticket, approvals.EventDecided, end[o.ticket(t, c.ticket).State], approvals.EventRefused)
}

func TestAClickCountsEvenIfItsConnectionBreaks(t *testing.T) {
	t.Parallel()
	o := openOffice(t)
	c := o.ask(t, oneApproval)
	hold, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	defer hold.Rollback(t.Context()) //nolint:errcheck // it has been ended below
	_, err = hold.Exec(t.Context(), `SELECT 1 FROM tickets WHERE id = $1 FOR UPDATE`, c.ticket)
	require.NoError(t, err)

	body := o.payload(t, bo, c, slack.ActionApprove, nil)
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	done := make(chan error, 1)
	go func() {
		_, err := o.emu.SendRaw(ctx, emulator.Raw{Body: body, Sign: true})
		done <- err
	}()
	o.awaitBlocked(t)
	hangUp()
	require.Error(t, <-done, "nobody waits for the answer any more")
	require.NoError(t, hold.Rollback(t.Context()))
	dbtest.Eventually(t, "the click counts", func() bool { return o.ticket(t, c.ticket).State == approvals.Approved })
	o.trail(t, c.ticket, approvals.EventDecided, approvals.EventApproved)
}

// awaitBlocked waits until somebody waits for a lock.
func (o *office) awaitBlocked(t *testing.T) {
	t.Helper()
	dbtest.Eventually(t, "a click waits for the ticket", func() bool { return o.blocked(t) > 0 })
}

// blocked counts those that wait for a lock.
func (o *office) blocked(t *testing.T) (n int) {
	t.Helper()
	err := o.admin(t).QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
	require.NoError(t, err)
	return n
}
