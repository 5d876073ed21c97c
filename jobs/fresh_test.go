package jobs_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/jobs"
	"countersign/policy"
)

// quorumOfTwo is a policy stricter than the one of [shape]'s zero value.
func quorumOfTwo(s *shape) { s.need = "{from: [security], approvals: 2}" }

// ends makes the rule end what does not stand any more.
func ends(s *shape) { s.more = "on_stale: end" }

// last returns the last event of a type.
func last(tb testing.TB, events []approvals.Event, typ approvals.EventType) approvals.Event {
	tb.Helper()
	var found approvals.Event
	for _, e := range events {
		if e.Type == typ {
			found = e
		}
	}
	require.NotEmpty(tb, found.Type, "there is a %s", typ)
	return found
}

func TestApproverWhoLeavesBeforeTheCallTakesTheApprovalAlong(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{}).ID
	w.reload(func(s *shape) { s.members = "bo, chen" })
	w.run()
	w.awaitState(id, approvals.Pending)
	require.Empty(t, w.upstream.requests())
	require.Equal(t, "an approval no longer stands: that of ana", last(t, w.requireWhole(id), approvals.EventReopened).Data.Reason)
	w.decide(id, "bo", approvals.Approve)
	w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
	require.Equal(t, 1, w.upstream.callsOf(id))
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventReopened,
		approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventSucceeded, approvals.EventCallbackDelivered)
}

func TestApprovalThatDoesNotStandEndsTheTicketWhereItsRuleSaysSo(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{plan: func(p *approvals.Plan) { p.OnStale = approvals.StaleEnd }}).ID
	w.reload(func(s *shape) { s.members = "bo, chen" })
	w.run()
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "approval_withdrawn", x.Problem.Code)
	require.Contains(t, x.Problem.Detail, "that of ana")
	require.Equal(t, "approval_withdrawn", w.callbacks(id)[0].Data.Error.Code)
	require.Empty(t, w.upstream.requests())
	w.requireEvents(id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved,
		approvals.EventFailed, approvals.EventCallbackDelivered)
}

func TestStricterPolicyIsMetBeforeTheCallIsMade(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method  string
		change  func(*shape)
		approve []string // by whom it then is
	}{
		"the quorum is raised":    {"DELETE", quorumOfTwo, []string{"bo", "chen"}},
		"what was allowed, asked": {http.MethodGet, func(s *shape) { s.asked = true }, []string{"bo"}},
		"others are asked":        {"DELETE", func(s *shape) { s.need = "{from: [chen], approvals: 1}" }, []string{"chen"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.submit(call{method: test.method}).ID
			if test.method == "DELETE" {
				w.decide(id, "ana", approvals.Approve)
			}
			w.reload(test.change)
			w.run()
			x := w.awaitTightened(id)
			require.Empty(t, w.upstream.requests())
			require.Equal(t, w.config.Load().Digest, x.Plan.PolicyDigest)
			for _, person := range test.approve {
				require.Empty(t, w.upstream.requests(), "not before %s", person)
				w.decide(id, person, approvals.Approve)
			}
			w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
			require.Equal(t, 1, w.upstream.callsOf(id))
			events := w.requireWhole(id)
			require.Equal(t, 1, count(events, approvals.EventTightened))
			require.Contains(t, last(t, events, approvals.EventTightened).Data.Reason, "demands more than was approved")
		})
	}
}

// awaitTightened waits until a ticket is with people again because of a stricter policy.
func (w *world) awaitTightened(id string) approvals.Ticket {
	w.tb.Helper()
	return w.await(id, "asked again", func(x approvals.Ticket) bool { return x.State == approvals.Pending && x.Plan.Round == 1 })
}

func TestPolicyThatDoesNotLetTheCallThroughAnyMoreEndsIt(t *testing.T) {
	t.Parallel()
	raised := func(s *shape) { quorumOfTwo(s); ends(s) }
	for name, test := range map[string]struct {
		method string
		change func(*shape)
		end    bool // the ticket's own rule says so
	}{
		"a rule denies it":                      {"DELETE", func(s *shape) { s.denied = true }, false},
		"the caller is gone":                    {"DELETE", func(s *shape) { s.caller = "other-bot" }, false},
		"the upstream is gone":                  {"DELETE", func(s *shape) { s.name = "elsewhere" }, false},
		"stricter, and the ticket's rule ends":  {"DELETE", quorumOfTwo, true},
		"stricter, and today's rule ends":       {"DELETE", raised, false},
		"asked now, and the ticket's rule ends": {http.MethodGet, func(s *shape) { s.asked = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.submit(call{method: test.method, plan: func(p *approvals.Plan) {
				if test.end {
					p.OnStale = approvals.StaleEnd
				}
			}}).ID
			if test.method == "DELETE" {
				w.decide(id, "ana", approvals.Approve)
			}
			w.reload(test.change)
			w.run()
			x := w.await(id, "failed", func(x approvals.Ticket) bool {
				return x.State == approvals.Failed && x.CallbackState != approvals.CallbackPending
			})
			require.Equal(t, "policy_tightened", x.Problem.Code)
			if _, there := w.config.Load().Caller(callerName); there { // else nobody is left to be told
				require.Equal(t, "policy_tightened", w.callbacks(id)[0].Data.Error.Code)
			}
			require.Empty(t, w.upstream.requests())
			require.Zero(t, count(w.requireWhole(id), approvals.EventClaimed))
		})
	}
}

func TestDecisionsThatMeetTheStricterPolicyTooAreEnough(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*shape){
		"each by name":       func(s *shape) { s.need = "{from: [ana], approvals: 1}, {from: [bo], approvals: 1}" },
		"by one of a group":  func(s *shape) { s.need = "{from: [bo], approvals: 1}, {from: [security], approvals: 1}" },
		"one would do":       func(s *shape) { s.need = "" },
		"only other people":  func(s *shape) { s.members = "ana, bo, dora" },
		"allowed by today's": func(s *shape) { s.name, s.more = "billing", "expires_in: 2h" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, quorumOfTwo)
			id := w.submit(call{}).ID
			w.decide(id, "ana", approvals.Approve)
			w.decide(id, "bo", approvals.Approve)
			w.reload(change)
			w.run()
			w.awaitTold(id, approvals.Succeeded, approvals.CallbackDelivered)
			require.Equal(t, 1, w.upstream.callsOf(id))
			require.Zero(t, count(w.requireWhole(id), approvals.EventTightened))
		})
	}
}

func TestTimeToExecuteIsThatOfTheShorterPolicy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{}).ID
	w.reload(func(s *shape) { s.more = "execute_within: 1s" })
	eventually(t, "today's time to execute is over", func() bool {
		return w.number(`SELECT count(*) FROM tickets WHERE id = $1 AND approved_at < clock_timestamp() - interval '1100 ms'`, id) == 1
	})
	w.run()
	x := w.awaitTold(id, approvals.Expired, approvals.CallbackDelivered)
	require.Equal(t, "approval_stale", x.Problem.Code)
	require.Empty(t, w.upstream.requests())
	w.requireWhole(id)
}

// claimed reports whether a ticket has ever been claimed. It is asked by the runner, which
// outlives the test by a little.
func (w *world) claimed(id string) bool {
	x, err := w.store.Ticket(context.WithoutCancel(w.tb.Context()), db.Ref{ID: id})
	return err == nil && x.Epoch > 0
}

// swapping has a policy change take place between a ticket's claim and its door.
func (w *world) swapping(id string, change func(*shape)) func(*jobs.Config) {
	w.tb.Helper()
	next := w.shape
	change(&next)
	before, after := w.config.Load(), next.config(w.tb)
	return func(c *jobs.Config) {
		c.Policy = func() *policy.Config {
			if w.claimed(id) {
				return after
			}
			return before
		}
	}
}

func TestPolicyChangeBetweenClaimAndDoorIsSeen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*shape)
		state  approvals.State
		code   string // of the problem
	}{
		"stricter":               {quorumOfTwo, approvals.Pending, ""},
		"the approver has left":  {func(s *shape) { s.members = "bo, chen" }, approvals.Pending, ""},
		"stricter, and it ends":  {func(s *shape) { quorumOfTwo(s); ends(s) }, approvals.Failed, "policy_tightened"},
		"denied":                 {func(s *shape) { s.denied = true }, approvals.Failed, "policy_tightened"},
		"the caller is gone":     {func(s *shape) { s.caller = "other-bot" }, approvals.Failed, "policy_tightened"},
		"the upstream is gone":   {func(s *shape) { s.name = "elsewhere" }, approvals.Failed, "policy_tightened"},
		"another address":        {func(s *shape) { s.upstream = "http://127.0.0.1:1" }, approvals.Failed, "binding_violation"},
		"another credential":     {func(s *shape) { s.credential = "env:OTHER_TOKEN" }, approvals.Failed, "binding_violation"},
		"nothing that is theirs": {func(s *shape) { s.more = "expires_in: 2h" }, approvals.Succeeded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			id := w.approved(call{}).ID
			w.run(w.swapping(id, test.change))
			x := w.await(id, string(test.state), func(x approvals.Ticket) bool { return x.Epoch == 1 && x.State == test.state })
			w.settled()
			events := w.requireWhole(id)
			require.Equal(t, 1, count(events, approvals.EventClaimed))
			if test.state == approvals.Succeeded {
				require.Equal(t, 1, w.upstream.callsOf(id))
				return
			}
			require.Empty(t, w.upstream.requests())
			require.Zero(t, count(events, approvals.EventExecuting))
			if test.code != "" {
				require.Equal(t, test.code, x.Problem.Code)
			}
		})
	}
}

func TestUpstreamThatChangedBackSinceTheClaimIsNotCalledAsItWasInBetween(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.approved(call{}).ID
	as := w.config.Load()
	other := serve(t)
	wrong := w.shape
	wrong.upstream = other.url()
	inBetween := wrong.config(t)
	w.run(func(c *jobs.Config) {
		c.Policy = func() *policy.Config { // in between until the claim, as it was from then on
			if w.claimed(id) {
				return as
			}
			return inBetween
		}
	})
	x := w.awaitTold(id, approvals.Failed, approvals.CallbackDelivered)
	require.Equal(t, "binding_violation", x.Problem.Code)
	require.Empty(t, other.requests())
	require.Empty(t, w.upstream.requests())
}

func TestCallInDoubtIsNotMadeAgainUnderAStricterPolicy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*shape)
		code   string
	}{
		"stricter":              {quorumOfTwo, "policy_tightened"},
		"denied":                {func(s *shape) { s.denied = true }, "policy_tightened"},
		"the approver has left": {func(s *shape) { s.members = "bo, chen" }, "approval_withdrawn"},
		"shorter":               {func(s *shape) { s.more = "execute_within: 1s" }, "approval_stale"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, func(s *shape) { s.idempotent, s.timeout = true, 1200*time.Millisecond })
			w.upstream.hangs()
			w.run()
			id := w.approved(call{}).ID
			receive(t, "the first try", w.upstream.got)
			w.reload(test.change)
			x := w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
			require.Equal(t, test.code, x.Problem.Code)
			w.settled()
			require.Equal(t, 1, w.upstream.callsOf(id))
			w.requireWhole(id)
		})
	}
}

// TestGlassThatIsBrokenStandsAsLongAsThePolicyLetsIt is about hal, who alone may bypass.
func TestGlassThatIsBrokenStandsAsLongAsThePolicyLetsIt(t *testing.T) {
	t.Parallel()
	mayBreak := func(s *shape) { s.more = "break_glass: {from: [hal]}" }
	for name, test := range map[string]struct {
		change func(*shape)
		state  approvals.State
	}{
		"and it lets it":          {func(s *shape) { quorumOfTwo(s) }, approvals.Succeeded},
		"nobody may bypass now":   {func(s *shape) { s.more = "" }, approvals.Pending},
		"somebody else may now":   {func(s *shape) { s.more = "break_glass: {from: [gil]}" }, approvals.Pending},
		"the call is denied now":  {func(s *shape) { s.denied = true }, approvals.Failed},
		"the policy is unchanged": {func(*shape) {}, approvals.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, mayBreak)
			id := w.submit(call{}).ID
			dir := w.config.Load().Directory()
			w.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
				d := approvals.Decision{Person: "hal", Verdict: approvals.GlassBroken, Comment: "it burns", Digest: x.Digest}
				return x.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: "hal", Via: "slack"}, d, dir, now)
			})
			w.reload(test.change)
			w.run()
			w.awaitState(id, test.state)
			w.settled()
			calls := 0
			if test.state == approvals.Succeeded {
				calls = 1
			}
			require.Equal(t, calls, w.upstream.callsOf(id))
			require.Equal(t, 1, count(w.requireWhole(id), approvals.EventGlassBroken))
		})
	}
}
