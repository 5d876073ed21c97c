package policy

import (
	"regexp"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

const (
	defaultExpires = 24 * time.Hour
	maxExpires     = 30 * day
	defaultExecute = 15 * time.Minute
	maxExecute     = day

	maxStages    = 10
	maxSets      = 10
	maxTiers     = 10
	maxFrom      = 100
	maxApprovals = 100
	maxReason    = 1000
	maxRedact    = 100
)

func (d *decoder) rule(n ast.Node) {
	before := len(d.problems)
	r := ruleDraft{at: d.at(n)}
	r.ExpiresIn, r.ExecuteWithin = defaultExpires, defaultExecute
	d.object(n, "a rule", fields{
		"name":           d.name(&r.name),
		"match":          d.match(&r),
		"action":         d.word(&r.action),
		"reason":         d.reason(&r.Reason),
		"redact":         d.redact(&r.Redact),
		"expires_in":     d.duration(&r.ExpiresIn, time.Second, maxExpires),
		"execute_within": d.duration(&r.ExecuteWithin, time.Second, maxExecute),
		"stages":         d.capped("stages", maxStages, d.stage(&r)),
	}, "name", "match")
	r.Name = r.name.text
	d.finishRule(&r, n)
	r.broken = len(d.problems) > before
	d.draft.rules = append(d.draft.rules, r)
}

// finishRule checks what can be judged from the rule alone.
func (d *decoder) finishRule(r *ruleDraft, n ast.Node) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		return
	}
	staged := hasField(m, "stages")
	switch r.action.text {
	case "allow":
		r.Action = approvals.ActionAllow
	case "deny":
		r.Action = approvals.ActionDeny
	case "":
		r.Action = approvals.ActionApprove
		if !staged && !hasField(m, "action") {
			d.problem(r.at, "add stages, or action: allow or deny", "the rule says neither who approves nor what to do")
		}
	default:
		d.problem(r.action.at, "to ask people, leave action out and list stages", "action must be allow or deny")
	}
	if r.action.text != "" && staged {
		d.problem(r.action.at, "remove one of them", "a rule has an action or stages, not both")
	}
	if r.Reason != "" && r.Action != approvals.ActionDeny {
		d.problem(r.at, "", "reason is for rules with action: deny")
	}
	if r.Reason == "" && r.Action == approvals.ActionDeny {
		r.Reason = "denied by rule " + r.Name
	}
	d.finishStages(r)
}

func (d *decoder) match(r *ruleDraft) field {
	return func(n ast.Node) {
		var one word
		if m, ok := n.(*ast.MappingNode); ok && hasField(m, "caller") && hasField(m, "callers") {
			d.problem(d.at(n), "keep callers", "match has both caller and callers")
		}
		d.object(n, "match", fields{
			"upstream": d.word(&r.upstream),
			"methods":  d.words("methods", &r.methods),
			"path":     d.word(&r.path),
			"caller":   d.word(&one),
			"callers":  d.words("callers", &r.callers),
		})
		if one.text != "" {
			r.callers = append(r.callers, one)
		}
		r.Match.Upstream, r.Match.Methods = r.upstream.text, d.methods(r.methods)
		r.Match.Path, r.Match.Callers = r.path.text, texts(r.callers)
		if r.path.text == "" {
			return
		}
		route, err := parseTemplate(r.path.text)
		if err != nil {
			d.problem(r.path.at, "", "%s", err)
		}
		r.route = route
	}
}

// reason decodes a free text, which may have several lines.
func (d *decoder) reason(dst *string) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		switch {
		case !ok:
		case strings.TrimSpace(text) == "":
			d.problem(d.at(n), "", "%s is empty", d.label)
		case len(text) > maxReason:
			d.problem(d.at(n), "", "%s is longer than %d bytes", d.label, maxReason)
		default:
			*dst = strings.TrimSpace(text)
		}
	}
}

var redactPattern = regexp.MustCompile(`^(headers\.[!#$%&'*+.^_|~0-9A-Za-z-]+|query\.\S+|body|body\.[^\s.]+(\.[^\s.]+)*)$`)

func (d *decoder) redact(dst *[]string) field {
	return func(n ast.Node) {
		var words []word
		d.words("redact", &words)(n)
		if len(words) > maxRedact {
			d.problem(d.at(n), "", "redact has %d items, at most %d are allowed", len(words), maxRedact)
		}
		for _, w := range words {
			if !redactPattern.MatchString(w.text) {
				d.problem(w.at, "", "redact takes headers.NAME, query.NAME, body or body.FIELD.FIELD")
				continue
			}
			if strings.HasPrefix(w.text, "headers.") {
				w.text = strings.ToLower(w.text)
			}
			*dst = append(*dst, w.text)
		}
	}
}

// capped is a list with a limit of its own.
func (d *decoder) capped(what string, most int, item field) field {
	return func(n ast.Node) {
		if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) > most {
			d.problem(d.at(n), "", "%s has %d items, at most %d are allowed", what, len(seq.Values), most)
			return
		}
		d.list(what, item)(n)
	}
}

func (d *decoder) stage(r *ruleDraft) field {
	return func(n ast.Node) {
		s := stageDraft{at: d.at(n), denials: 1}
		d.object(n, "a stage", fields{
			"name":     d.name(&s.name),
			"need":     d.capped("need", maxSets, d.set(&s)),
			"denials":  d.number(&s.denials, &s.denialAt, 1, maxApprovals),
			"remind":   d.remind(&s),
			"escalate": d.capped("escalate", maxTiers, d.tier(&s)),
			"notify":   d.notify(&s),
		}, "name", "need")
		r.stages = append(r.stages, s)
	}
}

func (d *decoder) set(s *stageDraft) field {
	return func(n ast.Node) {
		set := setDraft{at: d.at(n)}
		d.object(n, "an approver set", fields{
			"from":      d.from("from", &set.from),
			"approvals": d.number(&set.approvals, &set.approvalsAt, 1, maxApprovals),
		}, "from", "approvals")
		s.need = append(s.need, set)
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

func (d *decoder) remind(s *stageDraft) field {
	return func(n ast.Node) {
		s.remindAt = d.at(n)
		d.object(n, "remind", fields{"every": d.duration(&s.remind, time.Second, maxExpires)}, "every")
	}
}

func (d *decoder) notify(s *stageDraft) field {
	return func(n ast.Node) { d.object(n, "notify", fields{"channel": d.channel(&s.channel)}, "channel") }
}

func (d *decoder) tier(s *stageDraft) field {
	return func(n ast.Node) {
		t := tierDraft{at: d.at(n), mode: approvals.ModeAdd}
		var mode word
		d.object(n, "an escalation", fields{
			"after": func(n ast.Node) {
				t.afterAt = d.at(n)
				d.duration(&t.after, time.Second, maxExpires)(n)
			},
			"to":   d.from("to", &t.to),
			"mode": d.word(&mode),
		}, "after", "to")
		if mode.text != "" {
			t.mode = approvals.Mode(mode.text)
		}
		if t.mode != approvals.ModeAdd && t.mode != approvals.ModeReplace {
			d.problem(mode.at, didYouMean(mode.text, []string{"add", "replace"}), "mode must be add or replace")
		}
		s.tiers = append(s.tiers, t)
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
		if s.remind >= r.ExpiresIn {
			d.problem(s.remindAt, "", "the first reminder would come after the ticket has expired (expires_in: %s)", showDuration(r.ExpiresIn))
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
		Name: s.name.text, Denials: s.denials, RemindEvery: s.remind, Channel: s.channel.text,
	}
	for _, set := range s.need {
		out.Need = append(out.Need, approvals.ApproverSet{From: texts(set.from), Approvals: set.approvals})
	}
	for _, t := range s.tiers {
		out.Escalate = append(out.Escalate, approvals.Tier{After: t.after, To: texts(t.to), Mode: t.mode})
	}
	return out
}
