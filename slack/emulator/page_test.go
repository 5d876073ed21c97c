package emulator_test

import (
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"countersign/slack/emulator"
)

const (
	soonest = 60 * time.Second
	tick    = 5 * time.Millisecond
)

func TestPageLoadsNothingFromElsewhereAndRunsNothingInline(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *emulator.Config) { c.TeamName = `<script>alert(1)</script>` })
	status, h, body := b.do("GET", "/", "", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
	require.NotContains(t, body, "<script>alert")
	for _, ref := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		require.Regexp(t, `^/[a-z.]+$`, ref[1])
		status, h, asset := b.do("GET", ref[1], "", "")
		require.Equal(t, http.StatusOK, status, ref[1])
		require.NotEmpty(t, asset)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	}
	status, _, _ = b.do("GET", "/app.go", "", "")
	require.Equal(t, http.StatusNotFound, status)
}

func TestPageScriptsNeverTurnTextIntoMarkup(t *testing.T) {
	t.Parallel()
	dir := os.DirFS("page")
	files, err := fs.Glob(dir, "*.js")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		raw, err := fs.ReadFile(dir, f)
		require.NoError(t, err)
		require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setHTML`, string(raw), f)
	}
}
