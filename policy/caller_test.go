package policy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestSeveralKeysAreOneCallersWhileTheyLast(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"callers": `callers:
  - name: bot
    upstreams: [billing]
    keys:
      - {name: old, sha256: ` + hashOf("csk_old") + `, expires: "2026-11-23T12:00:00Z"}
      - {name: new, sha256: ` + hashOf("csk_new") + `, scopes: [read, cancel], networks: [10.0.0.0/8, "::/0"], upstreams: [billing], methods: [GET]}
`})
	for _, at := range []struct {
		now  time.Time
		want bool
	}{{noon.Add(-time.Nanosecond), true}, {noon, false}, {noon.Add(time.Hour), false}} {
		bot, key, ok := c.CallerByKey("csk_old", at.now)
		require.Equal(t, at.want, ok, at.now)
		if ok {
			require.Equal(t, "bot", bot.Name)
			require.Equal(t, "old", key.Name)
			require.True(t, key.May(policy.ScopeSubmit), "without scopes it is for all")
			require.True(t, key.MayCall("billing", "DELETE"))
			require.True(t, key.MayFrom(netip.Addr{}), "without networks it may come from anywhere")
		}
	}
	_, key, ok := c.CallerByKey("csk_new", noon.AddDate(50, 0, 0))
	require.True(t, ok, "one without an end lasts")
	require.True(t, key.May(policy.ScopeRead))
	require.True(t, key.May(policy.ScopeCancel))
	require.False(t, key.May(policy.ScopeSubmit))
	require.False(t, key.May(""))
	require.True(t, key.MayCall("billing", "GET"))
	require.False(t, key.MayCall("billing", "POST"))
	require.False(t, key.MayCall("files", "GET"))
	for text, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "11.1.2.3": false, "::ffff:11.1.2.3": false, "2001:db8::1": true, "fe80::1%eth0": true} {
		require.Equal(t, want, key.MayFrom(netip.MustParseAddr(text)), text)
	}
	require.False(t, key.MayFrom(netip.Addr{}), "what is no address is in no network")
}

func TestAPersonsKeysExpireToo(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"people": people("{name: dee, keys: [{name: old, sha256: " + hashOf("csp_old") + ", expires: 2026-11-24}, {name: new, sha256: " + hashOf("csp_new") + "}]}")})
	p, ok := c.PersonByKey("csp_old", noon)
	require.True(t, ok)
	require.Equal(t, "dee", p.Name)
	_, ok = c.PersonByKey("csp_old", noon.Add(12*time.Hour))
	require.False(t, ok, "a date is its beginning")
	_, ok = c.PersonByKey("csp_new", noon.AddDate(50, 0, 0))
	require.True(t, ok)
}

func TestATokenIsACallersByAllThatIsAskedForAndNeverTwoCallers(t *testing.T) {
	t.Parallel()
	const issuer = "https://a.example.com"
	c := parse(t, map[string]string{"logins": twoLogins, "callers": `callers:
  - name: pay
    upstreams: [billing]
    login:
      - {issuer: "https://a.example.com", claims: {repository: acme/pay, ref: refs/heads/main}}
      - {issuer: "https://id.vendor.example/", subject: pay}
  - {name: ops, upstreams: [billing], login: {issuer: "https://a.example.com", subject: ops-1}}
  - {name: admins, upstreams: [billing], login: {issuer: "https://a.example.com", claims: {groups: admins}}}
`})
	type claims = map[string]any
	main := claims{"repository": "acme/pay", "ref": "refs/heads/main"}
	for _, tt := range []struct {
		why, issuer, subject string
		claims               claims
		want                 string
	}{
		{"all claims", issuer, "any", main, "pay"},
		{"another branch", issuer, "any", claims{"repository": "acme/pay", "ref": "refs/heads/mine"}, ""},
		{"another case", issuer, "any", claims{"repository": "Acme/pay", "ref": "refs/heads/main"}, ""},
		{"a claim is missing", issuer, "any", claims{"repository": "acme/pay"}, ""},
		{"no claims", issuer, "any", nil, ""},
		{"another issuer", "https://id.vendor.example/", "any", main, ""},
		{"the subject there", "https://id.vendor.example/", "pay", nil, "pay"},
		{"the subject elsewhere", issuer, "pay", nil, ""},
		{"a list that contains it", issuer, "x", claims{"groups": []any{"users", "admins"}}, "admins"},
		{"a list that contains a part", issuer, "x", claims{"groups": []any{"admins-eu", 7.0, []any{"admins"}, nil}}, ""},
		{"what is neither text nor list", issuer, "x", claims{"groups": map[string]any{"admins": true}}, ""},
		{"a text that holds it", issuer, "x", claims{"groups": "users admins"}, ""},
		{"two callers", issuer, "ops-1", claims{"groups": []any{"admins"}}, ""},
		{"two callers by claims", issuer, "x", claims{"groups": "admins", "repository": "acme/pay", "ref": "refs/heads/main"}, ""},
		{"one of them", issuer, "ops-1", claims{"groups": []any{}}, "ops"},
		{"nobody", "", "", nil, ""},
	} {
		got, ok := c.CallerByToken(tt.issuer, tt.subject, tt.claims)
		require.Equal(t, tt.want, got.Name, tt.why)
		require.Equal(t, tt.want != "", ok, tt.why)
	}
}

func TestCallersHaveLimitsByDefault(t *testing.T) {
	t.Parallel()
	require.Equal(t, policy.Limits{Open: 10_000, Waiting: 1000}, parse(t, nil).Callers[0].Limits)
	c := parse(t, map[string]string{"callers": callers("upstreams: [billing], limits: {submit: 10/s, read: 100/m, open: 5, executing: 2, waiting: 7}")})
	require.Equal(t, policy.Limits{
		Submit: policy.Rate{N: 10, Per: time.Second}, Read: policy.Rate{N: 100, Per: time.Minute}, Open: 5, Executing: 2, Waiting: 7,
	}, c.Callers[0].Limits)
	require.True(t, policy.Rate{}.IsZero())
	require.False(t, c.Callers[0].Limits.Submit.IsZero())
}

func TestEndpointsAreAsWrittenOrByDefault(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"signing": "signing: {keys: [env:COUNTERSIGN_SIGNING_KEY]}\n",
		"callers": callers(`upstreams: [billing], callbacks: {verification: waived, alert: "#alerts", secrets: [env:PAYROLL_CALLBACK_SECRET], origins: [https://plain.example.com,
      {origin: "https://Full.example.com:8443", verify: /verify, verification: required, payload: full, signature: ed25519, schedule: [0s, 5s, 1d], concurrency: 8,
       rate: 120/m, timeout: 5s, headers: {header: x-auth, prefix: "Bearer ", value: env:HOOKS_TOKEN}, ca: env:PRIVATE_CA,
       certificate: {certificate: env:CLIENT_CERTIFICATE, key: env:CLIENT_KEY}, disable_after: 2h}]}`),
	})
	bot := c.Callers[0]
	require.Equal(t, "#alerts", bot.AlertChannel)
	require.Equal(t, []string{"https://plain.example.com:443", "https://full.example.com:8443"}, bot.Origins)
	plain, ok := bot.Endpoint("https://plain.example.com:443")
	require.True(t, ok)
	require.Equal(t, policy.Endpoint{
		Origin: "https://plain.example.com:443", Waived: true, Concurrency: 4, Timeout: 15 * time.Second, DisableAfter: 120 * time.Hour,
	}, plain)
	full, ok := bot.Endpoint("https://full.example.com:8443")
	require.True(t, ok)
	require.False(t, full.Waived, "its own word counts more than that for all")
	require.True(t, full.Ed25519)
	require.Equal(t, "/verify", full.Verify)
	require.Equal(t, "full", full.Payload)
	require.Equal(t, []time.Duration{0, 5 * time.Second, 24 * time.Hour}, full.Schedule)
	require.Equal(t, 8, full.Concurrency)
	require.Equal(t, policy.Rate{N: 120, Per: time.Minute}, full.Rate)
	require.Equal(t, "X-Auth", full.Headers[0].Header)
	require.Equal(t, "Bearer ", full.Headers[0].Prefix)
	require.Equal(t, certificatePEM, full.CA.Reveal())
	require.Equal(t, 2*time.Hour, full.DisableAfter)
	_, ok = bot.Endpoint("https://full.example.com")
	require.False(t, ok, "an origin has its port")
	require.Equal(t, "env:COUNTERSIGN_SIGNING_KEY", c.Signing.Keys[0].Ref())
}

func TestASecretStopsToSignByItself(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"callers": callbacks(`origins: ["https://a.example.com"], secrets: [env:NEW_CALLBACK_SECRET, {secret: env:PAYROLL_CALLBACK_SECRET, until: 2026-11-24}]`)})
	bot := c.Callers[0]
	refs := func(now time.Time) (out []string) {
		for _, s := range bot.LiveSecrets(now) {
			out = append(out, s.Ref())
		}
		return out
	}
	require.Equal(t, []string{"env:NEW_CALLBACK_SECRET", "env:PAYROLL_CALLBACK_SECRET"}, refs(noon), "newest first")
	require.Equal(t, []string{"env:NEW_CALLBACK_SECRET"}, refs(noon.Add(12*time.Hour)))
	require.Empty(t, policy.Caller{}.LiveSecrets(noon))
}

func TestAProgramIsNamedAndNotRun(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"upstreams": upstream(`credentials: {header: Authorization, prefix: "Bearer ", value: "exec:/bin/sh  /etc/token --for billing", cache: 90s},
      concurrency: 5, rate: 10/s, breaker: {failures: 5, within: 1m, for: 30s}, proxy: "http://proxy:3128", proxy_authorization: env:PROXY_AUTHORIZATION`)})
	u := c.Upstreams[0]
	one := u.Credentials[0]
	argv, ok := one.Value.Exec()
	require.True(t, ok)
	require.Equal(t, []string{"/bin/sh", "/etc/token", "--for", "billing"}, argv)
	require.Empty(t, one.Value.Reveal())
	require.False(t, one.Value.IsZero())
	require.Equal(t, 90*time.Second, one.Cache)
	_, ok = u.ProxyAuthorization.Exec()
	require.False(t, ok)
	_, ok = policy.Secret{}.Exec()
	require.False(t, ok)
	require.Equal(t, 5, u.Concurrency)
	require.Equal(t, policy.Breaker{Failures: 5, Within: time.Minute, For: 30 * time.Second}, u.Breaker)
	require.Equal(t, &url.URL{Scheme: "http", Host: "proxy:3128"}, u.Proxy)

	text := sections(map[string]string{"upstreams": upstream(`credentials: {header: A, value: "exec:/nowhere/token"}`)})
	unresolved, err := policy.ParseUnresolved("config.yaml", []byte(text))
	require.NoError(t, err, "where policies are only judged, programs are not there")
	argv, _ = unresolved.Upstreams[0].Credentials[0].Value.Exec()
	require.Equal(t, []string{"/nowhere/token"}, argv)
}

func TestWhatARuleSaysOfAnswersIsFrozen(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"rules": rule("action: allow, success: [2xx, 404], sensitive: true, idempotency_key: required")})
	got := plan(t, c, "bot", "GET", "/a")
	require.Equal(t, []approvals.StatusRange{{From: 200, To: 299}, {From: 404, To: 404}}, got.Success)
	require.True(t, got.Sensitive)
	require.True(t, c.KeyRequired(got.Rule))
	require.False(t, c.KeyRequired(""))
	require.False(t, c.KeyRequired("gone"))
	other := []approvals.StatusRange{{From: 410, To: 410}}
	for status, want := range map[int]bool{199: false, 200: true, 299: true, 300: false, 404: true, 410: false} {
		require.Equal(t, want, got.Succeeded(status, other), status)
	}
	plain := plan(t, parse(t, nil), "bot", "GET", "/a")
	require.Nil(t, plain.Success)
	require.False(t, plain.Sensitive)
	require.True(t, plain.Succeeded(410, other), "the upstream's count where the rule names none")
	require.False(t, plain.Succeeded(200, other))
}

func TestAuditorsAreThePeopleAndMembersNamed(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{"groups": "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - {name: audit, members: [chen]}\n", "auditors": "auditors: [audit, ana]\n"})
	for person, want := range map[string]bool{"ana": true, "bo": false, "chen": true, "audit": false, "": false} {
		require.Equal(t, want, c.Auditor(person), person)
	}
	require.False(t, c.Operator("ana"), "an auditor is no operator")
	require.False(t, parse(t, nil).Auditor("ana"), "nobody is by default")
}
