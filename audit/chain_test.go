package audit_test

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"countersign/approvals"
	"countersign/audit"
)

var directory = approvals.Directory{
	People: map[string]approvals.Person{"ana": {Name: "ana"}, "bo": {Name: "bo"}, "chen": {Name: "chen"}, "dora": {Name: "dora"}},
	Groups: map[string][]string{"security": {"ana", "bo", "chen", "dora"}},
	Owners: map[string][]string{"payroll-bot": {"dora"}},
}

// submission asks two stages of one approval each; the second may escalate.
func submission() (approvals.Submission, approvals.Plan) {
	set := []approvals.ApproverSet{{From: []string{"security"}, Approvals: 1}}
	sub := approvals.Submission{
		ID: approvals.TicketID(uuid.Max), Caller: "payroll-bot",
		Call:     approvals.Call{Upstream: "billing", Method: "DELETE", Path: "/customers/42", Body: []byte("{}")},
		Callback: &approvals.Callback{URL: "https://hooks.example.com", Events: []approvals.EventType{approvals.EventApproved}},
		Metadata: map[string]string{"case": "991"},
	}
	return sub, approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: "p", UpstreamDigest: "u", Idempotent: true,
		ExpiresIn: time.Hour, ExecuteWithin: 15 * time.Minute,
		BreakGlass: &approvals.BreakGlass{From: []string{"chen"}},
		Stages: []approvals.Stage{
			{Name: "peer", Need: set, Denials: 2, RemindEvery: time.Minute},
			{
				Name: "security", Need: set, Denials: 1,
				Escalate: []approvals.Tier{{After: time.Minute, To: []string{"bo"}, Mode: approvals.ModeAdd}},
			},
		},
	}
}

// story is a life that is written down: events go in, sealed entries come out.
type story struct {
	ticket  approvals.Ticket
	now     time.Time
	entries []audit.Entry
}

func begin() *story { return beginAfter(time.Time{}) }

// beginAfter begins with a call that waits for its hour.
func beginAfter(hour time.Time) *story {
	s := &story{now: at}
	sub, plan := submission()
	sub.NotBefore = hour
	tr, err := approvals.Submit(sub, plan, directory, s.now)
	if err != nil {
		panic(err)
	}
	s.write(tr)
	return s
}

func (s *story) write(tr approvals.Transition) {
	if tr.Empty() {
		return
	}
	head := audit.Genesis(tr.Ticket.ID)
	if len(s.entries) > 0 {
		head = s.entries[len(s.entries)-1].Hash
	}
	for _, e := range tr.Events {
		entry, err := audit.Seal(e, head)
		if err != nil {
			panic(err)
		}
		s.entries, head = append(s.entries, entry), entry.Hash
	}
	s.ticket = tr.Ticket
}

// stricter is what a later policy demands of the call: one approval more in each stage.
func stricter() approvals.Plan {
	_, plan := submission()
	plan.PolicyDigest, plan.Redact = "p2", []string{"body.ssn"}
	plan.Stages = []approvals.Stage{{
		Name: "both", Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 3}}, Denials: 1,
	}}
	return plan
}

func (s *story) decide(person string, v approvals.Verdict) {
	tr, _ := s.ticket.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"},
		approvals.Decision{Person: person, Verdict: v, Stage: s.ticket.Stage, Digest: s.ticket.Digest}, directory, s.now)
	s.write(tr)
}

func (s *story) verify() error { return audit.VerifyChain(s.ticket.ID, s.entries) }

// reseal writes the entries from i on anew, each with the hashes that fit, as somebody
// would who owns the database and knows this package.
func (s *story) reseal(i int) {
	for ; i < len(s.entries); i++ {
		head := audit.Genesis(s.ticket.ID)
		if i > 0 {
			head = s.entries[i-1].Hash
		}
		s.entries[i], _ = audit.Seal(s.entries[i].Event, head)
	}
}

// whole is a trail of six events: created, decided, stage_completed, refused, decided, approved.
func whole(tb testing.TB) *story {
	tb.Helper()
	s := begin()
	s.decide("ana", approvals.Approve)
	s.decide("dora", approvals.Approve)
	s.decide("bo", approvals.Approve)
	require.Len(tb, s.entries, 6)
	require.NoError(tb, s.verify())
	return s
}

func requireFault(tb testing.TB, err error, class audit.Class, seq int64, doing string) {
	tb.Helper()
	var fault *audit.Fault
	require.True(tb, errors.As(err, &fault), "%s: got %v, want a fault", doing, err)
	require.Equal(tb, class, fault.Class, "%s: %v", doing, err)
	require.Equal(tb, seq, fault.Seq, "%s: %v", doing, err)
	require.Contains(tb, err.Error(), string(class), doing)
}

func TestEveryTamperingIsNamedForWhatItIs(t *testing.T) {
	t.Parallel()
	other := whole(t)
	other.ticket.ID = approvals.TicketID(uuid.Nil)
	for i := range other.entries {
		other.entries[i].Event.TicketID = other.ticket.ID
	}
	other.reseal(0)
	require.NoError(t, other.verify())

	tests := map[string]struct {
		class  audit.Class
		seq    int64
		tamper func(*story)
	}{
		"a byte of the canonical form is changed": {audit.ClassHash, 4, func(s *story) {
			b := s.entries[3].Canon
			i := bytes.Index(b, []byte("dora"))
			b[i] = 'c'
		}},
		"the hash is changed": {audit.ClassHash, 4, func(s *story) { s.entries[3].Hash[0] ^= 1 }},
		"the canonical form is cut": {audit.ClassCanon, 4, func(s *story) {
			s.entries[3].Canon = s.entries[3].Canon[:20]
		}},
		"the canonical form is gone":   {audit.ClassCanon, 1, func(s *story) { s.entries[0].Canon = nil }},
		"the previous hash is changed": {audit.ClassLink, 4, func(s *story) { s.entries[3].Prev[0] ^= 1 }},
		"an event is rewritten with its hash": {audit.ClassLink, 5, func(s *story) {
			s.entries[3].Event.Actor.Name = "chen"
			s.entries[3], _ = audit.Seal(s.entries[3].Event, s.entries[2].Hash)
		}},
		"an event is bound to another one before it": {audit.ClassLink, 6, func(s *story) {
			s.entries[5], _ = audit.Seal(s.entries[5].Event, audit.Hash{1})
		}},
		"the same, with a column that says otherwise": {audit.ClassLink, 6, func(s *story) {
			s.entries[5], _ = audit.Seal(s.entries[5].Event, audit.Hash{1})
			s.entries[5].Prev = s.entries[4].Hash
		}},
		"the chain begins somewhere else": {audit.ClassLink, 1, func(s *story) {
			s.entries[0], _ = audit.Seal(s.entries[0].Event, audit.Hash{})
		}},
		"everything is gone":          {audit.ClassSequence, 1, func(s *story) { s.entries = nil }},
		"the first event is deleted":  {audit.ClassSequence, 1, func(s *story) { s.entries = s.entries[1:] }},
		"a middle event is deleted":   {audit.ClassSequence, 3, func(s *story) { s.entries = slices.Delete(s.entries, 2, 3) }},
		"an event is there twice":     {audit.ClassSequence, 4, func(s *story) { s.entries = slices.Insert(s.entries, 3, s.entries[2]) }},
		"two events are swapped":      {audit.ClassSequence, 3, func(s *story) { s.entries[2], s.entries[3] = s.entries[3], s.entries[2] }},
		"an event of another ticket":  {audit.ClassSequence, 4, func(s *story) { s.entries[3] = other.entries[3] }},
		"the trail of another ticket": {audit.ClassSequence, 1, func(s *story) { s.entries = other.entries }},
		"a number is skipped and the chain forged": {audit.ClassSequence, 4, func(s *story) {
			for i := 3; i < len(s.entries); i++ {
				s.entries[i].Event.Seq++
			}
			s.reseal(3)
		}},
		"a state is skipped and the chain forged": {audit.ClassReplay, 6, func(s *story) {
			s.entries[5].Event.Type, s.entries[5].Event.State = approvals.EventExecuting, approvals.Executing
			s.reseal(5)
		}},
		"a note moves the ticket": {audit.ClassReplay, 4, func(s *story) {
			s.entries[3].Event.State = approvals.Approved
			s.reseal(3)
		}},
		"an approval that leaves it pending": {audit.ClassReplay, 6, func(s *story) {
			s.entries[5].Event.State = approvals.Pending
			s.reseal(5)
		}},
		"an event of no known type": {audit.ClassReplay, 4, func(s *story) {
			s.entries[3].Event.Type = "ticket.blessed"
			s.reseal(3)
		}},
		"a state that does not exist": {audit.ClassReplay, 1, func(s *story) {
			s.entries[0].Event.State = "blessed"
			s.reseal(0)
		}},
		"a life that begins approved": {audit.ClassReplay, 1, func(s *story) {
			s.entries = s.entries[5:]
			s.entries[0].Event.Seq = 1
			s.reseal(0)
		}},
		"a life that begins twice": {audit.ClassReplay, 4, func(s *story) {
			e := s.entries[0].Event
			e.Seq = 4
			s.entries[3].Event = e
			s.reseal(3)
		}},
	}
	seen := make(map[audit.Class]bool)
	for name, test := range tests {
		s := whole(t)
		test.tamper(s)
		requireFault(t, s.verify(), test.class, test.seq, name)
		seen[test.class] = true
	}
	// Columns have tests of their own.
	require.ElementsMatch(t, []audit.Class{audit.ClassCanon, audit.ClassHash, audit.ClassLink, audit.ClassSequence, audit.ClassReplay},
		slices.Collect(maps.Keys(seen)), "every class has its case")
}

// TestAnEditedColumnIsFound edits each field of an event in turn, found by reflection so
// that a new one is not forgotten, and leaves the bytes alone.
func TestAnEditedColumnIsFound(t *testing.T) {
	t.Parallel()
	var edit func(v reflect.Value, path string, verify func(string))
	edit = func(v reflect.Value, path string, verify func(string)) {
		before := reflect.New(v.Type()).Elem()
		before.Set(v)
		switch {
		case v.Type() == reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(at.Add(-time.Microsecond)))
		case v.Type() == reflect.TypeFor[approvals.Data]():
			v.Set(reflect.ValueOf(approvals.Data{Reason: "forged"}))
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				edit(v.Field(i), path+"."+v.Type().Field(i).Name, verify)
			}
			return
		case v.Kind() == reflect.String:
			v.SetString(v.String() + "x")
		case v.CanInt():
			v.SetInt(v.Int() + 1)
		default:
			t.Fatalf("%s: how is a %s edited?", path, v.Type())
		}
		verify(path)
		v.Set(before)
	}
	s := whole(t)
	edited := 0
	edit(reflect.ValueOf(&s.entries[3].Event).Elem(), "Event", func(path string) {
		edited++
		requireFault(t, s.verify(), audit.ClassColumns, 4, path)
	})
	require.Equal(t, 10, edited)
	require.NoError(t, s.verify(), "with everything as it was")
}

// The column holds whatever its JSON says, also where Go would not look.
func TestAnEditedDataColumnIsFound(t *testing.T) {
	t.Parallel()
	s := whole(t)
	refused := `{"refusal": {"code": "self_approval", "tried": "approve", "message": "you count as the requester of this call and so cannot decide on it"}}`
	s.entries[3].Data = []byte(refused)
	require.NoError(t, s.verify(), "spacing and order are the database's")
	for name, data := range map[string]string{
		"a key more":        `{"approved_by": "ana", ` + refused[1:],
		"a key in capitals": `{"Refusal" ` + refused[len(`{"refusal"`):],
		"a key less":        `{}`,
		"null":              `null`,
		"another type":      `[]`,
		"no JSON":           `{`,
		"empty":             ``,
	} {
		s.entries[3].Data = []byte(data)
		requireFault(t, s.verify(), audit.ClassColumns, 4, name)
	}
}

// do writes down what a verb did, which must be something.
func (s *story) do(tb testing.TB, verb func(approvals.Ticket) (approvals.Transition, error)) {
	tb.Helper()
	tr, _ := verb(s.ticket) // a refusal is an event as well
	require.False(tb, tr.Empty(), "the verb did nothing")
	s.write(tr)
	require.NoError(tb, s.verify())
	for _, e := range tr.Events {
		canon, err := audit.Canon(e, audit.Hash{})
		require.NoError(tb, err)
		got, _, err := audit.Parse(canon)
		require.NoError(tb, err)
		require.Equal(tb, e, got, "an event read back from its bytes")
	}
}

// TestEveryKindOfEventVerifies lives through every type of event there is.
func TestEveryKindOfEventVerifies(t *testing.T) {
	t.Parallel()
	type ticket = approvals.Ticket
	type transition = approvals.Transition
	ana := approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "slack"}
	vote := func(person string, v approvals.Verdict) func(ticket) (transition, error) {
		return func(x ticket) (transition, error) {
			actor := approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}
			return x.Decide(actor, approvals.Decision{Person: person, Verdict: v, Stage: x.Stage, Digest: x.Digest, Comment: "seen"}, directory, at)
		}
	}
	cancel := func(x ticket) (transition, error) { return x.Cancel(ana, "no longer needed", at) }
	claim := func(x ticket) (transition, error) { return x.Claim("w1", directory, x.Plan, at) }
	execute := func(x ticket) (transition, error) {
		return x.BeginExecution(x.Epoch, "w1", x.Binding("u").Digest(), directory, x.Plan, at)
	}
	finish := func(o approvals.Outcome) func(ticket) (transition, error) {
		return func(x ticket) (transition, error) { return x.FinishExecution(x.Epoch, "w1", o, at) }
	}
	abandon := func(x ticket) (transition, error) { return x.Abandon(x.Epoch, at) }
	deliver := func(next time.Time) func(ticket) (transition, error) {
		return func(x ticket) (transition, error) {
			return x.DeliveryFailed("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 1, Error: "refused", NextAt: next}, at)
		}
	}
	withoutAna := approvals.Directory{People: directory.People, Groups: map[string][]string{"security": {"bo", "chen"}}}
	approved := []func(ticket) (transition, error){vote("ana", approvals.Approve), vote("bo", approvals.Approve)}
	lives := [][]func(ticket) (transition, error){
		{
			func(x ticket) (transition, error) { return x.Remind(0, 1, at.Add(time.Minute)) },
			func(x ticket) (transition, error) {
				return x.Notified("w1", approvals.Card{Channel: "C0X", TS: "1.2"}, at)
			},
			func(x ticket) (transition, error) {
				return x.View(ana, approvals.Viewing{Person: "ana", Digest: x.Digest, Rendered: "abc", Pages: 2}, directory, at)
			},
			func(x ticket) (transition, error) {
				return x.Ask(ana, approvals.Question{Person: "ana", Text: "why?"}, directory, at)
			},
			func(x ticket) (transition, error) { return x.Answer(ana, "because", at) },
			vote("ana", approvals.Approve),
			func(x ticket) (transition, error) {
				return x.Stranger(approvals.Actor{Kind: approvals.ActorStranger}, "deny", at)
			},
			func(x ticket) (transition, error) { return x.Escalate(1, 1, directory, at.Add(time.Minute)) },
			vote("bo", approvals.Approve),
			func(x ticket) (transition, error) { return x.Claim("w1", withoutAna, x.Plan, at) },
			vote("chen", approvals.Approve),
			claim, abandon, claim, execute, cancel, abandon,
			func(x ticket) (transition, error) { return x.Resolve(ana, true, "seen in the books", at) },
			deliver(at.Add(time.Second)), deliver(time.Time{}),
			func(x ticket) (transition, error) {
				return x.Delivered("w1", approvals.DeliveryAttempt{Seq: x.CallbackSeq, Number: 3, Status: 204}, at)
			},
			func(x ticket) (transition, error) { return x.RequestRedelivery(ana, x.CallbackSeq, 4, at) },
		},
		append(slices.Clone(approved), claim, execute, finish(approvals.Outcome{Kind: approvals.Answered, Success: true, Result: &approvals.Result{}})),
		append(slices.Clone(approved), claim, execute, finish(approvals.Outcome{Kind: approvals.NotSent, Problem: &approvals.Problem{Code: "dial"}})),
		{vote("ana", approvals.Deny), vote("bo", approvals.Deny)},
		{func(x ticket) (transition, error) { return x.Expire(x.ExpiresAt) }},
		{cancel},
		{vote("chen", approvals.GlassBroken), claim},
		{
			func(x ticket) (transition, error) { return x.Reassess(approvals.Directory{}, at) },
			func(x ticket) (transition, error) { return x.Reassess(directory, at) },
			func(x ticket) (transition, error) {
				return x.Supersede(ana, approvals.TicketID(uuid.Nil), at)
			},
		},
		append(slices.Clone(approved),
			func(x ticket) (transition, error) { return x.Claim("w1", directory, stricter(), at) },
			vote("ana", approvals.Approve), vote("bo", approvals.Approve), vote("chen", approvals.Approve),
			func(x ticket) (transition, error) { return x.Claim("w1", directory, stricter(), at) }),
		append(slices.Clone(approved), func(x ticket) (transition, error) { return x.Release(x.NotBefore) }),
	}
	seen := make(map[approvals.EventType]bool)
	for i, life := range lives {
		s := begin()
		if i == len(lives)-1 {
			s = beginAfter(at.Add(time.Minute))
		}
		for _, verb := range life {
			s.do(t, verb)
		}
		for _, e := range s.entries {
			seen[e.Event.Type] = true
		}
	}
	require.ElementsMatch(t, approvals.EventTypes(), slices.Collect(maps.Keys(seen)))
}

// TestNoLifeRaisesAFalseAlarm seals what random verbs do and verifies after each.
func TestNoLifeRaisesAFalseAlarm(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := beginAfter(rapid.SampledFrom([]time.Time{{}, at.Add(time.Minute)}).Draw(rt, "not before"))
		for range rapid.IntRange(1, 25).Draw(rt, "verbs") {
			s.now = s.now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, 20 * time.Minute}).Draw(rt, "later"))
			s.random(rt)
			if err := s.verify(); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// random does one thing to the ticket, possible or not, with a preference for what leads on.
func (s *story) random(rt *rapid.T) {
	t, dir := s.ticket, directory
	who := rapid.SampledFrom([]string{"ana", "bo", "chen", "dora", "eve"}).Draw(rt, "who")
	if rapid.IntRange(0, 9).Draw(rt, "leaves") == 0 { // somebody is no longer in the group
		dir = approvals.Directory{People: directory.People, Groups: map[string][]string{"security": {"bo", "chen"}}}
	}
	today := rapid.SampledFrom([]approvals.Plan{t.Plan, t.Plan, stricter()}).Draw(rt, "policy")
	actor := approvals.Actor{Kind: approvals.ActorPerson, Name: who, Via: "slack"}
	decision := approvals.Decision{Person: who, Verdict: approvals.Approve, Stage: t.Stage, Digest: t.Digest, Comment: "seen"}
	attempt := approvals.DeliveryAttempt{Seq: max(t.CallbackSeq, 1), Number: 1, Status: 500, NextAt: s.now.Add(time.Second)}
	outcome := rapid.SampledFrom([]approvals.Outcome{
		{Kind: approvals.Answered, Success: true, Result: &approvals.Result{}},
		{Kind: approvals.NotSent, Problem: &approvals.Problem{Code: "dial"}},
		{Kind: approvals.Unknown},
	}).Draw(rt, "outcome")
	two := func(tr approvals.Transition, _ error) approvals.Transition { return tr } // refusals count as well
	verbs := []func() approvals.Transition{
		func() approvals.Transition { return two(t.Decide(actor, decision, dir, s.now)) },
		func() approvals.Transition { return two(t.Decide(actor, decision, dir, s.now)) },
		func() approvals.Transition { return two(t.Claim("w1", dir, today, s.now)) },
		func() approvals.Transition {
			return two(t.BeginExecution(t.Epoch, "w1", t.Binding("u").Digest(), dir, today, s.now))
		},
		func() approvals.Transition { return two(t.FinishExecution(t.Epoch, "w1", outcome, s.now)) },
		func() approvals.Transition {
			decision.Verdict = approvals.Deny
			return two(t.Decide(actor, decision, dir, s.now))
		},
		func() approvals.Transition {
			return two(t.Ask(actor, approvals.Question{Person: who, Text: "why?"}, dir, s.now))
		},
		func() approvals.Transition { return two(t.Answer(actor, "because", s.now)) },
		func() approvals.Transition { return two(t.Stranger(actor, "approve", s.now)) },
		func() approvals.Transition {
			return two(t.View(actor, approvals.Viewing{Person: who, Digest: t.Digest, Pages: 1}, dir, s.now))
		},
		func() approvals.Transition { return two(t.Wake(dir, s.now)) },
		func() approvals.Transition { return two(t.Cancel(actor, "no longer needed", s.now)) },
		func() approvals.Transition { return two(t.Abandon(t.Epoch, s.now)) },
		func() approvals.Transition { return two(t.Resolve(actor, true, "seen in the books", s.now)) },
		func() approvals.Transition { return two(t.Notified("w1", approvals.Card{Channel: "C0X"}, s.now)) },
		func() approvals.Transition { return two(t.DeliveryFailed("w1", attempt, s.now)) },
		func() approvals.Transition { return two(t.Delivered("w1", attempt, s.now)) },
		func() approvals.Transition { return two(t.RequestRedelivery(actor, attempt.Seq, 2, s.now)) },
		func() approvals.Transition {
			decision.Verdict = approvals.GlassBroken
			return two(t.Decide(actor, decision, dir, s.now))
		},
		func() approvals.Transition { return two(t.Reassess(dir, s.now)) },
		func() approvals.Transition { return two(t.Release(s.now)) },
		func() approvals.Transition { return two(t.Supersede(actor, approvals.TicketID(uuid.Nil), s.now)) },
	}
	s.write(verbs[rapid.IntRange(0, len(verbs)-1).Draw(rt, "verb")]())
}
