package approvals_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestClaimTakesTheTicketOnce(t *testing.T) {
	t.Parallel()
	tr, err := approved(t, nil).Claim(worker, office(), approved(t, nil).Plan, after(2*time.Minute))
	require.NoError(t, err)
	require.Equal(t, approvals.Approved, tr.Ticket.State, "claimed is still provably unsent")
	require.Equal(t, int64(1), tr.Ticket.Epoch)
	_, err = tr.Ticket.Claim("worker-2", office(), tr.Ticket.Plan, after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = approved(t, nil).Claim("", office(), approved(t, nil).Plan, after(2*time.Minute))
	requireCode(t, approvals.CodeInvalid, err)
}

func TestNothingBeginsWithoutAClaim(t *testing.T) {
	t.Parallel()
	tk := approved(t, nil)
	claimed := must(t)(tk.Claim(worker, office(), tk.Plan, after(2*time.Minute)))
	released := must(t)(claimed.Abandon(1, after(2*time.Minute)))
	for name, c := range map[string]struct {
		tk     approvals.Ticket
		epoch  int64
		worker string
	}{
		"never claimed": {tk, 0, ""}, "released, no name": {released, 1, ""}, "released": {released, 1, worker},
		"another worker": {claimed, 1, "worker-2"}, "an earlier epoch": {claimed, 0, worker}, "a later epoch": {claimed, 2, worker},
	} {
		tr, err := c.tk.BeginExecution(c.epoch, c.worker, tk.Digest, office(), c.tk.Plan, after(3*time.Minute))
		requireCode(t, approvals.CodeConflict, err)
		require.True(t, tr.Empty(), name)
	}
}

func TestDoorIsPassedOnceUnlessUpstreamIsIdempotent(t *testing.T) {
	t.Parallel()
	tk := executing(t, nil)
	_, err := tk.BeginExecution(1, worker, tk.Digest, office(), tk.Plan, after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = tk.Claim("worker-2", office(), tk.Plan, after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	tk = executing(t, idempotent)
	tr, err := tk.BeginExecution(1, worker, tk.Digest, office(), tk.Plan, after(3*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventExecuting}, types(tr.Events))
}

func TestCallThatIsNotWhatWasApprovedIsNeverSent(t *testing.T) {
	t.Parallel()
	tk := must(t)(approved(t, nil).Claim(worker, office(), approved(t, nil).Plan, after(2*time.Minute)))
	other := tk.Binding("re-pointed").Digest()
	tr, err := tk.BeginExecution(1, worker, other, office(), tk.Plan, after(3*time.Minute))
	requireCode(t, approvals.CodeDigestMismatch, err)
	require.Equal(t, []approvals.EventType{approvals.EventFailed}, types(tr.Events), "no ticket.executing")
	require.Equal(t, "binding_violation", tr.Ticket.Problem.Code)
	require.Contains(t, tr.Ticket.Problem.Detail, "nothing was sent")
	require.Zero(t, tr.Ticket.ExecutionStartedAt)

	tk.Decisions = []approvals.Decision{{Person: "ana", Verdict: approvals.Approve, Digest: "tampered with"}}
	tr, err = tk.BeginExecution(1, worker, tk.Digest, office(), tk.Plan, after(3*time.Minute))
	requireCode(t, approvals.CodeDigestMismatch, err)
	require.Equal(t, approvals.Failed, tr.Ticket.State)
}

func TestCallInDoubtThatHasChangedStaysInDoubt(t *testing.T) {
	t.Parallel()
	tk := must(t)(executing(t, idempotent).Abandon(1, after(3*time.Minute)))
	tk = must(t)(tk.Claim(worker, office(), tk.Plan, after(4*time.Minute)))
	tr, err := tk.BeginExecution(2, worker, "other", office(), tk.Plan, after(4*time.Minute))
	requireCode(t, approvals.CodeDigestMismatch, err)
	require.Equal(t, approvals.OutcomeUnknown, tr.Ticket.State)
	require.NotContains(t, tr.Ticket.Problem.Detail, "nothing was sent")
}

func TestApprovalThatNoLongerStandsReopensItsStage(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(2, "team")), stage("security", set(1, "security"))), dir)
	for _, name := range []string{"ana", "bo", "eve"} {
		tk = must(t)(vote(tk, name, approvals.Approve, dir, after(time.Minute)))
	}
	claimed := must(t)(tk.Claim(worker, dir, tk.Plan, after(2*time.Minute)))
	dir.Groups["team"] = []string{"bo", "chen"}
	for name, try := range map[string]func() (approvals.Transition, error){
		"at the claim": func() (approvals.Transition, error) { return tk.Claim(worker, dir, tk.Plan, after(2*time.Minute)) },
		"at the door": func() (approvals.Transition, error) {
			return claimed.BeginExecution(1, worker, tk.Digest, dir, claimed.Plan, after(2*time.Minute))
		},
	} {
		tr, err := try()
		requireCode(t, approvals.CodeConflict, err)
		got := tr.Ticket
		require.Equal(t, approvals.Pending, got.State, name)
		require.Equal(t, 0, got.Stage)
		require.Empty(t, got.Worker)
		require.Zero(t, got.ApprovedAt)
		require.Zero(t, got.ExecuteBy)
		_, err = vote(got, "bo", approvals.Approve, dir, after(3*time.Minute))
		requireCode(t, approvals.CodeAlreadyDecided, err)
		tr, err = vote(got, "chen", approvals.Approve, dir, after(3*time.Minute))
		require.NoError(t, err)
		require.Equal(t, []approvals.EventType{
			approvals.EventDecided, approvals.EventStageCompleted, approvals.EventApproved,
		}, types(tr.Events), "eve has said yes to security already and cannot be asked again")
	}
}

func TestReopenedTicketWaitsForTheNextStageThatHasFallen(t *testing.T) {
	t.Parallel()
	dir := office()
	tk := submit(t, planOf(stage("peer", set(1, "team")), stage("security", set(1, "security"))), dir)
	for _, name := range []string{"ana", "eve"} {
		tk = must(t)(vote(tk, name, approvals.Approve, dir, after(time.Minute)))
	}
	dir.Groups["team"], dir.Groups["security"] = []string{"bo", "chen"}, []string{"chen"}
	tr, err := tk.Claim(worker, dir, tk.Plan, after(2*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = vote(tr.Ticket, "chen", approvals.Approve, dir, after(3*time.Minute))
	requireCode(t, approvals.CodeNeededLater, err)
	tk = must(t)(vote(tr.Ticket, "bo", approvals.Approve, dir, after(3*time.Minute)))
	require.Equal(t, approvals.Pending, tk.State)
	require.Equal(t, 1, tk.Stage)
	require.Equal(t, approvals.Approved, must(t)(vote(tk, "chen", approvals.Approve, dir, after(3*time.Minute))).State)
}

func TestOutcomesAreHonest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		o      approvals.Outcome
		state  approvals.State
		status int
	}{
		"answered within the success set":         {answer(204), approvals.Succeeded, 204},
		"answered outside of it":                  {answer(500), approvals.Failed, 500},
		"provably not sent":                       {outcome(approvals.NotSent), approvals.Failed, 0},
		"no answer":                               {outcome(approvals.Unknown), approvals.OutcomeUnknown, 0},
		"a kind nobody knows":                     {approvals.Outcome{Kind: "bogus", Success: true}, approvals.OutcomeUnknown, 0},
		"no answer, and yet one":                  {approvals.Outcome{Kind: approvals.Unknown, Success: true, Result: answer(200).Result}, approvals.OutcomeUnknown, 0},
		"the zero outcome of a worker that fails": {approvals.Outcome{}, approvals.OutcomeUnknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, err := executing(t, nil).FinishExecution(1, worker, c.o, after(3*time.Minute))
			require.NoError(t, err)
			require.Equal(t, c.state, tr.Ticket.State)
			require.Equal(t, after(3*time.Minute), tr.Ticket.FinishedAt)
			require.Empty(t, tr.Ticket.Worker)
			require.Equal(t, c.status != 0, tr.Result != nil)
			require.Equal(t, c.status != 0, tr.Ticket.Result != nil)
			if c.status != 0 {
				require.Equal(t, c.status, tr.Ticket.Result.Status)
			}
		})
	}
}

func TestWordsOfAWorkerAreCutNotRefused(t *testing.T) {
	t.Parallel()
	o := outcome(approvals.Unknown)
	o.Problem.Detail = "a\x00b\xff" + strings.Repeat("é", approvals.MaxDetail)
	tr, err := executing(t, nil).FinishExecution(1, worker, o, after(3*time.Minute))
	require.NoError(t, err)
	got := tr.Ticket.Problem.Detail
	require.LessOrEqual(t, len(got), approvals.MaxDetail)
	require.True(t, utf8.ValidString(got))
	require.True(t, strings.HasPrefix(got, "a\uFFFDb\uFFFDé"), got)
	require.Contains(t, o.Problem.Detail, "\x00", "the outcome of the caller is left alone")
}

func TestLateEvidenceResolvesTheDoubt(t *testing.T) {
	t.Parallel()
	doubt := must(t)(executing(t, nil).Abandon(1, after(3*time.Minute)))
	require.Equal(t, approvals.OutcomeUnknown, doubt.State)
	require.Equal(t, "worker_lost", doubt.Problem.Code)
	tr, err := doubt.FinishExecution(1, worker, answer(200), after(9*time.Minute))
	require.NoError(t, err)
	require.Equal(t, []approvals.EventType{approvals.EventResolved}, types(tr.Events))
	require.Equal(t, approvals.Succeeded, tr.Ticket.State)
	require.NotNil(t, tr.Result)
	require.Nil(t, tr.Ticket.Problem)
	require.Equal(t, after(3*time.Minute), tr.Ticket.FinishedAt, "it was final before")
	require.Equal(t, tr.Ticket.Version, tr.Ticket.CallbackSeq)
	require.Equal(t, approvals.Failed, must(t)(doubt.FinishExecution(1, worker, answer(500), after(9*time.Minute))).State)
	for _, o := range []approvals.Outcome{outcome(approvals.Unknown), outcome(approvals.NotSent)} {
		_, err = doubt.FinishExecution(1, worker, o, after(9*time.Minute))
		requireCode(t, approvals.CodeConflict, err)
	}
	_, err = doubt.FinishExecution(2, worker, answer(200), after(9*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	_, err = tr.Ticket.FinishExecution(1, worker, answer(500), after(9*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestLateEvidenceSparesTheSecondCall(t *testing.T) {
	t.Parallel()
	released := must(t)(executing(t, idempotent).Abandon(1, after(3*time.Minute)))
	require.Equal(t, approvals.Executing, released.State)
	require.Equal(t, approvals.Succeeded, must(t)(released.FinishExecution(1, worker, answer(200), after(4*time.Minute))).State)
	_, err := released.FinishExecution(1, "", answer(200), after(4*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	claimed := must(t)(released.Claim("worker-2", office(), released.Plan, after(4*time.Minute)))
	_, err = claimed.FinishExecution(1, worker, answer(200), after(5*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
}

func TestOperatorResolvesTheDoubt(t *testing.T) {
	t.Parallel()
	doubt := must(t)(executing(t, nil).Abandon(1, after(3*time.Minute)))
	tr, err := doubt.Resolve(person("ana"), true, "seen in the ledger", after(time.Hour))
	require.NoError(t, err)
	require.Equal(t, approvals.Succeeded, tr.Ticket.State)
	require.Nil(t, tr.Ticket.Problem)
	require.Nil(t, tr.Ticket.Result, "nobody has an answer to show")
	require.Equal(t, "ana", tr.Events[0].Actor.Name)
	require.Equal(t, "seen in the ledger", tr.Events[0].Data.Reason)
	failed := must(t)(doubt.Resolve(person("ana"), false, "not there", after(time.Hour)))
	require.Equal(t, &approvals.Problem{Code: "resolved_as_failed", Detail: "not there"}, failed.Problem)
	_, err = failed.Resolve(person("ana"), true, "changed my mind", after(time.Hour))
	requireCode(t, approvals.CodeConflict, err)
}

func TestUnsentClaimOfADeadWorkerIsFreeAgain(t *testing.T) {
	t.Parallel()
	tk := must(t)(approved(t, nil).Claim(worker, office(), approved(t, nil).Plan, after(2*time.Minute)))
	_, err := tk.Abandon(2, after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	tr, err := tk.Abandon(1, after(3*time.Minute))
	require.NoError(t, err)
	require.Equal(t, approvals.Approved, tr.Ticket.State)
	require.Equal(t, worker, tr.Events[0].Data.Worker)
	require.Contains(t, tr.Effects, approvals.Effect(approvals.Execute{TicketID: ticketID}))
	tk = must(t)(tr.Ticket.Claim("worker-2", office(), tr.Ticket.Plan, after(3*time.Minute)))
	require.Equal(t, int64(2), tk.Epoch)
	_, err = tk.BeginExecution(1, worker, tk.Digest, office(), tk.Plan, after(3*time.Minute))
	requireCode(t, approvals.CodeConflict, err)
	tk = must(t)(tk.BeginExecution(2, "worker-2", tk.Digest, office(), tk.Plan, after(3*time.Minute)))
	require.Equal(t, approvals.Failed, must(t)(tk.FinishExecution(2, "worker-2", outcome(approvals.NotSent), after(3*time.Minute))).State)
}

func TestIdempotentUpstreamIsAskedAgainUnderALaterEpoch(t *testing.T) {
	t.Parallel()
	tk := executing(t, func(p *approvals.Plan) { p.Idempotent, p.ExecuteWithin = true, time.Hour })
	now := after(3 * time.Minute)
	for epoch := int64(1); epoch < approvals.MaxEpochs; epoch++ {
		o := outcome([]approvals.OutcomeKind{approvals.Unknown, approvals.NotSent}[(epoch-1)%2])
		tr, err := tk.FinishExecution(epoch, worker, o, now)
		require.NoError(t, err)
		require.Equal(t, []approvals.EventType{approvals.EventClaimReleased}, types(tr.Events))
		require.Equal(t, approvals.Executing, tr.Ticket.State)
		at := now.Add(time.Second << (epoch - 1))
		require.Equal(t, []approvals.Effect{approvals.Execute{TicketID: ticketID, At: at}}, tr.Effects)
		now = at
		tk = must(t)(tr.Ticket.Claim(worker, office(), tr.Ticket.Plan, now))
		require.Equal(t, epoch+1, tk.Epoch)
		tk = must(t)(tk.BeginExecution(epoch+1, worker, tk.Digest, office(), tk.Plan, now))
	}
	last := must(t)(tk.FinishExecution(approvals.MaxEpochs, worker, outcome(approvals.Unknown), now))
	require.Equal(t, approvals.OutcomeUnknown, last.State)
	lost := must(t)(tk.Abandon(approvals.MaxEpochs, now))
	require.Equal(t, approvals.OutcomeUnknown, lost.State)
	notSent := must(t)(tk.FinishExecution(approvals.MaxEpochs, worker, outcome(approvals.NotSent), now))
	require.Equal(t, approvals.OutcomeUnknown, notSent.State, "the last attempt did not go out, those before it may have")
}

func TestIdempotentUpstreamThatWasProvablyNotReachedHasFailed(t *testing.T) {
	t.Parallel()
	tk := must(t)(executing(t, idempotent).FinishExecution(1, worker, outcome(approvals.NotSent), after(3*time.Minute)))
	require.Equal(t, approvals.Failed, tk.State)
}

// Every byte that is sent needs a yes that stands, the second time as well.
func TestCallInDoubtIsNotMadeAgainWithoutAStandingApproval(t *testing.T) {
	t.Parallel()
	gone := office()
	gone.Groups["team"] = nil
	inFlight := executing(t, idempotent)
	released := must(t)(inFlight.Abandon(1, after(3*time.Minute)))
	cancelled := must(t)(released.Cancel(client(), "", after(3*time.Minute)))
	claimed := must(t)(released.Claim(worker, office(), released.Plan, after(4*time.Minute)))
	claimedCancelled := must(t)(claimed.Cancel(client(), "", after(4*time.Minute)))
	late, soon := inFlight.ExecuteBy, after(5*time.Minute)
	begin := func(tk approvals.Ticket, dir approvals.Directory, now time.Time) func() (approvals.Transition, error) {
		return func() (approvals.Transition, error) {
			return tk.BeginExecution(2, worker, tk.Digest, dir, tk.Plan, now)
		}
	}
	for name, c := range map[string]struct {
		problem string
		code    approvals.Code
		do      func() (approvals.Transition, error)
	}{
		"claim, too late":      {"approval_stale", approvals.CodeExpired, func() (approvals.Transition, error) { return released.Claim(worker, office(), released.Plan, late) }},
		"claim, approver gone": {"approval_withdrawn", approvals.CodeConflict, func() (approvals.Transition, error) { return released.Claim(worker, gone, released.Plan, soon) }},
		"claim, cancelled":     {"cancelled", approvals.CodeConflict, func() (approvals.Transition, error) { return cancelled.Claim(worker, office(), cancelled.Plan, soon) }},
		"begin, too late":      {"approval_stale", approvals.CodeExpired, begin(claimed, office(), late)},
		"begin, approver gone": {"approval_withdrawn", approvals.CodeConflict, begin(claimed, gone, soon)},
		"begin, cancelled":     {"cancelled", approvals.CodeConflict, begin(claimedCancelled, office(), soon)},
		"no answer, no time left": {"unknown", "", func() (approvals.Transition, error) {
			return inFlight.FinishExecution(1, worker, outcome(approvals.Unknown), late.Add(-time.Second))
		}},
		"worker dead, no time left":  {"worker_lost", "", func() (approvals.Transition, error) { return inFlight.Abandon(1, late) }},
		"worker dead after a cancel": {"worker_lost", "", func() (approvals.Transition, error) { return claimedCancelled.Abandon(2, soon) }},
		"no answer, cancel requested": {"unknown", "", func() (approvals.Transition, error) {
			return claimedCancelled.FinishExecution(2, worker, outcome(approvals.Unknown), soon)
		}},
	} {
		tr, err := c.do()
		require.Equal(t, c.code, approvals.ErrorCode(err), name)
		require.Equal(t, approvals.OutcomeUnknown, tr.Ticket.State, name)
		require.Equal(t, c.problem, tr.Ticket.Problem.Code, name)
	}
}

func TestCancelWhileExecutingEndsAsWhatReallyHappened(t *testing.T) {
	t.Parallel()
	tk := must(t)(executing(t, nil).Cancel(client(), "too late?", after(3*time.Minute)))
	require.Equal(t, approvals.Succeeded, must(t)(tk.FinishExecution(1, worker, answer(200), after(4*time.Minute))).State)
}
