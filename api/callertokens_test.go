package api_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/api"
	"countersign/db"
	"countersign/identity"
	"countersign/policy"
)

// idp is an identity provider on loopback with one key.
type idp struct {
	url string
	key ed25519.PrivateKey
}

func startIDP(t *testing.T) *idp {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err, "make a key")
	p := &idp{key: private}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{"issuer": p.url, "jwks_uri": p.url + "/keys"}
		if r.URL.Path == "/keys" {
			answer = map[string]any{"keys": []any{map[string]any{
				"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "k1", "x": base64.RawURLEncoding.EncodeToString(public),
			}}}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// client asks the provider.
type client struct{}

func (client) Do(r *http.Request) (*http.Response, error) { return http.DefaultTransport.RoundTrip(r) }

func encoded(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err, "encode")
	return base64.RawURLEncoding.EncodeToString(raw)
}

// token makes a token of good claims but for the given ones; nil removes one.
func (p *idp) token(t *testing.T, now time.Time, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": p.url, "aud": "countersign", "sub": "repo:acme/pay", "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"repository": "acme/pay", "teams": []string{"ops", "pay"},
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	signed := encoded(t, map[string]any{"alg": "EdDSA", "kid": "k1", "typ": "JWT"}) + "." + encoded(t, all)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(p.key, []byte(signed)))
}

const tokenCallers = `
server: {listen: "127.0.0.1:8080", public_url: "https://countersign.example.com"}
callers:
  - name: by-claim
    login: {issuer: "ISSUER", claims: {repository: acme/pay, teams: pay}}
    upstreams: [billing]
  - name: by-subject
    login: {issuer: "ISSUER", subject: robot-1}
    owners: [ana]
    upstreams: [billing]
  - name: by-either
    login: [{issuer: "ISSUER", claims: {role: batch}}, {issuer: "ISSUER", claims: {tier: gold}}]
    upstreams: [billing]
  - name: by-zone
    login: {issuer: "ISSUER", claims: {zone: eu}}
    upstreams: [billing]
logins: [{issuer: "ISSUER", audience: countersign, email: true}]
people:
  - {name: ana, slack: U02ANA, email: ana@example.com}
  - {name: bo, slack: U02BO, email: bo@example.com}
upstreams: [{name: billing, base_url: "https://billing.internal/v1"}]
rules: [{name: change, match: {upstream: billing}, stages: [{name: peer, need: [{from: [ana, bo], approvals: 1}], notify: {channel: "#c"}}]}]
`

// tokenWorld is a server that takes the tokens of one real provider.
func tokenWorld(t *testing.T) (*bundle, *idp) {
	t.Helper()
	p := startIDP(t)
	config := parseConfig(t, strings.ReplaceAll(tokenCallers, "ISSUER", p.url))
	var b *bundle
	verifier, err := identity.New(identity.Config{
		HTTP: client{}, Now: func() time.Time { return b.clock.now() },
		Logins: func() []identity.Login { return []identity.Login{{Issuer: p.url, Audience: "countersign"}} },
	})
	require.NoError(t, err, "make a verifier")
	b = setup(t, func(c *api.Config) {
		c.Identify = verifier.Verify
		c.Policy = func() *policy.Config { return config }
	})
	b.config = config
	return b, p
}

func TestATokenOfAnIdentityProviderStandsForTheCallerWhoseClaimsItHas(t *testing.T) {
	t.Parallel()
	b, p := tokenWorld(t)
	for doing, c := range map[string]struct {
		claims map[string]any
		caller string
	}{
		"claims, one of them a list": {nil, "by-claim"},
		"a list of one":              {map[string]any{"teams": []string{"pay"}}, "by-claim"},
		"a text for a list":          {map[string]any{"teams": "pay"}, "by-claim"},
		"a subject":                  {map[string]any{"sub": "robot-1", "repository": nil}, "by-subject"},
		"the second of two":          {map[string]any{"repository": nil, "tier": "gold"}, "by-either"},
	} {
		r := b.do(t, call{
			method: "POST", path: "/v1/tickets", body: deletion, key: p.token(t, b.clock.now(), c.claims),
			header: headers("Idempotency-Key", freshKey()),
		})
		require.Equal(t, http.StatusAccepted, r.status, "%s: %s", doing, r.raw)
		require.Equal(t, c.caller, r.field(t, "caller"), doing)
		require.Equal(t, c.caller, b.stored(t, r.id(t)).Caller, doing)
	}
	mine := b.do(t, call{
		method: "POST", path: "/v1/tickets", body: deletion, key: p.token(t, b.clock.now(), nil), header: headers("Idempotency-Key", "k"),
	}).id(t)
	other := p.token(t, b.clock.now(), map[string]any{"sub": "robot-1", "repository": nil})
	require.Equal(t, http.StatusNotFound, b.do(t, call{method: "GET", path: "/v1/tickets/" + mine, key: other}).status, "another's ticket")
	r := b.do(t, call{method: "POST", path: "/v1/tickets/" + mine + "/cancel", key: p.token(t, b.clock.now(), nil)})
	require.Equal(t, http.StatusOK, r.status, "cancel: %s", r.raw)
	events, err := b.store.Events(t.Context(), db.Ref{ID: mine}, 1, 10)
	require.NoError(t, err, "read the events")
	require.Equal(t, p.url+" repo:acme/pay", events[0].Actor.Ref, "the trail says whose token it was")
}

func TestATokenThatIsNotExactlyOneCallersIsNobodys(t *testing.T) {
	t.Parallel()
	b, p := tokenWorld(t)
	now := b.clock.now()
	good := p.token(t, now, nil)
	header, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	stranger := startIDP(t)
	none := encoded(t, map[string]any{"alg": "none", "kid": "k1"})
	hs256 := encoded(t, map[string]any{"alg": "HS256", "kid": "k1"})
	mac := hmac.New(sha256.New, p.key.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // what it is
	mac.Write([]byte(hs256 + "." + claims))
	for doing, token := range map[string]string{
		"alg none":                     none + "." + claims + ".",
		"alg none, signed":             none + "." + claims + "." + signature,
		"HS256 with the public key":    hs256 + "." + claims + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
		"no signature":                 header + "." + claims + ".",
		"other claims":                 header + "." + encoded(t, map[string]any{"iss": p.url, "repository": "acme/pay", "teams": "pay"}) + "." + signature,
		"another audience":             p.token(t, now, map[string]any{"aud": "somebody"}),
		"no audience":                  p.token(t, now, map[string]any{"aud": nil}),
		"an issuer we do not know":     stranger.token(t, now, nil),
		"signed by a stranger":         stranger.token(t, now, map[string]any{"iss": p.url}),
		"expired":                      p.token(t, now.Add(-time.Hour), nil),
		"not yet valid":                p.token(t, now, map[string]any{"nbf": now.Add(time.Hour).Unix()}),
		"no expiry":                    p.token(t, now, map[string]any{"exp": nil}),
		"another claim":                p.token(t, now, map[string]any{"repository": "acme/other"}),
		"a claim in capitals":          p.token(t, now, map[string]any{"repository": "ACME/pay"}),
		"a claim of another name":      p.token(t, now, map[string]any{"repository": nil, "Repository": "acme/pay"}),
		"a missing claim":              p.token(t, now, map[string]any{"teams": nil}),
		"a list without it":            p.token(t, now, map[string]any{"teams": []string{"payroll", "pa"}}),
		"a list in a list":             p.token(t, now, map[string]any{"teams": []any{[]string{"pay"}}}),
		"an object":                    p.token(t, now, map[string]any{"teams": map[string]any{"pay": "pay"}}),
		"a number":                     p.token(t, now, map[string]any{"repository": 1}),
		"two callers at once":          p.token(t, now, map[string]any{"zone": "eu"}),
		"a person and a caller":        p.token(t, now, map[string]any{"email": "bo@example.com", "email_verified": true}),
		"another subject, no claims":   p.token(t, now, map[string]any{"sub": "robot-2", "repository": nil}),
		"nobody":                       p.token(t, now, map[string]any{"sub": "someone", "repository": nil, "teams": nil}),
		"longer than a token may be":   p.token(t, now, map[string]any{"padding": strings.Repeat("x", identity.MaxToken)}),
		"a caller's prefix in front":   "csk_" + good,
		"a personal prefix in front":   "csp_" + good,
		"twice, with a comma":          good + "," + good,
		"with something that follows ": good + ".x",
	} {
		b.clock.move(6 * time.Second) // failed authentications are slowed down
		r := b.do(t, call{
			method: "POST", path: "/v1/tickets", body: deletion, key: token, header: headers("Idempotency-Key", freshKey()),
		})
		require.Equal(t, http.StatusUnauthorized, r.status, "%s: %s", doing, r.raw)
		requireProblem(t, r, http.StatusUnauthorized, "unauthenticated")
	}
	require.Zero(t, b.tickets(t), "tickets")
	require.Contains(t, b.logs.String(), "stands for a person and for a caller", "operators hear of it")
	require.NotContains(t, b.logs.String(), signature, "tokens are in no log")
	person := p.token(t, b.clock.now(), map[string]any{"email": "bo@example.com", "email_verified": true, "repository": nil})
	require.Equal(t, http.StatusOK, b.statusFor(t, person), "a person's token that is no caller's")
	r := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, key: person, header: headers("Idempotency-Key", "k")})
	requireProblem(t, r, http.StatusForbidden, "not_a_caller")
}

// TestWhoOwnsACallerThatComesByTokenCannotApproveItsCalls walks the edge from a token over
// its caller to the owner.
func TestWhoOwnsACallerThatComesByTokenCannotApproveItsCalls(t *testing.T) {
	t.Parallel()
	b, p := tokenWorld(t)
	robot := p.token(t, b.clock.now(), map[string]any{"sub": "robot-1", "repository": nil})
	id := b.do(t, call{method: "POST", path: "/v1/tickets", body: deletion, key: robot, header: headers("Idempotency-Key", "k")}).id(t)
	decide := func(email string) reply {
		token := p.token(t, b.clock.now(), map[string]any{"sub": email, "email": email, "email_verified": true, "repository": nil})
		return b.do(t, call{method: "POST", path: "/v1/tickets/" + id + "/decisions", body: b.verdict(t, id, "approve", ""), key: token})
	}
	requireProblem(t, decide("ana@example.com"), http.StatusForbidden, "self_approval")
	require.Equal(t, http.StatusOK, decide("bo@example.com").status, "somebody else")
	require.Equal(t, "bo", b.stored(t, id).Decisions[0].Person, "who approved")
}
