package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxDepth bounds how deep a request body may nest.
	maxDepth = 64
	// maxItems bounds how many mistakes one answer lists.
	maxItems = 20
)

// document is a strictly decoded request body.
type document struct {
	raw []byte
	// inexact are the places of numbers that a double cannot hold for certain.
	inexact [][2]int
}

// decodeStrict decodes one JSON value into dst, which points at a struct. It refuses what
// encoding/json lets pass and another reader of the same bytes may read differently:
// duplicate and unknown names, names in other case, data after the value, invalid UTF-8
// and unpaired surrogates, null where a value is due, and deep nesting. Every unknown,
// missing and mistyped field is reported at once, with its JSON pointer.
func decodeStrict(raw []byte, dst any) (document, error) {
	if !utf8.Valid(raw) {
		return document{}, fail(codeMalformedJSON, "the request body is not valid UTF-8")
	}
	if !json.Valid(raw) {
		return document{}, syntaxFailure(json.Unmarshal(raw, new(json.RawMessage)))
	}
	w := &walker{dec: json.NewDecoder(bytes.NewReader(raw)), raw: raw}
	w.dec.UseNumber()
	if err := w.value(reflect.TypeOf(dst).Elem(), "#", 0); err != nil {
		return document{}, err
	}
	if len(w.items) > 0 {
		return document{}, failItems(codeInvalidBody, w.items)
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return document{}, fail(codeInvalidBody, "the request body does not fit the schema").because(err)
	}
	return document{raw: raw, inexact: w.inexact}, nil
}

func syntaxFailure(err error) *failure {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fail(codeMalformedJSON, "%s, at byte %d", syntax.Error(), syntax.Offset)
	}
	return fail(codeMalformedJSON, "the request body is not JSON").because(err)
}

// walker compares a document, token by token, with the type it is to be decoded into.
type walker struct {
	dec     *json.Decoder
	raw     []byte
	items   []ProblemItem
	inexact [][2]int
}

// A nil type stands for any JSON.
func (w *walker) value(t reflect.Type, at string, depth int) error {
	before := w.dec.InputOffset()
	token, err := w.dec.Token()
	if err != nil {
		return syntaxFailure(err)
	}
	switch token := token.(type) {
	case json.Delim:
		if depth++; depth > maxDepth {
			return &failure{code: codeMalformedJSON, detail: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
		}
		if token == '{' {
			return w.object(w.expect(t, isObject, at), at, depth)
		}
		return w.array(w.expect(t, isArray, at), at, depth)
	case string:
		w.expect(t, isString, at)
		return w.checkString(token, before, at)
	case json.Number:
		w.expect(t, isNumber(token), at)
		if !exact(token.String()) {
			end := int(w.dec.InputOffset())
			w.inexact = append(w.inexact, [2]int{end - len(token), end})
		}
	case bool:
		w.expect(t, isBool, at)
	case nil:
		w.expect(t, isNull, at)
	}
	return nil
}

func (w *walker) object(t reflect.Type, at string, depth int) error {
	fields := fieldsOf(t)
	seen := make(map[string]bool)
	for w.dec.More() {
		before := w.dec.InputOffset()
		token, err := w.dec.Token()
		if err != nil {
			return syntaxFailure(err)
		}
		name, _ := token.(string)
		place := below(at, name)
		if err := w.checkString(name, before, place); err != nil {
			return err
		}
		if seen[name] {
			return failItems(codeMalformedJSON, []ProblemItem{{Pointer: cut(place, maxEcho), Detail: "duplicate name " + quote(name)}})
		}
		seen[name] = true
		if err := w.value(w.member(t, fields, name, place), place, depth); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	for _, f := range fields {
		if f.required && !seen[f.name] {
			w.report(at, "missing field "+quote(f.name))
		}
	}
	return err
}

// member is the type of a member of an object.
func (w *walker) member(t reflect.Type, fields []field, name, at string) reflect.Type {
	if t == nil {
		return nil
	}
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		if f.name == name {
			return f.typ
		}
		names = append(names, f.name)
	}
	detail := "unknown field " + quote(name)
	if near := nearest(name, names); near != "" {
		detail += " (did you mean " + quote(near) + "?)"
	}
	w.report(at, detail)
	return nil
}

func (w *walker) array(t reflect.Type, at string, depth int) error {
	var elem reflect.Type
	if t != nil {
		elem = t.Elem()
	}
	for i := 0; w.dec.More(); i++ {
		if err := w.value(elem, below(at, strconv.Itoa(i)), depth); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

// checkString refuses escapes of half a surrogate pair, which Go replaces silently.
func (w *walker) checkString(s string, before int64, at string) error {
	if !strings.ContainsRune(s, utf8.RuneError) || !loneSurrogate(w.raw[before:w.dec.InputOffset()]) {
		return nil
	}
	return failItems(codeMalformedJSON, []ProblemItem{{Pointer: cut(at, maxEcho), Detail: "half a surrogate pair"}})
}

func (w *walker) report(at, detail string) {
	if len(w.items) < maxItems {
		w.items = append(w.items, ProblemItem{Pointer: cut(at, maxEcho), Detail: detail})
	}
}

// below is the place of a member or element. It is no longer than what is ever shown of
// it: whole, the place of each of many members would repeat a name of half a megabyte.
func below(at, name string) string {
	return cut(at+"/"+escapePointer(cut(name, maxEcho)), maxEcho)
}

func quote(s string) string { return strconv.Quote(cut(s, 64)) }

// escapePointer escapes a name for a JSON pointer (RFC 6901).
func escapePointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// exact reports whether a number surely survives a double unchanged: every decimal of at
// most 15 digits and moderate size does (IEEE 754).
func exact(number string) bool {
	digits := 0
	for i := range len(number) {
		switch c := number[i]; {
		case c == 'e' || c == 'E':
			return digits <= 15 && len(strings.TrimLeft(number[i+1:], "+-0")) <= 2
		case c == '0' && digits == 0, c == '.', c == '-':
		default:
			digits++
		}
	}
	return digits <= 15
}

func loneSurrogate(raw []byte) bool {
	high := false
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			if high {
				return true
			}
			continue
		}
		i++
		unit := uint64(0)
		if i+4 < len(raw) && raw[i] == 'u' {
			unit, _ = strconv.ParseUint(string(raw[i+1:i+5]), 16, 16) // valid JSON has four hex digits here
			i += 4
		}
		low := unit >= 0xDC00 && unit < 0xE000
		if low != high {
			return true
		}
		high = unit >= 0xD800 && unit < 0xDC00
	}
	return high
}
