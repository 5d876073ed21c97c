package policy_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

func TestTheUpstreamDigestChangesWithEveryField(t *testing.T) {
	t.Parallel()
	digest := func(text string) string {
		c := parse(t, map[string]string{"upstreams": text})
		return c.Upstreams[0].Digest
	}
	seen := map[string]string{}
	for _, text := range []string{
		upstream("timeout: 30s"), baseURL(`"https://billing.internal/v2"`), baseURL(`"https://billing.internal:8443/v1"`),
		baseURL(`"http://billing.internal/v1"`), upstream("credentials: {header: A, value: env:BILLING_TOKEN}"),
		upstream("credentials: {header: B, value: env:BILLING_TOKEN}"), upstream("credentials: {header: A, value: env:NOT_A_HASH}"),
		upstream("methods: [GET]"), upstream("timeout: 5s"), upstream("idempotent: true"), upstream("max_response: 1KiB"),
		upstream("success: [2xx, 404]"), upstream("request_headers: [accept]"), upstream("response_headers: []"),
	} {
		d := digest(text)
		require.Regexp(t, "^[0-9a-f]{64}$", d)
		require.Empty(t, seen[d], "%s and %s have one digest", seen[d], text)
		seen[d] = text
	}
	require.Equal(t, digest(upstream("timeout: 30s")), digest(upstream("idempotent: false")), "defaults written out change nothing")
	require.Equal(t, digest(upstream("methods: [GET, POST]")), digest(upstream("methods: [POST, GET]")))
}

func TestTheDigestIsOfDecisionsOnly(t *testing.T) {
	t.Parallel()
	base := parse(t, nil).Digest
	same := []map[string]string{
		{"server": "server: {listen: \"127.0.0.1:9999\", drain: 5s} # a comment\n"},
		{"database": "database: {url: env:DATABASE_URL}\n"},
		{"callers": "callers:\n  - {name: bot, key_sha256: " + otherHash + ", owners: [ana], upstreams: [billing]}\n"},
		{"groups": "groups:\n  - {name: security, members: [chen, bo, ana]}\n"},
		{"people": "people:\n  - {name: chen, slack: U0CHEN}\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO, email: bo@example.com}\n"},
	}
	for _, replace := range same {
		require.Equal(t, base, parse(t, replace).Digest, replace)
	}
	two := map[string]string{"rules": ruleA + strings.TrimPrefix(ruleB, "rules:\n")}
	seen := map[string]map[string]string{base: nil}
	for _, replace := range []map[string]string{
		{"callers": callers("upstreams: [billing]")},
		{"callers": strings.Replace(callbacks(`origins: ["https://a.example.com"], secret: env:PAYROLL_CALLBACK_SECRET`), "upstreams", "owners: [ana], upstreams", 1)},
		{"people": "people:\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0OTHER, email: bo@example.com}\n  - {name: chen, slack: U0CHEN}\n"},
		{"groups": "groups:\n  - {name: security, members: [ana, bo, chen]}\n  - {name: other, members: [bo]}\n"},
		{"upstreams": upstream("idempotent: true")},
		{"egress": "egress: {callbacks: {allow_ports: [9443]}}\n"},
		{"slack": slack("app_id: A0, channel: C0X")},
		{"rules": stage("need: [{from: [security], approvals: 1}]")},
		two,
		{"rules": ruleB + strings.TrimPrefix(ruleA, "rules:\n")},
	} {
		d := parse(t, replace).Digest
		require.NotContains(t, seen, d, replace)
		seen[d] = replace
	}
}

func TestTheValueOfASecretIsNotInTheDigest(t *testing.T) {
	t.Parallel()
	text := []byte(sections(map[string]string{"upstreams": upstream("credentials: {header: A, value: env:NAME}")}))
	var digests []string
	for _, value := range []string{"one", "two"} {
		c, err := policy.Parse("config.yaml", text, func(string) string { return value })
		require.NoError(t, err)
		digests = append(digests, c.Digest, c.Upstreams[0].Digest)
	}
	require.Equal(t, digests[:2], digests[2:])
}
