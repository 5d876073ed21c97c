package approvals_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // one of our own files
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "run the test with -update if the change is meant")
}

// situation is a ticket at a point of its life, reached through verbs only.
type situation struct {
	name   string
	ticket approvals.Ticket
	now    time.Time // some time later, well before any deadline
}

type action struct {
	name string
	do   func(approvals.Ticket, time.Time) (approvals.Transition, error)
}

func twoStages() approvals.Plan {
	p := planOf(stage("peer", set(2, "team")), stage("security", set(1, "security")))
	p.Stages[0].RemindEvery = 15 * time.Minute
	p.Stages[0].Escalate = []approvals.Tier{{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}}
	p.BreakGlass = &approvals.BreakGlass{From: []string{"fay"}}
	return p
}

// nobody is the office after everybody has left every group.
func nobody() approvals.Directory {
	dir := office()
	dir.Groups = map[string][]string{"team": nil, "security": nil, "oncall": nil}
	return dir
}

// stricter is a plan that asks security as well, of a policy that came later.
func stricter(p approvals.Plan) approvals.Plan {
	p.PolicyDigest = "policy-of-today"
	p.Stages = append(slices.Clone(p.Stages), stage("more", set(1, "eve")))
	return p
}

// later is a ticket whose call is to be made in an hour.
func later(t *testing.T) approvals.Ticket {
	t.Helper()
	s := submission()
	s.NotBefore = after(time.Hour)
	return must(t)(approvals.Submit(s, planOf(stage("peer", set(1, "team"))), office(), start))
}

func situations(t *testing.T) []situation {
	t.Helper()
	dir, m := office(), time.Minute
	ok := must(t)
	pending := submit(t, twoStages(), dir)
	short := ok(vote(pending, "ana", approvals.Approve, dir, after(m)))
	asked := ok(short.Ask(person("bo"), approvals.Question{Person: "bo", Text: "why?"}, dir, after(m)))
	second := ok(vote(short, "bo", approvals.Approve, dir, after(m)))
	moot := ok(second.Ask(person("chen"), approvals.Question{Person: "chen", Text: "why?"}, dir, after(m)))
	free, again := approved(t, nil), approved(t, idempotent)
	inFlight, retried := executing(t, nil), executing(t, idempotent)
	held := ok(vote(later(t), "ana", approvals.Approve, dir, after(m)))
	released := ok(retried.FinishExecution(1, worker, outcome(approvals.Unknown), after(3*m)))
	denied := planOf()
	denied.Action, denied.Reason = approvals.ActionDeny, "no rule matches this call"
	at := after(4 * m)
	return []situation{
		{"pending, nobody voted", pending, at},
		{"pending, one short", short, at},
		{"pending, last stage", second, at},
		{"pending, to be made later", later(t), at},
		{"pending, stalled", ok(second.Reassess(nobody(), at)), at},
		{"needs_info, one short", asked, at},
		{"needs_info, last stage", moot, at},
		{"approved", free, at},
		{"approved, held", held, at},
		{"approved, released", ok(held.Release(after(time.Hour))), after(61 * m)},
		{"approved, claimed", ok(free.Claim(worker, dir, free.Plan, at)), at},
		{"approved, idempotent, claimed", ok(again.Claim(worker, dir, again.Plan, at)), at},
		{"executing", inFlight, at},
		{"executing, cancel requested", ok(inFlight.Cancel(client(), "", at)), at},
		{"executing, idempotent", retried, at},
		{"executing, idempotent, released", released, at},
		{"executing, idempotent, claimed again", ok(released.Claim(worker, dir, released.Plan, at)), at},
		{"succeeded", ok(inFlight.FinishExecution(1, worker, answer(200), at)), at},
		{"failed", ok(inFlight.FinishExecution(1, worker, answer(500), at)), at},
		{"outcome_unknown", ok(inFlight.Abandon(1, at)), at},
		{"denied", submit(t, denied, dir), at},
		{"expired", ok(pending.Expire(pending.ExpiresAt)), pending.ExpiresAt.Add(m)},
		{"cancelled", ok(pending.Cancel(client(), "", at)), at},
	}
}

func actions() []action {
	dir := office()
	gone := office()
	gone.Groups["team"] = nil
	decide := func(name string, v approvals.Verdict) func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return vote(t, name, v, dir, now)
		}
	}
	bypass := func(name, comment string) func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			d := approvals.Decision{Person: name, Verdict: approvals.GlassBroken, Stage: t.Stage, Digest: t.Digest, Comment: comment}
			return t.Decide(person(name), d, dir, now)
		}
	}
	look := func(name, digest string) func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.View(person(name), approvals.Viewing{Person: name, Digest: t.Digest + digest, Rendered: "r", Pages: 2}, dir, now)
		}
	}
	finish := func(o approvals.Outcome) func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.FinishExecution(t.Epoch, worker, o, now)
		}
	}
	begin := func(d approvals.Directory, epoch int64, digest string) func(approvals.Ticket, time.Time) (approvals.Transition, error) {
		return func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch+epoch, worker, t.Digest+digest, d, t.Plan, now)
		}
	}
	delivery := approvals.DeliveryAttempt{Seq: 1, Number: 1, Status: 200}
	latest := func(t approvals.Ticket, a approvals.DeliveryAttempt) approvals.DeliveryAttempt {
		if t.CallbackSeq > 0 {
			a.Seq = t.CallbackSeq
		}
		return a
	}
	return []action{
		{"Decide approve, eligible (bo)", decide("bo", approvals.Approve)},
		{"Decide approve, eligible (eve)", decide("eve", approvals.Approve)},
		{"Decide approve, again (ana)", decide("ana", approvals.Approve)},
		{"Decide approve, stranger (gus)", decide("gus", approvals.Approve)},
		{"Decide approve, self (dee)", decide("dee", approvals.Approve)},
		{"Decide approve, past expires_at", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return vote(t, "bo", approvals.Approve, dir, t.ExpiresAt)
		}},
		{"Decide approve, other stage", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Decide(person("bo"), approvals.Decision{Person: "bo", Verdict: approvals.Approve, Stage: t.Stage + 1, Digest: t.Digest}, dir, now)
		}},
		{"Decide approve, other digest", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Decide(person("bo"), approvals.Decision{Person: "bo", Verdict: approvals.Approve, Stage: t.Stage, Digest: "x"}, dir, now)
		}},
		{"Decide deny, eligible (bo)", decide("bo", approvals.Deny)},
		{"Decide deny, eligible (eve)", decide("eve", approvals.Deny)},
		{"Decide deny, stranger (gus)", decide("gus", approvals.Deny)},
		{"Decide deny, self (dee)", decide("dee", approvals.Deny)},
		{"Decide break_glass, eligible (fay)", bypass("fay", "the house is on fire")},
		{"Decide break_glass, no comment (fay)", bypass("fay", " ")},
		{"Decide break_glass, stranger (bo)", bypass("bo", "the house is on fire")},
		{"Stranger", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Stranger(approvals.Actor{Kind: approvals.ActorStranger, Name: "U0X", Via: "slack"}, "approve", now)
		}},
		{"Refuse", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Refuse(person("bo"), "resolve", &approvals.Error{Code: approvals.CodeNotOperator, Message: "no"}, now)
		}},
		{"View (bo)", look("bo", "")},
		{"View, answers for it (dee)", look("dee", "")},
		{"View, stranger (gus)", look("gus", "")},
		{"View, other digest", look("bo", "x")},
		{"Ask (bo)", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Ask(person("bo"), approvals.Question{Person: "bo", Text: "why?"}, dir, now)
		}},
		{"Ask (eve)", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Ask(person("eve"), approvals.Question{Person: "eve", Text: "why?"}, dir, now)
		}},
		{"Answer", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Answer(client(), "because", now)
		}},
		{"Answer, past expires_at", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Answer(client(), "because", t.ExpiresAt)
		}},
		{"Remind, due", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Remind(t.Stage, t.Reminders+1, t.StageSince.Add(15*time.Minute))
		}},
		{"Remind, early", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Remind(t.Stage, t.Reminders+1, now)
		}},
		{"Remind, past expires_at", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Remind(t.Stage, t.Reminders+1, t.ExpiresAt)
		}},
		{"Remind, other number", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Remind(t.Stage, t.Reminders+2, t.StageSince.Add(time.Hour))
		}},
		{"Escalate, due", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Escalate(t.Stage, 1, dir, t.StageSince.Add(30*time.Minute))
		}},
		{"Escalate, early", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Escalate(t.Stage, 1, dir, now)
		}},
		{"Escalate, past expires_at", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Escalate(t.Stage, 1, dir, t.ExpiresAt)
		}},
		{"Expire, due", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			if t.State == approvals.Approved {
				return t.Expire(t.ExecuteBy)
			}
			return t.Expire(t.ExpiresAt)
		}},
		{"Expire, early", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Expire(now) }},
		{"Wake, due", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			if t.WakeAt.IsZero() {
				return t.Wake(dir, now)
			}
			return t.Wake(dir, t.WakeAt)
		}},
		{"Wake, early", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Wake(dir, now) }},
		{"Reassess", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Reassess(dir, now) }},
		{"Reassess, everybody gone", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Reassess(nobody(), now)
		}},
		{"Reassess, past expires_at", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Reassess(dir, t.ExpiresAt)
		}},
		{"Release, due", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Release(after(time.Hour))
		}},
		{"Release, early", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Release(now) }},
		{"Release, past execute_by", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) { return t.Release(t.ExecuteBy) }},
		{"Supersede", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Supersede(client(), "tkt_01kmkc3e8q2h5v7n4c6d0x1r7r", now)
		}},
		{"Cancel", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Cancel(client(), "never mind", now)
		}},
		{"Claim", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Claim("worker-2", dir, t.Plan, now)
		}},
		{"Claim, past execute_by", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.Claim("worker-2", dir, t.Plan, t.ExecuteBy)
		}},
		{"Claim, approver gone", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Claim("worker-2", gone, t.Plan, now)
		}},
		{"Claim, policy stricter", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Claim("worker-2", dir, stricter(t.Plan), now)
		}},
		{"Claim, policy denies", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Claim("worker-2", dir, approvals.Plan{Action: approvals.ActionDeny, Reason: "no"}, now)
		}},
		{"BeginExecution", begin(dir, 0, "")},
		{"BeginExecution, policy stricter", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch, worker, t.Digest, dir, stricter(t.Plan), now)
		}},
		{"BeginExecution, other epoch", begin(dir, 1, "")},
		{"BeginExecution, other digest", begin(dir, 0, "x")},
		{"BeginExecution, approver gone", begin(gone, 0, "")},
		{"BeginExecution, past execute_by", func(t approvals.Ticket, _ time.Time) (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch, worker, t.Digest, dir, t.Plan, t.ExecuteBy)
		}},
		{"BeginExecution, other worker", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.BeginExecution(t.Epoch, "worker-2", t.Digest, dir, t.Plan, now)
		}},
		{"FinishExecution, answered 200", finish(answer(200))},
		{"FinishExecution, answered 500", finish(answer(500))},
		{"FinishExecution, not_sent", finish(outcome(approvals.NotSent))},
		{"FinishExecution, unknown", finish(outcome(approvals.Unknown))},
		{"FinishExecution, other epoch", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.FinishExecution(t.Epoch+1, worker, answer(200), now)
		}},
		{"Abandon", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) { return t.Abandon(t.Epoch, now) }},
		{"Abandon, other epoch", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Abandon(t.Epoch+1, now)
		}},
		{"Resolve, succeeded", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Resolve(person("ana"), true, "seen in the ledger", now)
		}},
		{"Resolve, failed", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Resolve(person("ana"), false, "not in the ledger", now)
		}},
		{"Delivered", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Delivered(worker, latest(t, delivery), now)
		}},
		{"DeliveryFailed, to be retried", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			a := latest(t, delivery)
			a.NextAt = now.Add(time.Minute)
			return t.DeliveryFailed(worker, a, now)
		}},
		{"DeliveryFailed, for good", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.DeliveryFailed(worker, latest(t, delivery), now)
		}},
		{"RequestRedelivery", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.RequestRedelivery(person("ana"), latest(t, delivery).Seq, 2, now)
		}},
		{"Notified", func(t approvals.Ticket, now time.Time) (approvals.Transition, error) {
			return t.Notified(worker, approvals.Card{Stage: t.Stage, Channel: "C1", TS: "1.2"}, now)
		}},
	}
}

// line renders one cell of the table: what the verb made of the ticket.
func line(name string, before approvals.Ticket, tr approvals.Transition, err error) string {
	var b strings.Builder
	to := before.State
	if !tr.Empty() {
		to = tr.Ticket.State
	}
	fmt.Fprintf(&b, "  %-36s -> %-15s", name, to)
	if err != nil {
		fmt.Fprintf(&b, " !%s", approvals.ErrorCode(err))
	}
	for _, e := range tr.Events {
		fmt.Fprintf(&b, " %s", strings.TrimPrefix(string(e.Type), "ticket."))
	}
	if len(tr.Effects) > 0 {
		b.WriteString(" |")
	}
	for _, e := range tr.Effects {
		fmt.Fprintf(&b, " %s", strings.TrimPrefix(fmt.Sprintf("%T", e), "approvals."))
	}
	return b.String() + "\n"
}

func TestTransitionTableIsGolden(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for _, s := range situations(t) {
		fmt.Fprintf(&b, "%s\n", s.name)
		for _, a := range actions() {
			tr, err := a.do(s.ticket, s.now)
			b.WriteString(line(a.name, s.ticket, tr, err))
		}
		b.WriteString("\n")
	}
	golden(t, "transitions.golden", []byte(b.String()))
}

func TestVerbsReachEveryLegalEdgeAndNoOther(t *testing.T) {
	t.Parallel()
	reached := map[[2]approvals.State]bool{}
	seen := map[approvals.State]bool{}
	for _, s := range situations(t) {
		seen[s.ticket.State] = true
		for _, a := range actions() {
			tr, _ := a.do(s.ticket, s.now)
			from := s.ticket.State
			for _, e := range tr.Events {
				require.True(t, approvals.Legal(from, e.State), "%s: %s goes from %s to %s", s.name, a.name, from, e.State)
				reached[[2]approvals.State{from, e.State}] = true
				from = e.State
			}
		}
	}
	for _, from := range approvals.States() {
		require.True(t, seen[from], "no situation is %s", from)
		for _, to := range approvals.States() {
			if from != to && approvals.Legal(from, to) {
				require.True(t, reached[[2]approvals.State{from, to}], "no verb goes from %s to %s", from, to)
			}
		}
	}
}

func TestVerbsUseEveryEventTypeAndEffect(t *testing.T) {
	t.Parallel()
	events := map[approvals.EventType]bool{approvals.EventCreated: true}
	effects := map[string]bool{}
	for _, s := range situations(t) {
		for _, a := range actions() {
			tr, _ := a.do(s.ticket, s.now)
			for _, e := range tr.Events {
				events[e.Type] = true
			}
			for _, e := range tr.Effects {
				effects[fmt.Sprintf("%T", e)] = true
			}
		}
	}
	for _, typ := range approvals.EventTypes() {
		require.True(t, events[typ], "no verb records %s", typ)
	}
	require.Len(t, effects, 8, "Notify, UpdateCard, RemindAt, EscalateAt, ExpireAt, ReleaseAt, Execute, Deliver")
}

// TestTableHasEveryVerb: a verb that is added later is in the table, too.
func TestTableHasEveryVerb(t *testing.T) {
	t.Parallel()
	in := map[string]bool{}
	for _, a := range actions() {
		name, _, _ := strings.Cut(a.name, ",")
		name, _, _ = strings.Cut(name, " ")
		in[name] = true
	}
	verbs := 0
	typ := reflect.TypeFor[approvals.Ticket]()
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		if m.Type.NumOut() == 2 && m.Type.Out(0) == reflect.TypeFor[approvals.Transition]() {
			verbs++
			require.True(t, in[m.Name], "%s is not in the table", m.Name)
		}
	}
	require.Greater(t, verbs, 15)
}

func TestFinalStatesLeadNowhereButOutOfDoubt(t *testing.T) {
	t.Parallel()
	for _, from := range approvals.States() {
		for _, to := range approvals.States() {
			doubt := from == approvals.OutcomeUnknown && (to == approvals.Succeeded || to == approvals.Failed)
			if from.Final() && from != to && !doubt {
				require.False(t, approvals.Legal(from, to), "%s to %s", from, to)
			}
		}
	}
	require.False(t, approvals.State("bogus").Final())
	require.False(t, approvals.State("bogus").Open())
	require.Len(t, approvals.CallbackStates(), 4)
}
