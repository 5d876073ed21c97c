package slack

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// MaxSkew is how far, either way, a request's timestamp may be from our clock.
const MaxSkew = 300 * time.Second

const (
	signatureHeader = "X-Slack-Signature"
	timestampHeader = "X-Slack-Request-Timestamp"
)

// ErrUnauthentic is the one error of [Verifier.Verify]. Which check failed is in its text,
// for our log; whoever sent the request is told nothing.
var ErrUnauthentic = errors.New("not an authentic request from slack")

// Verifier tells requests of Slack from everybody else's. It is safe for concurrent use.
type Verifier struct {
	secrets *atomic.Pointer[[]Secret]
	now     func() time.Time
}

// VerifierConfig makes a [Verifier].
type VerifierConfig struct {
	// SigningSecrets are one, or two while the secret is being rotated. Required.
	SigningSecrets []Secret
	// Now is the wall clock. Required.
	Now func() time.Time
}

// NewVerifier returns a verifier, or says what is wrong with cfg. An empty secret is
// refused, since anybody can sign with it.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	if cfg.Now == nil {
		return nil, errors.New("a clock is required")
	}
	v := &Verifier{secrets: &atomic.Pointer[[]Secret]{}, now: cfg.Now}
	if err := v.Rotate(cfg.SigningSecrets); err != nil {
		return nil, err
	}
	return v, nil
}

// Rotate replaces the signing secrets, one or two, from the next request on. What they
// replace is refused then. With an error nothing has changed.
func (v *Verifier) Rotate(secrets []Secret) error {
	if n := len(secrets); n < 1 || n > 2 {
		return fmt.Errorf("signing secrets: want one or two, got %d", n)
	}
	for i, s := range secrets {
		if s == "" {
			return fmt.Errorf("signing secret %d is empty", i+1)
		}
	}
	secrets = slices.Clone(secrets)
	v.secrets.Store(&secrets)
	return nil
}

// Verify checks the signature over the raw bytes of a request's body, as Slack documents
// it (version v0, HMAC-SHA256), and its age. Both headers must be there exactly once. Any
// error is [ErrUnauthentic]. A valid request stays valid for [MaxSkew]: keep [ReplayKey].
func (v *Verifier) Verify(header http.Header, raw []byte) error {
	signature, stamp, err := signatureOf(header)
	if err != nil {
		return err
	}
	at, err := parseStamp(stamp)
	if err != nil {
		return err
	}
	if skew := v.now().Sub(at); skew > MaxSkew || skew < -MaxSkew {
		return fmt.Errorf("%w: its timestamp is %s off", ErrUnauthentic, skew.Truncate(time.Second))
	}
	match := false
	for _, secret := range *v.secrets.Load() { // both are always tried, so that time tells nothing
		match = hmac.Equal([]byte(sign(secret, stamp, raw)), []byte(signature)) || match
	}
	if !match {
		return fmt.Errorf("%w: the signature does not match", ErrUnauthentic)
	}
	return nil
}

// ReplayKey identifies one signed request: the SHA-256, in hex, of its signature and
// timestamp. Slack sends each only once; remember it for at least twice [MaxSkew].
func ReplayKey(header http.Header) string {
	sum := sha256.Sum256([]byte(header.Get(signatureHeader) + header.Get(timestampHeader)))
	return hex.EncodeToString(sum[:])
}

func signatureOf(header http.Header) (signature, stamp string, err error) {
	signatures, stamps := header.Values(signatureHeader), header.Values(timestampHeader)
	if len(signatures) != 1 || len(stamps) != 1 {
		return "", "", fmt.Errorf("%w: %d signatures and %d timestamps", ErrUnauthentic, len(signatures), len(stamps))
	}
	return signatures[0], stamps[0], nil
}

// parseStamp takes plain digits only: what strconv also takes, such as a sign, Slack never
// sends.
func parseStamp(stamp string) (time.Time, error) {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || seconds <= 0 || len(stamp) > 11 || stamp[0] < '0' || stamp[0] > '9' {
		return time.Time{}, fmt.Errorf("%w: its timestamp is not a number of seconds", ErrUnauthentic)
	}
	return time.Unix(seconds, 0), nil
}

func sign(secret Secret, stamp string, raw []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("v0:" + stamp + ":")) // a hash never fails
	_, _ = mac.Write(raw)
	return "v0=" + hex.EncodeToString(mac.Sum(nil))
}
