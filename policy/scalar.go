package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// maxText bounds a text, in bytes.
const maxText = 4096

// word decodes a text of one line.
func (d *decoder) word(dst *word) field {
	return func(n ast.Node) {
		text, ok := d.textOf(n)
		if !ok {
			return
		}
		at := d.at(n)
		switch {
		case text == "":
			d.problem(at, "", "%s is empty", d.label)
		case len(text) > maxText:
			d.problem(at, "", "%s is longer than %d bytes", d.label, maxText)
		case strings.TrimSpace(text) != text || strings.ContainsFunc(text, unicode.IsControl):
			d.problem(at, "", "%s has spaces around it, a line break or a control character", d.label)
		default:
			*dst = word{text: text, at: at}
		}
	}
}

// words decodes a list of texts without repetition.
func (d *decoder) words(what string, dst *[]word) field {
	return d.list(what, func(n ast.Node) {
		var w word
		d.word(&w)(n)
		if w.text == "" {
			return
		}
		for _, before := range *dst {
			if before.text == w.text {
				d.problem(w.at, "", "%s has %q twice", what, shorten(w.text))
				return
			}
		}
		*dst = append(*dst, w)
	})
}

// choice decodes one of a few words.
func (d *decoder) choice(dst *word, options ...string) field {
	return func(n ast.Node) {
		var w word
		d.word(&w)(n)
		if w.text != "" && !slices.Contains(options, w.text) {
			last := len(options) - 1
			d.problem(w.at, didYouMean(w.text, options), "%s must be %s or %s", d.label, strings.Join(options[:last], ", "), options[last])
			w.text = ""
		}
		*dst = w
	}
}

func (d *decoder) textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.problem(d.at(n), "put it in quotes", "%s must be text, not %s", d.label, kind(n))
	default:
		d.wrongType(n, d.label+" must be text")
	}
	return "", false
}

func (d *decoder) boolean(dst *bool) field {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok {
			*dst = b.Value
			return
		}
		d.wrongType(n, d.label+" must be true or false")
	}
}

// number decodes a whole number between two limits.
func (d *decoder) number(dst *int, at *pos, low, high int) field { //nolint:unparam // today every number begins at 1
	return func(n ast.Node) {
		i, ok := wholeNumber(n)
		if !ok {
			d.wrongType(n, d.label+" must be a whole number")
			return
		}
		*at = d.at(n)
		if i < low || i > high {
			d.problem(*at, "", "%s must be between %d and %d", d.label, low, high)
			return
		}
		*dst = i
	}
}

// wholeNumber returns the value of an integer, far out of any range when it does not fit.
func wholeNumber(n ast.Node) (int, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	switch v := i.Value.(type) {
	case int64:
		return int(v), true
	case uint64:
		if v <= math.MaxInt64 {
			return int(v), true
		}
	}
	return math.MaxInt, true
}

// duration decodes a time between two limits, such as 90s, 15m, 24h or 7d.
func (d *decoder) duration(dst *time.Duration, low, high time.Duration) field {
	return func(n ast.Node) {
		if _, bare := n.(*ast.IntegerNode); bare {
			d.problem(d.at(n), "write 90s, 15m, 24h or 7d", "%s needs a unit", d.label)
			return
		}
		text, ok := d.textOf(n)
		if !ok {
			return
		}
		v, ok := parseDuration(text)
		switch {
		case !ok:
			d.problem(d.at(n), "write 90s, 15m, 24h or 7d", "%s is not a duration", d.label)
		case v < low || v > high:
			d.problem(d.at(n), "", "%s must be between %s and %s", d.label, showDuration(low), showDuration(high))
		default:
			*dst = v
		}
	}
}

const day = 24 * time.Hour

// parseDuration reads what time.ParseDuration reads, and whole days in front of it.
func parseDuration(text string) (time.Duration, bool) {
	var days time.Duration
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, false
		}
		days, text = time.Duration(n)*day, after
		if text == "" {
			return days, true
		}
	}
	rest, err := time.ParseDuration(text)
	if err != nil || strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") || rest > 1<<20*time.Hour {
		return 0, false
	}
	return days + rest, true
}

func showDuration(v time.Duration) string {
	if v >= day && v%day == 0 {
		return fmt.Sprintf("%dd", v/day)
	}
	text := v.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// size decodes a number of bytes between two limits: 65536, 512KiB, 1MiB.
func (d *decoder) size(dst *int64, low, high int64) field {
	return func(n ast.Node) {
		switch n.(type) {
		case *ast.StringNode, *ast.IntegerNode:
		default:
			d.wrongType(n, d.label+" must be a size in bytes")
			return
		}
		v, ok := parseSize(n.GetToken().Value)
		switch {
		case !ok:
			d.problem(d.at(n), "write 65536, 512KiB or 1MiB", "%s is not a size in bytes", d.label)
		case v < low || v > high:
			d.problem(d.at(n), "", "%s must be between %s and %s", d.label, showSize(low), showSize(high))
		default:
			*dst = v
		}
	}
}

func parseSize(text string) (int64, bool) {
	unit := int64(1)
	if before, ok := strings.CutSuffix(text, "KiB"); ok {
		text, unit = before, 1<<10
	} else if before, ok := strings.CutSuffix(text, "MiB"); ok {
		text, unit = before, 1<<20
	}
	v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31)
	return int64(v) * unit, err == nil
}

func showSize(v int64) string {
	switch {
	case v >= 1<<20 && v%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", v>>20)
	case v >= 1<<10 && v%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", v>>10)
	}
	return strconv.FormatInt(v, 10)
}
