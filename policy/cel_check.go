package policy

import (
	"slices"
	"strings"
	"time"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// unavailable are functions whose results, or whose work, can be out of all proportion to
// what they are given: the limits on cost would notice too late.
var unavailable = map[string]bool{
	"format": true, "indexOf": true, "join": true, "lastIndexOf": true, "replace": true, "reverse": true, "strings.quote": true,
}

// zoneFunctions take a time apart, in another zone when they are given one.
var zoneFunctions = map[string]bool{
	"getDate": true, "getDayOfMonth": true, "getDayOfWeek": true, "getDayOfYear": true, "getFullYear": true,
	"getHours": true, "getMilliseconds": true, "getMinutes": true, "getMonth": true, "getSeconds": true,
}

// checker looks for what the types of CEL do not forbid.
type checker struct {
	*condition
	faults []fault
	// looked are the uses of query and headers where something is looked up in them.
	looked map[int64]bool
}

// check reports what is wrong with a type-checked condition, and notes the path variables.
func (c *condition) check() []fault {
	k := checker{condition: c, looked: make(map[int64]bool)}
	celast.PreOrderVisit(c.tree.Expr(), celast.NewExprVisitor(k.visit))
	slices.SortFunc(k.faults, func(a, b fault) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return a.col - b.col
	})
	return k.faults[:min(len(k.faults), maxFaults)]
}

func (k *checker) fault(e celast.Expr, hint, message string) {
	line, col := k.where(e.ID())
	k.faults = append(k.faults, fault{line: line, col: col, message: message, hint: hint})
}

// where returns where an expression begins: that of the macro, for what a macro made.
func (c *condition) where(id int64) (line, col int) {
	at := c.tree.SourceInfo().GetStartLocation(id)
	return max(at.Line(), 1), max(at.Column(), 0)
}

// visit sees every expression before those in it.
func (k *checker) visit(e celast.Expr) {
	switch e.Kind() {
	case celast.IdentKind:
		k.ident(e)
	case celast.SelectKind:
		k.lookup(e.AsSelect().Operand(), e.AsSelect().FieldName(), true)
	case celast.CallKind:
		k.call(e)
	case celast.ComprehensionKind:
		k.shadows(e)
		k.lookup(e.AsComprehension().IterRange(), "", false)
	case celast.MapKind:
		k.keys(e)
	case celast.UnspecifiedExprKind, celast.LiteralKind, celast.ListKind, celast.StructKind:
	}
}

// keys reports a key of a map that is not written out: making a map of long texts has work
// that is not counted.
func (k *checker) keys(e celast.Expr) {
	for _, entry := range e.AsMap().Entries() {
		if key := entry.AsMapEntry().Key(); key.Kind() != celast.LiteralKind {
			k.fault(key, "write it out", "the keys of a map must be literals")
		}
	}
}

// shadows reports the variable of a macro that hides one of the names of conditions.
func (k *checker) shadows(e celast.Expr) {
	for _, name := range []string{e.AsComprehension().IterVar(), e.AsComprehension().IterVar2()} {
		for _, known := range conditionNames {
			if root, _, _ := strings.Cut(known, "."); name == root {
				k.fault(e, "give the variable another name", "the variable "+quoted(name)+" hides that of the call")
				break
			}
		}
	}
}

func (k *checker) ident(e celast.Expr) {
	switch name := e.AsIdent(); name {
	case "vars":
		k.anyVars = true
	case "query", "headers":
		if !k.looked[e.ID()] {
			k.fault(e, "write "+name+`.NAME or `+name+`["name"]`, name+" can only be looked up in")
		}
	}
}

// lookup notes that something is looked up in an expression, by a name when it is known.
func (k *checker) lookup(in celast.Expr, name string, named bool) {
	if in == nil || in.Kind() != celast.IdentKind {
		return
	}
	switch in.AsIdent() {
	case "vars":
		if named {
			line, col := k.where(in.ID())
			k.vars = append(k.vars, varUse{name: name, line: line, col: col})
		}
	case "query", "headers":
		k.looked[in.ID()] = true
		if in.AsIdent() == "headers" && named && name != strings.ToLower(name) {
			k.fault(in, "write headers["+quoted(strings.ToLower(name))+"]", "the names of headers are in lower case here")
		}
	}
}

func quoted(text string) string { return `"` + shorten(text) + `"` }

func (k *checker) call(e celast.Expr) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	if unavailable[name] {
		k.fault(e, "", "the function "+name+" is not available in conditions")
	}
	switch {
	case name == operators.Index && len(args) == 2:
		text, literal := literalText(args[1])
		k.lookup(args[0], text, literal)
	case name == operators.In && len(args) == 2:
		k.lookup(args[1], "", false)
	case name == "size" && len(args) == 1:
		k.lookup(args[0], "", false)
	case name == "size":
		k.lookup(call.Target(), "", false)
	case name == "matches" && len(args) > 0:
		k.pattern(args[len(args)-1])
	case zoneFunctions[name] && len(args) == 1:
		k.zone(args[0])
	}
}

// pattern notes how dear the pattern of a match is.
func (k *checker) pattern(arg celast.Expr) {
	text, literal := literalText(arg)
	if !literal {
		k.fault(arg, "write it out", "the pattern of matches must be a literal")
		return
	}
	if k.patterns == nil {
		k.patterns = make(map[ref.Val]uint64)
	}
	k.patterns[types.String(text)] = sizeOf(text)
}

// zone checks the name of a time zone, which must not wait for a call to be found unknown.
func (k *checker) zone(arg celast.Expr) {
	text, literal := literalText(arg)
	if !literal {
		k.fault(arg, "write it out", "the time zone must be a literal")
		return
	}
	if strings.Contains(text, ":") {
		if _, err := time.Parse("-07:00", text); err != nil {
			k.fault(arg, `write "+02:00"`, "the time zone is not an offset")
		}
		return
	}
	if _, err := time.LoadLocation(text); err != nil || strings.EqualFold(text, "local") || text == "" {
		k.fault(arg, `write "Europe/Berlin" or "+02:00"`, "unknown time zone "+quoted(text))
	}
}

func literalText(e celast.Expr) (string, bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}
