package policy

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

const (
	keyPrefix = "csk_"
	// maxKey bounds what is hashed of a key that a stranger sends, in bytes. Ours have 56.
	maxKey = 256
)

var visible = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKey makes an API key: csk_, eight characters to recognise it by, _ and 32 random bytes
// in base64url. Hash is its SHA-256 in hex, as key_sha256 takes it; the key itself is to be
// shown once and kept nowhere.
func NewKey() (key, hash string, err error) {
	var random [5 + 32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", "", fmt.Errorf("read random bytes: %w", err)
	}
	key = keyPrefix + visible.EncodeToString(random[:5]) + "_" + base64.RawURLEncoding.EncodeToString(random[5:])
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:]), nil
}

// CallerByKey finds the caller that an API key belongs to. It is found by the key's hash,
// so that neither a comparison nor its duration tells anything about other keys.
func (c *Config) CallerByKey(key string) (Caller, bool) {
	if len(key) > maxKey {
		return Caller{}, false
	}
	sum := sha256.Sum256([]byte(key))
	i, ok := c.byKey[sum]
	if !ok || subtle.ConstantTimeCompare(sum[:], c.Callers[i].KeyHash[:]) != 1 {
		return Caller{}, false
	}
	return c.Callers[i], true
}
