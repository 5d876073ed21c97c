package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServeRefusesAnUpstreamThatNothingCouldBeSentTo(t *testing.T) {
	t.Parallel()
	for setting, says := range map[string]string{
		"request_headers: [content-type, x-client-ip]": "x-client-ip",
		"response_headers: [set-cookie]":               "set-cookie",
	} {
		path := write(t, "unsendable.yaml", `
callers: [{name: bot, key_sha256: `+strings.Repeat("ab", 32)+`, upstreams: [billing]}]
people: [{name: ana, slack: U02ANA}]
upstreams: [{name: billing, base_url: "https://billing.internal", `+setting+`}]
rules: [{name: all, match: {upstream: billing}, action: allow}]
`)
		for _, flag := range []string{"--check", "--no-workers"} {
			r := command(t, servingEnv("postgres://x@127.0.0.1:1/x"), "serve", flag, "--config", path)
			require.Equal(t, exitUsage, r.code, r.stderr)
			require.Contains(t, r.stderr.String(), `upstream "billing"`)
			require.Contains(t, r.stderr.String(), says)
		}
	}
}
