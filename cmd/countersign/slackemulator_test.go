package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSlackEmulatorSaysWhereItIsAndServesUntilToldToStop(t *testing.T) {
	t.Parallel()
	r := launch(t, nil, "slack", "emulator", "--listen", "127.0.0.1:0")
	var base string
	require.Eventually(t, func() bool {
		base = regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(strings.Join(r.stdout.lines(), "\n"))
		return base != ""
	}, startLimit, 10*time.Millisecond)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/_emulator/state", nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	r.stop()
	require.Equal(t, 0, r.end(t, startLimit), r.stderr)
}

func TestSlackEmulatorIsForThisMachineOnly(t *testing.T) {
	t.Parallel()
	r := command(t, nil, "slack", "emulator", "--listen", "0.0.0.0:0")
	r.requireRefused(t, exitFailed, "loopback")
}
