package api

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/gowebpki/jcs"
	"github.com/labstack/echo/v4"

	"countersign/approvals"
	"countersign/db"
)

// The routes scope Idempotency-Keys, with the caller. That of the front begins with the method;
// unkeyedRoute is for calls without a key, each of which is a ticket of its own.
const (
	submitRoute  = "POST /v1/tickets"
	frontRoute   = " /proxy/{upstream}/{path}"
	unkeyedRoute = "no key"
)

// maxKey is how long a key may be, in characters.
const maxKey = 255

// needKey reads the Idempotency-Key before anything else of the request is looked at.
func needKey(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		values := c.Request().Header.Values("Idempotency-Key")
		key, err := parseKey(values)
		if err != nil {
			return err
		}
		exchangeOf(c.Request().Context()).key = key
		return next(c)
	}
}

// parseKey reads an Idempotency-Key: a Structured Fields string (RFC 9651 section 3.3.3)
// or a bare word. Both forms of one text are the same key.
func parseKey(values []string) (string, error) {
	if len(values) == 0 || strings.TrimSpace(values[0]) == "" {
		return "", noKey("every submit needs")
	}
	if len(values) > 1 {
		return "", badKey("is given more than once")
	}
	text := strings.TrimSpace(values[0])
	key, ok := bareKey(text)
	if strings.HasPrefix(text, `"`) {
		key, ok = quotedKey(text)
	}
	switch {
	case !ok:
		return "", badKey("must be printable ASCII, quoted, or bare without spaces, commas, semicolons and backslashes")
	case key == "":
		return "", badKey("is empty")
	case len(key) > maxKey:
		return "", badKey("is longer than 255 characters")
	}
	return key, nil
}

// noKey says that a key is needed, and by what.
func noKey(who string) error {
	return fail(codeKeyMissing, "%s an Idempotency-Key of 1 to %d characters, new for each call "+
		"that is meant to be made; see the section Idempotency of /openapi.yaml", who, maxKey).
		with("Link", `</openapi.yaml>; rel="describedby"; type="application/yaml"`)
}

func badKey(detail string) error {
	f := fail(codeKeyInvalid, "the Idempotency-Key %s", detail)
	f.errors = []ProblemItem{{Header: "Idempotency-Key", Detail: detail}}
	return f
}

func bareKey(text string) (string, bool) {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' || strings.IndexByte(`",;\`, text[i]) >= 0 {
			return "", false
		}
	}
	return text, true
}

func quotedKey(text string) (string, bool) {
	if len(text) < 2 || text[len(text)-1] != '"' {
		return "", false
	}
	var key strings.Builder
	inner := text[1 : len(text)-1]
	for i := 0; i < len(inner); i++ {
		c := inner[i]
		if c == '\\' {
			if i++; i == len(inner) || (inner[i] != '"' && inner[i] != '\\') {
				return "", false
			}
			key.WriteByte(inner[i])
			continue
		}
		if c < ' ' || c > '~' || c == '"' {
			return "", false
		}
		key.WriteByte(c)
	}
	return key.String(), true
}

// idempotencyKey binds a key to what was sent with it: SHA-256 over the route and the
// canonical form (RFC 8785) of the body.
func idempotencyKey(key string, body document) (db.IdempotencyKey, error) {
	canonical, err := jcs.Transform(body.distinct())
	if err != nil {
		return db.IdempotencyKey{}, fail(codeMalformedJSON, "the request body has no canonical form").because(err)
	}
	return db.IdempotencyKey{
		Route: submitRoute, Key: key,
		Fingerprint: sha256.Sum256(append([]byte(submitRoute+"\x00"), canonical...)),
	}, nil
}

// frontKey binds a key to the call that came with it through the front: SHA-256 over method,
// upstream, path, query and the raw body. Header fields do not count, for clients vary them
// from one try to the next. Without a key the ticket's own id stands for it.
func frontKey(key string, s approvals.Submission) db.IdempotencyKey {
	out := db.IdempotencyKey{Route: s.Call.Method + frontRoute, Key: key}
	if key == "" {
		out.Route, out.Key = unkeyedRoute, s.ID
	}
	h := sha256.New()
	for _, part := range []string{out.Route, s.Call.Upstream, s.Call.Path, s.Call.Query, string(s.Call.Body)} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		_, _ = h.Write([]byte(part))
	}
	out.Fingerprint = [32]byte(h.Sum(nil))
	return out
}

// distinct returns the document with every number that a double may not hold turned into
// a string. RFC 8785 rounds numbers to doubles: without this, two account numbers that
// differ in the last of 17 digits would be one request, and the second would be answered
// with the first one's ticket.
func (d document) distinct() []byte {
	if len(d.inexact) == 0 {
		return d.raw
	}
	out := make([]byte, 0, len(d.raw)+10*len(d.inexact))
	last := 0
	for _, place := range d.inexact {
		out = append(out, d.raw[last:place[0]]...)
		out = append(out, `"\u0000`...)
		out = append(out, d.raw[place[0]:place[1]]...)
		out = append(out, '"')
		last = place[1]
	}
	return append(out, d.raw[last:]...)
}
