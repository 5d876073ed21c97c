package embedded_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/db/embedded"
)

func TestURLNeverPrintsItsPassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{
		"postgres://ana:hunter2@127.0.0.1:5432/countersign?sslmode=disable",
		"postgres://127.0.0.1/x?user=ana&password=hunter2",
		"host=127.0.0.1 user=ana password=hunter2",
		"postgres://ana:hunter2@%zz",
	} {
		u := embedded.NewURL(dsn)
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb, u)
			fmt.Fprintf(&out, verb, &u)
			fmt.Fprintf(&out, verb, embedded.Database{URL: u})
		}
		require.NoError(t, json.NewEncoder(&out).Encode(map[string]any{"url": u}))
		slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "x", slog.Any("url", u))
		require.NotContains(t, out.String(), "hunter2")
		require.NotContains(t, out.String(), fmt.Sprintf("%x", "hunter2"))
		require.Equal(t, dsn, u.Reveal())
	}
	require.Equal(t, "postgres://***@127.0.0.1:5432/countersign",
		embedded.NewURL("postgres://ana:hunter2@127.0.0.1:5432/countersign").String())
}
