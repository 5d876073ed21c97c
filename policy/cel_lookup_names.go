package policy

import (
	"strings"
	"unicode"
)

// maxBrackets bounds the brackets in one name of a query: servers differ in how many they
// understand.
const maxBrackets = 8

// relatives count names by what servers may take them for: names in other case, with blanks
// or a NUL around them, and with [...] behind them, which some make lists of.
type relatives struct {
	// same are names by their common spelling, within those that go on in brackets behind it.
	same, within map[string]int
}

func newRelatives() relatives {
	return relatives{same: make(map[string]int), within: make(map[string]int)}
}

// add notes a name that has not been added before.
func (r relatives) add(name string) {
	name = common(name)
	r.same[name]++
	for base := range bases(name) {
		r.within[base]++
	}
}

// others reports whether any name may be taken for this one, but for itself. There says
// that it has been added itself.
func (r relatives) others(name string, there bool) bool {
	name = common(name)
	n := r.same[name] + r.within[name]
	for base := range bases(name) {
		n += r.same[base]
	}
	return n > 1 || n == 1 && !there
}

// bases yields what stands before each bracket of a name but a first one.
func bases(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := 1; i < len(name); i++ {
			if name[i] == '[' && !yield(name[:i]) {
				return
			}
		}
	}
}

// common is the spelling that stands for all those of a name.
func common(name string) string {
	blank := func(r rune) bool { return r == 0 || unicode.IsSpace(r) }
	if strings.IndexFunc(name, blank) >= 0 {
		name, _, _ = strings.Cut(strings.TrimLeftFunc(name, blank), "\x00")
		name = strings.Map(func(r rune) rune {
			if blank(r) {
				return -1
			}
			return r
		}, name)
	}
	return fold(name)
}
