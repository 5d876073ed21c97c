package egress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The headers of Standard Webhooks and RFC 9530.
const (
	HeaderID            = standardwebhooks.HeaderWebhookID
	HeaderTimestamp     = standardwebhooks.HeaderWebhookTimestamp
	HeaderSignature     = standardwebhooks.HeaderWebhookSignature
	HeaderContentDigest = "content-digest"
)

const (
	secretPrefix        = "whsec_"
	minKeyBytes         = 24
	maxKeyBytes         = 64
	maxSignatureBytes   = 8 << 10
	defaultTolerance    = 5 * time.Minute
	signatureVersion    = "v1,"
	contentDigestFormat = "sha-256=:%s:"
)

// What Verify and ParseSecret refuse.
var (
	// ErrSecretFormat: the text is not base64 of 24 to 64 bytes. The text itself is never part of an error.
	ErrSecretFormat = errors.New("signing secret must be base64 of 24 to 64 bytes, usually with the prefix whsec_")
	// ErrNoSecret: there is no usable secret to verify with.
	ErrNoSecret = errors.New("no signing secret")
	// ErrSignatureHeaders: webhook-id, webhook-timestamp or webhook-signature is missing, repeated or malformed.
	ErrSignatureHeaders = errors.New("missing or malformed webhook headers")
	// ErrSignatureTime: the timestamp is too far from now, in either direction.
	ErrSignatureTime = errors.New("webhook timestamp outside the tolerance")
	// ErrSignatureMismatch: no v1 signature matches any secret.
	ErrSignatureMismatch = errors.New("no matching webhook signature")
)

// ParseSecret reads a Standard Webhooks signing secret: standard base64 of 24 to 64 bytes, with or without the prefix
// whsec_. Errors are ErrSecretFormat and never contain the text.
func ParseSecret(text string) (Secret, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(text, secretPrefix))
	// The decoder skips line breaks, which a secret has no business containing.
	if err != nil || strings.ContainsAny(text, "\r\n") || len(key) < minKeyBytes || len(key) > maxKeyBytes {
		return Secret{}, ErrSecretFormat
	}
	return NewSecret(string(key)), nil
}

// Sign returns the webhook-signature header: one "v1,<base64>" for each live secret, in the order given (newest first),
// joined by spaces. Secrets that could not have come from ParseSecret are left out, so no secrets give "". The id must
// not contain a dot, and at counts in whole seconds.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	var signatures []string
	for _, secret := range secrets {
		if signature, ok := signOne(secret, id, at, body); ok {
			signatures = append(signatures, signature)
		}
	}
	return strings.Join(signatures, " ")
}

func signOne(secret Secret, id string, at time.Time, body []byte) (string, bool) {
	key := []byte(secret.reveal())
	if len(key) < minKeyBytes || len(key) > maxKeyBytes {
		return "", false
	}
	webhook, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return "", false
	}
	signature, err := webhook.Sign(id, at, body)
	return signature, err == nil
}

// Verify checks a received webhook against any of the secrets, comparing in constant time. A timestamp further than
// tolerance from now, either way, is refused; tolerance zero means 5 minutes. Unknown signature versions are passed
// over. Errors are ErrNoSecret, ErrSignatureHeaders, ErrSignatureTime or ErrSignatureMismatch.
func Verify(secrets []Secret, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	id, at, signatures, err := timelySignatures(header, now, tolerance)
	if err != nil {
		return err
	}
	expected := strings.Fields(Sign(secrets, id, at, body))
	if len(expected) == 0 {
		return ErrNoSecret
	}
	if !anyEqual(expected, signatures) {
		return ErrSignatureMismatch
	}
	return nil
}

// timelySignatures reads the headers and judges the timestamp.
func timelySignatures(header http.Header, now time.Time, tolerance time.Duration) (id string, at time.Time, signatures []string, err error) {
	id, at, signatures, err = signatureHeaders(header)
	if err != nil {
		return "", time.Time{}, nil, err
	}
	if tolerance <= 0 {
		tolerance = defaultTolerance
	}
	if now.Sub(at) > tolerance || at.Sub(now) > tolerance {
		return "", time.Time{}, nil, ErrSignatureTime
	}
	return id, at, signatures, nil
}

// signatureHeaders is stricter than the libraries in one way: an id with a dot is refused, because "a.1" signed at 2
// and "a" signed at 1 with a body "2.…" have the same signed content.
func signatureHeaders(header http.Header) (id string, at time.Time, signatures []string, err error) {
	ids, stamps, lists := header.Values(HeaderID), header.Values(HeaderTimestamp), header.Values(HeaderSignature)
	if len(ids) != 1 || len(stamps) != 1 || len(lists) != 1 || len(lists[0]) > maxSignatureBytes {
		return "", time.Time{}, nil, ErrSignatureHeaders
	}
	seconds, err := strconv.ParseInt(stamps[0], 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != stamps[0] || ids[0] == "" || strings.Contains(ids[0], ".") {
		return "", time.Time{}, nil, ErrSignatureHeaders
	}
	signatures = strings.Fields(lists[0])
	if len(signatures) == 0 {
		return "", time.Time{}, nil, ErrSignatureHeaders
	}
	return ids[0], time.Unix(seconds, 0), signatures, nil
}

// anyEqual looks at every pair, so the time taken does not tell which one matched.
func anyEqual(expected, received []string) bool {
	found := false
	for _, want := range expected {
		for _, got := range received {
			if strings.HasPrefix(got, signatureVersion) && hmac.Equal([]byte(want), []byte(got)) {
				found = true
			}
		}
	}
	return found
}

// ContentDigest returns the RFC 9530 content-digest of body with sha-256.
func ContentDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return fmt.Sprintf(contentDigestFormat, base64.StdEncoding.EncodeToString(sum[:]))
}
