package emulator

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// object is a decoded JSON object.
type object = map[string]any

// checker collects what is wrong with a set of blocks, in Slack's words.
type checker struct {
	surface  string // "message", "modal" or "home"
	problems []string
	blockIDs map[string]bool
	focused  bool
	runes    int // text seen so far, for msg_blocks_too_long
}

func (c *checker) fail(path, format string, a ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, a...)+" [json-pointer:"+path+"]")
}

// rule checks one value found at a JSON pointer.
type rule func(c *checker, path string, v any)

// shape is what an object may and must hold.
type shape struct {
	fields   map[string]rule
	required []string
	// also checks what no single field can tell.
	also func(c *checker, path string, o object)
}

// object checks v against the shape: required fields, no unknown ones, each by its rule.
func (s shape) object(c *checker, path string, v any) {
	o, ok := v.(object)
	if !ok {
		c.fail(path, "must provide an object")
		return
	}
	for _, name := range s.required {
		if o[name] == nil {
			c.fail(path, "missing required field: %s", name)
		}
	}
	for _, name := range sortedKeys(o) {
		check, known := s.fields[name]
		switch {
		case !known:
			c.fail(path, "invalid additional property: %s", name)
		case o[name] != nil:
			check(c, path+"/"+name, o[name])
		}
	}
	if s.also != nil {
		s.also(c, path, o)
	}
}

// text allows a string of low to high characters.
func text(low, high int) rule {
	return func(c *checker, path string, v any) {
		s, ok := v.(string)
		if !ok {
			c.fail(path, "must be a string")
			return
		}
		n := utf8.RuneCountInString(s)
		if n < low {
			c.fail(path, "must be more than %d characters", low-1)
		}
		if n > high {
			c.fail(path, "must be less than %d characters", high+1)
		}
	}
}

// shownText is text that also counts towards a message's total.
func shownText(low, high int) rule {
	check := text(low, high)
	return func(c *checker, path string, v any) {
		check(c, path, v)
		if s, ok := v.(string); ok {
			c.runes += utf8.RuneCountInString(s)
		}
	}
}

func flag(c *checker, path string, v any) {
	if _, ok := v.(bool); !ok {
		c.fail(path, "must be a boolean")
	}
}

// number allows an integer from low to high.
func number(low, high float64) rule {
	return func(c *checker, path string, v any) {
		n, ok := v.(float64)
		switch {
		case !ok || n != float64(int64(n)):
			c.fail(path, "must be an integer")
		case n < low:
			c.fail(path, "must be greater than or equal to %d", int64(low))
		case n > high:
			c.fail(path, "must be less than or equal to %d", int64(high))
		}
	}
}

func oneOf(values ...string) rule {
	return func(c *checker, path string, v any) {
		if s, ok := v.(string); !ok || !slices.Contains(values, s) {
			c.fail(path, "must be a valid enum value")
		}
	}
}

func webURL(c *checker, path string, v any) {
	text(1, 3000)(c, path, v)
	s, _ := v.(string)
	if u, err := url.Parse(s); err != nil || (u.Scheme != "mailto" && u.Host == "") {
		c.fail(path, "invalid url")
	}
}

// list allows low to high items that each pass item.
func list(low, high int, item rule) rule {
	return func(c *checker, path string, v any) {
		items, ok := v.([]any)
		if !ok {
			c.fail(path, "must provide an array")
			return
		}
		if len(items) < low {
			c.fail(path, "must provide at least %d items", low)
		}
		if len(items) > high {
			c.fail(path, "no more than %d items allowed", high)
			return
		}
		for i, it := range items {
			item(c, fmt.Sprintf("%s/%d", path, i), it)
		}
	}
}

// typed allows an object whose type is one of shapes' keys and that fits that shape.
func typed(shapes map[string]shape) rule {
	return func(c *checker, path string, v any) {
		o, ok := v.(object)
		if !ok {
			c.fail(path, "must provide an object")
			return
		}
		kind, _ := o["type"].(string)
		s, known := shapes[kind]
		switch {
		case o["type"] == nil:
			c.fail(path, "missing required field: type")
		case !known:
			c.fail(path+"/type", "unsupported type: %s", kind)
		default:
			s.object(c, path, o)
		}
	}
}

// anything is for fields the emulator does not look into.
func anything(*checker, string, any) {}

func sortedKeys(o object) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// withErrorMark returns the problems as response_metadata.messages carries them.
func withErrorMark(problems []string) []string {
	marked := make([]string, len(problems))
	for i, p := range problems {
		marked[i] = "[ERROR] " + strings.TrimSpace(p)
	}
	return marked
}
