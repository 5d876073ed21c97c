package api

import (
	"crypto/sha256"
	"strings"

	"github.com/gowebpki/jcs"
	"github.com/labstack/echo/v4"

	"countersign/db"
)

// submitRoute scopes Idempotency-Keys, with the caller.
const submitRoute = "POST /v1/tickets"

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
		return "", fail(codeKeyMissing, "every submit needs an Idempotency-Key of 1 to %d characters, new for each call "+
			"that is meant to be made; see the section Idempotency of /openapi.yaml", maxKey).
			with("Link", `</openapi.yaml>; rel="describedby"; type="application/yaml"`)
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
