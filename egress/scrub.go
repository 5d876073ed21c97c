package egress

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strings"
)

const (
	redacted = "[redacted]"
	// minNeedle: a shorter value is no secret, and taking it out would tear holes into every answer.
	minNeedle = 4
	// minPartial is how much of a secret, cut off at the end of a broken answer, is worth hiding.
	minPartial = 8
)

// scrubber takes credentials out of what an upstream says: some answer with the request they were sent.
type scrubber struct {
	needles [][]byte // longest first
}

func newScrubber(credentials []Credential) scrubber {
	var found []string
	for _, c := range credentials {
		for _, secret := range parts(c.Value.reveal()) {
			found = append(found, spellings(secret)...)
		}
	}
	found = slices.DeleteFunc(found, func(s string) bool { return len(s) < minNeedle })
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var s scrubber
	for _, needle := range slices.Compact(found) {
		s.needles = append(s.needles, []byte(needle))
	}
	return s
}

// parts of "Basic dXNlcjpwYXNz" are the whole, the token, user:pass and pass.
func parts(value string) []string {
	all := []string{value}
	if scheme, token, found := strings.Cut(value, " "); found {
		all = append(all, token)
		if decoded, err := base64.StdEncoding.DecodeString(token); err == nil && strings.EqualFold(scheme, "Basic") {
			_, password, _ := strings.Cut(string(decoded), ":")
			all = append(all, string(decoded), password)
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return len(s) < minNeedle })
}

// spellings of a secret that an answer may contain it in.
func spellings(secret string) []string {
	quoted, _ := json.Marshal(secret) // a string always marshals
	inJSON := strings.Trim(string(quoted), `"`)
	all := []string{
		secret, inJSON, unescapeHTML(inJSON), strings.ReplaceAll(unescapeHTML(inJSON), "/", `\/`), html.EscapeString(secret),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
	}
	for _, escaped := range []string{url.QueryEscape(secret), url.PathEscape(secret), percentEncode(secret)} {
		all = append(all, escaped, lowerEscapes(escaped))
	}
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		all = append(all, encoding.EncodeToString([]byte(secret)))
		for offset := range 3 {
			all = append(all, insideBase64(encoding, secret, offset))
		}
	}
	return all
}

// unescapeHTML undoes what encoding/json adds to JSON, giving the form other libraries write.
func unescapeHTML(s string) string {
	return strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(s)
}

func percentEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

// lowerEscapes writes %2F as %2f and leaves the rest alone.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// insideBase64 returns the characters that secret alone decides when it stands offset bytes (mod 3) into something that
// is encoded as a whole, as in base64("user:" + secret).
func insideBase64(encoding *base64.Encoding, secret string, offset int) string {
	all := encoding.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, offset), secret...))
	first, last := (offset*8+5)/6, (offset+len(secret))*8/6
	return all[first:last]
}

// overlap is how many bytes beyond a cut must be seen to recognise a secret that starts before it.
func (s scrubber) overlap() int64 {
	if len(s.needles) == 0 {
		return 0
	}
	return int64(len(s.needles[0]) - 1)
}

func (s scrubber) text(value string) (string, bool) {
	clean, changed := s.bytes([]byte(value), len(value))
	return string(clean), changed
}

// bytes returns the first limit bytes of b without secrets. A secret that starts before limit is taken out whole, so no
// part of it is left at the cut.
func (s scrubber) bytes(b []byte, limit int) ([]byte, bool) {
	clean, _, changed := s.scan(b, limit)
	return clean, changed
}

// scan is bytes, and says how much of b it has read for it: limit, or up to the end of a secret that starts before.
func (s scrubber) scan(b []byte, limit int) (clean []byte, used int, changed bool) {
	limit = min(limit, len(b))
	var out []byte
	next := make([]int, len(s.needles)) // where each needle is found next; -1 not yet looked for
	for i := range next {
		next[i] = -1
	}
	pos := 0
	for pos < limit {
		at, size := s.first(b, pos, next)
		if at >= limit {
			break
		}
		out = append(append(out, b[pos:at]...), redacted...)
		pos = at + size
	}
	if pos == 0 {
		return b[:limit], limit, false
	}
	return append(out, b[min(pos, limit):limit]...), max(pos, limit), true
}

// first returns the next needle at or after pos, or len(b). Each needle is searched for on from where it was last found,
// so a scrub costs one pass over b for each needle, however often it occurs.
func (s scrubber) first(b []byte, pos int, next []int) (at, size int) {
	at = len(b)
	for i, needle := range s.needles {
		if next[i] < pos {
			next[i] = len(b)
			if found := bytes.Index(b[pos:], needle); found >= 0 {
				next[i] = pos + found
			}
		}
		if next[i] < at {
			at, size = next[i], len(needle)
		}
	}
	return at, size
}

// tail takes out the beginning of a secret at the very end of a body that broke off.
func (s scrubber) tail(b []byte) ([]byte, bool) {
	longest := 0
	for _, needle := range s.needles {
		for n := min(len(needle)-1, len(b)); n >= max(minPartial, longest+1); n-- {
			if bytes.HasSuffix(b, needle[:n]) {
				longest = n
			}
		}
	}
	if longest == 0 {
		return b, false
	}
	return append(slices.Clone(b[:len(b)-longest]), redacted...), true
}
