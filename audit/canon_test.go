package audit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/audit"
)

const ticketID = "tkt_01jd3f8k2m4n6p8q0r2s4t6v8w"

var at = time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)

func ptr[T any](v T) *T { return &v }

// events are samples whose bytes are kept in testdata: one with nothing in it, one as a
// life begins, one with every field that the data had at first, and one for each event
// that came later. Together they set every field there is.
func events() map[string]approvals.Event {
	created := &approvals.CreatedData{
		Caller: "payroll-bot", OnBehalfOf: "eve@example.com", Upstream: "billing", Method: "DELETE",
		Path: "/customers/42", Query: "hard=true", HeaderNames: []string{"Accept", "X-Case"},
		BodyDigest: strings.Repeat("ab", 32), BodyBytes: 17, Digest: strings.Repeat("cd", 32),
		Justification: "asked for <erasure> & \u2028 more", Metadata: map[string]string{"z": "1", "a": "ä"},
		Callback: &approvals.Callback{URL: "https://hooks.example.com/x", Events: []approvals.EventType{approvals.EventApproved}},
		Plan: approvals.Plan{
			Rule: "delete-customer", Action: approvals.ActionApprove, Reason: "r", PolicyDigest: "p", UpstreamDigest: "u",
			Stages: []approvals.Stage{{
				Name: "security", Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 2}}, Denials: 1,
				RemindEvery: 15 * time.Minute, Channel: "#approvals",
				Escalate: []approvals.Tier{{After: 30 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}},
			}},
			ExpiresIn: time.Hour, ExecuteWithin: 15 * time.Minute, Idempotent: true,
			Excluded: []string{"dora"}, Redact: []string{"body.ssn"},
		},
		ExpiresAt: at.Add(time.Hour),
	}
	event := func(seq int64, typ approvals.EventType, state approvals.State, d approvals.Data) approvals.Event {
		return approvals.Event{
			TicketID: ticketID, Seq: seq, Type: typ, At: at, State: state, Data: d,
			Actor: approvals.Actor{Kind: approvals.ActorPerson, Name: "ana", Via: "slack", Ref: "T0TEAM/U0ANA"},
		}
	}
	later := *created
	later.NotBefore, later.Supersedes = at.Add(30*time.Minute), "tkt_01jd3f8k2m4n6p8q0r2s4t6v8z"
	later.Plan = approvals.Plan{
		Rule: "delete-customer", Action: approvals.ActionApprove, PolicyDigest: "p", UpstreamDigest: "u",
		Stages: []approvals.Stage{{
			Name: "security", Need: []approvals.ApproverSet{{From: []string{"security"}, Approvals: 2}}, Denials: 1,
			RemindEvery: 15 * time.Minute, RemindBackoff: 2, RemindMax: time.Hour, Comment: approvals.CommentDeny, Round: 1,
			Hours: []approvals.Interval{{From: at, To: at.Add(8 * time.Hour)}},
			Escalate: []approvals.Tier{{
				After: time.Hour, Mode: approvals.ModeReplace, OffHours: true,
				Need: []approvals.ApproverSet{{From: []string{"oncall"}, Approvals: 1}},
			}},
		}},
		ExpiresIn: time.Hour, ExecuteWithin: 15 * time.Minute,
		Distinct: approvals.DistinctStage, OnStale: approvals.StaleEnd,
		BreakGlass: &approvals.BreakGlass{From: []string{"chen"}, Announce: "#security"},
		Roster:     map[string][]string{"security": {"ana", "bo"}, "chen": {"chen"}}, Delegates: map[string]string{"ana": "eve"}, Round: 1, Reopened: 1,
	}
	wired := *created
	wired.Callback = &approvals.Callback{URL: "https://hooks.example.com/x", Payload: approvals.PayloadThin}
	wired.Plan.Success, wired.Plan.Sensitive = []approvals.StatusRange{{From: 200, To: 299}, {From: 404, To: 404}}, true
	live := later
	live.Plan.Live, live.Plan.Confirm = map[string]string{"oncall": "S0ONCALL"}, approvals.ConfirmModal
	live.Plan.Stages = []approvals.Stage{{
		Name: "oncall", Need: []approvals.ApproverSet{{From: []string{"oncall"}, Approvals: 1}}, Denials: 1,
		Channel: "#oncall", Fallback: "#approvals", Direct: true,
	}}
	return map[string]approvals.Event{
		"created_live":      event(1, approvals.EventCreated, approvals.Pending, approvals.Data{Created: &live}),
		"created_by_policy": event(1, approvals.EventCreated, approvals.Pending, approvals.Data{Created: &later}),
		"decided_for": event(2, approvals.EventDecided, approvals.Pending, approvals.Data{Decision: &approvals.Decision{
			Person: "eve", For: "ana", Verdict: approvals.Approve, Digest: "d", At: at, Groups: []string{"security"}, Via: "api",
		}}),
		"glass_broken": event(3, approvals.EventGlassBroken, approvals.Pending, approvals.Data{Decision: &approvals.Decision{
			Person: "chen", Verdict: approvals.GlassBroken, Comment: "the building is on fire", Digest: "d", At: at, Via: "slack",
		}}),
		"escalated": event(4, approvals.EventEscalated, approvals.Pending, approvals.Data{
			Stage: ptr(0), Number: 1, Tier: &later.Plan.Stages[0].Escalate[0], Asked: []string{"fay"}, Reason: "out of reach",
			Roster: map[string][]string{"oncall": {"fay", "gus"}, "security": {"ana", "bo"}}, Delegates: map[string]string{"gus": "fay"},
		}),
		"stalled":   event(5, approvals.EventStalled, approvals.Pending, approvals.Data{Stage: ptr(0), Reason: "2 approvals are needed"}),
		"unstalled": event(6, approvals.EventUnstalled, approvals.NeedsInfo, approvals.Data{Stage: ptr(0)}),
		"released":  event(7, approvals.EventReleased, approvals.Approved, approvals.Data{}),
		"tightened": event(8, approvals.EventTightened, approvals.Pending, approvals.Data{
			Stage: ptr(1), Reason: "the policy has changed", Amendment: &approvals.Amendment{
				Round: 1, Rule: "delete-customer", PolicyDigest: "p2", Stages: later.Plan.Stages,
				Roster: map[string][]string{"security": {"ana"}}, Delegates: map[string]string{"ana": "eve"},
				Excluded: []string{"dora"}, Redact: []string{"body.ssn"},
				Distinct: approvals.DistinctStage, BreakGlass: later.Plan.BreakGlass,
			},
		}),
		"superseded": event(9, approvals.EventCancelled, approvals.Cancelled, approvals.Data{
			SupersededBy: "tkt_01jd3f8k2m4n6p8q0r2s4t6v8y", Problem: &approvals.Problem{Code: "superseded", Detail: "d"},
		}),
		"notified": event(2, approvals.EventNotified, approvals.Pending, approvals.Data{
			Card: &approvals.Card{Channel: "C0X", TS: "1.2", Version: 1},
		}),
		"viewed": event(2, approvals.EventViewed, approvals.Pending, approvals.Data{Viewing: &approvals.Viewing{
			Person: "ana", Stage: 1, Digest: "d", Rendered: "r", Channel: "C0X", Pages: 3,
		}}),
		"decided_in_slack": event(2, approvals.EventDecided, approvals.Pending, approvals.Data{Decision: &approvals.Decision{
			Person: "ana", Verdict: approvals.Approve, Digest: "d", At: at, Groups: []string{"oncall"}, Via: "slack",
			Ref: "T0TEAM/U0ANA", MessageTS: "1.2", Channel: "C0X", Rendered: "r",
		}}),
		"tightened_live": event(8, approvals.EventTightened, approvals.Pending, approvals.Data{
			Stage: ptr(1), Amendment: &approvals.Amendment{
				Round: 1, Rule: "r", PolicyDigest: "p2", Stages: later.Plan.Stages,
				Live: map[string]string{"oncall": "S0ONCALL"}, Confirm: approvals.ConfirmCode,
			},
		}),
		"created_wired": event(1, approvals.EventCreated, approvals.Pending, approvals.Data{Created: &wired}),
		"redelivery_requested": event(9, approvals.EventRedeliveryRequested, approvals.Succeeded, approvals.Data{
			Delivery: &approvals.DeliveryAttempt{Seq: 7, Number: 11},
		}),
		"bare":    {Type: approvals.EventNotified},
		"created": event(1, approvals.EventCreated, approvals.Pending, approvals.Data{Created: created}),
		"everything": event(1<<40, approvals.EventResolved, approvals.Failed, approvals.Data{
			Created: created,
			Decision: &approvals.Decision{
				Person: "ana", Verdict: approvals.Approve, Stage: 1, Comment: "ok", Digest: "d", At: at,
				Groups: []string{"security"}, Via: "slack", Ref: "T0TEAM/U0ANA", MessageTS: "1.2",
			},
			Tally: &approvals.Tally{
				Needed: 2, Have: 1, Denials: 3, DenialsNeeded: 4,
				Sets: []approvals.SetTally{{From: []string{"security"}, Approvals: 2, By: []string{"ana"}}},
			},
			Card:     &approvals.Card{Stage: 1, Channel: "C0X", TS: "1.2"},
			Question: &approvals.Question{Person: "ana", Text: "why?", AskedAt: at, Answer: "because"},
			Stage:    ptr(1), Number: 2, Tier: &approvals.Tier{After: time.Minute, To: []string{"bo"}, Mode: approvals.ModeReplace},
			ExecuteBy: ptr(at.Add(time.Minute)), Epoch: 3, Worker: "w1", Digest: "d",
			Result:   &approvals.ResultSummary{Status: 500, Size: 1 << 50, Digest: "d", Truncated: true, DurationMS: 4, ExecutedAt: at},
			Problem:  &approvals.Problem{Code: "c", Detail: "d"},
			Refusal:  &approvals.Refusal{Tried: "approve", Code: approvals.CodeStale, Message: "m", Last: true},
			Delivery: &approvals.DeliveryAttempt{Seq: 7, Number: 2, Status: 502, DurationMS: 9, Error: "e", NextAt: at},
			Reason:   "said so",
		}),
	}
}

// golden reads testdata/name.hex: one field of the canonical form on each line.
func golden(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", filepath.Clean(name+".hex")))
	require.NoError(tb, err)
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	require.NoError(tb, err)
	return b
}

// lines renders a canonical form as it is kept in testdata.
func lines(canon []byte) string {
	var out strings.Builder
	for len(canon) >= 8 {
		end := min(8+int(binary.BigEndian.Uint64(canon)), len(canon)) //nolint:gosec // lengths of our own
		out.WriteString(hex.EncodeToString(canon[:end]) + "\n")
		canon = canon[end:]
	}
	return out.String()
}

// Whoever changes these bytes makes every trail that was ever written unverifiable.
func TestCanonWritesTheSameBytesForEver(t *testing.T) {
	t.Parallel()
	for name, e := range events() {
		canon, err := audit.Canon(e, audit.Genesis(ticketID))
		require.NoError(t, err)
		require.Equal(t, lines(golden(t, name)), lines(canon), name)
	}
}

func TestGenesisAndLeafAreAsDocumented(t *testing.T) {
	t.Parallel()
	genesis, leaf := audit.Genesis(ticketID), audit.Leaf([]byte("abc"))
	// printf 'countersign-audit-chain/v1tkt_…' | sha256sum; printf '\0abc' | sha256sum
	require.Equal(t, "9c321a1cc5df324fc3d7895f8dae7f4ad392a784c252ad4cedc42f24d53b3675", hex.EncodeToString(genesis[:]))
	require.Equal(t, "609f6e36d2405585188d5cfd761f407c7cc46a7d3f314c88270469dde315fcd1", hex.EncodeToString(leaf[:]))
}

func TestParseGivesBackWhatCanonWrote(t *testing.T) {
	t.Parallel()
	for name, e := range events() {
		canon, err := audit.Canon(e, audit.Hash{1, 2, 3})
		require.NoError(t, err)
		got, prev, err := audit.Parse(canon)
		require.NoError(t, err, name)
		if e.At.IsZero() {
			require.True(t, got.At.Equal(e.At), name)
			got.At = e.At
		}
		require.Equal(t, e, got, name)
		require.Equal(t, audit.Hash{1, 2, 3}, prev)
	}
}

// The domain lets no broken text in; should some come by, its trail must still verify.
func TestTextThatIsNotUTF8IsMendedOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a\xffb", `a\ufffdb`, "a\uFFFDb", "\xff" + `\ufffd`} {
		e := events()["created"]
		e.Data = approvals.Data{Reason: text}
		canon, err := audit.Canon(e, audit.Hash{})
		require.NoError(t, err)
		got, _, err := audit.Parse(canon)
		require.NoError(t, err, "%q", text)
		require.Equal(t, strings.ToValidUTF8(text, "\uFFFD"), got.Data.Reason)
	}
}

// A new field, of the data or of anything in it, must come with bytes of its own.
func TestTheSamplesSetEveryField(t *testing.T) {
	t.Parallel()
	set := make(map[string]bool)
	for _, e := range events() {
		fields(reflect.ValueOf(e.Data), set)
	}
	for name, isSet := range set {
		require.True(t, isSet, name)
	}
	require.Greater(t, len(set), 80)
}

// fields notes of every field below a value whether it is set anywhere.
func fields(v reflect.Value, set map[string]bool) {
	switch v.Kind() { //nolint:exhaustive // the others have no fields
	case reflect.Pointer:
		if !v.IsNil() {
			fields(v.Elem(), set)
		}
	case reflect.Slice:
		for i := range v.Len() {
			fields(v.Index(i), set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				name := v.Type().Name() + "." + f.Name
				set[name] = set[name] || !v.Field(i).IsZero()
				fields(v.Field(i), set)
			}
		}
	}
}

// An empty field must not show: events written before the field existed have none.
func TestEmptyDataHasNoBytes(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(approvals.Data{})
	require.NoError(t, err)
	require.JSONEq(t, "{}", string(b))
}

// field rewrites one field of a canonical form, counted from 0.
func field(tb testing.TB, canon []byte, n int, change func([]byte) []byte) []byte {
	tb.Helper()
	var out []byte
	for i := 0; len(canon) > 0; i++ {
		length := binary.BigEndian.Uint64(canon)
		content := canon[8 : 8+length]
		canon = canon[8+length:]
		if i == n {
			content = change(bytes.Clone(content))
		}
		out = binary.BigEndian.AppendUint64(out, uint64(len(content)))
		out = append(out, content...)
	}
	return out
}

func TestParseAcceptsOneSpellingOnly(t *testing.T) {
	t.Parallel()
	good := golden(t, "created")
	replace := func(from, to string) []byte {
		return field(t, good, 11, func(b []byte) []byte {
			require.Contains(t, string(b), from)
			return bytes.Replace(b, []byte(from), []byte(to), 1)
		})
	}
	for name, canon := range map[string][]byte{
		"nothing":         nil,
		"cut short":       good[:len(good)-1],
		"a byte more":     append(bytes.Clone(good), 0),
		"another schema":  field(t, good, 0, func([]byte) []byte { return []byte("countersign-audit-event/v2") }),
		"a short number":  field(t, good, 2, func(b []byte) []byte { return b[1:] }),
		"a long number":   field(t, good, 5, func(b []byte) []byte { return append([]byte{0}, b...) }),
		"a short hash":    field(t, good, 3, func(b []byte) []byte { return b[1:] }),
		"no data":         field(t, good, 11, func([]byte) []byte { return nil }),
		"null data":       field(t, good, 11, func([]byte) []byte { return []byte("null") }),
		"blank in data":   replace(`{"created"`, `{ "created"`),
		"unknown key":     replace(`{"created"`, `{"approved_by":"ana","created"`),
		"key in capitals": replace(`"caller"`, `"CALLER"`),
		"key twice":       replace(`"caller":"payroll-bot"`, `"caller":"eve","caller":"payroll-bot"`),
		"another escape":  replace(`"billing"`, `"\u0062illing"`),
		"empty shown":     replace(`{"created"`, `{"reason":"","created"`),
		"more after data": field(t, good, 11, func(b []byte) []byte { return append(b, "{}"...) }),
		"a huge length":   append(bytes.Repeat([]byte{0xff}, 8), good...),
	} {
		_, _, err := audit.Parse(canon)
		require.Error(t, err, name)
	}
}

// FuzzParse: Parse never panics, and whatever it takes has no other spelling.
func FuzzParse(f *testing.F) {
	for name := range events() {
		f.Add(golden(f, name))
	}
	f.Fuzz(func(t *testing.T, canon []byte) {
		e, prev, err := audit.Parse(canon)
		if err != nil {
			return
		}
		again, err := audit.Canon(e, prev)
		require.NoError(t, err)
		require.Equal(t, canon, again)
	})
}
