package jobs_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// ends brings a ticket to an end.
func (w *world) ends(id string, state approvals.State) {
	w.tb.Helper()
	switch state { //nolint:exhaustive // the ends that the tests are about
	case approvals.Succeeded, approvals.Failed:
		w.decide(id, "ana", approvals.Approve)
	case approvals.Denied:
		w.decide(id, "ana", approvals.Deny)
	case approvals.Cancelled:
		w.cancel(id)
	}
	w.awaitTold(id, state, approvals.CallbackDelivered)
	w.settled()
}

func TestWhoIsToldOfTheEndOfARequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		behalf string
		slack  string
		state  approvals.State
		told   []string // of dora, who owns the caller, fay and ana, who decides
	}{
		"whom it was for, of success":                    {behalf: "fay", state: approvals.Succeeded, told: []string{"U0FAY"}},
		"whom it was for, of a refusal":                  {behalf: "fay", state: approvals.Denied, told: []string{"U0FAY"}},
		"whom it was for, when it is withdrawn":          {behalf: "fay", state: approvals.Cancelled, told: []string{"U0FAY"}},
		"whom it was for, by their Slack id":             {behalf: "U0FAY", state: approvals.Failed, told: []string{"U0FAY"}},
		"the caller's people, of failure":                {state: approvals.Failed, told: []string{"U0DORA"}},
		"the caller's people, of a refusal":              {state: approvals.Denied, told: []string{"U0DORA"}},
		"the caller's people, where nobody knows whom":   {behalf: "somebody else", state: approvals.Denied, told: []string{"U0DORA"}},
		"nobody, of success that was for nobody":         {state: approvals.Succeeded},
		"nobody, where only questions are told":          {behalf: "fay", slack: ", tell_requesters: questions", state: approvals.Denied},
		"nobody, where requesters are not to be written": {behalf: "fay", slack: ", tell_requesters: none", state: approvals.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, space := setup(t, func(s *shape) { s.slack = c.slack }), newWorkspace(t)
			if c.state == approvals.Failed {
				w.upstream.status(500)
			}
			w.run(w.withSlack(space.client()))
			id := w.submit(call{behalf: c.behalf}).ID
			space.awaitTitles("Approval needed")
			w.ends(id, c.state)
			var told []string
			for _, user := range []string{"U0ANA", "U0DORA", "U0FAY"} {
				all := space.direct(user)
				if len(all) == 0 {
					continue
				}
				told = append(told, user)
				require.Len(t, all, 1, "once")
				require.Contains(t, all[0].Text, "Your request, made by payroll-bot under rule ask.")
				require.Empty(t, all[0].Buttons)
			}
			require.Equal(t, c.told, told)
		})
	}
}

func TestAnEndThatTurnsOutToBeAnotherIsToldAgain(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.timeout = 300 * time.Millisecond }), newWorkspace(t)
	w.upstream.hangs()
	w.run(sweeping, w.withSlack(space.client()))
	id := w.submit(call{behalf: "fay"}).ID
	space.awaitTitles("Approval needed")
	w.decide(id, "ana", approvals.Approve)
	w.awaitTold(id, approvals.OutcomeUnknown, approvals.CallbackDelivered)
	space.awaitDirect("U0FAY", "Your request. Outcome unknown")
	w.advance(id, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Resolve(approvals.Actor{Kind: approvals.ActorPerson, Name: "hal", Via: "api"}, true, "seen upstream", now)
	})
	space.awaitDirect("U0FAY", "Your request. Outcome unknown", "Your request. Executed")
	w.settled()
	require.Len(t, space.direct("U0FAY"), 2)
}

func TestHiddenPartsOfACallAreHiddenFromItsRequesterToo(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{behalf: "fay", body: `{"ssn":"078-05-1120"}`, plan: func(p *approvals.Plan) { p.Redact = []string{"body.ssn"} }}).ID
	space.awaitTitles("Approval needed")
	w.ask(id, "bo", "Which customer?")
	space.awaitDirect("U0FAY", "Question about your request")
	w.answer(id, "Number 42")
	w.ends(id, approvals.Denied)
	for _, c := range space.Snapshot().Channels {
		for _, m := range c.Messages {
			require.NotContains(t, m.Text, "078-05-1120")
		}
	}
}

func TestAQuestionIsPutOnlyWhereRequestersAreToBeWritten(t *testing.T) {
	t.Parallel()
	w, space := setup(t, func(s *shape) { s.slack = ", tell_requesters: none" }), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{behalf: "fay"}).ID
	space.awaitTitles("Approval needed")
	w.ask(id, "bo", "Which customer?")
	space.awaitTitles("Question open", "@bo asks @dora and @fay for details")
	w.settled()
	require.Empty(t, space.direct("U0FAY"))
	require.Empty(t, space.direct("U0DORA"))
}

func TestEveryQuestionIsPutInAMessageOfItsOwn(t *testing.T) {
	t.Parallel()
	w, space := setup(t), newWorkspace(t)
	w.run(w.withSlack(space.client()))
	id := w.submit(call{}).ID
	space.awaitTitles("Approval needed")
	w.ask(id, "bo", "Which customer?")
	first := space.awaitDirect("U0DORA", "Question about your request")[0]
	w.answer(id, "Number 42")
	w.ask(id, "ana", "And why?")
	all := space.awaitDirect("U0DORA", "Question answered", "Question about your request")
	require.Contains(t, all[0].Text, "Number 42")
	require.Contains(t, all[1].Text, "> And why?")
	require.NotEqual(t, first.Buttons[0].Value, all[1].Buttons[0].Value, "a button answers one question")
	w.ends(id, approvals.Denied)
	all = space.awaitDirect("U0DORA", "Question answered", "Question about your request", "Your request. Denied")
	require.Empty(t, all[1].Buttons)
	require.Contains(t, all[1].Text, "not needed any more")
}
