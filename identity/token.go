package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
)

// algorithms are those that a token may be signed by: asymmetric ones, so that whoever can
// check a signature cannot make one.
var algorithms = []string{"RS256", "ES256", "EdDSA"}

// types are what a token may say it is. Tokens made for another purpose, such as logout
// tokens, are signed by the same keys.
var types = []string{"", "jwt", "at+jwt", "application/at+jwt"}

// header is what an unverified token says about how it is to be verified. Nothing else of
// it is believed.
type header struct{ alg, kid, issuer string }

// peek reads a token without verifying it.
func peek(raw string) (header, error) {
	if len(raw) > MaxToken {
		return header{}, invalid("it is longer than %d bytes", MaxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || parts[2] == "" {
		return header{}, invalid("it is not three parts")
	}
	head, err := object(parts[0])
	if err != nil {
		return header{}, err
	}
	body, err := object(parts[1])
	if err != nil {
		return header{}, err
	}
	out := header{alg: head.text("alg"), kid: head.text("kid"), issuer: body.text("iss")}
	switch {
	case !slices.Contains(algorithms, out.alg):
		return header{}, invalid("it is signed by an algorithm that is not taken")
	case !slices.Contains(types, strings.ToLower(head.text("typ"))):
		return header{}, invalid("it is not for this purpose")
	case out.issuer == "":
		return header{}, invalid("it names no issuer")
	}
	return out, nil
}

func object(part string) (claims, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, invalid("a part is not base64url")
	}
	var out claims
	if json.Unmarshal(raw, &out) != nil || out == nil {
		return nil, invalid("a part is not a JSON object")
	}
	return out, nil
}

// claims are those of a token by their exact names: encoding/json would take "SUB" for
// "sub" in a struct.
type claims map[string]json.RawMessage

// text is a claim that is a string, "" when it is not.
func (c claims) text(name string) string {
	var out string
	if json.Unmarshal(c[name], &out) != nil {
		return ""
	}
	return out
}

// comparable are the claims that are texts or lists, by their exact names.
func (c claims) comparable() map[string]any {
	out := make(map[string]any, len(c))
	for name, raw := range c {
		var v any
		if json.Unmarshal(raw, &v) != nil {
			continue
		}
		switch v.(type) {
		case string, []any:
			out[name] = v
		}
	}
	return out
}

// audience is a string, or an array of strings.
func (c claims) audience() []string {
	if one := c.text("aud"); one != "" {
		return []string{one}
	}
	var many []string
	if json.Unmarshal(c["aud"], &many) != nil {
		return nil
	}
	return many
}

// checkWho says whether the token is from whom and for whom it should be. One that is for
// others as well must have been issued to us: the others hold it too.
func (c claims) checkWho(issuer string, audiences []string) error {
	subject, given := c.text("sub"), c.audience()
	ours := func(name string) bool { return name != "" && slices.Contains(audiences, name) }
	switch {
	case c.text("iss") != issuer:
		return invalid("it is from another issuer")
	case !slices.ContainsFunc(given, ours):
		return invalid("it is for somebody else")
	case len(given) > 1 && !ours(c.text("azp")):
		return invalid("it is for others too, and was issued to one of them")
	case subject == "" || len(subject) > MaxSubject || strings.ContainsFunc(subject, unicode.IsControl):
		return invalid("its subject is missing, too long, or holds control characters")
	case c["events"] != nil:
		return invalid("it is a notice of an event")
	}
	return nil
}

// checkWhen says whether the token is valid at a moment.
func (c claims) checkWhen(now time.Time) error {
	expires, ok := c.moment("exp")
	if !ok || !now.Before(expires.Add(Leeway)) {
		return invalid("it has expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		from, ok := c.moment(name)
		if c[name] != nil && (!ok || from.After(now.Add(Leeway))) {
			return invalid("it is not valid yet: %s", name)
		}
	}
	return nil
}

// latest is the last moment that a claim can name: the year 9999.
const latest = 253402300799

// moment is a claim that is a time in seconds since 1970 (RFC 7519 section 2).
func (c claims) moment(name string) (time.Time, bool) {
	var seconds float64
	if c[name] == nil || bytes.Equal(c[name], []byte("null")) ||
		json.Unmarshal(c[name], &seconds) != nil || seconds < 0 || seconds > latest {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// email is the address, if the issuer says that it has verified it. Some say so in a string.
func (c claims) email() string {
	switch string(c["email_verified"]) {
	case "true", `"true"`:
		return c.text("email")
	}
	return ""
}
