package approvals_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
)

func TestCheckRefusesWhatNobodyCouldMeetOrEverybodyWould(t *testing.T) {
	t.Parallel()
	tier := func(mode approvals.Mode, to ...string) approvals.Stage {
		s := stage("x", set(1, "team"))
		s.Escalate = []approvals.Tier{{After: time.Hour, To: to, Mode: mode}}
		return s
	}
	quiet := stage("x", set(1, "team"))
	quiet.Denials = 0
	for name, s := range map[string][]approvals.Stage{
		"no stage":                      {},
		"stage without a set":           {stage("x")},
		"approvals 0":                   {stage("x", set(0, "team"))},
		"approvals below 0":             {stage("x", set(-1, "team"))},
		"approvals that overflow":       {stage("x", set(math.MaxInt, "team"), set(math.MaxInt, "team"))},
		"set from nobody":               {stage("x", set(1))},
		"empty group":                   {stage("x", set(1, "nobody-here"))},
		"unknown person":                {stage("x", set(1, "zoe"))},
		"one empty set beside a full":   {stage("x", set(1, "team"), set(1, "zoe"))},
		"more than there are people":    {stage("x", set(5, "team"))},
		"the owner would be needed":     {stage("x", set(4, "team"))},
		"the same person twice":         {stage("x", set(1, "fay"), set(1, "oncall"))},
		"the same person in two stages": {stage("x", set(1, "fay")), stage("y", set(1, "oncall"))},
		"deny threshold 0":              {quiet},
		"unknown escalation mode":       {tier("", "oncall")},
		"escalation to nobody":          {tier(approvals.ModeAdd)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := approvals.Submit(submission(), planOf(s...), office(), start)
			requireCode(t, approvals.CodeUnsatisfiable, err)
		})
	}
}

func TestCheckSaysHowManyAreMissing(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("x", set(4, "team")))
	plan.Excluded = []string{"dee"}
	require.ErrorContains(t, plan.Check(office()), "it needs 4 distinct approvals and the people who may decide can give 3")
}

func TestCheckAcceptsWhatEscalationCanMeet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tiers []approvals.Tier
		need  int
		ok    bool
	}{
		"not without":                          {nil, 2, false},
		"adding one":                           {[]approvals.Tier{{After: time.Hour, To: []string{"eve"}, Mode: approvals.ModeAdd}}, 2, true},
		"replaced by enough":                   {[]approvals.Tier{{After: time.Hour, To: []string{"eve", "ana"}, Mode: approvals.ModeReplace}}, 2, true},
		"replaced and replacing do not add up": {[]approvals.Tier{{After: time.Hour, To: []string{"eve"}, Mode: approvals.ModeReplace}}, 2, false},
		"enough before the replacement":        {[]approvals.Tier{{After: time.Hour, To: []string{"eve"}, Mode: approvals.ModeAdd}, {After: 2 * time.Hour, To: []string{"bo"}, Mode: approvals.ModeReplace}}, 2, true},
		"replaced, then added to":              {[]approvals.Tier{{After: time.Hour, To: []string{"eve"}, Mode: approvals.ModeReplace}, {After: 2 * time.Hour, To: []string{"bo"}, Mode: approvals.ModeAdd}}, 2, true},
		"a tier that comes too late":           {[]approvals.Tier{{After: 24 * time.Hour, To: []string{"eve"}, Mode: approvals.ModeAdd}}, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := stage("x", set(c.need, "fay"))
			s.Escalate = c.tiers
			err := planOf(s).Check(office())
			require.Equal(t, c.ok, err == nil, "%v", err)
		})
	}
}

func TestCheckGivesUpOnAPlanOfTooManyTurns(t *testing.T) {
	t.Parallel()
	plan := planOf()
	for range 12 {
		s := stage("x", set(1, "nobody-here"))
		for i := range 12 {
			s.Escalate = append(s.Escalate, approvals.Tier{After: time.Duration(i+1) * time.Minute, To: []string{"zoe"}, Mode: approvals.ModeReplace})
		}
		plan.Stages = append(plan.Stages, s)
	}
	requireCode(t, approvals.CodeUnsatisfiable, plan.Check(office()))
}

func TestPlanThatIsNotUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*approvals.Plan){
		"no action":               func(p *approvals.Plan) { p.Action = "" },
		"unknown action":          func(p *approvals.Plan) { p.Action = "audit" },
		"allow with stages":       func(p *approvals.Plan) { p.Action = approvals.ActionAllow },
		"no time to decide":       func(p *approvals.Plan) { p.ExpiresIn = 0 },
		"negative time to decide": func(p *approvals.Plan) { p.ExpiresIn = -time.Hour },
		"no time to execute":      func(p *approvals.Plan) { p.ExecuteWithin = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := planOf(stage("x", set(1, "team")))
			edit(&plan)
			_, err := approvals.Submit(submission(), plan, office(), start)
			requireCode(t, approvals.CodeUnsatisfiable, err)
		})
	}
}

func TestRulesThatNeedNobodyActAtOnce(t *testing.T) {
	t.Parallel()
	plan := planOf()
	plan.Action = approvals.ActionAllow
	tr, err := approvals.Submit(submission(), plan, office(), start)
	require.NoError(t, err)
	require.Equal(t, approvals.Approved, tr.Ticket.State)
	require.Equal(t, approvals.Actor{Kind: approvals.ActorPolicy, Name: plan.Rule}, tr.Events[1].Actor)
	require.Equal(t, []approvals.Effect{
		approvals.Execute{TicketID: ticketID}, approvals.ExpireAt{TicketID: ticketID, At: after(15 * time.Minute)},
	}, tr.Effects)

	tr, err = approvals.Submit(submission(), approvals.Plan{Action: approvals.ActionDeny, Reason: "no rule matches"}, office(), start)
	require.NoError(t, err)
	require.Equal(t, approvals.Denied, tr.Ticket.State)
	require.Equal(t, &approvals.Problem{Code: "denied_by_policy", Detail: "no rule matches"}, tr.Ticket.Problem)
	require.True(t, tr.Ticket.ExpiresAt.After(tr.Ticket.CreatedAt))
	require.Equal(t, []approvals.Effect{approvals.Deliver{TicketID: ticketID, Seq: 2}}, tr.Effects)
}

func TestOwnersAreFrozenIntoThePlanOnce(t *testing.T) {
	t.Parallel()
	plan := planOf(stage("x", set(1, "team")))
	require.Equal(t, []string{"dee"}, submit(t, plan, office()).Plan.Excluded)
	plan.Excluded = []string{"gus", "dee"}
	require.Equal(t, []string{"gus", "dee"}, submit(t, plan, office()).Plan.Excluded)
	require.Len(t, plan.Excluded, 2)
}

func TestUnknownNamesResolveToNobody(t *testing.T) {
	t.Parallel()
	dir := office()
	dir.Groups["mixed"] = []string{"ana", "zoe", "team"}
	dir.Groups["gus"] = nil
	for name, want := range map[string][]string{
		"ana": {"ana"}, "zoe": {}, "": {}, "team": {"ana", "bo", "chen", "dee"},
		"mixed": {"ana"}, // neither unknown people nor groups inside of groups
		"gus":   {},      // a group hides the person of the same name, even an empty one
		"Ana":   {},
	} {
		require.Equal(t, want, approvals.Names(dir.Members([]string{name})), "%q", name)
	}
}

func TestSlackUserIsFoundOnlyWhenUnmistakable(t *testing.T) {
	t.Parallel()
	dir := office()
	p, ok := dir.BySlack("U-ana")
	require.True(t, ok)
	require.Equal(t, "ana", p.Name)
	dir.People["ghost"] = approvals.Person{Name: "ghost"}
	_, ok = dir.BySlack("")
	require.False(t, ok)
	_, ok = dir.BySlack("U-zoe")
	require.False(t, ok)
	dir.People["twin"] = approvals.Person{Name: "twin", Slack: "U-ana"}
	_, ok = dir.BySlack("U-ana")
	require.False(t, ok)
}

func TestErrorsAreMatchedByCode(t *testing.T) {
	t.Parallel()
	_, err := submit(t, planOf(stage("x", set(1, "team"))), office()).Resolve(person("ana"), true, "seen", start)
	wrapped := fmt.Errorf("advance: %w", err)
	require.ErrorIs(t, wrapped, &approvals.Error{Code: approvals.CodeConflict})
	require.NotErrorIs(t, wrapped, &approvals.Error{Code: approvals.CodeStale})
	require.Equal(t, approvals.CodeConflict, approvals.ErrorCode(wrapped))
	require.Empty(t, approvals.ErrorCode(fmt.Errorf("other")))
	require.Contains(t, err.Error(), "conflict: the outcome is not in doubt")
}

// everything is a plan in which every field says something.
func everything() approvals.Plan {
	p := planOf(stage("peer", set(1, "team"), set(1, "oncall")), stage("security", set(1, "security")))
	p.Reason, p.Idempotent, p.Excluded, p.Redact = "a reason", true, []string{"gus"}, []string{"body.ssn"}
	p.Distinct, p.OnStale = approvals.DistinctStage, approvals.StaleEnd
	p.BreakGlass = &approvals.BreakGlass{From: []string{"fay", "watch"}, Announce: "#incidents"}
	p.Confirm = approvals.ConfirmCode
	p.Success, p.Sensitive = []approvals.StatusRange{{From: 200, To: 299}, {From: 404, To: 404}}, true
	s := &p.Stages[0]
	s.RemindEvery, s.RemindBackoff, s.RemindMax = 15*time.Minute, 2, time.Hour
	s.Channel, s.Comment = "#billing-approvals", approvals.CommentBoth
	s.Fallback, s.Direct = "#approvals", true
	s.Hours = []approvals.Interval{{From: after(0), To: after(8 * time.Hour)}}
	s.Escalate = []approvals.Tier{
		{After: time.Hour, To: []string{"oncall"}, Mode: approvals.ModeAdd, OffHours: true},
		{After: 2 * time.Hour, Mode: approvals.ModeReplace, Need: []approvals.ApproverSet{set(2, "security", "oncall")}},
	}
	return p
}

// TestFrozenPlanIsGolden: what is written down of a plan, as the audit trail and the
// database have it, changes only on purpose.
func TestFrozenPlanIsGolden(t *testing.T) {
	t.Parallel()
	dir := away(watched("fay"), "bo", "eve", 1000)
	tk := submit(t, everything(), dir)
	show := func(name string, v any) {
		got, err := json.MarshalIndent(v, "", "  ")
		require.NoError(t, err)
		golden(t, name, append(got, '\n'))
	}
	show("plan-frozen.golden", tk.Plan)
	plan := planOf(stage("peer", set(1, "team")))
	plan.BreakGlass = &approvals.BreakGlass{From: []string{"fay"}}
	tk = must(t)(vote(submit(t, plan, dir), "ana", approvals.Approve, dir, after(time.Minute)))
	today := now(everything())
	today.OnStale = approvals.StaleReopen
	tr, err := tk.Claim(worker, dir, today, after(2*time.Minute))
	requireCode(t, approvals.CodeStalePolicy, err)
	show("plan-tightened.golden", tr.Ticket.Plan)
	show("event-tightened.golden", tr.Events[0].Data)
}

// TestGoldenPlanHasEveryField: one that is added later is in the golden file, too.
func TestGoldenPlanHasEveryField(t *testing.T) {
	t.Parallel()
	dir := away(watched("fay"), "bo", "eve", 1000)
	plan := submit(t, everything(), dir).Plan
	plan.Round, plan.Reopened, plan.Stages[1].Round = 1, 1, 1
	for _, v := range []reflect.Value{reflect.ValueOf(plan), reflect.ValueOf(plan.Stages[0]), reflect.ValueOf(*plan.BreakGlass)} {
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			require.True(t, !v.Field(i).IsZero() || name == "Stage.Round", "%s says nothing", name)
		}
	}
}

// TestRosterOfEarlierPlansIsWhoeverIsThere: tickets from before there were rosters.
func TestRosterOfEarlierPlansIsWhoeverIsThere(t *testing.T) {
	t.Parallel()
	dir := office()
	plan := planOf(stage("peer", set(1, "team")))
	plan.Stages[0].Escalate = []approvals.Tier{{After: time.Hour, To: []string{"oncall"}, Mode: approvals.ModeAdd}}
	tk := submit(t, plan, dir)
	tk.Plan.Roster, tk.Plan.Delegates = nil, nil
	dir.Groups["team"] = append(dir.Groups["team"], "gus")
	dir = away(dir, "ana", "eve", 1000)
	require.Equal(t, []string{"bo", "chen", "eve", "gus"}, tk.WaitingFor(dir.At(after(time.Minute))))
	tr, err := tk.Escalate(0, 1, dir, after(time.Hour))
	require.NoError(t, err)
	require.Nil(t, tr.Ticket.Plan.Roster)
	require.Equal(t, approvals.Approved, must(t)(vote(tr.Ticket, "fay", approvals.Approve, dir, after(time.Hour))).State)
}
