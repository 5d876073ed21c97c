package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	// maxKeys bounds how many keys of a provider are kept.
	maxKeys    = 50
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is one key of a provider, and the one algorithm that it is for.
type publicKey struct {
	kid, alg string
	key      crypto.PublicKey
}

func (k publicKey) set() oidc.KeySet {
	return &oidc.StaticKeySet{PublicKeys: []crypto.PublicKey{k.key}}
}

// jwk is a JSON Web Key (RFC 7517), as far as we read it.
type jwk struct {
	Kty string   `json:"kty"`
	Kid string   `json:"kid"`
	Use string   `json:"use"`
	Ops []string `json:"key_ops"`
	Alg string   `json:"alg"`
	Crv string   `json:"crv"`
	N   string   `json:"n"`
	E   string   `json:"e"`
	X   string   `json:"x"`
	Y   string   `json:"y"`
	D   string   `json:"d"`
}

// parseKeys reads the keys of a set that can sign tokens of ours. What it does not
// understand it leaves out, as RFC 7517 section 5 has it. False when it is no set.
func parseKeys(raw []byte) ([]publicKey, bool) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &set) != nil || set.Keys == nil {
		return nil, false
	}
	var out []publicKey
	for _, one := range set.Keys {
		var k jwk
		if json.Unmarshal(one, &k) != nil || !k.signs() {
			continue
		}
		if key, alg := k.parse(); key != nil && (k.Alg == "" || k.Alg == alg) && len(out) < maxKeys {
			out = append(out, publicKey{kid: k.Kid, alg: alg, key: key})
		}
	}
	return out, true
}

// signs reports whether a key is one to check signatures by. One whose private half is
// published is nobody's.
func (k jwk) signs() bool {
	return (k.Use == "" || k.Use == "sig") && (k.Ops == nil || slices.Contains(k.Ops, "verify")) && k.D == ""
}

// parse returns the key and the one algorithm that it is taken for, nil when there is none.
func (k jwk) parse() (crypto.PublicKey, string) {
	switch {
	case k.Kty == "RSA":
		if key := k.rsa(); key != nil {
			return key, "RS256"
		}
	case k.Kty == "EC" && k.Crv == "P-256":
		x, y := octets(k.X), octets(k.Y)
		if len(x) != 32 || len(y) != 32 {
			return nil, ""
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err == nil { // it is on the curve
			return key, "ES256"
		}
	case k.Kty == "OKP" && k.Crv == "Ed25519":
		if x := octets(k.X); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x), "EdDSA"
		}
	}
	return nil, ""
}

func (k jwk) rsa() *rsa.PublicKey {
	n, e := new(big.Int).SetBytes(octets(k.N)), new(big.Int).SetBytes(octets(k.E))
	if n.BitLen() < minRSABits || n.BitLen() > maxRSABits || n.Bit(0) == 0 {
		return nil
	}
	if e.BitLen() > 31 || e.Int64() < 3 || e.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}
}

// octets decodes base64url, nil when it is none.
func octets(s string) []byte {
	out, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return out
}
