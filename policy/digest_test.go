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
		upstream(`credentials: {header: A, prefix: "Bearer ", value: env:BILLING_TOKEN}`), upstream(`credentials: {header: A, value: "exec:/bin/sh token"}`),
		upstream(`credentials: {header: A, value: "exec:/bin/sh other"}`), upstream("ca: env:PRIVATE_CA"),
		upstream("certificate: {certificate: env:CLIENT_CERTIFICATE, key: env:CLIENT_KEY}"), upstream(`proxy: "http://proxy:3128"`),
		upstream(`proxy: "http://proxy:3128", proxy_authorization: env:PROXY_AUTHORIZATION`),
	} {
		d := digest(text)
		require.Regexp(t, "^[0-9a-f]{64}$", d)
		require.Empty(t, seen[d], "%s and %s have one digest", seen[d], text)
		seen[d] = text
	}
	require.Equal(t, digest(upstream("timeout: 30s")), digest(upstream("idempotent: false")), "defaults written out change nothing")
	require.Equal(t, digest(upstream("methods: [GET, POST]")), digest(upstream("methods: [POST, GET]")))
	require.Equal(t, digest(upstream("timeout: 30s")), digest(upstream("concurrency: 5, rate: 10/s, breaker: {failures: 5, within: 1m, for: 30s}")), "how much at a time")
	require.Equal(t, digest(upstream(`credentials: {header: A, value: "exec:/bin/sh token"}`)), digest(upstream(`credentials: {header: A, value: "exec:/bin/sh token", cache: 1m}`)))
}

// The digests of files that are in force somewhere: what is approved there is bound to them.
func TestTheDigestOfAnOlderFileStaysWhatItWas(t *testing.T) {
	t.Parallel()
	c, err := policy.Load("testdata/example.yaml", getenv)
	require.NoError(t, err)
	require.Equal(t, "e6a33135b7ae71aba34f2438cb9dcf7587e5ba44625d4dbbfee8799cd72095d0", c.Digest)
	require.Equal(t, "fe1c1adad4818dbee242ae8bba233f473a10cc93dabc798ffb56d2ea15707f61", c.Upstreams[0].Digest)
}

func TestTheDigestIsOfDecisionsOnly(t *testing.T) {
	t.Parallel()
	base := parse(t, nil).Digest
	same := []map[string]string{
		{"server": "server: {listen: \"127.0.0.1:9999\", drain: 5s} # a comment\n"},
		{"database": "database: {url: env:DATABASE_URL}\n"},
		{"callers": "callers:\n  - {name: bot, key_sha256: " + otherHash + ", owners: [ana], upstreams: [billing]}\n"},
		{"groups": "groups:\n  - {name: security, members: [chen, bo, ana]}\n"},
		{"people": "people:\n  - {name: chen, slack: U0CHEN, key_sha256: " + otherHash + "}\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO, email: bo@example.com}\n"},
		{"people": "people:\n  - {name: chen, slack: U0CHEN}\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO, email: bo@example.com}\n"},
		{"callers": "callers:\n  - {name: bot, keys: [{name: a, sha256: " + otherHash + ", scopes: [read]}], owners: [ana], upstreams: [billing]}\n"},
		{"callers": "callers:\n  - {name: bot, key_sha256: " + keyHash + ", limits: {submit: 5/s, open: 3}, owners: [ana], upstreams: [billing]}\n"},
		{"people": "people:\n  - {name: chen, slack: U0CHEN, keys: [{name: a, sha256: " + otherHash + "}]}\n  - {name: ana, slack: U0ANA}\n  - {name: bo, slack: U0BO, email: bo@example.com}\n"},
		{"encryption": "encryption: {keyset: env:COUNTERSIGN_KEYSET}\n"},
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

func TestTheDigestChangesWithEverythingThatMattersToADecision(t *testing.T) {
	t.Parallel()
	person := func(text string) map[string]string {
		return map[string]string{"logins": twoLogins, "people": people("{name: dee, slack: U0DEE, " + text + "}")}
	}
	group := func(text string) map[string]string {
		return map[string]string{"groups": "groups:\n  - {name: security, members: [ana, bo, chen], hours: {" + text + "}}\n"}
	}
	ask := func(text string) map[string]string {
		return map[string]string{"rules": stage("need: [{from: [security], approvals: 1}], " + text)}
	}
	whole := func(text string) map[string]string {
		return map[string]string{"rules": rule("stages: [{name: one, need: [{from: [security], approvals: 1}]}], " + text)}
	}
	live := func(id string) map[string]string {
		return map[string]string{"slack": slack("app_id: A0, channel: C0X"), "groups": "groups:\n  - {name: security, slack_usergroup: " + id + "}\n"}
	}
	endpoint := func(text string) map[string]string {
		return map[string]string{
			"signing": "signing: {keys: [env:COUNTERSIGN_SIGNING_KEY]}\n",
			"callers": callbacks(`origins: [{origin: "https://a.example.com"` + text + `}], secret: env:PAYROLL_CALLBACK_SECRET`),
		}
	}
	token := func(text string) map[string]string {
		return map[string]string{"logins": twoLogins, "callers": callers(`upstreams: [billing], login: {issuer: "https://a.example.com", ` + text + "}")}
	}
	seen := map[string]map[string]string{}
	for _, replace := range []map[string]string{
		{},
		endpoint(""), endpoint(", verify: /verify"), endpoint(", verification: waived"), endpoint(", payload: thin"), endpoint(", payload: full"),
		endpoint(", signature: ed25519"), endpoint(", schedule: [0s]"), endpoint(", timeout: 5s"), endpoint(", disable_after: 1d"),
		endpoint(", headers: {header: A, value: env:HOOKS_TOKEN}"), endpoint(`, headers: {header: A, prefix: "B ", value: env:HOOKS_TOKEN}`),
		endpoint(", ca: env:PRIVATE_CA"), endpoint(", certificate: {certificate: env:CLIENT_CERTIFICATE, key: env:CLIENT_KEY}"),
		{"callers": callbacks(`alert: C0X, origins: ["https://a.example.com"], secret: env:PAYROLL_CALLBACK_SECRET`)},
		token("subject: x"), token("subject: y"), token("claims: {ref: main}"), token("subject: x, claims: {ref: main}"),
		{"auditors": "auditors: [bo]\n"},
		{"auditors": "auditors: [security]\n"},
		{"signing": "signing: {keys: [env:COUNTERSIGN_SIGNING_KEY]}\n"},
		{"egress": "egress: {callbacks: {proxy: \"http://proxy:3128\"}}\n"},
		whole("success: [404]"), whole("success: [2xx]"), whole("idempotency_key: required"), whole("sensitive: true"),
		ask("denials: 1"), ask("comment: never"), ask("comment: approve"), ask("comment: both"), ask("remind: {every: 1h}"),
		ask("remind: {every: 1h, backoff: 2}"), ask("remind: {every: 1h, backoff: 2, at_most: 2h}"),
		ask("escalate: [{after: 1h, to: [bo]}]"), ask("escalate: [{after: 1h, to: [bo], off_hours: true}]"),
		ask("escalate: [{after: 1h, mode: replace, to: [bo]}]"),
		ask("escalate: [{after: 1h, mode: replace, need: [{from: [bo], approvals: 1}]}]"),
		whole("distinct: stage"), whole("on_stale: end"), whole("break_glass: {from: [bo]}"), whole("break_glass: {from: [chen]}"),
		whole("break_glass: {from: [bo], announce: C0X}"),
		person("email: dee@example.com"), person("email: [dee@example.com, dee@example.org]"), person("email: [dee@example.org, dee@example.com]"),
		person("away: {until: 2026-12-24}"), person("away: {until: 2026-12-25}"), person("away: {until: 2026-12-25, delegate: bo}"),
		person(`login: {issuer: "https://a.example.com", subject: x}`), person(`login: {issuer: "https://a.example.com", subject: y}`),
		person(`login: {issuer: "https://id.vendor.example/", subject: x}`),
		group(berlin), group(berlin + ", days: [mon]"), group(berlin + ", holidays: [2026-12-25]"), group(`timezone: UTC, from: "09:00", to: "17:00"`),
		group(`timezone: UTC, from: "09:00", to: "18:00"`), group(`timezone: UTC, from: "08:00", to: "18:00"`),
		whole("confirm: none"), whole("confirm: modal"), whole("confirm: code"),
		ask("notify: {channel: C0X}"), ask("notify: {channel: C0X, direct: true}"), ask("notify: {direct: true}"),
		ask("notify: {channel: C0X, fallback: C0Y}"), ask("notify: {fallback: C0Y}"),
		live("S0A"), live("S0B"),
		{"slack": slack("app_id: A0")},
		{"slack": slack("app_id: A0, channel: C0X, enterprise_ids: [E0]")},
		{"slack": slack("app_id: A0, channel: C0X, fallback_channel: C0Y")},
		{"slack": slack("app_id: A0, channel: C0X, allow_external: true")},
		{"slack": slack("app_id: A0, channel: C0X, mode: socket, app_token: env:SLACK_APP_TOKEN")},
		{"slack": slack("app_id: A0, channel: C0X, client_id: \"1\", client_secret: env:SLACK_CLIENT_SECRET, refresh_token: env:SLACK_REFRESH_TOKEN")},
		{"slack": slack("app_id: A0, channel: C0X, client_id: \"2\", client_secret: env:SLACK_CLIENT_SECRET, refresh_token: env:SLACK_REFRESH_TOKEN")},
		{"slack": slack("app_id: A0, channel: C0X, match_email: true, email_domains: [example.com]")},
		{"slack": slack("app_id: A0, channel: C0X, match_email: true, email_domains: [example.org]")},
		{"slack": slack("app_id: A0, channel: C0X, tell_requesters: none")},
		{"slack": slack("app_id: A0, channel: C0X, tell_requesters: questions")},
		{"slack": slack("app_id: A0, channel: C0X, response_hosts: [hooks.slack-gov.com]")},
		{"operators": "operators: [bo]\n"},
		{"operators": "operators: [security]\n"},
		{"logins": "logins: [{issuer: \"https://a.example.com\", audience: one}]\n"},
		{"logins": "logins: [{issuer: \"https://a.example.com\", audience: two}]\n"},
		{"logins": "logins: [{issuer: \"https://a.example.com\", audience: two, email: true}]\n"},
	} {
		d := parse(t, replace).Digest
		require.NotContains(t, seen, d, "%v and %v", replace, seen[d])
		seen[d] = replace
	}
	for _, same := range [][2]map[string]string{
		{ask("denials: 1"), ask("comment: deny, denials: 1")},
		{ask("remind: {every: 1h}"), ask("remind: {every: 1h, backoff: 1}")},
		{whole("distinct: ticket"), whole("on_stale: reopen")},
		{whole("distinct: ticket"), whole("sensitive: false, idempotency_key: optional")},
		{endpoint(""), endpoint(", payload: auto, verification: required, signature: hmac, timeout: 15s, disable_after: 5d")},
		{endpoint(""), endpoint(", concurrency: 1, rate: 1/s")},
		{whole("distinct: ticket"), whole("confirm: dialog")},
		{{"slack": slack("app_id: A0")}, {"slack": slack("app_id: A0, mode: http, tell_requesters: outcomes, allow_external: false")}},
		{person("away: {until: 2026-12-24}"), person("away: {until: \"2026-12-24T01:00:00+01:00\"}")},
		{{"operators": "operators: [bo, ana]\n"}, {"operators": "operators: [ana, bo]\n"}},
		{group(berlin + ", days: [mon, tue]"), group(berlin + ", days: [tue, mon]")},
		{
			person(`login: [{issuer: "https://a.example.com", subject: x}, {issuer: "https://id.vendor.example/", subject: y}]`),
			person(`login: [{issuer: "https://id.vendor.example/", subject: y}, {issuer: "https://a.example.com", subject: x}]`),
		},
	} {
		require.Equal(t, parse(t, same[0]).Digest, parse(t, same[1]).Digest, "%v", same)
	}
}
