package policy

import (
	"regexp"
	"regexp/syntax"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

const (
	// maxMatch bounds the steps of matching one text: its length in bytes times the size of
	// the pattern's program. They take some 20 ms of one processor, and the library looks at
	// the cost of a match only when it is over.
	maxMatch = 2_000_000
	// stepsOfMatch are as dear as one unit of cost.
	stepsOfMatch = 3
)

// sizeOf is how many instructions a pattern is compiled to. Whoever calls has compiled it
// before; one that cannot be is too large for any text.
func sizeOf(pattern string) uint64 {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return maxMatch
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return maxMatch
	}
	return uint64(len(program.Inst))
}

// matching puts matches within limits: an error in place of work that takes too long.
func matching() cel.ProgramOption {
	return cel.OptimizeRegex(&interpreter.RegexOptimization{Function: overloads.Matches, RegexIndex: 1, Factory: matchWithinLimits})
}

func matchWithinLimits(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	size := sizeOf(pattern)
	match := func(args ...ref.Val) ref.Val {
		text, ok := args[0].(types.String)
		switch {
		case !ok:
			return types.MaybeNoSuchOverloadErr(args[0])
		case uint64(len(text))*size > maxMatch:
			return types.WrapErr(errTooDear)
		}
		return types.Bool(compiled.MatchString(string(text)))
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), match), nil
}

// costOfMatch is what a match has cost, or would have, had it not been refused.
func (p prices) costOfMatch(text, pattern ref.Val) uint64 {
	of, ok := text.(types.String)
	if !ok {
		return 1
	}
	size, known := p.patterns[pattern]
	if !known {
		size = maxMatch
	}
	return 1 + min(uint64(len(of))*size, maxMatch)/stepsOfMatch
}
