package policy_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/policy"
)

func TestSecretsShowThemselvesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	c, err := policy.Load("testdata/example.yaml", getenv)
	require.NoError(t, err)
	token := c.Slack.BotToken
	require.Equal(t, "xoxb-canary-bot", token.Reveal())
	require.Equal(t, "env:SLACK_BOT_TOKEN", token.Ref())
	require.False(t, token.IsZero())
	require.True(t, policy.Secret{}.IsZero())
	require.Empty(t, policy.Secret{}.Reveal())

	var shown bytes.Buffer
	for _, v := range []any{c, *c, token, &token, c.Upstreams, c.Callers, c.Slack, map[string]any{"a": c.Slack}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			_, _ = fmt.Fprintf(&shown, verb+"\n", v)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		shown.Write(text)
		slog.New(slog.NewTextHandler(&shown, nil)).InfoContext(t.Context(), "config", slog.Any("v", v))
		slog.New(slog.NewJSONHandler(&shown, nil)).InfoContext(t.Context(), "config", slog.Any("v", v))
	}
	text, err := xml.Marshal(token)
	require.NoError(t, err)
	shown.Write(text)
	require.Contains(t, shown.String(), "***")
	requireNoCanary(t, shown.String())
	require.Equal(t, "***", token.String()+strings.TrimPrefix(token.GoString(), "***"))
}

// requireNoCanary fails when any secret of the environment shows, in plain or in hex.
func requireNoCanary(t *testing.T, shown string) {
	t.Helper()
	for name, secret := range environment {
		if strings.HasSuffix(name, "_KEY_SHA256") {
			continue // a hash
		}
		require.NotContains(t, shown, secret, name)
		require.NotContains(t, strings.ToLower(shown), fmt.Sprintf("%x", secret), name)
	}
	require.NotContains(t, shown, "canary")
}

func TestASecretFileIsReadNextToTheConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "db"), "postgres://canary-file\r\n\n")
	write(t, filepath.Join(dir, "config.yaml"), sections(map[string]string{"database": "database: {url: file:db}\n"}))
	c, err := policy.Load(filepath.Join(dir, "config.yaml"), getenv)
	require.NoError(t, err)
	require.Equal(t, "postgres://canary-file", c.Database.URL.Reveal())
	require.Equal(t, "file:db", c.Database.URL.Ref())

	write(t, filepath.Join(dir, "db"), strings.Repeat("x", 64<<10))
	_, err = policy.Load(filepath.Join(dir, "config.yaml"), getenv)
	require.NoError(t, err)
	write(t, filepath.Join(dir, "db"), strings.Repeat("x", 64<<10+1))
	_, err = policy.Load(filepath.Join(dir, "config.yaml"), getenv)
	require.ErrorContains(t, err, "the file of file:db is larger than 64KiB")
	write(t, filepath.Join(dir, "db"), "\n")
	_, err = policy.Load(filepath.Join(dir, "config.yaml"), getenv)
	require.ErrorContains(t, err, "the file of file:db is empty")
	absolute := sections(map[string]string{"database": "database: {url: \"file:" + filepath.Join(dir, "key") + "\"}\n"})
	write(t, filepath.Join(dir, "key"), "postgres://other")
	c, err = policy.Parse("elsewhere/config.yaml", []byte(absolute), nil)
	require.NoError(t, err)
	require.Equal(t, "postgres://other", c.Database.URL.Reveal())
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// Whatever is wrong with a file, and wherever a secret was put by mistake, no error may
// repeat it. The word canary stands for the secret.
func TestNoErrorRepeatsALiteralSecret(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"database: {url: canary}",
		"database: {url: canary, x: y}",
		"database:\n  url: canary # canary\n  x: y\n",
		"database:\n  url: \"canary\n    canary\"\n  x: y\n",
		"database:\n  url: |\n    canary\n    canary\n  x: y\n",
		"database:\n  url: >-\n\n    canary\n\n  x: y\n",
		"database: {url: \"env:canary with spaces\"}",
		"database: {url: env:UNSET} # was: canary",
		"database: {urls: 'postgres://u:canary@db'}",
		"slack: {bot_tokn: canary, signing_secret: [canary], signing_secrets: canary}",
		"slack:\n  signing_secrets:\n  - canary\n  - canary\n  bot_token: canary\n",
		"slack:\n  signing_secrets: [ canary,\n canary ]\n",
		"slack:\n  signing_secrets:\n    a: canary\n",
		"callers: [{name: bot, key_sha256: canary}]",
		"callers: [{name: bot, key_sha256: csk_canary, callbacks: {secret: canary, secrets: [canary, 'canary'], secert: canary}}]",
		"callers: [{name: bot, api_key: canary, password: canary, Authorization: canary}]",
		"callers: [{name: csp_canary, owners: [csp_canary]}]",
		"people: [{name: ana, slack: csp_canary, key_sha256: csp_canary}]",
		"callers: [{name: csk_canary, owners: [whsec_canary], upstreams: [xoxb-canary]}]",
		"upstreams: [{name: a, base_url: 'https://u:canary@b', credentials: canary}]",
		"upstreams: [{name: a, base_url: 'https://canary@b/?x', credentials: [canary]}]",
		"upstreams: [{name: a, credentials: {header: 'Bearer canary', value: canary}}]",
		"upstreams: [{name: a, credentials: {header: a, value: canary, vlaue: canary, valu: {a: canary}}}]",
		"upstreams:\n  - name: a\n    credentials:\n      header: A\n      value: canary\n    nme: x\n",
		"callers: [{name: bot, keys: [{name: a, sha256: canary}]}]",
		"callers:\n  - name: bot\n    keys:\n      - name: a\n        sha256: canary\n        nme: x\n",
		"callers: [{name: bot, callbacks: {secrets: [{secret: canary, untl: x}]}}]",
		"callers: [{name: bot, callbacks: {origins: [{origin: x, headers: {header: a, value: canary}, certificate: {key: canary}}]}}]",
		"encryption: {keyset: canary}",
		"signing: {keys: [canary]}",
		"signing: {keys: [whsk_canary]}",
		"upstreams: [{name: a, proxy: 'http://u:canary@proxy:3128', proxy_authorization: canary, certificate: {key: canary}}]",
		"upstreams: [{name: a, credentials: {header: a, value: 'exec:token --key canary'}}]",
		"upstreams: [{name: a, credentials: {header: a, value: 'exec:/nowhere/token --key canary'}}]",
		// No YAML at all.
		"database: {url: canary",
		"database: {url: 'canary",
		"database:\n  url: canary\n bad: x",
		"database:\n  url: canary: x",
		"database:\n  url: a: canary",
		"database:\n  url: 'x' canary",
		"database: \"x\n  url: \"canary\"\n",
		"slack:\n  signing_secrets:\n    - canary: canary: canary\n",
		"slack:\n  signing_secrets:\n    - 'canary\n",
		"slack:\n  signing_secrets:\n    - canary\n   - canary\n",
		"name: \"x\nsecrets:\n  - \"canary\"\n",
		"upstreams: [{name: 'x, value: canary}]",
		"upstreams: [{value: canary}",
		"upstreams: [{value: canary]",
		"\tvalue: canary",
		"value: canary\x00",
		"value: canary\xff",
		"value: canary\u202e",
		"value: " + strings.Repeat("canary ", 4096),
		"value: " + strings.Repeat("[", 100) + "canary",
		"value: &a canary\nvalue: *a\nsecret: !!binary canary\n<<: {value: canary}\n",
		"--- {value: canary}\n--- {value: canary}\n",
	} {
		_, err := policy.Parse("config.yaml", []byte(text), getenv)
		var found policy.Problems
		require.ErrorAs(t, err, &found, text)
		shown := fmt.Sprintf("%v\n%+v\n%#v", err, found, found)
		require.NotContains(t, shown, "canary", "from:\n%s", text)
	}
}

func TestWhatIsNoSecretIsQuoted(t *testing.T) {
	t.Parallel()
	for _, field := range []string{
		"name", "listen", "public_url", "data_dir", "drain", "max_body", "api_url", "team_ids", "app_id", "channel", "owners",
		"upstreams", "callbacks", "origins", "slack", "email", "members", "base_url", "header", "timeout", "idempotent",
		"methods", "max_response", "success", "request_headers", "response_headers", "match", "path", "callers", "action",
		"reason", "redact", "expires_in", "execute_within", "stages", "need", "from", "approvals", "denials", "remind",
		"every", "escalate", "after", "to", "mode", "notify", "upstream", "caller", "allow_loopback", "allow_http",
		"allow_prefixes", "allow_ports", "server", "database", "egress", "people", "groups", "rules", "when",
		"comment", "backoff", "at_most", "off_hours", "distinct", "on_stale", "break_glass", "announce", "login", "issuer",
		"subject", "away", "until", "delegate", "hours", "timezone", "days", "holidays", "logins", "audience", "email",
		"operators",
	} {
		found := problems(t, "unknown: {"+field+": visible}\n")
		require.Contains(t, found[0].Excerpt, field+": visible")
	}
	found := problems(t, "unknown: {value: env:NAME, secrets: [env:A, file:b/c], key_sha256: 'env:B'} # gone\n")
	require.Contains(t, found[0].Excerpt, "unknown: {value: env:NAME, secrets: [env:A, file:b/c], key_sha256: 'env:B'}\n")
	require.NotContains(t, found[0].Excerpt, "gone")
}

func TestTheCaretStandsUnderTheColumn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"server: {wrong: 1}":                                                 "    1 | server: {wrong: 1}\n      |          ^",
		"database: {url: secret, wrong: 1}":                                  "    1 | database: {url: ***, wrong: 1}\n      |                      ^",
		"database: {url: se, wrong: 1}":                                      "    1 | database: {url: ***, wrong: 1}\n      |                      ^",
		"server: {data_dir: 'https://u:p@a b', wrong: é}":                    "    1 | server: {data_dir: 'https://***@a b', wrong: é}\n      |                                       ^",
		"server: {data_dir: é, wrong: 1}":                                    "    1 | server: {data_dir: é, wrong: 1}\n      |                       ^",
		"server: {data_dir: \"" + strings.Repeat("x", 200) + "\", wrong: 1}": "^",
	} {
		found := problems(t, text)
		i := slices.IndexFunc(found, func(p policy.Problem) bool { return strings.Contains(p.Message, "wrong") })
		require.GreaterOrEqual(t, i, 0, text)
		p := found[i]
		require.Contains(t, p.Excerpt, want, text)
		line, caret, ok := strings.Cut(p.Excerpt, "\n")
		require.True(t, ok)
		require.LessOrEqual(t, len([]rune(line)), 140)
		at := len([]rune(caret)) - 1
		require.Equal(t, "wrong", string([]rune(line)[at:at+5]), p.Excerpt)
	}
}
