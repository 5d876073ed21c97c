package policy_test

import (
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	t.Parallel()
	c := parse(t, nil)
	require.Equal(t, policy.Server{
		Listen: "127.0.0.1:8080", PublicURL: "http://127.0.0.1:8080", Drain: 30 * time.Second, MaxBody: 1 << 20,
	}, c.Server)
	require.True(t, c.Database.URL.IsZero())
	require.False(t, c.Slack.Configured())
	require.Equal(t, policy.Egress{}, c.Egress)

	u, ok := c.Upstream("billing")
	require.True(t, ok)
	require.Equal(t, "https://billing.internal/v1", u.BaseURL.String())
	require.Equal(t, []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, u.Methods)
	require.Equal(t, 30*time.Second, u.Timeout)
	require.False(t, u.Idempotent)
	require.Equal(t, int64(1<<20), u.MaxResponseBytes)
	require.Equal(t, []string{
		"accept", "accept-language", "content-type", "idempotency-key", "if-match", "if-none-match", "prefer", "x-request-id",
	}, u.RequestHeaders)
	require.Equal(t, []string{"content-type", "etag", "last-modified", "location", "retry-after", "x-request-id"}, u.ResponseHeaders)
	for status, want := range map[int]bool{199: false, 200: true, 299: true, 300: false, 404: false} {
		require.Equal(t, want, u.Succeeded(status), status)
	}

	r := c.Rules[0]
	require.Equal(t, approvals.ActionApprove, r.Action)
	require.Equal(t, 24*time.Hour, r.ExpiresIn)
	require.Equal(t, 15*time.Minute, r.ExecuteWithin)
	require.Equal(t, 1, r.Stages[0].Denials)
	require.Zero(t, r.Stages[0].RemindEvery)
}

func TestEveryFieldIsRead(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"server": "server: {listen: \":8443\", public_url: \"https://gate.example.com/\", data_dir: /var/lib/countersign, drain: 1m, max_body: 512KiB}\n",
		"slack": "slack: {bot_token: env:SLACK_BOT_TOKEN, signing_secrets: [env:SLACK_SIGNING_SECRET, env:BILLING_TOKEN], " +
			"api_url: \"http://127.0.0.1:7000/api\", team_ids: [T1, E2], app_id: A1, channel: \"#ask\"}\n",
		"database": "database: {url: env:DATABASE_URL}\n",
		"egress":   "egress: {callbacks: {allow_loopback: true, allow_http: true, allow_prefixes: [10.0.0.0/8, \"fd00::/8\"], allow_ports: [9443]}}\n",
		"callers": callbacks("origins: [\"https://A.example.com\", \"http://a.example.com\", \"https://10.1.2.3:9443\", \"http://localhost:9000\", " +
			"\"https://[fd00::1]\"], secrets: [env:PAYROLL_CALLBACK_SECRET]"),
		"upstreams": upstream("credentials: [{header: authorization, value: env:BILLING_TOKEN}, {header: accept, value: env:BILLING_TOKEN}], " +
			"methods: [POST, GET], timeout: 5s, idempotent: true, max_response: 8MiB, success: [2xx, 404, 300-302], " +
			"request_headers: [Accept, X-Reason], response_headers: []"),
		"rules": `rules:
  - name: r
    match: {upstream: billing, methods: [POST], path: "/a/{b}", callers: [bot]}
    redact: [headers.X-Token, query.token, body.a.b, body]
    expires_in: 7d
    execute_within: 1h30m
    stages:
      - name: one
        need: [{from: [security, bo], approvals: 2}]
        denials: 2
        remind: {every: 90s}
        escalate:
          - {after: 1h, to: [ana]}
          - {after: 1d, to: [security], mode: replace}
        notify: {channel: C0123}
  - {name: no, action: deny, match: {}}
  `,
	})
	require.Equal(t, policy.Server{
		Listen: ":8443", PublicURL: "https://gate.example.com", DataDir: "/var/lib/countersign", Drain: time.Minute, MaxBody: 512 << 10,
	}, c.Server)
	require.Equal(t, environment["DATABASE_URL"], c.Database.URL.Reveal())
	require.Equal(t, "env:DATABASE_URL", c.Database.URL.Ref())
	require.True(t, c.Slack.Configured())
	require.Equal(t, "http://127.0.0.1:7000/api/", c.Slack.APIURL)
	require.Equal(t, []string{"T1", "E2"}, c.Slack.TeamIDs)
	require.Equal(t, "canary-signing", c.Slack.SigningSecrets[0].Reveal())
	require.Equal(t, policy.EgressPolicy{
		AllowLoopback: true, AllowHTTP: true, AllowPorts: []uint16{9443},
		AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
	}, c.Egress.Callbacks)
	require.Equal(t, []string{
		"https://a.example.com:443", "http://a.example.com:80", "https://10.1.2.3:9443", "http://localhost:9000", "https://[fd00::1]:443",
	}, c.Callers[0].Origins)
	require.Equal(t, signing, c.Callers[0].CallbackSecrets[0].Reveal())

	u := c.Upstreams[0]
	require.Equal(t, "Authorization", u.Credentials[0].Header)
	require.Equal(t, "Bearer canary-billing", u.Credentials[0].Value.Reveal())
	require.Equal(t, []string{"POST", "GET"}, u.Methods)
	require.Equal(t, int64(8<<20), u.MaxResponseBytes)
	require.Equal(t, []policy.StatusRange{{From: 200, To: 299}, {From: 404, To: 404}, {From: 300, To: 302}}, u.Success)
	require.Equal(t, []string{"x-reason"}, u.RequestHeaders, "a header with a credential is no caller's to set")
	require.Empty(t, u.ResponseHeaders)

	require.Equal(t, policy.Rule{
		Name:   "r",
		Match:  policy.Match{Upstream: "billing", Methods: []string{"POST"}, Path: "/a/{b}", Callers: []string{"bot"}},
		Action: approvals.ActionApprove, Redact: []string{"headers.x-token", "query.token", "body.a.b", "body"},
		ExpiresIn: 7 * 24 * time.Hour, ExecuteWithin: 90 * time.Minute,
		Stages: []approvals.Stage{{
			Name: "one", Need: []approvals.ApproverSet{{From: []string{"security", "bo"}, Approvals: 2}}, Denials: 2,
			RemindEvery: 90 * time.Second, Channel: "C0123", Comment: approvals.CommentDeny,
			Escalate: []approvals.Tier{
				{After: time.Hour, To: []string{"ana"}, Mode: approvals.ModeAdd},
				{After: 24 * time.Hour, To: []string{"security"}, Mode: approvals.ModeReplace},
			},
		}},
	}, c.Rules[0])
	require.Equal(t, "denied by rule no", c.Rules[1].Reason)
}

func TestNamesAreFoundAndAccessIsJudged(t *testing.T) {
	t.Parallel()
	c := parse(t, nil)
	bot, ok := c.Caller("bot")
	require.True(t, ok)
	require.True(t, c.MayUse(bot, "billing"))
	require.False(t, c.MayUse(bot, "files"))
	require.False(t, c.MayUse(policy.Caller{Upstreams: []string{"gone"}}, "gone"), "an upstream that does not exist is nobody's")
	require.False(t, c.MayUse(policy.Caller{}, "billing"))
	_, ok = c.Caller("bat")
	require.False(t, ok)
	_, ok = c.Upstream("files")
	require.False(t, ok)
	dir := c.Directory()
	require.Equal(t, map[string]bool{"ana": true, "bo": true, "chen": true}, dir.Members([]string{"security"}))
	p, ok := dir.BySlack("U0BO")
	require.True(t, ok)
	require.Equal(t, approvals.Person{Name: "bo", Slack: "U0BO", Email: "bo@example.com"}, p)
}

func TestAKeyFindsItsCallerAndNobodyElse(t *testing.T) {
	t.Parallel()
	key, hash, err := policy.NewKey()
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`^csk_[a-z2-7]{8}_[A-Za-z0-9_-]{43}$`), key)
	require.Regexp(t, regexp.MustCompile(`^[0-9a-f]{64}$`), hash)
	other, _, err := policy.NewKey()
	require.NoError(t, err)
	require.NotEqual(t, key, other)

	c := parse(t, map[string]string{"callers": "callers:\n  - {name: bot, key_sha256: " + hash + ", upstreams: [billing]}\n" +
		"  - {name: job, key_sha256: env:PAYROLL_KEY_SHA256, upstreams: [billing]}\n"})
	got, _, ok := c.CallerByKey(key, noon)
	require.True(t, ok)
	require.Equal(t, "bot", got.Name)
	require.Equal(t, hash, hex.EncodeToString(got.Keys[0].Hash[:]))
	for _, wrong := range []string{"", key[:len(key)-1], key + "a", other, hash, "csk_", key + string(make([]byte, 1<<20))} {
		_, _, ok := c.CallerByKey(wrong, noon)
		require.False(t, ok)
	}
	got, _, ok = c.CallerByKey("test", noon) // whose hash is keyHash
	require.True(t, ok)
	require.Equal(t, "job", got.Name)
}

// A colon without a space behind it is a character like any other, in flow style too.
func TestReferencesNeedNoQuotes(t *testing.T) {
	t.Parallel()
	c := parse(t, map[string]string{
		"slack":   "slack: {bot_token: env:SLACK_BOT_TOKEN, signing_secrets: [env:SLACK_SIGNING_SECRET, env:NOT_A_HASH], team_ids: [T0], app_id: A0, channel: C0X}\n",
		"callers": "callers: [{name: bot, key_sha256: " + keyHash + ", upstreams: [billing], callbacks: {secrets: [env:PAYROLL_CALLBACK_SECRET], origins: [https://a.example.com:8443, https://b.example.com]}}]\n",
		"egress":  "egress: {callbacks: {allow_prefixes: [fd00:1:2::/48]}}\n",
	})
	require.Equal(t, "env:NOT_A_HASH", c.Slack.SigningSecrets[1].Ref())
	require.Equal(t, []string{"https://a.example.com:8443", "https://b.example.com:443"}, c.Callers[0].Origins)
	require.Equal(t, "fd00:1:2::/48", c.Egress.Callbacks.AllowPrefixes[0].String())
}

// A hash may look like a number to YAML.
func TestAHashOfDigitsIsAHash(t *testing.T) {
	t.Parallel()
	for _, hash := range []string{strings.Repeat("1234567890", 7)[:64], strings.Repeat("1", 30) + "e" + strings.Repeat("3", 33), strings.ToUpper(keyHash)} {
		c := parse(t, map[string]string{"callers": "callers: [{name: bot, key_sha256: " + hash + ", upstreams: [billing]}]\n"})
		require.Equal(t, strings.ToLower(hash), hex.EncodeToString(c.Callers[0].Keys[0].Hash[:]))
	}
}
