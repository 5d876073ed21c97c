package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOfWhatLibrariesPrintNoQuotationIsLogged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := printed{slog.New(slog.NewJSONHandler(&out, nil))}
	_, err := fmt.Fprintf(p, "Unsolicited response received on idle HTTP channel starting with %q; err=%v\n", "HTTP/1.1 200 Bearer canary", nil)
	require.NoError(t, err)
	require.Contains(t, out.String(), `"text":"Unsolicited response received on idle HTTP channel starting with"`)
	require.NotContains(t, out.String(), "canary")
	out.Reset()
	_, err = p.Write([]byte(strings.Repeat("ü", 10_000)))
	require.NoError(t, err)
	require.Less(t, out.Len(), 2*maxPrinted)
}
