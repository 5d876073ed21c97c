package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"countersign/approvals"
)

// want is one field of an expectation: what is written, where, and how to judge it.
type want struct {
	field string
	text  string
	at    pos
	// where is the value that Update replaces; the zero extent is never replaced.
	where extent
	judge func(*outcome) verdict
}

// verdict is whether a field is as expected, and how it is instead. As YAML the latter can
// take the place of what is written, unless that is "".
type verdict struct {
	ok   bool
	text string
	yaml string
}

// plainly is a verdict that reads the same in a report and in a fixture.
func plainly(ok bool, yaml string) verdict { return verdict{ok: ok, text: yaml, yaml: yaml} }

func (w want) differs(v verdict) Difference {
	out := Difference{Field: w.field, Line: w.at.line, Want: w.text, Got: v.text}
	if v.yaml != "" {
		out.edit = edit{where: w.where, yaml: v.yaml}
	}
	return out
}

// Verdicts of a case: the state of the ticket after its decisions, and that there is none.
const verdictRefused = "refused"

func caseVerdicts() []string {
	return []string{
		string(approvals.Pending), string(approvals.Approved), string(approvals.Denied), string(approvals.Expired), verdictRefused,
	}
}

// expect decodes an expectation. An empty one is for Update to fill.
func (d *decoder) expect(c *Case) field {
	return func(n ast.Node) {
		m, ok := n.(*ast.MappingNode)
		if ok && len(m.Values) == 0 {
			where := extentOf(n)
			c.blank = &where
			return
		}
		x := expecting{d: d, c: c, where: d.extents(n)}
		d.object(n, "expect", fields{
			"rule":           x.rule(),
			"action":         x.action(),
			"reason":         x.reason(),
			"stages":         x.stages(),
			"expires_in":     x.duration("expires_in", maxExpires, func(p approvals.Plan) time.Duration { return p.ExpiresIn }),
			"execute_within": x.duration("execute_within", maxExecute, func(p approvals.Plan) time.Duration { return p.ExecuteWithin }),
			"distinct":       x.word("distinct", []string{"ticket", "stage"}, yamlDistinct),
			"on_stale":       x.word("on_stale", []string{"reopen", "end"}, yamlOnStale),
			"confirm":        x.word("confirm", []string{"none", "dialog", "modal", "code"}, yamlConfirm),
			"break_glass":    x.names("break_glass", bypassers),
			"redact":         x.names("redact", func(p approvals.Plan) []string { return p.Redact }),
			"can_approve":    x.canApprove(),
			"cannot_approve": x.cannotApprove(),
			"verdict":        x.verdict(),
		})
	}
}

// expecting decodes the fields of one expectation.
type expecting struct {
	d     *decoder
	c     *Case
	where map[string]extent
}

func (x expecting) add(field, text string, n ast.Node, where extent, judge func(*outcome) verdict) {
	x.c.wants = append(x.c.wants, want{field: field, text: text, at: x.d.at(n), where: where, judge: judge})
}

// rule decodes the name of the rule that must match, "" for none.
func (x expecting) rule() field {
	return func(n ast.Node) {
		name, ok := x.d.textOf(n)
		if !ok {
			return
		}
		x.add("rule", yamlText(name), n, x.where["rule"], func(o *outcome) verdict {
			return plainly(o.plan.Rule == name, yamlText(o.plan.Rule))
		})
	}
}

func (x expecting) action() field {
	return func(n ast.Node) {
		var w word
		x.d.oneOf(&w, []string{string(approvals.ActionAllow), string(approvals.ActionDeny), string(approvals.ActionApprove)})(n)
		x.add("action", w.text, n, x.where["action"], func(o *outcome) verdict {
			return plainly(string(o.plan.Action) == w.text, string(o.plan.Action))
		})
	}
}

func (x expecting) reason() field {
	return func(n ast.Node) {
		part, ok := x.d.textOf(n)
		if !ok {
			return
		}
		x.add("reason", yamlText(part), n, x.where["reason"], func(o *outcome) verdict {
			return plainly(strings.Contains(o.plan.Reason, part), yamlText(o.plan.Reason))
		})
	}
}

// duration decodes one of the times of a plan.
func (x expecting) duration(name string, most time.Duration, of func(approvals.Plan) time.Duration) field {
	return func(n ast.Node) {
		var v time.Duration
		x.d.duration(&v, time.Second, most)(n)
		x.add(name, showDuration(v), n, x.where[name], func(o *outcome) verdict {
			return plainly(of(o.plan) == v, showDuration(of(o.plan)))
		})
	}
}

// word decodes one of a few words about a plan.
func (x expecting) word(name string, known []string, of func(approvals.Plan) string) field {
	return func(n ast.Node) {
		var w word
		x.d.oneOf(&w, known)(n)
		x.add(name, w.text, n, x.where[name], func(o *outcome) verdict { return plainly(of(o.plan) == w.text, of(o.plan)) })
	}
}

// names decodes a list of a plan, which may be empty, in whatever order.
func (x expecting) names(name string, of func(approvals.Plan) []string) field {
	return func(n ast.Node) {
		names, ok := x.d.people(n)
		if !ok {
			return
		}
		x.add(name, yamlList(names), n, x.where[name], func(o *outcome) verdict {
			return plainly(yamlList(of(o.plan)) == yamlList(names), yamlList(of(o.plan)))
		})
	}
}

func yamlDistinct(p approvals.Plan) string { return cmp.Or(string(p.Distinct), "ticket") }

func yamlOnStale(p approvals.Plan) string { return cmp.Or(string(p.OnStale), "reopen") }

func yamlConfirm(p approvals.Plan) string { return cmp.Or(string(p.Confirm), "dialog") }

func yamlComment(s approvals.Stage) string { return cmp.Or(string(s.Comment), "never") }

// bypassers are the names that may break the glass.
func bypassers(p approvals.Plan) []string {
	if p.BreakGlass == nil {
		return nil
	}
	return p.BreakGlass.From
}

func (x expecting) verdict() field {
	return func(n ast.Node) {
		var w word
		x.d.oneOf(&w, caseVerdicts())(n)
		x.add("verdict", w.text, n, x.where["verdict"], func(o *outcome) verdict {
			out := plainly(o.verdict == w.text, o.verdict)
			if o.why != "" {
				out.text += " (" + o.why + ")"
			}
			return out
		})
	}
}

// canApprove decodes everybody who can approve the first stage when it opens.
func (x expecting) canApprove() field {
	return func(n ast.Node) {
		names, ok := x.d.people(n)
		if !ok {
			return
		}
		x.add("can_approve", yamlList(names), n, x.where["can_approve"], func(o *outcome) verdict {
			can := o.canApprove()
			out := plainly(o.why == "" && slices.Equal(can, slices.Sorted(slices.Values(names))), yamlList(can))
			if o.why != "" {
				out.text, out.yaml = o.why, ""
			}
			return out
		})
	}
}

// people decodes a list of names, which may be empty.
func (d *decoder) people(n ast.Node) ([]string, bool) {
	if seq, ok := n.(*ast.SequenceNode); ok && len(seq.Values) == 0 {
		return nil, true
	}
	before := len(d.problems)
	var words []word
	d.words(d.label, &words)(n)
	return texts(words), len(d.problems) == before
}

// cannotApprove decodes people who cannot approve the first stage when it opens, each with
// the code they would be told.
func (x expecting) cannotApprove() field {
	return func(n ast.Node) {
		where := x.d.extents(n)
		x.d.mapping(n, func(person string, _ pos, value ast.Node) {
			var code word
			x.d.label = "the reason why " + shorten(person) + " cannot approve"
			x.d.oneOf(&code, refusals())(value)
			x.add("cannot_approve."+person, code.text, value, where[person], func(o *outcome) verdict {
				return o.cannotApprove(person, code.text)
			})
		})
	}
}

// stages decodes what the stages must be. Of each only the fields that are written count.
func (x expecting) stages() field {
	return func(n ast.Node) {
		seq, ok := n.(*ast.SequenceNode)
		if !ok || len(seq.Values) == 0 {
			x.d.list("stages", nil)(n)
			return
		}
		count := len(seq.Values)
		x.add("stages", plural(count, "stage"), n, x.where["stages"], func(o *outcome) verdict {
			return verdict{
				ok: len(o.plan.Stages) == count, text: plural(len(o.plan.Stages), "stage") + ": " + yamlStages(o.plan.Stages),
				yaml: yamlStages(o.plan.Stages),
			}
		})
		for i, item := range seq.Values {
			x.stage(i, count, bare(item))
		}
	}
}

func (x expecting) stage(i, count int, n ast.Node) {
	where := x.d.extents(n)
	// ask judges a stage, where there are as many as expected: a missing one is said once.
	ask := func(name, text string, n ast.Node, judge func(approvals.Stage) verdict) {
		x.add(stageField(i, name), text, n, where[name], func(o *outcome) verdict {
			if len(o.plan.Stages) != count {
				return verdict{ok: true}
			}
			return judge(o.plan.Stages[i])
		})
	}
	x.d.object(n, "a stage", fields{
		"name": func(n ast.Node) {
			var w word
			x.d.word(&w)(n)
			ask("name", w.text, n, func(s approvals.Stage) verdict { return plainly(s.Name == w.text, yamlText(s.Name)) })
		},
		"denials": func(n ast.Node) {
			var v int
			var at pos
			x.d.number(&v, &at, 1, maxApprovals)(n)
			ask("denials", strconv.Itoa(v), n, func(s approvals.Stage) verdict {
				return plainly(s.Denials == v, strconv.Itoa(s.Denials))
			})
		},
		"comment": func(n ast.Node) {
			var w word
			x.d.oneOf(&w, []string{"never", "approve", "deny", "both"})(n)
			ask("comment", w.text, n, func(s approvals.Stage) verdict { return plainly(yamlComment(s) == w.text, yamlComment(s)) })
		},
		"escalate": func(n ast.Node) {
			var s stageDraft
			if seq, ok := n.(*ast.SequenceNode); !ok || len(seq.Values) > 0 {
				x.d.list("escalate", x.d.tier(&s))(n)
			}
			tiers := s.stage().Escalate
			ask("escalate", yamlTiers(tiers), n, func(s approvals.Stage) verdict {
				return plainly(yamlTiers(s.Escalate) == yamlTiers(tiers), yamlTiers(s.Escalate))
			})
		},
		"need": func(n ast.Node) {
			var s stageDraft
			x.d.list("need", x.d.set(&s))(n)
			sets := s.stage().Need
			ask("need", yamlSets(sets), n, func(s approvals.Stage) verdict {
				return plainly(yamlSets(s.Need) == yamlSets(sets), yamlSets(s.Need))
			})
		},
	})
}

// wantDecision judges whether a decision was taken or refused as its case says.
func wantDecision(i int, one CaseDecision) want {
	w := want{field: fmt.Sprintf("decisions[%d]", i), text: said(one.Person, one.Refused), at: one.at}
	w.judge = func(o *outcome) verdict {
		if _, known := o.config.directory.People[one.Person]; !known {
			return verdict{ok: true} // has been said
		}
		if i >= len(o.decided) {
			return verdict{ok: false, text: "there is no ticket to decide on"}
		}
		d := o.decided[i]
		text := said(one.Person, d.code)
		if d.message != "" {
			text += " (" + d.message + ")"
		}
		return verdict{ok: d.code == one.Refused, text: text}
	}
	return w
}

func said(person string, refused approvals.Code) string {
	if refused == "" {
		return person + " is taken"
	}
	return person + " is refused: " + string(refused)
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

var plainWord = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._@/-]*$`)

// yamlText writes a text as a fixture can hold it, in a flow of one line.
func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off":
	default:
		if plainWord.MatchString(s) {
			return s
		}
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return string(quoted)
}

func yamlList(names []string) string {
	out := make([]string, len(names))
	for i, name := range slices.Sorted(slices.Values(names)) {
		out[i] = yamlText(name)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func yamlSets(sets []approvals.ApproverSet) string {
	out := make([]string, len(sets))
	for i, s := range sets {
		out[i] = fmt.Sprintf("{from: %s, approvals: %d}", yamlList(s.From), s.Approvals)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func yamlStages(stages []approvals.Stage) string {
	out := make([]string, len(stages))
	for i, s := range stages {
		out[i] = fmt.Sprintf("{name: %s, need: %s, denials: %d, comment: %s, escalate: %s}", yamlText(s.Name), yamlSets(s.Need),
			s.Denials, yamlComment(s), yamlTiers(s.Escalate))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

func yamlTiers(tiers []approvals.Tier) string {
	out := make([]string, len(tiers))
	for i, t := range tiers {
		whom := "to: " + yamlList(t.To)
		if len(t.Need) > 0 {
			whom = "need: " + yamlSets(t.Need)
		}
		out[i] = fmt.Sprintf("{after: %s, %s, mode: %s", showDuration(t.After), whom, t.Mode)
		if t.OffHours {
			out[i] += ", off_hours: true"
		}
		out[i] += "}"
	}
	return "[" + strings.Join(out, ", ") + "]"
}
