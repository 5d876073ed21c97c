package policy

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"github.com/goccy/go-yaml/ast"
)

const (
	// maxCondition bounds the text of a condition, in bytes.
	maxCondition = 2 << 10
	// maxEstimate bounds what a condition may cost by estimate, with lists and texts of
	// typicalSize: a loop in a loop passes, a third level does not.
	maxEstimate = 10_000_000
	typicalSize = 256
	// maxCost bounds what evaluating one condition may cost, and maxCostOfCall what all
	// conditions may for one call: some 50 ms of one processor.
	maxCost       = 1_000_000
	maxCostOfCall = 2_000_000
	// maxFaults bounds what is reported about one condition.
	maxFaults = 5
)

// condition is a compiled text in CEL, which says true or false of a call. It is safe for
// concurrent use.
type condition struct {
	text    string
	tree    *celast.AST
	program cel.Program
	// vars are the path variables it names; anyVars says that it uses them at all.
	vars    []varUse
	anyVars bool
	// patterns are the sizes of the patterns in it.
	patterns map[ref.Val]uint64
}

// varUse is where a condition names a path variable.
type varUse struct {
	name      string
	line, col int
}

// fault is something wrong with the text of a condition. Lines count from 1, columns from
// 0, in characters.
type fault struct {
	line, col     int
	message, hint string
}

// names that a condition can use besides functions.
var conditionNames = []string{
	"body", "caller.name", "caller.owners", "headers", "method", "now", "on_behalf_of", "path", "query", "query_all", "vars",
}

// conditions returns the environment that conditions are compiled in; it is made once.
var conditions = sync.OnceValues(func() (*cel.Env, error) {
	settle()
	text := cel.MapType(cel.StringType, cel.StringType)
	return cel.NewEnv(
		cel.Variable("method", cel.StringType),
		cel.Variable("path", cel.StringType),
		cel.Variable("vars", text),
		cel.Variable("query", text),
		cel.Variable("query_all", cel.MapType(cel.StringType, cel.ListType(cel.StringType))),
		cel.Variable("headers", text),
		cel.Variable("body", cel.DynType),
		cel.Variable("caller.name", cel.StringType),
		cel.Variable("caller.owners", cel.ListType(cel.StringType)),
		cel.Variable("on_behalf_of", cel.StringType),
		cel.Variable("now", cel.TimestampType),
		ext.Strings(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.EnableMacroCallTracking(),
		cel.EagerlyValidateDeclarations(true),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
	)
})

// settle gives the errors that the library shares between evaluations a place in the
// expression, a meaningless one: it would write that of the first evaluation to fail into
// them, while others read it.
func settle() {
	types.LabelErrNode(math.MaxInt64, types.NoSuchOverloadErr())
	end := types.Timestamp{Time: time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC)}
	types.LabelErrNode(math.MaxInt64, end.Add(types.Duration{Duration: 2 * day}))
}

// compile turns a text into a condition, or says what is wrong with it.
func compile(text string) (c *condition, faults []fault) {
	defer func() {
		if recover() != nil { // a text that trips up the compiler is refused like any other
			c, faults = nil, []fault{{line: 1, message: "the condition cannot be compiled"}}
		}
	}()
	env, err := conditions()
	if err != nil {
		panic(err) // it depends on nothing but this package
	}
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, issuesOf(issues)
	}
	c = &condition{text: text, tree: tree.NativeRep()}
	if faults := c.check(); len(faults) > 0 {
		return nil, faults
	}
	if !tree.OutputType().IsExactType(cel.BoolType) {
		message := "the condition must be true or false, it is of type " + cel.FormatCELType(tree.OutputType())
		return nil, []fault{{line: 1, message: message, hint: "compare it with something"}}
	}
	prices := prices{patterns: c.patterns}
	if estimate, err := env.EstimateCost(tree, prices); err != nil || estimate.Max > maxEstimate {
		return nil, []fault{{line: 1, message: "the condition may cost too much to evaluate", hint: "loops in loops grow fast"}}
	}
	// Not with the library's optimizations: what they make of "in" has no cost.
	c.program, err = env.Program(tree, matching(), cel.CostTracking(prices), cel.CostLimit(maxCost))
	if err != nil {
		return nil, []fault{{line: 1, message: "the condition cannot be compiled: " + oneLine(err.Error())}}
	}
	return c, nil
}

// issuesOf translates what the compiler reports.
func issuesOf(issues *cel.Issues) []fault {
	var out []fault
	for _, e := range issues.Errors() {
		f := fault{line: max(e.Location.Line(), 1), col: max(e.Location.Column(), 0)}
		f.message, f.hint = reword(e.Message)
		out = append(out, f)
		if len(out) == maxFaults {
			break
		}
	}
	return out
}

// reword makes a message of the compiler fit for the report.
func reword(message string) (text, hint string) {
	message = oneLine(strings.ReplaceAll(message, " (in container '')", ""))
	name, undeclared := strings.CutPrefix(message, "undeclared reference to '")
	name, _, _ = strings.Cut(name, "'")
	switch {
	case undeclared && name == "caller":
		return "a condition knows of the caller only its name and owners", "write caller.name or caller.owners"
	case undeclared:
		return fmt.Sprintf("unknown name %q in the condition", shorten(name)), didYouMean(name, conditionNames)
	}
	message, _, _ = strings.Cut(message, " expecting {") // dozens of tokens follow
	return "the condition is not valid: " + message, ""
}

// maxMessage bounds a message of the compiler, in bytes.
const maxMessage = 300

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// whenDraft is a condition with its place. The condition is nil when there is none, or a
// bad one that has been reported.
type whenDraft struct {
	*condition
	at inner
}

// condition decodes and compiles the when of a match.
func (d *decoder) condition(r *ruleDraft) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		switch {
		case !ok:
			return
		case strings.TrimSpace(text) == "":
			d.problem(d.at(n), "", "%s is empty", d.label)
			return
		case len(text) > maxCondition || !utf8.ValidString(text):
			d.problem(d.at(n), "", "%s is longer than %s", d.label, showSize(maxCondition))
			return
		case d.disguised(n, text):
			return
		}
		r.Match.When, r.when.at = text, d.inside(n, text)
		c, known := d.draft.compiled[text]
		if !known {
			var faults []fault
			c, faults = compile(text)
			for _, f := range faults {
				d.problem(r.when.at.pos(f.line, f.col), f.hint, "%s", f.message)
			}
			if d.draft.compiled == nil {
				d.draft.compiled = make(map[string]*condition)
			}
			if c != nil {
				d.draft.compiled[text] = c
			}
		}
		r.when.condition = c
	}
}

// checkConditions reports path variables that a rule's template does not have.
func (d *decoder) checkConditions() {
	for i := range d.draft.rules {
		r := &d.draft.rules[i]
		if r.when.condition == nil || r.path.text != "" && !r.route.set {
			continue
		}
		known := r.route.variables()
		for _, use := range r.when.vars {
			if slices.Contains(known, use.name) {
				continue
			}
			r.broken = true
			hint := didYouMean(use.name, known)
			if len(known) == 0 {
				hint = "the rule has no path with a {variable}"
			}
			d.problem(r.when.at.pos(use.line, use.col), hint, "the path has no variable %q", shorten(use.name))
		}
	}
}

// prices estimates and counts what conditions cost.
type prices struct {
	// patterns are the sizes of those that matches is called with.
	patterns map[ref.Val]uint64
}

// zoned is the cost of a time in another zone, which is read from a file.
const zoned = 200

// EstimateCallCost prices times in another zone.
func (prices) EstimateCallCost(function, _ string, _ *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	if len(args) == 1 && zoneFunctions[function] {
		return &cost.CallEstimate{CostEstimate: cost.FixedCostEstimate(zoned)}
	}
	return nil
}

// EstimateSize says how long texts and lists are that come with a call.
func (prices) EstimateSize(node cost.AstNode) *cost.SizeEstimate {
	if node.ComputedSize() != nil {
		return nil
	}
	return &cost.SizeEstimate{Min: 0, Max: typicalSize}
}
