package jobs_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/directory"
	"countersign/jobs"
	"countersign/notify"
	"countersign/slack/emulator"
)

// informed runs a runner whose people are those that Slack says there are.
func (w *world) informed(space workspace) *directory.Source {
	w.tb.Helper()
	client := space.client()
	var runner *jobs.Runner
	var started sync.WaitGroup
	started.Add(1)
	people, err := directory.New(directory.Config{
		Store: w.store, Client: client, Policy: w.config.Load, Now: wallClock, Logger: quiet(), Every: 100 * time.Millisecond,
		Changed: func() {
			started.Wait()
			runner.PolicyChanged()
		},
	})
	require.NoError(w.tb, err)
	require.NoError(w.tb, people.Load(w.tb.Context()))
	runner = w.runner(func(c *jobs.Config) { c.Policy = people.Policy },
		w.withSlack(client, func(c *notify.PlannerConfig) { c.Policy = people.Policy }))
	started.Done()
	require.NoError(w.tb, runner.Start(w.tb.Context()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.tb.Context()))
	var running sync.WaitGroup
	running.Go(func() { people.Run(ctx) })
	w.tb.Cleanup(func() {
		cancel()
		running.Wait()
		w.halt(runner)
	})
	return people
}

// leaves deactivates somebody in Slack, who says so in an event.
func (s workspace) leaves(people *directory.Source, user string) {
	s.tb.Helper()
	require.True(s.tb, s.UpdateUser(user, func(u *emulator.User) { u.Deleted = true }))
	people.UserChanged(s.tb.Context(), user)
}

func TestATicketStallsWhenAnApproverIsDeactivatedInSlackAndEverybodyHearsOfIt(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.need = "{from: [ana, bo], approvals: 2}" }), newWorkspace(t)
	people := w.informed(space)
	id := w.submit(call{}).ID
	card := space.awaitTitles("Approval needed")[0]
	require.Contains(t, card.Text, "@bo")
	space.leaves(people, "U0BO")
	stalled := w.await(id, "stalled", func(x approvals.Ticket) bool { return x.Stalled != nil })
	require.Equal(t, approvals.Pending, stalled.State)
	all := space.await("the stall, said aloud", func(all []emulator.Message) bool { return len(all) == 2 })
	require.Contains(t, all[1].Text, "Nobody who may still decide can complete this")
	require.Equal(t, []any{card.TS, true}, []any{all[1].ThreadTS, all[1].Broadcast})
	eventually(t, "the caller hears of it", func() bool {
		for _, c := range w.callbacks(id) {
			if c.Type == string(approvals.EventStalled) {
				return true
			}
		}
		return false
	})

	// Whoever comes back counts again.
	require.True(t, space.UpdateUser("U0BO", func(u *emulator.User) { u.Deleted = false }))
	people.UserChanged(t.Context(), "U0BO")
	w.await(id, "not stalled any more", func(x approvals.Ticket) bool { return x.Stalled == nil })
	w.requireWhole(id)
}

func TestTheNextTierFiresAtOnceWhenAnApproverIsDeactivatedInSlack(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) {
		s.need = "{from: [ana, bo], approvals: 2}"
		s.stage = ", escalate: [{after: 5h, to: [gil], mode: add}]"
	}), newWorkspace(t)
	people := w.informed(space)
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	space.leaves(people, "U0BO")
	all := space.await("the escalation", func(all []emulator.Message) bool { return len(all) == 2 })
	require.Contains(t, all[1].Text, "Out of reach")
	require.Contains(t, all[1].Text, "@gil, please review")
	require.False(t, strings.Contains(all[1].Text, "@bo"), all[1].Text)
	w.decide(id, "ana", approvals.Approve)
	w.decide(id, "gil", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	w.requireWhole(id)
}
