package slack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/slack"
)

const otherTicket = "tkt_01k9w3e8q2h5v7n4c6d0x1r7q8"

var bo = approvals.Actor{Kind: approvals.ActorPerson, Name: "bo", Via: "slack"}

// asked is a ticket with an open question.
func asked(t *testing.T, ticket approvals.Ticket, text string) approvals.Ticket {
	t.Helper()
	tr, err := ticket.Ask(bo, approvals.Question{Person: "bo", Text: text}, directory(), start.Add(time.Minute))
	return next(t, tr, err)
}

// replied answers the open question, and returns it with its answer.
func replied(t *testing.T, ticket approvals.Ticket, text string) (approvals.Ticket, approvals.Question) {
	t.Helper()
	tr, err := ticket.Answer(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot"}, text, start.Add(2*time.Minute))
	after := next(t, tr, err)
	return after, *tr.Events[0].Data.Question
}

// breakable is a plan whose glass dev may break.
func breakable() approvals.Plan {
	p := plan()
	p.Stages[0].Channel = "C01BILLING"
	p.BreakGlass = &approvals.BreakGlass{From: []string{"oncall"}, Announce: "#security"}
	return p
}

func broken(t *testing.T, ticket approvals.Ticket, comment string) approvals.Ticket {
	t.Helper()
	return decided(t, ticket, "dev", approvals.GlassBroken, comment)
}

// stricter is what the policy of today demands: somebody on call as well.
func stricter() approvals.Plan {
	p := plan()
	p.PolicyDigest = "p2"
	p.Stages = append(p.Stages[:1:1], approvals.Stage{
		Name: "ops", Need: []approvals.ApproverSet{{From: []string{"oncall"}, Approvals: 1}}, Denials: 1,
	})
	return p
}

// changed is an approved ticket after a claim that its approvals do not allow.
func changed(t *testing.T, ticket approvals.Ticket, dir approvals.Directory, today approvals.Plan) (approvals.Ticket, approvals.Event) {
	t.Helper()
	tr, err := ticket.Claim("w1", dir, today, start.Add(18*time.Minute))
	require.Error(t, err)
	return tr.Ticket, tr.Events[0]
}

func without(people ...string) approvals.Directory {
	dir := directory()
	for _, name := range people {
		delete(dir.People, name)
	}
	return dir
}

// absent is a directory in which chen is away, and dan decides for chen.
func absent() approvals.Directory {
	dir := directory()
	dir.Away = map[string]approvals.Absence{"chen": {Until: start.Add(30 * time.Hour), Delegate: "dan"}}
	return dir
}

// standIn is a ticket that was asked while chen was away.
func standIn(t *testing.T) approvals.Ticket {
	t.Helper()
	tr, err := approvals.Submit(submission(), plan(), absent(), start)
	return next(t, tr, err)
}

func votedFor(t *testing.T, ticket approvals.Ticket, person string, verdict approvals.Verdict, comment string) approvals.Ticket {
	t.Helper()
	tr, err := ticket.Decide(approvals.Actor{Kind: approvals.ActorPerson, Name: person, Via: "slack"}, approvals.Decision{
		Person: person, Verdict: verdict, Stage: ticket.Stage, Digest: ticket.Digest, Comment: comment,
	}, absent(), start.Add(5*time.Minute))
	return next(t, tr, err)
}

func viewIn(ticket approvals.Ticket, dir approvals.Directory) slack.View {
	v := viewOf(ticket, 0)
	v.Directory, v.Tally = dir, ticket.Tally(0, dir)
	return v
}

// laterStates are those that questions, schedules, bypasses and changes lead to.
func laterStates(t *testing.T) map[string]slack.View {
	t.Helper()
	out := map[string]slack.View{}
	pending := submitted(t, submission(), plan())
	once, first := replied(t, asked(t, pending, "Which *ticket* is this for?"), "Case 991 <@U02BO>")
	twice, second := replied(t, asked(t, once, "And who asked?"), "The customer")
	open := viewOf(asked(t, once, "And who asked?"), 0)
	for name, v := range map[string]slack.View{"question_answered": viewOf(once, 0), "question_open_again": open} {
		v.Answered = []approvals.Question{first}
		out[name] = v
	}
	both := viewOf(twice, 0)
	both.Answered = []approvals.Question{first, second}
	out["questions_answered"] = both

	tr, err := pending.Supersede(approvals.Actor{Kind: approvals.ActorCaller, Name: "payroll-bot"}, otherTicket, start.Add(time.Minute))
	out["superseded"] = viewOf(next(t, tr, err), 0)
	tr, err = pending.Reassess(without("chen", "eve", "dev"), start.Add(time.Minute))
	out["stalled"] = viewIn(next(t, tr, err), without("chen", "eve", "dev"))
	addConfirmed(t, out)
	addPlaces(t, out)
	addScheduled(t, out)
	addCommented(t, out)
	addBroken(t, out)
	addRounds(t, out)
	out["waiting_for_a_delegate"] = viewIn(standIn(t), absent())
	out["decided_in_a_place"] = viewIn(votedFor(t, standIn(t), "dan", approvals.Approve, "chen has read it"), absent())
	out["denied_in_a_place"] = viewIn(votedFor(t, standIn(t), "dan", approvals.Deny, "chen would not want it"), absent())
	return out
}

func addConfirmed(t *testing.T, out map[string]slack.View) {
	t.Helper()
	for name, c := range map[string]approvals.Confirm{
		"confirm_none": approvals.ConfirmNone, "confirm_modal": approvals.ConfirmModal, "confirm_code": approvals.ConfirmCode,
	} {
		out[name] = withConfirm(viewOf(approved(t, submitted(t, submission(), plan()), "bo"), 0), c)
	}
	s := submission()
	s.Call.Body = []byte(longBody(20_000))
	out["long_with_glass"] = viewOf(submitted(t, s, breakable()), 0)
}

// live is a directory in which the group oncall is a user group of Slack.
func live() approvals.Directory {
	dir := directory()
	dir.Groups["oncall"] = []string{"dev", "dan", "eve"}
	dir.Live = map[string]string{"oncall": "S0ONCALL"}
	return dir
}

// asksUserGroup is a ticket that a user group of Slack is asked for, and bo.
func asksUserGroup(t *testing.T) approvals.Ticket {
	t.Helper()
	p := plan()
	p.Stages[0].Need = []approvals.ApproverSet{{From: []string{"oncall", "bo"}, Approvals: 2}}
	tr, err := approvals.Submit(submission(), p, live(), start)
	return next(t, tr, err)
}

func addPlaces(t *testing.T, out map[string]slack.View) {
	t.Helper()
	out["user_group"] = viewIn(asksUserGroup(t), live())
	one := viewOf(approved(t, submitted(t, submission(), plan()), "bo"), 0)
	one.Reader = "chen"
	other := one
	other.Reader = "bo"
	out["direct_message"], out["direct_message_after"] = one, other
}

func addScheduled(t *testing.T, out map[string]slack.View) {
	t.Helper()
	s := submission()
	s.NotBefore, s.Supersedes = start.Add(3*time.Hour), otherTicket
	waiting := submitted(t, s, plan())
	out["scheduled"] = viewOf(approved(t, waiting, "bo"), 0)
	held := approved(t, waiting, "bo", "chen")
	out["held"] = viewOf(held, 0)
	tr, err := held.Release(start.Add(3 * time.Hour))
	out["released"] = viewOf(next(t, tr, err), 0)
}

func addCommented(t *testing.T, out map[string]slack.View) {
	t.Helper()
	for name, rule := range map[string]approvals.CommentRule{
		"comment_to_approve": approvals.CommentApprove, "comment_to_deny": approvals.CommentDeny, "comment_always": approvals.CommentBoth,
	} {
		p := plan()
		p.Stages[0].Comment = rule
		out[name] = viewOf(decided(t, submitted(t, submission(), p), "bo", approvals.Approve, "Checked with *legal*"), 0)
	}
}

func addBroken(t *testing.T, out map[string]slack.View) {
	t.Helper()
	breakable := submitted(t, submission(), breakable())
	out["glass"] = viewOf(breakable, 0)
	out["glass_broken"] = viewOf(broken(t, breakable, "Production is *down* <!channel>"), 0)
	late := broken(t, approved(t, breakable, "bo"), "Production is down")
	out["glass_broken_succeeded"] = viewOf(finished(t, executing(t, late), answered(200, true)), 0)
	again, _ := changed(t, late, without("dev"), late.Plan)
	out["glass_broken_in_vain"] = viewIn(again, without("dev"))
}

func addRounds(t *testing.T, out map[string]slack.View) {
	t.Helper()
	yes := approved(t, submitted(t, submission(), plan()), "bo", "chen")
	again, _ := changed(t, yes, directory(), stricter())
	out["asked_again"] = viewOf(again, 1)
	out["asked_again_elsewhere"] = viewOf(again, 0)
	back, _ := changed(t, yes, without("bo"), yes.Plan)
	out["reopened"] = viewIn(back, without("bo"))
}
