package policy

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	defaultOpen    = 10_000
	maxOpen        = 1_000_000
	maxExecuting   = 10_000
	defaultWaiting = 1000
	maxWaiting     = 100_000
	maxLane        = 10_000
	maxSigningKeys = 10
)

var ratePattern = regexp.MustCompile(`^([1-9][0-9]{0,6})/([smh])$`)

// rate decodes so many in a second, a minute or an hour.
func (d *decoder) rate(dst *Rate) field {
	return func(n ast.Node) {
		var w word
		if d.word(&w)(n); w.text == "" {
			return
		}
		m := ratePattern.FindStringSubmatch(w.text)
		if m == nil {
			d.problem(w.at, "write 10/s, 100/m or 1000/h", "%s is not a rate", d.label)
			return
		}
		dst.N, _ = strconv.Atoi(m[1]) // digits, and few
		dst.Per = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[m[2]]
	}
}

// limits decodes what one caller may do.
func (d *decoder) limits(l *Limits) field {
	return func(n ast.Node) {
		d.object(n, "limits", fields{
			"submit":    d.rate(&l.Submit),
			"read":      d.rate(&l.Read),
			"open":      d.number(&l.Open, new(pos), 1, maxOpen),
			"executing": d.number(&l.Executing, new(pos), 1, maxExecuting),
			"waiting":   d.number(&l.Waiting, new(pos), 1, maxWaiting),
		})
	}
}

func (d *decoder) breaker(b *Breaker) field {
	return func(n ast.Node) {
		d.object(n, "breaker", fields{
			"failures": d.number(&b.Failures, new(pos), 1, 1000),
			"within":   d.duration(&b.Within, time.Second, time.Hour),
			"for":      d.duration(&b.For, time.Second, time.Hour),
		}, "failures", "within", "for")
	}
}

// proxy decodes the address of a proxy. What it must be shown is never in the address.
func (d *decoder) proxy(dst **url.URL) field {
	return func(n ast.Node) {
		var w word
		if d.word(&w)(n); w.text == "" {
			return
		}
		u, err := url.Parse(w.text)
		if err := checkBase(w.text); err != nil {
			d.problem(w.at, "", "proxy %s", err)
			return
		}
		if err != nil || u.Path != "" || u.Port() == "" {
			d.problem(w.at, "write http://host:port", "proxy must have a port and no path")
			return
		}
		*dst = u
	}
}

func (d *decoder) encryption(n ast.Node) {
	d.object(n, "encryption", fields{"keyset": d.secret(&d.draft.encryption.Keyset, nil)}, "keyset")
}

func (d *decoder) signing(n ast.Node) {
	d.object(n, "signing", fields{"keys": d.secrets("keys", &d.draft.signing.Keys, maxSigningKeys, ed25519Key)}, "keys")
}

// ed25519Key accepts a private key in the form of Standard Webhooks: the seed of RFC 8032,
// or the seed and the public key.
func ed25519Key(value string) error {
	encoded, ok := strings.CutPrefix(value, "whsk_")
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	good := ok && err == nil && !strings.ContainsAny(value, "\r\n")
	switch {
	case good && len(key) == ed25519.SeedSize:
		return nil
	case good && len(key) == ed25519.PrivateKeySize && slices.Equal(key, ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])):
		return nil
	}
	return errors.New("is not whsk_ followed by the base64 of an ed25519 key of 32 or 64 bytes")
}
