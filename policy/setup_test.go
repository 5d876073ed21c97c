package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/approvals"
	"countersign/policy"
)

const (
	keyHash   = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	otherHash = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
	boHash    = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9" // of bar
	signing   = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
)

// environment is what env: references find.
//
//nolint:gosec // made up
var environment = map[string]string{
	"SLACK_APP_TOKEN": "xapp-canary-app", "SLACK_CLIENT_SECRET": "canary-client", "SLACK_REFRESH_TOKEN": "xoxe-canary-refresh",
	"SLACK_BOT_TOKEN": "xoxb-canary-bot", "SLACK_SIGNING_SECRET": "canary-signing",
	"PAYROLL_KEY_SHA256": keyHash, "PAYROLL_CALLBACK_SECRET": signing,
	"BILLING_TOKEN": "Bearer canary-billing", "DATABASE_URL": "postgres://u:canary-database@db/x",
	"BO_KEY_SHA256": boHash, "NEW_CALLBACK_SECRET": signing[:len(signing)-4] + "NDU2",
	"NOT_A_HASH": "canary-hash", "NOT_SIGNING": "canary-callback", "TWO_LINES": "canary\r\nline",
}

func getenv(name string) string { return environment[name] }

// order is that of the sections of a test's file.
var order = []string{
	"server", "database", "slack", "egress", "callers", "logins", "people", "groups", "operators", "upstreams", "rules",
}

// sections is a small configuration that loads; tests replace what they are about.
func sections(replace map[string]string) string {
	all := map[string]string{
		"callers": `callers:
  - {name: bot, key_sha256: ` + keyHash + `, owners: [ana], upstreams: [billing]}
`,
		"people": `people:
  - {name: ana, slack: U0ANA}
  - {name: bo, slack: U0BO, email: bo@example.com}
  - {name: chen, slack: U0CHEN}
`,
		"groups": `groups:
  - {name: security, members: [ana, bo, chen]}
`,
		"upstreams": `upstreams:
  - {name: billing, base_url: "https://billing.internal/v1"}
`,
		"rules": `rules:
  - name: ask
    match: {upstream: billing}
    stages:
      - {name: one, need: [{from: [security], approvals: 2}]}
`,
	}
	for name, text := range replace {
		all[name] = text
	}
	var b strings.Builder
	for _, name := range order {
		b.WriteString(all[name])
	}
	return b.String()
}

func parse(t *testing.T, replace map[string]string) *policy.Config {
	t.Helper()
	c, err := policy.Parse("config.yaml", []byte(sections(replace)), getenv)
	require.NoError(t, err)
	return c
}

func problems(t *testing.T, text string) policy.Problems {
	t.Helper()
	c, err := policy.Parse("config.yaml", []byte(text), getenv)
	require.Nil(t, c, "a configuration with problems must not load")
	var out policy.Problems
	require.ErrorAs(t, err, &out)
	return out
}

func plan(t *testing.T, c *policy.Config, caller, method, path string) approvals.Plan {
	t.Helper()
	who, ok := c.Caller(caller)
	require.True(t, ok)
	return c.Plan(who, "", approvals.Call{Upstream: "billing", Method: method, Path: path}, noon)
}

// noon is when calls are submitted: a Monday.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
