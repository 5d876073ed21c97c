package policy

import (
	"errors"
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
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
	part, words := c.split(err)
	if part == "" {
		return words
	}
	return part + ": " + words
}

// split is why in two: the part of the condition that the error comes from, "" where it is
// not known, and what is wrong with it.
func (c *condition) split(err error) (part, words string) {
	var input inputError
	var cancelled interpreter.EvalCancelledError
	switch {
	case errors.As(err, &cancelled):
		return "", string(errTooDear)
	case errors.As(err, &input) && (input == errTwice || input == errSpelling):
		return c.part(err), string(input)
	case errors.As(err, &input):
		return "", string(input)
	}
	text := err.Error()
	for _, class := range classes {
		if strings.Contains(text, class.part) {
			return c.part(err), class.words
		}
	}
	return "", "a value is not what the condition expects"
}

// part names the part of the condition that an error comes from, where that is a field that
// is looked up. "" when it is not known.
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
	return shorten(text)
}
