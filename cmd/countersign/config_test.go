package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"countersign/db/dbtest"
)

const (
	// apiKey is the key of the test's caller.
	apiKey = "csk_key_of_the_test" //nolint:gosec // of the test
	// publicURL is where the test's service is said to be.
	publicURL = "https://countersign.example.com"
	// callbackSecret signs the callbacks of the test's caller.
	callbackSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=" //nolint:gosec // of the test
	// nowhere is an upstream that no test calls.
	nowhere = "https://billing.example.com"
)

// settings are what tests vary in a configuration.
type settings struct {
	upstream string // its base URL; "" means nowhere
	drain    string // "" means 10s
	origin   string // where callbacks may go; "" means nowhere
	slack    string // the emulator; "" means that there is no Slack
	local    bool   // leave the public URL to its default
	keyless  bool   // name no keys to encrypt with
}

// file writes the configuration. GET is allowed outright, PUT denied, and with a Slack bo
// may approve refunds.
func (c settings) file(t *testing.T) string {
	t.Helper()
	sum := sha256.Sum256([]byte(apiKey))
	text := fmt.Sprintf(`
server: {listen: "127.0.0.1:1"%s, drain: %s}
%scallers:
  - {name: bot, key_sha256: %s, owners: [ana], upstreams: [billing]%s}
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO}
groups:
  - {name: security, members: [bo]}
upstreams:
  - name: billing
    base_url: %q
    credentials: {header: Authorization, value: env:BILLING_TOKEN}
egress: {callbacks: {allow_loopback: true, allow_http: true}}
%srules:
  - {name: read-only, match: {upstream: billing, methods: [GET]}, action: allow}
  - {name: no-puts, match: {upstream: billing, methods: [PUT]}, action: deny, reason: nobody puts}
%s`, c.public(), cmp.Or(c.drain, "10s"), c.encryption(), hex.EncodeToString(sum[:]), c.callbacks(), cmp.Or(c.upstream, nowhere), c.slackSection(), c.refunds())
	return write(t, "countersign.yaml", text)
}

func (c settings) public() string {
	if c.local {
		return ""
	}
	return fmt.Sprintf(", public_url: %q", publicURL)
}

func (c settings) encryption() string {
	if c.keyless {
		return ""
	}
	return "encryption: {keyset: env:KEYSET}\n"
}

func (c settings) callbacks() string {
	if c.origin == "" {
		return ""
	}
	return fmt.Sprintf(`, callbacks: {verification: waived, origins: [%q], secret: env:CALLBACK_SECRET}`, c.origin)
}

func (c settings) slackSection() string {
	if c.slack == "" {
		return ""
	}
	return fmt.Sprintf(`slack:
  bot_token: env:SLACK_BOT_TOKEN
  signing_secrets: [env:SLACK_SIGNING_SECRET]
  api_url: "%s/api/"
  team_ids: [T0EMULATOR]
  app_id: A0EMULATOR
  channel: "#billing-approvals"
`, c.slack)
}

func (c settings) refunds() string {
	if c.slack == "" {
		return ""
	}
	return `  - name: refund
    match: {upstream: billing, methods: [POST], path: /refunds}
    stages: [{name: security, need: [{from: [security], approvals: 1}]}]
`
}

// servingEnv is the environment of a service on a database.
func servingEnv(databaseURL string) map[string]string {
	return map[string]string{
		"DATABASE_URL": databaseURL, "KEYSET": dbtest.Keyset, "BILLING_TOKEN": "Bearer gate-only", "CALLBACK_SECRET": callbackSecret,
		"SLACK_BOT_TOKEN": "xoxb-test", "SLACK_SIGNING_SECRET": "signing-secret-of-the-test",
	}
}
