package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"countersign/approvals"
	"countersign/policy"
)

// explanation is what the explain command shows.
type explanation struct {
	paint

	config *policy.Config
	q      question
	e      policy.Explanation
}

func (x explanation) text() string {
	var b strings.Builder
	b.WriteString(x.title() + "\n" + x.notes() + "\n")
	if len(x.e.Steps) > 0 {
		b.WriteString(x.bold("Rules") + "\n" + x.steps() + "\n")
	}
	b.WriteString(x.verdict() + "\n")
	for _, line := range x.terms() {
		b.WriteString("  " + line + "\n")
	}
	for i := range x.e.Stages {
		b.WriteString("\n" + x.stage(i))
	}
	if x.e.Problem != "" {
		b.WriteString("\n" + x.bad("It would be refused when submitted: ") + x.e.Problem + "\n")
	}
	return b.String()
}

func (x explanation) title() string {
	path := x.q.call.Path
	if x.q.call.Query != "" {
		path += "?" + x.q.call.Query
	}
	out := x.bold(x.q.call.Method+" "+path) + " on " + x.q.call.Upstream + ", by " + x.q.caller.Name
	if x.q.person != "" {
		out += " for " + x.q.person
	}
	return out + ", on " + x.q.at.Format("Mon 2006-01-02 15:04 MST")
}

// notes say what the API would refuse before it asks any rule.
func (x explanation) notes() (out string) {
	upstream, _ := x.config.Upstream(x.q.call.Upstream)
	for _, h := range x.q.call.Headers {
		if h.Name != "Content-Type" && !slices.Contains(upstream.RequestHeaders, strings.ToLower(h.Name)) {
			out += x.alert("note: ") + "callers may not set " + h.Name + " on " + upstream.Name + ", so such a call would be refused\n"
		}
	}
	if len(x.e.Unknown) > 0 {
		out += x.alert("note: ") + "who is in a user group only Slack can say: " + strings.Join(x.e.Unknown, ", ") + " counts as empty here\n"
	}
	return out
}

func (x explanation) steps() string {
	var rows [][]string
	for i, s := range x.e.Steps {
		rows = append(rows, step(i, s))
	}
	return columns("", rows, func(row, _ int, text string) string {
		if x.e.Steps[row].Matched {
			return x.bold(text)
		}
		return x.dim(text)
	})
}

// verdict is the answer in one line.
func (x explanation) verdict() string {
	p := x.e.Plan
	switch p.Action {
	case approvals.ActionAllow:
		return x.good("Allowed") + " by rule " + x.bold(p.Rule) + ": the call is made at once, nobody is asked."
	case approvals.ActionApprove:
		return x.alert("People are asked") + " by rule " + x.bold(p.Rule) + ": " + plural(len(p.Stages), "stage", "stages") +
			", " + plural(approvalsIn(p), "approval", "approvals") + " in all."
	case approvals.ActionDeny:
	}
	by := ""
	if p.Rule != "" {
		by = " by rule " + x.bold(p.Rule)
	}
	return x.bad("Denied") + by + ": " + p.Reason
}

func approvalsIn(p approvals.Plan) (n int) {
	for _, s := range p.Stages {
		for _, set := range s.Need {
			n += set.Approvals
		}
	}
	return n
}

// terms are the conditions of a plan that asks people.
func (x explanation) terms() []string {
	p := x.e.Plan
	if p.Action != approvals.ActionApprove {
		return nil
	}
	out := []string{"They have " + span(p.ExpiresIn) + " to decide; once approved, the call is made within " + span(p.ExecuteWithin) + "."}
	if len(p.Stages) > 1 || len(p.Stages[0].Need) > 1 {
		out = append(out, map[approvals.Distinct]string{
			approvals.DistinctTicket: "One person counts once in all stages together.",
			approvals.DistinctStage:  "One person counts once in each stage.",
		}[p.Distinct])
	}
	if len(p.Excluded) > 0 {
		out = append(out, "Counted as the requester, and so out: "+strings.Join(p.Excluded, ", ")+".")
	}
	if p.BreakGlass != nil {
		line := "In an emergency, alone and with a comment: " + strings.Join(p.BreakGlass.From, " or ")
		if p.BreakGlass.Announce != "" {
			line += ", announced in " + p.BreakGlass.Announce
		}
		out = append(out, line+".")
	}
	if p.OnStale == approvals.StaleEnd {
		out = append(out, "When an approval no longer stands as the call is due, the ticket ends.")
	}
	if line := confirmInWords[p.Confirm]; line != "" {
		out = append(out, line)
	}
	if len(p.Redact) > 0 {
		out = append(out, "They are not shown: "+strings.Join(p.Redact, ", ")+".")
	}
	return out
}

// confirmInWords says what approving in Slack takes, where that is not what it usually does.
var confirmInWords = map[approvals.Confirm]string{
	approvals.ConfirmNone:  "In Slack the button approves at once.",
	approvals.ConfirmModal: "In Slack they approve from the view of the whole request only.",
	approvals.ConfirmCode:  "In Slack they approve from the view of the whole request only, and type the last four digits of its fingerprint.",
}

func (x explanation) stage(i int) string {
	s, e := x.e.Plan.Stages[i], x.e.Stages[i]
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", x.bold(fmt.Sprintf("Stage %d: %s", i+1, s.Name)))
	for _, line := range stageTerms(s, e) {
		b.WriteString("  " + line + "\n")
	}
	for _, tier := range e.Tiers {
		b.WriteString("  " + tierInWords(tier) + "\n")
	}
	if e.Problem != "" {
		b.WriteString("  " + x.bad("nobody can complete it: ") + e.Problem + "\n")
	}
	b.WriteString(x.people(e))
	return b.String()
}

func stageTerms(s approvals.Stage, e policy.StageExplanation) []string {
	out := []string{setsInWords(e.Sets)}
	if s.Denials > 1 {
		out = append(out, fmt.Sprintf("%d people must deny to end it", s.Denials))
	}
	switch s.Comment {
	case approvals.CommentNever:
	case approvals.CommentBoth:
		out = append(out, "a comment is required")
	case approvals.CommentApprove, approvals.CommentDeny:
		out = append(out, "a comment is required to "+string(s.Comment))
	}
	switch {
	case s.Channel != "" && s.Direct:
		out = append(out, "asked in "+s.Channel+" and by direct message")
	case s.Channel != "":
		out = append(out, "asked in "+s.Channel)
	case s.Direct:
		out = append(out, "asked by direct message")
	}
	if s.RemindEvery > 0 {
		out = append(out, "reminded every "+span(s.RemindEvery)+backoff(s))
	}
	if len(s.Hours) > 0 {
		out = append(out, "reminders and escalations wait for their hours of work")
	}
	return out
}

func backoff(s approvals.Stage) string {
	if s.RemindBackoff <= 1 {
		return ""
	}
	out := fmt.Sprintf(", each wait %d times the one before", s.RemindBackoff)
	if s.RemindMax > 0 {
		out += ", up to " + span(s.RemindMax)
	}
	return out
}

func tierInWords(t approvals.Tier) string {
	after := "after " + span(t.After)
	if t.OffHours {
		after += ", whatever the hour"
	}
	switch {
	case len(t.Need) > 0:
		return after + ": instead " + setsInWords(t.Need)
	case t.Mode == approvals.ModeReplace:
		return after + ": " + strings.Join(t.To, " and ") + " are asked instead"
	}
	return after + ": " + strings.Join(t.To, " and ") + " are asked as well"
}

// people lists who can approve the stage as it opens, and who cannot.
func (x explanation) people(e policy.StageExplanation) string {
	var can, cannot [][]string
	for _, p := range e.People {
		switch {
		case p.Can && p.For != "":
			can = append(can, []string{p.Person, "in the place of " + p.For + ", who is away (" + strings.Join(p.Sets, ", ") + ")"})
		case p.Can:
			can = append(can, []string{p.Person, strings.Join(p.Sets, ", ")})
		default:
			cannot = append(cannot, []string{p.Person, string(p.Code), p.Reason})
		}
	}
	out := "  " + x.good("can approve") + "\n" + columns("    ", can, nil)
	if len(can) == 0 {
		out = "  " + x.bad("nobody can approve it as it opens") + "\n"
	}
	if len(cannot) > 0 {
		out += "  " + x.alert("cannot, and would be told") + "\n" + columns("    ", cannot, nil)
	}
	return out
}

// when writes a time for people.
func when(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }
