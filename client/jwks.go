package client

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	jwksFresh = time.Hour
	jwksPause = time.Minute
	jwksLimit = 10 * time.Second
	maxJWKS   = 64 << 10
	maxKeys   = 16
)

// jwks holds the ed25519 keys that an address publishes (RFC 7517, RFC 8037).
type jwks struct {
	url  string
	http *http.Client

	mu    sync.Mutex
	keys  []ed25519.PublicKey
	read  time.Time // when they were
	tried time.Time // when reading them was last tried
}

func newJWKS(address string, c *http.Client) (*jwks, error) {
	if _, err := baseURL(address, false); err != nil {
		return nil, errors.New("client: CallbackConfig.JWKS must be such as https://countersign.example.com/.well-known/jwks.json")
	}
	if c == nil {
		c = safeClient()
	}
	return &jwks{url: address, http: c}, nil
}

// verify checks against the keys that are known, and reads them anew where that may help. Whoever posts rubbish makes us
// read them once a minute at most.
func (j *jwks) verify(ctx context.Context, content []byte, signatures []string, now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	fresh := now.Sub(j.read) < jwksFresh && !j.read.IsZero()
	if fresh && asymmetric(j.keys, content, signatures) {
		return nil
	}
	if now.Sub(j.tried) < jwksPause && !j.tried.IsZero() {
		if fresh {
			return ErrCallbackSignature
		}
		return ErrCallbackKeys
	}
	j.tried = now
	keys, err := j.fetch(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCallbackKeys, err)
	}
	j.keys, j.read = keys, now
	if !asymmetric(j.keys, content, signatures) {
		return ErrCallbackSignature
	}
	return nil
}

func (j *jwks) fetch(ctx context.Context) ([]ed25519.PublicKey, error) {
	// Not cut short by whoever asked first: the others wait for the same keys.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jwksLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, errors.New("the request cannot be made")
	}
	res, err := j.http.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read as far as it is wanted
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxJWKS))
	if err != nil {
		return nil, plain(err)
	}
	return parseJWKS(raw)
}

// parseJWKS takes the ed25519 keys and passes over all others.
func parseJWKS(raw []byte) (out []ed25519.PublicKey, err error) {
	var set struct {
		Keys []struct {
			Kty, Crv, X, Use string
		} `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, errors.New("the answer is no JWKS")
	}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Kty != "OKP" || k.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize || (k.Use != "" && k.Use != "sig") {
			continue
		}
		if out = append(out, x); len(out) == maxKeys {
			break
		}
	}
	return out, nil
}
