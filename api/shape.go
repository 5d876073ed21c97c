package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// kind is what a JSON value is, as an error message calls it.
type kind string

const (
	isObject   kind = "an object"
	isArray    kind = "an array"
	isString   kind = "a string"
	isBool     kind = "true or false"
	isWhole    kind = "a whole number"
	isFraction kind = "a number"
	isNull     kind = "null"
)

var (
	anyJSON     = reflect.TypeFor[json.RawMessage]()
	queryValues = reflect.TypeFor[QueryValues]()
)

func isNumber(n json.Number) kind {
	if strings.ContainsAny(n.String(), ".eE") {
		return isFraction
	}
	return isWhole
}

// expect reports a value of the wrong kind. It returns the type to hold the value's parts
// against, nil when they do not matter.
func (w *walker) expect(t reflect.Type, got kind, at string) reflect.Type {
	if t == nil {
		return nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == anyJSON {
		return nil
	}
	want := kindOf(t)
	if got == want || (t == queryValues && got == isString) {
		return t
	}
	detail := fmt.Sprintf("must be %s, not %s", want, got)
	if t == queryValues {
		detail = fmt.Sprintf("must be a string or an array of strings, not %s", got)
	}
	w.report(at, detail)
	return nil
}

func kindOf(t reflect.Type) kind {
	switch t.Kind() { //nolint:exhaustive // request bodies are made of these
	case reflect.Struct, reflect.Map:
		return isObject
	case reflect.Slice:
		return isArray
	case reflect.Bool:
		return isBool
	case reflect.Int, reflect.Int64:
		return isWhole
	default:
		return isString
	}
}

// field is a member of an object as the generated structs declare it.
type field struct {
	name     string
	typ      reflect.Type
	required bool
}

var fieldCache sync.Map // reflect.Type → []field

// fieldsOf lists the fields of a struct, none for other types. A field without omitempty
// is required.
func fieldsOf(t reflect.Type) []field {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := fieldCache.Load(t); ok {
		return known.([]field) //nolint:forcetypeassert // only this function stores
	}
	out := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		out = append(out, field{name: name, typ: f.Type, required: !strings.Contains(options, "omitempty")})
	}
	fieldCache.Store(t, out)
	return out
}

// nearest returns the known name closest to a misspelt one, "" when none is close.
func nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, limit := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(name), k); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// distance is Levenshtein's: how many letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
