package policy

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

const (
	maxStages    = 10
	maxSets      = 10
	maxTiers     = 10
	maxFrom      = 100
	maxApprovals = 100
	maxBackoff   = 10
)

// commentRules are the words for when a comment is asked for. A no without a reason helps
// nobody, so one is, unless the policy says otherwise.
var commentRules = map[string]approvals.CommentRule{
	"": approvals.CommentDeny, "never": approvals.CommentNever, "approve": approvals.CommentApprove,
	"deny": approvals.CommentDeny, "both": approvals.CommentBoth,
}

func (d *decoder) stage(r *ruleDraft) field {
	return func(n ast.Node) {
		s := stageDraft{at: d.at(n), denials: 1}
		var comment word
		d.object(n, "a stage", fields{
			"name":     d.name(&s.name),
			"need":     d.capped("need", maxSets, d.set(&s)),
			"denials":  d.number(&s.denials, &s.denialAt, 1, maxApprovals),
			"comment":  d.choice(&comment, "never", "approve", "deny", "both"),
			"remind":   d.remind(&s.remind),
			"escalate": d.capped("escalate", maxTiers, d.tier(&s)),
			"notify":   d.notify(&s),
		}, "name", "need")
		s.comment = commentRules[comment.text]
		r.stages = append(r.stages, s)
	}
}

func (d *decoder) set(s *stageDraft) field { return d.approverSet(&s.need) }

func (d *decoder) approverSet(dst *[]setDraft) field {
	return func(n ast.Node) {
		set := setDraft{at: d.at(n)}
		d.object(n, "an approver set", fields{
			"from":      d.from("from", &set.from),
			"approvals": d.number(&set.approvals, &set.approvalsAt, 1, maxApprovals),
		}, "from", "approvals")
		*dst = append(*dst, set)
	}
}

func (d *decoder) from(what string, dst *[]word) field {
	return func(n ast.Node) {
		d.words(what, dst)(n)
		if len(*dst) > maxFrom {
			d.problem(d.at(n), "make a group of them", "%s has %d items, at most %d are allowed", what, len(*dst), maxFrom)
		}
	}
}

func (d *decoder) remind(r *remindDraft) field {
	return func(n ast.Node) {
		r.at, r.backoff = d.at(n), 1
		var backoffAt pos
		d.object(n, "remind", fields{
			"every":   d.duration(&r.every, time.Second, maxExpires),
			"backoff": d.number(&r.backoff, &backoffAt, 1, maxBackoff),
			"at_most": func(n ast.Node) {
				r.mostAt = d.at(n)
				d.duration(&r.most, time.Second, maxExpires)(n)
			},
		}, "every")
		switch {
		case r.most == 0 || r.every == 0:
		case r.backoff == 1 && backoffAt.src == nil:
			d.problem(r.mostAt, "set backoff", "at_most bounds what backoff makes longer, and there is none")
		case r.most < r.every:
			d.problem(r.mostAt, "", "at_most must not be less than every: %s", showDuration(r.every))
		}
	}
}

func (d *decoder) notify(s *stageDraft) field {
	return func(n ast.Node) {
		d.object(n, "notify", fields{
			"channel":  d.channel(&s.channel),
			"fallback": d.channel(&s.fallback),
			"direct":   d.boolean(&s.direct),
		})
		if m, ok := n.(*ast.MappingNode); ok && len(m.Values) == 0 {
			d.problem(d.at(n), "remove the field or give it a value", "notify is empty")
		}
	}
}

func (d *decoder) tier(s *stageDraft) field {
	return func(n ast.Node) {
		t := tierDraft{at: d.at(n)}
		mode := word{text: string(approvals.ModeAdd)}
		d.object(n, "an escalation", fields{
			"after": func(n ast.Node) {
				t.afterAt = d.at(n)
				d.duration(&t.after, time.Second, maxExpires)(n)
			},
			"to":        d.from("to", &t.to),
			"need":      d.capped("need", maxSets, d.approverSet(&t.need)),
			"mode":      d.choice(&mode, string(approvals.ModeAdd), string(approvals.ModeReplace)),
			"off_hours": d.boolean(&t.offHours),
		}, "after")
		t.mode = approvals.Mode(mode.text)
		d.finishTier(t, n)
		s.tiers = append(s.tiers, t)
	}
}

// finishTier checks that a tier says in one way whom it asks.
func (d *decoder) finishTier(t tierDraft, n ast.Node) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return
	}
	switch to, need := hasField(m, "to"), hasField(m, "need"); {
	case to && need:
		d.problem(t.at, "", `an escalation has "to" or "need", not both`)
	case !to && !need:
		d.problem(t.at, "", `an escalation needs the field "to", or "need" with mode: replace`)
	case need && t.mode == approvals.ModeAdd:
		d.problem(t.at, `add mode: replace, or use "to"`, "need stands in the place of the stage's own sets, so the mode must be replace")
	}
}

// finishStages checks the timers and turns the stages into those of a plan.
func (d *decoder) finishStages(r *ruleDraft) {
	seen := make(map[string]bool)
	for _, s := range r.stages {
		if s.name.text != "" && seen[s.name.text] {
			d.problem(s.name.at, "", "the rule has a stage %q already", s.name.text)
		}
		seen[s.name.text] = true
		if s.remind.every >= r.ExpiresIn {
			d.problem(s.remind.at, "", "the first reminder would come after the ticket has expired (expires_in: %s)", showDuration(r.ExpiresIn))
		}
		d.checkTiers(s, r.ExpiresIn)
		r.Stages = append(r.Stages, s.stage())
	}
}

func (d *decoder) checkTiers(s stageDraft, expires time.Duration) {
	var last time.Duration
	for _, t := range s.tiers {
		switch {
		case t.after == 0: // reported
		case t.after <= last:
			d.problem(t.afterAt, "", "escalations must be in order: %s is not later than %s before it", showDuration(t.after), showDuration(last))
		case t.after >= expires:
			d.problem(t.afterAt, "", "the escalation would come after the ticket has expired (expires_in: %s)", showDuration(expires))
		}
		last = max(last, t.after)
	}
}

func (s stageDraft) stage() approvals.Stage {
	out := approvals.Stage{
		Name: s.name.text, Need: sets(s.need), Denials: s.denials, Channel: s.channel.text, Comment: s.comment,
		Fallback: s.fallback.text, Direct: s.direct, RemindEvery: s.remind.every, RemindMax: s.remind.most,
	}
	if s.remind.backoff > 1 {
		out.RemindBackoff = s.remind.backoff
	}
	for _, t := range s.tiers {
		out.Escalate = append(out.Escalate, approvals.Tier{
			After: t.after, To: texts(t.to), Mode: t.mode, Need: sets(t.need), OffHours: t.offHours,
		})
	}
	return out
}

func sets(drafts []setDraft) []approvals.ApproverSet {
	var out []approvals.ApproverSet
	for _, set := range drafts {
		out = append(out, approvals.ApproverSet{From: texts(set.from), Approvals: set.approvals})
	}
	return out
}
