package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
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
