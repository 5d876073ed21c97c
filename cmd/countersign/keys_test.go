package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/egress"
	"countersign/envelope"
)

func TestKeysNewPrintsAKeyAndTheHashOfIt(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "keys", "new")
	require.Equal(t, 0, r.code, r.stderr)
	found := regexp.MustCompile(`(?m)^key +(csk_\S+)\nkey_sha256 +([0-9a-f]{64})$`).FindStringSubmatch(r.stdout.String())
	require.Len(t, found, 3, "key and hash in:\n%s", r.stdout)
	requireHash(t, found[1], found[2])
	require.Contains(t, r.stdout.String(), "key_sha256: "+found[2], "ready to be pasted")
}

func TestKeysNewAsJSONIsOneLineAndNeverTheSameKey(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 3 {
		r := command(t, nil, "keys", "new", "--json")
		require.Equal(t, 0, r.code, r.stderr)
		var got map[string]string
		require.NoError(t, json.Unmarshal([]byte(r.stdout.String()), &got))
		require.Len(t, r.stdout.lines(), 2, "one line and what is behind it")
		requireHash(t, got["key"], got["key_sha256"])
		require.False(t, seen[got["key"]], "a new key each time")
		seen[got["key"]] = true
	}
}

func requireHash(t *testing.T, key, hash string) {
	t.Helper()
	sum := sha256.Sum256([]byte(key))
	require.Equal(t, hex.EncodeToString(sum[:]), hash, "the hash is that of the key")
}

func TestKeysHashIsWhatTheConfigurationTakes(t *testing.T) {
	t.Parallel()
	made := command(t, nil, "keys", "new", "--json")
	var got map[string]string
	require.NoError(t, json.Unmarshal([]byte(made.stdout.String()), &got))
	r := launchWith(t, nil, strings.NewReader(got["key"]+"\n"), "keys", "hash")
	require.Equal(t, 0, r.end(t, commandLimit), r.stderr)
	require.Equal(t, got["key_sha256"]+"\n", r.stdout.String())
	r = command(t, nil, "keys", "hash", "--key-file", write(t, "key", got["key"]))
	require.Equal(t, got["key_sha256"]+"\n", r.stdout.String())
	r = launchWith(t, nil, strings.NewReader("hunter2"), "keys", "hash")
	r.end(t, commandLimit)
	r.requireRefused(t, exitUsage, "csk_")
	require.NotContains(t, r.stderr.String(), "hunter2")
	command(t, nil, "keys", "hash").requireRefused(t, exitUsage, "no key")
}

func TestKeysCheckSaysWhoseKeyItIs(t *testing.T) {
	t.Parallel()
	config := write(t, "countersign.yaml", `
callers:
  - name: bot
    owners: [ana]
    upstreams: [billing]
    keys: [{name: ci, sha256: `+hashOf("bot")+`, expires: 2099-01-01T00:00:00Z, scopes: [submit, read]}]
people: [{name: ana, slack: U02ANA, key_sha256: `+hashOf("ana")+`}]
upstreams: [{name: billing, base_url: "https://billing.example.com"}]
rules: [{name: all, match: {upstream: billing}, action: allow}]
`)
	check := func(key string, flags ...string) *running {
		return command(t, map[string]string{"COUNTERSIGN_KEY": key}, append([]string{"keys", "check", "--config", config}, flags...)...)
	}
	r := check(keyOf("bot"))
	require.Equal(t, 0, r.code, r.stderr)
	for _, words := range []string{"caller", "bot", "ci", "2099-01-01T00:00:00Z", "submit, read"} {
		require.Contains(t, r.stdout.String(), words)
	}
	require.JSONEq(t, `{"kind":"person","name":"ana"}`, check(keyOf("ana"), "--json").stdout.String())
	check("csk_of_nobody").requireRefused(t, exitNotAllowed, "nobody")
}

func TestKeysCallbackMakesASecretThatSigns(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "keys", "callback")
	require.Equal(t, 0, r.code, r.stderr)
	secret := strings.TrimSpace(r.stdout.String())
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, secret)
	_, err := egress.ParseSecret(secret)
	require.NoError(t, err)
	require.NotEqual(t, r.stdout.String(), command(t, nil, "keys", "callback").stdout.String())
}

func TestKeysSigningMakesAPairThatFits(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "keys", "signing", "--json")
	require.Equal(t, 0, r.code, r.stderr)
	var pair map[string]string
	require.NoError(t, json.Unmarshal([]byte(r.stdout.String()), &pair))
	private, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pair["private"], "whsk_"))
	require.NoError(t, err)
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pair["public"], "whpk_"))
	require.NoError(t, err)
	require.True(t, ed25519.Verify(public, []byte("x"), ed25519.Sign(private, []byte("x"))))
	require.Contains(t, command(t, nil, "keys", "signing").stdout.String(), "signing: {keys:")
}

func TestKeysEncryptionMakesAKeysetThatOpensWhatItSealedAfterARotation(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "keys", "encryption")
	require.Equal(t, 0, r.code, r.stderr)
	old, err := envelope.New(r.stdout.String())
	require.NoError(t, err)
	sealed, err := old.Seal([]byte("x"), "a place")
	require.NoError(t, err)
	rotated := command(t, nil, "keys", "encryption", "--rotate", write(t, "keyset.json", r.stdout.String()))
	require.Equal(t, 0, rotated.code, rotated.stderr)
	fresh, err := envelope.New(rotated.stdout.String())
	require.NoError(t, err)
	plain, err := fresh.Open(sealed, "a place")
	require.NoError(t, err)
	require.Equal(t, "x", string(plain))
	require.NotEqual(t, r.stdout.String(), rotated.stdout.String())
}
