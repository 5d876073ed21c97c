package policy

import (
	"errors"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// lookup is a map of texts to CEL, in which what is missing reads as "" and what is there
// more than once is an error. It is no traits.Mapper on purpose: such a map has one answer
// to "is it there" and to "what is it", and here these are two.
type lookup struct {
	names  []string
	values map[string][]string
	kin    relatives
}

var (
	_ ref.Val            = (*lookup)(nil)
	_ traits.Indexer     = (*lookup)(nil)
	_ traits.FieldTester = (*lookup)(nil)
	_ traits.Container   = (*lookup)(nil)
	_ traits.Iterable    = (*lookup)(nil)
	_ traits.Sizer       = (*lookup)(nil)
)

func newLookup() *lookup {
	return &lookup{values: make(map[string][]string), kin: newRelatives()}
}

func (l *lookup) add(name, value string) {
	if _, again := l.values[name]; !again {
		l.names = append(l.names, name)
		l.kin.add(name)
	}
	l.values[name] = append(l.values[name], value)
}

// doubt is why nobody can say what is given by a name: servers may take another for it.
func (l *lookup) doubt(name string) error {
	_, there := l.values[name]
	switch {
	case !l.kin.others(name, there):
		return nil
	case there:
		return errTwice
	}
	return errSpelling
}

// Get implements traits.Indexer.
func (l *lookup) Get(index ref.Val) ref.Val {
	name, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	if err := l.doubt(string(name)); err != nil {
		return types.WrapErr(err)
	}
	switch found := l.values[string(name)]; len(found) {
	case 0:
		return types.String("")
	case 1:
		return types.String(found[0])
	}
	return types.WrapErr(errTwice)
}

// IsSet implements traits.FieldTester.
func (l *lookup) IsSet(field ref.Val) ref.Val { return l.Contains(field) }

// Contains implements traits.Container.
func (l *lookup) Contains(value ref.Val) ref.Val {
	name, ok := value.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(value)
	}
	if _, found := l.values[string(name)]; found {
		return types.True
	}
	if err := l.doubt(string(name)); err != nil {
		return types.WrapErr(err)
	}
	return types.False
}

// Iterator implements traits.Iterable, over the names.
func (l *lookup) Iterator() traits.Iterator {
	return types.NewStringList(types.DefaultTypeAdapter, l.names).Iterator()
}

// Size implements traits.Sizer.
func (l *lookup) Size() ref.Val { return types.Int(len(l.names)) }

// Type implements ref.Val.
func (l *lookup) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (l *lookup) Value() any { return l.values }

// Equal implements ref.Val: nothing can be compared with it.
func (l *lookup) Equal(other ref.Val) ref.Val { return types.MaybeNoSuchOverloadErr(other) }

var errNoConversion = errors.New("a lookup cannot be converted")

// ConvertToNative implements ref.Val: it is nothing else.
func (l *lookup) ConvertToNative(reflect.Type) (any, error) { return nil, errNoConversion }

// ConvertToType implements ref.Val: it is nothing else.
func (l *lookup) ConvertToType(ref.Type) ref.Val { return types.WrapErr(errNoConversion) }
