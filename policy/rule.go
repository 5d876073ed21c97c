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

	maxReason = 1000
	maxRedact = 100
)

func (d *decoder) rule(n ast.Node) {
	before := len(d.problems)
	r := ruleDraft{at: d.at(n)}
	r.ExpiresIn, r.ExecuteWithin = defaultExpires, defaultExecute
	var distinct, stale, confirm, idempotency word
	d.object(n, "a rule", fields{
		"name":           d.name(&r.name),
		"match":          d.match(&r),
		"action":         d.word(&r.action),
		"reason":         d.reason(&r.Reason),
		"redact":         d.redact(&r.Redact),
		"expires_in":     d.duration(&r.ExpiresIn, time.Second, maxExpires),
		"execute_within": d.duration(&r.ExecuteWithin, time.Second, maxExecute),
		"stages":         d.capped("stages", maxStages, d.stage(&r)),
		"distinct":       d.choice(&distinct, "ticket", "stage"),
		"on_stale":       d.choice(&stale, "reopen", "end"),
		"break_glass":    d.breakGlass(&r),
		"confirm":        d.choice(&confirm, "none", "dialog", "modal", "code"),

		"success":         d.placed(&r.successAt, d.list("success", d.status(&r.Success))),
		"idempotency_key": d.placed(&r.keyAt, d.choice(&idempotency, "optional", "required")),
		"sensitive":       d.placed(&r.sensitiveAt, d.boolean(&r.Sensitive)),
	}, "name", "match")
	r.KeyRequired = idempotency.text == "required"
	r.Name = r.name.text
	if distinct.text == "stage" {
		r.Distinct = approvals.DistinctStage
	}
	if stale.text == "end" {
		r.OnStale = approvals.StaleEnd
	}
	if r.Confirm = approvals.Confirm(confirm.text); confirm.text == "dialog" {
		r.Confirm = approvals.ConfirmDialog
	}
	d.finishRule(&r, n)
	d.checkApplies(r, distinct, stale, confirm)
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

// checkApplies reports what says nothing in a rule of this kind.
func (d *decoder) checkApplies(r ruleDraft, distinct, stale, confirm word) {
	if len(r.stages) > 0 || (r.Action != approvals.ActionAllow && r.Action != approvals.ActionDeny) {
		return // it has stages, or nobody knows what it wants
	}
	if distinct.text != "" {
		d.problem(distinct.at, "", "distinct is for rules with stages")
	}
	if confirm.text != "" {
		d.problem(confirm.at, "", "confirm is for rules with stages")
	}
	if r.glassAt.src != nil {
		d.problem(r.glassAt, "", "break_glass is for rules with stages")
	}
	if r.Action != approvals.ActionDeny {
		return
	}
	for _, f := range []struct {
		name string
		at   pos
	}{{"on_stale", stale.at}, {"success", r.successAt}, {"idempotency_key", r.keyAt}, {"sensitive", r.sensitiveAt}} {
		if f.at.src != nil {
			d.problem(f.at, "", "%s is for rules that let calls through", f.name)
		}
	}
}

// breakGlass decodes who may bypass the stages.
func (d *decoder) breakGlass(r *ruleDraft) field {
	return func(n ast.Node) {
		var announce word
		r.glassAt = d.at(n)
		d.object(n, "break_glass", fields{
			"from":     d.from("from", &r.glass),
			"announce": d.channel(&announce),
		}, "from")
		r.BreakGlass = &approvals.BreakGlass{From: texts(r.glass), Announce: announce.text}
	}
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
			"when":     d.condition(r),
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
