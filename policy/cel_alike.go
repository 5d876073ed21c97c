package policy

import (
	"strings"
	"unicode"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// fold writes a text so that all spellings that differ in case only are written alike: by
// Unicode simple case folding, and with the two i that some languages fold to theirs.
func fold(text string) string {
	plain := func(r rune) bool { return r < 'A' || r > 'Z' && r <= unicode.MaxASCII }
	if strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return strings.Map(foldRune, text)
}

func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	switch {
	case least >= 'A' && least <= 'Z':
		return least + 'a' - 'A'
	case least == 'İ' || least == 'ı':
		return 'i'
	}
	return least
}

// oneSpelling is a map in which asking for a name is an error when servers may take another
// name in it for that one.
type oneSpelling struct {
	traits.Mapper
	// doubt is why an answer about a name cannot be trusted. nil: it can.
	doubt func(name string) error
}

// asMap makes one of values by name.
func asMap[V any](values map[string]V, doubt func(name string) error) ref.Val {
	m, _ := types.DefaultTypeAdapter.NativeToValue(values).(traits.Mapper)
	return &oneSpelling{Mapper: m, doubt: doubt}
}

// Find implements traits.Mapper.
func (m *oneSpelling) Find(key ref.Val) (ref.Val, bool) {
	if name, ok := key.(types.String); ok {
		if err := m.doubt(string(name)); err != nil {
			return types.WrapErr(err), false
		}
	}
	return m.Mapper.Find(key)
}

// Get implements traits.Indexer.
func (m *oneSpelling) Get(key ref.Val) ref.Val {
	if found, ok := m.Find(key); ok || types.IsError(found) {
		return found
	}
	return m.Mapper.Get(key)
}

// Contains implements traits.Container.
func (m *oneSpelling) Contains(key ref.Val) ref.Val {
	found, ok := m.Find(key)
	if types.IsError(found) {
		return found
	}
	return types.Bool(ok)
}

// Equal implements ref.Val. Names that differ in case only make it an error, on whichever
// side they stand.
func (m *oneSpelling) Equal(other ref.Val) ref.Val {
	o, ok := other.(traits.Mapper)
	if !ok {
		return types.False
	}
	for it := o.Iterator(); it.HasNext() == types.True; {
		if found, _ := m.Find(it.Next()); types.IsError(found) {
			return found
		}
	}
	return m.Mapper.Equal(other)
}

// object makes a JSON object for conditions. Nil: it has names that differ in case only.
func object(fields map[string]any) ref.Val {
	var odd map[string]bool // names in other than folded case, folded
	for name := range fields {
		folded := fold(name)
		if folded == name {
			continue
		}
		if _, plain := fields[folded]; plain || odd[folded] {
			return nil
		}
		if odd == nil {
			odd = make(map[string]bool)
		}
		odd[folded] = true
	}
	return asMap(fields, func(name string) error {
		if _, there := fields[name]; there {
			return nil
		}
		folded := fold(name)
		if _, plain := fields[folded]; plain || odd[folded] {
			return errSpelling
		}
		return nil
	})
}
