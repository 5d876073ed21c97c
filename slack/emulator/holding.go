package emulator

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// holding says how an element keeps what a person entered: under which field of its state,
// from which field of its definition at first, and in what form.
type holding struct {
	key, initial string
	many         bool           // a list
	options      bool           // of the element's own options
	number       bool           // a JSON number
	form         *regexp.Regexp // nil for anything
}

var holdings = map[string]holding{
	"plain_text_input":           {key: "value", initial: "initial_value"},
	"email_text_input":           {key: "value", initial: "initial_value", form: regexp.MustCompile(`^[^@\s]+@[^@\s]+$`)},
	"url_text_input":             {key: "value", initial: "initial_value", form: regexp.MustCompile(`^https?://\S+$`)},
	"number_input":               {key: "value", initial: "initial_value", form: regexp.MustCompile(`^-?\d+(\.\d+)?$`)},
	"datepicker":                 {key: "selected_date", initial: "initial_date", form: regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)},
	"timepicker":                 {key: "selected_time", initial: "initial_time", form: regexp.MustCompile(`^\d\d:\d\d$`)},
	"datetimepicker":             {key: "selected_date_time", initial: "initial_date_time", number: true, form: regexp.MustCompile(`^\d{10}$`)},
	"users_select":               {key: "selected_user", initial: "initial_user"},
	"multi_users_select":         {key: "selected_users", initial: "initial_users", many: true},
	"channels_select":            {key: "selected_channel", initial: "initial_channel"},
	"multi_channels_select":      {key: "selected_channels", initial: "initial_channels", many: true},
	"conversations_select":       {key: "selected_conversation", initial: "initial_conversation"},
	"multi_conversations_select": {key: "selected_conversations", initial: "initial_conversations", many: true},
	"static_select":              {key: "selected_option", initial: "initial_option", options: true},
	"multi_static_select":        {key: "selected_options", initial: "initial_options", options: true, many: true},
	"checkboxes":                 {key: "selected_options", initial: "initial_options", options: true, many: true},
	"radio_buttons":              {key: "selected_option", initial: "initial_option", options: true},
	"overflow":                   {key: "selected_option", options: true},
}

// initialValue is what an element holds before anybody touches it.
func initialValue(el object) object {
	kind := str(el, "type")
	h := holdings[kind]
	first := el[h.initial]
	if h.many {
		list, _ := first.([]any)
		first = append([]any{}, list...)
	}
	return object{"type": kind, h.key: first}
}

// chosen is what an element holds after a person entered value: text, an option's value or
// an id, several with commas between.
func chosen(el object, value string) (object, error) {
	kind := str(el, "type")
	h := holdings[kind]
	picked := []any{}
	for _, one := range h.split(value) {
		v, err := h.pick(el, one)
		if err != nil {
			return nil, err
		}
		picked = append(picked, v)
	}
	switch {
	case h.many:
		return object{"type": kind, h.key: picked}, nil
	case len(picked) == 0:
		return object{"type": kind, h.key: nil}, nil
	default:
		return object{"type": kind, h.key: picked[0]}, nil
	}
}

// split takes a value apart; only what can hold several has commas in between.
func (h holding) split(value string) []string {
	switch {
	case value == "":
		return nil
	case h.many:
		return strings.Split(value, ",")
	default:
		return []string{value}
	}
}

func (h holding) pick(el object, value string) (any, error) {
	if h.options {
		all := optionsOf(el)
		i := slices.IndexFunc(all, func(o object) bool { return o["value"] == value })
		if i < 0 {
			return nil, fmt.Errorf("%w: option %q", ErrNotFound, value)
		}
		return all[i], nil
	}
	if h.form != nil && h.key != "value" && !h.form.MatchString(value) { // a picker offers nothing else
		return nil, fmt.Errorf("%w: %q in a %s", ErrNotAllowed, value, str(el, "type"))
	}
	if h.number {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q in a %s", ErrNotAllowed, value, str(el, "type"))
		}
		return n, nil
	}
	return value, nil
}

// heldValue is the inverse of chosen: what an element holds, as one string.
func heldValue(held object) string {
	v := held[holdings[str(held, "type")].key]
	list, many := v.([]any)
	if !many && v != nil {
		list = []any{v}
	}
	words := make([]string, 0, len(list))
	for _, it := range list {
		if o, ok := it.(object); ok {
			it = o["value"]
		}
		words = append(words, fmt.Sprint(it))
	}
	return strings.Join(words, ",")
}

// optionsOf returns an element's options, those in groups included.
func optionsOf(el object) []object {
	var out []object
	add := func(v any) {
		items, _ := v.([]any)
		for _, it := range items {
			if o, ok := it.(object); ok {
				out = append(out, o)
			}
		}
	}
	add(el["options"])
	groups, _ := el["option_groups"].([]any)
	for _, g := range groups {
		if o, ok := g.(object); ok {
			add(o["options"])
		}
	}
	return out
}
