package identity_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/identity"
)

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := identity.New(identity.Config{})
	require.ErrorContains(t, err, "required")
}

func TestTokensOfEachAlgorithmPass(t *testing.T) {
	t.Parallel()
	w := setup(t)
	want := identity.Identity{Issuer: w.idp.url, Subject: "u-1", Email: "ana@example.com"}
	for name, token := range map[string]string{
		"RS256":           sign(t, map[string]any{"alg": "RS256", "kid": "rsa"}, w.claims(), rsaKeys()[0]),
		"ES256":           w.token(t),
		"EdDSA":           sign(t, map[string]any{"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}, w.claims(), w.ed),
		"no kid":          sign(t, map[string]any{"alg": "ES256"}, w.claims(), w.es),
		"several for us":  w.token(t, "aud", []string{"account", audience}, "azp", audience),
		"from a fraction": w.token(t, "exp", float64(w.clock.now().Unix())+10.5),
		"without iat":     w.token(t, "iat", nil, "nbf", nil),
	} {
		got := w.accept(t, token, name)
		got.Claims = nil // see TestClaimsAreTextsAndListsByTheirExactNames
		require.Equal(t, want, got, name)
	}
	require.Equal(t, 1, w.idp.times(), "the keys were read once")
}

func TestClaimsAreTextsAndListsByTheirExactNames(t *testing.T) {
	t.Parallel()
	w := setup(t)
	got := w.accept(t, w.token(t, "repository", "acme/pay", "groups", []any{"a", 7.0}, "run", 17, "admin", true, "nested", map[string]any{"ref": "x"}, "nothing", nil), "claims").Claims
	require.Equal(t, "acme/pay", got["repository"])
	require.Equal(t, []any{"a", 7.0}, got["groups"])
	require.Equal(t, w.idp.url, got["iss"])
	for _, name := range []string{"Repository", "run", "admin", "nested", "ref", "nothing", "exp"} {
		require.NotContains(t, got, name)
	}
}

func TestOnlyAVerifiedAddressIsOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, c := range map[string]struct {
		verified any
		want     string
	}{
		"verified": {true, "ana@example.com"}, "in a string": {"true", "ana@example.com"}, "not": {false, ""},
		"not, in a string": {"false", ""}, "not said": {nil, ""}, "a number": {1, ""}, "other words": {"yes", ""},
	} {
		require.Equal(t, c.want, w.accept(t, w.token(t, "email_verified", c.verified), name).Email, name)
	}
}

func TestForgedTokensAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	der, err := x509.MarshalPKIXPublicKey(&rsaKeys()[0].PublicKey)
	require.NoError(t, err, "encode the public key")
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err, "make a key")
	good := w.token(t)
	parts := strings.Split(good, ".")
	other := strings.Split(w.token(t, "sub", "u-2"), ".")
	head := func(pairs ...any) map[string]any {
		out := map[string]any{"alg": "ES256", "kid": "es"}
		for i := 0; i+1 < len(pairs); i += 2 {
			name, _ := pairs[i].(string)
			out[name] = pairs[i+1]
		}
		return out
	}
	for name, token := range map[string]string{
		"alg none":                     sign(t, map[string]any{"alg": "none"}, w.claims(), []byte{}),
		"alg none, no signature":       strings.TrimRight(sign(t, map[string]any{"alg": "none"}, w.claims(), nil), "="),
		"alg NONE":                     sign(t, map[string]any{"alg": "NONE", "kid": "es"}, w.claims(), w.es),
		"HS256 with the public key":    sign(t, map[string]any{"alg": "HS256", "kid": "rsa"}, w.claims(), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 with its DER":           sign(t, map[string]any{"alg": "HS256", "kid": "rsa"}, w.claims(), der),
		"HS256 with its modulus":       sign(t, map[string]any{"alg": "HS256", "kid": "rsa"}, w.claims(), rsaKeys()[0].N.Bytes()),
		"an algorithm that is not RSA": sign(t, map[string]any{"alg": "RS512", "kid": "rsa"}, w.claims(), rsaKeys()[0]),
		"another's key":                sign(t, map[string]any{"alg": "RS256", "kid": "rsa"}, w.claims(), rsaKeys()[1]),
		"another's key of its own":     sign(t, map[string]any{"alg": "EdDSA", "kid": "mine", "jwk": jwk(t, "mine", stranger.Public())}, w.claims(), stranger),
		"another's key under our kid":  sign(t, map[string]any{"alg": "EdDSA", "kid": "ed", "jwk": jwk(t, "ed", stranger.Public())}, w.claims(), stranger),
		"swapped kid":                  sign(t, map[string]any{"alg": "EdDSA", "kid": "es"}, w.claims(), w.ed),
		"swapped kid and alg":          sign(t, map[string]any{"alg": "ES256", "kid": "ed"}, w.claims(), w.es),
		"unknown kid":                  sign(t, head("kid", "new"), w.claims(), w.es),
		"swapped payload":              parts[0] + "." + other[1] + "." + parts[2],
		"no signature":                 parts[0] + "." + parts[1] + ".",
		"two parts":                    parts[0] + "." + parts[1],
		"four parts":                   good + ".x",
		"cut":                          good[:len(good)-2],
		"nothing":                      "",
		"dots":                         "..",
		"not base64url":                "a b." + parts[1] + "." + parts[2],
		"null parts":                   b64([]byte("null")) + "." + b64([]byte("null")) + ".x",
		"a critical extension":         sign(t, head("crit", []string{"x"}, "x", true), w.claims(), w.es),
		"a logout token":               sign(t, head("typ", "logout+jwt"), w.claims(), w.es),
		"a key by address":             sign(t, head("kid", "mine", "jku", w.idp.url+"/mine"), w.claims(), w.es),
	} {
		w.refuse(t, token, name)
	}
	require.LessOrEqual(t, w.idp.times(), 1, "forged tokens do not make us ask again and again")
}

func TestWrongClaimsAreRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	now := w.clock.now().Unix()
	for name, changes := range map[string][]any{
		"wrong audience":                          {"aud", "somebody"},
		"no audience":                             {"aud", nil},
		"audience in part":                        {"aud", audience + "-2"},
		"audience in other case":                  {"aud", "Countersign"},
		"an object for audience":                  {"aud", map[string]any{"x": audience}},
		"others too, and not ours":                {"aud", []string{audience, "x"}, "azp", "x"},
		"others too, nobody's":                    {"aud", []string{audience, "x"}},
		"wrong issuer":                            {"iss", "https://evil.example"},
		"issuer with a slash":                     {"iss", w.idp.url + "/"},
		"no issuer":                               {"iss", nil},
		"a configured issuer whose key it is not": {"iss", "https://elsewhere.example.evil"},
		"expired":                                 {"exp", now - 61},
		"expired to the second":                   {"exp", now - 60},
		"no expiry":                               {"exp", nil},
		"expiry null":                             {"exp", json.RawMessage("null")},
		"expiry in words":                         {"exp", "tomorrow"},
		"expiry beyond time":                      {"exp", 1e300},
		"expiry before time":                      {"exp", -1},
		"not valid yet":                           {"nbf", now + 61},
		"issued in the future":                    {"iat", now + 61},
		"issued in words":                         {"iat", "now"},
		"no subject":                              {"sub", nil},
		"empty subject":                           {"sub", ""},
		"a number for a subject":                  {"sub", 7},
		"a long subject":                          {"sub", strings.Repeat("x", 256)},
		"a NUL in the subject":                    {"sub", "a\x00b"},
		"a subject in other case":                 {"sub", nil, "SUB", "u-1"},
		"a notice of an event":                    {"events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}},
	} {
		w.refuse(t, w.token(t, changes...), name)
	}
	for name, changes := range map[string][]any{
		"just expired": {"exp", now - 59}, "almost valid": {"nbf", now + 60}, "issued by a fast clock": {"iat", now + 60},
		"a subject of full length": {"sub", strings.Repeat("x", 255)},
	} {
		w.accept(t, w.token(t, changes...), name)
	}
}

func TestClaimsCountByTheirExactNames(t *testing.T) {
	t.Parallel()
	w := setup(t)
	got := w.accept(t, w.token(t, "SUB", "u-2", "Sub", "u-3", "EMAIL", "bo@example.com"), "claims in other case besides")
	require.Equal(t, "u-1", got.Subject, "subject")
	require.Equal(t, "ana@example.com", got.Email, "address")
}

func TestHugeTokensAreRefusedUnread(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.refuse(t, w.token(t, "x", strings.Repeat("y", identity.MaxToken)), "huge")
	w.refuse(t, strings.Repeat("x.", 4<<20), "huge, and all dots")
	require.Zero(t, w.idp.times(), "nobody was asked")
}

func TestIssuerThatIsNotConfiguredIsNotAsked(t *testing.T) {
	t.Parallel()
	w, evil := setup(t), setup(t)
	w.refuse(t, evil.token(t), "a good token of another provider")
	require.Zero(t, evil.idp.times(), "it was not asked")
}

func TestRotatedKeysAreLearnt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.accept(t, w.token(t), "by the old key")
	next := rsaKeys()[1]
	w.idp.set(func(p *idp) { p.keys = append(p.keys, jwk(t, "next", &next.PublicKey)) })
	token := sign(t, map[string]any{"alg": "RS256", "kid": "next"}, w.claims(), next)
	w.refuse(t, token, "the keys were read a moment ago")
	w.clock.move(30 * time.Second)
	w.accept(t, token, "by the new key")
	require.Equal(t, 2, w.idp.times(), "the keys were read twice")

	w.idp.set(func(p *idp) { p.keys = []any{jwk(t, "next", &next.PublicKey)} })
	w.accept(t, w.token(t), "the old key is not known to be gone")
	w.clock.move(time.Hour)
	w.refuse(t, w.token(t), "the old key is gone within the hour")
	w.accept(t, sign(t, map[string]any{"alg": "RS256", "kid": "next"}, w.claims(), next), "the new one stays")
}

func TestProviderThatIsDownLetsNobodyPass(t *testing.T) {
	t.Parallel()
	w := setup(t)
	unavailable := func(token, what string) {
		t.Helper()
		got, err := w.verifier.Verify(t.Context(), token)
		require.ErrorIs(t, err, identity.ErrUnavailable, what)
		require.NotErrorIs(t, err, identity.ErrInvalid, what)
		require.Zero(t, got, what)
	}
	w.idp.set(func(p *idp) { p.status = http.StatusInternalServerError })
	unavailable(w.token(t), "before its keys were known")
	w.idp.set(func(p *idp) { p.status = 0 })
	unavailable(w.token(t), "it is not asked again at once")
	w.clock.move(5 * time.Second)
	w.accept(t, w.token(t), "once it answers")
	w.idp.set(func(p *idp) { p.status = http.StatusBadGateway })
	w.accept(t, w.token(t), "by keys that are known")
	w.clock.move(time.Hour)
	unavailable(w.token(t), "its keys are too old")
	w.clock.move(5 * time.Second)
	w.idp.set(func(p *idp) { p.status = http.StatusFound })
	unavailable(w.token(t), "redirects are not followed")
}

func TestMetadataMustBeTheIssuersOwn(t *testing.T) {
	t.Parallel()
	for name, meta := range map[string]map[string]any{
		"of another": {"issuer": "https://evil.example", "jwks_uri": "x"}, "without keys": {"issuer": "x"}, "empty": {},
	} {
		w := setup(t)
		w.idp.set(func(p *idp) {
			p.meta = maps.Clone(meta)
			if name != "of another" {
				p.meta["issuer"] = p.url
			} else {
				p.meta["jwks_uri"] = p.url + "/keys"
			}
		})
		_, err := w.verifier.Verify(t.Context(), w.token(t))
		require.ErrorIs(t, err, identity.ErrUnavailable, name)
	}
}

func TestUnfitKeysAreLeftOut(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // that it is too small is the point
	require.NoError(t, err, "make a small key")
	with := func(key map[string]any, pairs ...any) map[string]any {
		out := maps.Clone(key)
		for i := 0; i+1 < len(pairs); i += 2 {
			name, _ := pairs[i].(string)
			out[name] = pairs[i+1]
		}
		return out
	}
	for name, c := range map[string]struct {
		key func(w *world) any
		sub func(w *world) string
	}{
		"a short RSA key": {
			func(*world) any { return jwk(t, "k", &small.PublicKey) },
			func(w *world) string { return sign(t, map[string]any{"alg": "RS256", "kid": "k"}, w.claims(), small) },
		},
		"for encryption":   {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "use", "enc") }, nil},
		"for signing only": {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "key_ops", []string{"sign"}) }, nil},
		"for another alg":  {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "alg", "ES384") }, nil},
		"with its secret":  {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "d", "AAAA") }, nil},
		"not on the curve": {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "x", b64(make([]byte, 32))) }, nil},
		"a symmetric key":  {func(*world) any { return map[string]any{"kty": "oct", "kid": "es", "k": "AAAA"} }, nil},
		"no key":           {func(*world) any { return "es" }, nil},
		"another curve's":  {func(w *world) any { return with(jwk(t, "es", &w.es.PublicKey), "crv", "P-384") }, nil},
		"two of one name":  {nil, nil},
		"an even RSA modulus": {
			func(*world) any {
				n := rsaKeys()[0].N.Bytes()
				n[len(n)-1] &^= 1
				return with(jwk(t, "k", &rsaKeys()[0].PublicKey), "n", b64(n))
			},
			func(w *world) string {
				return sign(t, map[string]any{"alg": "RS256", "kid": "k"}, w.claims(), rsaKeys()[0])
			},
		},
	} {
		w := setup(t)
		w.idp.set(func(p *idp) {
			if c.key == nil {
				p.keys = append(p.keys, jwk(t, "es", &w.es.PublicKey))
				return
			}
			p.keys = []any{c.key(w)}
		})
		token := w.token(t)
		if c.sub != nil {
			token = c.sub(w)
		}
		w.refuse(t, token, name)
	}
}

func TestKeysAreReadOnceForAllWhoWait(t *testing.T) {
	t.Parallel()
	w := setup(t)
	token := w.token(t)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			_, err := w.verifier.Verify(t.Context(), token)
			if err != nil {
				t.Errorf("verify: %v", err)
			}
		})
	}
	group.Wait()
	require.Equal(t, 1, w.idp.times(), "how often the keys were read")
}

func FuzzVerify(f *testing.F) {
	f.Add("a.b.c")
	f.Add(b64([]byte(`{"alg":"ES256"}`)) + "." + b64([]byte(`{"iss":"https://elsewhere.example"}`)) + ".x")
	v, err := identity.New(identity.Config{
		HTTP: dead{},
		Logins: func() []identity.Login {
			return []identity.Login{{Issuer: "https://elsewhere.example", Audience: audience}}
		},
		Now: func() time.Time { return time.Unix(1_800_000_000, 0) },
	})
	require.NoError(f, err, "make a verifier")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := v.Verify(t.Context(), token)
		require.Error(t, err, "%q", token)
		require.Zero(t, got, "%q", token)
	})
}

type dead struct{}

func (dead) Do(*http.Request) (*http.Response, error) { return nil, http.ErrServerClosed }
