package egress

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrRequest is what errors.Is finds in every refusal of CheckMethod, CheckPath, CheckQuery and CheckHeaders. The texts
// repeat nothing of a value.
var ErrRequest = errors.New("request is not allowed")

const (
	maxMethodBytes = 20
	maxPathBytes   = 4096
	maxQueryBytes  = 8 << 10

	unreserved = "-._~" // RFC 3986, besides letters and digits
	pathExtra  = "!$&'()*+,=:@/"
)

// lookalikes are characters that some servers fold into . / \ % or ; before they resolve a path.
const lookalikes = "\u2024\u2025\u2026\ufe52\uff0e\u2044\u2215\uff0f\ufe68\uff3c\uff05\ufe6a\uff1b\ufe54"

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// CheckMethod accepts a method in capital letters of at most 20 bytes. CONNECT is refused because it asks for a tunnel,
// TRACE and TRACK because their answer is the request with its credentials.
func CheckMethod(method string) error {
	switch method {
	case "CONNECT", "TRACE", "TRACK", "PRI":
		return refuse("method %s", method)
	}
	if method == "" || len(method) > maxMethodBytes || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
		return refuse("method must be written in capital letters")
	}
	return nil
}

// CheckPath accepts an escaped path that every server reads in one way, and refuses anything else rather than
// normalising it: what was approved is what is sent. The path starts with a slash and is at most 4,096 bytes; it has
// only the characters of RFC 3986 and valid UTF-8 once decoded. Refused are
//
//   - segments of only dots and blanks, empty segments, encoded slashes and backslashes;
//   - a semicolon, plain or encoded: to some servers it ends the segment ("/..;/"), to others it does not;
//   - control characters, and letters that some servers fold into a dot, slash, percent or semicolon;
//   - an encoded letter, digit, or one of -._~ (a second spelling of the same path, which a rule could miss);
//   - an escape that decodes to another escape.
func CheckPath(path string) error {
	switch {
	case len(path) > maxPathBytes:
		return refuse("path is longer than %d bytes", maxPathBytes)
	case !strings.HasPrefix(path, "/"):
		return refuse("path must start with a slash")
	case strings.Contains(path, "//"):
		return refuse("path has an empty segment")
	}
	if err := checkPathBytes(path); err != nil {
		return err
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return refuse("path has an invalid escape")
	}
	if err := checkDecodedPath(decoded); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(decoded[1:], "/") {
		if segment != "" && strings.Trim(segment, ". \u00a0\u3000") == "" {
			return refuse("path has a dot segment")
		}
	}
	return nil
}

// checkPathBytes looks at the path as it is written.
func checkPathBytes(path string) error {
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			if !isUnreserved(c) && strings.IndexByte(pathExtra, c) < 0 {
				return refuse("path has a character that must be percent-encoded or is not allowed")
			}
			continue
		}
		b, ok := escaped(path[i:])
		switch {
		case !ok:
			return refuse("path has an invalid escape")
		case isUnreserved(b):
			return refuse("path encodes a letter, a digit or one of -._~")
		case b < ' ' || b == 0x7f:
			return refuse("path has a control character")
		case b == '/' || b == '\\' || b == ';':
			return refuse("path encodes a slash, a backslash or a semicolon")
		}
		i += 2
	}
	return nil
}

// checkDecodedPath looks at the path as a server sees it.
func checkDecodedPath(decoded string) error {
	switch {
	case !utf8.ValidString(decoded):
		return refuse("path is not UTF-8")
	case strings.ContainsFunc(decoded, unicode.IsControl):
		return refuse("path has a control character")
	case strings.ContainsAny(decoded, lookalikes):
		return refuse("path has a character that looks like a separator")
	}
	for rest := decoded; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return nil
		}
		if _, ok := escaped("%" + after); ok {
			return refuse("path is encoded twice")
		}
		rest = after
	}
}

// CheckQuery accepts a raw query, without its question mark, of at most 8 KiB: printable ASCII with valid escapes. A
// number sign would end it; a plain semicolon separates parameters for some servers and not for others.
func CheckQuery(rawQuery string) error {
	if len(rawQuery) > maxQueryBytes {
		return refuse("query is longer than %d bytes", maxQueryBytes)
	}
	for i := 0; i < len(rawQuery); i++ {
		switch c := rawQuery[i]; {
		case c <= ' ' || c >= 0x7f || c == '#' || c == ';':
			return refuse("query has a character that must be percent-encoded")
		case c == '%':
			if _, ok := escaped(rawQuery[i:]); !ok {
				return refuse("query has an invalid escape")
			}
		}
	}
	return nil
}

// escaped decodes the escape that s starts with.
func escaped(s string) (byte, bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	decoded, err := hex.DecodeString(s[1:3])
	if err != nil {
		return 0, false
	}
	return decoded[0], true
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(unreserved, c) >= 0
}
