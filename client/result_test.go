package client_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"countersign/client"
)

func TestResultsAreTheBytesOfTheUpstream(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.as(t, "payroll")
	for name, r := range map[string]reply{
		"json":                   {status: 200, mediaType: "application/json", body: `{"a":1}`},
		"json with spaces":       {status: 200, mediaType: "application/json", body: "{ \"a\" : 1.50,\n \"b\": \"<&>\" }\n"},
		"a json string":          {status: 200, mediaType: "application/json", body: `"a"`},
		"text that looks quoted": {status: 200, mediaType: "text/plain", body: `say "a"`},
		"text":                   {status: 500, mediaType: "text/plain; charset=utf-8", body: "línea\n"},
		"bytes":                  {status: 200, mediaType: "application/octet-stream", body: "\x00\xff\xfe"},
		"nothing":                {status: 204},
		"bytes cut at the limit": {status: 200, mediaType: "application/octet-stream", body: strings.Repeat("\xff", 100), truncated: true},
		"a credential taken out": {status: 200, mediaType: "text/plain", body: "key=secret", stored: "key=***"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id := submit(t, c, deletion).ID
			_, err := c.Result(t.Context(), id)
			var early *client.NotDoneError
			require.ErrorAs(t, err, &early)
			require.Equal(t, client.Pending, early.Ticket.State)
			w.approve(t, id)
			w.made(t, id, r)
			got, err := c.Result(t.Context(), id)
			require.NoError(t, err)
			want := r.body
			if r.stored != "" {
				want = r.stored
			}
			require.Equal(t, want, string(got.Body))
			require.Equal(t, r.status, got.Status)
			require.Equal(t, r.mediaType, got.Header.Get("Content-Type"))
			require.Equal(t, r.truncated, got.Truncated)
			require.Equal(t, r.stored != "", got.Scrubbed)
		})
	}
}

func TestABodyThatWasChangedOnTheWayIsRefused(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(`{ "a": 1 }`))
	for name, digest := range map[string]string{"wrong": "sha-256=:" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + ":", "none": "", "another kind": "md5=:AA==:"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("raw") == "true" {
					w.Header().Set("Content-Digest", digest)
					_, _ = io.WriteString(w, `{ "a": 2 }`)
					return
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"status": 200, "body": map[string]int{"a": 2}, "digest": hex.EncodeToString(sum[:])})
			}))
			t.Cleanup(server.Close)
			_, err := clientAt(t, server.URL).Result(t.Context(), "tkt_1")
			require.ErrorIs(t, err, client.ErrDigest)
		})
	}
}
