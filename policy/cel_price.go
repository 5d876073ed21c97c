package policy

import (
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// scanning are functions that the library prices alike for all texts, although its work
// grows with them: it counts the characters of what it is given.
var scanning = map[string]bool{
	operators.Less: true, operators.LessEquals: true, operators.Greater: true, operators.GreaterEquals: true,
	overloads.Size: true, overloads.StartsWith: true, overloads.TypeConvertBytes: true, overloads.TypeConvertString: true,
	overloads.TypeConvertBool: true, overloads.TypeConvertDouble: true, overloads.TypeConvertDuration: true, overloads.TypeConvertDyn: true,
	overloads.TypeConvertInt: true, overloads.TypeConvertTimestamp: true, overloads.TypeConvertType: true, overloads.TypeConvertUint: true,
}

// CallCost prices times in another zone, matches by the length of the text and the size of
// the pattern, and comparisons by all that is compared.
func (p prices) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	n := uint64(zoned)
	switch {
	case function == overloads.Matches && len(args) == 2:
		n = p.costOfMatch(args[0], args[1])
	case function == operators.Equals, function == operators.NotEquals:
		n = 1 + compared(args[0], args[1])
	case function == operators.In, function == operators.OldIn:
		n = 1 + weight(args[0])
		if args[1].Type() == types.ListType {
			n += weight(args[1])
		}
	case scanning[function]:
		n = 1
		for _, arg := range args {
			n += length(arg)
		}
	case len(args) != 2 || !zoneFunctions[function]:
		return nil
	}
	return &n
}

// compared is how much there is to compare in two values. Of lists and maps, only those of
// one size are looked into.
func compared(a, b ref.Val) uint64 {
	one, ok := a.(traits.Sizer)
	other, both := b.(traits.Sizer)
	switch {
	case !ok || !both || a.Type() != b.Type():
		return 0
	case a.Type() == types.ListType || a.Type() == types.MapType:
		if one.Size() != other.Size() {
			return 0
		}
		return weight(a)
	}
	return length(a) + length(b)
}

// weight is how much there is in a value, with everything in it. What is more than any
// condition may cost is not counted to its end.
func weight(v ref.Val) uint64 {
	switch v := v.(type) {
	case traits.Lister:
		return weightOf(v, func(e ref.Val) uint64 { return 1 + weight(e) })
	case traits.Mapper:
		return weightOf(v, func(key ref.Val) uint64 { return 1 + weight(key) + weight(v.Get(key)) })
	}
	return length(v)
}

func weightOf(v traits.Iterable, each func(ref.Val) uint64) (total uint64) {
	for it := v.Iterator(); it.HasNext() == types.True && total <= maxCost; {
		total += each(it.Next())
	}
	return total
}

// length is what it costs to look at every character of a text, 0 for what is none.
func length(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v)) / 10
	case types.Bytes:
		return uint64(len(v)) / 10
	}
	return 0
}
