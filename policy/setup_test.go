package policy_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
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
	"FAY_KEY_SHA256":       "baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096",
	"DASHBOARD_KEY_SHA256": "486ea46224d1bb4fb680f34f7c9ad96a8f24ec88be73ea8e5a6c65260e9cb8a7",
	"PROBE_KEY_SHA256":     "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
	"COUNTERSIGN_KEYSET":   "canary-keyset", "COUNTERSIGN_SIGNING_KEY": "whsk_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	"HOOKS_TOKEN": "canary-hooks", "BILLING_TENANT": "canary-tenant", "PROXY_AUTHORIZATION": "Basic canary-proxy",
	"PRIVATE_CA": certificatePEM, "CLIENT_CERTIFICATE": certificatePEM, "CLIENT_KEY": certificateKey,
	"NOT_A_HASH": "canary-hash", "NOT_SIGNING": "canary-callback", "TWO_LINES": "canary\r\nline",
}

// A certificate of nobody, with its key.
var certificatePEM, certificateKey = selfSigned()

func selfSigned() (certificate, key string) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: noon.AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func getenv(name string) string { return environment[name] }

// order is that of the sections of a test's file.
var order = []string{
	"server", "database", "encryption", "signing", "slack", "egress", "callers", "logins", "people", "groups", "operators", "auditors", "upstreams", "rules",
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
