package db_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/db"
	"countersign/db/dbtest"
)

// advance takes a ticket through verbs, none of which may be refused.
func (f fixture) advance(t *testing.T, id string, steps ...db.Decide) approvals.Ticket {
	t.Helper()
	var out approvals.Ticket
	for i, do := range steps {
		var err error
		out, err = f.store.Advance(t.Context(), db.Ref{ID: id}, do)
		require.NoError(t, err, "step %d", i+1)
	}
	return out
}

// turned takes a ticket through a verb that answers with an error and a change.
func (f fixture) turned(t *testing.T, id string, want approvals.Code, do db.Decide) approvals.Ticket {
	t.Helper()
	out, err := f.store.Advance(t.Context(), db.Ref{ID: id}, do)
	require.Equal(t, want, approvals.ErrorCode(err), "%v", err)
	return out
}

// open submits under a plan as edited.
func (f fixture) open(t *testing.T, p approvals.Plan, edit func(*db.SubmitRequest)) approvals.Ticket {
	t.Helper()
	req := request(t, p)
	if edit != nil {
		edit(&req)
	}
	res, err := f.store.Submit(t.Context(), req)
	require.NoError(t, err)
	return res.Ticket
}

// now is the database's clock.
func (f fixture) now(t *testing.T) time.Time {
	t.Helper()
	var now time.Time
	require.NoError(t, superuser(t, f.url).QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
	return now.UTC()
}

func votes(name string, v approvals.Verdict, dir approvals.Directory) db.Decide {
	return func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Decide(person(name), approvals.Decision{
			Person: name, Verdict: v, Stage: x.Stage, Digest: x.Digest, Comment: "seen",
		}, dir, now)
	}
}

func claims(dir approvals.Directory, today func(approvals.Ticket) approvals.Plan) db.Decide {
	return func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Claim("w1", dir, today(x), now)
	}
}

func begins(dir approvals.Directory, today func(approvals.Ticket) approvals.Plan) db.Decide {
	return func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.BeginExecution(x.Epoch, "w1", x.Binding("u").Digest(), dir, today(x), now)
	}
}

func asSubmitted(x approvals.Ticket) approvals.Plan { return x.Plan }

func reassesses(dir approvals.Directory) db.Decide {
	return func(x approvals.Ticket, now time.Time) (approvals.Transition, error) { return x.Reassess(dir, now) }
}

// leaving is a directory after people have left.
func leaving(dir approvals.Directory, people ...string) approvals.Directory {
	out := dir
	out.People = make(map[string]approvals.Person)
	for name, p := range dir.People {
		out.People[name] = p
	}
	for _, name := range people {
		delete(out.People, name)
	}
	return out
}

// plans reads the plan as frozen and, if there is one, the amended one, by their rounds and
// numbers of stages.
func (f fixture) plans(t *testing.T, id string) (frozenStages int, amendedStages *int) {
	t.Helper()
	require.NoError(t, superuser(t, f.url).QueryRow(t.Context(), `SELECT jsonb_array_length(plan->'stages'), jsonb_array_length(amended_plan->'stages')
		FROM tickets JOIN calls ON ticket_id = id WHERE id = $1`, id).Scan(&frozenStages, &amendedStages))
	return frozenStages, amendedStages
}

// whole asserts that a ticket is the fold of its events, of those types, and that lists
// tell the same of it.
func (f fixture) whole(t *testing.T, id string, types ...approvals.EventType) approvals.Ticket {
	t.Helper()
	dbtest.RequireTrail(t, f.store, id, types...)
	got, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
	require.NoError(t, err)
	list, err := f.store.Tickets(t.Context(), db.Filter{Limit: 1000})
	require.NoError(t, err)
	for _, x := range list {
		if x.ID == id {
			x.Call, x.Decisions = got.Call, got.Decisions
			require.Equal(t, got, x, "as listed")
			return got
		}
	}
	require.Fail(t, "the ticket is in no list")
	return got
}

func TestBrokenGlassIsKeptAsExactlyThat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := plan(stage(2))
	p.BreakGlass = &approvals.BreakGlass{From: []string{"bo"}, Announce: "#security"}
	id := f.submit(t, p).ID
	f.advance(t, id, votes("bo", approvals.GlassBroken, directory))
	got := f.whole(t, id, approvals.EventCreated, approvals.EventGlassBroken, approvals.EventApproved)
	require.Equal(t, approvals.GlassBroken, got.Decisions[0].Verdict)
	require.Equal(t, "seen", got.Decisions[0].Comment)

	f.turned(t, id, approvals.CodeConflict, claims(leaving(directory, "bo"), asSubmitted))
	f.advance(t, id, votes("bo", approvals.Approve, directory), votes("bo", approvals.GlassBroken, directory))
	got = f.whole(t, id, approvals.EventCreated, approvals.EventGlassBroken, approvals.EventApproved, approvals.EventReopened,
		approvals.EventDecided, approvals.EventGlassBroken, approvals.EventApproved)
	require.Len(t, got.Decisions, 3, "a bypass is no vote, and may come twice")
}

func TestAVoteInSomebodysPlaceIsKeptWithWhose(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := directory
	dir.People = map[string]approvals.Person{"eve": {Name: "eve"}}
	for name, p := range directory.People {
		dir.People[name] = p
	}
	now := f.now(t)
	dir.Away = map[string]approvals.Absence{"ana": {Until: now.Add(time.Hour), Delegate: "eve"}}
	x := f.open(t, plan(stage(2)), func(r *db.SubmitRequest) { r.Directory = dir.At(now) })
	require.Equal(t, map[string]string{"ana": "eve"}, x.Plan.Delegates)
	f.advance(t, x.ID, votes("eve", approvals.Approve, dir))
	f.turned(t, x.ID, approvals.CodeAlreadyDecided, votes("ana", approvals.Approve, directory)) // back, but spoken for
	f.advance(t, x.ID, votes("bo", approvals.Approve, dir))
	got := f.whole(t, x.ID, approvals.EventCreated, approvals.EventDecided, approvals.EventRefused, approvals.EventDecided, approvals.EventApproved)
	require.Equal(t, "ana", got.Decisions[0].For)
	require.Empty(t, got.Decisions[1].For)
}

func TestOnePersonMayDecideInEveryStageWhereThePlanSaysSo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := plan(stage(1), stage(1))
	p.Distinct = approvals.DistinctStage
	id := f.submit(t, p).ID
	f.advance(t, id, votes("ana", approvals.Approve, directory), votes("ana", approvals.Approve, directory))
	f.whole(t, id, approvals.EventCreated, approvals.EventDecided, approvals.EventStageCompleted, approvals.EventDecided, approvals.EventApproved)
}

func TestQuestionsAreCountedAndPauseTheHoursOfWork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	now := f.now(t)
	for name, hours := range map[string][]approvals.Interval{
		"always":    nil,
		"at work":   {{From: now.Add(-time.Hour), To: now.Add(time.Hour)}},
		"after six": {{From: now.Add(-2 * time.Hour), To: now.Add(-time.Hour)}, {From: now.Add(9 * time.Hour), To: now.Add(10 * time.Hour)}},
	} {
		p := eventful()
		p.Stages[0].Hours = hours
		id := f.submit(t, p).ID
		f.advance(t, id, verbs["Ask"].do, verbs["Answer"].do, verbs["Ask"].do, verbs["Answer"].do)
		got := f.whole(t, id, approvals.EventCreated, approvals.EventQuestionAsked, approvals.EventAnswered,
			approvals.EventQuestionAsked, approvals.EventAnswered)
		require.Equal(t, 2, got.Questions, name)
		require.Positive(t, got.Paused, name)
		require.Equal(t, name == "after six", got.PausedHours == 0, name)
		require.Equal(t, hours, got.Plan.Stages[0].Hours, name)
	}
}

func TestAStalledTicketSaysWhyUntilItIsNot(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, eventful()).ID
	got := f.advance(t, id, reassesses(leaving(directory, "ana", "bo", "chen")))
	require.NotNil(t, got.Stalled)
	f.whole(t, id, approvals.EventCreated, approvals.EventEscalated, approvals.EventStalled)
	owed, err := f.store.Delivery(t.Context(), id, 3)
	require.NoError(t, err, "the caller is told, asked or not")
	require.Equal(t, approvals.EventStalled, owed.EventType)

	f.advance(t, id, reassesses(directory))
	got = f.whole(t, id, approvals.EventCreated, approvals.EventEscalated, approvals.EventStalled, approvals.EventUnstalled)
	require.Nil(t, got.Stalled)
	f.advance(t, id, votes("chen", approvals.Approve, directory), reassessesNothing)
}

// reassessesNothing: an approved ticket has nobody to wait for.
func reassessesNothing(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
	if _, err := x.Reassess(directory, now); approvals.ErrorCode(err) != approvals.CodeConflict {
		return approvals.Transition{}, err
	}
	return approvals.Transition{}, nil
}

func TestAnEscalationThatAsksOthersAmendsThePlan(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := directory
	dir.Groups = map[string][]string{"security": {"ana", "bo"}, "oncall": {"chen"}}
	p := eventful()
	p.Stages[0].Escalate[0].To = []string{"oncall"}
	x := f.open(t, p, func(r *db.SubmitRequest) { r.Directory = dir })
	_, amended := f.plans(t, x.ID)
	require.Nil(t, amended)
	got := f.advance(t, x.ID, reassesses(leaving(dir, "ana", "bo")))
	require.Equal(t, []string{"chen"}, got.Plan.Roster["oncall"])
	_, amended = f.plans(t, x.ID)
	require.NotNil(t, amended)
	f.advance(t, x.ID, func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
		return x.Notified("w1", approvals.Card{Channel: "C0X", TS: "1.2"}, now) // leaves the plan where it lies
	}, votes("chen", approvals.Approve, dir))
	f.whole(t, x.ID, approvals.EventCreated, approvals.EventEscalated, approvals.EventNotified, approvals.EventDecided, approvals.EventApproved)
}

func TestATicketThatNeedsOthersFromTheStartIsStoredWithThem(t *testing.T) {
	t.Parallel()
	f := setup(t)
	dir := directory
	dir.Groups = map[string][]string{"night": {}, "oncall": {"chen"}, "security": {"ana", "bo"}}
	p := plan(stage(1), stage(1))
	p.Stages[0].Need[0].From = []string{"night"}
	p.Stages[0].Escalate = []approvals.Tier{{After: 2 * time.Minute, To: []string{"oncall"}, Mode: approvals.ModeAdd}}
	x := f.open(t, p, func(r *db.SubmitRequest) { r.Directory = dir })
	require.Equal(t, []int{1, 0}, x.Tiers)
	got := f.whole(t, x.ID, approvals.EventCreated, approvals.EventEscalated)
	x.Call = got.Call
	require.Equal(t, x, got, "as it was answered")
	frozen, amended := f.plans(t, x.ID)
	require.Equal(t, 2, frozen)
	require.NotNil(t, amended)
}

func TestAScheduledCallWaitsForItsHourAndIsReleased(t *testing.T) {
	t.Parallel()
	f := setup(t)
	hour := f.now(t).Add(time.Hour).Truncate(time.Microsecond)
	wait := func(r *db.SubmitRequest) { r.Submission.NotBefore = hour }
	allowed := plan()
	allowed.Action = approvals.ActionAllow
	asked, free := f.open(t, plan(stage(1)), wait), f.open(t, allowed, wait)
	f.advance(t, asked.ID, votes("ana", approvals.Approve, directory))
	past(t, f)(`UPDATE tickets SET updated_at = updated_at - interval '2 minutes'`)
	unstarted := func() []string {
		t.Helper()
		got, err := f.store.Unstarted(t.Context(), time.Minute, 10)
		require.NoError(t, err)
		return got
	}
	require.Empty(t, unstarted(), "it is no lost job that they wait for")
	for _, id := range []string{asked.ID, free.ID} {
		got, err := f.store.Ticket(t.Context(), db.Ref{ID: id})
		require.NoError(t, err)
		require.Equal(t, approvals.Approved, got.State)
		require.Equal(t, hour, got.NotBefore)
		require.Equal(t, hour, got.WakeAt)
		require.Equal(t, hour.Add(15*time.Minute), got.ExecuteBy)
		require.Equal(t, approvals.ReleaseAt{TicketID: id, At: hour}, got.Timer())
		f.turned(t, id, approvals.CodeNotDue, claims(directory, asSubmitted))
		f.advance(t, id, verbs["Release"].do)
	}
	f.whole(t, asked.ID, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventReleased)
	f.whole(t, free.ID, approvals.EventCreated, approvals.EventApproved, approvals.EventReleased)
	past(t, f)(`UPDATE tickets SET updated_at = updated_at - interval '2 hours'`)
	require.ElementsMatch(t, []string{asked.ID, free.ID}, unstarted(), "released, they are ready")
}

// stricter is what the policy of a later day makes of the same call.
func stricter(approvals.Ticket) approvals.Plan {
	p := plan(stage(2))
	p.PolicyDigest, p.Redact, p.Excluded = "stricter", []string{"body.reason"}, []string{"dora", "chen"}
	return p
}

func TestAPolicyThatBecameStricterAsksAgainAndIsStoredSo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	id := f.submit(t, plan(stage(1))).ID
	f.advance(t, id, votes("ana", approvals.Approve, directory))
	f.turned(t, id, approvals.CodeStalePolicy, claims(directory, stricter))
	got := f.whole(t, id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventTightened)
	require.Equal(t, approvals.Pending, got.State)
	require.Zero(t, got.ApprovedAt)
	require.Equal(t, 1, got.Plan.Round)
	require.Equal(t, []int{0, 0}, got.Tiers)
	require.Equal(t, []string{"body.reason"}, got.Plan.Redact)
	frozen, amended := f.plans(t, id)
	require.Equal(t, 1, frozen, "what was asked at submit stays on record")
	require.Equal(t, 2, *amended)

	f.advance(t, id, votes("ana", approvals.Approve, directory), votes("bo", approvals.Approve, directory),
		claims(directory, stricter), begins(directory, stricter), verbs["FinishExecution"].do)
	got = f.whole(t, id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventTightened,
		approvals.EventDecided, approvals.EventDecided, approvals.EventApproved, approvals.EventClaimed, approvals.EventExecuting,
		approvals.EventSucceeded)
	require.Len(t, got.Decisions, 3, "a further round is a further vote")
}

func TestAStaleApprovalThatEndsTheTicketEndsItUnsent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, c := range map[string]struct {
		dir   approvals.Directory
		today func(approvals.Ticket) approvals.Plan
		code  approvals.Code
		why   string
	}{
		"somebody left":     {leaving(directory, "ana"), asSubmitted, approvals.CodeConflict, "approval_withdrawn"},
		"a stricter policy": {directory, stricter, approvals.CodeStalePolicy, "policy_tightened"},
	} {
		p := plan(stage(1))
		p.OnStale = approvals.StaleEnd
		id := f.submit(t, p).ID
		f.advance(t, id, votes("ana", approvals.Approve, directory))
		f.turned(t, id, c.code, claims(c.dir, c.today))
		got := f.whole(t, id, approvals.EventCreated, approvals.EventDecided, approvals.EventApproved, approvals.EventFailed)
		require.Equal(t, c.why, got.Problem.Code, name)
		require.Zero(t, got.ExecutionStartedAt, name)
	}
}

func TestAReopenedTicketGoesThroughAllItsStatesAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, end := range []string{"Decide", "Ask", "Cancel", "Expire", "Remind"} {
		p := eventful()
		id := f.submit(t, p).ID
		f.advance(t, id, votes("ana", approvals.Approve, directory), claims(directory, asSubmitted),
			func(x approvals.Ticket, now time.Time) (approvals.Transition, error) { return x.Abandon(x.Epoch, now) })
		got := f.turned(t, id, approvals.CodeConflict, claims(leaving(directory, "ana"), asSubmitted))
		require.Equal(t, approvals.Pending, got.State)
		require.Zero(t, got.ApprovedAt)
		do := verbs[end].do
		switch end {
		case "Decide":
			do = votes("bo", approvals.Deny, directory)
		case "Ask":
			do = func(x approvals.Ticket, now time.Time) (approvals.Transition, error) {
				return x.Ask(person("bo"), approvals.Question{Person: "bo", Text: "why?"}, directory, now)
			}
		case "Remind":
			do = func(x approvals.Ticket, _ time.Time) (approvals.Transition, error) { return x.Remind(0, 1, x.WakeAt) }
		}
		after := f.advance(t, id, do)
		entries, err := f.store.Entries(t.Context(), db.Ref{ID: id})
		require.NoError(t, err)
		var types []approvals.EventType
		for _, e := range entries {
			types = append(types, e.Event.Type)
		}
		require.Equal(t, after.State, f.whole(t, id, types...).State, end)
	}
}

func TestOpenTicketsAreReadPageByPage(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var want []string
	for range 3 {
		want = append(want, f.submit(t, eventful()).ID)
		want = append(want, prepare(t, f.store, verbs["Answer"])) // needs_info
		prepare(t, f.store, verbs["Claim"])                       // approved
		prepare(t, f.store, verb{after: []string{"Cancel"}})
	}
	var got []string
	after := ""
	for {
		page, err := f.store.Open(t.Context(), after, 4)
		require.NoError(t, err)
		if len(page) == 0 {
			break
		}
		require.LessOrEqual(t, len(page), 4)
		for _, x := range page {
			whole, err := f.store.Ticket(t.Context(), db.Ref{ID: x.ID})
			require.NoError(t, err)
			require.Equal(t, whole, x)
			got = append(got, x.ID)
		}
		after = page[len(page)-1].ID
	}
	require.Equal(t, want, got)
}
