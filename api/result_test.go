package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
)

func TestResultIsTheUpstreamsAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		status int
		body   string
		want   map[string]any
	}{
		"JSON":             {200, `{"a":[1,2]}`, map[string]any{"body": map[string]any{"a": []any{1.0, 2.0}}}},
		"a JSON null":      {200, `null`, map[string]any{"body": nil}},
		"text":             {200, "plain <b>", map[string]any{"body": "plain <b>"}},
		"bytes":            {200, "\x00\xff", map[string]any{"body_base64": "AP8="}},
		"nothing":          {204, "", map[string]any{}},
		"a failure's body": {503, `"busy"`, map[string]any{"body": "busy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
			path := "/v1/tickets/" + id + "/result"
			early := b.get(t, path)
			require.Equal(t, http.StatusAccepted, early.status, "before the end")
			require.Equal(t, id, early.id(t), "the ticket, before the end")
			require.Equal(t, []string{"/v1/tickets/" + id, "2"}, []string{early.header.Get("Location"), early.header.Get("Retry-After")}, "headers before the end")

			b.begin(t, id)
			b.finish(t, id, c.status, c.body)
			r := b.get(t, path)
			require.Equal(t, http.StatusOK, r.status, "200 whatever the upstream's status: %s", r.raw)
			require.Equal(t, []string{strconv.Itoa(c.status)}, r.header.Values("AsyncResult"), "AsyncResult")
			got := r.json(t)
			require.InDelta(t, float64(c.status), got["status"], 0, "status in the body")
			for _, field := range []string{"body", "body_base64"} {
				value, given := got[field]
				want, wanted := c.want[field]
				require.Equal(t, wanted, given, "%s is there", field)
				require.Equal(t, want, value, "%s", field)
			}
			require.Equal(t, []any{map[string]any{"name": "Content-Type", "value": "application/json"}}, got["headers"], "headers")
			require.NotEmpty(t, r.header.Get("ETag"), "ETag")
		})
	}
}

func TestTicketWithoutAnAnswerHasNoResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	denied := b.submit(t, deletion).id(t)
	b.decide(t, denied, "bo", approvals.Deny)
	unknown := b.submit(t, `{"upstream":"billing","method":"GET","path":"/x"}`).id(t)
	b.begin(t, unknown)
	b.advance(t, unknown, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.FinishExecution(tk.Epoch, "worker-7", approvals.Outcome{
			Kind: approvals.Unknown, Problem: &approvals.Problem{Code: "no_answer", Detail: "the connection broke"},
		}, now)
	})
	for id, state := range map[string]string{denied: "denied", unknown: "outcome_unknown"} {
		r := b.get(t, "/v1/tickets/"+id+"/result")
		requireProblem(t, r, http.StatusConflict, "no_result")
		require.Equal(t, state, r.field(t, "state"), "state")
	}
	require.Equal(t, map[string]any{
		"type": "/problems/no-answer", "title": "The call did not succeed", "code": "no_answer", "detail": "the connection broke",
	}, b.get(t, "/v1/tickets/"+unknown).field(t, "error"), "error")
}

func TestEventsTellTheStoryInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.submit(t, strings.Replace(deletion, "DELETE", "PUT", 1)).id(t)
	b.refuseStranger(t, id)
	b.approve(t, id, "bo")
	b.approve(t, id, "chen")
	b.begin(t, id)
	b.finish(t, id, http.StatusOK, "{}")
	path := "/v1/tickets/" + id + "/events"

	var types []any
	after := "0"
	for range 20 {
		r := b.get(t, path+"?page_size=3&after="+after)
		require.Equal(t, http.StatusOK, r.status, "status: %s", r.raw)
		items, _ := r.field(t, "items").([]any)
		for _, i := range items {
			m, _ := i.(map[string]any)
			require.InDelta(t, float64(len(types)+1), m["sequence"], 0, "sequences have no gap")
			types = append(types, m["type"])
		}
		after = jsonNumber(t, r, "next_after")
		if r.field(t, "has_more") == false {
			break
		}
	}
	require.Equal(t, []any{
		"ticket.created", "ticket.refused", "ticket.decided", "ticket.decided", "ticket.approved",
		"ticket.claimed", "ticket.executing", "ticket.succeeded",
	}, types, "events")

	all := b.get(t, path)
	for _, inside := range []string{"worker-7", "U-secret", "T1/", "billing-approvals", "epoch"} {
		require.NotContains(t, string(all.raw), inside, "what stays inside")
	}
	require.Contains(t, string(all.raw), `"tried":"approve"`, "what was refused")
	for _, query := range []string{"after=-1", "after=x", "page_size=-1", "page_size=x", "afer=1"} {
		requireProblem(t, b.get(t, path+"?"+query), http.StatusBadRequest, "invalid_parameter")
	}
	none := b.get(t, path+"?after=99")
	require.JSONEq(t, `{"items":[],"next_after":99,"has_more":false}`, string(none.raw), "nothing newer")
}

// refuseStranger records an attempt by somebody who may not decide.
func (b *bundle) refuseStranger(t *testing.T, id string) {
	t.Helper()
	_, err := b.store.Advance(t.Context(), db.Ref{ID: id}, func(tk approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return tk.Stranger(approvals.Actor{Kind: approvals.ActorStranger, Name: "T1/U-secret", Via: "slack", Ref: "T1/U-secret"}, "approve", now)
	})
	require.Equal(t, approvals.CodeNotApprover, approvals.ErrorCode(err), "the refusal")
}

func jsonNumber(t *testing.T, r reply, field string) string {
	t.Helper()
	f, ok := r.field(t, field).(float64)
	require.True(t, ok, "%s in %s", field, r.raw)
	return strconv.Itoa(int(f))
}
