package policy

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const (
	// A caller's key and a person's can be told apart, and neither is taken for the other.
	keyPrefix    = "csk_"
	personPrefix = "csp_"
	// maxKey bounds what is hashed of a key that a stranger sends, in bytes. Ours have 56.
	maxKey = 256
)

var visible = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewKey makes an API key for a caller: csk_, eight characters to recognise it by, _ and 32
// random bytes in base64url. Hash is its SHA-256 in hex, as key_sha256 takes it; the key
// itself is to be shown once and kept nowhere.
func NewKey() (key, hash string, err error) { return newKey(keyPrefix) }

// NewPersonKey makes a personal API key, with which somebody decides. It is csp_ and
// otherwise as that of [NewKey].
func NewPersonKey() (key, hash string, err error) { return newKey(personPrefix) }

func newKey(prefix string) (key, hash string, err error) {
	var random [5 + 32]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", "", fmt.Errorf("read random bytes: %w", err)
	}
	key = prefix + visible.EncodeToString(random[:5]) + "_" + base64.RawURLEncoding.EncodeToString(random[5:])
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:]), nil
}

// CallerByKey finds the caller that an API key belongs to, and what the key is for. It is
// found by the key's hash, so that neither a comparison nor its duration tells anything about
// other keys. A key that has expired is nobody's, and so is a personal one, whatever the hash.
func (c *Config) CallerByKey(key string, now time.Time) (Caller, CallerKey, bool) {
	holder, ok := c.byKey.find(key, personPrefix)
	if !ok || !holder.key.live(now) {
		return Caller{}, CallerKey{}, false
	}
	return c.Callers[holder.index], holder.key, true
}

// keyIndex finds the holder of a key by its hash, which is kept beside, to be compared.
type keyIndex map[[32]byte]keyHolder

type keyHolder struct {
	index int
	key   CallerKey
}

func (x keyIndex) add(key CallerKey, index int) { x[key.Hash] = keyHolder{index, key} }

// find returns whose key this is, but for keys of the other kind.
func (x keyIndex) find(key, other string) (keyHolder, bool) {
	if len(key) > maxKey || strings.HasPrefix(key, other) {
		return keyHolder{}, false
	}
	sum := sha256.Sum256([]byte(key))
	holder, ok := x[sum]
	if !ok || subtle.ConstantTimeCompare(sum[:], holder.key.Hash[:]) != 1 {
		return keyHolder{}, false
	}
	return holder, true
}
