package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/db/dbtest"
)

// provider is an identity provider with one key.
type provider struct {
	url string
	key *ecdsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := key.PublicKey.Bytes() // 4, x, y
	require.NoError(t, err)
	p := &provider{key: key}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reply(w, http.StatusOK, map[string]any{
			"/.well-known/openid-configuration": map[string]any{
				"issuer": p.url, "jwks_uri": p.url + "/keys", "authorization_endpoint": p.url + "/a", "token_endpoint": p.url + "/t",
				"id_token_signing_alg_values_supported": []string{"ES256"},
			},
			"/keys": map[string]any{"keys": []map[string]string{{
				"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one", "x": part(point[1:33]), "y": part(point[33:]),
			}}},
		}[r.URL.Path])
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func part(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// token is one for Countersign, of somebody (RFC 7515, RFC 7518 section 3.4).
func (p *provider) token(t *testing.T, subject string) string {
	t.Helper()
	now := time.Now() //nolint:forbidigo // tokens are judged by the real clock
	claims, err := json.Marshal(map[string]any{
		"iss": p.url, "aud": "countersign", "sub": subject, "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	})
	require.NoError(t, err)
	text := part([]byte(`{"alg":"ES256","kid":"one","typ":"JWT"}`)) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	require.NoError(t, err)
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + part(signature)
}

func TestPeopleWithALoginOfTheConfigurationInForceAreLetIn(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	policy := written{upstream: nowhere, origin: nowhere, slack: workspace(t).BaseURL()}
	text := func(issuer string) string { // bo's login
		return strings.Replace(policy.yaml(), "{name: bo, slack: U02BO}",
			`{name: bo, slack: U02BO, login: {issuer: "`+issuer+`", subject: "subject-of-bo"}}`, 1) +
			"logins: [{issuer: \"" + issuer + "\", audience: countersign}]\n"
	}
	path := write(t, "countersign.yaml", policy.yaml())
	h := &hot{served: serve(t, dbtest.Database(t), path), policy: policy, path: path}
	put := func(issuer string) map[string]any {
		require.NoError(t, os.WriteFile(path+".new", []byte(text(issuer)), 0o600))
		require.NoError(t, os.Rename(path+".new", path)) // never half written
		hangUp(t)
		return h.taken(t)
	}
	require.Equal(t, http.StatusUnauthorized, listed(t, h.base, p.token(t, "subject-of-bo")), "no provider is configured")
	require.Equal(t, []any{p.url}, put(p.url)["logins_added"], "the first one, on loopback")
	require.Equal(t, http.StatusOK, listed(t, h.base, p.token(t, "subject-of-bo")))
	require.Equal(t, http.StatusUnauthorized, listed(t, h.base, p.token(t, "somebody-else")))
	require.Equal(t, http.StatusUnauthorized, listed(t, h.base, newProvider(t).token(t, "subject-of-bo")), "another provider")

	next := newProvider(t)
	line := put(next.url)
	require.Equal(t, []any{next.url}, line["logins_added"])
	require.Equal(t, []any{p.url}, line["logins_removed"])
	require.Equal(t, http.StatusOK, listed(t, h.base, next.token(t, "subject-of-bo")))
	require.Equal(t, http.StatusUnauthorized, listed(t, h.base, p.token(t, "subject-of-bo")), "not configured any more")
}
