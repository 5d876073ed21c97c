package policy

import (
	"errors"
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// classes say in plain words what kind of error the library reports, found by a part of
// its message. The message itself is not shown: it may quote the call.
var classes = []struct{ part, words string }{
	{"RFC 3339", "a value cannot be converted"},
	{"no such key", "there is no such field"},
	{"index '", "there is no such element"},
	{"index out of", "there is no such element"},
	{"no such overload", "a value is not of the type that the condition expects"},
	{"unsupported index type", "a value is not of the type that the condition expects"},
	{"expected iterable", "a value is not of the type that the condition expects"},
	{"division by zero", "it divides by zero"},
	{"modulus by zero", "it divides by zero"},
	{"overflow", "a number or time is out of range"},
	{"out of range", "a number or time is out of range"},
	{"conver", "a value cannot be converted"},
}

// why says in plain words why a condition could not be evaluated: in words of the policy,
// without a value of the call.
func (c *condition) why(err error) string {
	var input inputError
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled):
		return string(errTooDear)
	case errors.As(err, &input) && input == errTwice:
		return c.part(err) + string(input)
	case errors.As(err, &input):
		return string(input)
	}
	text := err.Error()
	for _, class := range classes {
		if strings.Contains(text, class.part) {
			return c.part(err) + class.words
		}
	}
	return "a value is not what the condition expects"
}

// part names the part of the condition that an error comes from, with a colon behind it,
// where that is a field that is looked up. "" when it is not known.
func (c *condition) part(err error) string {
	var located *types.Err
	if !errors.As(err, &located) || located.NodeID() == math.MaxInt64 {
		return ""
	}
	var found celast.Expr
	celast.PreOrderVisit(c.tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		lookup := e.Kind() == celast.SelectKind || e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.Index
		if lookup && e.ID() == located.NodeID() {
			found = e
		}
	}))
	if found == nil {
		return ""
	}
	text, err := cel.ExprToString(found, c.tree.SourceInfo())
	if err != nil {
		return ""
	}
	return shorten(text) + ": "
}

// CallCost prices times in another zone, and comparisons by all that is compared.
func (prices) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	n := uint64(zoned)
	switch function {
	case operators.Equals, operators.NotEquals:
		n = 1 + min(weight(args[0]), weight(args[1]))
	case operators.In, operators.OldIn:
		if args[1].Type() != types.ListType {
			return nil
		}
		n = 1 + weight(args[1])
	default:
		if len(args) != 2 || !zoneFunctions[function] {
			return nil
		}
	}
	return &n
}

// weight is how much there is to compare in a value, with everything in it.
func weight(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	case traits.Lister:
		return weightOf(v, func(e ref.Val) uint64 { return 1 + weight(e) })
	case traits.Mapper:
		return weightOf(v, func(key ref.Val) uint64 { return 1 + weight(key) + weight(v.Get(key)) })
	}
	return 0
}

func weightOf(v traits.Iterable, each func(ref.Val) uint64) (total uint64) {
	for it := v.Iterator(); it.HasNext() == types.True; {
		total += each(it.Next())
	}
	return total
}
