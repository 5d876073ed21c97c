package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/identity"
)

const audience = "countersign"

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// rsaKeys are made once: making one takes long.
var rsaKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var out [2]*rsa.PrivateKey
	for i := range out {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		out[i] = key
	}
	return out
})

// idp is an identity provider on loopback.
type idp struct {
	url string

	mu     sync.Mutex
	keys   []any          // what it publishes
	meta   map[string]any // replaces its metadata
	status int            // what it answers; 0 means 200
	asked  int            // how often its keys were read
}

func (p *idp) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status != 0 {
		w.WriteHeader(p.status)
		return
	}
	var answer any
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		answer = map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys"}
		if p.meta != nil {
			answer = p.meta
		}
	case "/keys":
		p.asked++
		answer = map[string]any{"keys": p.keys}
	default:
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (p *idp) set(change func(*idp)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *idp) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

// world is a provider, a verifier that trusts it, and a clock.
type world struct {
	idp      *idp
	verifier *identity.Verifier
	clock    *clock
	es       *ecdsa.PrivateKey
	ed       ed25519.PrivateKey
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{idp: &idp{}, clock: &clock{at: time.Unix(1_800_000_000, 0)}}
	server := httptest.NewServer(http.HandlerFunc(w.idp.serve))
	t.Cleanup(server.Close)
	w.idp.url = server.URL
	var err error
	w.es, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err, "make a key")
	_, w.ed, err = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err, "make a key")
	w.idp.keys = []any{
		jwk(t, "rsa", &rsaKeys()[0].PublicKey), jwk(t, "es", &w.es.PublicKey), jwk(t, "ed", w.ed.Public()),
	}
	logins := []identity.Login{{Issuer: w.idp.url, Audience: audience}, {Issuer: "https://elsewhere.example", Audience: audience}}
	client := egress.LoginClient(egress.LoginConfig{
		Issuers: func() []string { return []string{w.idp.url} }, AllowLoopback: func() bool { return true },
	})
	t.Cleanup(client.CloseIdleConnections)
	w.verifier, err = identity.New(identity.Config{
		HTTP: client, Logins: func() []identity.Login { return logins }, Now: w.clock.now,
	})
	require.NoError(t, err, "make a verifier")
	return w
}

// jwk publishes a key.
func jwk(t *testing.T, kid string, key crypto.PublicKey) map[string]any {
	t.Helper()
	out := map[string]any{"kid": kid, "use": "sig"}
	switch k := key.(type) {
	case *rsa.PublicKey:
		maps.Copy(out, map[string]any{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())})
	case *ecdsa.PublicKey:
		raw, err := k.Bytes()
		require.NoError(t, err, "encode a key")
		maps.Copy(out, map[string]any{"kty": "EC", "crv": "P-256", "x": b64(raw[1:33]), "y": b64(raw[33:])})
	case ed25519.PublicKey:
		maps.Copy(out, map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(k)})
	}
	return out
}

func b64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// sign makes a token by hand, so that any can be made.
func sign(t *testing.T, head, body map[string]any, key any) string {
	t.Helper()
	h, err := json.Marshal(head)
	require.NoError(t, err, "encode a header")
	b, err := json.Marshal(body)
	require.NoError(t, err, "encode claims")
	return seal(t, b64(h)+"."+b64(b), key)
}

func seal(t *testing.T, text string, key any) string {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	var signature []byte
	var err error
	switch k := key.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, k, sum[:])
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(k, []byte(text))
	case []byte:
		mac := hmac.New(sha256.New, k)
		_, _ = io.WriteString(mac, text)
		signature = mac.Sum(nil)
	}
	require.NoError(t, err, "sign")
	return text + "." + b64(signature)
}

// claims are those of a good token, with changes; nil removes one.
func (w *world) claims(changes ...any) map[string]any {
	now := w.clock.now().Unix()
	out := map[string]any{
		"iss": w.idp.url, "sub": "u-1", "aud": audience, "exp": now + 300, "iat": now, "nbf": now,
		"email": "ana@example.com", "email_verified": true,
	}
	for i := 0; i+1 < len(changes); i += 2 {
		name, _ := changes[i].(string)
		if out[name] = changes[i+1]; changes[i+1] == nil {
			delete(out, name)
		}
	}
	return out
}

// token is a good token, with changes of its claims.
func (w *world) token(t *testing.T, changes ...any) string {
	t.Helper()
	return sign(t, map[string]any{"alg": "ES256", "kid": "es", "typ": "JWT"}, w.claims(changes...), w.es)
}

func (w *world) refuse(t *testing.T, token, what string) {
	t.Helper()
	got, err := w.verifier.Verify(t.Context(), token)
	require.ErrorIs(t, err, identity.ErrInvalid, what)
	require.NotErrorIs(t, err, identity.ErrUnavailable, what)
	require.Zero(t, got, what)
}

func (w *world) accept(t *testing.T, token, what string) identity.Identity {
	t.Helper()
	got, err := w.verifier.Verify(t.Context(), token)
	require.NoError(t, err, what)
	return got
}
