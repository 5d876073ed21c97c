package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const livePolicy = `callers:
  - {name: ci, key_sha256: 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752, upstreams: [ops]}
slack: {bot_token: env:BOT, signing_secrets: [env:SIGNING], team_ids: [T0], app_id: A0}
people:
  - {name: ana, slack: U0ANA}
groups:
  - {name: oncall, slack_usergroup: S0ONCALL}
upstreams:
  - {name: ops, base_url: "https://ops.internal"}
rules:
  - name: restart
    match: {upstream: ops}
    confirm: code
    stages: [{name: one, need: [{from: [oncall, ana], approvals: 1}]}]
`

func TestPolicyExplainSaysWhatOnlySlackKnows(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "policy", "explain", "--config", write(t, "live.yaml", livePolicy), "--caller", "ci", "POST", "ops", "/restart")
	require.Equal(t, 0, r.code, r.stderr)
	out := r.stdout.String()
	require.Contains(t, out, "note: who is in a user group only Slack can say: oncall (Slack user group S0ONCALL) counts as empty here")
	require.Contains(t, out, "type the last four digits of its fingerprint")
	require.Contains(t, out, "asked by direct message")
}
