package slack

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// pair is an access token with the token that it is renewed by. Seed tells the configured
// refresh token that it descends from.
type pair struct {
	Access, Refresh Secret
	Seed            string
}

// wirePair is a pair as it is sealed: a Secret would encode as "***".
type wirePair struct {
	Access  string `json:"access"`
	Refresh string `json:"refresh"`
	Seed    string `json:"seed"`
}

// seedOf identifies a configured refresh token without telling it.
func seedOf(token Secret) string {
	sum := sha256.Sum256([]byte("seed:" + string(token)))
	return hex.EncodeToString(sum[:8])
}

// sealer keeps pairs with AES-256-GCM, under a key that is derived from the client secret
// (HKDF, RFC 5869), and bound to the app.
type sealer struct {
	aead cipher.AEAD
	app  string
}

func newSealer(secret Secret, app string) (sealer, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "countersign slack tokens of "+app, 32)
	if err != nil {
		return sealer{}, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("make a cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealer{}, fmt.Errorf("make a cipher: %w", err)
	}
	return sealer{aead: aead, app: app}, nil
}

func (s sealer) close(p pair) ([]byte, error) {
	plain, err := json.Marshal(wirePair{string(p.Access), string(p.Refresh), p.Seed})
	if err != nil {
		return nil, fmt.Errorf("encode tokens: %w", err)
	}
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	rand.Read(nonce)
	return s.aead.Seal(nonce, nonce, plain, []byte(s.app)), nil
}

func (s sealer) open(sealed []byte) (pair, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return pair{}, errors.New("too short to be tokens")
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(s.app))
	if err != nil {
		return pair{}, errors.New("the tokens cannot be unsealed")
	}
	var w wirePair
	if err := json.Unmarshal(plain, &w); err != nil {
		return pair{}, errors.New("the tokens cannot be read")
	}
	return pair{Secret(w.Access), Secret(w.Refresh), w.Seed}, nil
}

// bare makes calls without the header that stands for a token.
type bare struct{ doer Doer }

// Do fulfils [Doer].
func (b bare) Do(req *http.Request) (*http.Response, error) {
	req.Header.Del("Authorization")
	return b.doer.Do(req)
}
