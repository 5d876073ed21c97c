package slack

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// walker finds the values that paths lead to in JSON, by their place in its bytes, so that
// everything else can be shown exactly as it will be sent: order, spacing, repeated names.
type walker struct {
	raw   []byte
	dec   *json.Decoder
	spans []span
}

var errUnreadable = errors.New("not JSON that can be redacted")

// jsonSpans returns the values that the paths mean, in order. It is false when raw is not
// one JSON value or is nested too deep to follow.
func jsonSpans(raw []byte, paths [][]string) ([]span, bool) {
	w := &walker{raw: raw, dec: json.NewDecoder(bytes.NewReader(raw))}
	w.dec.UseNumber()
	if err := w.value(paths, 0); err != nil {
		return nil, false
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	return w.spans, true
}

// value reads one value. A path that is used up means all of it.
func (w *walker) value(paths [][]string, depth int) error {
	from := w.start()
	hide := false
	for _, p := range paths {
		hide = hide || len(p) == 0
	}
	if hide {
		paths = nil
	}
	if err := w.read(paths, depth); err != nil {
		return err
	}
	if hide {
		w.spans = append(w.spans, span{from, int(w.dec.InputOffset())})
	}
	return nil
}

func (w *walker) read(paths [][]string, depth int) error {
	token, err := w.dec.Token()
	if err != nil || depth > maxDepth {
		return errUnreadable
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	for i := 0; w.dec.More(); i++ {
		next, err := w.descend(delim, i, paths)
		if err != nil {
			return err
		}
		if err := w.value(next, depth+1); err != nil {
			return err
		}
	}
	if _, err := w.dec.Token(); err != nil {
		return errUnreadable
	}
	return nil
}

// descend returns what of the paths is left for the next member or element.
func (w *walker) descend(delim json.Delim, i int, paths [][]string) ([][]string, error) {
	if delim == '[' {
		return distinct(append(stepInto(paths, strconv.Itoa(i)), paths...)), nil
	}
	token, err := w.dec.Token()
	name, ok := token.(string)
	if err != nil || !ok {
		return nil, errUnreadable
	}
	return distinct(stepInto(paths, name)), nil
}

// distinct drops repeated paths; without it, nested lists would multiply them.
func distinct(paths [][]string) [][]string {
	seen := map[string]bool{}
	return slices.DeleteFunc(paths, func(p []string) bool {
		id := strings.Join(p, "\x00")
		twice := seen[id]
		seen[id] = true
		return twice
	})
}

// stepInto follows the paths that name the member: by its own name, by "*", or by several
// steps at once where the name has dots in it.
func stepInto(paths [][]string, name string) (out [][]string) {
	for _, p := range paths {
		for n := 1; n <= len(p); n++ {
			if (n == 1 && p[0] == "*") || strings.EqualFold(strings.Join(p[:n], "."), name) {
				out = append(out, p[n:])
			}
		}
	}
	return out
}

// start is where the value begins that the decoder reads next.
func (w *walker) start() int {
	at := int(w.dec.InputOffset())
	for at < len(w.raw) && strings.IndexByte(" \t\r\n:,", w.raw[at]) >= 0 {
		at++
	}
	return at
}
