package egress

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	privateKeyPrefix = "whsk_"
	publicKeyPrefix  = "whpk_"
	asymmetricPrefix = "v1a,"
)

// ErrKeyFormat means that the text is no ed25519 key of Standard Webhooks. The text itself is never part of an error.
var ErrKeyFormat = errors.New("signing key must be whsk_ (private, 32 or 64 bytes) or whpk_ (public, 32 bytes) and base64 of an ed25519 key")

// SigningKey is an ed25519 private key for v1a signatures. It prints *** wherever it is printed. The zero SigningKey
// signs nothing.
type SigningKey struct{ seed Secret }

// PublicKey is what receivers verify v1a signatures with. The zero PublicKey verifies nothing.
type PublicKey struct{ key string }

// ParseSigningKey reads a private key: whsk_ and standard base64 of the seed (32 bytes), or of seed and public key (64
// bytes) if they belong together. Errors are ErrKeyFormat and never contain the text.
func ParseSigningKey(text string) (SigningKey, error) {
	raw, err := parseKey(text, privateKeyPrefix)
	if err != nil || (len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize) {
		return SigningKey{}, ErrKeyFormat
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	if len(raw) == ed25519.PrivateKeySize && !private.Equal(ed25519.PrivateKey(raw)) {
		return SigningKey{}, ErrKeyFormat
	}
	return SigningKey{seed: NewSecret(string(raw[:ed25519.SeedSize]))}, nil
}

// ParsePublicKey reads whpk_ and standard base64 of 32 bytes. Errors are ErrKeyFormat.
func ParsePublicKey(text string) (PublicKey, error) {
	raw, err := parseKey(text, publicKeyPrefix)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return PublicKey{}, ErrKeyFormat
	}
	return PublicKey{key: string(raw)}, nil
}

func parseKey(text, prefix string) ([]byte, error) {
	encoded, found := strings.CutPrefix(text, prefix)
	if !found || strings.ContainsAny(text, "\r\n") { // the decoder skips line breaks
		return nil, ErrKeyFormat
	}
	return base64.StdEncoding.Strict().DecodeString(encoded)
}

// PublicKey returns the public half, or the zero PublicKey of the zero SigningKey.
func (k SigningKey) PublicKey() PublicKey {
	private := k.private()
	if private == nil {
		return PublicKey{}
	}
	return PublicKey{key: string(private[ed25519.SeedSize:])}
}

func (k SigningKey) private() ed25519.PrivateKey {
	seed := k.seed.reveal()
	if len(seed) != ed25519.SeedSize {
		return nil
	}
	return ed25519.NewKeyFromSeed([]byte(seed))
}

// String returns ***.
func (k SigningKey) String() string { return hidden }

// GoString returns ***.
func (k SigningKey) GoString() string { return hidden }

// Format writes *** whatever the verb.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// MarshalText returns ***, which covers JSON, YAML and XML.
func (k SigningKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// LogValue returns ***.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(hidden) }

// String returns the key as Standard Webhooks writes it: whpk_ and base64.
func (k PublicKey) String() string {
	return publicKeyPrefix + base64.StdEncoding.EncodeToString([]byte(k.key))
}

// jwk is an ed25519 public key of RFC 8037. The fields of the thumbprint come first and in the order of the alphabet, as
// RFC 7638 wants them.
type jwk struct {
	Crv string `json:"crv"`
	Kty string `json:"kty"`
	X   string `json:"x"`
	Alg string `json:"alg,omitempty"`
	Kid string `json:"kid,omitempty"`
	Use string `json:"use,omitempty"`
}

func (k PublicKey) jwk() jwk {
	return jwk{Crv: "Ed25519", Kty: "OKP", X: base64.RawURLEncoding.EncodeToString([]byte(k.key))}
}

// ID is the thumbprint of RFC 7638, which is the kid of the key in JWKS.
func (k PublicKey) ID() string {
	text, _ := json.Marshal(k.jwk()) // strings always marshal
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// JWKS returns the public halves as a JWK set (RFC 7517, RFC 8037), in the order given. Zero keys are left out; no keys
// give an empty set.
func JWKS(keys []SigningKey) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, key := range keys {
		public := key.PublicKey()
		if public == (PublicKey{}) {
			continue
		}
		entry := public.jwk()
		entry.Alg, entry.Kid, entry.Use = "EdDSA", public.ID(), "sig"
		set.Keys = append(set.Keys, entry)
	}
	text, _ := json.Marshal(set) // strings always marshal
	return text
}

// SignEd25519 is Sign with asymmetric keys: one "v1a,<base64>" for each key, in the order given, joined by spaces. Zero
// keys are left out, so no keys give "".
func SignEd25519(keys []SigningKey, id string, at time.Time, body []byte) string {
	content := signedContent(id, at, body)
	var signatures []string
	for _, key := range keys {
		if private := key.private(); private != nil {
			signatures = append(signatures, asymmetricPrefix+base64.StdEncoding.EncodeToString(ed25519.Sign(private, content)))
		}
	}
	return strings.Join(signatures, " ")
}

// VerifyEd25519 is Verify for v1a signatures. Errors are those of Verify; without keys ErrNoSecret.
func VerifyEd25519(keys []PublicKey, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	id, at, signatures, err := timelySignatures(header, now, tolerance)
	if err != nil {
		return err
	}
	content, usable := signedContent(id, at, body), 0
	for _, key := range keys {
		if len(key.key) != ed25519.PublicKeySize {
			continue
		}
		usable++
		for _, signature := range signatures {
			encoded, found := strings.CutPrefix(signature, asymmetricPrefix)
			raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
			if found && err == nil && ed25519.Verify(ed25519.PublicKey(key.key), content, raw) {
				return nil
			}
		}
	}
	if usable == 0 {
		return ErrNoSecret
	}
	return ErrSignatureMismatch
}

// signedContent is what Standard Webhooks signs, whichever the algorithm.
func signedContent(id string, at time.Time, body []byte) []byte {
	return append([]byte(id+"."+strconv.FormatInt(at.Unix(), 10)+"."), body...)
}
