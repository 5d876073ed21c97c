package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path) //nolint:gosec // of the test
	require.NoError(t, err, "go test -update writes it")
	require.Equal(t, string(want), got)
}

// manifestConfig has a user group, so that its scope is needed, and with more what needs more.
func manifestConfig(t *testing.T, more string) string {
	t.Helper()
	return write(t, "countersign.yaml", `
server: {public_url: "https://countersign.example.com"}
slack:
  bot_token: env:SLACK_BOT_TOKEN
  team_ids: [T0123456]
  app_id: A0123456
`+more+`
callers:
  - {name: bot, key_sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, owners: [ana], upstreams: [billing]}
people:
  - {name: ana, slack: U02ANA}
  - {name: bo, slack: U02BO, email: bo@example.com}
groups:
  - {name: security, members: [bo]}
upstreams:
  - {name: billing, base_url: "https://billing.example.com"}
rules:
  - name: refund
    match: {upstream: billing}
    stages: [{name: security, need: [{from: [security], approvals: 1}], notify: {channel: "#approvals"}}]
`)
}

const overHTTP = "  signing_secrets: [env:SLACK_SIGNING_SECRET]\n"

func TestTheManifestIsThatOfTheConfiguration(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		more string
		args []string
	}{
		"http":   {overHTTP, nil},
		"email":  {overHTTP + "  match_email: true\n  email_domains: [example.com]\n", []string{"--history"}},
		"socket": {"  mode: socket\n  app_token: env:SLACK_APP_TOKEN\n", []string{"--name", "Gate"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"slack", "manifest", "--config", manifestConfig(t, test.more)}, test.args...)
			r := command(t, nil, args...)
			require.Equal(t, 0, r.code, r.stderr)
			golden(t, "slackmanifest."+name+".yaml", r.stdout.String())
			require.Contains(t, r.stderr.String(), "countersign doctor", "what is left to do")

			asJSON := command(t, nil, append(args, "--json")...)
			require.Equal(t, 0, asJSON.code, asJSON.stderr)
			var one, other any
			require.NoError(t, json.Unmarshal([]byte(asJSON.stdout.String()), &one))
			raw, err := yaml.YAMLToJSON([]byte(r.stdout.String()))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(raw, &other))
			require.Equal(t, one, other, "the same in both forms")
		})
	}
}

func TestTheManifestNeedsNoConfiguration(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "slack", "manifest", "--url", "https://countersign.example.com/", "--yaml")
	require.Equal(t, 0, r.code, r.stderr)
	golden(t, "slackmanifest.url.yaml", r.stdout.String())
	r = command(t, nil, "slack", "manifest", "--socket", "--email")
	require.Equal(t, 0, r.code, r.stderr)
	require.NotContains(t, r.stdout.String(), "http", "Slack calls no address")
	require.Contains(t, r.stdout.String(), "users:read.email")
	require.Contains(t, r.stdout.String(), "socket_mode_enabled: true")
}

func TestTheManifestRefusesWhatSlackWouldNotCall(t *testing.T) {
	t.Parallel()
	plain := write(t, "countersign.yaml", strings.ReplaceAll(readFile(t, manifestConfig(t, overHTTP)), "https://countersign.example.com", "http://127.0.0.1:8080"))
	for args, words := range map[string]string{
		"":                                     "--config",
		"--url http://countersign.example.com": "https addresses only",
		"--config " + plain:                    "--socket",
		"--url countersign.example.com":        "not the address",
		"--url https://a@countersign.example.com":    "not the address",
		"--url https://c.example.com?x=1":            "not the address",
		"--config /nowhere.yaml":                     "/nowhere.yaml",
		"--socket --yaml --json":                     "yaml",
		"--socket --name=" + strings.Repeat("n", 36): "35",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			r := command(t, nil, append([]string{"slack", "manifest"}, strings.Fields(args)...)...)
			r.requireRefused(t, exitUsage, words)
			require.Empty(t, r.stdout.String())
		})
	}
	r := command(t, nil, "slack", "manifest", "--config", plain, "--socket")
	require.Equal(t, 0, r.code, r.stderr)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path) //nolint:gosec // of the test
	require.NoError(t, err)
	return string(raw)
}
