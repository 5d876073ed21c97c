package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

// deed is something that happens to a ticket; most of them come over the API.
type deed func(t *testing.T, b *bundle, id string)

func (b *bundle) requireOK(t *testing.T, r reply, what string) {
	t.Helper()
	require.Equal(t, http.StatusOK, r.status, "%s: %s", what, r.raw)
}

func approvedByAPI(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.requireOK(t, b.post(t, "bo", id, "decisions", b.verdict(t, id, "approve", "")), "approve")
}

func deniedByAPI(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.requireOK(t, b.post(t, "bo", id, "decisions", b.verdict(t, id, "deny", "no")), "deny")
}

func answeredByAPI(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.requireOK(t, b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/answers", body: `{"answer":"because"}`}), "answer")
}

func cancelledByAPI(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.requireOK(t, b.cancel(t, id, ""), "cancel")
}

func resolvedAs(outcome string) deed {
	return func(t *testing.T, b *bundle, id string) {
		t.Helper()
		b.requireOK(t, b.post(t, "dora", id, "resolve", `{"outcome":"`+outcome+`","reason":"seen"}`), "resolve")
	}
}

func expired(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.advance(t, id, func(tk approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return tk.Expire(tk.ExpiresAt.Add(time.Second))
	})
}

func unused(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.advance(t, id, func(tk approvals.Ticket, _ time.Time) (approvals.Transition, error) {
		return tk.Expire(tk.ExecuteBy.Add(time.Second))
	})
}

// overtaken finds at the claim that who approved is no approver any more.
func overtaken(t *testing.T, b *bundle, id string) {
	t.Helper()
	today := parseConfig(t, strings.Replace(b.text(t, "", ""), "members: [ana, bo, chen]", "members: [ana, chen, dora]", 1))
	_, err := b.store.Advance(t.Context(), db.Ref{ID: id}, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.Claim("worker-7", today.Directory(), tk.Plan, now)
	})
	require.Equal(t, approvals.CodeConflict, approvals.ErrorCode(err), "the claim is refused: %v", err)
}

func begun(t *testing.T, b *bundle, id string) {
	t.Helper()
	b.begin(t, id)
}

func answeredWith(status int) deed {
	return func(t *testing.T, b *bundle, id string) {
		t.Helper()
		b.finish(t, id, status, `{}`)
	}
}

func outcome(kind approvals.OutcomeKind, code string) deed {
	return func(t *testing.T, b *bundle, id string) {
		t.Helper()
		b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{Kind: kind, Problem: &approvals.Problem{Code: code, Detail: "because"}}, now)
		})
	}
}

// in takes a fresh ticket to a state, by way of deeds.
func (b *bundle) in(t *testing.T, way ...deed) string {
	t.Helper()
	id := b.submit(t, deletion).id(t)
	for _, do := range way {
		do(t, b, id)
	}
	return id
}

// endings are the ways to every state in which nothing happens of itself any more.
func endings() map[string][]deed {
	return map[string][]deed{
		"succeeded":       {approvedByAPI, begun, answeredWith(200)},
		"failed":          {approvedByAPI, begun, answeredWith(500)},
		"outcome_unknown": {approvedByAPI, begun, outcome(approvals.Unknown, "no_answer")},
		"denied":          {deniedByAPI},
		"expired":         {expired},
		"cancelled":       {cancelledByAPI},
	}
}

// requirePoll asserts what a poll of a ticket in a state must look like, and returns it.
func (b *bundle) requirePoll(t *testing.T, id string, state approvals.State) reply {
	t.Helper()
	path := "/v1/tickets/" + id
	r := b.get(t, path)
	version := fmt.Sprint(b.stored(t, id).Version)
	require.Equal(t, http.StatusOK, r.status, "polling is 200, whatever the state: %s", r.raw)
	require.Equal(t, []any{string(state), state.Final()}, []any{r.field(t, "state"), r.field(t, "done")}, "state")
	require.Equal(t, version, fmt.Sprint(r.field(t, "version")), "version")
	require.Equal(t, []string{`"` + version + `"`, "private, no-cache", "Prefer"},
		[]string{r.header.Get("ETag"), r.header.Get("Cache-Control"), r.header.Get("Vary")}, "header")
	after := map[approvals.State]string{
		approvals.Pending: "5", approvals.NeedsInfo: "5", approvals.Approved: "2", approvals.Executing: "2",
	}[state]
	require.Equal(t, after, r.header.Get("Retry-After"), "Retry-After")
	require.Equal(t, state.Final(), r.field(t, "finished_at") != nil, "finished_at of %s", r.raw)

	same := b.get(t, path, "If-None-Match", r.header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, same.status, "with the version it is at")
	require.Empty(t, same.raw, "the body of a 304")
	for _, name := range []string{"ETag", "Cache-Control", "Vary", "Retry-After"} {
		require.Equal(t, r.header.Get(name), same.header.Get(name), "%s of a 304", name)
	}
	require.NotContains(t, same.header, "Content-Type", "a 304 describes no body")
	return r
}

// TestContractStates has a row for each way from one state to the next, as a caller sees it.
func TestContractStates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		way  []deed // to the first state
		next deed
	}{
		"pending → needs_info":        {nil, asked},
		"pending → approved":          {nil, approvedByAPI},
		"pending → denied":            {nil, deniedByAPI},
		"pending → expired":           {nil, expired},
		"pending → cancelled":         {nil, cancelledByAPI},
		"needs_info → pending":        {[]deed{asked}, answeredByAPI},
		"needs_info → approved":       {[]deed{asked}, approvedByAPI},
		"needs_info → denied":         {[]deed{asked}, deniedByAPI},
		"needs_info → expired":        {[]deed{asked}, expired},
		"needs_info → cancelled":      {[]deed{asked}, cancelledByAPI},
		"approved → executing":        {[]deed{approvedByAPI}, begun},
		"approved → cancelled":        {[]deed{approvedByAPI}, cancelledByAPI},
		"approved → expired":          {[]deed{approvedByAPI}, unused},
		"approved → pending":          {[]deed{approvedByAPI}, overtaken},
		"executing → succeeded":       {[]deed{approvedByAPI, begun}, answeredWith(200)},
		"executing → failed":          {[]deed{approvedByAPI, begun}, answeredWith(503)},
		"executing → outcome_unknown": {[]deed{approvedByAPI, begun}, outcome(approvals.Unknown, "no_answer")},
		"outcome_unknown → succeeded": {[]deed{doubt}, resolvedAs("succeeded")},
		"outcome_unknown → failed":    {[]deed{doubt}, resolvedAs("failed")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			from, to, _ := strings.Cut(name, " → ")
			id := b.in(t, c.way...)
			before := b.requirePoll(t, id, approvals.State(from))
			c.next(t, b, id)
			after := b.requirePoll(t, id, approvals.State(to))
			require.Greater(t, after.field(t, "version"), before.field(t, "version"), "version")
			changed := b.get(t, "/v1/tickets/"+id, "If-None-Match", before.header.Get("ETag"))
			require.Equal(t, http.StatusOK, changed.status, "with the version from before")
		})
	}
	for name, c := range map[string]struct {
		body  string
		state approvals.State
	}{
		"a fresh ticket may be approved": {`{"upstream":"billing","method":"GET","path":"/x"}`, approvals.Approved},
		"a fresh ticket may be denied":   {`{"upstream":"billing","method":"OPTIONS","path":"/x"}`, approvals.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proves(t)
			r := b.submit(t, c.body)
			require.Equal(t, string(c.state), r.field(t, "state"), "state in the 202")
			b.requirePoll(t, r.id(t), c.state)
		})
	}
	t.Run("an approval that is not used in time is expired, with the reason in its event", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, approvedByAPI, unused)
		require.Equal(t, "approval_stale", b.requirePoll(t, id, approvals.Expired).field(t, "error", "code"), "the reason")
		events, _ := b.get(t, "/v1/tickets/"+id+"/events").field(t, "items").([]any)
		last, _ := events[len(events)-1].(map[string]any)
		data, _ := last["data"].(map[string]any)
		why, _ := data["error"].(map[string]any)
		require.Equal(t, []any{"ticket.expired", "approval_stale"}, []any{last["type"], why["code"]}, "the event")
	})
	t.Run("a decision that completes the quorum closes an open question", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, asked, approvedByAPI)
		r := b.requirePoll(t, id, approvals.Approved)
		require.Nil(t, r.field(t, "question"), "it is moot")
		requireProblem(t, b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/answers", body: `{"answer":"late"}`}), 409, "conflict")
	})
	t.Run("an operator's resolution is an event and a version, and done stays true", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := b.in(t, doubt)
		before := b.requirePoll(t, id, approvals.OutcomeUnknown)
		r := b.post(t, "dora", id, "resolve", `{"outcome":"failed","reason":"seen"}`)
		require.Equal(t, []any{"failed", true}, []any{r.field(t, "state"), r.field(t, "done")}, "state")
		require.Greater(t, r.field(t, "version"), before.field(t, "version"), "version")
		require.Contains(t, string(b.get(t, "/v1/tickets/"+id+"/events").raw), `"ticket.resolved"`, "its events")
	})
	t.Run("execution_started_at tells whether there can have been side effects", func(t *testing.T) {
		t.Parallel()
		proves(t)
		for state, way := range endings() {
			started := b.get(t, "/v1/tickets/"+b.in(t, way...)).field(t, "execution_started_at") != nil
			require.Equal(t, state == "succeeded" || state == "failed" || state == "outcome_unknown", started, "%s", state)
		}
		withdrawn := b.get(t, "/v1/tickets/"+b.in(t, approvedByAPI, cancelledByAPI))
		require.Nil(t, withdrawn.field(t, "execution_started_at"), "cancelled after its approval")
	})
	t.Run("submit, poll and cancel answer with one shape", func(t *testing.T) {
		t.Parallel()
		proves(t)
		shape := func(r reply) map[string]string {
			out := make(map[string]string)
			for name := range r.json(t) {
				out[name] = ""
			}
			return out
		}
		c := post(deletion)
		want := shape(b.do(t, c))
		id := b.do(t, c).id(t) // a replay
		require.Equal(t, want, shape(b.do(t, c)), "a replay")
		require.Equal(t, want, shape(b.get(t, "/v1/tickets/"+id)), "a poll")
		require.Equal(t, want, shape(b.get(t, "/v1/tickets/"+id+"/result")), "a result that is not there yet")
		require.Equal(t, want, shape(b.do(t, call{method: "PUT", path: "/proxy/billing/x"})), "the front")
		require.Equal(t, want, shape(b.cancel(t, id, "")), "a cancel")
	})
}

// TestContractCallbackStates has a row for each state of a callback.
func TestContractCallbackStates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ended := func(t *testing.T) string {
		t.Helper()
		id := b.submit(t, strings.Replace(deletion, "{", `{"callback":{"url":"https://hooks.example.com/x"},`, 1)).id(t)
		cancelledByAPI(t, b, id)
		return id
	}
	attempt := func(t *testing.T, id string, status int) {
		t.Helper()
		b.advance(t, id, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
			a := approvals.DeliveryAttempt{Seq: tk.CallbackSeq, Number: 1, Status: status}
			if status < 300 {
				return tk.Delivered("worker-7", a, now)
			}
			return tk.DeliveryFailed("worker-7", a, now)
		})
	}
	stateOf := func(t *testing.T, id, want string) {
		t.Helper()
		r := b.requirePoll(t, id, approvals.Cancelled) // the outcome is what it was
		require.Equal(t, want, r.field(t, "callback", "state"), "callback.state")
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		proves(t)
		stateOf(t, b.in(t, cancelledByAPI), "none")
	})
	t.Run("pending", func(t *testing.T) {
		t.Parallel()
		proves(t)
		stateOf(t, ended(t), "pending")
	})
	t.Run("delivered", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := ended(t)
		attempt(t, id, 204)
		stateOf(t, id, "delivered")
	})
	t.Run("exhausted", func(t *testing.T) {
		t.Parallel()
		proves(t)
		id := ended(t)
		attempt(t, id, 410)
		stateOf(t, id, "exhausted")
	})
}
