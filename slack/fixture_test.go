package slack_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	slackgo "github.com/slack-go/slack"
	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
	"countersign/slack/emulator"
)

const (
	handle   = "h_5f0c9c3e7f6e4b8aa1d2c07b94e61f38"
	ticketID = "tkt_01k9w3e8q2h5v7n4c6d0x1r7q4"
	channel  = "C01BILLING"
)

const emulatorToken slack.Secret = "xoxb-emulator" //nolint:gosec // the emulator's own

// fingerprintKey is what an install has for its own.
var fingerprintKey = []byte("the key of this install")

func fingerprintOf(ticket approvals.Ticket) string {
	return approvals.Fingerprint(fingerprintKey, ticket.Digest)
}

var start = time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)

func directory() approvals.Directory {
	return approvals.Directory{
		People: map[string]approvals.Person{
			"ana": {Name: "ana", Slack: "U02ANA"}, "bo": {Name: "bo", Slack: "U02BO"},
			"chen": {Name: "chen", Slack: "U02CHEN"}, "dan": {Name: "dan", Slack: "U02DAN"}, "dev": {Name: "dev", Slack: "U02DEV"}, "eve": {Name: "eve"},
		},
		Groups: map[string][]string{"billing-team": {"ana", "bo", "chen"}, "security": {"bo", "chen", "eve"}, "oncall": {"dev"}},
		Owners: map[string][]string{"payroll-bot": {"ana"}},
	}
}

func plan() approvals.Plan {
	return approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: "p1", UpstreamDigest: "u1",
		ExpiresIn: 24 * time.Hour, ExecuteWithin: 15 * time.Minute, Excluded: []string{"ana"},
		Stages: []approvals.Stage{{
			Name: "security", Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 2}}, Denials: 1,
			Escalate: []approvals.Tier{{After: 15 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}},
		}},
	}
}

func twoStages() approvals.Plan {
	p := plan()
	peer := approvals.Stage{Name: "peer", Need: []approvals.ApproverSet{{From: []string{"oncall"}, Approvals: 1}}, Denials: 1}
	p.Stages = []approvals.Stage{peer, p.Stages[0]}
	return p
}

func submission() approvals.Submission {
	return approvals.Submission{
		ID: ticketID, Caller: "payroll-bot", OnBehalfOf: "ana",
		Call: approvals.Call{
			Upstream: "billing-admin", Method: "DELETE", Path: "/customers/42", Query: "hard=true",
			Headers: []approvals.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Api-Token", Value: "s3cr3t-canary"}},
			Body:    []byte(`{"reason":"gdpr erasure"}`),
		},
		Justification: "Customer asked for erasure",
		Callback:      &approvals.Callback{URL: "https://payroll.example.com/hooks/countersign"},
	}
}

// submitted returns a ticket just submitted. What it holds is put in afterwards, since a
// card must be right for more than the domain lets in.
func submitted(t *testing.T, s approvals.Submission, p approvals.Plan) approvals.Ticket {
	t.Helper()
	harmless := submission()
	harmless.Caller, harmless.NotBefore, harmless.Supersedes = s.Caller, s.NotBefore, s.Supersedes
	tr, err := approvals.Submit(harmless, p, directory(), start)
	require.NoError(t, err)
	ticket := tr.Ticket
	ticket.Call, ticket.OnBehalfOf, ticket.Justification, ticket.Callback = s.Call, s.OnBehalfOf, s.Justification, s.Callback
	ticket.Digest = ticket.Binding(p.UpstreamDigest).Digest()
	return ticket
}

func decided(t *testing.T, ticket approvals.Ticket, person string, verdict approvals.Verdict, comment string) approvals.Ticket {
	t.Helper()
	tr, err := ticket.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}, approvals.Decision{
		Person: person, Verdict: verdict, Stage: ticket.Stage, Digest: ticket.Digest, Comment: comment,
	}, directory(), start.Add(16*time.Minute))
	require.NoError(t, err)
	return tr.Ticket
}

func approved(t *testing.T, ticket approvals.Ticket, people ...string) approvals.Ticket {
	t.Helper()
	for _, p := range people {
		ticket = decided(t, ticket, p, approvals.Approve, "")
	}
	return ticket
}

func next(t *testing.T, tr approvals.Transition, err error) approvals.Ticket {
	t.Helper()
	require.NoError(t, err)
	return tr.Ticket
}

func executing(t *testing.T, ticket approvals.Ticket) approvals.Ticket {
	t.Helper()
	now := start.Add(17 * time.Minute)
	tr, err := ticket.Claim("w1", directory(), ticket.Plan, now)
	ticket = next(t, tr, err)
	tr, err = ticket.BeginExecution(ticket.Epoch, "w1", ticket.Digest, directory(), ticket.Plan, now)
	return next(t, tr, err)
}

func finished(t *testing.T, ticket approvals.Ticket, o approvals.Outcome) approvals.Ticket {
	t.Helper()
	tr, err := ticket.FinishExecution(ticket.Epoch, "w1", o, start.Add(18*time.Minute))
	return next(t, tr, err)
}

func answered(status int, success bool) approvals.Outcome {
	return approvals.Outcome{Kind: approvals.Answered, Success: success, Result: &approvals.Result{
		ResultSummary: approvals.ResultSummary{Status: status, DurationMS: 312, Size: 2, ExecutedAt: start},
	}}
}

// viewOf is what the card of a stage is rendered from.
func viewOf(ticket approvals.Ticket, stage int) slack.View {
	return slack.View{
		Ticket: ticket, Tally: tallyOf(ticket, stage), Directory: directory(), Now: start.Add(20 * time.Minute), Stage: stage, Handle: handle,
		PublicURL: "https://countersign.example.com", BaseURL: "https://billing.internal/v1", Fingerprint: fingerprintOf(ticket),
	}
}

// pendingView is the view of a ticket whose submission was changed by edit.
func pendingView(t *testing.T, edit func(*approvals.Submission, *approvals.Plan)) slack.View {
	t.Helper()
	s, p := submission(), plan()
	if edit != nil {
		edit(&s, &p)
	}
	return viewOf(submitted(t, s, p), 0)
}

// literals are the texts that Slack shows as they are, and mrkdwn those it interprets.
type texts struct{ literals, mrkdwn []string }

func textsOf(t *testing.T, blocks any) texts {
	t.Helper()
	raw, err := json.Marshal(blocks)
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(raw, &tree))
	var out texts
	out.collect(tree)
	return out
}

func (x *texts) collect(node any) {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			x.collect(child)
		}
	case map[string]any:
		if text, ok := n["text"].(string); ok {
			if n["type"] == "mrkdwn" {
				x.mrkdwn = append(x.mrkdwn, text)
			} else {
				x.literals = append(x.literals, text)
			}
		}
		for _, child := range n {
			x.collect(child)
		}
	}
}

func (x texts) all() string { return strings.Join(slices.Concat(x.literals, x.mrkdwn), "\n") }

// pretty is v as JSON to read: indented, with sorted keys, without HTML escapes.
func pretty(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	var tree any
	require.NoError(t, json.Unmarshal(raw, &tree))
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(tree))
	return buf.String()
}

func block(m slack.Message, id string) slackgo.Block {
	for _, b := range m.Blocks {
		if b.ID() == id {
			return b
		}
	}
	return nil
}

func buttons(m slack.Message) (ids []string) {
	if b, ok := block(m, "act").(*slackgo.ActionBlock); ok {
		for _, e := range b.Elements.ElementSet {
			ids = append(ids, e.(*slackgo.ButtonBlockElement).ActionID)
		}
	}
	return ids
}

// workspace starts a Slack emulator and a client for it.
func workspace(t *testing.T) (*emulator.Server, *slack.Client) {
	t.Helper()
	emu := emulator.New(emulator.Config{Workspace: emulator.Demo()})
	srv := httptest.NewServer(emu)
	t.Cleanup(srv.Close)
	t.Cleanup(emu.Close)
	emu.SetBaseURL(srv.URL)
	client, err := slack.New(slack.Config{Token: emulatorToken, APIURL: srv.URL + "/api/", HTTP: srv.Client()})
	require.NoError(t, err)
	return emu, client
}

// tallyOf is the tally of a stage that may not be there.
func tallyOf(ticket approvals.Ticket, stage int) approvals.Tally {
	if stage < 0 || stage >= len(ticket.Plan.Stages) {
		return approvals.Tally{}
	}
	return ticket.Tally(stage, directory())
}
