package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openDir is a directory that the database's account can reach: t.TempDir keeps its parent
// shut.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711)) //nolint:gosec // entered by another account on purpose
	return dir
}

// announced is the first line of dev.
func announced(t *testing.T, r *running) map[string]string {
	t.Helper()
	var got map[string]string
	require.Eventually(t, func() bool {
		select {
		case <-r.done:
			require.FailNowf(t, "dev ended early", "code %d, stderr:\n%s", r.code, r.stderr)
		default:
		}
		lines := r.stdout.lines()
		return len(lines) > 1 && json.Unmarshal([]byte(lines[0]), &got) == nil
	}, startLimit, 10*time.Millisecond, "dev says where everything is")
	return got
}

// listed asks for the tickets with a key and returns the status.
func listed(t *testing.T, base, key string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/tickets", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

func TestFreshStartsOverButNeverUnderARunningDev(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	first := launch(t, nil, "dev", "--json", "--port", "0", "--dir", dir)
	at := announced(t, first)
	require.Equal(t, http.StatusOK, listed(t, at["api"], at["api_key"]))

	second := command(t, nil, "dev", "--json", "--port", "0", "--dir", dir, "--fresh")
	second.requireRefused(t, exitFailed, "in use", dir)
	require.Equal(t, http.StatusOK, listed(t, at["api"], at["api_key"]), "the running one has not lost its database")
	require.FileExists(t, filepath.Join(dir, "keys.json"))
	first.stop()
	require.Equal(t, 0, first.end(t, 15*time.Second), first.stderr)

	over := launch(t, nil, "dev", "--json", "--port", "0", "--dir", dir, "--fresh")
	now := announced(t, over)
	require.NotEqual(t, at["api_key"], now["api_key"], "a new start has new keys")
	require.Equal(t, http.StatusUnauthorized, listed(t, now["api"], at["api_key"]))
	over.stop()
	require.Equal(t, 0, over.end(t, 15*time.Second), over.stderr)
}

func TestDevSaysWhatItNeedsWhenAPortIsTaken(t *testing.T) {
	t.Parallel()
	_, port := holdPort(t)
	r := command(t, nil, "dev", "--port", port, "--dir", openDir(t))
	r.requireRefused(t, exitFailed, "127.0.0.1:"+port, "taken", "--port")
}

func TestStateOfAnOlderStartGetsAPersonalKeyAndKeepsTheRest(t *testing.T) {
	t.Parallel()
	path := write(t, "keys.json", `{"api_key": "csk_a", "callback_secret": "b", "slack_signing_secret": "c", "upstream_token": "d", "ports": [1,2,3,4]}`)
	first, err := loadDevSecrets(path, false)
	require.NoError(t, err)
	require.Equal(t, "csk_a", first.APIKey)
	require.NotEmpty(t, first.PersonKey)
	again, err := loadDevSecrets(path, false)
	require.NoError(t, err)
	require.Equal(t, first, again)
}
