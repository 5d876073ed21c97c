package approvals_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

// checks is how many random cases each property sees unless -rapid.checks says otherwise.
const checks = "1000"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(checks)
	}
	os.Exit(m.Run())
}

var start = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return start.Add(d) }

const (
	caller   = "payroll-bot"
	upstream = "upstream-digest"
	ticketID = "tkt_01kmkc3e8q2h5v7n4c6d0x1r7q"
	worker   = "worker-1"
)

// office: ana, bo and chen are the team; chen and eve are security; fay is on call; dee
// owns the caller; gus is known and belongs nowhere.
func office() approvals.Directory {
	dir := approvals.Directory{
		People: map[string]approvals.Person{},
		Groups: map[string][]string{
			"team": {"ana", "bo", "chen", "dee"}, "security": {"chen", "eve"}, "oncall": {"fay"},
		},
		Owners: map[string][]string{caller: {"dee"}},
	}
	for _, name := range []string{"ana", "bo", "chen", "dee", "eve", "fay", "gus"} {
		dir.People[name] = approvals.Person{Name: name, Slack: "U-" + name, Email: name + "@example.com"}
	}
	return dir
}

func set(n int, from ...string) approvals.ApproverSet {
	return approvals.ApproverSet{From: from, Approvals: n}
}

func stage(name string, need ...approvals.ApproverSet) approvals.Stage {
	return approvals.Stage{Name: name, Need: need, Denials: 1}
}

func planOf(stages ...approvals.Stage) approvals.Plan {
	return approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: "policy-digest",
		UpstreamDigest: upstream, Stages: stages, ExpiresIn: 24 * time.Hour, ExecuteWithin: 15 * time.Minute,
	}
}

func submission() approvals.Submission {
	return approvals.Submission{
		ID: ticketID, Caller: caller, Justification: "customer asked for erasure, case 991",
		Call: approvals.Call{
			Upstream: "billing", Method: "DELETE", Path: "/customers/42", Query: "force=true",
			Headers: []approvals.Header{{Name: "Accept", Value: "application/json"}}, Body: []byte(`{"reason":"gdpr"}`),
		},
		Metadata: map[string]string{"case": "991"},
		Callback: &approvals.Callback{URL: "https://hooks.example.com/countersign"},
	}
}

func submit(t *testing.T, plan approvals.Plan, dir approvals.Directory) approvals.Ticket {
	t.Helper()
	tr, err := approvals.Submit(submission(), plan, dir, start)
	require.NoError(t, err)
	return tr.Ticket
}

func person(name string) approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorPerson, Name: name, Via: "slack", Ref: "T0/U-" + name}
}

func client() approvals.Actor {
	return approvals.Actor{Kind: approvals.ActorCaller, Name: caller, Via: "api"}
}

// vote decides on what the ticket holds and shows now.
func vote(t approvals.Ticket, name string, v approvals.Verdict, dir approvals.Directory, now time.Time) (approvals.Transition, error) {
	return t.Decide(person(name), approvals.Decision{Person: name, Verdict: v, Stage: t.Stage, Digest: t.Digest}, dir, now)
}

// must takes what a verb returned and insists that it was not refused.
func must(t *testing.T) func(approvals.Transition, error) approvals.Ticket {
	t.Helper()
	return func(tr approvals.Transition, err error) approvals.Ticket {
		t.Helper()
		require.NoError(t, err)
		return tr.Ticket
	}
}

// approved is a ticket with every yes it needs, one minute in.
func approved(t *testing.T, edit func(*approvals.Plan)) approvals.Ticket {
	t.Helper()
	plan := planOf(stage("peer", set(1, "team")))
	if edit != nil {
		edit(&plan)
	}
	tk := must(t)(vote(submit(t, plan, office()), "ana", approvals.Approve, office(), after(time.Minute)))
	require.Equal(t, approvals.Approved, tk.State)
	return tk
}

// executing is an approved ticket whose call has begun under epoch 1, two minutes in.
func executing(t *testing.T, edit func(*approvals.Plan)) approvals.Ticket {
	t.Helper()
	tk := must(t)(approved(t, edit).Claim(worker, office(), approved(t, edit).Plan, after(2*time.Minute)))
	tk = must(t)(tk.BeginExecution(1, worker, tk.Digest, office(), tk.Plan, after(2*time.Minute)))
	require.Equal(t, approvals.Executing, tk.State)
	return tk
}

func idempotent(p *approvals.Plan) { p.Idempotent = true }

func answer(status int) approvals.Outcome {
	o := approvals.Outcome{Kind: approvals.Answered, Success: status < 300, Result: &approvals.Result{
		ResultSummary: approvals.ResultSummary{Status: status, Size: 2, Digest: "d", DurationMS: 7, ExecutedAt: after(time.Minute)},
		Headers:       []approvals.Header{{Name: "Content-Type", Value: "application/json"}}, Body: []byte("{}"),
	}}
	if !o.Success {
		o.Problem = &approvals.Problem{Code: "upstream_status", Detail: "upstream answered outside the success set"}
	}
	return o
}

func outcome(kind approvals.OutcomeKind) approvals.Outcome {
	return approvals.Outcome{Kind: kind, Problem: &approvals.Problem{Code: string(kind), Detail: "no answer"}}
}

func requireCode(t *testing.T, want approvals.Code, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, approvals.ErrorCode(err), "%v", err)
}

func types(events []approvals.Event) []approvals.EventType {
	var out []approvals.EventType
	for _, e := range events {
		out = append(out, e.Type)
	}
	return out
}
