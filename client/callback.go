package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// CallbackConfig configures VerifyCallback and NewVerifier. One of Secrets, PublicKeys and JWKS is required; whatever
// verifies against one of them passes.
type CallbackConfig struct {
	// Secrets are those the caller has at Countersign (whsec_…): the current one and, while it is rotated, the one before.
	Secrets []Secret
	// Caller is the name that Countersign knows the caller by. Ed25519 keys sign the events of all callers, so that an event
	// which one of them has got would pass at another one's: with PublicKeys or JWKS it is required, and what was sent to
	// anybody else is refused. AnyCaller in its place takes the events of all.
	Caller    string
	AnyCaller bool
	// PublicKeys are those of ed25519 signatures (whpk_…).
	PublicKeys []string
	// JWKS is where public keys are published, such as https://countersign.example.com/.well-known/jwks.json. They are
	// read when one is first needed, and again when none fits, once a minute at most, or after an hour.
	JWKS string
	// HTTPClient reads the JWKS. Nil: one with deadlines, which follows no redirects.
	HTTPClient *http.Client
	// Tolerance is how far the timestamp may be from now, either way. Zero: 5 minutes.
	Tolerance time.Duration
	// MaxBody bounds the body in bytes. Zero: 512 KiB; Countersign sends at most 256 KiB.
	MaxBody int64
	// Seen keeps what was taken, so that what comes again does not reach the handler. Nil: deliveries come at least once.
	Seen Seen
	// AllowOrigin is the origin of the Countersign that may post here, for which the CloudEvents handshake is answered. It
	// is rarely needed: challenges are answered by themselves. Empty: the handshake is not answered.
	AllowOrigin string
	// Refused is told of every request that was refused, and why. Nil: nobody is.
	Refused func(r *http.Request, why error)
	// Now is the clock. Nil: the real one.
	Now func() time.Time
}

// Why a callback is refused.
var (
	// ErrCallbackHeaders: webhook-id, webhook-timestamp or webhook-signature is missing, repeated or malformed.
	ErrCallbackHeaders = errors.New("missing or malformed webhook headers")
	// ErrCallbackTime: the timestamp is too far from now: an old request sent again, or a wrong clock.
	ErrCallbackTime = errors.New("webhook timestamp outside the tolerance")
	// ErrCallbackSignature: no signature fits any of the secrets and keys.
	ErrCallbackSignature = errors.New("no matching webhook signature")
	// ErrCallbackCaller: the event is signed, and was sent to another caller.
	ErrCallbackCaller = errors.New("the event was sent to another caller")
	// ErrCallbackKeys: the public keys cannot be read now.
	ErrCallbackKeys = errors.New("public keys cannot be read")
)

// Verifier checks that a request was posted by Countersign, as Standard Webhooks has it.
type Verifier struct {
	secrets   [][]byte
	caller    string // "": any
	keys      []ed25519.PublicKey
	jwks      *jwks
	tolerance time.Duration
	maxBody   int64
	seen      Seen
	origin    string
	refused   func(*http.Request, error)
	now       func() time.Time
}

// NewVerifier checks the configuration. Errors never contain a secret.
func NewVerifier(c CallbackConfig) (*Verifier, error) {
	v := &Verifier{
		tolerance: cmp.Or(max(c.Tolerance, 0), 5*time.Minute), maxBody: cmp.Or(max(c.MaxBody, 0), 512<<10),
		seen: c.Seen, caller: c.Caller, origin: c.AllowOrigin, refused: c.Refused, now: c.Now,
	}
	if v.now == nil {
		v.now = time.Now //nolint:forbidigo // the default clock of whoever uses the package
	}
	for i, s := range c.Secrets {
		key, err := parseSecret(s)
		if err != nil {
			return nil, fmt.Errorf("client: CallbackConfig.Secrets[%d] %w", i, err)
		}
		v.secrets = append(v.secrets, key)
	}
	for i, text := range c.PublicKeys {
		key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, "whpk_"))
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("client: CallbackConfig.PublicKeys[%d] must be base64 of 32 bytes, usually with the prefix whpk_", i)
		}
		v.keys = append(v.keys, key)
	}
	if c.JWKS != "" {
		var err error
		if v.jwks, err = newJWKS(c.JWKS, c.HTTPClient); err != nil {
			return nil, err
		}
	}
	if len(v.secrets) == 0 && len(v.keys) == 0 && v.jwks == nil {
		return nil, errors.New("client: CallbackConfig needs Secrets, PublicKeys or JWKS")
	}
	if shared := len(v.keys) > 0 || v.jwks != nil; shared && (c.Caller == "") != c.AnyCaller {
		return nil, errors.New("client: CallbackConfig needs Caller, or AnyCaller, with PublicKeys or JWKS: these keys sign for all callers")
	}
	return v, nil
}

func parseSecret(s Secret) ([]byte, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(string(s), "whsec_"))
	if err != nil || strings.ContainsAny(string(s), "\r\n") || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("must be base64 of 24 to 64 bytes, usually with the prefix whsec_")
	}
	return key, nil
}

// Verify checks the signatures of a request with this header and body. Errors are ErrCallbackHeaders, ErrCallbackTime,
// ErrCallbackSignature, ErrCallbackCaller or ErrCallbackKeys.
func (v *Verifier) Verify(ctx context.Context, header http.Header, body []byte) error {
	id, at, signatures, err := signed(header)
	if err != nil {
		return err
	}
	now := v.now()
	if now.Sub(at) > v.tolerance || at.Sub(now) > v.tolerance {
		return ErrCallbackTime
	}
	content := bytes.Join([][]byte{[]byte(id), []byte(strconv.FormatInt(at.Unix(), 10)), body}, []byte("."))
	switch {
	case v.symmetric(content, signatures):
		return nil
	case asymmetric(v.keys, content, signatures):
		return v.addressed(body)
	case v.jwks == nil || len(of(signatures, "v1a,")) == 0:
		return ErrCallbackSignature
	}
	if err := v.jwks.verify(ctx, content, signatures, now); err != nil {
		return err
	}
	return v.addressed(body)
}

// addressed refuses what was sent to another caller.
func (v *Verifier) addressed(body []byte) error {
	var e struct {
		Data struct {
			Caller string `json:"caller"`
		} `json:"data"`
	}
	if v.caller == "" || json.Unmarshal(body, &e) == nil && e.Data.Caller == v.caller {
		return nil
	}
	return ErrCallbackCaller
}

// signed reads the headers. An id with a dot is refused: "a.1" signed at 2 and "a" signed at 1 with a body "2.…" have the
// same signed content.
func signed(header http.Header) (id string, at time.Time, signatures []string, err error) {
	const maxSignatures = 8 << 10
	ids, stamps, lists := header.Values("Webhook-Id"), header.Values("Webhook-Timestamp"), header.Values("Webhook-Signature")
	if len(ids) != 1 || len(stamps) != 1 || len(lists) != 1 || len(lists[0]) > maxSignatures {
		return "", time.Time{}, nil, ErrCallbackHeaders
	}
	seconds, err := strconv.ParseInt(stamps[0], 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != stamps[0] || ids[0] == "" || len(ids[0]) > 256 || strings.Contains(ids[0], ".") {
		return "", time.Time{}, nil, ErrCallbackHeaders
	}
	if signatures = strings.Fields(lists[0]); len(signatures) == 0 {
		return "", time.Time{}, nil, ErrCallbackHeaders
	}
	return ids[0], time.Unix(seconds, 0), signatures, nil
}

// of returns the signatures of a version, decoded.
func of(signatures []string, version string) (out [][]byte) {
	for _, s := range signatures {
		text, found := strings.CutPrefix(s, version)
		if raw, err := base64.StdEncoding.Strict().DecodeString(text); found && err == nil && len(raw) > 0 {
			out = append(out, raw)
		}
	}
	return out
}

// symmetric looks at every pair, so that the time taken does not tell which one fits.
func (v *Verifier) symmetric(content []byte, signatures []string) bool {
	found := false
	for _, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write(content)
		want := mac.Sum(nil)
		for _, got := range of(signatures, "v1,") {
			if hmac.Equal(want, got) {
				found = true
			}
		}
	}
	return found
}

// maxTries bounds the work that a request without a fitting signature makes: keys times signatures.
const maxTries = 64

func asymmetric(keys []ed25519.PublicKey, content []byte, signatures []string) bool {
	tries := 0
	for _, got := range of(signatures, "v1a,") {
		for _, key := range keys {
			if tries++; tries > maxTries {
				return false
			}
			if ed25519.Verify(key, content, got) {
				return true
			}
		}
	}
	return false
}
